//! Which slot a stream reads from, and the slots that nobody reads from any more.
//!
//! A temporary slot ends with its connection. Persistent slots are a family: each node that streams holds one of
//! `name`, `name_2` and so on, the first that nobody reads from. It belongs to the node as long as that runs, so what
//! is committed while PostgreSQL or the network is away is told afterwards. What a slot has kept for a node that is gone
//! is of use to nobody, because its subscribers went with it: whoever takes the slot over begins at the present.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::{
    lifecycle::ErrorChain,
    pg::{
        Connector, Database,
        queries::postgres_changes,
        replication::{Lsn, ReplicationError, ReplicationStream, SlotKind},
    },
    telemetry::metric,
};

/// Nodes that may share a family.
const MAX_NODES: usize = 32;
/// How often the family is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Where a node's streams begin.
pub struct SlotLease {
    publication: &'static str,
    base_name: Option<String>,
    /// The persistent slot that is held, and up to where its changes have been told.
    held: Option<(String, Lsn)>,
}

/// The names of a family.
fn slot_names(family: &str) -> impl Iterator<Item = String> {
    (1..=MAX_NODES).map(move |n| if n == 1 { family.to_owned() } else { format!("{family}_{n}") })
}

impl SlotLease {
    /// For streams of a publication; `family` is what persistent slots are called, none for temporary ones.
    pub const fn new(publication: &'static str, family: Option<String>) -> Self {
        Self { publication, base_name: family, held: None }
    }

    /// Whether a stream that breaks is gone on with where it was.
    pub const fn is_resumable(&self) -> bool {
        self.base_name.is_some()
    }

    /// Begins at the present, or goes on.
    ///
    /// # Errors
    /// When no stream can be had.
    pub async fn acquire(
        &mut self,
        connector: &Connector,
    ) -> Result<(ReplicationStream, Lsn), ReplicationError> {
        let Some(family) = &self.base_name else {
            let name = format!("rollcall_{}", uuid::Uuid::new_v4().simple());
            let stream =
                ReplicationStream::create(connector, &name, SlotKind::Temporary, self.publication).await?;
            return Ok((stream, Lsn::default()));
        };
        if let Some((name, told)) = &self.held {
            return Ok((ReplicationStream::resume(connector, name, self.publication, *told).await?, *told));
        }
        let mut refused = ReplicationError::Configuration("all slots of the family are in use");
        for name in slot_names(family) {
            match ReplicationStream::create(connector, &name, SlotKind::Persistent, self.publication).await {
                Ok(stream) => {
                    let begun = stream.acknowledged();
                    tracing::info!(slot = name, "a slot keeps the place of changes");
                    self.held = Some((name, begun));
                    return Ok((stream, begun));
                }
                Err(error) if error.is_slot_in_use() => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    /// Remembers up to where changes have been told.
    pub fn advance(&mut self, lsn: Lsn) {
        if let Some((_, told)) = &mut self.held {
            *told = lsn.max(*told);
        }
    }

    /// Gives the slot up, so that it does not keep the log.
    pub async fn release(&mut self, connector: &Connector) {
        if let Some((slot, _)) = self.held.take()
            && let Err(error) = ReplicationStream::drop_slot(connector, &slot).await
        {
            tracing::warn!(error = %ErrorChain(&error), slot, "the slot was not dropped and keeps the log from being recycled");
        }
    }
}

/// Looks at the family for ever: tells how much log it keeps, and drops what keeps more than the bound for nobody.
pub async fn watch_slots(database: &Database, family: &str, most_kept: u64) {
    let family: Vec<String> = slot_names(family).collect();
    let mut looks = interval(POLL_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let looked = async {
            let client = database.server_connection().await?;
            let slots = postgres_changes::slot_statuses(&client, &family).await?;
            let most = slots.iter().map(|slot| slot.retained_bytes).max().unwrap_or(0);
            metrics::gauge!(metric::REPLICATION_RETAINED).set(most as f64);
            for slot in slots {
                if slot.retained_bytes <= most_kept {
                    continue;
                }
                tracing::error!(
                    slot = slot.name,
                    kept = slot.retained_bytes,
                    bound = most_kept,
                    in_use = slot.is_active,
                    "a slot keeps more of the log than it may"
                );
                if !slot.is_active {
                    postgres_changes::drop_slot(&client, &slot.name).await?;
                    metrics::counter!(metric::REPLICATION_SLOTS_DROPPED).increment(1);
                }
            }
            Ok::<(), crate::pg::PgError>(())
        };
        if let Err(error) = looked.await {
            tracing::debug!(error = %ErrorChain(&error), "the slots could not be looked at");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_a_slot_name() {
        let names: Vec<String> = slot_names("live").take(3).collect();
        assert_eq!(names, ["live", "live_2", "live_3"]);
    }
}
