//! Keys of state frames.

use crate::model::{ConversationId, UserId};

/// Identifies the state that a frame carries. A newer frame with the same key replaces an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateKey {
    /// The presence of one user.
    Presence(UserId),
    /// Whether one user is typing in one conversation.
    Typing(ConversationId, UserId),
    /// The context of one user's device. The second field is a hash of the device ID.
    Context(UserId, u64),
    /// The pong for the peer's latest ping. RFC 6455 section 5.5.3 requires only the latest one.
    Pong,
}
