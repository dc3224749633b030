//! State that the engine and the subscriptions share.

use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::{registry::SubscriptionRegistry, validator::ParamsValidator};
use crate::pg::Database;

/// Settings of the stream of changes.
#[derive(Debug, Clone)]
pub struct PostgresChangesSettings {
    /// Base name of the persistent slots, one for each node (`name`, `name_2`, …), which survive a restart of
    /// PostgreSQL. `None`: a temporary slot for each stream.
    pub slot_name: Option<String>,
    /// Time between the end of the last subscription and the end of the stream.
    pub idle_timeout: Duration,
    /// Maximum bytes of WAL that PostgreSQL retains for this node. Above it, the stream skips to the current
    /// position, and subscribers get an error.
    pub max_lag_bytes: u64,
}

impl Default for PostgresChangesSettings {
    fn default() -> Self {
        Self { slot_name: None, idle_timeout: Duration::from_secs(600), max_lag_bytes: 1 << 30 }
    }
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
pub struct Shared {
    pub database: Database,
    pub registry: SubscriptionRegistry,
    pub validator: ParamsValidator,
    /// Notified when a subscription needs the stream.
    pub start_requested: Notify,
    pub stream_state: watch::Sender<StreamState>,
    pub settings: PostgresChangesSettings,
}
