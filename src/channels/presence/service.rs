//! Presence of all topics with local members or viewers, including members on other nodes.
//!
//! The lock of a topic orders its changes and the states sent to new members. A caller reserves space in the
//! mailboxes of the hub first, so that nothing waits under the lock. Under the lock the model changes and the
//! frames are put into the mailboxes. So the state of a new member contains exactly the changes whose diffs
//! it does not receive.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::{
    Diff, MemberId, Meta, Occupancy, OccupancyWatch, PhxRefs, PresenceKey, PresencePayload, PresenceState,
    occupancy::OccupancyWatches,
    row_queue::{PresenceStore, TrackedPresence},
};
use crate::{
    clock::Clock,
    hub::HubStopped,
    model::{ChannelId, NodeId, Topic, UserId},
};

/// Number of locks over the map of topics.
const LOCK_STRIPES: usize = 32;

/// Sends diffs to the local channels of a topic that may read presence.
pub trait DiffSink: Send + Sync + 'static {
    /// Reserves space for one diff. Waits while mailboxes are full.
    fn reserve(&self) -> BoxFuture<'_, Result<Box<dyn ReservedDiff + '_>, HubStopped>>;
}

/// Reserved space for one diff.
pub trait ReservedDiff: Send {
    /// Sends the payload of a `presence_diff`. Must not block, because the topic is locked.
    fn send(self: Box<Self>, topic: &Topic, payload: Bytes);

    /// Sends counts instead of a diff, to the members that watch them. Must not block either.
    fn send_occupancy(self: Box<Self>, topic: &Topic, occupancy: Occupancy);
}

/// The presence of a topic, locked while a channel becomes its member.
pub struct LockedPresence<'a> {
    topic: &'a Topic,
    state: &'a mut PresenceState,
    watches: &'a OccupancyWatches,
}

impl LockedPresence<'_> {
    /// The payload of the topic's `presence_state`.
    pub fn encoded_state(&mut self) -> Bytes {
        self.state.encode()
    }

    /// The occupancy that the new member receives first. It must watch the topic already.
    #[must_use]
    pub fn first_occupancy(&self) -> Occupancy {
        let occupancy = self.state.occupancy();
        self.watches.record_join(self.topic, occupancy);
        occupancy
    }
}

/// Identifies a channel in the presence of its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceRef {
    pub topic: Topic,
    pub key: PresenceKey,
    pub channel: ChannelId,
    /// User of the channel's token, if it names one.
    pub user: Option<UserId>,
}

/// Channel presence on this node. Clones share one state.
#[derive(Clone)]
pub struct ChannelPresence(Arc<Inner>);

struct Inner {
    node: NodeId,
    refs: PhxRefs,
    clock: Arc<dyn Clock>,
    hasher: RandomState,
    /// A topic has an entry while it has presence or is being accessed.
    topics: [Mutex<HashMap<Topic, Arc<Mutex<PresenceState>>>>; LOCK_STRIPES],
    sink: Arc<dyn DiffSink>,
    store: PresenceStore,
    watches: OccupancyWatches,
}

impl ChannelPresence {
    /// Starts without presence. What local channels track is written to `store`.
    #[must_use]
    pub fn new(node: NodeId, clock: Arc<dyn Clock>, sink: Arc<dyn DiffSink>, store: PresenceStore) -> Self {
        let topics = std::array::from_fn(|_| Mutex::default());
        let (refs, hasher) = (PhxRefs::new(), RandomState::new());
        let watches = OccupancyWatches::default();
        Self(Arc::new(Inner { node, refs, clock, hasher, topics, sink, store, watches }))
    }

    /// Calls `send` with the payload of the topic's `presence_state`. Frames that `send` puts into the
    /// mailboxes of the hub come before any diff that the state does not contain. `send` must not block.
    pub fn with_state<R>(&self, topic: &Topic, send: impl FnOnce(Bytes) -> R) -> R {
        self.with_topic(topic, |state| send(state.encode()))
    }

    /// The presence of a topic on all nodes: the payload of a `presence_state`.
    #[must_use]
    pub fn encoded_state(&self, topic: &Topic) -> Bytes {
        self.with_state(topic, |state| state)
    }

    /// How many are present in a topic on all nodes.
    #[must_use]
    pub fn occupancy(&self, topic: &Topic) -> Occupancy {
        self.with_topic(topic, |state| state.occupancy())
    }

    /// Watches how many are present in a topic. Its members whose mask includes occupancy receive the changes.
    #[must_use]
    pub fn watch_occupancy(&self, topic: &Topic) -> OccupancyWatch {
        self.0.watches.watch(topic)
    }

