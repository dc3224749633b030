//! Events for subscribers, and where they are delivered.

use futures_util::{FutureExt, future::BoxFuture};

use crate::{
    hub::{ConnId, Delivery, Encodable, Hub},
    protocol::phoenix::TopicMessage,
};

/// A message for some subscribers of its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeEvent {
    /// The event is `postgres_changes`, or the operation's name for legacy subscriptions.
    pub message: TopicMessage,
    pub recipients: Vec<ConnId>,
}

/// Delivers events to connections.
pub trait DeliverySink: Send + Sync + 'static {
    /// Delivers the events in order; waits while the hub's queues are full.
    fn deliver(&self, events: Vec<ChangeEvent>) -> BoxFuture<'_, ()>;
}

impl DeliverySink for Hub {
    fn deliver(&self, events: Vec<ChangeEvent>) -> BoxFuture<'_, ()> {
        let delivery = |ChangeEvent { message, recipients }| Delivery {
            key: None,
            message: Encodable::new(message),
            to: recipients,
        };
        let deliveries: Vec<_> = events.into_iter().map(delivery).collect();
        async move {
            // This fails only if the hub has stopped; then the connections are closed too.
            let _ = self.fan_out(deliveries).await;
        }
        .boxed()
    }
}
