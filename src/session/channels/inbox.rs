//! How what happens elsewhere reaches a session: as an event in its inbox, and a nudge for its connection.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{admission::Admitted, ending::Ending, error::JoinError, renewal::Renewed};
use crate::{
    channels::{
        ChannelId,
        authorization::{AuthorizationError, ReadRights, WriteRights},
    },
    transport::Connection,
};

/// Something that a session hears of from another task.
#[derive(Debug)]
pub(super) enum Event {
    /// Whether a join is admitted is decided.
    Decided(ChannelId, Result<Box<Admitted>, JoinError>),
    /// What the subscription to changes says: whether it is well, and the message.
    OfChanges(ChannelId, bool, Box<str>),
    /// What comes of a fresh token.
    Renewed(ChannelId, Result<Renewed, Ending>),
    /// What a channel may say.
    Writes(ChannelId, Result<WriteRights, AuthorizationError>),
    /// What a channel may read from now on.
    Rights(ChannelId, Result<ReadRights, AuthorizationError>),
    /// Whether broadcasts from the database reach this node.
    Live(ChannelId, bool),
}

/// A session's inbox, as others hold it. It holds few events for each channel: whatever puts one in is owned by a
/// channel, and puts in one, or replaces its last.
#[derive(Debug, Clone)]
pub(super) struct Inbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Arc<Connection>,
    events: Mutex<Vec<Event>>,
}

impl Inbox {
    /// An empty one.
    pub fn new(connection: &Arc<Connection>) -> Self {
        Self(Arc::new(Inner { connection: Arc::clone(connection), events: Mutex::default() }))
    }

    /// Puts an event in; the session hears of it soon.
    pub fn put(&self, event: Event) {
        self.0.events.lock().push(event);
        self.0.connection.nudge();
    }

    /// Puts in what a channel may read; what was in there of it and has not been taken out goes.
    pub fn put_rights(&self, channel: ChannelId, rights: Result<ReadRights, AuthorizationError>) {
        self.0.events.lock().retain(|event| !matches!(event, Event::Rights(other, _) if *other == channel));
        self.put(Event::Rights(channel, rights));
    }

    /// Takes all of them out, in order.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.events.lock())
    }
}
