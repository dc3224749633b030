//! Carries topic broadcasts between nodes. Delivery is at most once, in order per sending node.
//!
//! A message is lost only if the database does not answer for longer than the queue keeps it, or if the queue is full.
//!
//! A [`Bus`] queues messages without blocking and passes messages of other nodes to its [`BusSubscriber`]. It
//! sends nothing while this is the only live node. Presence is not sent over the bus: it is state, kept in
//! rows ([`super::presence::remote`]).

mod message;
mod peers;
pub mod postgres;
mod queue;

use futures_util::future::BoxFuture;

pub use message::{BusMessage, decode, encode};
pub use peers::Peers;

use crate::model::NodeId;

/// Sends messages to the other nodes.
pub trait Bus: Send + Sync + 'static {
    /// Queues a message for the other nodes. Never blocks. When the queue is full, the message is dropped and
    /// counted.
    fn publish(&self, message: BusMessage);
}

/// Receives the messages of other nodes.
pub trait BusSubscriber: Send + Sync + 'static {
    /// Called once per message, in order per sending node. The next message waits until the future completes.
    fn on_message(&self, from: NodeId, message: BusMessage) -> BoxFuture<'_, ()>;

    /// Called when messages of another node did not arrive.
    fn on_lost(&self) {}
}
