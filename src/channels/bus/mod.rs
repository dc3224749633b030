//! Carries topic broadcasts between nodes. Delivery is at most once, in order per sending node and topic.
//!
//! A [`Bus`] queues messages without blocking and passes messages of other nodes to its [`BusSubscriber`]. There are two:
//! [`postgres`], the default, sends every message to every other node; [`nats`] sends a message to the nodes that have
//! members of its topic. Presence is not sent over the bus: it is state, kept in rows ([`super::presence::remote`]).

mod interest;
mod message;
pub mod nats;
mod peers;
pub mod postgres;
mod queue;

use futures_util::future::BoxFuture;

pub use interest::TopicSubscription;
pub use message::{Audience, BusMessage, decode, encode};
pub use peers::Peers;

use crate::model::{NodeId, Topic};

/// Sends messages to the other nodes.
pub trait Bus: Send + Sync + 'static {
    /// Queues a message for the other nodes. Never blocks. When the queue is full, the message is dropped and
    /// counted.
    fn publish(&self, message: BusMessage);

    /// Receives messages of the topic while the result exists. `None` if this node receives all messages anyway.
    fn subscribe(&self, topic: &Topic) -> Option<TopicSubscription>;
}

/// Receives the messages of other nodes.
pub trait BusSubscriber: Send + Sync + 'static {
    /// Called once per message, in order per sending node and topic. The next message waits until the future completes.
    fn on_message(&self, from: NodeId, message: BusMessage) -> BoxFuture<'_, ()>;

    /// Called when messages of another node did not arrive.
    fn on_lost(&self) {}

    /// Called when messages of other nodes stop to arrive, and when they arrive again. Those between are lost.
    fn on_connected(&self, _is_connected: bool) {}
}
