//! Into a room and out of it.

use std::{sync::Arc, time::Duration};

use hashbrown::HashSet;
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    ChannelsSession,
    authorization::receive_mask,
    background::Started,
    channel::{Channel, HeldPushes, Joined, Presence, Stage},
    close::CloseCause,
    config::{ChannelConfig, JoinPayload},
    error::JoinError,
    events::SessionEvent,
    join_authorization::{AcceptedJoin, PendingJoin, authorize_join},
    postgres_changes::{ChannelSubscription, SessionMessageSink},
    replies::{EMPTY, reason_json},
};
use crate::{
    channels::presence::PresenceKey,
    hub::{AllowedMask, Member, ReceiveMask, ReservedCommands},
    model::{ChannelId, Topic},
    protocol::phoenix::{Payload, Push, ReplyStatus},
    transport::{Connection, frame::WireFrame},
};

/// A client that wants to know waits so long for broadcasts from the database.
const REPLICATION_TIMEOUT: Duration = Duration::from_secs(60);

impl ChannelsSession {
    /// A client wants to join; whatever it had joined under that name before ends first.
    pub(super) async fn on_join(&mut self, name: &str, push: &Push<'_>, conn: &Arc<Connection>) {
        if let Some(place) = self.index_of(name) {
            // Without a word: there are clients that take any close for the end of the join that is to come.
            let old = self.channels.swap_remove(place);
            self.remove_channel(old, None, conn).await;
            self.recent_leaves.insert(name);
        }
        match self.validate_join(name, push) {
            Ok(application) => self.start_join(application, push, conn).await,
            Err(error) => self.reject(push, &error, conn).await,
        }
    }

    /// What can be decided without waiting, in the original's order.
    fn validate_join(&self, name: &str, push: &Push<'_>) -> Result<PendingJoin, JoinError> {
        let limits = &self.services.limits;
        if name.is_empty() {
            return Err(JoinError::TopicNameRequired);
        }
        if self.services.stopping.is_cancelled() {
            return Err(JoinError::Restarting);
        }
        let too_fast = limits.join_rate_exceeded();
        limits.count_join();
        if too_fast {
            return Err(JoinError::TooManyJoins);
        }
        let most = limits.limits().channels_per_client;
        if most.is_some_and(|most| self.channels.len() >= most.get() as usize) {
            return Err(JoinError::TooManyChannels);
        }
        let payload = if let Payload::Json(json) = push.payload { json } else { "" };
        let JoinPayload { config, token } = JoinPayload::read(payload)?;
        let config = config.unwrap_or_else(|| ChannelConfig::legacy(name));
        if self.services.private_only && !config.private {
            return Err(JoinError::PrivateOnly);
        }
        let room = Topic { name: name.into(), private: config.private };
        Ok(PendingJoin { topic: room, config, token, socket_principal: self.socket_principal.clone() })
    }

    /// Has an application decided: here if nothing has to be waited for, else beside the session.
    async fn start_join(&mut self, application: PendingJoin, push: &Push<'_>, conn: &Arc<Connection>) {
        let id = ChannelId::next();
        let channel = Channel {
            id,
            topic: application.topic.clone(),
            join_ref: push.join_ref.as_deref().map(Box::from),
            stage: Stage::Joining { reference: push.reference.as_deref().map(Box::from), work: None },
            held: HeldPushes::default(),
        };
        let place = self.channels.len();
        self.channels.push(Box::new(channel));
        let services = self.services.clone();
        let work = async move { SessionEvent::JoinDecided(id, authorize_join(&services, application).await) };
        match self.start_work(work, SessionEvent::JoinDecided(id, Err(JoinError::Crashed)), conn) {
            Started::Done(event) => self.on_event(event, conn).await,
            Started::Running(work) => self.set_pending_work(place, work),
        }
    }

    /// A decision has come; unless the client has left meanwhile, it is carried out.
    pub(super) async fn on_join_decided(
        &mut self,
        id: ChannelId,
        decision: Result<Box<AcceptedJoin>, JoinError>,
        conn: &Arc<Connection>,
    ) {
        let Some(place) = self.index_by_id(id) else {
            return;
        };
        let seated = match decision {
            Ok(admitted) => self.activate(place, *admitted, conn).await,
            Err(error) => Err(error),
        };
        match seated {
            Ok(()) => self.replay_held(id, conn).await,
            Err(error) => self.reject_pending(place, &error, conn).await,
        }
    }

