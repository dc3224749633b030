//! Joins and leaves.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    authorization::receive_mask,
    background::Started,
    channel::{Channel, HeldPushes, Joined, Presence, Stage},
    close_cause::CloseCause,
    config::{ChannelConfig, JoinPayload},
    error::JoinError,
    events::{AcceptedJoin, SessionEvent},
    join_authorization::{PendingJoin, authorize_join},
    postgres_changes::SessionMessageSink,
    replay::{JoinReplay, ReplayEncoder, Replayed},
    replies::{EMPTY, reason_json},
    state::ChannelsSession,
    subscription::ChannelSubscription,
};
use crate::{
    channels::{history::SincePosition, presence::PresenceKey},
    hub::{AllowedMask, Member, ReceiveMask, ReservedCommands},
    model::{ChannelId, Topic},
    protocol::phoenix::{Payload, Push, ReplyStatus},
    transport::{Connection, frame::WireFrame},
};

/// Maximum wait for broadcasts from the database, if the client requested a notification.
const REPLICATION_TIMEOUT: Duration = Duration::from_secs(60);

impl ChannelsSession {
    /// Handles `phx_join`. An earlier channel of the same topic is closed first.
    pub(super) async fn on_join(&mut self, name: &str, push: &Push<'_>, conn: &Arc<Connection>) {
        if let Some(index) = self.index_of(name) {
            // Without `phx_close`: some clients take it for the end of the new join.
            let old = self.channels.swap_remove(index);
            self.remove_channel(old, None, conn).await;
            self.recent_leaves.insert(name);
        }
        match self.validate_join(name, push) {
            Ok(pending_join) => self.start_join(pending_join, push, conn).await,
            Err(error) => self.reject(push, &error, conn).await,
        }
    }

    /// Checks that need no waiting, in the order of Supabase Realtime.
    fn validate_join(&self, name: &str, push: &Push<'_>) -> Result<PendingJoin, JoinError> {
        let limits = &self.services.limits;
        if name.is_empty() {
            return Err(JoinError::TopicNameRequired);
        }
        if self.services.stopping.is_cancelled() {
            return Err(JoinError::Restarting);
        }
        let is_exceeded = limits.join_rate_exceeded();
        limits.count_join();
        if is_exceeded {
            return Err(JoinError::TooManyJoins);
        }
        let max = limits.limits().channels_per_client;
        if max.is_some_and(|max| self.channels.len() >= max.get() as usize) {
            return Err(JoinError::TooManyChannels);
        }
        let payload = if let Payload::Json(json) = push.payload { json } else { "" };
        let JoinPayload { config, token } = JoinPayload::read(payload)?;
        let config = config.unwrap_or_else(|| ChannelConfig::legacy(name));
        if self.services.private_only && !config.private {
            return Err(JoinError::PrivateOnly);
        }
        let topic = Topic { name: name.into(), private: config.private };
        Ok(PendingJoin { topic, config, token, socket_principal: self.socket_principal.clone() })
    }

    /// Authorizes a join: inline if nothing has to be waited for, else in a background task.
    async fn start_join(&mut self, pending_join: PendingJoin, push: &Push<'_>, conn: &Arc<Connection>) {
        let id = ChannelId::next();
        let channel = Channel {
            id,
            topic: pending_join.topic.clone(),
            join_ref: push.join_ref.as_deref().map(Box::from),
            stage: Stage::Joining { reference: push.reference.as_deref().map(Box::from), work: None },
            held: HeldPushes::default(),
        };
        let index = self.channels.len();
        self.channels.push(Box::new(channel));
        let services = self.services.clone();
        let conn_id = conn.id();
        let work = async move {
            SessionEvent::JoinDecided(id, authorize_join(&services, pending_join, conn_id).await)
        };
        match self.start_work(work, SessionEvent::JoinDecided(id, Err(JoinError::Crashed)), conn) {
            Started::Done(event) => self.on_event(event, conn).await,
            Started::Running(work) => self.set_pending_work(index, work),
        }
    }

    /// Applies the result of an authorization, unless the client has left meanwhile.
    pub(super) async fn on_join_decided(
        &mut self,
        id: ChannelId,
        decision: Result<Box<AcceptedJoin>, JoinError>,
        conn: &Arc<Connection>,
    ) {
        let Some(index) = self.index_by_id(id) else {
            return;
        };
        let result = match decision {
            Ok(accepted) => self.activate(index, *accepted, conn).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => self.replay_held(id, conn).await,
            Err(error) => self.reject_pending(index, &error, conn).await,
        }
    }

