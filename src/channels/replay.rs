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
    Content, LocalRooms, Room,
    authorization::Authorizer,
    database::{DatabaseBroadcast, Payload, Sink},
};
use crate::protocol::phoenix::UserPayload;

/// The most broadcasts that a window keeps, and their bytes; a join takes milliseconds.
const MOST_KEPT: usize = 1_000;
const MOST_KEPT_BYTES: usize = 8 * 1024 * 1024;
/// How long broadcasts wait until those have been asked again from whom a change may have taken the right to hear them.
const SETTLE_WITHIN: Duration = Duration::from_secs(1);

/// The windows that are open. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Replays(Arc<Mutex<HashMap<Room, Open>>>);

#[derive(Debug, Default)]
struct Open {
    windows: usize,
    /// What came since the first of them was opened, oldest first.
    kept: VecDeque<DatabaseBroadcast>,
    bytes: usize,
}

/// What comes for a room from its opening on is kept until it is dropped.
#[derive(Debug)]
pub struct Window {
    replays: Replays,
    room: Room,
}

impl Replays {
    /// Opens a window.
    #[must_use]
    pub fn open(&self, room: &Room) -> Window {
        self.0.lock().entry(room.clone()).or_default().windows += 1;
        Window { replays: self.clone(), room: room.clone() }
    }

    fn keep(&self, broadcast: &DatabaseBroadcast) {
        if let Some(open) = self.0.lock().get_mut(&broadcast.room) {
            open.bytes += broadcast.payload.bytes();
            open.kept.push_back(broadcast.clone());
            while open.kept.len() > MOST_KEPT || (open.bytes > MOST_KEPT_BYTES && open.kept.len() > 1) {
                open.bytes -= open.kept.pop_front().map_or(0, |oldest| oldest.payload.bytes());
            }
        }
    }
}

impl Window {
    /// What came so far. While this is held nothing is told to anybody: to be let go of when the membership is on its way,
    /// so that what comes later is heard live.
    pub fn kept(&self) -> MappedMutexGuard<'_, VecDeque<DatabaseBroadcast>> {
        MutexGuard::map(self.replays.0.lock(), |all| &mut all.entry(self.room.clone()).or_default().kept)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut all = self.replays.0.lock();
        if let Some(open) = all.get_mut(&self.room) {
            open.windows -= 1;
            if open.windows == 0 {
                all.remove(&self.room);
            }
        }
    }
}

/// Takes broadcasts from the database to the rooms of this node.
#[derive(Clone)]
pub struct DatabaseSink {
    rooms: LocalRooms,
    replays: Replays,
    authorizer: Authorizer,
}

impl DatabaseSink {
    /// Into these rooms, past these windows, once `authorizer` knows who may hear them.
    #[must_use]
    pub const fn new(rooms: LocalRooms, replays: Replays, authorizer: Authorizer) -> Self {
        Self { rooms, replays, authorizer }
    }
}

impl Sink for DatabaseSink {
    async fn deliver(&self, broadcasts: Vec<DatabaseBroadcast>) {
        // What was committed before these was announced before them: whoever lost a right by it must not hear them.
        let private = broadcasts.iter().filter(|broadcast| broadcast.room.private);
        let topics: Vec<&str> = private.map(|broadcast| &*broadcast.room.topic).collect();
        self.authorizer.settle(&topics, SETTLE_WITHIN).await;
        for broadcast in broadcasts {
            // Kept before it is posted: whoever becomes a member in between has it twice and is told once.
            self.replays.keep(&broadcast);
            let meta = serde_json::json!({ "id": broadcast.id }).to_string();
            let payload = match broadcast.payload {
                Payload::Json(json) => UserPayload::Json(json.get().into()),
                Payload::Binary(bytes) => UserPayload::Binary(bytes),
            };
            let content = Content::User { event: broadcast.event, payload, meta: Some(meta.into()) };
            // It fails only when the server stops.
            let _ = self.rooms.deliver(&broadcast.room, content, Some(broadcast.id)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn broadcast(room: &Room, id: u128) -> DatabaseBroadcast {
        DatabaseBroadcast {
            id: Uuid::from_u128(id),
            room: room.clone(),
            event: "e".into(),
            payload: Payload::Binary(Bytes::new()),
            inserted_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn ids(window: &Window) -> Vec<u128> {
        window.kept().iter().map(|one| one.id.as_u128()).collect()
    }

    #[test]
    fn a_window_keeps_what_comes_for_its_room_while_it_is_open() {
        let (replays, a, b) = (Replays::default(), Room::private("a"), Room::private("b"));
        replays.keep(&broadcast(&a, 1));
        let window = replays.open(&a);
        replays.keep(&broadcast(&a, 2));
        replays.keep(&broadcast(&b, 3));
        let second = replays.open(&a);
        drop(second);
        replays.keep(&broadcast(&a, 4));
        assert_eq!(ids(&window), [2, 4]);
        for id in 0..1_200 {
            replays.keep(&broadcast(&a, id));
        }
        assert_eq!(ids(&window), (200..1_200).collect::<Vec<_>>());
        let large = Payload::Binary(vec![0; MOST_KEPT_BYTES / 2].into());
        for id in 0..3 {
            replays.keep(&DatabaseBroadcast { payload: large.clone(), ..broadcast(&a, id) });
        }
        assert_eq!(ids(&window), [1, 2]);
        drop(window);
        assert!(replays.0.lock().is_empty());
    }
}
