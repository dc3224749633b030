//! What clients and server can say to each other, whatever the dialect.

use std::{fmt, sync::Arc};

use garde::Validate;
use jiff::Timestamp;

use super::{Dialect, Encode, FrameKind, WireError};
use crate::model::{ConversationId, CustomEvent, DeviceId, Presence, Status, TypingState, UserId};

/// What the server says.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerMessage {
    /// Everybody the viewer may see: the first frame of a socket, and after a resync.
    InitialState(Vec<Arc<Presence>>),
    /// One user's presence has changed.
    Presence(Arc<Presence>),
    /// Somebody types, or has stopped.
    Typing(TypingState),
    /// Something that the operator's back end sends, in its own words.
    Custom(CustomEvent),
    /// A heartbeat has been noted.
    HeartbeatAck {
        /// The server's wall time.
        server_time: Timestamp,
    },
    /// A status has been committed; carries the user's own presence after it.
    StatusAck(Arc<Presence>),
    /// Something was wrong with what the client said, or with its session.
    Error(WireError),
}

impl Encode for ServerMessage {
    fn encode_into(&self, dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind> {
        dialect.encode_into(self, out)
    }
}

/// What a client says.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientMessage {
    /// Sets the status and what goes with it.
    Status(StatusUpdate),
    /// The client is alive.
    Heartbeat {
        /// Whether somebody is using the device; `None` where the client does not say.
        active: Option<bool>,
    },
    /// The user types, or has stopped.
    Typing {
        /// Where.
        conversation_id: ConversationId,
        /// Typing, or stopped.
        is_typing: bool,
    },
    /// Follows further users, as far as they are visible.
    Subscribe(Subscription),
    /// Brings a fresh token before the old one runs out.
    Authenticate(Token),
}

/// A token on its way to verification; it does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes the token as it came.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The token itself, for whoever verifies it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The users that a client wants to follow beyond those it is related to.
#[derive(Debug, Clone, PartialEq, Eq, Validate)]
pub struct Subscription {
    /// 1 to 1,000 of them.
    #[garde(length(min = 1, max = Self::MAX_USERS))]
    pub user_ids: Vec<UserId>,
}

impl Subscription {
    /// The most ids in one message.
    pub const MAX_USERS: usize = 1_000;
}

/// A status with what goes with it. In the optional fields the outer `None` leaves what is there as it is,
/// and `Some(None)` (JSON `null`) clears it.
#[derive(Debug, Clone, PartialEq, Eq, Validate)]
pub struct StatusUpdate {
    /// The new status.
    #[garde(skip)]
    pub status: Status,
    /// Which device says so; `None` for the device of the connection.
    #[garde(skip)]
    pub device_id: Option<DeviceId>,
    /// What the user writes: at most 140 characters after trimming.
    #[garde(inner(inner(custom(at_most::<{ Self::MAX_TEXT_CHARS }>))))]
    pub custom_status: Option<Option<String>>,
    /// When the custom status ends.
    #[garde(skip)]
    pub custom_status_expires_at: Option<Option<Timestamp>>,
    /// What the user does: at most 140 characters after trimming.
    #[garde(inner(inner(custom(at_most::<{ Self::MAX_TEXT_CHARS }>))))]
    pub activity: Option<Option<String>>,
    /// Where the user does it: at most 2,048 characters after trimming.
    #[garde(inner(inner(custom(at_most::<{ Self::MAX_PAGE_CHARS }>))))]
    pub current_page: Option<Option<String>>,
}

impl StatusUpdate {
    /// The longest custom status and activity, in characters after trimming.
    pub const MAX_TEXT_CHARS: usize = 140;
    /// The longest page, in characters after trimming; what browsers agree on for a URL.
    pub const MAX_PAGE_CHARS: usize = 2_048;

    /// A bare status.
    #[must_use]
    pub const fn of(status: Status) -> Self {
        Self {
            status,
            device_id: None,
            custom_status: None,
            custom_status_expires_at: None,
            activity: None,
            current_page: None,
        }
    }
}

// The signature is garde's.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "garde passes the context by reference")]
fn at_most<const MAX: usize>(text: &str, _context: &()) -> garde::Result {
    if text.trim().chars().count() <= MAX {
        Ok(())
    } else {
        Err(garde::Error::new(format!("must have at most {MAX} characters")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_status_has_140_characters_after_trimming() {
        let update = |text: String| StatusUpdate {
            custom_status: Some(Some(text)),
            ..StatusUpdate::of(Status::Online)
        };
        assert!(update(format!("  {}  ", "é".repeat(140))).validate().is_ok());
        let report = update("é".repeat(141)).validate().expect_err("one too many");
        assert!(report.to_string().starts_with("custom_status"), "{report}");
    }

    #[test]
    fn a_token_does_not_print() {
        let message = ClientMessage::Authenticate(Token::new("secret".into()));
        assert!(!format!("{message:?}").contains("secret"));
    }
}
