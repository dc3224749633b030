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
pub mod bus;
pub mod changes;
mod channel_id;
mod claimant;
pub mod database;
mod limits;
pub mod outlet;
pub mod presence;
pub mod replay;
mod room;

pub use broadcast::{Broadcaster, Content, LocalRooms};
pub use channel_id::ChannelId;
pub use claimant::Claimant;
pub use limits::{ChannelLimits, Meter, NodeLimits, Place};
pub use room::Room;
