//! Authenticates and authorizes a join. Runs as a background task if it has to wait, so that a join does not
//! delay the heartbeats and other channels of its socket.

use std::sync::Arc;

use super::{
    config::{ChannelConfig, ReplayRequest},
    error::JoinError,
    events::AcceptedJoin,
    postgres_changes::requested_changes,
    replay::JoinReplay,
    state::{Services, SocketPrincipal},
    token::token_hash,
};
use crate::auth::Principal;
use crate::channels::{
    authorization::{AuthorizationError, ReadRights},
    broadcast_from_db::MAX_REPLAY,
    history::{HistoryQuery, HistoryStorage},
    postgres_changes::echo_bindings,
};
use crate::{hub::ConnId, model::Topic};

/// A join that has passed all checks that need no waiting.
#[derive(Debug, Clone)]
pub(super) struct PendingJoin {
    pub topic: Topic,
    pub config: ChannelConfig,
    /// Token of the join itself; without one the socket's token applies.
    pub token: Option<Box<str>>,
    /// Principal of the socket.
    pub socket_principal: SocketPrincipal,
}

/// Authenticates and authorizes a join. May wait for the database.
pub(super) async fn authorize_join(
    services: &Services,
    pending_join: PendingJoin,
    conn: ConnId,
) -> Result<Box<AcceptedJoin>, JoinError> {
    let PendingJoin { topic, mut config, token, socket_principal } = pending_join;
    let (principal, token_hash) = match token {
        None => socket_principal
            .principal
            .check_expiry(services.clock.now())
            .map(|()| (socket_principal.principal, socket_principal.token_hash))?,
        Some(text) => {
            let verified = services.verifier.verify_channel_token(&text).await?;
            let headers = socket_principal.principal.headers.clone();
            (Arc::new(verified.with_headers(headers)), token_hash(&text))
        }
    };
    let mut rights = read_rights(services, &principal, &topic).await?;
    let bus = services.broadcaster.subscribe(&topic);
    let replay = match config.replay.take() {
        None => None,
        Some(request) => Some(read_replay(services, &topic, request, rights).await?),
    };
    let requested = requested_changes(&config);
    let echo = echo_bindings(&requested);
    // Before the reply, so that `ok` reports the state of the subscription where that takes no time.
    let prepared = if requested.is_empty() {
        None
    } else {
        let topic = topic.name.clone();
        let prepared =
            services.changes.prepare(conn, topic, &requested, config.is_legacy, principal.clone()).await;
        if let Some(limit) = config.changes_timeout {
            if let Some(error) = prepared.error() {
                return Err(JoinError::Changes(error.clone()));
            }
            if !services.changes.wait_until_streaming(limit).await {
                return Err(JoinError::ChangesTimeout(limit));
            }
        }
        Some(prepared)
    };
    if let Some(bus) = &bus {
        // Before the reply, so that the client misses no broadcast of another node that is sent after it.
        bus.confirmed().await;
    }
    if replay.is_some() {
        // Buffered broadcasts may be newer than a change of rights. Without such a change this is answered
        // from the cache.
        rights = read_rights(services, &principal, &topic).await?;
        if !rights.broadcast {
            return Err(JoinError::Rights(AuthorizationError::Unauthorized, topic.name));
        }
    }
    let changes = (echo, prepared);
    Ok(Box::new(AcceptedJoin { principal, token_hash, rights, replay, changes, bus, config }))
}

async fn read_rights(
    services: &Services,
    principal: &Arc<Principal>,
    topic: &Topic,
) -> Result<ReadRights, JoinError> {
    let rights = services.authorizer.read_rights(principal, topic).await;
    rights.map_err(|error| JoinError::Rights(error, topic.name.clone()))
}

/// Reads the broadcasts that a join asks for: those of the history, if the channel has one, else those of the database.
async fn read_replay(
    services: &Services,
    topic: &Topic,
    request: ReplayRequest,
    rights: ReadRights,
) -> Result<JoinReplay, JoinError> {
    let rule = services.history.rule(topic);
    if rule.is_none() && !topic.private {
        return Err(JoinError::ReplayOfPublic);
    }
    let ReplayRequest::Wanted { since, after, limit } = request else {
        return Err(JoinError::ReplayInvalid);
    };
    let after = after.filter(|_| rule.is_some());
    if since.is_none() && after.is_none() {
        return Err(JoinError::ReplayInvalid);
    }
    if !rights.broadcast {
        return Err(JoinError::Rights(AuthorizationError::Unauthorized, topic.name.clone()));
    }
    let failed = |_| JoinError::ReplayFailed;
    let since = since.unwrap_or_default();
    let Some(rule) = rule else {
        let buffer = services.replay_buffers.open(topic);
        let stored =
            services.messages.replay(topic, since, limit.unwrap_or(i64::MAX)).await.map_err(failed)?;
        return Ok(JoinReplay::Stored { stored, buffer, is_complete: None });
    };
    let (query, default_limit) = match after {
        Some(ids) => (HistoryQuery::After(ids), rule.count),
        None => (HistoryQuery::Since(since), MAX_REPLAY),
    };
    let limit = limit.map_or(default_limit, |limit| usize::try_from(limit).unwrap_or(1));
    let limit = limit.clamp(1, rule.count);
    match rule.storage {
        HistoryStorage::Memory => Ok(JoinReplay::History(services.history.memory.read(topic, &query, limit))),
        HistoryStorage::Rows => {
            let buffer = services.replay_buffers.open(topic);
            let read = services.messages.history(topic, rule, &query, limit).await;
            let (stored, is_complete) = read.map_err(failed)?;
            Ok(JoinReplay::Stored { stored, buffer, is_complete })
        }
    }
}
