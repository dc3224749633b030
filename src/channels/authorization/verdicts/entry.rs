//! What is remembered of one pair of claimant and topic.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use tokio::{sync::oneshot, time::Instant};

use super::{Read, RightsWatcher, Write};
use crate::channels::{
    Claimant,
    authorization::{ReadRights, WriteRights},
};

/// Parts of a topic that count as traces.
const MOST_PARTS: usize = 8;

/// As whom, and about which channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::channels::authorization) struct Pair {
    pub claimant: Arc<Claimant>,
    pub topic: Arc<str>,
}

impl Pair {
    /// The traces that rows about this user or channel leave: see `rollcall.void_rights`.
    pub fn traces(&self) -> SmallVec<[u32; 4]> {
        let parts = self.topic.split([':', '/', '.']).filter(|part| !part.is_empty()).take(MOST_PARTS);
        let mut traces: SmallVec<[u32; 4]> =
            parts.chain([&*self.topic]).chain(self.claimant.sub.as_deref()).map(trace).collect();
        traces.sort_unstable();
        traces.dedup();
        traces
    }
}

/// The first four bytes of a value's SHA-256.
pub(super) fn trace(value: &str) -> u32 {
    let digest = Sha256::digest(value.as_bytes());
    u32::from_be_bytes(digest[..4].try_into().expect("a digest has 32 bytes"))
}

/// Write rights where the hot path finds them without a lock.
#[derive(Debug, Default)]
pub(in crate::channels::authorization) struct KnownWrite(AtomicU8);

impl KnownWrite {
    const KNOWN: u8 = 1;
    const BROADCAST: u8 = 2;
    const PRESENCE: u8 = 4;

    pub fn get(&self) -> Option<WriteRights> {
        let bits = self.0.load(Ordering::Acquire);
        (bits & Self::KNOWN != 0).then_some(WriteRights {
            broadcast: bits & Self::BROADCAST != 0,
            presence: bits & Self::PRESENCE != 0,
        })
    }

    pub fn set(&self, rights: Option<WriteRights>) {
        let bits = rights.map_or(0, |rights| {
            Self::KNOWN
                | if rights.broadcast { Self::BROADCAST } else { 0 }
                | if rights.presence { Self::PRESENCE } else { 0 }
        });
        self.0.store(bits, Ordering::Release);
    }
}

/// Somebody who is told when the rights to read become others.
pub(super) struct Watcher {
    pub id: u64,
    pub believes: ReadRights,
    pub told: Arc<dyn RightsWatcher>,
}

/// Where it stands with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nobody waits for it; it may stand in the line of re-checks all the same.
    Resting,
    /// It stands in the line of joins, or in that of those asked alone.
    Waiting,
    Asking {
        epoch: u64,
        read: bool,
        write: bool,
    },
}

/// One pair, who wants to know of it, and what is known.
pub(super) struct Entry {
    pub pair: Pair,
    pub traces: SmallVec<[u32; 4]>,
    pub read: Option<(Read, u64)>,
    pub write: Option<(Write, u64)>,
    pub known_write: Arc<KnownWrite>,
    pub watchers: SmallVec<[Watcher; 1]>,
    pub read_waits: SmallVec<[oneshot::Sender<Read>; 1]>,
    pub write_waits: SmallVec<[oneshot::Sender<Write>; 1]>,
    pub turn: Turn,
    pub overtaken: u8,
    /// A question that held this one did not come to its end: it is asked alone, to find out whose policies it was.
    pub alone: bool,
    /// Times in a row that its policies, asked alone, did not come to an end.
    pub stuck: u8,
    pub asked_at: Instant,
    /// Of its place among the idle; others there are of an earlier time.
    pub idle: u64,
    /// The epoch in which what somebody who watches believes most likely became void.
    pub voided: u64,
}

impl Entry {
    /// Nothing is known, and nobody has asked yet.
    pub fn new(pair: Pair) -> Self {
        Self {
            traces: pair.traces(),
            pair,
            read: None,
            write: None,
            known_write: Arc::default(),
            watchers: SmallVec::new(),
            read_waits: SmallVec::new(),
            write_waits: SmallVec::new(),
            turn: Turn::Resting,
            overtaken: 0,
            alone: false,
            stuck: 0,
            asked_at: Instant::now(),
            idle: 0,
            voided: 0,
        }
    }

    /// Whether anybody wants to know.
    pub fn is_wanted(&self) -> bool {
        !self.watchers.is_empty() || !self.read_waits.is_empty() || !self.write_waits.is_empty()
    }

    /// Whether someone who watches may believe what is not so any more.
    pub fn is_due(&self, epoch: u64) -> bool {
        !self.watchers.is_empty() && self.read.as_ref().is_none_or(|(_, of)| *of < epoch)
    }
}
