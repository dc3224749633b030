//! Channels closed by the server, with the messages of Supabase Realtime.

use std::sync::Arc;

use super::{
    channel::{Channel, Joined, Stage},
    close_cause::CloseCause,
    state::ChannelsSession,
};
use crate::{
    auth::Principal,
    model::UserId,
    presence::channel_users::{ForcedDisconnect, UserGuard},
    transport::{CloseCode, Connection, Flow, frame::WireFrame},
};

impl Channel {
    /// User of the channel's token, once joined.
    fn user_id(&self) -> Option<UserId> {
        match &self.stage {
            Stage::Joined(Joined { principal, .. }) => principal.user_id,
            Stage::Joining { .. } => None,
        }
    }
}

impl ChannelsSession {
    /// Registers the socket for forced disconnects of the principal's user.
    pub(super) fn register_user(&self, principal: &Principal, conn: &Arc<Connection>) -> Option<UserGuard> {
        principal.user_id.map(|user| self.services.users.register(user, conn.id()))
    }

    /// Closes what an administrator has disconnected since the last call.
    pub(super) async fn apply_forced_disconnects(&mut self, conn: &Arc<Connection>) -> Flow {
        for disconnect in self.services.users.take_disconnects(conn.id()) {
            let flow = self.force_disconnect(disconnect, conn).await;
            if flow != Flow::Continue {
                return flow;
            }
        }
        Flow::Continue
    }

    /// Disconnects a user. Closes the socket if it is used by this user only, otherwise only the user's
    /// channels. When the socket is closed its channels get the reason but no `phx_close`, because clients
    /// rejoin them when they reconnect.
    async fn force_disconnect(
        &mut self,
        ForcedDisconnect { user, reason }: ForcedDisconnect,
        conn: &Arc<Connection>,
    ) -> Flow {
        let socket_user = self.socket_principal.principal.user_id;
        let mut users = self.channels.iter().filter_map(|channel| channel.user_id()).chain(socket_user);
        let cause = CloseCause::Disconnected(Arc::clone(&reason));
        if users.any(|other| other != user) {
            while let Some(index) = self.channels.iter().position(|channel| channel.user_id() == Some(user)) {
                self.close_channel(index, cause.clone(), conn).await;
            }
            return Flow::Continue;
        }
        let (replies, text) = (self.replies(conn), cause.to_string());
        let joined = self.channels.iter().filter(|channel| matches!(channel.stage, Stage::Joined(_)));
        let frames: Vec<WireFrame> =
            joined.map(|channel| replies.system_frame(channel, "error", "system", &text)).collect();
        if !frames.is_empty() {
            // If this fails the connection is closing already.
            let _ = conn.send(WireFrame::concat(&frames));
        }
        Flow::Close(CloseCode::Disconnected, reason.to_string().into())
    }

    /// Sends the reason to the client and closes its channel. The socket and its other channels stay open.
    pub(super) async fn close_channel(&mut self, index: usize, cause: CloseCause, conn: &Arc<Connection>) {
        self.flush_broadcasts().await;
        let channel = self.channels.swap_remove(index);
        tracing::debug!(conn.id = %conn.id(), topic = &*channel.topic.name, %cause, "closed a channel");
        let replies = self.replies(conn);
        let reason = replies.system_frame(&channel, "error", "system", &cause.to_string());
        let last = WireFrame::concat(&[reason, replies.close_frame(&channel)]);
        self.remove_channel(channel, Some(last), conn).await;
    }
}
