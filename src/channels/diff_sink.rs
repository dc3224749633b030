//! Sends presence diffs through the hub to the members of a topic that receive presence.

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};

use super::presence::{DiffSink, ReservedDiff};
use crate::{
    hub::{Encodable, Hub, HubStopped, ReceiveMask, ReservedCommands, TopicDelivery},
    model::Topic,
    protocol::phoenix::TopicMessage,
};

/// Sends presence diffs to the connections of this node.
#[derive(Debug, Clone)]
pub struct HubDiffSink {
    hub: Hub,
}

impl HubDiffSink {
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
    fn send(mut self: Box<Self>, topic: &Topic, payload: Bytes) {
        // The payload is JSON and so valid UTF-8.
        let payload = String::from_utf8_lossy(&payload).into_owned().into();
        let diff = TopicMessage { topic: topic.name.clone(), event: "presence_diff".into(), payload };
        let delivery = TopicDelivery {
            message: Encodable::new(diff),
            kind: ReceiveMask::PRESENCE,
            except: None,
            id: None,
        };
        self.publish(topic, delivery);
    }
}
