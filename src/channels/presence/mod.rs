//! Who is present in a room, and what they say of themselves.
//!
//! A channel may *track* one object under its key. [`Roster`] is the pure model of one room: it says what each change
//! means for those who watch ([`Diff`]) and what a newcomer is told (`presence_state`). What is tracked stays the
//! text that it came as ([`Payload`]).
//!
//! [`ChannelPresence`] holds the rooms of a node and sees to the order of states and diffs. What its channels track is
//! also written to `rollcall.presence` ([`rows`]), from where the other nodes learn of it ([`mirror`]).

mod diff;
mod meta;
mod phx_ref;
pub mod remote;
mod service;
mod state;
pub mod store;

pub use diff::Diff;
pub use meta::{NotAnObject, PresencePayload};
pub use phx_ref::{PHX_REF_CHARS, PhxRef, PhxRefs};
pub use service::{ChannelPresence, DiffSink, PresenceRef, ReservedDiff};
pub use state::{MemberId, Meta, PresenceKey, PresenceState};

#[cfg(test)]
mod tests;