    /// Makes a channel a member of its topic. The client receives the reply, then replayed broadcasts, then
    /// the presence state, and only then live messages.
    async fn activate(
        &mut self,
        index: usize,
        accepted: AcceptedJoin,
        conn: &Arc<Connection>,
    ) -> Result<(), JoinError> {
        let services = self.services.clone();
        let reserved = services.hub.reserve(1).await?;
        let replication_ready = accepted.config.replication_ready;
        self.activate_now(index, accepted, reserved, conn);
        if replication_ready {
            self.wait_for_replication(index, conn).await;
        }
        self.arm_expiry_timer(conn);
        Ok(())
    }

    /// The part of `activate` without `await`, so that nothing can come in between.
    fn activate_now(
        &mut self,
        index: usize,
        accepted: AcceptedJoin,
        mut reserved: ReservedCommands<'_>,
        conn: &Arc<Connection>,
    ) {
        let services = self.services.clone();
        let replies = self.replies(conn);
        let events = accepted.changes.1.is_some().then(|| self.events(conn));
        let is_rejoin = self.recent_leaves.contains(&self.channels[index].topic.name);
        let user_guard = self.register_user(&accepted.principal, conn);
        let channel = &mut self.channels[index];
        let AcceptedJoin { principal, token_hash, rights, replay, changes: (echo, prepared), bus, config } =
            accepted;
        let ChannelConfig { ack, receives_own, presence_key, presence_enabled, presence_occupancy, .. } =
            config;
        let presence_enabled =
            presence_enabled.unwrap_or(services.presence_by_default && !presence_occupancy);
        let is_private = channel.topic.private;
        let presence = Presence {
            enabled: presence_enabled,
            occupancy: presence_occupancy.then(|| services.presence.watch_occupancy(&channel.topic)),
            key: presence_key.map(PresenceKey::from),
            ..Presence::default()
        };
        let mask = presence.receive_mask(is_private);
        let joined = Joined {
            principal,
            user_guard,
            token_hash,
            ack,
            receives_own,
            presence,
            private_access: None,
            subscription: None,
            _bus: bus,
            work: None,
            replication_wait: None,
        };
        let previous_stage = std::mem::replace(&mut channel.stage, Stage::Joined(joined));
        let reference = if let Stage::Joining { reference, .. } = previous_stage { reference } else { None };
        let allowed = is_private.then(|| AllowedMask::new(receive_mask(rights)));
        if let Some(allowed) = &allowed {
            // Before it is a member: it must receive nothing that it lost the right to meanwhile.
            self.subscribe_rights(index, rights, allowed.clone(), conn);
        }
        let channel = &self.channels[index];
        // A right may be lost since the join was authorized.
        let may_receive =
            allowed.as_deref().is_none_or(|allowed| allowed.get().intersects(ReceiveMask::BROADCASTS));
        let is_return = replay.is_some();
        let replay = replay.filter(|_| may_receive);
        let has_history = services.history.rule(&channel.topic).is_some();
        let encoder = ReplayEncoder { replies: &replies, channel, has_history };
        let stored_frames = replay.as_ref().map(|replay| replay.frames(&encoder));
        // Held until the membership is queued: no broadcast is delivered meanwhile.
        let locked = replay.as_ref().map(JoinReplay::lock);
        let replayed = locked.as_ref().zip(stored_frames);
        let replayed = replayed.map(|(locked, frames)| locked.complete(frames, &encoder));
        let Replayed { frames: replayed_frames, ids: replayed, is_complete } = replayed.unwrap_or_default();
        let is_complete = is_complete.map(|complete| format!(",\"replay\":{{\"complete\":{complete}}}"));
        let response = format!("{{\"postgres_changes\":{echo}{}}}", is_complete.unwrap_or_default());
        // A stream that ends before its first broadcast continues at its join. One that returns keeps its position until it
        // has received what it missed.
        let position = (has_history && !is_return).then(|| SincePosition::now().to_string().into());
        let mut frames = vec![replies.join_frame(channel, reference.as_deref(), &response, position)];
        frames.extend(replayed_frames);
        let member = Member {
            channel: channel.id,
            connection: Arc::clone(conn),
            mask,
            allowed: allowed.clone(),
            replayed,
        };
        let topic = channel.topic.clone();
        let join = || {
            if !rights.presence || !(presence_enabled || presence_occupancy) {
                return reserved.join(topic, member, WireFrame::concat(&frames));
            }
            services.presence.with_presence(&channel.topic, |mut presence| {
                if presence_enabled {
                    let state = presence.encoded_state();
                    let state =
                        replies.push_frame(channel, "presence_state", &String::from_utf8_lossy(&state));
                    if is_rejoin {
                        frames.push(state.clone());
                    }
                    frames.push(state);
                }
                if presence_occupancy {
                    let occupancy = presence.first_occupancy().to_json();
                    frames.push(replies.push_frame(channel, "presence_occupancy", &occupancy));
                }
                reserved.join(topic, member, WireFrame::concat(&frames));
            });
        };
        let subscription = match (prepared, events) {
            (Some(prepared), Some(events)) => {
                let sink = Arc::new(SessionMessageSink { channel: channel.id, events });
                Some(prepared.activate((channel.id, conn.id()), sink, join))
            }
            _ => {
                join();
                None
            }
        };
        drop(locked);
        if let Stage::Joined(joined) = &mut self.channels[index].stage {
            joined.subscription = subscription.map(ChannelSubscription::new);
        }
    }

