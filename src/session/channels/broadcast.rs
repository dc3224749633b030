//! What a joined channel says to everybody in its room.

use std::sync::Arc;

use super::{
    ChannelsSession,
    authorization::Permission,
    channel::{Joined, Stage},
    replies::{EMPTY, reason_json},
};
use crate::{
    channels::{BroadcastPayload, authorization::AuthorizationError},
    protocol::phoenix::{Payload, Push, ReplyStatus, UserPayload},
    transport::Connection,
};

/// Why a broadcast goes nowhere. The `Display` is the `reason` that is answered where an answer was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum BroadcastError {
    #[error("payload_size_exceeded")]
    TooLarge,
    #[error("Broadcast payload must be a map")]
    NotAnObject,
    #[error("{reason}", reason = .0.write_reason(.1))]
    NotAllowed(AuthorizationError, Arc<str>),
}

impl ChannelsSession {
    /// A client broadcasts in a channel that it has joined.
    pub(super) async fn on_broadcast(&mut self, place: usize, push: &Push<'_>, conn: &Arc<Connection>) {
        let may = match self.write_permission(place, push, conn) {
            Permission::Known(rights) if rights.broadcast => Ok(()),
            Permission::Known(_) => Err(AuthorizationError::Unauthorized),
            Permission::Failed(error) => Err(error),
            Permission::Pending => return,
        };
        let channel = &self.channels[place];
        let Stage::Joined(Joined { ack, receives_own: hears_itself, .. }) = &channel.stage else {
            return;
        };
        let ack = *ack;
        let most = self.services.limits.limits().payload_bytes.unwrap_or(usize::MAX);
        let except = (!hears_itself).then_some(channel.id);
        let said = match (parse_payload(&push.payload, most), may) {
            // What nobody can read is dropped without a word, as in the original.
            (None, _) => return,
            (_, Err(error)) => Err(BroadcastError::NotAllowed(error, channel.topic.name.clone())),
            (Some(Ok(content)), Ok(())) => {
                let room = channel.topic.clone();
                let post = self.services.broadcaster.publish_remote(&room, content, except);
                self.queue_broadcast(room, post).await;
                Ok(())
            }
            (Some(Err(unspoken)), Ok(())) => Err(unspoken),
        };
        if ack {
            self.flush_broadcasts().await;
            let (voice, channel) = (self.replies(conn), &self.channels[place]);
            let frame = match said {
                Ok(()) => voice.reply_frame(channel, push.reference.as_deref(), ReplyStatus::Ok, EMPTY),
                Err(unspoken) => {
                    let response = reason_json(&unspoken.to_string());
                    voice.reply_frame(channel, push.reference.as_deref(), ReplyStatus::Error, &response)
                }
            };
            voice.send(frame).await;
        }
    }
}

/// What is to be said; `None` for what nobody could read.
fn parse_payload(payload: &Payload<'_>, most: usize) -> Option<Result<BroadcastPayload, BroadcastError>> {
    match *payload {
        Payload::Json(json) if !json.starts_with('{') => Some(Err(BroadcastError::NotAnObject)),
        Payload::Json(json) if json.len() > most => Some(Err(BroadcastError::TooLarge)),
        Payload::Json(json) => Some(Ok(BroadcastPayload::Json(json.into()))),
        Payload::User(user) if user.bytes.len() > most => Some(Err(BroadcastError::TooLarge)),
        Payload::User(user) => {
            let payload = match user.json {
                Some(json) => UserPayload::Json(json.into()),
                None => UserPayload::Binary(user.bytes.to_vec().into()),
            };
            Some(Ok(BroadcastPayload::User { event: user.event.into(), payload, meta: None }))
        }
        Payload::Binary(_) => None,
    }
}
