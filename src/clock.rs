//! Wall clock as a dependency, so that tests can control it.
//!
//! Leases, grace periods and expiry use the database's clock in SQL. This clock is used for time stamps in
//! frames and for token expiry.

use jiff::Timestamp;

/// Source of wall-clock time.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// Reads the clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
