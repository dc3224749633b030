//! IDs of connections.

use std::fmt;

/// ID of one connection of this process: shard, slot and epoch. The epoch counts the connections of a shard, so an old
/// ID never reaches a newer connection in the same slot. It wraps after 2^32 connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// The shard in the upper 8 bits, the slot in the lower 24.
    shard_and_slot: u32,
    epoch: u32,
}

const SLOT_BITS: u32 = 24;

impl ConnId {
    /// Maximum number of shards.
    pub const MAX_SHARDS: usize = 1 << (u32::BITS - SLOT_BITS);
    /// Maximum number of connections in one shard.
    pub const MAX_SLOTS: u32 = 1 << SLOT_BITS;

    /// Builds an ID from its parts. Only IDs that the hub assigned reach a connection.
    #[must_use]
    pub fn new(shard: u8, slot: u32, epoch: u32) -> Self {
        debug_assert!(slot < Self::MAX_SLOTS);
        Self { shard_and_slot: u32::from(shard) << SLOT_BITS | slot, epoch }
    }

    /// An ID that no connection has.
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
