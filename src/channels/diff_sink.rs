//! Sends presence diffs through the hub to the members of a topic that receive presence.

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};

use super::presence::{DiffSink, Occupancy, ReservedDiff};
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
        let payload = String::from_utf8_lossy(&payload).into_owned();
        self.publish(topic, delivery(topic, "presence_diff", payload, ReceiveMask::PRESENCE));
    }

    fn send_occupancy(mut self: Box<Self>, topic: &Topic, occupancy: Occupancy) {
        let payload = occupancy.to_json();
        self.publish(topic, delivery(topic, "presence_occupancy", payload, ReceiveMask::OCCUPANCY));
    }
}

fn delivery(topic: &Topic, event: &'static str, payload: String, kind: ReceiveMask) -> TopicDelivery {
    let message = TopicMessage { topic: topic.name.clone(), event: event.into(), payload: payload.into() };
    TopicDelivery { message: Encodable::new(message), kind, except: None, id: None }
}
