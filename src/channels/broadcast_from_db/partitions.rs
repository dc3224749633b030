//! The partitions of `realtime.messages`: those of the days around today are there, those past their time are not.

use std::{sync::Arc, time::Duration};

use rand::Rng;
use tokio::{
    select,
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::pg::{
    Database, PgError,
    listener::{AUTHORIZATION, NotificationHandler},
    queries::messages,
};

/// How often they are looked after. There are partitions for three days ahead.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(600);
/// How long that may take.
const MAINTENANCE_TIMEOUT: Duration = Duration::from_secs(15);

/// Makes what is missing and drops what is past its time; true if that worked. A failure is logged: the next time comes
/// soon enough.
pub async fn maintain(database: &Database) -> bool {
    let keep = async { messages::maintain_partitions(&database.server_connection().await?).await };
    match timeout(MAINTENANCE_TIMEOUT, keep)
        .await
        .unwrap_or_else(|_| Err(PgError::Unavailable("no answer in time".into())))
    {
        Ok(kept) => {
            if kept != messages::PartitionChanges::default() {
                tracing::info!(
                    made = kept.created,
                    dropped = kept.dropped,
                    "kept the partitions of messages"
                );
            }
            true
        }
        Err(error) => {
            tracing::warn!(error = ?error, "could not keep the partitions of realtime.messages");
            false
        }
    }
}

/// The task that looks after them.
pub struct PartitionMaintainer {
    database: Database,
    schema_changed: Arc<Notify>,
}

/// Makes the keeper and what the listener tells it.
#[must_use]
pub fn partition_maintainer(database: Database) -> (PartitionMaintainer, PartitionNotifications) {
    let altered = Arc::new(Notify::new());
    (PartitionMaintainer { database, schema_changed: altered.clone() }, PartitionNotifications(altered))
}

impl PartitionMaintainer {
    /// Keeps the partitions until stopped: at once, regularly, and when a table was altered or dropped.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            maintain(&self.database).await;
            let pause = MAINTENANCE_INTERVAL.mul_f64(rand::rng().random_range(0.8..1.0));
            select! {
                () = stop.cancelled() => return,
                () = self.schema_changed.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }
}

/// The listener's end: hears of dropped tables, one of which may be today's partition.
pub struct PartitionNotifications(Arc<Notify>);

impl NotificationHandler for PartitionNotifications {
    fn on_notification(&self, channel: &str, payload: &str) {
        let what = payload.split('|').nth(1);
        if channel == AUTHORIZATION
            && matches!(what, Some("drop table" | "alter table" | "drop schema" | "drop owned"))
        {
            self.0.notify_one();
        }
    }

    fn on_connected(&self) {
        self.0.notify_one();
    }

    fn on_disconnected(&self) {}
}
