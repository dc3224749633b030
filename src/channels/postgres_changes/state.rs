//! State that the engine and the subscriptions share.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use tokio::sync::{Notify, watch};

use super::{
    budget::{SubscriptionBudget, SubscriptionLimits},
    registry::SubscriptionRegistry,
    validator::ParamsValidator,
};
use crate::{
    pg::Database,
    settings::{ParseResult, count, defaults},
};

/// Settings of the stream of changes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Channels")]
pub struct PostgresChangesSettings {
    /// Base name of persistent replication slots, one for each node (name, name_2, …), which keep changes across
    /// restarts. Default: a temporary slot
    #[arg(
        id = "realtime-slot-name",
        long = "realtime-slot-name",
        alias = "realtime-slot",
        env = "REALTIME_SLOT_NAME",
        value_parser = slot_name
    )]
    pub slot_name: Option<String>,
    /// Time between the end of the last subscription and the end of the stream.
    #[arg(skip = Duration::from_secs(600))]
    pub idle_timeout: Duration,
    /// Time between two checks whether the publication has changed.
    #[arg(skip = Duration::from_secs(5))]
    pub poll_interval: Duration,
    /// Maximum write-ahead log in MB (1048576 bytes) that PostgreSQL retains for this node; beyond it, changes are
    /// skipped and subscribers get an error
    #[arg(
        id = "realtime-max-wal-mb",
        long = "realtime-max-wal-mb",
        env = "REALTIME_MAX_WAL_MB",
        default_value = "1024",
        value_parser = wal_bytes
    )]
    pub max_lag_bytes: u64,
    #[command(flatten)]
    pub limits: SubscriptionLimits,
}

impl Default for PostgresChangesSettings {
    fn default() -> Self {
        defaults()
    }
}

/// Parses a name of replication slots. 60 characters leave room for a suffix within PostgreSQL's 63.
fn slot_name(text: &str) -> ParseResult<String> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if (1..=60).contains(&text.len()) && text.chars().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("must have 1 to 60 characters of a-z, 0-9 and _ (got \"{text}\")"))
    }
}

/// Parses a number of MB (1,048,576 bytes) to bytes.
fn wal_bytes(text: &str) -> ParseResult<u64> {
    count(1..=1_048_576)(text).map(|megabytes| megabytes << 20)
}

/// State of the stream of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamState {
    /// There are no subscriptions, or the stream is about to start.
    Stopped,
    /// The stream runs, and changes are delivered.
    Streaming,
    /// The stream could not be started; holds the reason.
    Failed(String),
}

/// State shared by the engine and the subscriptions.
pub(super) struct Shared {
    pub database: Database,
    pub registry: SubscriptionRegistry,
    pub validator: ParamsValidator,
    pub budget: Arc<SubscriptionBudget>,
    /// Notified when a subscription needs the stream.
    pub start_requested: Notify,
    pub stream_state: watch::Sender<StreamState>,
    pub settings: PostgresChangesSettings,
    /// Bytes of filters in the caches of the pipeline, at its last poll.
    pub cached_bytes: AtomicUsize,
}
