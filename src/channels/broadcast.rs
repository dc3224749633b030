//! Publishes broadcasts to the members of a topic on all nodes.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use futures_util::{FutureExt, future::BoxFuture};
use uuid::Uuid;

use super::bus::{Bus, BusMessage, BusSubscriber, Peers};
use crate::{
    hub::{Encodable, Hub, HubStopped, ReceiveMask, TopicDelivery},
    model::{ChannelId, Topic},
    protocol::phoenix::{TopicMessage, UserBroadcast, UserPayload},
};

/// Content of a broadcast. Payloads are the bytes that the client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BroadcastPayload {
    /// The complete payload as a JSON object, forwarded verbatim.
    Json(Box<str>),
    /// A broadcast with its event outside of the payload.
    User {
        event: Box<str>,
        payload: UserPayload,
        /// JSON object with further metadata.
        meta: Option<Box<str>>,
    },
}

/// Type byte of an encoded payload.
mod kind {
    pub(super) const JSON: u8 = 0;
    pub(super) const USER_JSON: u8 = 1;
    pub(super) const USER_BINARY: u8 = 2;
}

impl BroadcastPayload {
    /// Encodes the payload for the bus.
    #[expect(clippy::cast_possible_truncation, reason = "frames are limited to megabytes")]
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Json(payload) => {
                out.put_u8(kind::JSON);
                out.put_slice(payload.as_bytes());
            }
            Self::User { event, payload, meta } => {
                let meta = meta.as_deref().unwrap_or_default();
                let (kind, payload) = match payload {
                    UserPayload::Json(json) => (kind::USER_JSON, json.as_bytes()),
                    UserPayload::Binary(bytes) => (kind::USER_BINARY, &**bytes),
                };
                out.put_u8(kind);
                for part in [event.as_bytes(), meta.as_bytes()] {
                    out.put_u32(part.len() as u32);
                    out.put_slice(part);
                }
                out.put_slice(payload);
            }
        }
        out.into()
    }

    /// Decodes a payload from the bus. `None` if another version of the server wrote it.
    #[must_use]
    pub fn decode(mut body: Bytes) -> Option<Self> {
        let kind = body.try_get_u8().ok()?;
        if kind == kind::JSON {
            return Some(Self::Json(into_text(body)?));
        }
        let (event, meta) = (read_part(&mut body)?, read_part(&mut body)?);
        let payload = match kind {
            kind::USER_JSON => UserPayload::Json(into_text(body)?),
            kind::USER_BINARY => UserPayload::Binary(body),
            _ => return None,
        };
        let meta = Some(into_text(meta)?).filter(|meta| !meta.is_empty());
        Some(Self::User { event: into_text(event)?, payload, meta })
    }
}

fn read_part(rest: &mut Bytes) -> Option<Bytes> {
    let length = rest.try_get_u32().ok()? as usize;
    (length <= rest.len()).then(|| rest.split_to(length))
}

fn into_text(bytes: Bytes) -> Option<Box<str>> {
    String::from_utf8(bytes.into()).ok().map(String::into_boxed_str)
}

/// Publishes broadcasts on all nodes.
#[derive(Clone)]
pub struct Broadcaster {
    local: LocalBroadcaster,
    bus: Arc<dyn Bus>,
    peers: Peers,
}

impl Broadcaster {
    /// Publishes on this node and, while there are other live nodes, on the bus.
    #[must_use]
    pub fn new(local: LocalBroadcaster, bus: Arc<dyn Bus>, peers: Peers) -> Self {
        Self { local, bus, peers }
    }

    /// Publishes a broadcast to all members of a topic.
    ///
    /// # Errors
    ///
    /// The hub has stopped.
    pub async fn publish(&self, topic: &Topic, payload: BroadcastPayload) -> Result<(), HubStopped> {
        let delivery = self.publish_remote(topic, payload, None);
        self.publish_local(topic, Arc::new([delivery])).await
    }

    /// Publishes a broadcast on the other nodes, and returns what [`Self::publish_local`] publishes on this
    /// one to all members but `except`.
    #[must_use]
    pub fn publish_remote(
        &self,
        topic: &Topic,
        payload: BroadcastPayload,
        except: Option<ChannelId>,
    ) -> TopicDelivery {
        if !self.peers.is_single_node() {
            self.bus.publish(BusMessage { topic: topic.clone(), body: payload.encode() });
        }
        topic_delivery(topic, payload, except, None)
    }

    /// Publishes broadcasts on this node. Waits while mailboxes are full, which slows down senders.
    ///
    /// # Errors
    ///
    /// The hub has stopped.
    pub async fn publish_local(
        &self,
        topic: &Topic,
        deliveries: Arc<[TopicDelivery]>,
    ) -> Result<(), HubStopped> {
        self.local.hub.publish(topic, deliveries).await
    }
}

/// Publishes broadcasts on this node only.
#[derive(Debug, Clone)]
pub struct LocalBroadcaster {
    hub: Hub,
}

impl LocalBroadcaster {
    #[must_use]
    pub const fn new(hub: Hub) -> Self {
        Self { hub }
    }

    /// Publishes a broadcast to the members on this node. Members that received the broadcast `id` in a
    /// replay are skipped.
    ///
    /// # Errors
    ///
    /// The hub has stopped.
    pub async fn deliver(
        &self,
        topic: &Topic,
        payload: BroadcastPayload,
        id: Option<Uuid>,
    ) -> Result<(), HubStopped> {
        self.hub.publish(topic, Arc::new([topic_delivery(topic, payload, None, id)])).await
    }
}

fn topic_delivery(
    topic: &Topic,
    payload: BroadcastPayload,
    except: Option<ChannelId>,
    id: Option<Uuid>,
) -> TopicDelivery {
    let topic = topic.name.clone();
    let message = match payload {
        BroadcastPayload::Json(payload) => {
            Encodable::new(TopicMessage { topic, event: "broadcast".into(), payload }) as _
        }
        BroadcastPayload::User { event, payload, meta } => {
            Encodable::new(UserBroadcast { topic, event, payload, meta }) as _
        }
    };
    TopicDelivery { message, kind: ReceiveMask::BROADCASTS, except, id }
}

impl BusSubscriber for LocalBroadcaster {
    fn on_message(&self, BusMessage { topic, body }: BusMessage) -> BoxFuture<'_, ()> {
        async move {
            match BroadcastPayload::decode(body) {
                // This fails only when the server is stopping.
                Some(payload) => drop(self.deliver(&topic, payload, None).await),
                None => tracing::warn!("cannot decode a broadcast from another node"),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_round_trip_and_truncated_ones_are_rejected() {
        let user = |payload, meta: Option<&str>| BroadcastPayload::User {
            event: "é".into(),
            payload,
            meta: meta.map(Box::from),
        };
        for payload in [
            BroadcastPayload::Json(r#"{"a":1.10}"#.into()),
            user(UserPayload::Json("[1]".into()), None),
            user(UserPayload::Binary(Bytes::from_static(b"\0\xff")), Some(r#"{"id":"x"}"#)),
            user(UserPayload::Binary(Bytes::new()), None),
        ] {
            let body = payload.encode();
            assert_eq!(BroadcastPayload::decode(body.clone()), Some(payload));
            for cut in 0..body.len().min(6) {
                let read = BroadcastPayload::decode(body.slice(..cut));
                assert!(matches!(read, None | Some(BroadcastPayload::Json(_))), "{read:?}");
            }
        }
        assert_eq!(BroadcastPayload::decode(Bytes::from_static(&[9, 0, 0, 0, 0, 0, 0, 0, 0])), None);
    }
}
