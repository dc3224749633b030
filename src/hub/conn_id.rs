//! IDs of connections.

use std::{fmt, str::FromStr};

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

    /// Below the ID of every connection: the epoch 0 is never used.
    pub const MIN: Self = Self { shard_and_slot: 0, epoch: 0 };

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

/// The text is not the ID of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the ID of a connection")]
pub struct InvalidConnId;

impl FromStr for ConnId {
    type Err = InvalidConnId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let mut next = || parts.next().ok_or(InvalidConnId);
        let (shard, slot, epoch) = (next()?, next()?, next()?);
        let slot = slot.parse().ok().filter(|slot| *slot < Self::MAX_SLOTS).ok_or(InvalidConnId)?;
        let shard = shard.parse().map_err(|_| InvalidConnId)?;
        let epoch = epoch.parse().map_err(|_| InvalidConnId)?;
        if parts.next().is_some() { Err(InvalidConnId) } else { Ok(Self::new(shard, slot, epoch)) }
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
        assert_eq!("255.16777215.7".parse(), Ok(id));
        for wrong in ["", "1.2", "1.2.3.4", "256.0.1", "0.16777216.1", "0.0.-1"] {
            assert_eq!(wrong.parse::<ConnId>(), Err(InvalidConnId), "{wrong}");
        }
    }
}
