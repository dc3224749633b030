//! Which slot a stream reads from, and the slots that nobody reads from any more.
//!
//! A temporary slot ends with its connection. Persistent slots are a family: each node that streams holds one of
//! `name`, `name_2` and so on, the first that nobody reads from. It belongs to the node as long as that runs, so what
//! is committed while PostgreSQL or the network is away is told afterwards. What a slot has kept for a node that is gone
//! is of use to nobody, because its subscribers went with it: whoever takes the slot over begins at the present.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::{
    lifecycle::Chain,
    pg::{
        Connector, Database,
        queries::changes,
        replication::{Lsn, ReplicationError, SlotKind, Stream},
    },
    telemetry::metric,
};

/// Nodes that may share a family.
const MOST_NODES: usize = 32;
/// How often the family is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where a node's streams begin.
pub struct Berth {
    publication: &'static str,
    family: Option<String>,
    /// The persistent slot that is held, and up to where its changes have been told.
    held: Option<(String, Lsn)>,
}

/// The names of a family.
fn names(family: &str) -> impl Iterator<Item = String> {
    (1..=MOST_NODES).map(move |n| if n == 1 { family.to_owned() } else { format!("{family}_{n}") })
}

impl Berth {
    /// For streams of a publication; `family` is what persistent slots are called, none for temporary ones.
    pub const fn new(publication: &'static str, family: Option<String>) -> Self {
        Self { publication, family, held: None }
    }

    /// Whether a stream that breaks is gone on with where it was.
    pub const fn keeps_its_place(&self) -> bool {
        self.family.is_some()
    }

    /// Begins at the present, or goes on.
    ///
    /// # Errors
    /// When no stream can be had.
    pub async fn begin(&mut self, connector: &Connector) -> Result<(Stream, Lsn), ReplicationError> {
        let Some(family) = &self.family else {
            let name = format!("rollcall_{}", uuid::Uuid::new_v4().simple());
            let stream = Stream::begin(connector, &name, SlotKind::Temporary, self.publication).await?;
            return Ok((stream, Lsn::default()));
        };
        if let Some((name, told)) = &self.held {
            return Ok((Stream::resume(connector, name, self.publication, *told).await?, *told));
        }
        let mut refused = ReplicationError::Unusable("all slots of the family are in use");
        for name in names(family) {
            match Stream::begin(connector, &name, SlotKind::Persistent, self.publication).await {
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
    pub fn reached(&mut self, lsn: Lsn) {
        if let Some((_, told)) = &mut self.held {
            *told = lsn.max(*told);
        }
    }

    /// Gives the slot up, so that it does not keep the log.
    pub async fn leave(&mut self, connector: &Connector) {
        if let Some((slot, _)) = self.held.take()
            && let Err(error) = Stream::drop_slot(connector, &slot).await
        {
            tracing::warn!(error = %Chain(&error), slot, "the slot was not dropped and keeps the log from being recycled");
        }
    }
}

/// Looks at the family for ever: tells how much log it keeps, and drops what keeps more than the bound for nobody.
pub async fn guard(database: &Database, family: &str, most_kept: u64) {
    let family: Vec<String> = names(family).collect();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let looked = async {
            let client = database.own().await?;
            let slots = changes::slots(&client, &family).await?;
            let most = slots.iter().map(|slot| slot.kept).max().unwrap_or(0);
            metrics::gauge!(metric::REPLICATION_RETAINED).set(most as f64);
            for slot in slots {
                if slot.kept <= most_kept {
                    continue;
                }
                tracing::error!(
                    slot = slot.name,
                    kept = slot.kept,
                    bound = most_kept,
                    in_use = slot.is_active,
                    "a slot keeps more of the log than it may"
                );
                if !slot.is_active {
                    changes::drop_slot(&client, &slot.name).await?;
                    metrics::counter!(metric::REPLICATION_SLOTS_DROPPED).increment(1);
                }
            }
            Ok::<(), crate::pg::PgError>(())
        };
        if let Err(error) = looked.await {
            tracing::debug!(error = %Chain(&error), "the slots could not be looked at");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_a_name_for_each_node() {
        let names: Vec<String> = names("live").take(3).collect();
        assert_eq!(names, ["live", "live_2", "live_3"]);
    }
}