    /// As [`with_state`](Self::with_state), for a new member that receives the state, the occupancy or both.
    pub fn with_presence<R>(&self, topic: &Topic, send: impl FnOnce(LockedPresence<'_>) -> R) -> R {
        self.with_topic(topic, |state| send(LockedPresence { topic, state, watches: &self.0.watches }))
    }

    /// Sends the occupancy of a topic to its watchers again, for one that missed it.
    pub fn resend_occupancy(&self, topic: &Topic) {
        self.0.watches.mark_unknown(topic);
    }

    /// Waits until the occupancy of a watched topic may have changed.
    pub(super) async fn occupancy_changed(&self) {
        self.0.watches.changed().await;
    }

    /// Sends the occupancy of all topics that may have changed.
    pub(super) async fn send_changed_occupancy(&self) -> Result<(), HubStopped> {
        for topic in self.0.watches.take_changed() {
            self.send_occupancy(&topic).await?;
        }
        Ok(())
    }

    /// Sends the occupancy of a topic to its watchers, unless they know it.
    async fn send_occupancy(&self, topic: &Topic) -> Result<(), HubStopped> {
        let reserved = self.0.sink.reserve().await?;
        self.with_topic(topic, |state| {
            let occupancy = state.occupancy();
            if self.0.watches.record_sent(topic, occupancy) {
                reserved.send_occupancy(topic, occupancy);
            }
        });
        Ok(())
    }

    /// Tracks an object. Returns false, and sends no diff, if it is equivalent to the current one.
    ///
    /// # Errors
    ///
    /// The hub has stopped.
    pub async fn track(
        &self,
        presence_ref: &PresenceRef,
        payload: PresencePayload,
    ) -> Result<bool, HubStopped> {
        let Inner { sink, refs, store, .. } = &*self.0;
        let now_ms = self.0.clock.now().as_millisecond();
        let reserved = sink.reserve().await?;
        Ok(self.with_topic(&presence_ref.topic, |state| {
            let member = self.member_id(presence_ref.channel);
            let diff =
                state.track(&presence_ref.key, member, payload, presence_ref.user, now_ms, || refs.next());
            if diff.is_some() {
                let meta = state.get(&presence_ref.key, member).expect("it has just been tracked").clone();
                let tracked = TrackedPresence {
                    topic: presence_ref.topic.clone(),
                    key: presence_ref.key.clone(),
                    meta,
                };
                store.track(presence_ref.channel, tracked);
            }
            self.send_diff(reserved, &presence_ref.topic, diff)
        }))
    }

    /// Removes what a channel tracks. Returns false if it tracked nothing.
    ///
    /// # Errors
    ///
    /// The hub has stopped.
    pub async fn untrack(&self, presence_ref: &PresenceRef) -> Result<bool, HubStopped> {
        let reserved = self.0.sink.reserve().await?;
        Ok(self.with_topic(&presence_ref.topic, |state| {
            let diff = state.untrack(&presence_ref.key, self.member_id(presence_ref.channel));
            if diff.is_some() {
                self.0.store.untrack(presence_ref.channel);
            }
            self.send_diff(reserved, &presence_ref.topic, diff)
        }))
    }

    /// Applies changes of channels of other nodes to one topic. Each channel occurs at most once.
    pub(super) async fn apply_remote(
        &self,
        topic: &Topic,
        changes: Vec<(PresenceKey, MemberId, Option<Meta>)>,
    ) -> Result<bool, HubStopped> {
        let reserved = self.0.sink.reserve().await?;
        Ok(self.with_topic(topic, |state| {
            let diff = state.apply_remote(changes);
            self.send_diff(reserved, topic, (!diff.is_empty()).then_some(diff))
        }))
    }

    /// What the channels of this node track.
    pub(super) fn local_entries(&self) -> Vec<(ChannelId, TrackedPresence)> {
        let mut tracked = Vec::new();
        for stripe in &self.0.topics {
            let topics: Vec<Topic> = stripe.lock().keys().cloned().collect();
            for topic in topics {
                self.with_topic(&topic, |state| {
                    let local = state.iter().filter(|(_, member, _)| member.node == self.0.node);
                    tracked.extend(local.map(|(key, member, meta)| {
                        (
                            member.channel,
                            TrackedPresence { topic: topic.clone(), key: key.clone(), meta: meta.clone() },
                        )
                    }));
                });
            }
        }
        tracked
    }

    /// Sends a diff. Returns whether there was one.
    fn send_diff(&self, reserved: Box<dyn ReservedDiff + '_>, topic: &Topic, diff: Option<Diff>) -> bool {
        let Some(diff) = diff else { return false };
        reserved.send(topic, diff.into_payload());
        self.0.watches.mark_changed(topic);
        true
    }

    fn member_id(&self, channel: ChannelId) -> MemberId {
        MemberId { node: self.0.node, channel }
    }

    fn with_topic<R>(&self, topic: &Topic, apply: impl FnOnce(&mut PresenceState) -> R) -> R {
        let state = {
            let mut topics = self.stripe(topic).lock();
            match topics.get(topic) {
                Some(state) => state.clone(),
                None => topics.entry(topic.clone()).or_default().clone(),
            }
        };
        let (result, is_empty) = {
            let mut state = state.lock();
            let result = apply(&mut state);
            (result, state.is_empty())
        };
        if is_empty {
            self.remove_if_empty(topic, state);
        }
        result
    }

    /// Removes a topic without presence, unless another caller is accessing it.
    fn remove_if_empty(&self, topic: &Topic, state: Arc<Mutex<PresenceState>>) {
        let mut topics = self.stripe(topic).lock();
        drop(state);
        // The map holds the last reference, and new ones come only through the locked map.
        if topics.get(topic).is_some_and(|state| Arc::strong_count(state) == 1 && state.lock().is_empty()) {
            topics.remove(topic);
        }
    }

    fn stripe(&self, topic: &Topic) -> &Mutex<HashMap<Topic, Arc<Mutex<PresenceState>>>> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
        let hash = self.0.hasher.hash_one(topic) as usize;
        &self.0.topics[hash % LOCK_STRIPES]
    }
}

#[cfg(test)]
mod tests;
