//! Who is present in one room: the pure model. No clock, no lock, no socket.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{
    Payload, PhxRef,
    diff::{Diff, Line, write_groups},
};
use crate::{
    channels::ChannelId,
    model::{NodeId, UserId},
};

/// The name under which channels are present; several channels may use one. Cheap to clone.
pub type Key = Arc<str>;

/// A channel, on whichever node it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// The node that holds its socket.
    pub node: NodeId,
    /// Its number there.
    pub channel: ChannelId,
}

/// What one channel has made known of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The name of this state of it.
    pub phx_ref: PhxRef,
    /// The name of the state before, as receivers on this node had it.
    pub previous: Option<PhxRef>,
    /// What the client tracks.
    pub payload: Payload,
    /// Whose token the channel held, for the rows.
    pub user: Option<UserId>,
    /// When it was tracked first, milliseconds since 1970.
    pub joined_ms: i64,
    /// When it took this state, milliseconds since 1970.
    pub updated_ms: i64,
}

#[derive(Debug, PartialEq, Eq)]
struct Place {
    key: Key,
    member: Member,
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then_with(|| self.member.cmp(&other.member))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The metas of one room, by key. The diffs that its methods return, applied in order to any [`state`](Self::state),
/// give the next one.
#[derive(Debug, Default)]
pub struct Roster {
    /// In the order of keys, so that the state is written in one pass.
    metas: BTreeMap<Place, Meta>,
    /// The state as written last; void with every change, so that a burst of joins writes it once.
    state: Option<Bytes>,
}

impl Roster {
    /// Takes in what a channel tracks. `None` if it says the same as before: nobody needs to know.
    pub fn track(
        &mut self,
        key: &Key,
        member: Member,
        payload: Payload,
        user: Option<UserId>,
        now_ms: i64,
        phx_ref: impl FnOnce() -> PhxRef,
    ) -> Option<Diff> {
        let place = Place { key: key.clone(), member };
        let before = self.metas.get(&place);
        if before.is_some_and(|before| before.payload.says_the_same(&payload)) {
            return None;
        }
        let joined_ms = before.map_or(now_ms, |before| before.joined_ms);
        let meta = Meta { phx_ref: phx_ref(), previous: None, payload, user, joined_ms, updated_ms: now_ms };
        let mut diff = Diff::default();
        self.put(place, meta, &mut diff);
        Some(diff)
    }

    /// Takes back what a channel tracks. `None` if it tracked nothing.
    pub fn untrack(&mut self, key: &Key, member: Member) -> Option<Diff> {
        let mut diff = Diff::default();
        self.take(&Place { key: key.clone(), member }, &mut diff);
        (!diff.is_empty()).then_some(diff)
    }

    /// Takes in what is known of channels of other nodes, where newer: a meta, or `None` for those that left. Each
    /// member at most once. The diff may be empty.
    pub fn mirror(&mut self, changes: impl IntoIterator<Item = (Key, Member, Option<Meta>)>) -> Diff {
        let mut diff = Diff::default();
        for (key, member, meta) in changes {
            let place = Place { key, member };
            let Some(meta) = meta else {
                self.take(&place, &mut diff);
                continue;
            };
            let known = self.metas.get(&place).map(|known| known.phx_ref);
            if known.is_none_or(|known| known != meta.phx_ref && !meta.phx_ref.is_older_than(known)) {
                self.put(place, meta, &mut diff);
            }
        }
        diff
    }

    fn put(&mut self, place: Place, mut meta: Meta, diff: &mut Diff) {
        self.state = None;
        let key = place.key.clone();
        let before = self.metas.remove(&place);
        meta.previous = before.as_ref().map(|before| before.phx_ref);
        diff.joins.push(Line::new(key.clone(), &meta));
        if let Some(before) = before {
            diff.leaves.push(Line::new(key, &before));
        }
        self.metas.insert(place, meta);
    }

    fn take(&mut self, place: &Place, diff: &mut Diff) {
        if let Some(before) = self.metas.remove(place) {
            self.state = None;
            diff.leaves.push(Line::new(place.key.clone(), &before));
        }
    }

    /// The payload of `presence_state`: `{}`, or each key with its metas.
    pub fn state(&mut self) -> Bytes {
        let metas = &self.metas;
        let write = || {
            let mut out = Vec::with_capacity(
                2 + metas.iter().map(|(place, meta)| room_for(place, meta)).sum::<usize>(),
            );
            write_groups(
                &mut out,
                metas.iter().map(|(place, meta)| (&place.key, meta.phx_ref, meta.previous, &meta.payload)),
            );
            Bytes::from(out)
        };
        self.state.get_or_insert_with(write).clone()
    }

    /// What a channel tracks.
    #[must_use]
    pub fn get(&self, key: &Key, member: Member) -> Option<&Meta> {
        self.metas.get(&Place { key: key.clone(), member })
    }

    /// Every meta with its key and its channel.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, Member, &Meta)> {
        self.metas.iter().map(|(place, meta)| (&place.key, place.member, meta))
    }

    /// Whether nobody is present.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }
}

/// About what an entry takes in the state.
fn room_for(place: &Place, meta: &Meta) -> usize {
    place.key.len() + meta.payload.len() + 80
}
