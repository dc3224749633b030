//! The connections of this node that operators watch. A ring lives while somebody reads it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::hub::{ConnId, Hub, Watch};

/// Time after the last read after which a ring is dropped.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// Maximum connections that are watched at the same time.
const MAX_WATCHED: usize = 64;

/// Rings, and when each was read last.
type Rings = HashMap<ConnId, (Arc<Watch>, Instant)>;

/// The rings in use.
#[derive(Default)]
pub(super) struct Watches(Mutex<Rings>);

impl Watches {
    /// The ring of a connection; `None` if the connection is not open.
    ///
    /// # Errors
    /// [`TooMany`] if too many connections are watched.
    pub(super) fn get(&self, hub: &Hub, id: ConnId) -> Result<Option<Arc<Watch>>, TooMany> {
        let mut watches = self.0.lock();
        let now = Instant::now();
        retain_read(&mut watches, now);
        let Some(connection) = hub.connection(id) else {
            watches.remove(&id);
            return Ok(None);
        };
        if let Some((watch, read_at)) = watches.get_mut(&id) {
            *read_at = now;
            return Ok(Some(Arc::clone(watch)));
        }
        if watches.len() >= MAX_WATCHED {
            return Err(TooMany);
        }
        let watch = connection.watch();
        watches.insert(id, (Arc::clone(&watch), now));
        Ok(Some(watch))
    }

    /// Drops the rings that nobody reads any more.
    pub(super) fn drop_idle(&self) {
        retain_read(&mut self.0.lock(), Instant::now());
    }
}

fn retain_read(watches: &mut Rings, now: Instant) {
    watches.retain(|_, (_, read_at)| now.duration_since(*read_at) < IDLE_LIMIT);
}

/// Too many connections are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many connections are watched")]
pub(super) struct TooMany;
