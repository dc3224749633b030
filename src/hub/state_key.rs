//! What a state frame is about.

use crate::model::{ConversationId, UserId};

/// Names the thing whose state a frame tells; of two frames with the same key the later one is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateKey {
    /// One user's presence.
    Presence(UserId),
    /// Whether one user types in one conversation.
    Typing(ConversationId, UserId),
    /// What one user does on one device, whose id stands here as a hash.
    Context(UserId, u64),
    /// The answer to the peer's latest ping (RFC 6455 section 5.5.3: only the latest needs one).
    Pong,
}
