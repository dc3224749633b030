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
            // Final: an administrator who lets the user back in tells them.
            Self::Disconnected => (4403, "disconnected by an administrator", false),
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

    /// When the server sends the code, and what the client should do.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Normal => "The client closed the socket, or a channel socket was idle for 60 s.",
            Self::GoingAway => {
                "The server shuts down. The reason names the milliseconds to wait before a reconnect."
            }
            Self::ProtocolError => "A frame violates RFC 6455. Correct the client.",
            Self::Unsupported => "The endpoint does not accept the type of the message. Correct the client.",
            Self::InvalidPayload => "A text message is not valid UTF-8. Correct the client.",
            Self::PolicyViolation => "A message violates a rule of the endpoint. Correct the client.",
            Self::TooBig => "A message exceeds the maximum size of the endpoint. Send smaller messages.",
            Self::InternalError => "The connection failed in the server. The log contains the cause.",
            Self::ServiceRestart => "The server restarts. Reconnect after a random pause.",
            Self::TryAgainLater => {
                "The client reads too slowly, or the server has its maximum of connections. Reconnect after a pause."
            }
            Self::Unauthorized => "The socket has no valid user. Connect again with a valid token.",
            Self::TokenExpired => {
                "The token expired and no new one was sent. Connect again with a new token."
            }
            Self::Disconnected => {
                "An administrator, or `rollcall.disconnect`, disconnected the user. Do not reconnect by yourself."
            }
            Self::RateLimitExceeded => {
                "The client sent more than twice the permitted rate for 5 s. Reconnect after a pause and send less."
            }
        }
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
    fn a_disconnect_by_an_administrator_is_final() {
        assert_eq!(CloseCode::Disconnected.number(), 4403);
        assert!(!CloseCode::Disconnected.reconnect());
    }

    #[test]
    fn reserved_numbers_are_invalid() {
        for number in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2999, 5000, u16::MAX] {
            assert!(!CloseCode::is_valid_number(number), "{number}");
        }
    }
}
