//! Into a room and out of it.

use std::{sync::Arc, time::Duration};

use hashbrown::HashSet;
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    ChannelsSession,
    admission::{Admitted, Application, decide},
    changes::{Subscribed, SubscriptionEars},
    channel::{Channel, Held, Joined, Presence, Stage},
    config::{Config, JoinRequest},
    ending::Ending,
    error::JoinError,
    inbox::Event,
    rights::heard,
    voice::{NOTHING, reason},
    work::Begun,
};
use crate::{
    channels::{ChannelId, Room, presence::Key},
    hub::{Gate, Hears, Member, Slots},
    protocol::phoenix::{Payload, Push, Status},
    transport::{Connection, frame::WireFrame},
};

/// A client that wants to know waits so long for broadcasts from the database.
const LIVE_WITHIN: Duration = Duration::from_secs(60);

impl ChannelsSession {
    /// A client wants to join; whatever it had joined under that name before ends first.
    pub(super) async fn join(&mut self, name: &str, push: &Push<'_>, conn: &Arc<Connection>) {
        if let Some(place) = self.place_of(name) {
            // Without a word: there are clients that take any close for the end of the join that is to come.
            let old = self.channels.swap_remove(place);
            self.depart(old, None, conn).await;
            self.farewells.note(name);
        }
        match self.apply(name, push) {
            Ok(application) => self.enter(application, push, conn).await,
            Err(error) => self.refuse(push, &error, conn).await,
        }
    }

    /// What can be decided without waiting, in the original's order.
    fn apply(&self, name: &str, push: &Push<'_>) -> Result<Application, JoinError> {
        let limits = &self.services.limits;
        if name.is_empty() {
            return Err(JoinError::TopicNameRequired);
        }
        if self.services.stopping.is_cancelled() {
            return Err(JoinError::Restarting);
        }
        let too_fast = limits.is_joined_too_fast();
        limits.count_join();
        if too_fast {
            return Err(JoinError::TooManyJoins);
        }
        let most = limits.limits().channels_per_client;
        if most.is_some_and(|most| self.channels.len() >= most.get() as usize) {
            return Err(JoinError::TooManyChannels);
        }
        let payload = if let Payload::Json(json) = push.payload { json } else { "" };
        let JoinRequest { config, token } = JoinRequest::read(payload)?;
        let config = config.unwrap_or_else(|| Config::legacy(name));
        if self.services.private_only && !config.private {
            return Err(JoinError::PrivateOnly);
        }
        let room = Room { topic: name.into(), private: config.private };
        Ok(Application { room, config, token, opener: self.opener.clone() })
    }

    /// Has an application decided: here if nothing has to be waited for, else beside the session.
    async fn enter(&mut self, application: Application, push: &Push<'_>, conn: &Arc<Connection>) {
        let id = ChannelId::next();
        let channel = Channel {
            id,
            room: application.room.clone(),
            join_ref: push.join_ref.as_deref().map(Box::from),
            stage: Stage::Joining { reference: push.reference.as_deref().map(Box::from), work: None },
            held: Held::default(),
        };
        let place = self.channels.len();
        self.channels.push(Box::new(channel));
        let services = self.services.clone();
        let work = async move { Event::Decided(id, decide(&services, application).await) };
        match self.begin(work, Event::Decided(id, Err(JoinError::Crashed)), conn) {
            Begun::Done(event) => self.happen(event, conn).await,
            Begun::Running(work) => self.hold(place, work),
        }
    }

    /// A decision has come; unless the client has left meanwhile, it is carried out.
    pub(super) async fn decided(
        &mut self,
        id: ChannelId,
        decision: Result<Box<Admitted>, JoinError>,
        conn: &Arc<Connection>,
    ) {
        let Some(place) = self.place_by_id(id) else {
            return;
        };
        let seated = match decision {
            Ok(admitted) => self.seat(place, *admitted, conn).await,
            Err(error) => Err(error),
        };
        match seated {
            Ok(()) => self.catch_up(id, conn).await,
            Err(error) => self.turn_away(place, &error, conn).await,
        }
    }

