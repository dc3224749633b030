//! How the hub names a connection.

use std::fmt;

/// One connection of this process: where it sits, and which of those that sat there it is. An old id never
/// reaches a newer connection: each shard counts its epochs on, 4 billion of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// The shard in the upper 8 bits, the place in it in the lower 24.
    shard_and_slot: u32,
    epoch: u32,
}

const SLOT_BITS: u32 = 24;

impl ConnId {
    /// The most shards.
    pub const MAX_SHARDS: usize = 1 << (u32::BITS - SLOT_BITS);
    /// The most connections in one shard.
    pub const MAX_SLOTS: u32 = 1 << SLOT_BITS;

    /// The name of a seat. Reaches nobody unless the hub has given it to somebody.
    #[must_use]
    pub fn new(shard: u8, slot: u32, epoch: u32) -> Self {
        debug_assert!(slot < Self::MAX_SLOTS);
        Self { shard_and_slot: u32::from(shard) << SLOT_BITS | slot, epoch }
    }

    /// An id that no connection has.
    #[cfg(test)]
    pub(crate) fn for_test(slot: u32) -> Self {
        Self::new(0, slot, 0)
    }

    pub(super) const fn shard(self) -> usize {
        (self.shard_and_slot >> SLOT_BITS) as usize
    }

    pub(super) const fn slot(self) -> usize {
        (self.shard_and_slot & (Self::MAX_SLOTS - 1)) as usize
    }

    pub(super) const fn epoch(self) -> u32 {
        self.epoch
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.shard(), self.slot(), self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_round_trip_and_an_id_has_eight_bytes() {
        let id = ConnId::new(255, ConnId::MAX_SLOTS - 1, 7);
        assert_eq!((id.shard(), id.slot(), id.epoch()), (255, (1 << 24) - 1, 7));
        assert_eq!(id.to_string(), "255.16777215.7");
        assert_eq!(size_of::<ConnId>(), 8);
    }
}
