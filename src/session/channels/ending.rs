//! Channels that the server ends, in the original's words.

use std::sync::Arc;

use super::ChannelsSession;
use crate::{
    auth::ChannelTokenError,
    channels::authorization::AuthorizationError,
    transport::{Connection, frame::WireFrame},
};

/// Why the server ends a channel. The `Display` is the message of the `system` event before the close.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ending {
    /// Its token has run out, or the fresh one is not believed.
    #[error(transparent)]
    Token(#[from] ChannelTokenError),
    /// It may not read there any more, or policies cannot be asked.
    #[error("{message}", message = .0.system_message(.1))]
    Rights(AuthorizationError, Arc<str>),
    /// The fresh token lost one of the two rights to read.
    #[error("You no longer have permission to read from this Channel topic: {0}")]
    LostRight(Arc<str>),
    /// Broadcasts from the database did not reach this node in time.
    #[error("Replication connection was not established in time")]
    ReplicationLate,
    /// It says too much.
    #[error("Too many messages per second")]
    Rate,
    /// Its socket sends too many bytes.
    #[error("Too many bytes per second")]
    Bytes,
    /// It says too much of its presence.
    #[error("Client presence rate limit exceeded")]
    PresenceCalls,
    /// The node has more presence events than it may.
    #[error("Too many presence messages per second")]
    PresenceRate,
    /// It tracks more than it may.
    #[error("Track message size exceeded")]
    TrackTooLarge,
}

impl ChannelsSession {
    /// Tells a client why, and ends its channel. The socket and its other channels stay.
    pub(super) async fn expel(&mut self, place: usize, ending: Ending, conn: &Arc<Connection>) {
        let channel = self.channels.swap_remove(place);
        tracing::debug!(conn.id = %conn.id(), topic = &*channel.room.topic, %ending, "ended a channel");
        let voice = self.voice(conn);
        let why = voice.system(&channel, "error", "system", &ending.to_string());
        let last = WireFrame::joined(&[why, voice.close(&channel)]);
        self.depart(channel, Some(last), conn).await;
    }
}
