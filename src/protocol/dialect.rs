//! Which language a connection speaks.

use super::{ClientMessage, ServerMessage, WireError, presence};

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
    /// As bytes.
    Binary,
}

/// Something that can be said in a dialect. The hub fans out whatever implements this.
pub trait Encode: Send + Sync {
    /// Appends the payload for `dialect` to `out` and says how it travels; `None` (and nothing appended) where
    /// the dialect has no words for it.
    fn encode_into(&self, dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind>;
}

/// A language that connections speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Dialect {
    /// Source B: `/api/presence/subscribe`.
    Presence,
}

impl Dialect {
    /// Every dialect, in the order of [`Self::index`].
    pub const ALL: [Self; 1] = [Self::Presence];

    /// How many there are; whoever caches one encoding per dialect needs so many places.
    pub const COUNT: usize = Self::ALL.len();

    /// The place of this dialect among [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Presence => "presence",
        }
    }

    /// The largest message of a client in bytes, unless configured otherwise.
    #[must_use]
    pub const fn max_message_bytes(self) -> usize {
        match self {
            Self::Presence => 64 * 1024,
        }
    }

    /// Reads a client's message.
    ///
    /// # Errors
    /// Whatever is wrong with the frame, in a form to send back; the socket stays open.
    pub fn decode(self, frame: Frame<'_>) -> Result<ClientMessage, WireError> {
        match self {
            Self::Presence => presence::decode(frame),
        }
    }

    /// Appends the payload of a message; `None` where this dialect does not say that.
    pub fn encode_into(self, message: &ServerMessage, out: &mut Vec<u8>) -> Option<FrameKind> {
        match self {
            Self::Presence => presence::encode_into(message, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialect_sits_at_its_own_index() {
        for (place, dialect) in Dialect::ALL.into_iter().enumerate() {
            assert_eq!(dialect.index(), place);
        }
    }
}
