//! Channels that the server ends, in the original's words.

use std::sync::Arc;

use super::{
    ChannelsSession,
    channel::{Channel, Joined, Stage},
};
use crate::{
    auth::ChannelTokenError,
    channels::{Claimant, authorization::AuthorizationError},
    model::UserId,
    presence::guests::{Dismissal, Guest},
    transport::{CloseCode, Connection, Flow, frame::WireFrame},
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
    /// An administrator ended the user's sockets, for this reason.
    #[error("Server requested disconnect: {0}")]
    Disconnected(Arc<str>),
}

impl Channel {
    /// The user as whom it acts, once it is joined.
    fn user(&self) -> Option<UserId> {
        match &self.stage {
            Stage::Joined(Joined { claimant, .. }) => claimant.user(),
            Stage::Joining { .. } => None,
        }
    }
}

impl ChannelsSession {
    /// Notes as whom this socket acts.
    pub(super) fn admit(&self, claimant: &Claimant, conn: &Arc<Connection>) -> Option<Guest> {
        claimant.user().map(|user| self.services.guests.enter(user, conn.id()))
    }

    /// Ends what an administrator has ended since the last look.
    pub(super) async fn heed_dismissals(&mut self, conn: &Arc<Connection>) -> Flow {
        for dismissal in self.services.guests.word_for(conn.id()) {
            let flow = self.dismiss(dismissal, conn).await;
            if flow != Flow::Continue {
                return flow;
            }
        }
        Flow::Continue
    }

    /// A user is to go: the socket is closed where nobody else acts on it, else that user's channels are. Channels of a
    /// closed socket are told why and not closed one by one, because clients come back for those with the socket.
    async fn dismiss(&mut self, Dismissal { user, reason }: Dismissal, conn: &Arc<Connection>) -> Flow {
        let opener = self.opener.claimant.user();
        let mut users = self.channels.iter().filter_map(|channel| channel.user()).chain(opener);
        let ending = Ending::Disconnected(Arc::clone(&reason));
        if users.any(|other| other != user) {
            while let Some(place) = self.channels.iter().position(|channel| channel.user() == Some(user)) {
                self.expel(place, ending.clone(), conn).await;
            }
            return Flow::Continue;
        }
        let (voice, text) = (self.voice(conn), ending.to_string());
        let joined = self.channels.iter().filter(|channel| matches!(channel.stage, Stage::Joined(_)));
        let told: Vec<WireFrame> =
            joined.map(|channel| voice.system(channel, "error", "system", &text)).collect();
        if !told.is_empty() {
            // Should it not get through, the connection is ending already.
            let _ = conn.send(WireFrame::joined(&told));
        }
        Flow::Close(CloseCode::Disconnected, reason.to_string().into())
    }

    /// Tells a client why, and ends its channel. The socket and its other channels stay.
    pub(super) async fn expel(&mut self, place: usize, ending: Ending, conn: &Arc<Connection>) {
        self.speak().await;
        let channel = self.channels.swap_remove(place);
        tracing::debug!(conn.id = %conn.id(), topic = &*channel.room.topic, %ending, "ended a channel");
        let voice = self.voice(conn);
        let why = voice.system(&channel, "error", "system", &ending.to_string());
        let last = WireFrame::joined(&[why, voice.close(&channel)]);
        self.depart(channel, Some(last), conn).await;
    }
}
