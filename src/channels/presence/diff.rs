//! What changed in a room, as clients are told.

use bytes::Bytes;
use smallvec::SmallVec;

use super::{Meta, PhxRef, PresenceKey, PresencePayload};

/// One meta that came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DiffEntry {
    key: PresenceKey,
    phx_ref: PhxRef,
    previous: Option<PhxRef>,
    payload: PresencePayload,
}

impl DiffEntry {
    pub fn new(key: PresenceKey, meta: &Meta) -> Self {
        let Meta { phx_ref, previous, ref payload, .. } = *meta;
        Self { key, phx_ref, previous, payload: payload.clone() }
    }
}

/// The difference between two states of a room. Whoever has the first and applies it (first the joins, then the
/// leaves, each by its ref) has the second; it names no key in its leaves that the first did not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    pub(super) joins: SmallVec<[DiffEntry; 1]>,
    pub(super) leaves: SmallVec<[DiffEntry; 1]>,
}

impl Diff {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.joins.is_empty() && self.leaves.is_empty()
    }

    /// The payload of `presence_diff`.
    #[must_use]
    pub fn into_payload(mut self) -> Bytes {
        let lines = self.joins.iter().chain(&self.leaves);
        let room = lines.map(|line| line.key.len() + line.payload.len() + 80).sum::<usize>() + 24;
        let mut out = Vec::with_capacity(room);
        out.extend_from_slice(b"{\"joins\":");
        write_entries(&mut out, &mut self.joins);
        out.extend_from_slice(b",\"leaves\":");
        write_entries(&mut out, &mut self.leaves);
        out.push(b'}');
        out.into()
    }
}

fn write_entries(out: &mut Vec<u8>, lines: &mut [DiffEntry]) {
    // A key is named once.
    lines.sort_by(|one, other| one.key.cmp(&other.key));
    write_groups(out, lines.iter().map(|line| (&line.key, line.phx_ref, line.previous, &line.payload)));
}

/// Appends `{"key":{"metas":[…]},…}`; metas of one key stand together.
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
            serde_json::to_writer(&mut *out, key).expect("a string is written into memory");
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
