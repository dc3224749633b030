//! Whether a join is admitted. Runs beside the session where it has to wait, so that a socket's heartbeats and other
//! channels never wait for a join.

use std::sync::Arc;

use super::{
    Services, SocketPrincipal,
    config::{ChannelConfig, ReplayRequest},
    error::JoinError,
    postgres_changes::requested_changes,
    token_expiry::token_hash,
};
use crate::channels::{
    ChannelPrincipal,
    authorization::{AuthorizationError, ReadRights},
    broadcast_from_db::StoredBroadcasts,
    postgres_changes::{PreparedSubscription, echo_bindings},
    replay::ReplayBuffer,
};
use crate::model::Topic;

/// A join that has passed what can be decided without waiting.
#[derive(Debug, Clone)]
pub(super) struct PendingJoin {
    /// Where to.
    pub topic: Topic,
    /// What is wanted; `None` for a legacy join.
    pub config: ChannelConfig,
    /// A token of its own.
    pub token: Option<Box<str>>,
    /// Who opened the socket.
    pub socket_principal: SocketPrincipal,
}

/// A join that is admitted.
#[derive(Debug)]
pub(super) struct AcceptedJoin {
    /// As whom.
    pub principal: Arc<ChannelPrincipal>,
    /// The hash of the token's text.
    pub token_hash: u64,
    /// What it may read there.
    pub rights: ReadRights,
    /// What is to be sent again, with what has come since.
    pub replay: Option<(StoredBroadcasts, ReplayBuffer)>,
    /// The changes that it asked for, as the reply has them, and its subscription if there are any.
    pub changes: (String, Option<PreparedSubscription>),
    /// What was asked for.
    pub config: ChannelConfig,
}

/// Decides.
pub(super) async fn authorize_join(
    services: &Services,
    application: PendingJoin,
) -> Result<Box<AcceptedJoin>, JoinError> {
    let PendingJoin { topic: room, config, token, socket_principal: opener } = application;
    let (claimant, token) = match token {
        None => opener
            .principal
            .check_expiry(services.clock.now())
            .map(|()| (opener.principal, opener.token_hash))?,
        Some(text) => {
            let token = services.verifier.verify_channel_token(&text).await?;
            (Arc::new(ChannelPrincipal::new(&token, opener.principal.headers.clone())), token_hash(&text))
        }
    };
    let mut rights = read_rights(services, &claimant, &room).await?;
    let replay = match config.replay {
        None => None,
        Some(_) if !room.private => return Err(JoinError::ReplayOfPublic),
        Some(ReplayRequest::Invalid) => return Err(JoinError::ReplayInvalid),
        Some(ReplayRequest::Since { .. }) if !rights.broadcast => {
            return Err(JoinError::Rights(AuthorizationError::Unauthorized, room.name));
        }
        Some(ReplayRequest::Since { ms, limit }) => {
            let window = services.replay_buffers.open(&room);
            let stored = services.messages.replay(&room, ms, limit.into()).await;
            Some((stored.map_err(|_| JoinError::ReplayFailed)?, window))
        }
    };
    let asked = requested_changes(&config);
    let echo = echo_bindings(&asked);
    // Before the reply, so that whoever is told `ok` is told the truth where that takes no time.
    let prepared = if asked.is_empty() {
        None
    } else {
        let topic = room.name.clone();
        let prepared = services.changes.prepare(topic, &asked, config.is_legacy, claimant.clone()).await;
        if let Some(patience) = config.changes_timeout {
            if let Some(error) = prepared.error() {
                return Err(JoinError::Changes(error.clone()));
            }
            if !services.changes.wait_until_streaming(patience).await {
                return Err(JoinError::ChangesTimeout(patience));
            }
        }
        Some(prepared)
    };
    if replay.is_some() {
        // What has come since may have come after a change of rights; where there was none, this asks nobody.
        rights = read_rights(services, &claimant, &room).await?;
        if !rights.broadcast {
            return Err(JoinError::Rights(AuthorizationError::Unauthorized, room.name));
        }
    }
    Ok(Box::new(AcceptedJoin {
        principal: claimant,
        token_hash: token,
        rights,
        replay,
        changes: (echo, prepared),
        config,
    }))
}

async fn read_rights(
    services: &Services,
    claimant: &Arc<ChannelPrincipal>,
    room: &Topic,
) -> Result<ReadRights, JoinError> {
    let rights = services.authorizer.read_rights(claimant, room).await;
    rights.map_err(|error| JoinError::Rights(error, room.name.clone()))
}
