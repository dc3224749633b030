//! What operators see and do: connections, channels and subscriptions of all nodes, closing a connection, and watching
//! one.
//!
//! The state is in the memory of each node. [`LocalNode`] answers a [`Query`](message::Query) for this node. The
//! [`NodeExchange`] sends the query to the other nodes through a table and a notification, waits for their
//! [`Answer`](message::Answer)s, and names the nodes that did not answer in time. Nothing here runs unless an operator
//! asks, except one [sample](history) every ten seconds.

mod event;
pub mod exchange;
pub mod history;
mod local;
pub mod message;
mod settings;
mod subscriptions;
mod watches;

pub use exchange::{Answers, ExchangeNotifications, ExchangeTask, NodeExchange};
pub use local::LocalNode;
pub use settings::OperatorSettings;
