//! Presence state of one topic: the pure model, without clock, lock or I/O.

use std::{cmp::Ordering, collections::BTreeMap};

use bytes::Bytes;
use serde::Serialize;

use super::{
    PhxRef, PresencePayload,
    diff::{Diff, DiffEntry, write_groups},
    member::{MemberId, Meta, PresenceKey},
};
use crate::model::UserId;

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

/// How many are present in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Occupancy {
    /// Number of presence keys.
    pub keys: usize,
    /// Number of metas: channels that track something.
    pub metas: usize,
}

impl Occupancy {
    /// The payload of a `presence_occupancy` message.
    #[must_use]
    pub fn to_json(self) -> String {
        serde_json::to_string(&self).expect("numbers are always JSON")
    }
}

/// The metas of one topic by key. The diffs returned by its methods, applied in order to any encoded state,
/// give the next one.
#[derive(Debug, Default)]
pub struct PresenceState {
    /// Ordered by key, so that the state is written in one pass.
    entries: BTreeMap<EntryKey, Meta>,
    /// The encoded state, cleared by every change. A burst of joins encodes it once.
    encoded: Option<Bytes>,
}

impl PresenceState {
    /// Records what a channel tracks. `None` if the payload is equivalent to the current one.
    pub fn track(
        &mut self,
        key: &PresenceKey,
        member: MemberId,
        payload: PresencePayload,
        user: Option<UserId>,
        now_ms: i64,
        phx_ref: impl FnOnce() -> PhxRef,
    ) -> Option<Diff> {
        let entry_key = EntryKey { key: key.clone(), member };
        let before = self.entries.get(&entry_key);
        if before.is_some_and(|before| before.payload.is_equivalent(&payload)) {
            return None;
        }
        let joined_ms = before.map_or(now_ms, |before| before.joined_ms);
        let meta = Meta { phx_ref: phx_ref(), previous: None, payload, user, joined_ms, updated_ms: now_ms };
        let mut diff = Diff::default();
        self.insert(entry_key, meta, &mut diff);
        Some(diff)
    }

    /// Removes what a channel tracks. `None` if it tracked nothing.
    pub fn untrack(&mut self, key: &PresenceKey, member: MemberId) -> Option<Diff> {
        let mut diff = Diff::default();
        self.remove(&EntryKey { key: key.clone(), member }, &mut diff);
        (!diff.is_empty()).then_some(diff)
    }

    /// Applies newer versions of channels of other nodes: a meta, or `None` for a channel that left. Each
    /// member occurs at most once. The diff may be empty.
    pub fn apply_remote(
        &mut self,
        changes: impl IntoIterator<Item = (PresenceKey, MemberId, Option<Meta>)>,
    ) -> Diff {
        let mut diff = Diff::default();
        for (key, member, meta) in changes {
            let entry_key = EntryKey { key, member };
            let Some(meta) = meta else {
                self.remove(&entry_key, &mut diff);
                continue;
            };
            let known = self.entries.get(&entry_key).map(|known| known.phx_ref);
            if known.is_none_or(|known| known != meta.phx_ref && !meta.phx_ref.is_older_than(known)) {
                self.insert(entry_key, meta, &mut diff);
            }
        }
        diff
    }

    fn insert(&mut self, entry_key: EntryKey, mut meta: Meta, diff: &mut Diff) {
        self.encoded = None;
        let key = entry_key.key.clone();
        let before = self.entries.remove(&entry_key);
        meta.previous = before.as_ref().map(|before| before.phx_ref);
        diff.joins.push(DiffEntry::new(key.clone(), &meta));
        if let Some(before) = before {
            diff.leaves.push(DiffEntry::new(key, &before));
        }
        self.entries.insert(entry_key, meta);
    }

    fn remove(&mut self, entry_key: &EntryKey, diff: &mut Diff) {
        if let Some(before) = self.entries.remove(entry_key) {
            self.encoded = None;
            diff.leaves.push(DiffEntry::new(entry_key.key.clone(), &before));
        }
    }

    /// The payload of `presence_state`: each key with its metas.
    pub fn encode(&mut self) -> Bytes {
        let metas = &self.entries;
        let write = || {
            let mut out = Vec::with_capacity(
                2 + metas.iter().map(|(entry_key, meta)| encoded_size(entry_key, meta)).sum::<usize>(),
            );
            write_groups(
                &mut out,
                metas
                    .iter()
                    .map(|(entry_key, meta)| (&entry_key.key, meta.phx_ref, meta.previous, &meta.payload)),
            );
            Bytes::from(out)
        };
        self.encoded.get_or_insert_with(write).clone()
    }

    /// Number of keys and of metas.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let (mut keys, mut previous) = (0, None);
        for key in self.entries.keys().map(|entry_key| &entry_key.key) {
            keys += usize::from(previous != Some(key));
            previous = Some(key);
        }
        Occupancy { keys, metas: self.entries.len() }
    }

    /// What a channel tracks.
    #[must_use]
    pub fn get(&self, key: &PresenceKey, member: MemberId) -> Option<&Meta> {
        self.entries.get(&EntryKey { key: key.clone(), member })
    }

    /// Iterates over the metas, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&PresenceKey, MemberId, &Meta)> {
        self.entries.iter().map(|(entry_key, meta)| (&entry_key.key, entry_key.member, meta))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Approximate size of an entry in the encoded state, in bytes.
fn encoded_size(entry_key: &EntryKey, meta: &Meta) -> usize {
    entry_key.key.len() + meta.payload.len() + 80
}