    /// Makes a channel a member of its room. First comes the reply, then what is sent again, then the state of presence,
    /// and only then what is said there.
    async fn seat(
        &mut self,
        place: usize,
        admitted: Admitted,
        conn: &Arc<Connection>,
    ) -> Result<(), JoinError> {
        let services = self.services.clone();
        let slots = services.hub.slots(1).await?;
        let replication_ready = admitted.config.replication_ready;
        self.sit(place, admitted, slots, conn);
        if replication_ready {
            self.await_replication(place, conn).await;
        }
        self.arm(conn);
        Ok(())
    }

    /// The part of it that waits for nothing, so that nothing comes in between.
    fn sit(&mut self, place: usize, admitted: Admitted, mut slots: Slots<'_>, conn: &Arc<Connection>) {
        let services = self.services.clone();
        let voice = self.voice(conn);
        let inbox = admitted.changes.1.is_some().then(|| self.inbox(conn));
        let is_back = self.farewells.are_recent(&self.channels[place].room.topic);
        let guest = self.admit(&admitted.claimant, conn);
        let channel = &mut self.channels[place];
        let Admitted { claimant, token, rights, replay, changes: (echo, prepared), config } = admitted;
        let Config { ack, hears_itself, presence_key, presence_enabled, .. } = config;
        let presence =
            Presence { enabled: presence_enabled, key: presence_key.map(Key::from), ..Presence::default() };
        let joined = Joined {
            claimant,
            guest,
            token,
            ack,
            hears_itself,
            presence,
            guard: None,
            changes: None,
            work: None,
            notice: None,
        };
        let before = std::mem::replace(&mut channel.stage, Stage::Joined(joined));
        let reference = if let Stage::Joining { reference, .. } = before { reference } else { None };
        let response = format!("{{\"postgres_changes\":{echo}}}");
        let mut first = vec![voice.reply(channel, reference.as_deref(), Status::Ok, &response)];
        let is_private = channel.room.private;
        let gate = is_private.then(|| Gate::new(heard(rights)));
        if let Some(gate) = &gate {
            // Before it is a member: nothing comes in between of which it may not hear.
            self.guard(place, rights, gate.clone(), conn);
        }
        let channel = &self.channels[place];
        // Until the membership is on its way nothing more is told.
        let kept = replay.as_ref().map(|(_, window)| window.kept());
        let replayed = replay.as_ref().zip(kept.as_deref()).map(|((stored, _), newer)| {
            let known =
                stored.broadcasts.iter().map(|broadcast| broadcast.id).chain(stored.others.iter().copied());
            let mut known: Box<HashSet<Uuid>> = Box::new(known.collect());
            // All of these were committed after what is stored, so this is the order of commits.
            let newer: Vec<_> = newer.iter().filter(|broadcast| known.insert(broadcast.id)).collect();
            let again = stored.broadcasts.iter().chain(newer);
            first.extend(again.filter_map(|broadcast| voice.replayed(channel, broadcast)));
            known
        });
        // A public room shows differences to all its members.
        let hears = if is_private && !presence_enabled { Hears::BROADCASTS } else { Hears::ALL };
        let member =
            Member { channel: channel.id, connection: Arc::clone(conn), hears, gate: gate.clone(), replayed };
        let room = channel.room.clone();
        let enter = || {
            if presence_enabled && rights.presence {
                services.presence.enter(&channel.room, |state| {
                    let state = voice.push(channel, "presence_state", &String::from_utf8_lossy(&state));
                    if is_back {
                        first.push(state.clone());
                    }
                    first.push(state);
                    slots.join(room, member, WireFrame::joined(&first));
                });
            } else {
                slots.join(room, member, WireFrame::joined(&first));
            }
        };
        let subscription = match (prepared, inbox) {
            (Some(prepared), Some(inbox)) => {
                let ears = Arc::new(SubscriptionEars { id: channel.id, inbox });
                Some(prepared.activate((channel.id, conn.id()), ears, enter))
            }
            _ => {
                enter();
                None
            }
        };
        drop(kept);
        if let Stage::Joined(joined) = &mut self.channels[place].stage {
            joined.changes = subscription.map(Subscribed::new);
        }
    }

