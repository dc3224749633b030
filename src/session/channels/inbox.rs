//! How what happens elsewhere reaches a session: as an event in its inbox, and a nudge for its connection.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{admission::Admitted, ending::Ending, error::JoinError, renewal::Renewed};
use crate::{channels::ChannelId, transport::Connection};

/// Something that a session hears of from another task.
#[derive(Debug)]
pub(super) enum Event {
    /// Whether a join is admitted is decided.
    Decided(ChannelId, Result<Box<Admitted>, JoinError>),
    /// What comes of a fresh token.
    Renewed(ChannelId, Result<Renewed, Ending>),
}

/// A session's inbox, as others hold it. It holds an event or two for each channel: whatever puts one in is owned by a
/// channel and puts in no second before the first was taken out.
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

    /// Takes all of them out, in order.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.events.lock())
    }
}
