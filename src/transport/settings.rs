//! How connections behave: heartbeat, flood protection, the end.

use std::time::Duration;

use crate::{hub::OutboxLimits, protocol::Dialect};

/// When a quiet peer is asked, and when it is given up.
///
/// With the defaults a peer that vanished is silent (its presence goes offline) 28 to 28.5 s after its last
/// byte, and its connection is closed after 53 to 53.5 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// A peer that sent nothing for so long is pinged, and once more after twice that; default 25 s.
    pub ping_interval: Duration,
    /// How long it may take to answer, whatever it answers; default 3 s, less than `ping_every`.
    pub pong_timeout: Duration,
    /// How exact all timers of connections are: they fire up to so much late; default 500 ms.
    pub tick: Duration,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(3),
            tick: Duration::from_millis(500),
        }
    }
}

/// How much one connection may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRateLimits {
    /// Messages a second, control frames included; 0 for no limit; default 100.
    pub messages_per_second: u32,
    /// Messages at once after a pause; default 200.
    pub burst: u32,
    /// Seconds in a row above twice the rate after which the connection is closed; default 5.
    pub close_after_seconds: u8,
}

impl Default for MessageRateLimits {
    fn default() -> Self {
        Self { messages_per_second: 100, burst: 200, close_after_seconds: 5 }
    }
}

/// What all connections of a hub have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// Pings and timers.
    pub heartbeat: Heartbeat,
    /// Flood protection.
    pub message_rate: MessageRateLimits,
    /// Bounds of what waits to be written.
    pub outbox: OutboxLimits,
    /// How long a close handshake may take, the flushing of what is queued included; default 5 s.
    pub close_timeout: Duration,
    /// How long a session may take to say goodbye; default 10 s.
    pub session_close_timeout: Duration,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            heartbeat: Heartbeat::default(),
            message_rate: MessageRateLimits::default(),
            outbox: OutboxLimits::default(),
            close_timeout: Duration::from_secs(5),
            session_close_timeout: Duration::from_secs(10),
        }
    }
}

/// What the connections of one route have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// The language spoken.
    pub dialect: Dialect,
    /// The largest message of a client, in bytes; more closes with 1009.
    pub max_message_bytes: usize,
}

impl From<Dialect> for ConnectionOptions {
    fn from(dialect: Dialect) -> Self {
        Self { dialect, max_message_bytes: dialect.max_message_bytes() }
    }
}
