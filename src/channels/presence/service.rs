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
    Diff, MemberId, Meta, PhxRefs, PresenceKey, PresencePayload, PresenceState,
    store::{PresenceStore, TrackedPresence},
};
use crate::{
    clock::Clock,
    hub::HubStopped,
    model::{ChannelId, NodeId, Topic, UserId},
};

/// Locks over the map of rooms, so that rooms hardly ever wait for each other.
const LOCK_STRIPES: usize = 32;

/// Where diffs go: to those channels of a room on this node that may read presence.
pub trait DiffSink: Send + Sync + 'static {
    /// Room for one diff wherever the room's channels may be. Waits while mailboxes are full.
    fn reserve(&self) -> BoxFuture<'_, Result<Box<dyn ReservedDiff + '_>, HubStopped>>;
}

/// Room for one diff.
pub trait ReservedDiff: Send {
    /// Sends the payload of a `presence_diff`. Must not block: a room is locked meanwhile.
    fn send(self: Box<Self>, room: &Topic, payload: Bytes);
}

/// One channel's place in presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceRef {
    /// Where.
    pub topic: Topic,
    /// Under which name.
    pub key: PresenceKey,
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
    topics: [Mutex<HashMap<Topic, Arc<Mutex<PresenceState>>>>; LOCK_STRIPES],
    sink: Arc<dyn DiffSink>,
    store: PresenceStore,
}

impl ChannelPresence {
    /// Nobody is present. What channels of this node track becomes known to `rows`.
    #[must_use]
    pub fn new(node: NodeId, clock: Arc<dyn Clock>, outlet: Arc<dyn DiffSink>, rows: PresenceStore) -> Self {
        let rooms = std::array::from_fn(|_| Mutex::default());
        let (refs, hasher) = (PhxRefs::new(), RandomState::new());
        Self(Arc::new(Inner { node, refs, clock, hasher, topics: rooms, sink: outlet, store: rows }))
    }

    /// Calls `enter` with the payload of the room's `presence_state`. What `enter` puts into the hub's mailbox comes
    /// before every diff that is not in the state. It must not block.
    pub fn with_state<R>(&self, room: &Topic, enter: impl FnOnce(Bytes) -> R) -> R {
        self.with_topic(room, |roster| enter(roster.encode()))
    }

    /// Who is present in a room, on all nodes: the payload of a `presence_state`.
    #[must_use]
    pub fn encoded_state(&self, room: &Topic) -> Bytes {
        self.with_state(room, |state| state)
    }

    /// A channel tracks an object. False if it says the same as before, and nobody was told.
    ///
    /// # Errors
    ///
    /// The hub has stopped.
    pub async fn track(&self, seat: &PresenceRef, payload: PresencePayload) -> Result<bool, HubStopped> {
        let Inner { sink: outlet, refs, store: rows, .. } = &*self.0;
        let now_ms = self.0.clock.now().as_millisecond();
        let reserved = outlet.reserve().await?;
        Ok(self.with_topic(&seat.topic, |roster| {
            let member = self.member_id(seat.channel);
            let diff = roster.track(&seat.key, member, payload, seat.user, now_ms, || refs.next());
            if diff.is_some() {
                let meta = roster.get(&seat.key, member).expect("it has just been tracked").clone();
                let tracked = TrackedPresence { topic: seat.topic.clone(), key: seat.key.clone(), meta };
                rows.track(seat.channel, tracked);
            }
            send_diff(reserved, &seat.topic, diff)
        }))
    }

    /// A channel tracks nothing any more: it said so, left, or its socket has gone. False if it tracked nothing.
    ///
    /// # Errors
    ///
    /// The hub has stopped.
    pub async fn untrack(&self, seat: &PresenceRef) -> Result<bool, HubStopped> {
        let reserved = self.0.sink.reserve().await?;
        Ok(self.with_topic(&seat.topic, |roster| {
            let diff = roster.untrack(&seat.key, self.member_id(seat.channel));
            if diff.is_some() {
                self.0.store.untrack(seat.channel);
            }
            send_diff(reserved, &seat.topic, diff)
        }))
    }

    /// What has become known of channels of other nodes in one room; each at most once.
    pub(super) async fn apply_remote(
        &self,
        room: &Topic,
        changes: Vec<(PresenceKey, MemberId, Option<Meta>)>,
    ) -> Result<bool, HubStopped> {
        let reserved = self.0.sink.reserve().await?;
        Ok(self.with_topic(room, |roster| {
            let diff = roster.apply_remote(changes);
            send_diff(reserved, room, (!diff.is_empty()).then_some(diff))
        }))
    }

    /// What each channel of this node tracks.
    pub(super) fn local_entries(&self) -> Vec<(ChannelId, TrackedPresence)> {
        let mut tracked = Vec::new();
        for stripe in &self.0.topics {
            let rooms: Vec<Topic> = stripe.lock().keys().cloned().collect();
            for room in rooms {
                self.with_topic(&room, |roster| {
                    let here = roster.iter().filter(|(_, member, _)| member.node == self.0.node);
                    tracked.extend(here.map(|(key, member, meta)| {
                        (
                            member.channel,
                            TrackedPresence { topic: room.clone(), key: key.clone(), meta: meta.clone() },
                        )
                    }));
                });
            }
        }
        tracked
    }

    fn member_id(&self, channel: ChannelId) -> MemberId {
        MemberId { node: self.0.node, channel }
    }

    fn with_topic<R>(&self, room: &Topic, act: impl FnOnce(&mut PresenceState) -> R) -> R {
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
            self.remove_if_empty(room, roster);
        }
        result
    }

    /// Lets go of a room that nobody is present in, unless somebody else looks at it.
    fn remove_if_empty(&self, room: &Topic, roster: Arc<Mutex<PresenceState>>) {
        let mut rooms = self.stripe(room).lock();
        drop(roster);
        // The one holder that is left is the map, and others come to it only through the map.
        if rooms.get(room).is_some_and(|roster| Arc::strong_count(roster) == 1 && roster.lock().is_empty()) {
            rooms.remove(room);
        }
    }

    fn stripe(&self, room: &Topic) -> &Mutex<HashMap<Topic, Arc<Mutex<PresenceState>>>> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
        let hash = self.0.hasher.hash_one(room) as usize;
        &self.0.topics[hash % LOCK_STRIPES]
    }
}

/// Sends a diff, if there is one.
fn send_diff(reserved: Box<dyn ReservedDiff + '_>, room: &Topic, diff: Option<Diff>) -> bool {
    let Some(diff) = diff else { return false };
    reserved.send(room, diff.into_payload());
    true
}

#[cfg(test)]
mod tests;
