//! Members of topics and what they receive.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use hashbrown::HashSet;
use uuid::Uuid;

use crate::model::ChannelId;

/// A set of message kinds that a member receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveMask(u8);

impl ReceiveMask {
    pub const NONE: Self = Self(0);
    pub const BROADCASTS: Self = Self(1);
    pub const PRESENCE: Self = Self(2);
    pub const OCCUPANCY: Self = Self(4);
    pub const ALL: Self = Self(7);

    /// The kinds in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The kinds in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the sets have a kind in common.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The kinds that a member is authorized to receive, changeable while it is a member. A change applies to every
/// delivery that is not yet in the member's outbox, including those in command queues.
#[derive(Debug)]
pub struct AllowedMask(AtomicU8);

impl AllowedMask {
    /// Creates a mask that allows these kinds.
    #[must_use]
    pub fn new(mask: ReceiveMask) -> Arc<Self> {
        Arc::new(Self(AtomicU8::new(mask.0)))
    }

    /// Replaces the allowed kinds at once, from any thread.
    pub fn set(&self, mask: ReceiveMask) {
        self.0.store(mask.0, Ordering::Release);
    }

    /// Removes all kinds that are not in `mask` at once, from any thread.
    pub fn restrict_to(&self, mask: ReceiveMask) {
        self.0.fetch_and(mask.0, Ordering::AcqRel);
    }

    #[must_use]
    pub fn get(&self) -> ReceiveMask {
        ReceiveMask(self.0.load(Ordering::Acquire))
    }
}

/// A member of a topic. `C` is the connection; generic, so that tests need no sockets.
#[derive(Debug)]
pub struct Member<C> {
    /// The channel of this membership.
    pub channel: ChannelId,
    /// The connection that carries the channel.
    pub connection: C,
    /// The kinds that the channel subscribed to.
    pub mask: ReceiveMask,
    /// The kinds that it is authorized to receive; `None` if that cannot change.
    pub allowed: Option<Arc<AllowedMask>>,
    /// IDs of broadcasts replayed at the join, which are not delivered again. Boxed, because most members have none.
    pub replayed: Option<Box<HashSet<Uuid>>>,
}

impl<C> Member<C> {
    pub(super) fn effective_mask(&self) -> ReceiveMask {
        match &self.allowed {
            None => self.mask,
            Some(allowed) => self.mask.intersection(allowed.get()),
        }
    }
}
