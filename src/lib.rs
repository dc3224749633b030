//! Rollcall: presence, realtime channels and AI context over PostgreSQL.
//!
//! A presence change passes through these modules:
//!
//! 1. [`transport`] reads bytes from a socket and [`protocol`] decodes them into a
//!    [`protocol::ClientMessage`] (or [`http`] accepts a REST request). A [`session`] decides what the client
//!    may do.
//! 2. [`presence::writer`] commits the change together with other pending changes: one transaction per batch.
//! 3. Triggers recompute the user's rows in `user_presence` and notify; [`pg::listener`] receives the
//!    notification.
//! 4. [`presence::visibility`] reads the changed rows and all visibility changes in one snapshot, and
//!    determines through row-level security which viewers on this node may see them.
//! 5. [`hub`] encodes the frame once per dialect and queues it in the outboxes; each socket gets one write.
//!
//! [`model`] holds the domain types and is independent of sockets, SQL and HTTP. Only [`app`] depends on all modules.

#![cfg_attr(not(test), deny(unreachable_pub))]

pub mod app;
pub mod auth;
pub mod backoff;
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
pub mod operator;
pub mod pg;
pub mod presence;
pub mod protocol;
pub mod session;
pub mod settings;
pub mod telemetry;
pub mod transport;
pub mod webhooks;
