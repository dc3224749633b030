//! Channel presence: who is present in a topic, with one tracked object per channel.
//!
//! [`PresenceState`] is the pure model of one topic. It returns a [`Diff`] for each change and encodes the
//! `presence_state` of a new member. A tracked object stays the text that the client sent
//! ([`PresencePayload`]).
//!
//! [`ChannelPresence`] holds the topics of a node and orders states and diffs. What local channels track is
//! written to `rollcall.presence` ([`store`]), where the other nodes read it ([`remote`]).

mod diff;
mod member;
mod meta;
mod occupancy;
mod occupancy_sender;
mod phx_ref;
pub mod remote;
mod row_queue;
mod service;
mod state;
pub mod store;

pub use diff::Diff;
pub use member::{MemberId, Meta, PresenceKey};
pub use meta::{NotAnObject, PresencePayload};
pub use occupancy::OccupancyWatch;
pub use occupancy_sender::OccupancySender;
pub use phx_ref::{PHX_REF_CHARS, PhxRef, PhxRefs};
pub use service::{ChannelPresence, DiffSink, LockedPresence, PresenceRef, ReservedDiff};
pub use state::{Occupancy, PresenceState};

#[cfg(test)]
mod tests;
