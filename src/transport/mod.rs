//! Sockets: accepting, upgrading, reading, writing, keepalive and closing.
//!
//! - [`serve`] accepts TCP connections and serves HTTP on them.
//! - [`Upgrade`] turns a request into a WebSocket: a [`Connection`] in the [`Hub`](crate::hub::Hub) and a task that
//!   reads from it (`read_loop`) and calls a [`Session`].
//! - [`frame`] is the wire format, [`CloseCode`] the table of close codes.
//! - `keepalive` and `rate_limit` are the rules for silent peers and for peers that send too much. They are pure
//!   functions of time.
//!
//! Dialects are in [`crate::protocol`], the handling of messages is in [`crate::session`].

mod accept;
mod close_code;
mod connection;
pub mod frame;
mod keepalive;
mod rate_limit;
mod read_loop;
mod session;
mod settings;
mod signals;
mod socket_options;
mod upgrade;

pub use accept::{AcceptSettings, Permit, serve};
pub use close_code::CloseCode;
pub(crate) use connection::Socket;
pub use connection::{Connection, SendError};
pub(crate) use keepalive::{Check, PingState, millis};
pub use session::{CloseReason, Flow, Session};
pub use settings::{ConnectionOptions, ConnectionSettings, Heartbeat, MessageRateLimits};
pub use upgrade::{Upgrade, UpgradeRejected};

#[cfg(test)]
mod tests;