    /// Notifies the client when broadcasts from the database reach this node.
    async fn wait_for_replication(&mut self, index: usize, conn: &Arc<Connection>) {
        let id = self.channels[index].id;
        let messages = self.services.messages.clone();
        let work = async move {
            SessionEvent::Replication(
                id,
                timeout(REPLICATION_TIMEOUT, messages.wait_until_connected()).await.is_ok(),
            )
        };
        match self.start_work_with_timeout(
            REPLICATION_TIMEOUT * 2,
            work,
            SessionEvent::Replication(id, false),
            conn,
        ) {
            Started::Done(event) => Box::pin(self.on_event(event, conn)).await,
            Started::Running(task) => {
                if let Stage::Joined(joined) = &mut self.channels[index].stage {
                    joined.replication_wait = Some(task);
                }
            }
        }
    }

    /// Handles the result: broadcasts reach this node, or did not in time.
    pub(super) async fn on_replication(&mut self, id: ChannelId, is_connected: bool, conn: &Arc<Connection>) {
        let Some(index) = self.index_by_id(id) else {
            return;
        };
        if !is_connected {
            return self.close_channel(index, CloseCause::ReplicationTimeout, conn).await;
        }
        if let Stage::Joined(joined) = &mut self.channels[index].stage {
            joined.replication_wait = None;
        }
        let replies = self.replies(conn);
        let message = "Replication connection established";
        replies.send(replies.system_frame(&self.channels[index], "ok", "system", message)).await;
    }

    /// Rejects a join that was being authorized, and the pushes held for it.
    async fn reject_pending(&mut self, index: usize, error: &JoinError, conn: &Arc<Connection>) {
        let mut channel = self.channels.swap_remove(index);
        let reference = match &mut channel.stage {
            Stage::Joining { reference, .. } => reference.take(),
            Stage::Joined(_) => None,
        };
        self.join_throttle.throttle().await;
        let replies = self.replies(conn);
        let response = reason_json(&error.to_string());
        replies
            .send(replies.reply_frame(&channel, reference.as_deref(), ReplyStatus::Error, &response))
            .await;
        while let Some(push) = channel.held.pop() {
            replies.reply_unmatched(&push.as_push()).await;
        }
    }

    /// Rejects a join before a channel exists.
    async fn reject(&mut self, push: &Push<'_>, error: &JoinError, conn: &Arc<Connection>) {
        self.join_throttle.throttle().await;
        let response = reason_json(&error.to_string());
        self.replies(conn).reply_to(push.join_ref.as_deref(), push, ReplyStatus::Error, &response).await;
    }

    /// Handles `phx_leave`. Ignored if it names the reference of an earlier join.
    pub(super) async fn on_leave(&mut self, index: usize, push: &Push<'_>, conn: &Arc<Connection>) {
        let is_current = push
            .join_ref
            .as_deref()
            .is_none_or(|reference| self.channels[index].join_ref.as_deref() == Some(reference));
        if !is_current {
            return;
        }
        let channel = self.channels.swap_remove(index);
        self.recent_leaves.insert(&channel.topic.name);
        let replies = self.replies(conn);
        let reply = replies.reply_frame(&channel, push.reference.as_deref(), ReplyStatus::Ok, EMPTY);
        let last = WireFrame::concat(&[reply, replies.close_frame(&channel)]);
        self.remove_channel(channel, Some(last), conn).await;
    }

    /// Removes a channel from the topic. The client receives nothing of it after `last`.
    pub(super) async fn remove_channel(
        &self,
        mut channel: Box<Channel>,
        last: Option<WireFrame>,
        conn: &Arc<Connection>,
    ) {
        // No change is delivered from here on.
        if let Stage::Joined(joined) = &mut channel.stage {
            joined.subscription = None;
        }
        // Both fail only when the server is stopping, and then the connection closes too.
        if let Ok(mut reserved) = self.services.hub.reserve(1).await {
            reserved.leave(&channel.topic, channel.id, conn, last);
        }
        let is_tracking = matches!(&channel.stage, Stage::Joined(joined) if joined.presence.is_tracking);
        if let Some(presence_ref) = channel.presence_ref().filter(|_| is_tracking) {
            let _ = self.services.presence.untrack(&presence_ref).await;
        }
    }
}
