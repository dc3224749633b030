//! What clients and server can say to each other, whatever the dialect.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use garde::Validate;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{Dialect, Encode, FrameKind, WireError};
use crate::model::{
    ConversationId, CustomEvent, DeviceContext, DeviceId, LocalTime, NotebookId, PersonaId, Presence, Status,
    TypingState, UserId,
};

/// What the server says.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerMessage {
    /// The socket is open; before everything else.
    Connected(Welcome),
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
    /// The answer to a client's [`ClientMessage::Ping`].
    Pong,
    /// What the user does on another of the user's own devices.
    ContextSync(Arc<DeviceContext>),
    /// A piece of context has been compiled ahead of the next question.
    BundleReady {
        /// Which kind: `identity_core`, `topic`, ….
        bundle_type: Cow<'static, str>,
        /// Which one.
        bundle_id: Uuid,
        /// Rises with every compilation.
        version: i64,
    },
    /// Something was wrong with what the client said, or with its session.
    Error(WireError),
}

impl Encode for ServerMessage {
    fn encode_into(&self, dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind> {
        dialect.encode_into(self, out)
    }
}

/// What a client is told of its own connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The connection's id on its node, for logs on both sides.
    pub client_id: Box<str>,
    /// Who the client is.
    pub user_id: UserId,
    /// On which device.
    pub device_id: DeviceId,
    /// The server's wall time.
    pub server_time: Timestamp,
    /// How often the client does well to say something.
    pub heartbeat_interval: Duration,
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
    /// Wants a [`ServerMessage::Pong`].
    Ping,
    /// What the user does on the device, for the user's other devices and for what is prepared ahead.
    Context(ContextUpdate),
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
    pub const fn with_status(status: Status) -> Self {
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

/// What the user does on a device. A field that is not there (the outer `None`) leaves what is known as it is, and
/// `Some(None)` (JSON `null`) clears it. Serialises to the fields that are there, in the columns' names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContextUpdate {
    /// Which device.
    #[serde(skip)]
    pub device_id: DeviceId,
    /// The conversation that is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_conversation_id: Option<Option<ConversationId>>,
    /// The conversations that are in view, as in a sidebar; at most 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visible_conversation_ids: Option<Vec<ConversationId>>,
    /// The notebook that is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_notebook_id: Option<Option<NotebookId>>,
    /// The persona that is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_persona_id: Option<Option<PersonaId>>,
    /// Where in the application the user is: at most 2,048 characters after trimming.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_navigation_path: Option<Option<String>>,
    /// The time of day where the user is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_time: Option<Option<LocalTime>>,
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
            ..StatusUpdate::with_status(Status::Online)
        };
        assert!(update(format!("  {}  ", "é".repeat(140))).validate().is_ok());
        let report = update("é".repeat(141)).validate().expect_err("one too many");
        assert!(report.to_string().starts_with("custom_status"), "{report}");
    }

    #[test]
    fn debug_output_omits_the_token() {
        let message = ClientMessage::Authenticate(Token::new("secret".into()));
        assert!(!format!("{message:?}").contains("secret"));
    }
}
