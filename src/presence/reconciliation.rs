//! Compares the connections of this node with their rows, in both directions.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;

use super::devices::{ASSERT_BATCH_SIZE, DeviceKey, DeviceTracker};
use crate::{
    lifecycle::ErrorChain,
    model::{NodeId, UserId},
    pg::{
        Database, PgError,
        queries::presence::{missing_connections, recorded_connections},
    },
    telemetry::metric,
};

/// Devices whose rows are compared after each renewal of the lease. A node with more compares them in turns.
const MAX_COMPARED: usize = 10_000;
/// Rows of connected devices, of all nodes, that are read after each renewal of the lease.
const READ_PAGE: usize = 2_000;
/// Timeout of one comparison.
const COMPARE_TIMEOUT: Duration = Duration::from_secs(5);

/// Finds devices whose rows in the database differ from their connections to this node.
#[derive(Default)]
pub(super) struct Reconciliation {
    /// The device compared last, when there are more than [`MAX_COMPARED`].
    compared_up_to: Option<DeviceKey>,
    /// Missing in the last comparison. The second time they are written: in between, what is on its way arrives, such as
    /// a sign-off or the write of a socket that has just opened.
    suspected: HashSet<DeviceKey>,
    /// The user whose rows were read last, when there are more pages of rows.
    read_up_to: Option<UserId>,
    /// Recorded as connected here without being so, in the last comparison. The second time they are written as
    /// disconnected.
    unexpected: HashSet<DeviceKey>,
    /// Whether the next comparison reads all rows.
    reads_everything: bool,
}

impl Reconciliation {
    /// Makes the next comparison read the rows of all devices.
    pub(super) const fn compare_everything(&mut self) {
        self.reads_everything = true;
    }

    /// Compares, and writes what differed twice.
    pub(super) async fn run(&mut self, database: &Database, tracker: &DeviceTracker) {
        let compared = match self.restore_missing(database, tracker).await {
            Ok(()) => self.end_unexpected(database, tracker).await,
            Err(error) => Err(error),
        };
        if let Err(error) = compared {
            tracing::warn!(error = %ErrorChain(&error), "comparing connected devices with the database failed");
        }
    }

    /// The devices to compare now.
    fn next_devices(&mut self, tracker: &DeviceTracker) -> Vec<DeviceKey> {
        let mut devices = tracker.connected();
        if devices.len() > MAX_COMPARED {
            devices.sort_unstable();
            let next =
                self.compared_up_to.take().map_or(0, |last| devices.partition_point(|key| *key <= last));
            devices.drain(..next);
            if devices.len() > MAX_COMPARED {
                devices.truncate(MAX_COMPARED);
                self.compared_up_to = devices.last().cloned();
            }
        }
        devices
    }

    /// Writes connected devices whose rows were missing twice: rows that were deleted or changed in SQL, or that were lost
    /// in a fail-over.
    async fn restore_missing(&mut self, database: &Database, tracker: &DeviceTracker) -> Result<(), PgError> {
        let mut devices = self.next_devices(tracker);
        devices.extend(self.suspected.iter().cloned());
        let missing = missing_among(database, tracker.node(), &devices).await?;
        let (lost, suspected): (HashSet<DeviceKey>, HashSet<DeviceKey>) =
            missing.into_iter().partition(|key| self.suspected.contains(key));
        self.suspected = suspected;
        let lost: Vec<DeviceKey> = lost.into_iter().filter(|key| tracker.is_connected(key)).collect();
        if lost.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            devices = lost.len(),
            "connected devices were not in the database; writing them again"
        );
        metrics::counter!(metric::DEVICES_RECONCILED).increment(lost.len() as u64);
        for chunk in lost.chunks(ASSERT_BATCH_SIZE) {
            join_all(chunk.iter().map(|(user, device)| tracker.connect(*user, device, false))).await;
        }
        Ok(())
    }

    /// Disconnects devices that are not connected here and whose rows say so twice: rows of an older time, after a
    /// restored backup or a fail-over, or that were changed in SQL.
    async fn end_unexpected(&mut self, database: &Database, tracker: &DeviceTracker) -> Result<(), PgError> {
        let suspected: Vec<DeviceKey> = self.unexpected.drain().collect();
        let ended = missing_among(database, tracker.node(), &suspected).await?;
        let unexpected: Vec<DeviceKey> =
            suspected.into_iter().filter(|key| !ended.contains(key) && !tracker.knows(key)).collect();
        if !unexpected.is_empty() {
            tracing::warn!(
                devices = unexpected.len(),
                "devices without a connection were connected in the database; disconnecting them"
            );
            metrics::counter!(metric::DEVICES_RECONCILED).increment(unexpected.len() as u64);
        }
        for chunk in unexpected.chunks(ASSERT_BATCH_SIZE) {
            join_all(chunk.iter().map(|(user, device)| tracker.disconnect(*user, device, 0.0))).await;
        }
        let reads_everything = self.reads_everything;
        if reads_everything {
            self.read_up_to = None;
        }
        loop {
            let (node, after) = (tracker.node(), self.read_up_to);
            let limit = if reads_everything { MAX_COMPARED } else { READ_PAGE };
            let read =
                |connection| async move { recorded_connections(&connection, node, after, limit).await };
            let page = database.within(COMPARE_TIMEOUT, read).await?;
            self.unexpected.extend(page.devices.into_iter().filter(|key| !tracker.knows(key)));
            self.read_up_to = page.last_user;
            if !reads_everything || page.last_user.is_none() || self.unexpected.len() >= MAX_COMPARED {
                // Kept until here, so that a failed read is repeated.
                self.reads_everything = false;
                return Ok(());
            }
        }
    }
}

/// Those of the devices that are not recorded as connected to the node.
async fn missing_among(
    database: &Database,
    node: NodeId,
    devices: &[DeviceKey],
) -> Result<HashSet<DeviceKey>, PgError> {
    if devices.is_empty() {
        return Ok(HashSet::new());
    }
    let compare = |connection| async move { missing_connections(&connection, node, devices).await };
    Ok(database.within(COMPARE_TIMEOUT, compare).await?.into_iter().collect())
}
