//! Connections of this node: shards, outboxes, fan-out.
//!
//! A [`Hub`] has a few shards. A shard holds its connections (`registry`), runs their timers (`timer_wheel`), and has
//! one task that puts frames into their [`Outbox`]es and writes each socket once per batch (`shard`). A message is
//! encoded once per dialect for all connections ([`Encodable`]).
//!
//! Callers decide the recipients: they name [`ConnId`]s, or a [`Topic`](crate::model::Topic) whose members the
//! shards store (`topics`). The hub does not interpret messages; for state it uses only the [`StateKey`].
//!
//! Messages to topics, joins and leaves pass through the shards' command queues, so all members see one order. A caller
//! that needs several consecutive commands, ordered under its own lock, takes [`ReservedCommands`] first.

mod activity;
mod close_code;
mod close_reason;
mod conn_id;
mod connection;
mod connection_settings;
mod counters;
mod encodable;
pub mod frame;
mod handle;
mod keepalive;
mod link;
mod member;
mod outbox;
mod permit;
mod pipe;
mod read_progress;
mod registry;
mod reserved_commands;
mod shard;
mod shard_context;
mod signals;
mod state_key;
mod timer_wheel;
mod topics;
mod user_index;
mod watch;

pub use activity::Traffic;
pub use close_code::CloseCode;
pub use close_reason::CloseReason;
pub use conn_id::{ConnId, InvalidConnId};
pub(crate) use connection::Socket;
pub use connection::{Connection, SendError};
pub use connection_settings::{ConnectionOptions, ConnectionSettings, Heartbeat, MessageRateLimits};
pub use counters::Stats;
pub use encodable::Encodable;
pub(crate) use handle::Registration;
pub use handle::{Delivery, Hub, HubSettings, HubStopped, ShutdownPlan};
pub(crate) use link::Link;
pub use member::{AllowedMask, Member, ReceiveMask};
pub use outbox::{Outbox, OutboxLimits, Overflow, Queued};
pub use permit::Permit;
pub(crate) use pipe::Pipe;
pub use read_progress::ReadProgress;
pub use reserved_commands::ReservedCommands;
pub(crate) use signals::Signal;
pub use state_key::StateKey;
pub use topics::{TopicCounts, TopicDelivery, TopicQuery};
pub use user_index::{DeviceSocket, UserIndex};
pub use watch::{Direction, Watch, WatchedMessage, WatchedPage};
