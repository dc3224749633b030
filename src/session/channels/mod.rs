//! The session of Phoenix channels: one socket with its channels.
//!
//! - `mod` dispatches pushes and events; [`Services`] are the dependencies shared by all sessions. `channel`
//!   is the state of one channel, `events` the queue through which other tasks reach the session,
//!   `background` runs work that may wait.
//! - `join` handles joins and leaves: `config` parses the payload, `join_authorization` decides, `replay` reads
//!   the broadcasts to replay, `error` has the reasons of rejections, `join_throttle` slows them down,
//!   `recent_leaves` remembers left topics.
//! - `broadcast`, `presence` and `postgres_changes` handle the three kinds of messages; `outgoing` batches
//!   broadcasts.
//! - `authorization` tracks the rights in private topics, `token_refresh` and `token_expiry` handle tokens,
//!   `close` closes channels. `replies` encodes frames to the client.
//!
//! Everything about a channel, including replies, goes through the mailboxes of the hub: nothing of a channel
//! comes before the reply to its join or after its close. Heartbeats are answered directly.

mod authorization;
mod background;
mod broadcast;
mod channel;
mod close;
mod close_cause;
mod config;
mod error;
mod events;
mod join;
mod join_authorization;
mod join_throttle;
mod outgoing;
mod postgres_changes;
mod presence;
mod private_access;
mod recent_leaves;
mod replay;
mod replies;
mod state;
mod subscription;
mod token;
mod token_expiry;
mod token_refresh;

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

pub use self::state::{ChannelsSession, Services, SocketPrincipal};
use self::{
    channel::Stage,
    close_cause::CloseCause,
    events::{EventQueue, SessionEvent},
};
use crate::{
    lifecycle::ErrorChain,
    model::ChannelId,
    protocol::{
        Frame,
        phoenix::{HEARTBEAT_TOPIC, Push, TOPIC_PREFIX},
    },
    telemetry::metric,
    transport::{CloseReason, Connection, Flow, Session},
};

/// Event name of a broadcast.
const BROADCAST: &str = "broadcast";

impl ChannelsSession {
    async fn on_push(&mut self, push: &Push<'_>, conn: &Arc<Connection>) {
        if push.event != BROADCAST {
            self.flush_broadcasts().await;
        }
        let Some(name) = push.topic.strip_prefix(TOPIC_PREFIX) else {
            return self.on_unscoped_push(push, conn).await;
        };
        match (&*push.event, self.index_of(name)) {
            ("phx_join", _) => self.on_join(name, push, conn).await,
            ("phx_leave", Some(index)) => self.on_leave(index, push, conn).await,
            ("phx_leave", None) => self.replies(conn).reply_left(push).await,
            (_, Some(index)) => self.on_channel_push(index, push, conn).await,
            (_, None) => self.replies(conn).reply_unmatched(push).await,
        }
    }

    /// Handles a push without a channel.
    async fn on_unscoped_push(&mut self, push: &Push<'_>, conn: &Arc<Connection>) {
        let replies = self.replies(conn);
        match (&*push.topic, &*push.event) {
            (HEARTBEAT_TOPIC, "heartbeat") => replies.reply_heartbeat(push),
            (_, "phx_leave") => replies.reply_left(push).await,
            _ => replies.reply_unmatched(push).await,
        }
    }

    /// Handles a push to a channel.
    async fn on_channel_push(&mut self, index: usize, push: &Push<'_>, conn: &Arc<Connection>) {
        if self.channels[index].is_busy() {
            if !self.channels[index].held.push(push) {
                self.replies(conn).reply_unmatched(push).await;
            }
            return;
        }
        match &*push.event {
            _ if self.exceeds_byte_rate(push) => self.close_channel(index, CloseCause::ByteRate, conn).await,
            "access_token" => self.refresh_token(index, push, conn).await,
            "presence" => self.on_presence(index, push, conn).await,
            _ if self.exceeds_message_rate() => {
                self.close_channel(index, CloseCause::MessageRate, conn).await
            }
            BROADCAST => self.on_broadcast(index, push, conn).await,
            // Other events are ignored, without a reply.
            _ => {}
        }
    }

