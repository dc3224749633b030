//! One place in a room, as a shard sees it.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use hashbrown::HashSet;
use uuid::Uuid;

use crate::model::ChannelId;

/// What a member is sent of what is said in its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveMask(u8);

impl ReceiveMask {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Broadcasts.
    pub const BROADCASTS: Self = Self(1);
    /// Presence.
    pub const PRESENCE: Self = Self(2);
    /// All of it.
    pub const ALL: Self = Self(3);

    /// Both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether any of `wanted` is in it.
    #[must_use]
    pub const fn intersects(self, wanted: Self) -> bool {
        self.0 & wanted.0 != 0
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a member may hear at this moment, as far as somebody may change that while it is a member. A change holds for
/// everything that has not been put into the member's outbox yet, whatever waits in a mailbox.
#[derive(Debug)]
pub struct AllowedMask(AtomicU8);

impl AllowedMask {
    /// Open for this much.
    #[must_use]
    pub fn new(hears: ReceiveMask) -> Arc<Self> {
        Arc::new(Self(AtomicU8::new(hears.0)))
    }

    /// Opens and closes it at once, from any thread.
    pub fn set(&self, hears: ReceiveMask) {
        self.0.store(hears.0, Ordering::Release);
    }

    /// Closes it for everything that is not in `hears`, at once, from any thread.
    pub fn restrict_to(&self, hears: ReceiveMask) {
        self.0.fetch_and(hears.0, Ordering::AcqRel);
    }

    /// How far it is open.
    #[must_use]
    pub fn get(&self) -> ReceiveMask {
        ReceiveMask(self.0.load(Ordering::Acquire))
    }
}

/// What a room knows of one of its members. `C` is the connection; generic, so that the rules are tested without
/// sockets.
#[derive(Debug)]
pub struct Member<C> {
    /// Which channel this is.
    pub channel: ChannelId,
    /// Whose socket it is on.
    pub connection: C,
    /// What it wants to hear.
    pub mask: ReceiveMask,
    /// What it may hear, where that can change.
    pub allowed: Option<Arc<AllowedMask>>,
    /// Broadcasts that it was sent when it joined, and that are not to come again. Boxed: most never have one.
    pub replayed: Option<Box<HashSet<Uuid>>>,
}

impl<C> Member<C> {
    pub(super) fn effective_mask(&self) -> ReceiveMask {
        match &self.allowed {
            None => self.mask,
            Some(gate) => self.mask.intersection(gate.get()),
        }
    }
}
