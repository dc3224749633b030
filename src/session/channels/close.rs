//! Channels that the server ends, in the original's words.

use std::sync::Arc;

use super::{
    ChannelsSession,
    channel::{Channel, Joined, Stage},
};
use crate::{
    auth::ChannelTokenError,
    channels::{ChannelPrincipal, authorization::AuthorizationError},
    model::UserId,
    presence::channel_users::{ForcedDisconnect, UserGuard},
    transport::{CloseCode, Connection, Flow, frame::WireFrame},
};

/// Why the server ends a channel. The `Display` is the message of the `system` event before the close.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CloseCause {
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
    ReplicationTimeout,
    /// It says too much.
    #[error("Too many messages per second")]
    MessageRate,
    /// Its socket sends too many bytes.
    #[error("Too many bytes per second")]
    ByteRate,
    /// It says too much of its presence.
    #[error("Client presence rate limit exceeded")]
    PresencePushRate,
    /// The node has more presence events than it may.
    #[error("Too many presence messages per second")]
    NodePresenceRate,
    /// It tracks more than it may.
    #[error("Track message size exceeded")]
    TrackTooLarge,
    /// An administrator ended the user's sockets, for this reason.
    #[error("Server requested disconnect: {0}")]
    Disconnected(Arc<str>),
}

impl Channel {
    /// The user as whom it acts, once it is joined.
    fn user_id(&self) -> Option<UserId> {
        match &self.stage {
            Stage::Joined(Joined { principal: claimant, .. }) => claimant.user_id(),
            Stage::Joining { .. } => None,
        }
    }
}

impl ChannelsSession {
    /// Notes as whom this socket acts.
    pub(super) fn register_user(
        &self,
        claimant: &ChannelPrincipal,
        conn: &Arc<Connection>,
    ) -> Option<UserGuard> {
        claimant.user_id().map(|user| self.services.users.register(user, conn.id()))
    }

    /// Ends what an administrator has ended since the last look.
    pub(super) async fn apply_forced_disconnects(&mut self, conn: &Arc<Connection>) -> Flow {
        for dismissal in self.services.users.take_disconnects(conn.id()) {
            let flow = self.force_disconnect(dismissal, conn).await;
            if flow != Flow::Continue {
                return flow;
            }
        }
        Flow::Continue
    }

    /// A user is to go: the socket is closed where nobody else acts on it, else that user's channels are. Channels of a
    /// closed socket are told why and not closed one by one, because clients come back for those with the socket.
    async fn force_disconnect(
        &mut self,
        ForcedDisconnect { user, reason }: ForcedDisconnect,
        conn: &Arc<Connection>,
    ) -> Flow {
        let opener = self.socket_principal.principal.user_id();
        let mut users = self.channels.iter().filter_map(|channel| channel.user_id()).chain(opener);
        let ending = CloseCause::Disconnected(Arc::clone(&reason));
        if users.any(|other| other != user) {
            while let Some(place) = self.channels.iter().position(|channel| channel.user_id() == Some(user)) {
                self.close_channel(place, ending.clone(), conn).await;
            }
            return Flow::Continue;
        }
        let (voice, text) = (self.replies(conn), ending.to_string());
        let joined = self.channels.iter().filter(|channel| matches!(channel.stage, Stage::Joined(_)));
        let told: Vec<WireFrame> =
            joined.map(|channel| voice.system_frame(channel, "error", "system", &text)).collect();
        if !told.is_empty() {
            // Should it not get through, the connection is ending already.
            let _ = conn.send(WireFrame::concat(&told));
        }
        Flow::Close(CloseCode::Disconnected, reason.to_string().into())
    }

    /// Tells a client why, and ends its channel. The socket and its other channels stay.
    pub(super) async fn close_channel(&mut self, place: usize, ending: CloseCause, conn: &Arc<Connection>) {
        self.flush_broadcasts().await;
        let channel = self.channels.swap_remove(place);
        tracing::debug!(conn.id = %conn.id(), topic = &*channel.topic.name, %ending, "ended a channel");
        let voice = self.replies(conn);
        let why = voice.system_frame(&channel, "error", "system", &ending.to_string());
        let last = WireFrame::concat(&[why, voice.close_frame(&channel)]);
        self.remove_channel(channel, Some(last), conn).await;
    }
}
