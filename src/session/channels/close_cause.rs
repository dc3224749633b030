//! Reasons for which the server closes a channel, with the messages of Supabase Realtime.

use std::sync::Arc;

use crate::{auth::ChannelTokenError, channels::authorization::AuthorizationError};

/// Why the server closes a channel. The `Display` is the message of the `system` event before the close.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CloseCause {
    /// The token expired, or the refreshed token was rejected.
    #[error(transparent)]
    Token(#[from] ChannelTokenError),
    /// The read rights were lost, or policies cannot be checked.
    #[error("{message}", message = .0.system_message(.1))]
    Rights(AuthorizationError, Arc<str>),
    /// The refreshed token lost one of the two read rights.
    #[error("You no longer have permission to read from this Channel topic: {0}")]
    LostRight(Arc<str>),
    /// Broadcasts from the database did not reach this node in time.
    #[error("Replication connection was not established in time")]
    ReplicationTimeout,
    /// The socket exceeded its message rate.
    #[error("Too many messages per second")]
    MessageRate,
    /// The socket exceeded its byte rate.
    #[error("Too many bytes per second")]
    ByteRate,
    /// The channel exceeded its rate of presence pushes.
    #[error("Client presence rate limit exceeded")]
    PresencePushRate,
    /// The node exceeded its rate of presence events.
    #[error("Too many presence messages per second")]
    NodePresenceRate,
    /// The tracked object is too large.
    #[error("Track message size exceeded")]
    TrackTooLarge,
    /// An administrator disconnected the user, for this reason.
    #[error("Server requested disconnect: {0}")]
    Disconnected(Arc<str>),
}
