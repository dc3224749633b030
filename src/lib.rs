//! Rollcall: who is here, what they are doing, what they will need next.
//!
//! A presence change travels through these rooms, in this order:
//!
//! 1. [`transport`] reads bytes from a socket, [`protocol`] turns them into a [`protocol::ClientMessage`]
//!    (or [`http`] takes a REST request), and a [`session`] decides what that client may do.
//! 2. [`presence::writer`] commits it together with whatever else is waiting: one transaction per batch.
//! 3. Triggers in Postgres recompute the user's *faces* and `NOTIFY`; [`pg::listener`] hears it.
//! 4. [`presence::visibility`] reads the changed faces and every visibility change in one snapshot, and knows
//!    from row-level security which viewers on this node may see them.
//! 5. [`hub`] encodes the frame once per dialect and puts it into the outboxes; one write per socket.
//!
//! [`model`] holds the words everybody uses and knows nothing of sockets, SQL or HTTP. Only [`app`] knows everyone.

pub mod app;
pub mod auth;
pub mod channels;
pub mod clock;
pub mod config;
pub mod console;
pub mod context;
pub mod database_target;
pub mod http;
pub mod hub;
pub mod lifecycle;
pub mod limits;
pub mod model;
pub mod pg;
pub mod presence;
pub mod protocol;
pub mod session;
pub mod telemetry;
pub mod transport;
