//! The dialects of the WebSocket endpoints.
//!
//! A presence dialect is one file that defines a `SPEC`. To add one: write that file, add a variant to [`Dialect`], and
//! add a route in `http::sockets`. The two versions of Phoenix channels are dialects with their own messages
//! ([`super::phoenix`]). They share [`Encode`] and [`ConnectionPolicy`] with the others.

use std::time::Duration;

use super::{ClientMessage, ErrorCode, ServerMessage, WireError, context, devices, phoenix, presence};

/// One complete WebSocket message from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A text message, valid UTF-8.
    Text(&'a str),
    Binary(&'a [u8]),
}

/// The frame type of an encoded message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    Text,
    /// Several text frames: each line (ended by a line feed) is one frame. For messages that a dialect splits; the
    /// frames stay together and in order.
    TextLines,
    Binary,
}

/// A message that dialects can encode. The hub delivers any implementation.
pub trait Encode: Send + Sync {
    /// Appends the payload for `dialect` to `out` and returns the frame type. `None` (with nothing appended) if the
    /// dialect does not have the message.
    fn encode_into(&self, dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind>;
}

/// The definition of a dialect.
#[derive(Debug)]
pub struct DialectSpec {
    /// Name in logs and metrics.
    pub name: &'static str,
    /// Default maximum size of a client message, in bytes.
    pub max_message_bytes: usize,
    /// The behavior of its connections.
    pub policy: ConnectionPolicy,
    /// The codec of presence messages; `None` for a dialect whose messages are not [`ClientMessage`]s.
    pub presence_codec: Option<PresenceCodec>,
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
}

/// How silent clients are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdlePolicy {
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

/// The protocol of a WebSocket endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Dialect {
    /// `/api/presence/subscribe`.
    Presence,
    /// `/ws`.
    Devices,
    /// `/api/v1/context/ws`.
    Context,
    /// Phoenix channels, serializer 1.0.0.
    PhoenixV1,
    /// Phoenix channels, serializer 2.0.0.
    PhoenixV2,
}

impl Dialect {
    /// All dialects, in the order of [`Self::index`].
    pub const ALL: [Self; 5] =
        [Self::Presence, Self::Devices, Self::Context, Self::PhoenixV1, Self::PhoenixV2];

    /// Number of dialects, for caches with one encoding per dialect.
    pub const COUNT: usize = Self::ALL.len();

    const fn spec(self) -> &'static DialectSpec {
        match self {
            Self::Presence => &presence::SPEC,
            Self::Devices => &devices::SPEC,
            Self::Context => &context::SPEC,
            Self::PhoenixV1 => &phoenix::V1,
            Self::PhoenixV2 => &phoenix::V2,
        }
    }

    /// Index of this dialect in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.spec().name
    }

    /// Default maximum size of a client message, in bytes.
    #[must_use]
    pub const fn max_message_bytes(self) -> usize {
        self.spec().max_message_bytes
    }

    /// The behavior of its connections.
    #[must_use]
    pub const fn connection_policy(self) -> ConnectionPolicy {
        self.spec().policy
    }

    /// Whether it has messages about other users' presence.
    #[must_use]
    pub fn includes_other_users(self) -> bool {
        self.spec().presence_codec.as_ref().is_some_and(|codec| codec.includes_other_users)
    }

    /// Decodes a client's message.
    ///
    /// # Errors
    /// The error to send to the client. The socket stays open.
    pub fn decode(self, frame: Frame<'_>) -> Result<ClientMessage, WireError> {
        match &self.spec().presence_codec {
            Some(codec) => (codec.decode)(frame),
            None => Err(WireError::new(
                ErrorCode::InvalidRequest,
                "This endpoint does not accept presence messages.",
            )),
        }
    }

    /// Appends the payload of a message; `None` if the dialect does not have it.
    pub fn encode_into(self, message: &ServerMessage, out: &mut Vec<u8>) -> Option<FrameKind> {
        let codec = self.spec().presence_codec.as_ref()?;
        (codec.encode_into)(message, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialect_indices_and_names_are_distinct() {
        let mut names: Vec<_> = Dialect::ALL.iter().map(|dialect| dialect.as_str()).collect();
        for (index, dialect) in Dialect::ALL.into_iter().enumerate() {
            assert_eq!(dialect.index(), index);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Dialect::COUNT);
    }
}
