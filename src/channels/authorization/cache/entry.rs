//! Cache entry of one principal and topic.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

use crate::auth::Principal;
use crate::channels::authorization::{
    ReadRights, RightsSubscriber, WriteRights,
    subscriber::{ReadResult, WriteResult},
};

/// Maximum parts of a topic that are hashed.
const MAX_TOPIC_PARTS: usize = 8;

/// Principal and topic of a check.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::channels::authorization) struct CacheKey {
    pub principal: Arc<Principal>,
    pub topic: Arc<str>,
}

impl CacheKey {
    /// The hashes of the values that name this user or topic in changed rows; see `rollcall.invalidate_channel_authorization`.
    pub(crate) fn value_hashes(&self) -> SmallVec<[u32; 4]> {
        let parts = self.topic.split([':', '/', '.']).filter(|part| !part.is_empty()).take(MAX_TOPIC_PARTS);
        let sub = self.principal.sub.as_deref();
        // Rows hold it as PostgreSQL writes it, or as it is in the token.
        let id = sub.and_then(|sub| Uuid::try_parse(sub).ok()).map(|id| id.to_string());
        let mut hashes: SmallVec<[u32; 4]> =
            parts.chain([&*self.topic]).chain(sub).chain(id.as_deref()).map(value_hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }
}

/// The first four bytes of a value's SHA-256.
pub(super) fn value_hash(value: &str) -> u32 {
    let digest = Sha256::digest(value.as_bytes());
    u32::from_be_bytes(digest[..4].try_into().expect("a digest has 32 bytes"))
}

/// Write rights that can be read without a lock.
#[derive(Debug, Default)]
pub(in crate::channels::authorization) struct CachedWriteRights(AtomicU8);

impl CachedWriteRights {
    const KNOWN: u8 = 1;
    const BROADCAST: u8 = 2;
    const PRESENCE: u8 = 4;

    pub(crate) fn get(&self) -> Option<WriteRights> {
        let bits = self.0.load(Ordering::Acquire);
        (bits & Self::KNOWN != 0).then_some(WriteRights {
            broadcast: bits & Self::BROADCAST != 0,
            presence: bits & Self::PRESENCE != 0,
        })
    }

    pub(crate) fn set(&self, rights: Option<WriteRights>) {
        let bits = rights.map_or(0, |rights| {
            Self::KNOWN
                | if rights.broadcast { Self::BROADCAST } else { 0 }
                | if rights.presence { Self::PRESENCE } else { 0 }
        });
        self.0.store(bits, Ordering::Release);
    }
}

/// A subscription to the read rights of an entry.
pub(super) struct Subscription {
    pub id: u64,
    pub last_known: ReadRights,
    pub subscriber: Arc<dyn RightsSubscriber>,
}

/// State of an entry's check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestState {
    /// No request waits. The entry may be in the queue of rechecks all the same.
    Idle,
    /// In the queue of joins or of isolated checks.
    Queued,
    Running {
        epoch: u64,
        read: bool,
        write: bool,
    },
}

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
    /// A batch with this check timed out: it is checked alone, to find out whose policies are slow.
    pub isolated: bool,
    /// Consecutive timeouts of the isolated check.
    pub timeouts: u8,
    pub checked_at: Instant,
    /// Stamp of the current entry in the idle queue. Queue entries with another stamp are outdated.
    pub idle_stamp: u64,
    /// Epoch in which the last known rights of a subscriber probably became outdated.
    pub invalidated_at: u64,
}

impl Entry {
    pub(super) fn new(key: CacheKey) -> Self {
        Self {
            value_hashes: key.value_hashes(),
            key,
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

    /// Whether a subscriber or a request uses the entry.
    pub(super) fn is_in_use(&self) -> bool {
        !self.subscriptions.is_empty() || !self.read_waiters.is_empty() || !self.write_waiters.is_empty()
    }

    /// Makes the results, and that of a check in flight, older than any change: of epoch 0. The rights stay known until
    /// the result of a recheck.
    pub(super) fn forget_results(&mut self) {
        self.read = self.read.map(|(read, _)| (read, 0));
        self.write = self.write.map(|(write, _)| (write, 0));
        if let RequestState::Running { epoch, .. } = &mut self.state {
            *epoch = 0;
        }
    }

    /// Whether the last known rights of a subscriber may be outdated.
    pub(super) fn needs_recheck(&self, epoch: u64) -> bool {
        !self.subscriptions.is_empty() && self.read.as_ref().is_none_or(|(_, of)| *of < epoch)
    }
}
