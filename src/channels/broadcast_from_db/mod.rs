//! Delivers broadcasts from the database: `realtime.send`, `realtime.broadcast_changes` and inserts into
//! `realtime.messages`.
//!
//! - [`BroadcastReader`] is the task that receives notifications of new rows, reads the rows in commit order, and
//!   hands them to a [`BroadcastSink`]: each row once per node, after its commit. Rows that were committed while the
//!   LISTEN connection was lost are read after it is restored.
//! - [`StoredMessages`] is the handle for sessions: replay, and whether broadcasts from the database currently
//!   arrive.
//! - [`partitions`] creates and drops the table's partitions, independent of connections.
//!
//! A trigger on the table sends the notifications. If the server may not create it, the log and `rollcall doctor`
//! report this, and rows are not delivered; replay still works.

mod broadcast;
mod dedup;
pub mod partitions;
mod pending;
mod reader;

pub use broadcast::{DatabaseBroadcast, SkipReason};
pub use pending::MessageNotifications;
pub use reader::{BroadcastReader, BroadcastSink, MAX_REPLAY, StoredBroadcasts, StoredMessages};
