//! Keys of state frames.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::model::{ConversationKey, UserId};

/// Identifies the state that a frame carries. A newer frame with the same key replaces an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateKey {
    /// The presence of one user.
    Presence(UserId),
    /// Whether one user is typing in one conversation. The first field is a hash of the conversation's ID.
    Typing(u64, UserId),
    /// The context of one user's device. The second field is a hash of the device ID.
    Context(UserId, u64),
    /// The pong for the peer's latest ping. RFC 6455 section 5.5.3 requires only the latest one.
    Pong,
}

impl StateKey {
    /// Key of the typing state of a user in a conversation.
    #[must_use]
    pub fn typing(conversation: &ConversationKey, user: UserId) -> Self {
        let mut hasher = DefaultHasher::new();
        conversation.hash(&mut hasher);
        Self::Typing(hasher.finish(), user)
    }
}
