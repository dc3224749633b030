//! Who is in which room of a shard, and what has been said there and not been passed on yet. Plain data: the shard's
//! task owns it, so there is no lock.
//!
//! What waits for a room is passed on in one go, joined into one piece per dialect for all who hear the same of it: a
//! write costs by the write, hardly by the byte. Somebody who is left out of a part (who said it, who had it replayed)
//! gets the frames one by one; they still go out in one write.

use std::{borrow::Cow, sync::Arc};

use hashbrown::{HashMap, hash_map::Entry};
use smallvec::SmallVec;
use uuid::Uuid;

use super::{
    Encodable,
    member::{Member, ReceiveMask},
};
use crate::{
    model::{ChannelId, Topic},
    protocol::Dialect,
    transport::frame::WireFrame,
};

/// Something said in a room.
#[derive(Debug, Clone)]
pub struct TopicDelivery {
    /// What is said, encoded at most once per dialect.
    pub message: Arc<Encodable>,
    /// To whom: those who hear this.
    pub kind: ReceiveMask,
    /// Who is left out.
    pub except: Option<ChannelId>,
    /// By what those know it who may have had it replayed.
    pub id: Option<Uuid>,
}

/// The frames of one flush for one member, in order.
type Frames = SmallVec<[WireFrame; 2]>;

/// The rooms of one shard.
#[derive(Debug)]
pub(super) struct TopicTable<C> {
    topics: HashMap<Topic, TopicState<C>>,
    member_count: usize,
}

/// Members of a room before they are found by an index; looking through fewer costs less than hashing.
const INDEX_THRESHOLD: usize = 32;
/// The most bytes that are joined into one piece. More in a piece saves nothing, and a piece counts as one frame
/// against the outbox's limit.
const MAX_JOINED_BYTES: usize = 64 * 1024;

/// One room: its members and what waits for them.
#[derive(Debug)]
pub(super) struct TopicState<C> {
    members: Vec<Member<C>>,
    /// Where each is, once there are too many to look through.
    index: Option<Box<HashMap<ChannelId, u32>>>,
    pending: Vec<TopicDelivery>,
}

impl<C> Default for TopicTable<C> {
    fn default() -> Self {
        Self { topics: HashMap::new(), member_count: 0 }
    }
}

impl<C> TopicTable<C> {
    /// How many rooms have somebody in them.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// How many places are taken in all of them.
    pub const fn member_count(&self) -> usize {
        self.member_count
    }

    /// Adds a member. What waits for the room has to be passed on before.
    pub fn join(&mut self, room: Topic, member: Member<C>) {
        let in_room = self.topics.entry(room).or_insert_with(TopicState::new);
        debug_assert!(in_room.pending.is_empty(), "what was said before is not for who joins now");
        in_room.add(member);
        self.member_count += 1;
    }

