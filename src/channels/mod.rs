//! Realtime channels: broadcast, presence and Postgres changes per topic, with authorization.
//!
//! - [`Topic`](crate::model::Topic) is the name that clients join, public or private.
//!   [`ChannelId`](crate::model::ChannelId) identifies one join.
//! - A [`Principal`](crate::auth::Principal) is the role and claims with which a channel acts in the database.
//!   Row-level security on `realtime.messages` decides what it may read and write.
//!
//! Frames are in [`crate::protocol::phoenix`], the state of a socket's channels in
//! [`crate::session::channels`], and the members of a topic on this node in [`crate::hub`].

pub mod authorization;
mod broadcast;
pub mod broadcast_from_db;
pub mod bus;
pub mod diff_sink;
pub mod history;
mod limits;
mod payload;
pub mod postgres_changes;
pub mod presence;
pub mod replay;
mod settings;

pub use broadcast::{Broadcaster, LocalBroadcaster, PreparedBroadcast, Publication, Published};
pub use limits::{ChannelLimits, ConnectionPermit, NodeLimits, RateMeter};
pub use payload::BroadcastPayload;
pub use settings::ChannelSettings;
