//! Who is connected here: shards, outboxes, fan-out.
//!
//! A [`Hub`] has a few shards. A shard knows its connections (`registry`), looks after their timers
//! (`wheel`), and has one task that puts frames into their [`Outbox`]es and writes each socket once per batch
//! (`shard`). A frame is encoded once per dialect for everybody ([`Encodable`]).
//!
//! Who gets what is decided elsewhere: the hub is told [`ConnId`]s, or a [`Room`](crate::channels::Room) whose members
//! the shards keep themselves (`rooms`). It knows no message by name, and the only thing it knows of state is its
//! [`StateKey`].
//!
//! What is said in rooms travels through the shards' mailboxes, joining and leaving too, so that all members see one
//! order. Whoever needs several commands to follow each other without a gap, decided under a lock of its own, takes
//! [`Slots`] first.

mod conn_id;
mod counters;
mod encodable;
mod handle;
mod member;
mod outbox;
mod registry;
mod reserved_commands;
mod shard;
mod state_key;
mod timer_wheel;
mod topics;
mod user_index;

pub use conn_id::ConnId;
pub use counters::Stats;
pub use encodable::Encodable;
pub(crate) use handle::Registration;
pub use handle::{Delivery, Hub, HubSettings, HubStopped, ShutdownPlan};
pub use member::{AllowedMask, Member, ReceiveMask};
pub use outbox::{Outbox, OutboxLimits, Overflow, Queued};
pub use reserved_commands::ReservedCommands;
pub(crate) use shard::Shard;
pub use state_key::StateKey;
pub use topics::TopicDelivery;
pub use user_index::{DeviceSocket, UserIndex};
