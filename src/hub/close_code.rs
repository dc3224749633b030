//! Close codes, their default reasons, and whether clients should reconnect.

/// Close code of a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    Normal,
    /// The server shuts down, or the peer leaves the page.
    GoingAway,
    /// A frame violates RFC 6455.
    ProtocolError,
    /// A message type that this endpoint does not accept.
    Unsupported,
    /// A text message that is not valid UTF-8.
    InvalidPayload,
    /// A message violates the endpoint's rules.
    PolicyViolation,
    /// A message exceeds the size limit.
    TooBig,
    /// An internal error of the server on this connection.
    InternalError,
    ServiceRestart,
    /// The peer reads too slowly, or the server is at its maximum of connections.
    TryAgainLater,
    /// The connection has no valid user.
    Unauthorized,
    /// The token expired and no new one was sent.
    TokenExpired,
    /// An administrator disconnected the user.
    Disconnected,
    /// The peer exceeded the message rate for several seconds.
    RateLimitExceeded,
}

/// Properties of one code.
struct Row {
    number: u16,
    reason: &'static str,
    reconnect: bool,
}

impl CloseCode {
    /// All codes that this server sends.
    pub const ALL: [Self; 14] = [
        Self::Normal,
        Self::GoingAway,
        Self::ProtocolError,
        Self::Unsupported,
        Self::InvalidPayload,
        Self::PolicyViolation,
        Self::TooBig,
        Self::InternalError,
        Self::ServiceRestart,
        Self::TryAgainLater,
        Self::Unauthorized,
        Self::TokenExpired,
        Self::Disconnected,
        Self::RateLimitExceeded,
    ];

    const fn row(self) -> Row {
        let (number, reason, reconnect) = match self {
            Self::Normal => (1000, "bye", false),
            Self::GoingAway => (1001, "going away", true),
            Self::ProtocolError => (1002, "protocol error", false),
            Self::Unsupported => (1003, "unsupported data", false),
            Self::InvalidPayload => (1007, "invalid UTF-8", false),
            Self::PolicyViolation => (1008, "policy violation", false),
            Self::TooBig => (1009, "message too big", false),
            Self::InternalError => (1011, "internal error", true),
            Self::ServiceRestart => (1012, "service restart", true),
            Self::TryAgainLater => (1013, "slow consumer", true),
            // Clients of the context socket expect this capitalization.
            Self::Unauthorized => (4001, "Unauthorized", false),
            Self::TokenExpired => (4401, "token expired", false),
            // The token may still be valid. To keep a user out, also revoke the token.
            Self::Disconnected => (4403, "disconnected by an administrator", true),
            Self::RateLimitExceeded => (4429, "too many messages", true),
        };
        Row { number, reason, reconnect }
    }

    #[must_use]
    pub const fn number(self) -> u16 {
        self.row().number
    }

    #[must_use]
    pub const fn reason(self) -> &'static str {
        self.row().reason
    }

    /// Whether a client should reconnect (after a pause) with the same credentials.
    #[must_use]
    pub const fn reconnect(self) -> bool {
        self.row().reconnect
    }

    /// Whether a peer may send this number in a close frame: RFC 6455 section 7.4, and the IANA registry for
    /// 1012 to 1014.
    #[must_use]
    pub const fn is_valid_number(number: u16) -> bool {
        matches!(number, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_distinct_and_valid_and_reasons_fit() {
        let mut numbers: Vec<_> = CloseCode::ALL.iter().map(|code| code.number()).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), CloseCode::ALL.len());
        for code in CloseCode::ALL {
            assert!(CloseCode::is_valid_number(code.number()));
            // A control frame has at most 125 bytes, two of which are the code.
            assert!(code.reason().len() <= 123);
        }
    }

    #[test]
    fn reserved_numbers_are_invalid() {
        for number in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2999, 5000, u16::MAX] {
            assert!(!CloseCode::is_valid_number(number), "{number}");
        }
    }
}
