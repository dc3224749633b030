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
mod budget;
mod close;
mod connection;
mod drive;
pub mod frame;
mod liveness;
mod session;
mod settings;
mod signals;
mod socket;
mod upgrade;

pub use accept::{AcceptSettings, Permit, serve};
pub use close::CloseCode;
pub(crate) use connection::Socket;
pub use connection::{Connection, SendError};
pub(crate) use liveness::{Check, Liveness, millis};
pub use session::{CloseReason, Flow, Session};
pub use settings::{ConnectionOptions, ConnectionSettings, FloodLimits, Heartbeat};
pub use upgrade::{Upgrade, UpgradeRejected};

#[cfg(test)]
mod tests;
