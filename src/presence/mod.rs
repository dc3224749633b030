//! Presence: batched writes, device liveness, and delivery to the viewers that may see it.
//!
//! [`writer`] is how a change is written, [`visibility`] how it reaches viewers.

pub mod channel_users;
pub mod context_sync;
pub mod device_context;
pub mod devices;
pub mod lease;
mod locked_users;
pub mod outbox_relay;
mod reconciliation;
mod service;
pub mod typing;
mod user_shares;
pub mod visibility;
mod write_request;
pub mod writer;

pub use service::{PresenceError, PresenceService};
pub use writer::WriteError;
