//! How what rooms say reaches the other nodes: at most once, each node's messages in their order.
//!
//! A [`Bus`] takes messages without making anybody wait and hands those of other nodes to its [`Hearer`]. While no other
//! node lives, it does nothing. Presence does not travel here: it is state, and has rows
//! ([`super::presence::mirror`]).

mod message;
mod peers;
pub mod postgres;
mod queue;

use futures_util::future::BoxFuture;

pub use message::BusMessage;
pub use peers::Peers;

/// The way to other nodes.
pub trait Bus: Send + Sync + 'static {
    /// Sends a message on its way to the other nodes, if there are any. Never waits: of what is too much, the newest is
    /// given up and counted.
    fn publish(&self, message: BusMessage);
}

/// Who takes what other nodes said.
pub trait BusSubscriber: Send + Sync + 'static {
    /// A message; each node's come in their order. The next one waits until this is done.
    fn on_message(&self, message: BusMessage) -> BoxFuture<'_, ()>;
}
