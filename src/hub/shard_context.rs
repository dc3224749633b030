//! What a connection needs of its shard.

use tokio::time::Instant;

use super::{ConnId, ConnectionSettings, counters::Counters};

/// The shard as its connections see it: settings, counters, time, and the timer wheel. A connection does not depend on
/// the shard itself.
pub(crate) trait ShardContext: std::fmt::Debug + Send + Sync {
    /// Settings shared by all connections.
    fn settings(&self) -> &ConnectionSettings;

    /// Counters of the shard.
    fn counters(&self) -> &Counters;

    /// Milliseconds from the start of the shard to `when`; 0 if `when` is earlier.
    fn uptime_ms_at(&self, when: Instant) -> u64;

    /// Schedules a check of a connection at `due_ms`, or up to one tick later.
    fn check_by(&self, id: ConnId, due_ms: u64);

    /// Milliseconds since the start of the shard.
    fn uptime_ms(&self) -> u64 {
        self.uptime_ms_at(Instant::now())
    }
}
