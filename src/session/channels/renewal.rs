//! A fresh token for a channel. It is never answered; what is wrong with it ends the channel.

use std::sync::Arc;

use super::{
    ChannelsSession, Services,
    channel::{Joined, Stage},
    ending::Ending,
    inbox::Event,
    tokens::{brought, hash},
    work::Begun,
};
use crate::{
    auth::ChannelTokenError,
    channels::{ChannelId, Claimant, Room, authorization::ReadRights},
    protocol::phoenix::{Payload, Push},
    transport::Connection,
};

/// What a fresh token makes of a channel.
#[derive(Debug)]
pub(super) struct Renewed {
    /// As whom it acts from now on.
    claimant: Arc<Claimant>,
    /// The hash of the token's text.
    token: u64,
    /// What it may read in its room.
    rights: ReadRights,
}

impl ChannelsSession {
    /// A client brings a token for a channel that it has joined.
    pub(super) async fn renew(&mut self, place: usize, push: &Push<'_>, conn: &Arc<Connection>) {
        let Payload::Json(json) = push.payload else {
            return;
        };
        let (channel, Some(text)) = (&self.channels[place], brought(json)) else {
            return;
        };
        let Stage::Joined(Joined { token, claimant, .. }) = &channel.stage else {
            return;
        };
        if *token == hash(&text) {
            return;
        }
        let (id, room) = (channel.id, channel.room.clone());
        let (services, headers) = (self.services.clone(), claimant.headers.clone());
        let work = async move { Event::Renewed(id, renewed(&services, &room, &text, headers).await) };
        let otherwise = Event::Renewed(id, Err(ChannelTokenError::Signer.into()));
        match self.begin(work, otherwise, conn) {
            Begun::Done(event) => self.happen(event, conn).await,
            Begun::Running(work) => self.hold(place, work),
        }
    }

    /// What comes of a fresh token.
    pub(super) async fn renewed(
        &mut self,
        id: ChannelId,
        renewed: Result<Renewed, Ending>,
        conn: &Arc<Connection>,
    ) {
        let Some(place) = self.place_by_id(id) else {
            return;
        };
        let Renewed { claimant, token, rights } = match renewed {
            Ok(renewed) => renewed,
            Err(ending) => return self.expel(place, ending, conn).await,
        };
        let channel = &mut self.channels[place];
        let Stage::Joined(joined) = &mut channel.stage else {
            return;
        };
        joined.work = None;
        if let Some(changes) = &mut joined.changes {
            changes.renew(claimant.clone());
        }
        if joined.claimant.user() != claimant.user() {
            joined.guest = claimant.user().map(|user| self.services.guests.enter(user, conn.id()));
        }
        joined.claimant = claimant;
        joined.token = token;
        if let Some(guard) = &joined.guard {
            let had = guard.rights;
            if (had.broadcast && !rights.broadcast) || (had.presence && !rights.presence) {
                let topic = channel.room.topic.clone();
                return self.expel(place, Ending::LostRight(topic), conn).await;
            }
            let gate = guard.gate.clone();
            // Before the new watch, which is told at once if this is not true any more.
            self.adopt(place, rights, conn).await;
            self.guard(place, rights, gate, conn);
        }
        self.arm(conn);
        self.catch_up(id, conn).await;
    }
}

async fn renewed(
    services: &Services,
    room: &Room,
    token: &str,
    headers: Arc<str>,
) -> Result<Renewed, Ending> {
    let believed = services.verifier.verify_channel(token).await?;
    let claimant = Arc::new(Claimant::new(&believed, headers));
    let rights = services.authorizer.read(&claimant, room).await;
    let rights = rights.map_err(|error| Ending::Rights(error, room.topic.clone()))?;
    Ok(Renewed { claimant, token: hash(token), rights })
}
