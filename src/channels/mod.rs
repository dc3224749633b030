//! Realtime channels: rooms that clients join by name, what they say to each other there, and who may.
//!
//! - [`Room`] is what is joined: a name, public or private. [`ChannelId`] is one client's place in one.
//! - [`Claimant`] is as whom a channel acts in the database: a role and claims. Row-level security on
//!   `realtime.messages` decides what it may read and write there.
//!
//! Frames are in [`crate::protocol::phoenix`], what one socket's channels do in [`crate::session::channels`], and
//! who is in a room on this node in the [`crate::hub`].

pub mod authorization;
mod broadcast;
pub mod broadcast_from_db;
pub mod bus;
pub mod diff_sink;
mod limits;
pub mod postgres_changes;
pub mod presence;
mod principal;
pub mod replay;

pub use broadcast::{BroadcastPayload, Broadcaster, LocalBroadcaster};
pub use limits::{ChannelLimits, ConnectionPermit, NodeLimits, RateMeter};
pub use principal::ChannelPrincipal;
