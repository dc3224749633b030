//! Settings of connections: heartbeat, message rate, timeouts.

use std::time::Duration;

use super::OutboxLimits;
use crate::protocol::Dialect;

/// When a silent peer is pinged and when its connection is closed.
///
/// With the defaults, a vanished peer is unresponsive (its presence goes offline) 28 to 28.5 s after its last byte. Its
/// connection is closed after 53 to 53.5 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// A peer is pinged after this time without data, and again after twice this time; default 25 s.
    pub ping_interval: Duration,
    /// Time to respond to a ping with any data; default 3 s. Must be less than `ping_interval`.
    pub pong_timeout: Duration,
    /// Resolution of all connection timers: they fire up to one tick late; default 500 ms.
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

/// Message rate limit of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRateLimits {
    /// Messages per second, control frames included; default 100. 0 disables the limit.
    pub messages_per_second: u32,
    /// Burst size in messages; default 200.
    pub burst: u32,
    /// Consecutive seconds above twice the rate after which the connection is closed; default 5.
    pub close_after_seconds: u8,
}

impl Default for MessageRateLimits {
    fn default() -> Self {
        Self { messages_per_second: 100, burst: 200, close_after_seconds: 5 }
    }
}

/// Settings of all connections of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionSettings {
    pub heartbeat: Heartbeat,
    pub message_rate: MessageRateLimits,
    /// Limits of queued frames.
    pub outbox: OutboxLimits,
    /// A client whose socket accepts nothing for this time, while states are held back for it, is closed as a slow
    /// consumer; default 30 s.
    pub stall_timeout: Duration,
    /// Timeout of the close handshake, including the flush of queued frames; default 5 s.
    pub close_timeout: Duration,
    /// Timeout of the session's `on_close`; default 10 s.
    pub session_close_timeout: Duration,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            heartbeat: Heartbeat::default(),
            message_rate: MessageRateLimits::default(),
            outbox: OutboxLimits::default(),
            stall_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            session_close_timeout: Duration::from_secs(10),
        }
    }
}

/// Options of the connections of one route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// The dialect of the endpoint.
    pub dialect: Dialect,
    /// Maximum size of a client message in bytes. A larger one closes the connection with 1009.
    pub max_message_bytes: usize,
}

impl From<Dialect> for ConnectionOptions {
    fn from(dialect: Dialect) -> Self {
        Self { dialect, max_message_bytes: dialect.max_message_bytes() }
    }
}
