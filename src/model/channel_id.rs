//! Channel IDs.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// Identifies one channel (one successful join of one socket) within this process. Never reused: a rejoin
/// gets a new ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(u64);

impl ChannelId {
    /// Returns a new ID.
    #[must_use]
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The ID as stored in rows and sent to other nodes.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0 as i64
    }

    /// The ID of a channel on another node.
    #[must_use]
    pub(crate) const fn from_i64(number: i64) -> Self {
        Self(number as u64)
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