    /// Removes a member. What waits for the room has to be passed on before.
    pub fn leave(&mut self, room: &Topic, channel: ChannelId) -> Option<Member<C>> {
        // By entry, so that the name is hashed once.
        let Entry::Occupied(mut entry) = self.topics.entry(room.clone()) else {
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

    /// A member.
    pub fn member_mut(&mut self, room: &Topic, channel: ChannelId) -> Option<&mut Member<C>> {
        let in_room = self.topics.get_mut(room)?;
        let place = in_room.index_of(channel)?;
        in_room.members.get_mut(place)
    }

    /// Has something wait for the room; `true` if it is the first that does. Nobody there: nothing waits.
    pub fn publish(&mut self, room: &Topic, posts: &[TopicDelivery]) -> bool {
        let Some(in_room) = self.topics.get_mut(room) else {
            return false;
        };
        let is_first = in_room.pending.is_empty();
        in_room.pending.extend_from_slice(posts);
        is_first && !posts.is_empty()
    }

    /// What waits for a room, with those it is for; whatever is not asked for is dropped.
    pub fn take_pending(&mut self, room: &Topic) -> Option<(&[Member<C>], TopicBatch)> {
        let in_room = self.topics.get_mut(room)?;
        let waiting = std::mem::take(&mut in_room.pending);
        (!waiting.is_empty()).then(|| (in_room.members.as_slice(), TopicBatch::new(waiting)))
    }
}

impl<C> TopicState<C> {
    const fn new() -> Self {
        Self { members: Vec::new(), index: None, pending: Vec::new() }
    }

    fn index_of(&self, channel: ChannelId) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(&channel).map(|place| *place as usize),
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
                let places = self.members.iter().zip(0..).map(|(member, place)| (member.channel, place));
                self.index = Some(Box::new(places.collect()));
            }
            None => {}
        }
    }

    fn remove(&mut self, channel: ChannelId) -> Option<Member<C>> {
        let place = self.index_of(channel)?;
        let member = self.members.swap_remove(place);
        if let Some(index) = &mut self.index {
            index.remove(&channel);
            if let (Some(moved), Ok(place)) = (self.members.get(place), u32::try_from(place)) {
                index.insert(moved.channel, place);
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

/// What waits for a room, and the pieces that were made of it so far.
#[derive(Debug)]
pub(super) struct TopicBatch {
    deliveries: Vec<TopicDelivery>,
    /// Who is left out of something, sorted.
    excluded: SmallVec<[ChannelId; 8]>,
    /// Whether anything may have been replayed to somebody.
    has_ids: bool,
    /// The pieces for those who hear the same, by dialect and what they hear.
    shared_frames: [[Option<Frames>; ReceiveMask::ALL.index() + 1]; Dialect::COUNT],
}

impl TopicBatch {
    fn new(posts: Vec<TopicDelivery>) -> Self {
        let mut left_out: SmallVec<[ChannelId; 8]> = posts.iter().filter_map(|post| post.except).collect();
        left_out.sort_unstable();
        left_out.dedup();
        let has_ids = posts.iter().any(|post| post.id.is_some());
        Self { deliveries: posts, excluded: left_out, has_ids, shared_frames: Default::default() }
    }

    /// How many things were said.
    pub fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// The frames for one member.
    pub fn frames<C>(&mut self, member: &Member<C>, dialect: Dialect) -> Cow<'_, [WireFrame]> {
        let hears = member.effective_mask();
        let is_left_out = self.excluded.binary_search(&member.channel).is_ok();
        if is_left_out || (self.has_ids && member.replayed.is_some()) {
            return self.individual_frames(member, hears, dialect).into();
        }
        let pieces = self.shared_frames[dialect.index()][hears.index()].get_or_insert_with(|| {
            let heard = self.deliveries.iter().filter(|post| hears.intersects(post.kind));
            join_frames(heard.filter_map(|post| post.message.frame(dialect)))
        });
        pieces.as_slice().into()
    }

    fn individual_frames<C>(
        &self,
        member: &Member<C>,
        hears: ReceiveMask,
        dialect: Dialect,
    ) -> Vec<WireFrame> {
        let was_replayed = |post: &&TopicDelivery| match (&member.replayed, post.id) {
            (Some(replayed), Some(id)) => replayed.contains(&id),
            _ => false,
        };
        let posts = self.deliveries.iter().filter(|post| hears.intersects(post.kind));
        let posts =
            posts.filter(|post| post.except != Some(member.channel)).filter(|post| !was_replayed(post));
        posts.filter_map(|post| post.message.frame(dialect)).cloned().collect()
    }
}

/// Joins frames into as few pieces as may be.
fn join_frames<'a>(frames: impl Iterator<Item = &'a WireFrame>) -> Frames {
    let mut pieces = Frames::new();
    let mut piece: SmallVec<[WireFrame; 32]> = SmallVec::new();
    let mut bytes = 0;
    let mut close = |piece: &mut SmallVec<[WireFrame; 32]>| match piece.as_slice() {
        [] => {}
        [only] => {
            pieces.push(only.clone());
            piece.clear();
        }
        several => {
            pieces.push(WireFrame::concat(several));
            piece.clear();
        }
    };
    for frame in frames {
        if bytes + frame.len() > MAX_JOINED_BYTES {
            close(&mut piece);
            bytes = 0;
        }
        bytes += frame.len();
        piece.push(frame.clone());
    }
    close(&mut piece);
    pieces
}

#[cfg(test)]
mod tests;
