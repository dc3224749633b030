//! Where differences in presence go: through the hub, to those in the room who hear presence.

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};

use super::{
    Room,
    presence::{Outlet, Reserved},
};
use crate::{
    hub::{Encodable, Hears, Hub, HubStopped, Post, Slots},
    protocol::phoenix::Said,
};

/// The hub, as presence sees it.
#[derive(Debug, Clone)]
pub struct DiffOutlet {
    hub: Hub,
}

impl DiffOutlet {
    /// Over the connections of this node.
    #[must_use]
    pub const fn new(hub: Hub) -> Self {
        Self { hub }
    }
}

impl Outlet for DiffOutlet {
    fn reserve(&self) -> BoxFuture<'_, Result<Box<dyn Reserved + '_>, HubStopped>> {
        async { Ok(Box::new(self.hub.slots(1).await?) as Box<dyn Reserved>) }.boxed()
    }
}

impl Reserved for Slots<'_> {
    fn send(mut self: Box<Self>, room: &Room, payload: Bytes) {
        // Presence writes JSON, which is text.
        let payload = String::from_utf8_lossy(&payload).into_owned().into();
        let diff = Said { topic: room.topic.clone(), event: "presence_diff".into(), payload };
        let post = Post { message: Encodable::new(diff), about: Hears::PRESENCE, except: None, id: None };
        self.post(room, post);
    }
}
