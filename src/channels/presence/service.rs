//! The rooms of this node with everybody who is present in them, wherever they are connected.
//!
//! Changes of a room, and the states that newcomers are told, have one order, the order of the room's lock. Whoever
//! sends something into a room reserves its place in the hub's mailboxes first, so that nothing waits under the lock;
//! under it the model changes and the frames go into the mailboxes. So a newcomer's state holds exactly the changes whose
//! diffs it does not get.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::{
    Diff, Key, Member, Meta, Payload, PhxRefs, Roster,
    rows::{Rows, Tracked},
};
use crate::{
    channels::{ChannelId, Room},
    clock::Clock,
    hub::HubStopped,
    model::{NodeId, UserId},
};

/// Locks over the map of rooms, so that rooms hardly ever wait for each other.
const STRIPES: usize = 32;

/// Where diffs go: to those channels of a room on this node that may read presence.
pub trait Outlet: Send + Sync + 'static {
    /// Room for one diff wherever the room's channels may be. Waits while mailboxes are full.
    fn reserve(&self) -> BoxFuture<'_, Result<Box<dyn Reserved + '_>, HubStopped>>;
}

/// Room for one diff.
pub trait Reserved: Send {
    /// Sends the payload of a `presence_diff`. Must not block: a room is locked meanwhile.
    fn send(self: Box<Self>, room: &Room, payload: Bytes);
}

/// One channel's place in presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Where.
    pub room: Room,
    /// Under which name.
    pub key: Key,
    /// Which channel.
    pub channel: ChannelId,
    /// Whose token it holds, where that says a user.
    pub user: Option<UserId>,
}

/// Who is present. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct ChannelPresence(Arc<Inner>);

struct Inner {
    node: NodeId,
    refs: PhxRefs,
    clock: Arc<dyn Clock>,
    hasher: RandomState,
    /// A room is here while somebody is present in it, or while somebody looks.
    rooms: [Mutex<HashMap<Room, Arc<Mutex<Roster>>>>; STRIPES],
    outlet: Arc<dyn Outlet>,
    rows: Rows,
}

impl ChannelPresence {
    /// Nobody is present. What channels of this node track becomes known to `rows`.
    #[must_use]
    pub fn new(node: NodeId, clock: Arc<dyn Clock>, outlet: Arc<dyn Outlet>, rows: Rows) -> Self {
        let rooms = std::array::from_fn(|_| Mutex::default());
        let (refs, hasher) = (PhxRefs::new(), RandomState::new());
        Self(Arc::new(Inner { node, refs, clock, hasher, rooms, outlet, rows }))
    }

    /// Calls `enter` with the payload of the room's `presence_state`. What `enter` puts into the hub's mailbox comes
    /// before every diff that is not in the state. It must not block.
    pub fn enter<R>(&self, room: &Room, enter: impl FnOnce(Bytes) -> R) -> R {
        self.in_room(room, |roster| enter(roster.state()))
    }

    /// Who is present in a room, on all nodes: the payload of a `presence_state`.
    #[must_use]
    pub fn state(&self, room: &Room) -> Bytes {
        self.enter(room, |state| state)
    }

    /// A channel tracks an object. False if it says the same as before, and nobody was told.
    ///
    /// # Errors
    ///
    /// The hub has stopped.
    pub async fn track(&self, seat: &Seat, payload: Payload) -> Result<bool, HubStopped> {
        let Inner { outlet, refs, rows, .. } = &*self.0;
        let now_ms = self.0.clock.now().as_millisecond();
        let reserved = outlet.reserve().await?;
        Ok(self.in_room(&seat.room, |roster| {
            let member = self.member(seat.channel);
            let diff = roster.track(&seat.key, member, payload, seat.user, now_ms, || refs.next());
            if diff.is_some() {
                let meta = roster.get(&seat.key, member).expect("it has just been tracked").clone();
                let tracked = Tracked { room: seat.room.clone(), key: seat.key.clone(), meta };
                rows.tracks(seat.channel, tracked);
            }
            tell(reserved, &seat.room, diff)
        }))
    }

    /// A channel tracks nothing any more: it said so, left, or its socket has gone. False if it tracked nothing.
    ///
    /// # Errors
    ///
    /// The hub has stopped.
    pub async fn untrack(&self, seat: &Seat) -> Result<bool, HubStopped> {
        let reserved = self.0.outlet.reserve().await?;
        Ok(self.in_room(&seat.room, |roster| {
            let diff = roster.untrack(&seat.key, self.member(seat.channel));
            if diff.is_some() {
                self.0.rows.tracks_nothing(seat.channel);
            }
            tell(reserved, &seat.room, diff)
        }))
    }

    /// What has become known of channels of other nodes in one room; each at most once.
    pub(super) async fn mirror(
        &self,
        room: &Room,
        changes: Vec<(Key, Member, Option<Meta>)>,
    ) -> Result<bool, HubStopped> {
        let reserved = self.0.outlet.reserve().await?;
        Ok(self.in_room(room, |roster| {
            let diff = roster.mirror(changes);
            tell(reserved, room, (!diff.is_empty()).then_some(diff))
        }))
    }

    /// What each channel of this node tracks.
    pub(super) fn tracked_here(&self) -> Vec<(ChannelId, Tracked)> {
        let mut tracked = Vec::new();
        for stripe in &self.0.rooms {
            let rooms: Vec<Room> = stripe.lock().keys().cloned().collect();
            for room in rooms {
                self.in_room(&room, |roster| {
                    let here = roster.iter().filter(|(_, member, _)| member.node == self.0.node);
                    tracked.extend(here.map(|(key, member, meta)| {
                        (member.channel, Tracked { room: room.clone(), key: key.clone(), meta: meta.clone() })
                    }));
                });
            }
        }
        tracked
    }

    fn member(&self, channel: ChannelId) -> Member {
        Member { node: self.0.node, channel }
    }

    fn in_room<R>(&self, room: &Room, act: impl FnOnce(&mut Roster) -> R) -> R {
        let roster = {
            let mut rooms = self.stripe(room).lock();
            match rooms.get(room) {
                Some(roster) => roster.clone(),
                None => rooms.entry(room.clone()).or_default().clone(),
            }
        };
        let (result, empty) = {
            let mut roster = roster.lock();
            let result = act(&mut roster);
            (result, roster.is_empty())
        };
        if empty {
            self.let_go(room, roster);
        }
        result
    }

    /// Lets go of a room that nobody is present in, unless somebody else looks at it.
    fn let_go(&self, room: &Room, roster: Arc<Mutex<Roster>>) {
        let mut rooms = self.stripe(room).lock();
        drop(roster);
        // The one holder that is left is the map, and others come to it only through the map.
        if rooms.get(room).is_some_and(|roster| Arc::strong_count(roster) == 1 && roster.lock().is_empty()) {
            rooms.remove(room);
        }
    }

    fn stripe(&self, room: &Room) -> &Mutex<HashMap<Room, Arc<Mutex<Roster>>>> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
        let hash = self.0.hasher.hash_one(room) as usize;
        &self.0.rooms[hash % STRIPES]
    }
}

/// Sends a diff, if there is one.
fn tell(reserved: Box<dyn Reserved + '_>, room: &Room, diff: Option<Diff>) -> bool {
    let Some(diff) = diff else { return false };
    reserved.send(room, diff.into_payload());
    true
}

#[cfg(test)]
mod tests;
