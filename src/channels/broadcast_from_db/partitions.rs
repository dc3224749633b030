//! Maintains the partitions of `realtime.messages`: creates those of the days around today, and drops expired ones.

use std::{sync::Arc, time::Duration};

use tokio::{select, sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::backoff::jittered;
use crate::lifecycle::ErrorChain;
use crate::pg::{Database, listener::NotificationHandler, notification::Notification, queries::messages};

/// Interval of the maintenance. Partitions are created three days ahead.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(600);
/// Maximum duration of one run.
const MAINTENANCE_TIMEOUT: Duration = Duration::from_secs(15);

/// Creates missing partitions and drops expired ones; returns whether that succeeded. An error is logged, and the
/// next run tries again.
pub async fn maintain(database: &Database) -> bool {
    let maintenance = |connection| async move { messages::maintain_partitions(&connection).await };
    match database.within(MAINTENANCE_TIMEOUT, maintenance).await {
        Ok(counts) => {
            if counts != messages::PartitionChanges::default() {
                tracing::info!(
                    created = counts.created,
                    dropped = counts.dropped,
                    "partitions of realtime.messages changed"
                );
            }
            true
        }
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "maintaining the partitions of realtime.messages failed");
            false
        }
    }
}

/// Task that maintains the partitions.
pub struct PartitionMaintainer {
    database: Database,
    schema_changed: Arc<Notify>,
}

impl PartitionMaintainer {
    /// Creates the maintainer and its notification handler.
    #[must_use]
    pub fn new(database: Database) -> (PartitionNotifications, Self) {
        let schema_changed = Arc::new(Notify::new());
        (PartitionNotifications(schema_changed.clone()), Self { database, schema_changed })
    }

    /// Maintains the partitions until `stop` is cancelled: at the start, at every interval, and after a table was
    /// altered or dropped.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            maintain(&self.database).await;
            let pause = jittered(MAINTENANCE_INTERVAL, 0.8..1.0);
            select! {
                () = stop.cancelled() => return,
                () = self.schema_changed.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }
}

/// Notification handler that wakes the maintainer after DDL, because a dropped table may be today's partition.
pub struct PartitionNotifications(Arc<Notify>);

impl NotificationHandler for PartitionNotifications {
    fn on_notification(&self, notification: &Notification) {
        if let Notification::Authorization { source, .. } = notification
            && matches!(source.as_str(), "drop table" | "alter table" | "drop schema" | "drop owned")
        {
            self.0.notify_one();
        }
    }

    fn on_connected(&self) {
        self.0.notify_one();
    }

    fn on_disconnected(&self) {}

    fn on_missed(&self, _: tokio::time::Instant) {
        self.0.notify_one();
    }
}
