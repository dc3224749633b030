//! What is broadcast, and its way to everybody in a room.

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

/// What is said. Payloads are the bytes that somebody sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BroadcastPayload {
    /// A text broadcast: the whole payload, an object, goes on verbatim.
    Json(Box<str>),
    /// A user broadcast.
    User {
        /// The user's event.
        event: Box<str>,
        /// The user's payload.
        payload: UserPayload,
        /// A JSON object that goes beside it.
        meta: Option<Box<str>>,
    },
}

/// How contents are told apart on the bus.
mod kind {
    pub const TEXT: u8 = 0;
    pub const USER_JSON: u8 = 1;
    pub const USER_BINARY: u8 = 2;
}

impl BroadcastPayload {
    /// For the bus.
    #[expect(clippy::cast_possible_truncation, reason = "frames are limited to megabytes")]
    fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Json(payload) => {
                out.put_u8(kind::TEXT);
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

    /// From the bus; `None` for what another version of this server may have written.
    fn decode(mut body: Bytes) -> Option<Self> {
        let kind = body.try_get_u8().ok()?;
        if kind == kind::TEXT {
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

/// Says things in rooms, on all nodes.
#[derive(Clone)]
pub struct Broadcaster {
    local: LocalBroadcaster,
    bus: Arc<dyn Bus>,
    peers: Peers,
}

impl Broadcaster {
    /// Over the connections of this node and, where `neighbours` are, over the bus.
    #[must_use]
    pub fn new(local: LocalBroadcaster, bus: Arc<dyn Bus>, neighbours: Peers) -> Self {
        Self { local, bus, peers: neighbours }
    }

    /// Says something to everybody in a room.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn publish(&self, room: &Topic, content: BroadcastPayload) -> Result<(), HubStopped> {
        let post = self.publish_remote(room, content, None);
        self.publish_local(room, Arc::new([post])).await
    }

    /// Says something to everybody in a room but `except`, on the other nodes; on this one when [`Self::finish`] is
    /// told to.
    #[must_use]
    pub fn publish_remote(
        &self,
        room: &Topic,
        content: BroadcastPayload,
        except: Option<ChannelId>,
    ) -> TopicDelivery {
        if !self.peers.is_single_node() {
            self.bus.publish(BusMessage { topic: room.clone(), body: content.encode() });
        }
        topic_post(room, content, except, None)
    }

    /// Says on this node what was begun. Waits while mailboxes are full, which is what slows down who says too much.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn publish_local(&self, room: &Topic, posts: Arc<[TopicDelivery]>) -> Result<(), HubStopped> {
        self.local.hub.publish(room, posts).await
    }
}

/// The rooms of this node.
#[derive(Debug, Clone)]
pub struct LocalBroadcaster {
    hub: Hub,
}

impl LocalBroadcaster {
    /// Over the connections of this node.
    #[must_use]
    pub const fn new(hub: Hub) -> Self {
        Self { hub }
    }

    /// Says something to those in a room who are connected to this node. `id` is by what those know it who may have
    /// had it replayed.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn deliver(
        &self,
        room: &Topic,
        content: BroadcastPayload,
        id: Option<Uuid>,
    ) -> Result<(), HubStopped> {
        self.hub.publish(room, Arc::new([topic_post(room, content, None, id)])).await
    }
}

fn topic_post(
    room: &Topic,
    content: BroadcastPayload,
    except: Option<ChannelId>,
    id: Option<Uuid>,
) -> TopicDelivery {
    let topic = room.name.clone();
    let message = match content {
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
    fn on_message(&self, BusMessage { topic: room, body }: BusMessage) -> BoxFuture<'_, ()> {
        async move {
            match BroadcastPayload::decode(body) {
                // It fails only when the server stops.
                Some(content) => drop(self.deliver(&room, content, None).await),
                None => tracing::warn!("another node said something that this one cannot read"),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_over_the_bus_comes_out_as_it_went_in_and_cut_short_as_nothing() {
        let user = |payload, meta: Option<&str>| BroadcastPayload::User {
            event: "é".into(),
            payload,
            meta: meta.map(Box::from),
        };
        for content in [
            BroadcastPayload::Json(r#"{"a":1.10}"#.into()),
            user(UserPayload::Json("[1]".into()), None),
            user(UserPayload::Binary(Bytes::from_static(b"\0\xff")), Some(r#"{"id":"x"}"#)),
            user(UserPayload::Binary(Bytes::new()), None),
        ] {
            let body = content.encode();
            assert_eq!(BroadcastPayload::decode(body.clone()), Some(content));
            for cut in 0..body.len().min(6) {
                let read = BroadcastPayload::decode(body.slice(..cut));
                assert!(matches!(read, None | Some(BroadcastPayload::Json(_))), "{read:?}");
            }
        }
        assert_eq!(BroadcastPayload::decode(Bytes::from_static(&[9, 0, 0, 0, 0, 0, 0, 0, 0])), None);
    }
}
