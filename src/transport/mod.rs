//! Sockets: accepting, upgrading and reading.
//!
//! - [`serve`] accepts TCP connections and serves HTTP on them. [`Admission`] bounds their number.
//! - [`Upgrade`] turns a request into a WebSocket: a [`Connection`] in the [`Hub`](crate::hub::Hub) and a task that
//!   reads from it (`read_loop`) and calls a [`Session`].
//! - [`respond_with_events`] answers with server-sent events: the same connection over the body of a response.
//! - `rate_limit` is the rule for peers that send too much, a pure function of time.
//!
//! Frames, keepalive and writing belong to the [hub](crate::hub). Dialects are in [`crate::protocol`], the handling of
//! messages is in [`crate::session`].

mod accept;
mod admission;
pub mod descriptors;
mod event_stream;
mod rate_limit;
mod read_loop;
mod session;
mod settings;
mod socket_options;
mod stall;
mod upgrade;

pub use accept::serve;
pub use admission::Admission;
pub use event_stream::respond_with_events;
pub use session::{Flow, Session};
pub use settings::AcceptSettings;
pub use upgrade::{Upgrade, UpgradeRejected};

pub use crate::hub::{
    CloseCode, CloseReason, Connection, ConnectionOptions, ConnectionSettings, Heartbeat, MessageRateLimits,
    Permit, SendError, frame,
};

#[cfg(test)]
mod tests;
