//! Which language a connection speaks.
//!
//! A dialect of presence is one file that ends in a `LANGUAGE`. To add one: write that file, give it a variant of
//! [`Dialect`], and a route in `http::sockets`. The two versions of Phoenix channels are dialects too, with messages
//! of their own ([`super::phoenix`]): what they have in common with the others is [`Encode`] and their [`Manners`].

use std::time::Duration;

use super::{ClientMessage, ErrorCode, ServerMessage, WireError, context, devices, phoenix, presence};

/// One complete message as it came off a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Text, valid UTF-8.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

/// How an encoded message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// As text.
    Text,
    /// As several texts: every line (ended by a line feed) is a frame of its own. For what a dialect can only say
    /// piece by piece; the pieces stay together and in order.
    TextLines,
    /// As bytes.
    Binary,
}

/// Something that can be said in a dialect. The hub fans out whatever implements this.
pub trait Encode: Send + Sync {
    /// Appends the payload for `dialect` to `out` and says how it travels; `None` (and nothing appended) where
    /// the dialect has no words for it.
    fn encode_into(&self, dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind>;
}

/// What a dialect consists of.
#[derive(Debug)]
pub struct DialectSpec {
    /// The name in logs and metrics.
    pub name: &'static str,
    /// The largest message of a client in bytes, unless configured otherwise.
    pub max_message_bytes: usize,
    /// How its connections behave.
    pub policy: ConnectionPolicy,
    /// Its words for presence; `None` for a dialect whose messages are no [`ClientMessage`]s.
    pub presence_codec: Option<PresenceCodec>,
}

/// How a dialect says what [`ClientMessage`] and [`ServerMessage`] mean.
#[derive(Debug)]
pub struct PresenceCodec {
    /// Whether it has words for other people's presence. Sockets of one that has none watch nobody, and cost the
    /// database no look-ups.
    pub includes_other_users: bool,
    /// Reads one frame of a client.
    pub decode: fn(Frame<'_>) -> Result<ClientMessage, WireError>,
    /// Appends the payload of a message; `None` (and nothing appended) where there are no words for it.
    pub encode_into: fn(&ServerMessage, &mut Vec<u8>) -> Option<FrameKind>,
}

/// How connections of a dialect behave beside what they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionPolicy {
    /// What is done about a client that says nothing.
    pub idle: IdlePolicy,
    /// Whether the transport bounds how many messages a client may send. If not, the session does.
    pub is_rate_limited: bool,
    /// What a server that stops closes with.
    pub shutdown_close: ShutdownClose,
}

impl ConnectionPolicy {
    /// Those of the presence dialects.
    pub const PRESENCE: Self =
        Self { idle: IdlePolicy::Ping, is_rate_limited: true, shutdown_close: ShutdownClose::GoingAway };
}

/// What is done about a client that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdlePolicy {
    /// It is pinged, and given up if it does not answer.
    Ping,
    /// It is closed with 1000 and no reason after so long: its own heartbeats keep it open.
    CloseAfter(Duration),
}

/// What a server that stops closes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownClose {
    /// 1001, with a hint when to come back.
    GoingAway,
    /// 1012: there are clients that never come back after a 1001.
    ServiceRestart,
}

/// A language that connections speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Dialect {
    /// Source B: `/api/presence/subscribe`.
    Presence,
    /// Source D, with C's message names: `/ws`.
    Devices,
    /// Source A: `/api/v1/context/ws`.
    Context,
    /// Source S: Phoenix channels, serializer 1.0.0.
    PhoenixV1,
    /// Source S: Phoenix channels, serializer 2.0.0.
    PhoenixV2,
}

impl Dialect {
    /// Every dialect, in the order of [`Self::index`].
    pub const ALL: [Self; 5] =
        [Self::Presence, Self::Devices, Self::Context, Self::PhoenixV1, Self::PhoenixV2];

    /// How many there are; whoever caches one encoding per dialect needs so many places.
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

    /// The place of this dialect among [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.spec().name
    }

    /// The largest message of a client in bytes, unless configured otherwise.
    #[must_use]
    pub const fn max_message_bytes(self) -> usize {
        self.spec().max_message_bytes
    }

    /// How its connections behave beside what they say.
    #[must_use]
    pub const fn connection_policy(self) -> ConnectionPolicy {
        self.spec().policy
    }

    /// Whether it has words for other people's presence.
    #[must_use]
    pub fn includes_other_users(self) -> bool {
        self.spec().presence_codec.as_ref().is_some_and(|words| words.includes_other_users)
    }

    /// Reads a client's message.
    ///
    /// # Errors
    /// Whatever is wrong with the frame, in a form to send back; the socket stays open.
    pub fn decode(self, frame: Frame<'_>) -> Result<ClientMessage, WireError> {
        match &self.spec().presence_codec {
            Some(words) => (words.decode)(frame),
            None => Err(WireError::new(ErrorCode::InvalidRequest, "This dialect has no words for presence.")),
        }
    }

    /// Appends the payload of a message; `None` where this dialect does not say that.
    pub fn encode_into(self, message: &ServerMessage, out: &mut Vec<u8>) -> Option<FrameKind> {
        let words = self.spec().presence_codec.as_ref()?;
        (words.encode_into)(message, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialect_indices_and_names_are_distinct() {
        let mut names: Vec<_> = Dialect::ALL.iter().map(|dialect| dialect.as_str()).collect();
        for (place, dialect) in Dialect::ALL.into_iter().enumerate() {
            assert_eq!(dialect.index(), place);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Dialect::COUNT);
    }
}
