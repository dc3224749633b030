//! How what happens elsewhere reaches a session: as an event in its inbox, and a nudge for its connection.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    close::CloseCause, error::JoinError, join_authorization::AcceptedJoin, token_refresh::RefreshedToken,
};
use crate::{
    channels::authorization::{AuthorizationError, ReadRights, WriteRights},
    model::ChannelId,
    transport::Connection,
};

/// Something that a session hears of from another task.
#[derive(Debug)]
pub(super) enum SessionEvent {
    /// Whether a join is admitted is decided.
    JoinDecided(ChannelId, Result<Box<AcceptedJoin>, JoinError>),
    /// What the subscription to changes says: whether it is well, and the message.
    SubscriptionMessage(ChannelId, bool, Box<str>),
    /// What comes of a fresh token.
    TokenRefreshed(ChannelId, Result<RefreshedToken, CloseCause>),
    /// What a channel may say.
    WriteRights(ChannelId, Result<WriteRights, AuthorizationError>),
    /// What a channel may read from now on.
    ReadRights(ChannelId, Result<ReadRights, AuthorizationError>),
    /// Whether broadcasts from the database reach this node.
    Replication(ChannelId, bool),
}

/// A session's inbox, as others hold it. It holds few events for each channel: whatever puts one in is owned by a
/// channel, and puts in one, or replaces its last.
#[derive(Debug, Clone)]
pub(super) struct EventQueue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Arc<Connection>,
    events: Mutex<Vec<SessionEvent>>,
}

impl EventQueue {
    /// An empty one.
    pub fn new(connection: &Arc<Connection>) -> Self {
        Self(Arc::new(Inner { connection: Arc::clone(connection), events: Mutex::default() }))
    }

    /// Puts an event in; the session hears of it soon.
    pub fn push(&self, event: SessionEvent) {
        self.0.events.lock().push(event);
        self.0.connection.wake();
    }

    /// Puts in what a channel may read; what was in there of it and has not been taken out goes.
    pub fn push_read_rights(&self, channel: ChannelId, rights: Result<ReadRights, AuthorizationError>) {
        self.0
            .events
            .lock()
            .retain(|event| !matches!(event, SessionEvent::ReadRights(other, _) if *other == channel));
        self.push(SessionEvent::ReadRights(channel, rights));
    }

    /// Takes all of them out, in order.
    pub fn take(&self) -> Vec<SessionEvent> {
        std::mem::take(&mut *self.0.events.lock())
    }
}
