//! Close codes: the one table of what they mean and whether coming back makes sense.

/// Why a WebSocket is closed, as the peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// Done.
    Normal,
    /// The server goes away, or the peer leaves the page.
    GoingAway,
    /// A frame that RFC 6455 does not allow.
    ProtocolError,
    /// A kind of message that this endpoint does not take.
    Unsupported,
    /// Text that is not UTF-8.
    InvalidPayload,
    /// A message against the endpoint's rules.
    PolicyViolation,
    /// A message over the size limit.
    TooBig,
    /// The server failed on this connection.
    InternalError,
    /// The server restarts.
    ServiceRestart,
    /// The peer reads too slowly, or the server is full.
    TryAgainLater,
    /// There is no valid user.
    Unauthorized,
    /// The token ran out and no fresh one came.
    TokenExpired,
    /// An administrator ended the user's sockets.
    Disconnected,
    /// The peer keeps sending more than the limit allows.
    RateLimitExceeded,
}

/// One row of the table.
struct Row {
    number: u16,
    reason: &'static str,
    reconnect: bool,
}

impl CloseCode {
    /// Every code that this server sends.
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
            // As source A's clients expect it.
            Self::Unauthorized => (4001, "Unauthorized", false),
            Self::TokenExpired => (4401, "token expired", false),
            // The token may still be good: who is to stay out must lose that too.
            Self::Disconnected => (4403, "disconnected by an administrator", true),
            Self::RateLimitExceeded => (4429, "too many messages", true),
        };
        Row { number, reason, reconnect }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.row().number
    }

    /// The reason that is sent where nobody gives a better one.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        self.row().reason
    }

    /// Whether a client does well to connect again (after a pause) with the same credentials.
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
            // A control frame has 125 bytes, two of which are the number.
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
