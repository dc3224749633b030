//! Whether a join is admitted. Runs beside the session where it has to wait, so that a socket's heartbeats and other
//! channels never wait for a join.

use std::sync::Arc;

use super::{
    Opener, Services,
    changes::requested,
    config::{Config, Replay},
    error::JoinError,
    tokens::hash,
};
use crate::channels::{
    Claimant, Room,
    authorization::{AuthorizationError, ReadRights},
    changes::{Prepared, echo_all},
    database::Stored,
    replay::Window,
};

/// A join that has passed what can be decided without waiting.
#[derive(Debug, Clone)]
pub(super) struct Application {
    /// Where to.
    pub room: Room,
    /// What is wanted; `None` for a legacy join.
    pub config: Config,
    /// A token of its own.
    pub token: Option<Box<str>>,
    /// Who opened the socket.
    pub opener: Opener,
}

/// A join that is admitted.
#[derive(Debug)]
pub(super) struct Admitted {
    /// As whom.
    pub claimant: Arc<Claimant>,
    /// The hash of the token's text.
    pub token: u64,
    /// What it may read there.
    pub rights: ReadRights,
    /// What is to be sent again, with what has come since.
    pub replay: Option<(Stored, Window)>,
    /// The changes that it asked for, as the reply has them, and its subscription if there are any.
    pub changes: (String, Option<Prepared>),
    /// What was asked for.
    pub config: Config,
}

/// Decides.
pub(super) async fn decide(
    services: &Services,
    application: Application,
) -> Result<Box<Admitted>, JoinError> {
    let Application { room, config, token, opener } = application;
    let (claimant, token) = match token {
        None => opener.claimant.check_age(services.clock.now()).map(|()| (opener.claimant, opener.token))?,
        Some(text) => {
            let token = services.verifier.verify_channel(&text).await?;
            (Arc::new(Claimant::new(&token, opener.claimant.headers.clone())), hash(&text))
        }
    };
    let mut rights = read_rights(services, &claimant, &room).await?;
    let replay = match config.replay {
        None => None,
        Some(_) if !room.private => return Err(JoinError::ReplayOfPublic),
        Some(Replay::Invalid) => return Err(JoinError::ReplayInvalid),
        Some(Replay::Since { .. }) if !rights.broadcast => {
            return Err(JoinError::Rights(AuthorizationError::Unauthorized, room.topic));
        }
        Some(Replay::Since { ms, limit }) => {
            let window = services.replays.open(&room);
            let stored = services.messages.replay(&room, ms, limit.into()).await;
            Some((stored.map_err(|_| JoinError::ReplayFailed)?, window))
        }
    };
    let asked = requested(&config);
    let echo = echo_all(&asked);
    // Before the reply, so that whoever is told `ok` is told the truth where that takes no time.
    let prepared = if asked.is_empty() {
        None
    } else {
        let topic = room.topic.clone();
        let prepared = services.changes.prepare(topic, &asked, config.is_legacy, claimant.clone()).await;
        if let Some(patience) = config.changes_within {
            if let Some(error) = prepared.refusal() {
                return Err(JoinError::Changes(error.clone()));
            }
            if !services.changes.until_streaming(patience).await {
                return Err(JoinError::ChangesLate(patience));
            }
        }
        Some(prepared)
    };
    if replay.is_some() {
        // What has come since may have come after a change of rights; where there was none, this asks nobody.
        rights = read_rights(services, &claimant, &room).await?;
        if !rights.broadcast {
            return Err(JoinError::Rights(AuthorizationError::Unauthorized, room.topic));
        }
    }
    Ok(Box::new(Admitted { claimant, token, rights, replay, changes: (echo, prepared), config }))
}

async fn read_rights(
    services: &Services,
    claimant: &Arc<Claimant>,
    room: &Room,
) -> Result<ReadRights, JoinError> {
    let rights = services.authorizer.read(claimant, room).await;
    rights.map_err(|error| JoinError::Rights(error, room.topic.clone()))
}
