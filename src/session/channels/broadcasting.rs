//! What a joined channel says to everybody in its room.

use std::sync::Arc;

use super::{
    ChannelsSession,
    channel::{Joined, Stage},
    rights::Permission,
    voice::{NOTHING, reason},
};
use crate::{
    channels::{Content, authorization::AuthorizationError},
    protocol::phoenix::{Payload, Push, Status, UserPayload},
    transport::Connection,
};

/// Why a broadcast goes nowhere. The `Display` is the `reason` that is answered where an answer was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Unspoken {
    #[error("payload_size_exceeded")]
    TooLarge,
    #[error("Broadcast payload must be a map")]
    NotAnObject,
    #[error("{reason}", reason = .0.write_reason(.1))]
    NotAllowed(AuthorizationError, Arc<str>),
}

impl ChannelsSession {
    /// A client broadcasts in a channel that it has joined.
    pub(super) async fn broadcast(&mut self, place: usize, push: &Push<'_>, conn: &Arc<Connection>) {
        let may = match self.may_write(place, push, conn) {
            Permission::Known(rights) if rights.broadcast => Ok(()),
            Permission::Known(_) => Err(AuthorizationError::Unauthorized),
            Permission::Failed(error) => Err(error),
            Permission::Asked => return,
        };
        let channel = &self.channels[place];
        let Stage::Joined(Joined { ack, hears_itself, .. }) = &channel.stage else {
            return;
        };
        let ack = *ack;
        let most = self.services.limits.limits().payload_bytes.unwrap_or(usize::MAX);
        let except = (!hears_itself).then_some(channel.id);
        let said = match (content(&push.payload, most), may) {
            // What nobody can read is dropped without a word, as in the original.
            (None, _) => return,
            (_, Err(error)) => Err(Unspoken::NotAllowed(error, channel.room.topic.clone())),
            (Some(Ok(content)), Ok(())) => {
                let room = channel.room.clone();
                let post = self.services.broadcaster.begin(&room, content, except);
                self.say(room, post).await;
                Ok(())
            }
            (Some(Err(unspoken)), Ok(())) => Err(unspoken),
        };
        if ack {
            self.speak().await;
            let (voice, channel) = (self.voice(conn), &self.channels[place]);
            let frame = match said {
                Ok(()) => voice.reply(channel, push.reference.as_deref(), Status::Ok, NOTHING),
                Err(unspoken) => {
                    let response = reason(&unspoken.to_string());
                    voice.reply(channel, push.reference.as_deref(), Status::Error, &response)
                }
            };
            voice.say(frame).await;
        }
    }
}

/// What is to be said; `None` for what nobody could read.
fn content(payload: &Payload<'_>, most: usize) -> Option<Result<Content, Unspoken>> {
    match *payload {
        Payload::Json(json) if !json.starts_with('{') => Some(Err(Unspoken::NotAnObject)),
        Payload::Json(json) if json.len() > most => Some(Err(Unspoken::TooLarge)),
        Payload::Json(json) => Some(Ok(Content::Text(json.into()))),
        Payload::User(user) if user.bytes.len() > most => Some(Err(Unspoken::TooLarge)),
        Payload::User(user) => {
            let payload = match user.json {
                Some(json) => UserPayload::Json(json.into()),
                None => UserPayload::Binary(user.bytes.to_vec().into()),
            };
            Some(Ok(Content::User { event: user.event.into(), payload, meta: None }))
        }
        Payload::Binary(_) => None,
    }
}
