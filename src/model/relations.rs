//! Relations between users: contacts, blocks, conversations.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{ConversationId, UserId, milliseconds};

/// State of a contact, as seen by one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContactStatus {
    /// The other side sent a request that the caller may accept.
    PendingIn,
    /// The caller sent a request.
    PendingOut,
    /// The request was accepted.
    Accepted,
}

impl ContactStatus {
    /// Derives the state from the requesting side and the acceptance.
    #[must_use]
    pub const fn from_request(requested_by_caller: bool, accepted: bool) -> Self {
        match (accepted, requested_by_caller) {
            (true, _) => Self::Accepted,
            (false, true) => Self::PendingOut,
            (false, false) => Self::PendingIn,
        }
    }
}

/// A contact or a contact request, as the caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Contact {
    /// ID of the other user (UUID).
    pub user_id: UserId,
    /// State of the contact, as the caller sees it.
    pub status: ContactStatus,
    /// Time at which the contact was requested.
    #[serde(serialize_with = "milliseconds::serialize")]
    pub created_at: Timestamp,
    /// Time at which the contact was accepted; `null` for a request.
    #[serde(serialize_with = "milliseconds::option")]
    #[schema(required)]
    pub accepted_at: Option<Timestamp>,
}

/// A user blocked by the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Block {
    /// ID of the blocked user (UUID).
    pub user_id: UserId,
    /// Time at which the block was created.
    #[serde(serialize_with = "milliseconds::serialize")]
    pub created_at: Timestamp,
}

/// A conversation as seen by a participant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Conversation {
    /// ID of the conversation (UUID).
    pub id: ConversationId,
    /// Title of the conversation; `null` without one.
    #[schema(required)]
    pub title: Option<String>,
    /// ID of the user who created the conversation (UUID).
    pub created_by: UserId,
    /// Time at which the conversation was created.
    #[serde(serialize_with = "milliseconds::serialize")]
    pub created_at: Timestamp,
    /// IDs of the participants, in order of joining.
    pub participant_ids: Vec<UserId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_pending_until_it_is_accepted() {
        assert_eq!(ContactStatus::from_request(true, false), ContactStatus::PendingOut);
        assert_eq!(ContactStatus::from_request(false, false), ContactStatus::PendingIn);
        assert_eq!(ContactStatus::from_request(true, true), ContactStatus::Accepted);
        assert_eq!(serde_json::to_value(ContactStatus::PendingIn).expect("serializes"), "pending_in");
    }
}
