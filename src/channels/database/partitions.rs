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
    listener::{Audience, RIGHTS},
    queries::messages,
};

/// How often they are looked after. There are partitions for three days ahead.
const EVERY: Duration = Duration::from_secs(600);
/// How long that may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Makes what is missing and drops what is past its time; true if that worked. A failure is logged: the next time comes
/// soon enough.
pub async fn keep(database: &Database) -> bool {
    let keep = async { messages::keep_partitions(&database.own().await?).await };
    match timeout(LIMIT, keep).await.unwrap_or_else(|_| Err(PgError::Unavailable("no answer in time".into())))
    {
        Ok(kept) => {
            if kept != messages::Kept::default() {
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
pub struct PartitionKeeper {
    database: Database,
    altered: Arc<Notify>,
}

/// Makes the keeper and what the listener tells it.
#[must_use]
pub fn partition_keeper(database: Database) -> (PartitionKeeper, PartitionEars) {
    let altered = Arc::new(Notify::new());
    (PartitionKeeper { database, altered: altered.clone() }, PartitionEars(altered))
}

impl PartitionKeeper {
    /// Keeps the partitions until stopped: at once, regularly, and when a table was altered or dropped.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            keep(&self.database).await;
            let pause = EVERY.mul_f64(rand::rng().random_range(0.8..1.0));
            select! {
                () = stop.cancelled() => return,
                () = self.altered.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }
}

/// The listener's end: hears of dropped tables, one of which may be today's partition.
pub struct PartitionEars(Arc<Notify>);

impl Audience for PartitionEars {
    fn heard(&self, channel: &str, payload: &str) {
        let what = payload.split('|').nth(1);
        if channel == RIGHTS
            && matches!(what, Some("drop table" | "alter table" | "drop schema" | "drop owned"))
        {
            self.0.notify_one();
        }
    }

    fn listening(&self) {
        self.0.notify_one();
    }

    fn deaf(&self) {}
}
