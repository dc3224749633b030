//! One place in a room.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// Names one channel (one successful join of one socket) for as long as this process runs; never used again. A
/// socket that leaves and joins again has a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(u64);

impl ChannelId {
    /// The next one.
    #[must_use]
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// As rows and other nodes know it.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0 as i64
    }

    /// A channel of another node.
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
