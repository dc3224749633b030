//! Presence and typing as shown to one viewer.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use serde::Serialize;

use super::{ConversationKey, Reach, Status, UserId, milliseconds};

/// One face of one user: a row of `user_presence` as row-level security returned it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Presence {
    /// ID of the user.
    pub user_id: UserId,
    /// The full status: `availability` in the presence dialect, `online_status` in the devices dialect.
    pub status: Status,
    /// The reach: `status` in the presence dialect.
    pub reach: Reach,
    /// When a device was last live; `None` if the user does not share it.
    pub last_seen: Option<Timestamp>,
    pub custom_status: Option<String>,
    pub activity: Option<String>,
    pub current_page: Option<String>,
    /// Since when all live devices have been idle.
    pub idle_since: Option<Timestamp>,
}

impl Presence {
    /// A number that differs, except by chance, for another content. Versions cannot be compared: they go back when
    /// the database is restored or fails over.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// The presence shown for a user who is no longer visible. It equals that of a user who was never seen.
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

/// A user in a conversation, the key of a typing state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TypingUser {
    pub conversation_id: ConversationKey,
    pub user_id: UserId,
}

/// Whether a user is typing in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypingState {
    pub user_id: UserId,
    pub conversation_id: ConversationKey,
    /// `true` while typing, `false` after stopping.
    pub is_typing: bool,
}

/// The presence of one user in the format of the devices API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PresenceSummary {
    /// ID of the user (UUID).
    pub user_id: UserId,
    /// Status that the caller sees.
    pub online_status: Status,
    /// Custom status text; `null` without one.
    #[schema(required)]
    pub custom_status: Option<String>,
    /// Time at which a device was last live; `null` if the user does not share it.
    #[serde(serialize_with = "milliseconds::option")]
    #[schema(required)]
    pub last_seen_at: Option<Timestamp>,
    /// Number of live devices; 1 if the viewer may not see the user's devices.
    #[schema(minimum = 0)]
    pub devices_online: i64,
}
