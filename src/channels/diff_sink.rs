//! Where differences in presence go: through the hub, to those in the room who hear presence.

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};

use super::presence::{DiffSink, ReservedDiff};
use crate::{
    hub::{Encodable, Hub, HubStopped, ReceiveMask, ReservedCommands, TopicDelivery},
    model::Topic,
    protocol::phoenix::TopicMessage,
};

/// The hub, as presence sees it.
#[derive(Debug, Clone)]
pub struct HubDiffSink {
    hub: Hub,
}

impl HubDiffSink {
    /// Over the connections of this node.
    #[must_use]
    pub const fn new(hub: Hub) -> Self {
        Self { hub }
    }
}

impl DiffSink for HubDiffSink {
    fn reserve(&self) -> BoxFuture<'_, Result<Box<dyn ReservedDiff + '_>, HubStopped>> {
        async { Ok(Box::new(self.hub.reserve(1).await?) as Box<dyn ReservedDiff>) }.boxed()
    }
}

impl ReservedDiff for ReservedCommands<'_> {
    fn send(mut self: Box<Self>, room: &Topic, payload: Bytes) {
        // Presence writes JSON, which is text.
        let payload = String::from_utf8_lossy(&payload).into_owned().into();
        let diff = TopicMessage { topic: room.name.clone(), event: "presence_diff".into(), payload };
        let post = TopicDelivery {
            message: Encodable::new(diff),
            kind: ReceiveMask::PRESENCE,
            except: None,
            id: None,
        };
        self.publish(room, post);
    }
}
