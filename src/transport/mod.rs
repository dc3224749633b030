//! Sockets: how they are accepted, upgraded, read, written, kept alive and closed.
//!
//! - [`serve`] accepts TCP connections and speaks HTTP on them.
//! - [`Upgrade`] turns a request into a WebSocket: a [`Connection`] in the [`Hub`](crate::hub::Hub) and a task
//!   that reads from it (`drive`) and calls a [`Session`].
//! - [`frame`] is the wire format, [`CloseCode`] the table of endings.
//! - `liveness` and `budget` are the rules for peers that say too little or too much: pure, and tested so.
//!
//! The dialects are elsewhere ([`crate::protocol`]), and so is what a message does ([`crate::session`]).

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