    /// Makes a channel a member of its room. First comes the reply, then what is sent again, then the state of presence,
    /// and only then what is said there.
    async fn activate(
        &mut self,
        place: usize,
        admitted: AcceptedJoin,
        conn: &Arc<Connection>,
    ) -> Result<(), JoinError> {
        let services = self.services.clone();
        let slots = services.hub.reserve(1).await?;
        let replication_ready = admitted.config.replication_ready;
        self.activate_now(place, admitted, slots, conn);
        if replication_ready {
            self.wait_for_replication(place, conn).await;
        }
        self.arm_expiry_timer(conn);
        Ok(())
    }

    /// The part of it that waits for nothing, so that nothing comes in between.
    fn activate_now(
        &mut self,
        place: usize,
        admitted: AcceptedJoin,
        mut slots: ReservedCommands<'_>,
        conn: &Arc<Connection>,
    ) {
        let services = self.services.clone();
        let voice = self.replies(conn);
        let inbox = admitted.changes.1.is_some().then(|| self.events(conn));
        let is_back = self.recent_leaves.contains(&self.channels[place].topic.name);
        let guest = self.register_user(&admitted.principal, conn);
        let channel = &mut self.channels[place];
        let AcceptedJoin {
            principal: claimant,
            token_hash: token,
            rights,
            replay,
            changes: (echo, prepared),
            config,
        } = admitted;
        let ChannelConfig { ack, receives_own: hears_itself, presence_key, presence_enabled, .. } = config;
        let presence = Presence {
            enabled: presence_enabled,
            key: presence_key.map(PresenceKey::from),
            ..Presence::default()
        };
        let joined = Joined {
            principal: claimant,
            user_guard: guest,
            token_hash: token,
            ack,
            receives_own: hears_itself,
            presence,
            private_access: None,
            subscription: None,
            work: None,
            replication_wait: None,
        };
        let before = std::mem::replace(&mut channel.stage, Stage::Joined(joined));
        let reference = if let Stage::Joining { reference, .. } = before { reference } else { None };
        let response = format!("{{\"postgres_changes\":{echo}}}");
        let mut first = vec![voice.reply_frame(channel, reference.as_deref(), ReplyStatus::Ok, &response)];
        let is_private = channel.topic.private;
        let gate = is_private.then(|| AllowedMask::new(receive_mask(rights)));
        if let Some(gate) = &gate {
            // Before it is a member: nothing comes in between of which it may not hear.
            self.subscribe_rights(place, rights, gate.clone(), conn);
        }
        let channel = &self.channels[place];
        // Until the membership is on its way nothing more is told.
        let kept = replay.as_ref().map(|(_, window)| window.buffered());
        let replayed = replay.as_ref().zip(kept.as_deref()).map(|((stored, _), newer)| {
            let known = stored
                .broadcasts
                .iter()
                .map(|broadcast| broadcast.id)
                .chain(stored.in_flight.iter().copied());
            let mut known: Box<HashSet<Uuid>> = Box::new(known.collect());
            // All of these were committed after what is stored, so this is the order of commits.
            let newer: Vec<_> = newer.iter().filter(|broadcast| known.insert(broadcast.id)).collect();
            let again = stored.broadcasts.iter().chain(newer);
            first.extend(again.filter_map(|broadcast| voice.replayed_frame(channel, broadcast)));
            known
        });
        // A public room shows differences to all its members.
        let hears = if is_private && !presence_enabled { ReceiveMask::BROADCASTS } else { ReceiveMask::ALL };
        let member = Member {
            channel: channel.id,
            connection: Arc::clone(conn),
            mask: hears,
            allowed: gate.clone(),
            replayed,
        };
        let room = channel.topic.clone();
        let enter = || {
            if presence_enabled && rights.presence {
                services.presence.with_state(&channel.topic, |state| {
                    let state = voice.push_frame(channel, "presence_state", &String::from_utf8_lossy(&state));
                    if is_back {
                        first.push(state.clone());
                    }
                    first.push(state);
                    slots.join(room, member, WireFrame::concat(&first));
                });
            } else {
                slots.join(room, member, WireFrame::concat(&first));
            }
        };
        let subscription = match (prepared, inbox) {
            (Some(prepared), Some(inbox)) => {
                let ears = Arc::new(SessionMessageSink { channel: channel.id, events: inbox });
                Some(prepared.activate((channel.id, conn.id()), ears, enter))
            }
            _ => {
                enter();
                None
            }
        };
        drop(kept);
        if let Stage::Joined(joined) = &mut self.channels[place].stage {
            joined.subscription = subscription.map(ChannelSubscription::new);
        }
    }

