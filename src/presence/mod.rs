//! Presence: writing it in groups, keeping it alive, and knowing who may see it.
//!
//! Read [`writer`] first (how a change gets in), then [`visibility`] (how it gets out).

pub mod channel_users;
pub mod context_sync;
pub mod device_context;
pub mod devices;
pub mod outbox_relay;
mod service;
pub mod typing;
pub mod visibility;
pub mod writer;

pub use service::{PresenceError, PresenceService};
pub use writer::WriteError;
