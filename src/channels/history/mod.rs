//! History of channels: broadcasts that are kept, so that a client that returns receives what it missed.
//!
//! - [`HistoryRules`] says which topics have a history: how many messages, for how long, and in memory or as rows.
//! - [`MemoryHistory`] keeps them in the memory of this node, in the order in which this node delivered them. A publisher
//!   appends a message and queues its delivery under one lock, and a join reads the history and queues its membership
//!   under the same lock: no message is missed in between, and none is received twice.
//! - [`HistoryWriter`] stores messages as rows of `realtime.messages`. They are delivered and replayed like other
//!   broadcasts from the database.
//!
//! In memory, every node keeps the messages that it published or received, whether or not the topic has members on it,
//! because a client may return to any node.

mod channel_history;
mod memory;
mod message;
mod position;
mod rules;
mod settings;
mod writer;

pub use channel_history::ChannelHistory;
pub(crate) use memory::MAX_REPLAY_BYTES;
pub use memory::{HistoryQuery, HistoryReplay, HistorySweeper, LockedHistory, MemoryHistory, Origin, Source};
pub use message::KeptMessage;
pub use position::SincePosition;
pub use rules::{HistoryRule, HistoryRules, HistoryStorage};
pub use settings::HistorySettings;
pub use writer::{HistoryQueue, HistoryWriter, NotStored, OnStored, UnstoredBroadcast};
