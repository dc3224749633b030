//! The definition of a dialect: its codec and the behavior of its connections.

use std::time::Duration;

use super::{ClientMessage, Frame, FrameKind, ServerMessage, WireError};

/// The definition of a dialect.
#[derive(Debug)]
pub struct DialectSpec {
    /// Name in logs and metrics.
    pub name: &'static str,
    /// How its frames are sent.
    pub framing: Framing,
    /// Default maximum size of a client message, in bytes.
    pub max_message_bytes: usize,
    /// The behavior of its connections.
    pub policy: ConnectionPolicy,
    /// The codec of presence messages; `None` for a dialect whose messages are not [`ClientMessage`]s.
    pub presence_codec: Option<PresenceCodec>,
}

/// How frames are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    WebSocket,
    /// Server-sent events in the body of a response, in one direction.
    EventStream,
}

/// The codec of a dialect for [`ClientMessage`] and [`ServerMessage`].
#[derive(Debug)]
pub struct PresenceCodec {
    /// Whether the dialect has messages about other users' presence. Sockets of a dialect without them watch nobody and
    /// cause no visibility lookups.
    pub includes_other_users: bool,
    /// Decodes one client frame.
    pub decode: fn(Frame<'_>) -> Result<ClientMessage, WireError>,
    /// Appends the payload of a message. `None` (with nothing appended) if the dialect does not have it.
    pub encode_into: fn(&ServerMessage, &mut Vec<u8>) -> Option<FrameKind>,
}

/// The behavior of a dialect's connections apart from its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionPolicy {
    /// How silent clients are handled.
    pub idle: IdlePolicy,
    /// Whether the transport limits the client's message rate. Otherwise the session does.
    pub is_rate_limited: bool,
    /// How connections are closed at shutdown.
    pub shutdown_close: ShutdownClose,
}

impl ConnectionPolicy {
    /// The policy of the presence dialects.
    pub const PRESENCE: Self =
        Self { idle: IdlePolicy::Ping, is_rate_limited: true, shutdown_close: ShutdownClose::GoingAway };
    /// The policy of server-sent events.
    pub const EVENTS: Self = Self { idle: IdlePolicy::KeepAlive, ..Self::PRESENCE };
}

/// How silent clients are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdlePolicy {
    /// The client sends nothing. A comment is sent in intervals, so that proxies keep the connection and its end is
    /// noticed by TCP.
    KeepAlive,
    /// The client is pinged and disconnected if it does not answer.
    Ping,
    /// The connection is closed with code 1000 and no reason after this time without data. The client keeps it open
    /// with heartbeats.
    CloseAfter(Duration),
}

/// How connections are closed at shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownClose {
    /// Close code 1001 with a reconnect delay in the reason.
    GoingAway,
    /// Close code 1012: some clients never reconnect after 1001.
    ServiceRestart,
}
