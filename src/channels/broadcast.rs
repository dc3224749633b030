//! What is broadcast, and its way to everybody in a room.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use futures_util::{FutureExt, future::BoxFuture};
use uuid::Uuid;

use super::{
    ChannelId, Room,
    bus::{Bus, Hearer, Message, Neighbours},
};
use crate::{
    hub::{Encodable, Hears, Hub, HubStopped, Post},
    protocol::phoenix::{Said, UserBroadcast, UserPayload},
};

/// What is said. Payloads are the bytes that somebody sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A text broadcast: the whole payload, an object, goes on verbatim.
    Text(Box<str>),
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

impl Content {
    /// For the bus.
    #[expect(clippy::cast_possible_truncation, reason = "frames are limited to megabytes")]
    fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Text(payload) => {
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
            return Some(Self::Text(text(body)?));
        }
        let (event, meta) = (part(&mut body)?, part(&mut body)?);
        let payload = match kind {
            kind::USER_JSON => UserPayload::Json(text(body)?),
            kind::USER_BINARY => UserPayload::Binary(body),
            _ => return None,
        };
        let meta = Some(text(meta)?).filter(|meta| !meta.is_empty());
        Some(Self::User { event: text(event)?, payload, meta })
    }
}

fn part(rest: &mut Bytes) -> Option<Bytes> {
    let length = rest.try_get_u32().ok()? as usize;
    (length <= rest.len()).then(|| rest.split_to(length))
}

fn text(bytes: Bytes) -> Option<Box<str>> {
    String::from_utf8(bytes.into()).ok().map(String::into_boxed_str)
}

/// Says things in rooms, on all nodes.
#[derive(Clone)]
pub struct Broadcaster {
    local: LocalRooms,
    bus: Arc<dyn Bus>,
    neighbours: Neighbours,
}

impl Broadcaster {
    /// Over the connections of this node and, where `neighbours` are, over the bus.
    #[must_use]
    pub fn new(local: LocalRooms, bus: Arc<dyn Bus>, neighbours: Neighbours) -> Self {
        Self { local, bus, neighbours }
    }

    /// Says something to everybody in a room.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn publish(&self, room: &Room, content: Content) -> Result<(), HubStopped> {
        let post = self.begin(room, content, None);
        self.finish(room, Arc::new([post])).await
    }

    /// Says something to everybody in a room but `except`, on the other nodes; on this one when [`Self::finish`] is
    /// told to.
    #[must_use]
    pub fn begin(&self, room: &Room, content: Content, except: Option<ChannelId>) -> Post {
        if !self.neighbours.is_alone() {
            self.bus.publish(Message { room: room.clone(), body: content.encode() });
        }
        post(room, content, except, None)
    }

    /// Says on this node what was begun. Waits while mailboxes are full, which is what slows down who says too much.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn finish(&self, room: &Room, posts: Arc<[Post]>) -> Result<(), HubStopped> {
        self.local.hub.post(room, posts).await
    }
}

/// The rooms of this node.
#[derive(Debug, Clone)]
pub struct LocalRooms {
    hub: Hub,
}

impl LocalRooms {
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
    pub async fn deliver(&self, room: &Room, content: Content, id: Option<Uuid>) -> Result<(), HubStopped> {
        self.hub.post(room, Arc::new([post(room, content, None, id)])).await
    }
}

fn post(room: &Room, content: Content, except: Option<ChannelId>, id: Option<Uuid>) -> Post {
    let topic = room.topic.clone();
    let message = match content {
        Content::Text(payload) => Encodable::new(Said { topic, event: "broadcast".into(), payload }) as _,
        Content::User { event, payload, meta } => {
            Encodable::new(UserBroadcast { topic, event, payload, meta }) as _
        }
    };
    Post { message, about: Hears::BROADCASTS, except, id }
}

impl Hearer for LocalRooms {
    fn hear(&self, Message { room, body }: Message) -> BoxFuture<'_, ()> {
        async move {
            match Content::decode(body) {
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
        let user = |payload, meta: Option<&str>| Content::User {
            event: "é".into(),
            payload,
            meta: meta.map(Box::from),
        };
        for content in [
            Content::Text(r#"{"a":1.10}"#.into()),
            user(UserPayload::Json("[1]".into()), None),
            user(UserPayload::Binary(Bytes::from_static(b"\0\xff")), Some(r#"{"id":"x"}"#)),
            user(UserPayload::Binary(Bytes::new()), None),
        ] {
            let body = content.encode();
            assert_eq!(Content::decode(body.clone()), Some(content));
            for cut in 0..body.len().min(6) {
                let read = Content::decode(body.slice(..cut));
                assert!(matches!(read, None | Some(Content::Text(_))), "{read:?}");
            }
        }
        assert_eq!(Content::decode(Bytes::from_static(&[9, 0, 0, 0, 0, 0, 0, 0, 0])), None);
    }
}
