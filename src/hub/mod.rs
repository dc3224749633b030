//! Who is connected here: shards, outboxes, fan-out.
//!
//! A [`Hub`] has a few shards. A shard knows its connections (`registry`), looks after their timers
//! (`wheel`), and has one task that puts frames into their [`Outbox`]es and writes each socket once per batch
//! (`shard`). A frame is encoded once per dialect for everybody ([`Encodable`]).
//!
//! Who gets what is decided elsewhere; the hub is told [`ConnId`]s. It knows no message by name, and the only
//! thing it knows of state is its [`StateKey`].

mod conn_id;
mod counters;
mod encodable;
mod handle;
mod key;
mod outbox;
mod registry;
mod shard;
mod wheel;

pub use conn_id::ConnId;
pub use counters::Stats;
pub use encodable::Encodable;
pub(crate) use handle::Registration;
pub use handle::{Delivery, Hub, HubSettings, HubStopped, ShutdownPlan};
pub use key::StateKey;
pub use outbox::{Outbox, OutboxLimits, Overflow, Queued};
pub(crate) use shard::Shard;
