//! Buffers that close the gap between replayed and live broadcasts.
//!
//! A replay is read before its channel becomes a member, so a broadcast in between would be in neither. The
//! join therefore opens a [`ReplayBuffer`] first, which holds all later broadcasts to the topic. Conversely,
//! a broadcast that was committed before the replay was read but is delivered later would arrive after newer
//! ones. The channel does not receive these live
//! ([`StoredBroadcasts`](super::broadcast_from_db::StoredBroadcasts)).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::{
    BroadcastPayload, LocalBroadcaster,
    authorization::Authorizer,
    broadcast_from_db::{BroadcastSink, DatabaseBroadcast},
    history::{KeptMessage, Origin},
};
use crate::model::Topic;

/// Maximum broadcasts of a buffer and their bytes. A join takes milliseconds.
const MAX_BUFFERED: usize = 1_000;
const MAX_BUFFERED_BYTES: usize = 8 * 1024 * 1024;
/// Maximum delay of broadcasts until subscribers that may have lost the right to read were checked again.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// The open buffers. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct ReplayBuffers(Arc<Mutex<HashMap<Topic, Buffer>>>);

#[derive(Debug, Default)]
struct Buffer {
    handles: usize,
    /// Broadcasts since the first handle was opened, oldest first.
    broadcasts: VecDeque<DatabaseBroadcast>,
    bytes: usize,
}

/// Holds the broadcasts to a topic from its creation until it is dropped.
#[derive(Debug)]
pub struct ReplayBuffer {
    buffers: ReplayBuffers,
    topic: Topic,
}

impl ReplayBuffers {
    /// Opens a buffer for a topic.
    #[must_use]
    pub fn open(&self, topic: &Topic) -> ReplayBuffer {
        self.0.lock().entry(topic.clone()).or_default().handles += 1;
        ReplayBuffer { buffers: self.clone(), topic: topic.clone() }
    }

    fn append(&self, broadcast: &DatabaseBroadcast) {
        if let Some(buffer) = self.0.lock().get_mut(&broadcast.topic) {
            buffer.bytes += broadcast.message.payload.size_bytes();
            buffer.broadcasts.push_back(broadcast.clone());
            while buffer.broadcasts.len() > MAX_BUFFERED
                || (buffer.bytes > MAX_BUFFERED_BYTES && buffer.broadcasts.len() > 1)
            {
                buffer.bytes -=
                    buffer.broadcasts.pop_front().map_or(0, |oldest| oldest.message.payload.size_bytes());
            }
        }
    }
}

impl ReplayBuffer {
    /// The buffered broadcasts. No broadcast is delivered while the guard is held. Drop it once the
    /// membership is queued, so that later broadcasts are received live.
    pub fn buffered(&self) -> MappedMutexGuard<'_, VecDeque<DatabaseBroadcast>> {
        MutexGuard::map(self.buffers.0.lock(), |all| {
            &mut all.entry(self.topic.clone()).or_default().broadcasts
        })
    }
}

impl Drop for ReplayBuffer {
    fn drop(&mut self) {
        let mut all = self.buffers.0.lock();
        if let Some(buffer) = all.get_mut(&self.topic) {
            buffer.handles -= 1;
            if buffer.handles == 0 {
                all.remove(&self.topic);
            }
        }
    }
}

/// Delivers broadcasts from the database to the members on this node.
#[derive(Clone)]
pub struct DatabaseBroadcastSink {
    local: LocalBroadcaster,
    buffers: ReplayBuffers,
    authorizer: Authorizer,
}

impl DatabaseBroadcastSink {
    /// Delivers to `local` and `buffers` once `authorizer` knows who may receive.
    #[must_use]
    pub const fn new(local: LocalBroadcaster, buffers: ReplayBuffers, authorizer: Authorizer) -> Self {
        Self { local, buffers, authorizer }
    }
}

impl BroadcastSink for DatabaseBroadcastSink {
    fn invalidate_authorization(&self) {
        self.authorizer.invalidate_all();
    }

    async fn deliver(&self, broadcasts: Vec<DatabaseBroadcast>) {
        // Changes committed before these broadcasts were announced before them: a subscriber that lost a
        // right must not receive them.
        let private = broadcasts.iter().filter(|broadcast| broadcast.topic.private);
        let topics: Vec<&str> = private.map(|broadcast| &*broadcast.topic.name).collect();
        self.authorizer.wait_until_settled(&topics, SETTLE_TIMEOUT).await;
        for broadcast in broadcasts {
            // Before the delivery: a member that joins in between gets the broadcast from the buffer, and the
            // live copy is skipped.
            self.buffers.append(&broadcast);
            let KeptMessage { id, event, payload } = broadcast.message;
            let payload = BroadcastPayload::with_id(event, payload, id);
            // This fails only when the server is stopping.
            let _ = self.local.deliver(&broadcast.topic, payload, Origin::Database, Some(id)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::protocol::phoenix::UserPayload;

    fn broadcast(topic: &Topic, id: u128) -> DatabaseBroadcast {
        broadcast_of(topic, id, 0)
    }

    fn broadcast_of(topic: &Topic, id: u128, bytes: usize) -> DatabaseBroadcast {
        let payload = UserPayload::Binary(vec![0; bytes].into());
        let message = KeptMessage { id: Uuid::from_u128(id), event: "e".into(), payload };
        DatabaseBroadcast { topic: topic.clone(), message, inserted_at: Timestamp::UNIX_EPOCH }
    }

    fn ids(buffer: &ReplayBuffer) -> Vec<u128> {
        buffer.buffered().iter().map(|broadcast| broadcast.message.id.as_u128()).collect()
    }

    #[test]
    fn a_buffer_holds_the_broadcasts_to_its_topic_while_open() {
        let (buffers, a, b) = (ReplayBuffers::default(), Topic::private("a"), Topic::private("b"));
        buffers.append(&broadcast(&a, 1));
        let buffer = buffers.open(&a);
        buffers.append(&broadcast(&a, 2));
        buffers.append(&broadcast(&b, 3));
        let second = buffers.open(&a);
        drop(second);
        buffers.append(&broadcast(&a, 4));
        assert_eq!(ids(&buffer), [2, 4]);
        for id in 0..1_200 {
            buffers.append(&broadcast(&a, id));
        }
        assert_eq!(ids(&buffer), (200..1_200).collect::<Vec<_>>());
        for id in 0..3 {
            buffers.append(&broadcast_of(&a, id, MAX_BUFFERED_BYTES / 2));
        }
        assert_eq!(ids(&buffer), [1, 2]);
        drop(buffer);
        assert!(buffers.0.lock().is_empty());
    }
}
