//! No gap between what is sent again to somebody who joins and what they hear live.
//!
//! A replay is read before its channel is a member, so a broadcast that comes in between would be in neither. Whoever
//! replays opens a [`Window`] first: it keeps what comes for that room from then on. The other way round, what had been
//! committed before the replay was read and is told here only after that would come after newer ones; so whoever is
//! replayed to hears none of it live ([`Stored::others`](super::database::Stored)).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::{
    BroadcastPayload, LocalBroadcaster,
    authorization::Authorizer,
    broadcast_from_db::{BroadcastSink, DatabaseBroadcast, Payload},
};
use crate::{model::Topic, protocol::phoenix::UserPayload};

/// The most broadcasts that a window keeps, and their bytes; a join takes milliseconds.
const MAX_BUFFERED: usize = 1_000;
const MAX_BUFFERED_BYTES: usize = 8 * 1024 * 1024;
/// How long broadcasts wait until those have been asked again from whom a change may have taken the right to hear them.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// The windows that are open. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct ReplayBuffers(Arc<Mutex<HashMap<Topic, Buffer>>>);

#[derive(Debug, Default)]
struct Buffer {
    handles: usize,
    /// What came since the first of them was opened, oldest first.
    broadcasts: VecDeque<DatabaseBroadcast>,
    bytes: usize,
}

/// What comes for a room from its opening on is kept until it is dropped.
#[derive(Debug)]
pub struct ReplayBuffer {
    buffers: ReplayBuffers,
    room: Topic,
}

impl ReplayBuffers {
    /// Opens a window.
    #[must_use]
    pub fn open(&self, room: &Topic) -> ReplayBuffer {
        self.0.lock().entry(room.clone()).or_default().handles += 1;
        ReplayBuffer { buffers: self.clone(), room: room.clone() }
    }

    fn append(&self, broadcast: &DatabaseBroadcast) {
        if let Some(open) = self.0.lock().get_mut(&broadcast.topic) {
            open.bytes += broadcast.payload.size_bytes();
            open.broadcasts.push_back(broadcast.clone());
            while open.broadcasts.len() > MAX_BUFFERED
                || (open.bytes > MAX_BUFFERED_BYTES && open.broadcasts.len() > 1)
            {
                open.bytes -= open.broadcasts.pop_front().map_or(0, |oldest| oldest.payload.size_bytes());
            }
        }
    }
}

impl ReplayBuffer {
    /// What came so far. While this is held nothing is told to anybody: to be let go of when the membership is on its way,
    /// so that what comes later is heard live.
    pub fn buffered(&self) -> MappedMutexGuard<'_, VecDeque<DatabaseBroadcast>> {
        MutexGuard::map(self.buffers.0.lock(), |all| {
            &mut all.entry(self.room.clone()).or_default().broadcasts
        })
    }
}

impl Drop for ReplayBuffer {
    fn drop(&mut self) {
        let mut all = self.buffers.0.lock();
        if let Some(open) = all.get_mut(&self.room) {
            open.handles -= 1;
            if open.handles == 0 {
                all.remove(&self.room);
            }
        }
    }
}

/// Takes broadcasts from the database to the rooms of this node.
#[derive(Clone)]
pub struct DatabaseBroadcastSink {
    local: LocalBroadcaster,
    buffers: ReplayBuffers,
    authorizer: Authorizer,
}

impl DatabaseBroadcastSink {
    /// Into these rooms, past these windows, once `authorizer` knows who may hear them.
    #[must_use]
    pub const fn new(rooms: LocalBroadcaster, replays: ReplayBuffers, authorizer: Authorizer) -> Self {
        Self { local: rooms, buffers: replays, authorizer }
    }
}

impl BroadcastSink for DatabaseBroadcastSink {
    async fn deliver(&self, broadcasts: Vec<DatabaseBroadcast>) {
        // What was committed before these was announced before them: whoever lost a right by it must not hear them.
        let private = broadcasts.iter().filter(|broadcast| broadcast.topic.private);
        let topics: Vec<&str> = private.map(|broadcast| &*broadcast.topic.name).collect();
        self.authorizer.wait_until_settled(&topics, SETTLE_TIMEOUT).await;
        for broadcast in broadcasts {
            // Kept before it is posted: whoever becomes a member in between has it twice and is told once.
            self.buffers.append(&broadcast);
            let meta = serde_json::json!({ "id": broadcast.id }).to_string();
            let payload = match broadcast.payload {
                Payload::Json(json) => UserPayload::Json(json.get().into()),
                Payload::Binary(bytes) => UserPayload::Binary(bytes),
            };
            let content = BroadcastPayload::User { event: broadcast.event, payload, meta: Some(meta.into()) };
            // It fails only when the server stops.
            let _ = self.local.deliver(&broadcast.topic, content, Some(broadcast.id)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn broadcast(room: &Topic, id: u128) -> DatabaseBroadcast {
        DatabaseBroadcast {
            id: Uuid::from_u128(id),
            topic: room.clone(),
            event: "e".into(),
            payload: Payload::Binary(Bytes::new()),
            inserted_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn ids(window: &ReplayBuffer) -> Vec<u128> {
        window.buffered().iter().map(|one| one.id.as_u128()).collect()
    }

    #[test]
    fn a_window_keeps_what_comes_for_its_room_while_it_is_open() {
        let (replays, a, b) = (ReplayBuffers::default(), Topic::private("a"), Topic::private("b"));
        replays.append(&broadcast(&a, 1));
        let window = replays.open(&a);
        replays.append(&broadcast(&a, 2));
        replays.append(&broadcast(&b, 3));
        let second = replays.open(&a);
        drop(second);
        replays.append(&broadcast(&a, 4));
        assert_eq!(ids(&window), [2, 4]);
        for id in 0..1_200 {
            replays.append(&broadcast(&a, id));
        }
        assert_eq!(ids(&window), (200..1_200).collect::<Vec<_>>());
        let large = Payload::Binary(vec![0; MAX_BUFFERED_BYTES / 2].into());
        for id in 0..3 {
            replays.append(&DatabaseBroadcast { payload: large.clone(), ..broadcast(&a, id) });
        }
        assert_eq!(ids(&window), [1, 2]);
        drop(window);
        assert!(replays.0.lock().is_empty());
    }
}
