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
    channels::{ChannelId, Claimant},
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
        let (id, services, headers) = (channel.id, self.services.clone(), claimant.headers.clone());
        let work = async move { Event::Renewed(id, renewed(&services, &text, headers).await) };
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
        match renewed {
            Ok(Renewed { claimant, token }) => {
                if let Stage::Joined(joined) = &mut self.channels[place].stage {
                    joined.work = None;
                    joined.claimant = claimant;
                    joined.token = token;
                }
                self.arm(conn);
                self.catch_up(id, conn).await;
            }
            Err(ending) => self.expel(place, ending, conn).await,
        }
    }
}

async fn renewed(services: &Services, token: &str, headers: Arc<str>) -> Result<Renewed, Ending> {
    let believed = services.verifier.verify_channel(token).await?;
    Ok(Renewed { claimant: Arc::new(Claimant::new(&believed, headers)), token: hash(token) })
}
