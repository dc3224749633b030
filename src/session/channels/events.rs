//! Events that other tasks send to a session. Each event wakes the connection.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{close_cause::CloseCause, config::ChannelConfig, error::JoinError, replay::JoinReplay};
use crate::{
    auth::Principal,
    channels::{
        authorization::{AuthorizationError, ReadRights, WriteRights},
        bus::TopicSubscription,
        history::NotStored,
        postgres_changes::PreparedSubscription,
    },
    model::ChannelId,
    transport::Connection,
};

/// An event from another task.
#[derive(Debug)]
pub(super) enum SessionEvent {
    /// Result of a join's authorization.
    JoinDecided(ChannelId, Result<Box<AcceptedJoin>, JoinError>),
    /// Message of a Postgres changes subscription, and whether it is ok.
    SubscriptionMessage(ChannelId, bool, Box<str>),
    /// Result of a token refresh.
    TokenRefreshed(ChannelId, Result<RefreshedToken, CloseCause>),
    /// Result of a check of the write rights.
    WriteRights(ChannelId, Result<WriteRights, AuthorizationError>),
    /// New read rights of a channel.
    ReadRights(ChannelId, Result<ReadRights, AuthorizationError>),
    /// Whether broadcasts from the database reach this node.
    Replication(ChannelId, bool),
    /// Whether a broadcast with this reference was stored.
    Stored(ChannelId, Option<Box<str>>, Result<(), NotStored>),
}

#[derive(Debug)]
pub(super) struct AcceptedJoin {
    pub principal: Arc<Principal>,
    /// Hash of the token's text.
    pub token_hash: u64,
    pub rights: ReadRights,
    /// Broadcasts to replay, if the join asks for some.
    pub replay: Option<JoinReplay>,
    /// `postgres_changes` of the reply, and the subscription if there are any.
    pub changes: (String, Option<PreparedSubscription>),
    /// Keeps broadcasts of other nodes coming, if the bus has subscriptions.
    pub bus: Option<TopicSubscription>,
    pub config: ChannelConfig,
}

/// A verified refresh of a token.
#[derive(Debug)]
pub(super) struct RefreshedToken {
    pub principal: Arc<Principal>,
    /// Hash of the token's text.
    pub token_hash: u64,
    pub rights: ReadRights,
}

/// Event queue of a session. Bounded by the number of channels: every sender belongs to a channel and sends
/// one event or replaces its last; and by the queue of broadcasts to store, each of which sends one event.
#[derive(Debug, Clone)]
pub(super) struct EventQueue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Arc<Connection>,
    events: Mutex<Vec<SessionEvent>>,
}

impl EventQueue {
    pub(super) fn new(connection: &Arc<Connection>) -> Self {
        Self(Arc::new(Inner { connection: Arc::clone(connection), events: Mutex::default() }))
    }

    /// Appends an event and wakes the session.
    pub(super) fn push(&self, event: SessionEvent) {
        self.0.events.lock().push(event);
        self.0.connection.wake();
    }

    /// Appends new read rights and removes those of the same channel that have not been taken.
    pub(super) fn push_read_rights(
        &self,
        channel: ChannelId,
        rights: Result<ReadRights, AuthorizationError>,
    ) {
        self.0
            .events
            .lock()
            .retain(|event| !matches!(event, SessionEvent::ReadRights(other, _) if *other == channel));
        self.push(SessionEvent::ReadRights(channel, rights));
    }

    /// Removes all events, in order.
    pub(super) fn take(&self) -> Vec<SessionEvent> {
        std::mem::take(&mut *self.0.events.lock())
    }
}
