//! No gap between what is sent again to somebody who joins and what they hear live.
//!
//! A replay is read before its channel is a member, so a broadcast that comes in between would be in neither. Whoever
//! replays opens a [`Window`] first: it keeps what comes for that room from then on.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::{
    Content, LocalRooms, Room,
    database::{DatabaseBroadcast, Payload, Sink},
};
use crate::protocol::phoenix::UserPayload;

/// The most broadcasts that a window keeps; a join takes milliseconds, and clients keep no more of a replay either.
const MOST_KEPT: usize = 100;

/// The windows that are open. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Replays(Arc<Mutex<HashMap<Room, Open>>>);

#[derive(Debug, Default)]
struct Open {
    windows: usize,
    /// What came since the first of them was opened, oldest first.
    kept: Vec<DatabaseBroadcast>,
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
            if open.kept.len() >= MOST_KEPT {
                open.kept.remove(0);
            }
            open.kept.push(broadcast.clone());
        }
    }
}

impl Window {
    /// What came so far. To be asked for when the membership is on its way, so that what comes later is heard live.
    #[must_use]
    pub fn kept(&self) -> Vec<DatabaseBroadcast> {
        self.replays.0.lock().get(&self.room).map(|open| open.kept.clone()).unwrap_or_default()
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
#[derive(Debug, Clone)]
pub struct DatabaseSink {
    rooms: LocalRooms,
    replays: Replays,
}

impl DatabaseSink {
    /// Into these rooms, past these windows.
    #[must_use]
    pub const fn new(rooms: LocalRooms, replays: Replays) -> Self {
        Self { rooms, replays }
    }
}

impl Sink for DatabaseSink {
    async fn deliver(&self, broadcasts: Vec<DatabaseBroadcast>) {
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
            let _ = self.rooms.deliver(&broadcast.room, content, None, Some(broadcast.id)).await;
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
        for id in 0..200 {
            replays.keep(&broadcast(&a, id));
        }
        assert_eq!(ids(&window), (100..200).collect::<Vec<_>>());
        drop(window);
        assert!(replays.0.lock().is_empty());
    }
}
