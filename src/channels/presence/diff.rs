//! The difference between two presence states of a topic, as sent to clients.

use bytes::Bytes;
use smallvec::SmallVec;

use super::{Meta, PhxRef, PresenceKey, PresencePayload};

/// A meta that joined or left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DiffEntry {
    key: PresenceKey,
    phx_ref: PhxRef,
    previous: Option<PhxRef>,
    payload: PresencePayload,
}

impl DiffEntry {
    pub(super) fn new(key: PresenceKey, meta: &Meta) -> Self {
        let Meta { phx_ref, previous, ref payload, .. } = *meta;
        Self { key, phx_ref, previous, payload: payload.clone() }
    }
}

/// The difference between two states of a topic. A client that applies it to the first state (joins, then
/// leaves, each by its ref) has the second. `leaves` contains only keys of the first state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    pub(super) joins: SmallVec<[DiffEntry; 1]>,
    pub(super) leaves: SmallVec<[DiffEntry; 1]>,
}

impl Diff {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.joins.is_empty() && self.leaves.is_empty()
    }

    /// Encodes the payload of `presence_diff`.
    #[must_use]
    pub fn into_payload(mut self) -> Bytes {
        let entries = self.joins.iter().chain(&self.leaves);
        let capacity = entries.map(|entry| entry.key.len() + entry.payload.len() + 80).sum::<usize>() + 24;
        let mut out = Vec::with_capacity(capacity);
        out.extend_from_slice(b"{\"joins\":");
        write_entries(&mut out, &mut self.joins);
        out.extend_from_slice(b",\"leaves\":");
        write_entries(&mut out, &mut self.leaves);
        out.push(b'}');
        out.into()
    }
}

fn write_entries(out: &mut Vec<u8>, entries: &mut [DiffEntry]) {
    // Group the metas of a key: each key is written once.
    entries.sort_by(|one, other| one.key.cmp(&other.key));
    write_groups(
        out,
        entries.iter().map(|entry| (&entry.key, entry.phx_ref, entry.previous, &entry.payload)),
    );
}

/// Appends `{"key":{"metas":[…]},…}`. Metas of one key must be adjacent.
pub(super) fn write_groups<'a>(
    out: &mut Vec<u8>,
    metas: impl Iterator<Item = (&'a PresenceKey, PhxRef, Option<PhxRef>, &'a PresencePayload)>,
) {
    let mut open: Option<&PresenceKey> = None;
    out.push(b'{');
    for (key, phx_ref, previous, payload) in metas {
        if open == Some(key) {
            out.push(b',');
        } else {
            if open.is_some() {
                out.extend_from_slice(b"]},");
            }
            serde_json::to_writer(&mut *out, key).expect("writing to a vector succeeds");
            out.extend_from_slice(b":{\"metas\":[");
            open = Some(key);
        }
        payload.write_meta(out, phx_ref, previous);
    }
    if open.is_some() {
        out.extend_from_slice(b"]}");
    }
    out.push(b'}');
}
