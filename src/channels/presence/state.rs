//! Who is present in one room: the pure model. No clock, no lock, no socket.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{
    PhxRef, PresencePayload,
    diff::{Diff, DiffEntry, write_groups},
};
use crate::model::{ChannelId, NodeId, UserId};

/// The name under which channels are present; several channels may use one. Cheap to clone.
pub type PresenceKey = Arc<str>;

/// A channel, on whichever node it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId {
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
    pub payload: PresencePayload,
    /// Whose token the channel held, for the rows.
    pub user: Option<UserId>,
    /// When it was tracked first, milliseconds since 1970.
    pub joined_ms: i64,
    /// When it took this state, milliseconds since 1970.
    pub updated_ms: i64,
}

#[derive(Debug, PartialEq, Eq)]
struct EntryKey {
    key: PresenceKey,
    member: MemberId,
}

impl Ord for EntryKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then_with(|| self.member.cmp(&other.member))
    }
}

impl PartialOrd for EntryKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The metas of one room, by key. The diffs that its methods return, applied in order to any [`state`](Self::state),
/// give the next one.
#[derive(Debug, Default)]
pub struct PresenceState {
    /// In the order of keys, so that the state is written in one pass.
    entries: BTreeMap<EntryKey, Meta>,
    /// The state as written last; void with every change, so that a burst of joins writes it once.
    encoded: Option<Bytes>,
}

impl PresenceState {
    /// Takes in what a channel tracks. `None` if it says the same as before: nobody needs to know.
    pub fn track(
        &mut self,
        key: &PresenceKey,
        member: MemberId,
        payload: PresencePayload,
        user: Option<UserId>,
        now_ms: i64,
        phx_ref: impl FnOnce() -> PhxRef,
    ) -> Option<Diff> {
        let place = EntryKey { key: key.clone(), member };
        let before = self.entries.get(&place);
        if before.is_some_and(|before| before.payload.is_equivalent(&payload)) {
            return None;
        }
        let joined_ms = before.map_or(now_ms, |before| before.joined_ms);
        let meta = Meta { phx_ref: phx_ref(), previous: None, payload, user, joined_ms, updated_ms: now_ms };
        let mut diff = Diff::default();
        self.insert(place, meta, &mut diff);
        Some(diff)
    }

    /// Takes back what a channel tracks. `None` if it tracked nothing.
    pub fn untrack(&mut self, key: &PresenceKey, member: MemberId) -> Option<Diff> {
        let mut diff = Diff::default();
        self.remove(&EntryKey { key: key.clone(), member }, &mut diff);
        (!diff.is_empty()).then_some(diff)
    }

    /// Takes in what is known of channels of other nodes, where newer: a meta, or `None` for those that left. Each
    /// member at most once. The diff may be empty.
    pub fn apply_remote(
        &mut self,
        changes: impl IntoIterator<Item = (PresenceKey, MemberId, Option<Meta>)>,
    ) -> Diff {
        let mut diff = Diff::default();
        for (key, member, meta) in changes {
            let place = EntryKey { key, member };
            let Some(meta) = meta else {
                self.remove(&place, &mut diff);
                continue;
            };
            let known = self.entries.get(&place).map(|known| known.phx_ref);
            if known.is_none_or(|known| known != meta.phx_ref && !meta.phx_ref.is_older_than(known)) {
                self.insert(place, meta, &mut diff);
            }
        }
        diff
    }

    fn insert(&mut self, place: EntryKey, mut meta: Meta, diff: &mut Diff) {
        self.encoded = None;
        let key = place.key.clone();
        let before = self.entries.remove(&place);
        meta.previous = before.as_ref().map(|before| before.phx_ref);
        diff.joins.push(DiffEntry::new(key.clone(), &meta));
        if let Some(before) = before {
            diff.leaves.push(DiffEntry::new(key, &before));
        }
        self.entries.insert(place, meta);
    }

    fn remove(&mut self, place: &EntryKey, diff: &mut Diff) {
        if let Some(before) = self.entries.remove(place) {
            self.encoded = None;
            diff.leaves.push(DiffEntry::new(place.key.clone(), &before));
        }
    }

    /// The payload of `presence_state`: `{}`, or each key with its metas.
    pub fn encode(&mut self) -> Bytes {
        let metas = &self.entries;
        let write = || {
            let mut out = Vec::with_capacity(
                2 + metas.iter().map(|(place, meta)| encoded_size(place, meta)).sum::<usize>(),
            );
            write_groups(
                &mut out,
                metas.iter().map(|(place, meta)| (&place.key, meta.phx_ref, meta.previous, &meta.payload)),
            );
            Bytes::from(out)
        };
        self.encoded.get_or_insert_with(write).clone()
    }

    /// What a channel tracks.
    #[must_use]
    pub fn get(&self, key: &PresenceKey, member: MemberId) -> Option<&Meta> {
        self.entries.get(&EntryKey { key: key.clone(), member })
    }

    /// Every meta with its key and its channel.
    pub fn iter(&self) -> impl Iterator<Item = (&PresenceKey, MemberId, &Meta)> {
        self.entries.iter().map(|(place, meta)| (&place.key, place.member, meta))
    }

    /// Whether nobody is present.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// About what an entry takes in the state.
fn encoded_size(place: &EntryKey, meta: &Meta) -> usize {
    place.key.len() + meta.payload.len() + 80
}
