//! Broadcasts of a joined channel.

use std::sync::Arc;

use super::{
    authorization::Permission,
    channel::{Joined, Stage},
    replies::{EMPTY, reason_json},
    state::ChannelsSession,
};
use crate::{
    channels::{BroadcastPayload, authorization::AuthorizationError},
    protocol::phoenix::{Payload, Push, ReplyStatus, UserPayload},
    transport::Connection,
};

/// Why a broadcast is rejected. The `Display` is the `reason` of the reply, if one was requested.
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
    /// Broadcasts to the topic of a joined channel.
    pub(super) async fn on_broadcast(&mut self, index: usize, push: &Push<'_>, conn: &Arc<Connection>) {
        let permission = match self.write_permission(index, push, conn) {
            Permission::Known(rights) if rights.broadcast => Ok(()),
            Permission::Known(_) => Err(AuthorizationError::Unauthorized),
            Permission::Failed(error) => Err(error),
            Permission::Pending => return,
        };
        let channel = &self.channels[index];
        let Stage::Joined(Joined { ack, receives_own, .. }) = &channel.stage else {
            return;
        };
        let ack = *ack;
        let max = self.services.limits.limits().payload_bytes().unwrap_or(usize::MAX);
        let except = (!receives_own).then_some(channel.id);
        let result = match (parse_payload(&push.payload, max), permission) {
            // Supabase Realtime drops broadcasts with an unknown encoding without a reply.
            (None, _) => return,
            (_, Err(error)) => Err(BroadcastError::NotAllowed(error, channel.topic.name.clone())),
            (Some(Ok(payload)), Ok(())) => {
                let topic = channel.topic.clone();
                let delivery = self.services.broadcaster.publish_remote(&topic, payload, except);
                self.queue_broadcast(topic, delivery).await;
                Ok(())
            }
            (Some(Err(error)), Ok(())) => Err(error),
        };
        if ack {
            self.flush_broadcasts().await;
            let (replies, channel) = (self.replies(conn), &self.channels[index]);
            let frame = match result {
                Ok(()) => replies.reply_frame(channel, push.reference.as_deref(), ReplyStatus::Ok, EMPTY),
                Err(error) => {
                    let response = reason_json(&error.to_string());
                    replies.reply_frame(channel, push.reference.as_deref(), ReplyStatus::Error, &response)
                }
            };
            replies.send(frame).await;
        }
    }
}

/// Parses the payload of a broadcast. `None` if its encoding is unknown.
fn parse_payload(payload: &Payload<'_>, max: usize) -> Option<Result<BroadcastPayload, BroadcastError>> {
    match *payload {
        Payload::Json(json) if !json.starts_with('{') => Some(Err(BroadcastError::NotAnObject)),
        Payload::Json(json) if json.len() > max => Some(Err(BroadcastError::TooLarge)),
        Payload::Json(json) => Some(Ok(BroadcastPayload::Json(json.into()))),
        Payload::User(user) if user.bytes.len() > max => Some(Err(BroadcastError::TooLarge)),
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
