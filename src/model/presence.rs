//! What one viewer is told of one user.

use jiff::Timestamp;
use serde::Serialize;

use super::{ConversationId, Reach, Status, UserId, milliseconds};

/// One face of one user: a row of `user_presence` as row-level security returned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Whose.
    pub user_id: UserId,
    /// The full value (`availability` in source B, `online_status` in D).
    pub status: Status,
    /// The three-valued one (`status` in source B).
    pub reach: Reach,
    /// The last moment at which any device was live; `None` where it is not shared.
    pub last_seen: Option<Timestamp>,
    /// What the user wrote.
    pub custom_status: Option<String>,
    /// What the user does.
    pub activity: Option<String>,
    /// Where the user does it.
    pub current_page: Option<String>,
    /// Since when every live device has been idle.
    pub idle_since: Option<Timestamp>,
}

impl Presence {
    /// What a viewer is told of somebody who ceased to be visible: nothing that a never-seen user would not show.
    #[must_use]
    pub fn hidden(user_id: UserId) -> Self {
        Self {
            user_id,
            status: Status::Offline,
            reach: Reach::Offline,
            last_seen: None,
            custom_status: None,
            activity: None,
            current_page: None,
            idle_since: None,
        }
    }
}

/// A user in a conversation, typing or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypingUser {
    /// Where.
    pub conversation_id: ConversationId,
    /// Who.
    pub user_id: UserId,
}

/// Somebody types, or has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypingState {
    /// Who.
    pub user_id: UserId,
    /// Where.
    pub conversation_id: ConversationId,
    /// Typing, or stopped.
    pub is_typing: bool,
}

/// One user as source D's clients know them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PresenceSummary {
    /// Whose.
    pub user_id: UserId,
    /// The full value.
    pub online_status: Status,
    /// What the user wrote.
    pub custom_status: Option<String>,
    /// The last moment at which any device was live; `None` where it is not shared.
    #[serde(serialize_with = "milliseconds::option")]
    pub last_seen_at: Option<Timestamp>,
    /// How many devices are live; one to whoever may not see them.
    pub devices_online: i64,
}