    /// Counts the bytes of a push. Returns whether the socket exceeds its byte rate.
    fn exceeds_byte_rate(&mut self, push: &Push<'_>) -> bool {
        let limits = &self.services.limits;
        if !limits.limits_bytes() {
            return false;
        }
        let now = limits.elapsed_secs();
        let bytes = &mut self.meters.get_or_insert_default().bytes;
        bytes.count(now, u32::try_from(push.byte_len()).unwrap_or(u32::MAX));
        limits.exceeds_byte_rate(bytes.per_second(now))
    }

    /// Counts a push. Returns whether the socket exceeds its message rate.
    fn exceeds_message_rate(&mut self) -> bool {
        let limits = &self.services.limits;
        if !limits.limits_messages() {
            return false;
        }
        limits.count_pushes(1);
        let now = limits.elapsed_secs();
        let messages = &mut self.meters.get_or_insert_default().messages;
        messages.count(now, 1);
        limits.exceeds_message_rate(messages.per_second(now))
    }

    /// Makes the pushes of a channel wait for a running task.
    fn set_pending_work(&mut self, index: usize, task: AbortOnDropHandle<()>) {
        match &mut self.channels[index].stage {
            Stage::Joining { work, .. } => *work = Some(task),
            Stage::Joined(joined) => joined.work = Some(task),
        }
    }

    /// Handles the pushes that were held while a task was running.
    async fn replay_held(&mut self, id: ChannelId, conn: &Arc<Connection>) {
        while let Some(index) = self.index_by_id(id)
            && !self.channels[index].is_busy()
            && let Some(push) = self.channels[index].held.pop()
        {
            self.flush_broadcasts().await;
            // Boxed: a held push may start another task and so recurse.
            Box::pin(self.on_channel_push(index, &push.as_push(), conn)).await;
        }
    }

    /// Handles an event of another task.
    async fn on_event(&mut self, event: SessionEvent, conn: &Arc<Connection>) {
        match event {
            SessionEvent::JoinDecided(id, decision) => self.on_join_decided(id, decision, conn).await,
            SessionEvent::SubscriptionMessage(id, is_ok, message) => {
                self.on_subscription_message(id, is_ok, &message, conn).await
            }
            SessionEvent::TokenRefreshed(id, result) => self.on_token_refreshed(id, result, conn).await,
            SessionEvent::WriteRights(id, result) => self.on_write_rights(id, result, conn).await,
            SessionEvent::ReadRights(id, rights) => self.on_read_rights(id, rights, conn).await,
            SessionEvent::Replication(id, is_connected) => self.on_replication(id, is_connected, conn).await,
            SessionEvent::Stored(id, reference, result) => {
                self.on_stored(id, reference.as_deref(), result, conn).await
            }
        }
    }
}

impl Session for ChannelsSession {
    async fn on_open(&mut self, conn: &Arc<Connection>) -> Flow {
        self.user_guard = self.register_user(&self.socket_principal.principal, conn);
        Flow::Continue
    }

    async fn on_message(&mut self, frame: Frame<'_>, conn: &Arc<Connection>) -> Flow {
        match Push::decode(conn.dialect(), frame) {
            Ok(push) => self.on_push(&push, conn).await,
            // Supabase Realtime sends no reply to such a frame, and clients expect none.
            Err(error) => {
                metrics::counter!(metric::CHANNELS_MALFORMED_FRAMES).increment(1);
                tracing::debug!(conn.id = %conn.id(), error = %ErrorChain(&error), "dropped a malformed frame");
            }
        }
        Flow::Continue
    }

    async fn on_wake(&mut self, conn: &Arc<Connection>) -> Flow {
        self.flush_broadcasts().await;
        let events = self.events.as_ref().map(EventQueue::take).unwrap_or_default();
        for event in events {
            self.on_event(event, conn).await;
        }
        self.flush_broadcasts().await;
        self.apply_forced_disconnects(conn).await
    }

    async fn on_timer(&mut self, conn: &Arc<Connection>) -> Flow {
        self.close_expired(conn).await;
        Flow::Continue
    }

    async fn on_batch_end(&mut self) {
        self.flush_broadcasts().await;
    }

    async fn on_close(mut self, conn: &Arc<Connection>, _reason: CloseReason) {
        self.flush_broadcasts().await;
        while let Some(channel) = self.channels.pop() {
            self.remove_channel(channel, None, conn).await;
        }
    }
}
