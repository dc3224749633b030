//! Wall time as an input, so that tests can hold it.
//!
//! Leases, grace and expiry are judged by the database's clock, in SQL; what is left for this one are
//! time stamps in frames and the age of tokens.

use jiff::Timestamp;

/// Where the server takes the wall time from.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
