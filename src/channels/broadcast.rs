//! What is broadcast, and its way to everybody in a room.

use uuid::Uuid;

use super::{ChannelId, Room};
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

/// Says things in rooms. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broadcaster {
    hub: Hub,
}

impl Broadcaster {
    /// Over the connections of this node.
    #[must_use]
    pub const fn new(hub: Hub) -> Self {
        Self { hub }
    }

    /// Says something to everybody in a room but `except`. Waits while mailboxes are full, which is what slows down
    /// who says too much.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn publish(
        &self,
        room: &Room,
        content: Content,
        except: Option<ChannelId>,
    ) -> Result<(), HubStopped> {
        self.deliver(room, content, except, None).await
    }

    /// Says something to those in a room who are connected to this node. `id` is by what those know it who may have
    /// had it replayed.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn deliver(
        &self,
        room: &Room,
        content: Content,
        except: Option<ChannelId>,
        id: Option<Uuid>,
    ) -> Result<(), HubStopped> {
        let topic = room.topic.clone();
        let post = |message| Post { message, about: Hears::BROADCASTS, except, id };
        let post = match content {
            Content::Text(payload) => {
                post(Encodable::new(Said { topic, event: "broadcast".into(), payload }) as _)
            }
            Content::User { event, payload, meta } => {
                post(Encodable::new(UserBroadcast { topic, event, payload, meta }) as _)
            }
        };
        self.hub.post(room, post).await
    }
}
