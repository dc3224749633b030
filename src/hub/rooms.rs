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
    member::{Hears, Member},
};
use crate::{
    channels::{ChannelId, Room},
    protocol::Dialect,
    transport::frame::WireFrame,
};

/// Something said in a room.
#[derive(Debug, Clone)]
pub struct Post {
    /// What is said, encoded at most once per dialect.
    pub message: Arc<Encodable>,
    /// To whom: those who hear this.
    pub about: Hears,
    /// Who is left out.
    pub except: Option<ChannelId>,
    /// By what those know it who may have had it replayed.
    pub id: Option<Uuid>,
}

/// The frames of one flush for one member, in order.
type Frames = SmallVec<[WireFrame; 2]>;

/// The rooms of one shard.
#[derive(Debug)]
pub(super) struct Rooms<C> {
    rooms: HashMap<Room, InRoom<C>>,
    members: usize,
}

/// Members of a room before they are found by an index; looking through fewer costs less than hashing.
const INDEX_FROM: usize = 32;
/// The most bytes that are joined into one piece. More in a piece saves nothing, and a piece counts as one frame
/// against the outbox's limit.
const MAX_PIECE: usize = 64 * 1024;

/// One room: its members and what waits for them.
#[derive(Debug)]
pub(super) struct InRoom<C> {
    members: Vec<Member<C>>,
    /// Where each is, once there are too many to look through.
    index: Option<Box<HashMap<ChannelId, u32>>>,
    waiting: Vec<Post>,
}

impl<C> Default for Rooms<C> {
    fn default() -> Self {
        Self { rooms: HashMap::new(), members: 0 }
    }
}

impl<C> Rooms<C> {
    /// How many rooms have somebody in them.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// How many places are taken in all of them.
    pub const fn members(&self) -> usize {
        self.members
    }

    /// Adds a member. What waits for the room has to be passed on before.
    pub fn join(&mut self, room: Room, member: Member<C>) {
        let in_room = self.rooms.entry(room).or_insert_with(InRoom::new);
        debug_assert!(in_room.waiting.is_empty(), "what was said before is not for who joins now");
        in_room.add(member);
        self.members += 1;
    }

    /// Removes a member. What waits for the room has to be passed on before.
    pub fn leave(&mut self, room: &Room, channel: ChannelId) -> Option<Member<C>> {
        // By entry, so that the name is hashed once.
        let Entry::Occupied(mut entry) = self.rooms.entry(room.clone()) else {
            return None;
        };
        let member = entry.get_mut().remove(channel)?;
        self.members -= 1;
        if entry.get().members.is_empty() {
            entry.remove();
            if self.rooms.is_empty() {
                self.rooms = HashMap::new();
            }
        }
        Some(member)
    }

    /// A member.
    pub fn member_mut(&mut self, room: &Room, channel: ChannelId) -> Option<&mut Member<C>> {
        let in_room = self.rooms.get_mut(room)?;
        let place = in_room.place(channel)?;
        in_room.members.get_mut(place)
    }

    /// Has something wait for the room; `true` if it is the first that does. Nobody there: nothing waits.
    pub fn post(&mut self, room: &Room, posts: &[Post]) -> bool {
        let Some(in_room) = self.rooms.get_mut(room) else {
            return false;
        };
        let is_first = in_room.waiting.is_empty();
        in_room.waiting.extend_from_slice(posts);
        is_first && !posts.is_empty()
    }

    /// What waits for a room, with those it is for; whatever is not asked for is dropped.
    pub fn take(&mut self, room: &Room) -> Option<(&[Member<C>], Bundle)> {
        let in_room = self.rooms.get_mut(room)?;
        let waiting = std::mem::take(&mut in_room.waiting);
        (!waiting.is_empty()).then(|| (in_room.members.as_slice(), Bundle::new(waiting)))
    }
}

impl<C> InRoom<C> {
    const fn new() -> Self {
        Self { members: Vec::new(), index: None, waiting: Vec::new() }
    }

    fn place(&self, channel: ChannelId) -> Option<usize> {
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
            None if self.members.len() > INDEX_FROM => {
                let places = self.members.iter().zip(0..).map(|(member, place)| (member.channel, place));
                self.index = Some(Box::new(places.collect()));
            }
            None => {}
        }
    }

    fn remove(&mut self, channel: ChannelId) -> Option<Member<C>> {
        let place = self.place(channel)?;
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
                Some(_) if self.members.len() <= INDEX_FROM / 2 => self.index = None,
                Some(index) => index.shrink_to(self.members.len() * 2),
                None => {}
            }
        }
        Some(member)
    }
}

/// What waits for a room, and the pieces that were made of it so far.
#[derive(Debug)]
pub(super) struct Bundle {
    posts: Vec<Post>,
    /// Who is left out of something, sorted.
    left_out: SmallVec<[ChannelId; 8]>,
    /// Whether anything may have been replayed to somebody.
    has_ids: bool,
    /// The pieces for those who hear the same, by dialect and what they hear.
    pieces: [[Option<Frames>; Hears::ALL.index() + 1]; Dialect::COUNT],
}

impl Bundle {
    fn new(posts: Vec<Post>) -> Self {
        let mut left_out: SmallVec<[ChannelId; 8]> = posts.iter().filter_map(|post| post.except).collect();
        left_out.sort_unstable();
        left_out.dedup();
        let has_ids = posts.iter().any(|post| post.id.is_some());
        Self { posts, left_out, has_ids, pieces: Default::default() }
    }

    /// How many things were said.
    pub fn len(&self) -> usize {
        self.posts.len()
    }

    /// The frames for one member.
    pub fn frames<C>(&mut self, member: &Member<C>, dialect: Dialect) -> Cow<'_, [WireFrame]> {
        let hears = member.hears_now();
        let is_left_out = self.left_out.binary_search(&member.channel).is_ok();
        if is_left_out || (self.has_ids && member.replayed.is_some()) {
            return self.frames_of_its_own(member, hears, dialect).into();
        }
        let pieces = self.pieces[dialect.index()][hears.index()].get_or_insert_with(|| {
            let heard = self.posts.iter().filter(|post| hears.any(post.about));
            pieces(heard.filter_map(|post| post.message.frame(dialect)))
        });
        pieces.as_slice().into()
    }

    fn frames_of_its_own<C>(&self, member: &Member<C>, hears: Hears, dialect: Dialect) -> Vec<WireFrame> {
        let was_replayed = |post: &&Post| match (&member.replayed, post.id) {
            (Some(replayed), Some(id)) => replayed.contains(&id),
            _ => false,
        };
        let posts = self.posts.iter().filter(|post| hears.any(post.about));
        let posts =
            posts.filter(|post| post.except != Some(member.channel)).filter(|post| !was_replayed(post));
        posts.filter_map(|post| post.message.frame(dialect)).cloned().collect()
    }
}

/// Joins frames into as few pieces as may be.
fn pieces<'a>(frames: impl Iterator<Item = &'a WireFrame>) -> Frames {
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
            pieces.push(WireFrame::joined(several));
            piece.clear();
        }
    };
    for frame in frames {
        if bytes + frame.len() > MAX_PIECE {
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
