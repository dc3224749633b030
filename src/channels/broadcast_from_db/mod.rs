//! Broadcasts that come from the database: `realtime.send` and the like, and rows written by hand.
//!
//! - [`DatabaseSource`] is the task that hears of new rows in `realtime.messages`, reads them in the order of their
//!   commits, and hands them to a [`Sink`]: each once on this node, after its commit and never after a rollback. What was
//!   committed while the LISTEN connection was lost is read when it is back.
//! - [`Messages`] is the handle that sessions ask: replay, and whether broadcasts from the database arrive at present.
//! - [`partitions`] makes and drops the table's partitions, whether anybody is connected or not.
//!
//! A row is announced by a trigger on the table. Where that is not ours to make, the doctor and the log say so, and rows are
//! not delivered; replay works all the same.

mod broadcast;
mod dedup;
pub mod partitions;
mod pending;
mod reader;

pub use broadcast::{DatabaseBroadcast, Payload, SkipReason};
pub use pending::MessageNotifications;
pub use reader::{
    BroadcastReader, BroadcastSink, MAX_REPLAY, StoredBroadcasts, StoredMessages, broadcast_reader,
};
