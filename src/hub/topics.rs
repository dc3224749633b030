//! The topics of one shard: members and pending deliveries. The shard's task owns this data, so there is no lock.
//!
//! Pending deliveries of a topic are flushed together. Frames are joined into one buffer per dialect and receive mask,
//! because the cost of a write hardly depends on its size. A member excluded from some deliveries (its sender, or a
//! member that got them by replay) gets separate frames, still in one write.

use std::{borrow::Cow, sync::Arc};

use hashbrown::{HashMap, hash_map::Entry};
use smallvec::SmallVec;
use uuid::Uuid;

use super::{
    Encodable,
    frame::WireFrame,
    member::{Member, ReceiveMask},
};
use crate::{
    model::{ChannelId, Topic},
    protocol::Dialect,
};

/// A message for the members of a topic.
#[derive(Debug, Clone)]
pub struct TopicDelivery {
    /// The message, encoded at most once per dialect.
    pub message: Arc<Encodable>,
    /// The kind of message. Members whose mask includes it receive it.
    pub kind: ReceiveMask,
    /// A channel that does not receive it, usually the sender's.
    pub except: Option<ChannelId>,
    /// Message ID. Members that received this ID by replay are skipped.
    pub id: Option<Uuid>,
}

/// Which topics to count.
#[derive(Debug, Clone, Default)]
pub struct TopicQuery {
    /// Text that the name must contain.
    pub search: Option<Box<str>>,
    /// The topic before the first one to return.
    pub after: Option<Topic>,
    pub limit: usize,
}

/// Topics with their number of members, in the order of names.
#[derive(Debug, Clone, Default)]
pub struct TopicCounts {
    pub topics: Vec<(Topic, usize)>,
    /// Number of topics with the text, in all pages.
    pub total: usize,
}

/// The frames of one flush for one member, in order.
type Frames = SmallVec<[WireFrame; 2]>;

/// The topics of one shard. `C` is the connection type.
#[derive(Debug)]
pub(super) struct TopicTable<C> {
    topics: HashMap<Topic, TopicState<C>>,
    member_count: usize,
}

/// Number of members above which they are found by index. A linear search is faster below it.
const INDEX_THRESHOLD: usize = 32;
/// Maximum bytes joined into one buffer. Larger buffers save nothing, and a buffer counts as one frame against the
/// outbox's limit.
const MAX_JOINED_BYTES: usize = 64 * 1024;

/// The members of one topic and its pending deliveries.
#[derive(Debug)]
pub(super) struct TopicState<C> {
    members: Vec<Member<C>>,
    /// Member index by channel, present above [`INDEX_THRESHOLD`] members.
    index: Option<Box<HashMap<ChannelId, u32>>>,
    pending: Vec<TopicDelivery>,
}

impl<C> Default for TopicTable<C> {
    fn default() -> Self {
        Self { topics: HashMap::new(), member_count: 0 }
    }
}

impl<C> TopicTable<C> {
    /// Number of topics that have members.
    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Number of members of all topics.
    pub(super) const fn member_count(&self) -> usize {
        self.member_count
    }

    /// Counts the members of topics. Takes about 10 ms for 100,000 topics.
    pub(super) fn count(&self, query: &TopicQuery) -> TopicCounts {
        let search = query.search.as_deref().unwrap_or_default();
        let mut matching: Vec<&Topic> =
            self.topics.keys().filter(|topic| topic.name.contains(search)).collect();
        let total = matching.len();
        if let Some(after) = &query.after {
            matching.retain(|topic| *topic > after);
        }
        if matching.len() > query.limit {
            matching.select_nth_unstable(query.limit);
            matching.truncate(query.limit);
        }
        matching.sort_unstable();
        let count =
            |topic: &Topic| (topic.clone(), self.topics.get(topic).map_or(0, |state| state.members.len()));
        TopicCounts { topics: matching.into_iter().map(count).collect(), total }
    }

    /// Adds a member. Pending deliveries of the topic must be flushed before.
    pub(super) fn join(&mut self, topic: Topic, member: Member<C>) {
        let state = self.topics.entry(topic).or_insert_with(TopicState::new);
        debug_assert!(state.pending.is_empty(), "pending deliveries must be flushed before a join");
        state.add(member);
        self.member_count += 1;
    }

    /// Removes a member. Pending deliveries of the topic must be flushed before.
    pub(super) fn leave(&mut self, topic: &Topic, channel: ChannelId) -> Option<Member<C>> {
        // The entry API hashes the name once.
        let Entry::Occupied(mut entry) = self.topics.entry(topic.clone()) else {
            return None;
        };
        let member = entry.get_mut().remove(channel)?;
        self.member_count -= 1;
        if entry.get().members.is_empty() {
            entry.remove();
            if self.topics.is_empty() {
                self.topics = HashMap::new();
            }
        }
        Some(member)
    }

    pub(super) fn member_mut(&mut self, topic: &Topic, channel: ChannelId) -> Option<&mut Member<C>> {
        let state = self.topics.get_mut(topic)?;
        let position = state.position_of(channel)?;
        state.members.get_mut(position)
    }

    /// Appends deliveries to the topic. Returns `true` if it had none pending before. Does nothing if the topic has no
    /// members.
    pub(super) fn publish(&mut self, topic: &Topic, deliveries: &[TopicDelivery]) -> bool {
        let Some(state) = self.topics.get_mut(topic) else {
            return false;
        };
        let is_first = state.pending.is_empty();
        state.pending.extend_from_slice(deliveries);
        is_first && !deliveries.is_empty()
    }

