//! Into a room and out of it.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{
    ChannelsSession,
    admission::{Admitted, Application, decide},
    channel::{Channel, Held, Joined, Stage},
    config::{Config, JoinRequest},
    error::JoinError,
    inbox::Event,
    voice::{NOTHING, reason},
};
use crate::{
    channels::{ChannelId, Room},
    hub::{Hears, Member},
    protocol::phoenix::{Payload, Push, Status},
    transport::{Connection, frame::WireFrame},
};

/// The longest that a join may be decided about; each wait on the way has a bound of its own.
const DECIDE_WITHIN: Duration = Duration::from_secs(20);

impl ChannelsSession {
    /// A client wants to join; whatever it had joined under that name before ends first.
    pub(super) async fn join(&mut self, name: &str, push: &Push<'_>, conn: &Arc<Connection>) {
        if let Some(place) = self.place_of(name) {
            // Without a word: there are clients that take any close for the end of the join that is to come.
            let old = self.channels.swap_remove(place);
            self.depart(&old, None, conn).await;
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
        let config = config.unwrap_or_default();
        let room = Room { topic: name.into(), private: config.private };
        Ok(Application { room, config, token, opener: self.opener.clone() })
    }

    /// Has an application decided: here if nothing has to be waited for, else beside the session.
    async fn enter(&mut self, application: Application, push: &Push<'_>, conn: &Arc<Connection>) {
        let id = ChannelId::next();
        let mut deciding = Box::pin(decide(self.services.clone(), application.clone()));
        let at_once = (&mut deciding).now_or_never();
        let task = match at_once {
            Some(_) => None,
            None => {
                let inbox = self.inbox(conn);
                let task = self.services.tasks.spawn(async move {
                    let decided = AssertUnwindSafe(timeout(DECIDE_WITHIN, deciding)).catch_unwind().await;
                    let decision = match decided {
                        Ok(Ok(decision)) => decision,
                        Ok(Err(_)) | Err(_) => Err(JoinError::Crashed),
                    };
                    inbox.put(Event::Decided(id, decision));
                });
                Some(AbortOnDropHandle::new(task))
            }
        };
        self.channels.push(Box::new(Channel {
            id,
            room: application.room,
            join_ref: push.join_ref.as_deref().map(Box::from),
            stage: Stage::Joining { reference: push.reference.as_deref().map(Box::from), _task: task },
            held: Held::default(),
        }));
        if let Some(decision) = at_once {
            self.decided(id, decision, conn).await;
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

    /// Makes a channel a member of its room: the reply first, then the membership.
    async fn seat(
        &mut self,
        place: usize,
        admitted: Admitted,
        conn: &Arc<Connection>,
    ) -> Result<(), JoinError> {
        let mut slots = self.services.hub.slots(1).await?;
        let voice = self.voice(conn);
        let channel = &mut self.channels[place];
        let Admitted { claimant, config } = admitted;
        let Config { ack, hears_itself, .. } = config;
        let joined = Stage::Joined(Joined { claimant, ack, hears_itself });
        let Stage::Joining { reference, .. } = std::mem::replace(&mut channel.stage, joined) else {
            return Ok(());
        };
        let reply = voice.reply(channel, reference.as_deref(), Status::Ok, r#"{"postgres_changes":[]}"#);
        let member = Member {
            channel: channel.id,
            connection: Arc::clone(conn),
            hears: Hears::ALL,
            gate: None,
            replayed: None,
        };
        slots.join(channel.room.clone(), member, reply);
        Ok(())
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
        let voice = self.voice(conn);
        let reply = voice.reply(&channel, push.reference.as_deref(), Status::Ok, NOTHING);
        let last = WireFrame::joined(&[reply, voice.close(&channel)]);
        self.depart(&channel, Some(last), conn).await;
    }

    /// Ends a channel; nothing of it follows after `last`.
    pub(super) async fn depart(&self, channel: &Channel, last: Option<WireFrame>, conn: &Arc<Connection>) {
        // It fails only when the server stops, and then the connection ends too.
        if let Ok(mut slots) = self.services.hub.slots(1).await {
            slots.leave(&channel.room, channel.id, conn, last);
        }
    }
}