    /// Tells the client once broadcasts from the database reach this node.
    async fn await_replication(&mut self, place: usize, conn: &Arc<Connection>) {
        let id = self.channels[place].id;
        let messages = self.services.messages.clone();
        let work = async move { Event::Live(id, timeout(LIVE_WITHIN, messages.until_live()).await.is_ok()) };
        match self.begin_within(LIVE_WITHIN * 2, work, Event::Live(id, false), conn) {
            Begun::Done(event) => Box::pin(self.happen(event, conn)).await,
            Begun::Running(notice) => {
                if let Stage::Joined(joined) = &mut self.channels[place].stage {
                    joined.notice = Some(notice);
                }
            }
        }
    }

    /// Broadcasts from the database reach this node, or did not in time.
    pub(super) async fn live(&mut self, id: ChannelId, is_live: bool, conn: &Arc<Connection>) {
        let Some(place) = self.place_by_id(id) else {
            return;
        };
        if !is_live {
            return self.expel(place, Ending::ReplicationLate, conn).await;
        }
        if let Stage::Joined(joined) = &mut self.channels[place].stage {
            joined.notice = None;
        }
        let voice = self.voice(conn);
        let text = "Replication connection established";
        voice.say(voice.system(&self.channels[place], "ok", "system", text)).await;
    }

    /// Refuses a join that was being decided, and what the client said in it meanwhile.
    async fn turn_away(&mut self, place: usize, error: &JoinError, conn: &Arc<Connection>) {
        let mut channel = self.channels.swap_remove(place);
        let reference = match &mut channel.stage {
            Stage::Joining { reference, .. } => reference.take(),
            Stage::Joined(_) => None,
        };
        self.refusals.pace().await;
        let voice = self.voice(conn);
        let response = reason(&error.to_string());
        voice.say(voice.reply(&channel, reference.as_deref(), Status::Error, &response)).await;
        while let Some(push) = channel.held.next() {
            voice.unmatched(&push.as_push()).await;
        }
    }

    /// Refuses a join before it was anything.
    async fn refuse(&mut self, push: &Push<'_>, error: &JoinError, conn: &Arc<Connection>) {
        self.refusals.pace().await;
        let response = reason(&error.to_string());
        self.voice(conn).answer(push.join_ref.as_deref(), push, Status::Error, &response).await;
    }

    /// A client leaves a channel. One that names another join means one that is over.
    pub(super) async fn leave(&mut self, place: usize, push: &Push<'_>, conn: &Arc<Connection>) {
        let is_meant = push
            .join_ref
            .as_deref()
            .is_none_or(|named| self.channels[place].join_ref.as_deref() == Some(named));
        if !is_meant {
            return;
        }
        let channel = self.channels.swap_remove(place);
        self.farewells.note(&channel.room.topic);
        let voice = self.voice(conn);
        let reply = voice.reply(&channel, push.reference.as_deref(), Status::Ok, NOTHING);
        let last = WireFrame::joined(&[reply, voice.close(&channel)]);
        self.depart(channel, Some(last), conn).await;
    }

    /// Ends a channel; nothing of it follows after `last`.
    pub(super) async fn depart(
        &self,
        mut channel: Box<Channel>,
        last: Option<WireFrame>,
        conn: &Arc<Connection>,
    ) {
        // No change is told from here on.
        if let Stage::Joined(joined) = &mut channel.stage {
            joined.changes = None;
        }
        // Both fail only when the server stops, and then the connection ends too.
        if let Ok(mut slots) = self.services.hub.slots(1).await {
            slots.leave(&channel.room, channel.id, conn, last);
        }
        let tracks = matches!(&channel.stage, Stage::Joined(joined) if joined.presence.tracks);
        if let Some(seat) = channel.presence_seat().filter(|_| tracks) {
            let _ = self.services.presence.untrack(&seat).await;
        }
    }
}