    /// Tells the client once broadcasts from the database reach this node.
    async fn wait_for_replication(&mut self, place: usize, conn: &Arc<Connection>) {
        let id = self.channels[place].id;
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
            Started::Running(notice) => {
                if let Stage::Joined(joined) = &mut self.channels[place].stage {
                    joined.replication_wait = Some(notice);
                }
            }
        }
    }

    /// Broadcasts from the database reach this node, or did not in time.
    pub(super) async fn on_replication(&mut self, id: ChannelId, is_live: bool, conn: &Arc<Connection>) {
        let Some(place) = self.index_by_id(id) else {
            return;
        };
        if !is_live {
            return self.close_channel(place, CloseCause::ReplicationTimeout, conn).await;
        }
        if let Stage::Joined(joined) = &mut self.channels[place].stage {
            joined.replication_wait = None;
        }
        let voice = self.replies(conn);
        let text = "Replication connection established";
        voice.send(voice.system_frame(&self.channels[place], "ok", "system", text)).await;
    }

    /// Refuses a join that was being decided, and what the client said in it meanwhile.
    async fn reject_pending(&mut self, place: usize, error: &JoinError, conn: &Arc<Connection>) {
        let mut channel = self.channels.swap_remove(place);
        let reference = match &mut channel.stage {
            Stage::Joining { reference, .. } => reference.take(),
            Stage::Joined(_) => None,
        };
        self.join_throttle.throttle().await;
        let voice = self.replies(conn);
        let response = reason_json(&error.to_string());
        voice.send(voice.reply_frame(&channel, reference.as_deref(), ReplyStatus::Error, &response)).await;
        while let Some(push) = channel.held.pop() {
            voice.reply_unmatched(&push.as_push()).await;
        }
    }

    /// Refuses a join before it was anything.
    async fn reject(&mut self, push: &Push<'_>, error: &JoinError, conn: &Arc<Connection>) {
        self.join_throttle.throttle().await;
        let response = reason_json(&error.to_string());
        self.replies(conn).reply_to(push.join_ref.as_deref(), push, ReplyStatus::Error, &response).await;
    }

    /// A client leaves a channel. One that names another join means one that is over.
    pub(super) async fn on_leave(&mut self, place: usize, push: &Push<'_>, conn: &Arc<Connection>) {
        let is_meant = push
            .join_ref
            .as_deref()
            .is_none_or(|named| self.channels[place].join_ref.as_deref() == Some(named));
        if !is_meant {
            return;
        }
        let channel = self.channels.swap_remove(place);
        self.recent_leaves.insert(&channel.topic.name);
        let voice = self.replies(conn);
        let reply = voice.reply_frame(&channel, push.reference.as_deref(), ReplyStatus::Ok, EMPTY);
        let last = WireFrame::concat(&[reply, voice.close_frame(&channel)]);
        self.remove_channel(channel, Some(last), conn).await;
    }

    /// Ends a channel; nothing of it follows after `last`.
    pub(super) async fn remove_channel(
        &self,
        mut channel: Box<Channel>,
        last: Option<WireFrame>,
        conn: &Arc<Connection>,
    ) {
        // No change is told from here on.
        if let Stage::Joined(joined) = &mut channel.stage {
            joined.subscription = None;
        }
        // Both fail only when the server stops, and then the connection ends too.
        if let Ok(mut slots) = self.services.hub.reserve(1).await {
            slots.leave(&channel.topic, channel.id, conn, last);
        }
        let tracks = matches!(&channel.stage, Stage::Joined(joined) if joined.presence.is_tracking);
        if let Some(seat) = channel.presence_ref().filter(|_| tracks) {
            let _ = self.services.presence.untrack(&seat).await;
        }
    }
}
