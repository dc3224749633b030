//! Presence: writing it in groups, keeping it alive, and knowing who may see it.
//!
//! Read [`writer`] first (how a change gets in), then [`visibility`] (how it gets out).

pub mod context_sync;
pub mod courier;
pub mod guests;
pub mod liveness;
pub mod roster;
mod service;
pub mod typing;
pub mod visibility;
pub mod writer;

pub use service::{PresenceError, PresenceService};
pub use writer::WriteError;
