//! A fresh token for a channel. It is never answered; what is wrong with it ends the channel.

use std::sync::Arc;

use super::{
    ChannelsSession, Services,
    background::Started,
    channel::{Joined, Stage},
    close::CloseCause,
    events::SessionEvent,
    token_expiry::{access_token, token_hash},
};
use crate::{
    auth::ChannelTokenError,
    channels::{ChannelPrincipal, authorization::ReadRights},
    model::{ChannelId, Topic},
    protocol::phoenix::{Payload, Push},
    transport::Connection,
};

/// What a fresh token makes of a channel.
#[derive(Debug)]
pub(super) struct RefreshedToken {
    /// As whom it acts from now on.
    principal: Arc<ChannelPrincipal>,
    /// The hash of the token's text.
    token_hash: u64,
    /// What it may read in its room.
    rights: ReadRights,
}

impl ChannelsSession {
    /// A client brings a token for a channel that it has joined.
    pub(super) async fn refresh_token(&mut self, place: usize, push: &Push<'_>, conn: &Arc<Connection>) {
        let Payload::Json(json) = push.payload else {
            return;
        };
        let (channel, Some(text)) = (&self.channels[place], access_token(json)) else {
            return;
        };
        let Stage::Joined(Joined { token_hash: token, principal: claimant, .. }) = &channel.stage else {
            return;
        };
        if *token == token_hash(&text) {
            return;
        }
        let (id, room) = (channel.id, channel.topic.clone());
        let (services, headers) = (self.services.clone(), claimant.headers.clone());
        let work = async move {
            SessionEvent::TokenRefreshed(id, verify_refresh(&services, &room, &text, headers).await)
        };
        let otherwise = SessionEvent::TokenRefreshed(id, Err(ChannelTokenError::Signer.into()));
        match self.start_work(work, otherwise, conn) {
            Started::Done(event) => self.on_event(event, conn).await,
            Started::Running(work) => self.set_pending_work(place, work),
        }
    }

    /// What comes of a fresh token.
    pub(super) async fn on_token_refreshed(
        &mut self,
        id: ChannelId,
        renewed: Result<RefreshedToken, CloseCause>,
        conn: &Arc<Connection>,
    ) {
        let Some(place) = self.index_by_id(id) else {
            return;
        };
        let RefreshedToken { principal: claimant, token_hash: token, rights } = match renewed {
            Ok(renewed) => renewed,
            Err(ending) => return self.close_channel(place, ending, conn).await,
        };
        let channel = &mut self.channels[place];
        let Stage::Joined(joined) = &mut channel.stage else {
            return;
        };
        joined.work = None;
        if let Some(changes) = &mut joined.subscription {
            changes.refresh_token(claimant.clone());
        }
        if joined.principal.user_id() != claimant.user_id() {
            joined.user_guard = claimant.user_id().map(|user| self.services.users.register(user, conn.id()));
        }
        joined.principal = claimant;
        joined.token_hash = token;
        if let Some(guard) = &joined.private_access {
            let had = guard.rights;
            if (had.broadcast && !rights.broadcast) || (had.presence && !rights.presence) {
                let topic = channel.topic.name.clone();
                return self.close_channel(place, CloseCause::LostRight(topic), conn).await;
            }
            let gate = guard.gate.clone();
            // Before the new watch, which is told at once if this is not true any more.
            self.apply_rights(place, rights, conn).await;
            self.subscribe_rights(place, rights, gate, conn);
        }
        self.arm_expiry_timer(conn);
        self.replay_held(id, conn).await;
    }
}

async fn verify_refresh(
    services: &Services,
    room: &Topic,
    token: &str,
    headers: Arc<str>,
) -> Result<RefreshedToken, CloseCause> {
    let believed = services.verifier.verify_channel_token(token).await?;
    let claimant = Arc::new(ChannelPrincipal::new(&believed, headers));
    let rights = services.authorizer.read_rights(&claimant, room).await;
    let rights = rights.map_err(|error| CloseCause::Rights(error, room.name.clone()))?;
    Ok(RefreshedToken { principal: claimant, token_hash: token_hash(token), rights })
}
