//! What is remembered of one pair of claimant and topic.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use tokio::{sync::oneshot, time::Instant};

use super::{ReadResult, RightsSubscriber, WriteResult};
use crate::channels::{
    ChannelPrincipal,
    authorization::{ReadRights, WriteRights},
};

/// Parts of a topic that count as traces.
const MAX_TOPIC_PARTS: usize = 8;

/// As whom, and about which channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::channels::authorization) struct CacheKey {
    pub principal: Arc<ChannelPrincipal>,
    pub topic: Arc<str>,
}

impl CacheKey {
    /// The traces that rows about this user or channel leave: see `rollcall.void_rights`.
    pub fn value_hashes(&self) -> SmallVec<[u32; 4]> {
        let parts = self.topic.split([':', '/', '.']).filter(|part| !part.is_empty()).take(MAX_TOPIC_PARTS);
        let mut traces: SmallVec<[u32; 4]> =
            parts.chain([&*self.topic]).chain(self.principal.sub.as_deref()).map(value_hash).collect();
        traces.sort_unstable();
        traces.dedup();
        traces
    }
}

/// The first four bytes of a value's SHA-256.
pub(super) fn value_hash(value: &str) -> u32 {
    let digest = Sha256::digest(value.as_bytes());
    u32::from_be_bytes(digest[..4].try_into().expect("a digest has 32 bytes"))
}

/// Write rights where the hot path finds them without a lock.
#[derive(Debug, Default)]
pub(in crate::channels::authorization) struct CachedWriteRights(AtomicU8);

impl CachedWriteRights {
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
pub(super) struct Subscription {
    pub id: u64,
    pub last_known: ReadRights,
    pub subscriber: Arc<dyn RightsSubscriber>,
}

/// Where it stands with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestState {
    /// Nobody waits for it; it may stand in the line of re-checks all the same.
    Idle,
    /// It stands in the line of joins, or in that of those asked alone.
    Queued,
    Running {
        epoch: u64,
        read: bool,
        write: bool,
    },
}

/// One pair, who wants to know of it, and what is known.
pub(super) struct Entry {
    pub key: CacheKey,
    pub value_hashes: SmallVec<[u32; 4]>,
    pub read: Option<(ReadResult, u64)>,
    pub write: Option<(WriteResult, u64)>,
    pub cached_write: Arc<CachedWriteRights>,
    pub subscriptions: SmallVec<[Subscription; 1]>,
    pub read_waiters: SmallVec<[oneshot::Sender<ReadResult>; 1]>,
    pub write_waiters: SmallVec<[oneshot::Sender<WriteResult>; 1]>,
    pub state: RequestState,
    pub superseded: u8,
    /// A question that held this one did not come to its end: it is asked alone, to find out whose policies it was.
    pub isolated: bool,
    /// Times in a row that its policies, asked alone, did not come to an end.
    pub timeouts: u8,
    pub checked_at: Instant,
    /// Of its place among the idle; others there are of an earlier time.
    pub idle_stamp: u64,
    /// The epoch in which what somebody who watches believes most likely became void.
    pub invalidated_at: u64,
}

impl Entry {
    /// Nothing is known, and nobody has asked yet.
    pub fn new(pair: CacheKey) -> Self {
        Self {
            value_hashes: pair.value_hashes(),
            key: pair,
            read: None,
            write: None,
            cached_write: Arc::default(),
            subscriptions: SmallVec::new(),
            read_waiters: SmallVec::new(),
            write_waiters: SmallVec::new(),
            state: RequestState::Idle,
            superseded: 0,
            isolated: false,
            timeouts: 0,
            checked_at: Instant::now(),
            idle_stamp: 0,
            invalidated_at: 0,
        }
    }

    /// Whether anybody wants to know.
    pub fn is_in_use(&self) -> bool {
        !self.subscriptions.is_empty() || !self.read_waiters.is_empty() || !self.write_waiters.is_empty()
    }

    /// Whether someone who watches may believe what is not so any more.
    pub fn needs_recheck(&self, epoch: u64) -> bool {
        !self.subscriptions.is_empty() && self.read.as_ref().is_none_or(|(_, of)| *of < epoch)
    }
}
