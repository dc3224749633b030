//! How people are related: contacts, blocks, conversations.

use jiff::Timestamp;
use serde::Serialize;

use super::{ConversationId, UserId, milliseconds};

/// How far a contact has come, as one side sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactStatus {
    /// The other side asks; the caller may accept.
    PendingIn,
    /// The caller asked.
    PendingOut,
    /// Both agreed.
    Accepted,
}

impl ContactStatus {
    /// From who asked, and whether the other side accepted.
    #[must_use]
    pub const fn from_request(asked_by_me: bool, accepted: bool) -> Self {
        match (accepted, asked_by_me) {
            (true, _) => Self::Accepted,
            (false, true) => Self::PendingOut,
            (false, false) => Self::PendingIn,
        }
    }
}

/// A contact or a request, as the caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contact {
    /// The other side.
    pub user_id: UserId,
    /// How far it has come.
    pub status: ContactStatus,
    /// When it was asked for.
    #[serde(serialize_with = "milliseconds::always")]
    pub created_at: Timestamp,
    /// When it was accepted.
    #[serde(serialize_with = "milliseconds::option")]
    pub accepted_at: Option<Timestamp>,
}

/// Somebody whom the caller blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Block {
    /// Whom.
    pub user_id: UserId,
    /// Since when.
    #[serde(serialize_with = "milliseconds::always")]
    pub created_at: Timestamp,
}

/// A conversation as one of its participants sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conversation {
    /// Which.
    pub id: ConversationId,
    /// What it is called.
    pub title: Option<String>,
    /// Who began it.
    pub created_by: UserId,
    /// When.
    #[serde(serialize_with = "milliseconds::always")]
    pub created_at: Timestamp,
    /// Who takes part, in order of joining.
    pub participant_ids: Vec<UserId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_in_or_out_until_it_is_accepted() {
        assert_eq!(ContactStatus::from_request(true, false), ContactStatus::PendingOut);
        assert_eq!(ContactStatus::from_request(false, false), ContactStatus::PendingIn);
        assert_eq!(ContactStatus::from_request(true, true), ContactStatus::Accepted);
        assert_eq!(serde_json::to_value(ContactStatus::PendingIn).expect("serializes"), "pending_in");
    }
}
