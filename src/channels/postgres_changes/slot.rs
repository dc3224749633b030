//! Replication slots: leases one for this node, and drops abandoned ones.
//!
//! A temporary slot ends with its connection. Persistent slots share a base name: each streaming node holds the first
//! unused one of `name`, `name_2` and so on, for as long as it runs. So changes that are committed during an outage
//! of PostgreSQL or the network are delivered afterwards. A slot taken over from a stopped node starts at the current
//! position, because that node's subscribers are gone.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::{
    lifecycle::ErrorChain,
    pg::{
        Connector, Database,
        queries::postgres_changes,
        replication::{Lsn, ReplicationError, ReplicationStream, SlotKind, StreamContent, StreamPosition},
    },
    telemetry::metric,
};

/// Maximum number of nodes that share a base name.
const MAX_NODES: usize = 32;
/// Interval at which the slots are checked.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The slot from which this node streams.
pub(super) struct SlotLease {
    publication: &'static str,
    base_name: Option<String>,
    /// The persistent slot that is held, and the position up to which its changes were delivered.
    held: Option<(String, StreamPosition)>,
}

/// Slot names with a base name.
fn slot_names(base_name: &str) -> impl Iterator<Item = String> {
    (1..=MAX_NODES).map(move |n| if n == 1 { base_name.to_owned() } else { format!("{base_name}_{n}") })
}

impl SlotLease {
    /// Creates a lease for streams of a publication. `base_name` is the base name of persistent slots; `None` uses
    /// temporary slots.
    pub(super) const fn new(publication: &'static str, base_name: Option<String>) -> Self {
        Self { publication, base_name, held: None }
    }

    /// Whether an interrupted stream resumes where it stopped.
    pub(super) const fn is_resumable(&self) -> bool {
        self.base_name.is_some()
    }

    /// Starts a stream at the current position, or resumes the held slot.
    ///
    /// # Errors
    /// If no slot is free or the stream cannot be started.
    pub(super) async fn acquire(
        &mut self,
        connector: &Connector,
    ) -> Result<(ReplicationStream, Lsn), ReplicationError> {
        let content = StreamContent::RowChanges { publication: self.publication };
        let Some(base_name) = &self.base_name else {
            let name = format!("rollcall_{}", uuid::Uuid::new_v4().simple());
            let stream = ReplicationStream::create(connector, &name, SlotKind::Temporary, content).await?;
            return Ok((stream, Lsn::default()));
        };
        if let Some((name, delivered)) = &self.held {
            return Ok((
                ReplicationStream::resume(connector, name, content, delivered.clone()).await?,
                delivered.lsn,
            ));
        }
        for name in slot_names(base_name) {
            match ReplicationStream::create(connector, &name, SlotKind::Persistent, content).await {
                Ok(stream) => {
                    let start = stream.position();
                    tracing::info!(slot = name, "replication slot acquired");
                    self.held = Some((name, start.clone()));
                    return Ok((stream, start.lsn));
                }
                Err(error) if error.is_slot_in_use() => {}
                Err(error) => return Err(error),
            }
        }
        Err(ReplicationError::Configuration(
            "all replication slots with the configured base name (REALTIME_SLOT_NAME) are in use",
        ))
    }

    /// Records the position up to which changes were delivered.
    pub(super) fn advance(&mut self, lsn: Lsn) {
        if let Some((_, delivered)) = &mut self.held {
            delivered.lsn = lsn.max(delivered.lsn);
        }
    }

    /// Drops the slot so that it does not retain WAL.
    pub(super) async fn release(&mut self, connector: &Connector) {
        if let Some((slot, _)) = self.held.take()
            && let Err(error) = ReplicationStream::drop_slot(connector, &slot).await
        {
            tracing::warn!(error = %ErrorChain(&error), slot, "dropping the replication slot failed; it retains WAL until it is dropped");
        }
    }
}

/// Checks the slots until the future is dropped: reports the WAL that they retain, and drops inactive slots that
/// exceed `max_retained_bytes`.
pub(super) async fn watch_slots(database: &Database, base_name: &str, max_retained_bytes: u64) {
    let names: Vec<String> = slot_names(base_name).collect();
    let mut poll = interval(POLL_INTERVAL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        poll.tick().await;
        let check = async {
            let client = database.server_connection().await?;
            let slots = postgres_changes::slot_statuses(&client, &names).await?;
            let max_retained = slots.iter().map(|slot| slot.retained_bytes).max().unwrap_or(0);
            metrics::gauge!(metric::REPLICATION_RETAINED).set(max_retained as f64);
            for slot in slots {
                if slot.retained_bytes <= max_retained_bytes {
                    continue;
                }
                tracing::error!(
                    slot = slot.name,
                    retained_bytes = slot.retained_bytes,
                    max_retained_bytes,
                    active = slot.is_active,
                    "replication slot retains more WAL than allowed"
                );
                if !slot.is_active {
                    postgres_changes::drop_slot(&client, &slot.name).await?;
                    metrics::counter!(metric::REPLICATION_SLOTS_DROPPED).increment(1);
                }
            }
            Ok::<(), crate::pg::PgError>(())
        };
        if let Err(error) = check.await {
            tracing::debug!(error = %ErrorChain(&error), "checking replication slots failed");
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
