//! Broadcasts of a joined channel.

use std::sync::Arc;

use super::{
    authorization::Permission,
    channel::{Joined, Stage},
    events::SessionEvent,
    replies::{EMPTY, reason_json},
    state::ChannelsSession,
};
use crate::{
    channels::{
        BroadcastPayload, Publication,
        authorization::AuthorizationError,
        history::{NotStored, OnStored, UnstoredBroadcast},
    },
    model::ChannelId,
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
    #[error("UnableToStoreMessage: {0}")]
    NotStored(NotStored),
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
                match self.services.broadcaster.prepare(&topic, payload, except) {
                    Publication::Prepared(broadcast) => self.queue_broadcast(topic, broadcast).await,
                    Publication::Unstored(broadcast) => {
                        return self.store_broadcast(index, push, ack, broadcast, conn);
                    }
                }
                Ok(())
            }
            (Some(Err(error)), Ok(())) => Err(error),
        };
        if ack {
            self.flush_broadcasts().await;
            self.acknowledge(index, push.reference.as_deref(), result, conn).await;
        }
    }

    /// Queues a broadcast to be stored. The acknowledgement follows when it is committed or given up.
    fn store_broadcast(
        &mut self,
        index: usize,
        push: &Push<'_>,
        ack: bool,
        broadcast: UnstoredBroadcast,
        conn: &Arc<Connection>,
    ) {
        let on_stored = ack.then(|| {
            let (id, events) = (self.channels[index].id, self.events(conn));
            let reference = push.reference.as_deref().map(Box::from);
            let on_stored = move |result| events.push(SessionEvent::Stored(id, reference, result));
            Box::new(on_stored) as OnStored
        });
        self.services.broadcaster.store(broadcast, on_stored);
    }

    /// Acknowledges a broadcast that was stored or not, unless the channel has been left.
    pub(super) async fn on_stored(
        &self,
        id: ChannelId,
        reference: Option<&str>,
        result: Result<(), NotStored>,
        conn: &Arc<Connection>,
    ) {
        if let Some(index) = self.index_by_id(id) {
            self.acknowledge(index, reference, result.map_err(BroadcastError::NotStored), conn).await;
        }
    }

    async fn acknowledge(
        &self,
        index: usize,
        reference: Option<&str>,
        result: Result<(), BroadcastError>,
        conn: &Arc<Connection>,
    ) {
        let (replies, channel) = (self.replies(conn), &self.channels[index]);
        let frame = match result {
            Ok(()) => replies.reply_frame(channel, reference, ReplyStatus::Ok, EMPTY),
            Err(error) => {
                let response = reason_json(&error.to_string());
                replies.reply_frame(channel, reference, ReplyStatus::Error, &response)
            }
        };
        replies.send(frame).await;
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
