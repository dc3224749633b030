//! The dialects of the WebSocket and server-sent event endpoints.
//!
//! A presence dialect is one file that defines a `SPEC`. To add one: write that file, add a variant to [`Dialect`], and
//! add a route in `http::sockets`. The two versions of Phoenix channels are dialects with their own messages
//! ([`super::phoenix`]). They share [`Encode`] and [`ConnectionPolicy`] with the others.

use super::{
    ClientMessage, ConnectionPolicy, DialectSpec, ErrorCode, Frame, FrameKind, Framing, ServerMessage,
    WireError, context, devices, json::BodyField, phoenix, presence,
};

/// A message that dialects can encode. The hub delivers any implementation.
pub trait Encode: Send + Sync {
    /// Appends the payload for `dialect` to `out` and returns the frame type. `None` (with nothing appended) if the
    /// dialect does not have the message.
    fn encode_into(&self, dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind>;
}

impl Encode for ServerMessage {
    fn encode_into(&self, dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind> {
        dialect.encode_into(self, out)
    }
}

/// The protocol of an endpoint.
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
    /// `/api/presence/events`: server-sent events.
    PresenceEvents,
    /// `/realtime/v1/sse`: server-sent events of one channel.
    ChannelEvents,
}

impl Dialect {
    /// All dialects, in the order of [`Self::index`].
    pub const ALL: [Self; 7] = [
        Self::Presence,
        Self::Devices,
        Self::Context,
        Self::PhoenixV1,
        Self::PhoenixV2,
        Self::PresenceEvents,
        Self::ChannelEvents,
    ];

    /// Number of dialects, for caches with one encoding per dialect.
    pub const COUNT: usize = Self::ALL.len();

    const fn spec(self) -> &'static DialectSpec {
        match self {
            Self::Presence => &presence::SPEC,
            Self::Devices => &devices::SPEC,
            Self::Context => &context::SPEC,
            Self::PhoenixV1 => &phoenix::V1,
            Self::PhoenixV2 => &phoenix::V2,
            Self::PresenceEvents => &presence::EVENTS,
            Self::ChannelEvents => &phoenix::EVENTS,
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

    /// How its frames are sent.
    #[must_use]
    pub const fn framing(self) -> Framing {
        self.spec().framing
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

    /// Prefix of the fields of a client's message in errors, for example `data.`.
    #[must_use]
    pub const fn body_prefix(self) -> &'static str {
        match self {
            Self::Devices => BodyField::PAYLOAD.prefix,
            Self::Presence | Self::Context | Self::PresenceEvents => BodyField::DATA.prefix,
            Self::PhoenixV1 | Self::PhoenixV2 | Self::ChannelEvents => "",
        }
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