    /// Takes the pending deliveries of a topic with its members. Deliveries not encoded by the caller are dropped.
    pub(super) fn take_pending(&mut self, topic: &Topic) -> Option<(&[Member<C>], TopicBatch)> {
        let state = self.topics.get_mut(topic)?;
        let pending = std::mem::take(&mut state.pending);
        (!pending.is_empty()).then(|| (state.members.as_slice(), TopicBatch::new(pending)))
    }
}

impl<C> TopicState<C> {
    const fn new() -> Self {
        Self { members: Vec::new(), index: None, pending: Vec::new() }
    }

    fn position_of(&self, channel: ChannelId) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(&channel).map(|position| *position as usize),
            None => self.members.iter().position(|member| member.channel == channel),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a shard has fewer than 2^32 connections")]
    fn add(&mut self, member: Member<C>) {
        let channel = member.channel;
        self.members.push(member);
        match &mut self.index {
            Some(index) => {
                index.insert(channel, self.members.len() as u32 - 1);
            }
            None if self.members.len() > INDEX_THRESHOLD => {
                let positions =
                    self.members.iter().zip(0..).map(|(member, position)| (member.channel, position));
                self.index = Some(Box::new(positions.collect()));
            }
            None => {}
        }
    }

    fn remove(&mut self, channel: ChannelId) -> Option<Member<C>> {
        let position = self.position_of(channel)?;
        let member = self.members.swap_remove(position);
        if let Some(index) = &mut self.index {
            index.remove(&channel);
            if let (Some(moved), Ok(position)) = (self.members.get(position), u32::try_from(position)) {
                index.insert(moved.channel, position);
            }
        }
        if self.members.len() < self.members.capacity() / 4 {
            self.members.shrink_to(self.members.len() * 2);
            match &mut self.index {
                Some(_) if self.members.len() <= INDEX_THRESHOLD / 2 => self.index = None,
                Some(index) => index.shrink_to(self.members.len() * 2),
                None => {}
            }
        }
        Some(member)
    }
}

/// Deliveries of one topic and the frames encoded from them so far.
#[derive(Debug)]
pub(super) struct TopicBatch {
    deliveries: Vec<TopicDelivery>,
    /// Channels excluded from some delivery, sorted.
    excluded: SmallVec<[ChannelId; 8]>,
    /// Whether some delivery has an ID, and so may have been replayed to a member.
    has_ids: bool,
    /// Joined frames by dialect and receive mask.
    shared_frames: [[Option<Frames>; ReceiveMask::ALL.index() + 1]; Dialect::COUNT],
}

impl TopicBatch {
    fn new(deliveries: Vec<TopicDelivery>) -> Self {
        let mut excluded: SmallVec<[ChannelId; 8]> =
            deliveries.iter().filter_map(|delivery| delivery.except).collect();
        excluded.sort_unstable();
        excluded.dedup();
        let has_ids = deliveries.iter().any(|delivery| delivery.id.is_some());
        Self { deliveries, excluded, has_ids, shared_frames: Default::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// Returns the frames for one member in its dialect.
    pub(super) fn frames<C>(&mut self, member: &Member<C>, dialect: Dialect) -> Cow<'_, [WireFrame]> {
        let mask = member.effective_mask();
        let is_excluded = self.excluded.binary_search(&member.channel).is_ok();
        if is_excluded || (self.has_ids && member.replayed.is_some()) {
            return self.individual_frames(member, mask, dialect).into();
        }
        let frames = self.shared_frames[dialect.index()][mask.index()].get_or_insert_with(|| {
            let matching = self.deliveries.iter().filter(|delivery| mask.intersects(delivery.kind));
            join_frames(matching.filter_map(|delivery| delivery.message.frame(dialect)))
        });
        frames.as_slice().into()
    }

    fn individual_frames<C>(
        &self,
        member: &Member<C>,
        mask: ReceiveMask,
        dialect: Dialect,
    ) -> Vec<WireFrame> {
        let is_replayed = |delivery: &&TopicDelivery| match (&member.replayed, delivery.id) {
            (Some(replayed), Some(id)) => replayed.contains(&id),
            _ => false,
        };
        let deliveries = self.deliveries.iter().filter(|delivery| mask.intersects(delivery.kind));
        let deliveries = deliveries
            .filter(|delivery| delivery.except != Some(member.channel))
            .filter(|delivery| !is_replayed(delivery));
        deliveries.filter_map(|delivery| delivery.message.frame(dialect)).cloned().collect()
    }
}

/// Joins frames into buffers of at most [`MAX_JOINED_BYTES`]. A larger single frame stays whole.
fn join_frames<'a>(frames: impl Iterator<Item = &'a WireFrame>) -> Frames {
    let mut joined = Frames::new();
    let mut chunk: SmallVec<[WireFrame; 32]> = SmallVec::new();
    let mut bytes = 0;
    let mut flush = |chunk: &mut SmallVec<[WireFrame; 32]>| match chunk.as_slice() {
        [] => {}
        [only] => {
            joined.push(only.clone());
            chunk.clear();
        }
        several => {
            joined.push(WireFrame::concat(several));
            chunk.clear();
        }
    };
    for frame in frames {
        if bytes + frame.len() > MAX_JOINED_BYTES {
            flush(&mut chunk);
            bytes = 0;
        }
        bytes += frame.len();
        chunk.push(frame.clone());
    }
    flush(&mut chunk);
    joined
}

#[cfg(test)]
mod tests;
