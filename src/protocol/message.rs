//! Messages between clients and server, independent of the dialect.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use garde::Validate;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::WireError;
use crate::model::{
    ConversationId, ConversationKey, CustomEvent, DeviceContext, DeviceId, LocalTime, NotebookId, PersonaId,
    Position, Presence, Status, TypingState, UserId,
};

/// A message of the server.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerMessage {
    /// The first message of a socket.
    Connected(Welcome),
    /// The first state of a socket: all presences visible to the viewer, or those that differ from the state that the
    /// client has.
    InitialState {
        presences: Vec<Arc<Presence>>,
        /// Present if the client can be resumed.
        position: Option<StatePosition>,
    },
    /// The position of everything that was sent before.
    Position(Position),
    /// The presence of one user changed.
    Presence(Arc<Presence>),
    /// A user started or stopped typing.
    Typing(TypingState),
    /// A custom event from the operator's back end.
    Custom(CustomEvent),
    HeartbeatAck {
        server_time: Timestamp,
    },
    /// Acknowledges a committed status; carries the user's own presence after it.
    StatusAck(Arc<Presence>),
    /// The response to [`ClientMessage::Ping`].
    Pong,
    /// The context of another device of the same user.
    ContextSync(Arc<DeviceContext>),
    /// A context bundle was compiled.
    BundleReady {
        /// Bundle type: `identity_core`, `topic`, ….
        bundle_type: Cow<'static, str>,
        /// ID of the bundle.
        bundle_id: Uuid,
        /// Version, increased by every compilation.
        version: i64,
    },
    /// An error in a client message or in the session.
    Error(WireError),
}

/// The position of a state, and what the state contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatePosition {
    /// Whether the state holds only what differs from the one that the client has.
    pub resumed: bool,
    pub position: Position,
}

/// Information about the client's own connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// Random ID of the connection, for logs on both sides.
    pub client_id: Uuid,
    pub user_id: UserId,
    /// The device of the connection.
    pub device_id: DeviceId,
    pub server_time: Timestamp,
    /// Recommended interval between client heartbeats.
    pub heartbeat_interval: Duration,
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientMessage {
    /// Sets the status and its optional fields.
    Status(StatusUpdate),
    Heartbeat {
        /// Whether the device is in use; `None` if the client does not report it.
        active: Option<bool>,
    },
    /// The user started or stopped typing.
    Typing {
        conversation_id: ConversationKey,
        /// `true` while typing, `false` after stopping.
        is_typing: bool,
    },
    /// Requests a [`ServerMessage::Pong`].
    Ping,
    /// The device's context, for the user's other devices and for context prediction.
    Context(ContextUpdate),
    /// Subscribes to more users, as far as they are visible.
    Subscribe(Subscription),
    /// A new token before the current one expires.
    Authenticate(Token),
}

/// A token that is not verified yet. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Wraps the token text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The token text, for verification.
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

/// What a client subscribes to: further users, those on one page, or both.
#[derive(Debug, Clone, PartialEq, Eq, Validate)]
pub struct Subscription {
    /// 1 to 1,000 user IDs in addition to the client's relations; required without a page.
    #[garde(inner(length(min = 1, max = Self::MAX_USERS)))]
    pub user_ids: Option<Vec<UserId>>,
    /// Page whose users the client receives. The outer `None` keeps the current one, `Some(None)` receives all users.
    #[garde(inner(inner(custom(max_chars::<{ StatusUpdate::MAX_PAGE_CHARS }>))))]
    pub current_page: Option<Option<String>>,
}

impl Subscription {
    /// Maximum number of IDs in one message.
    pub const MAX_USERS: usize = 1_000;
}

