//! Whether writes fail because the database has no disk space.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long the disk counts as full after a write failed. No statement shows that there is space again: most writes need
/// no new page.
const FULL_TTL: Duration = Duration::from_secs(15);

/// Shared by all connections of a [`Database`](super::Database).
#[derive(Debug, Clone, Default)]
pub(super) struct DiskSpace(Arc<Mutex<Option<Instant>>>);

impl DiskSpace {
    /// Records that a statement failed for lack of disk space.
    pub(super) fn record_full(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    /// Whether a statement failed for lack of disk space in the last [`FULL_TTL`].
    pub(super) fn is_full(&self) -> bool {
        self.0.lock().is_some_and(|failed_at| failed_at.elapsed() < FULL_TTL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disk_is_full_for_a_while_after_a_failure() {
        let space = DiskSpace::default();
        assert!(!space.is_full());
        space.record_full();
        assert!(space.is_full());
        tokio::time::advance(FULL_TTL).await;
        assert!(!space.is_full());
    }
}