/// A status with its optional fields. In those, the outer `None` keeps the current value, and `Some(None)` (JSON
/// `null`) clears it.
#[derive(Debug, Clone, PartialEq, Eq, Validate)]
pub struct StatusUpdate {
    #[garde(skip)]
    pub status: Status,
    /// The device that reports it; `None` for the device of the connection.
    #[garde(skip)]
    pub device_id: Option<DeviceId>,
    /// Custom status text: at most 140 characters after trimming.
    #[garde(inner(inner(custom(max_chars::<{ Self::MAX_TEXT_CHARS }>))))]
    pub custom_status: Option<Option<String>>,
    /// Expiry time of the custom status.
    #[garde(skip)]
    pub custom_status_expires_at: Option<Option<Timestamp>>,
    /// Activity text: at most 140 characters after trimming.
    #[garde(inner(inner(custom(max_chars::<{ Self::MAX_TEXT_CHARS }>))))]
    pub activity: Option<Option<String>>,
    /// Current page: at most 2,048 characters after trimming.
    #[garde(inner(inner(custom(max_chars::<{ Self::MAX_PAGE_CHARS }>))))]
    pub current_page: Option<Option<String>>,
    /// The device goes to the background; `None` if it is in use.
    #[garde(custom(background_fits(self.status, self.background)))]
    pub background: Option<Background>,
}

/// Time for which a device in the background stays away after its socket closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// The server's setting `BACKGROUND_GRACE`.
    Default,
    /// As many seconds, from 1 to [`MAX_SECONDS`](Self::MAX_SECONDS).
    Seconds(u32),
}

impl Background {
    /// Maximum number of seconds: a day.
    pub const MAX_SECONDS: u32 = 86_400;

    /// From the two fields of a message: whether the device is in the background, and for how many seconds. The seconds
    /// alone suffice; they are range-checked before.
    #[must_use]
    pub const fn from_fields(background: Option<bool>, seconds: Option<u32>) -> Option<Self> {
        match (background, seconds) {
            (Some(false), _) | (None, None) => None,
            (_, Some(seconds)) => Some(Self::Seconds(seconds)),
            (Some(true), None) => Some(Self::Default),
        }
    }
}

/// Validates that a device with the status can be in the background.
pub(crate) fn background_fits<T>(
    status: Status,
    background: Option<Background>,
) -> impl FnOnce(&Option<T>, &()) -> garde::Result {
    move |_, ()| {
        if background.is_some() && matches!(status, Status::Online | Status::Offline) {
            return Err(garde::Error::new("must not be set with status online or offline"));
        }
        Ok(())
    }
}

impl StatusUpdate {
    /// Maximum length of custom status and activity, in characters after trimming.
    pub const MAX_TEXT_CHARS: usize = 140;
    /// Maximum length of a page, in characters after trimming: the URL length that all browsers support.
    pub const MAX_PAGE_CHARS: usize = 2_048;

    /// An update of the status only.
    #[must_use]
    pub const fn with_status(status: Status) -> Self {
        Self {
            status,
            device_id: None,
            custom_status: None,
            custom_status_expires_at: None,
            activity: None,
            current_page: None,
            background: None,
        }
    }
}

/// The context of a device. An absent field (outer `None`) keeps the current value, and `Some(None)` (JSON `null`)
/// clears it. Serializes to the present fields, named as the columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContextUpdate {
    #[serde(skip)]
    pub device_id: DeviceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_conversation_id: Option<Option<ConversationId>>,
    /// The visible conversations, for example in a sidebar; at most 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visible_conversation_ids: Option<Vec<ConversationId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_notebook_id: Option<Option<NotebookId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_persona_id: Option<Option<PersonaId>>,
    /// The page in the application: at most 2,048 characters after trimming.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_navigation_path: Option<Option<String>>,
    /// The user's local time of day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_time: Option<Option<LocalTime>>,
}

// garde defines the signature.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "garde passes the context by reference")]
pub(crate) fn max_chars<const MAX: usize>(text: &str, _context: &()) -> garde::Result {
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
        let report = update("é".repeat(141)).validate().expect_err("141 characters");
        assert!(report.to_string().starts_with("custom_status"), "{report}");
    }

    #[test]
    fn debug_output_omits_the_token() {
        let message = ClientMessage::Authenticate(Token::new("secret".into()));
        assert!(!format!("{message:?}").contains("secret"));
    }
}
