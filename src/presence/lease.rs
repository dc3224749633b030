//! The node's lease, which covers all its devices, and its share of the sweep.

use std::{sync::Arc, time::Duration};

use tokio::{select, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    devices::{DeviceTracker, HEARTBEAT_TIMEOUT},
    reconciliation::Reconciliation,
    visibility::PendingChanges,
};
use crate::{
    backoff::jittered,
    lifecycle::ErrorChain,
    pg::{Database, PgError, queries::node},
};

/// Timeout of renewing the lease.
const LEASE_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout of releasing the lease, which takes all devices of the node offline; below that of the shutdown.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(8);
/// Timeout of a sweep, which may take all devices of a dead node offline.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(60);

/// The node's lease and its share of the sweep. Clones share the lease.
#[derive(Clone)]
pub struct NodeLease {
    database: Database,
    devices: DeviceTracker,
    pending: Arc<PendingChanges>,
    /// Whether the module presence is installed; without it there are no devices.
    has_presence: bool,
}

impl NodeLease {
    /// Creates a lease; [`run`](Self::run) renews it.
    #[must_use]
    pub const fn new(
        database: Database,
        devices: DeviceTracker,
        pending: Arc<PendingChanges>,
        has_presence: bool,
    ) -> Self {
        Self { database, devices, pending, has_presence }
    }

    /// Acquires the lease for the first time.
    ///
    /// # Errors
    ///
    /// If the database does not answer.
    pub async fn acquire(&self) -> Result<(), PgError> {
        self.renew().await.map(drop)
    }

    /// Renews the lease three times per lease duration, compares and sweeps, and requests a new visibility snapshot.
    pub async fn run(self, stop: CancellationToken) {
        let mut failing_since = None;
        // Beside the renewal, which must not wait for them: they may wait for locked rows.
        let mut sweep = JoinSet::new();
        let mut assertion = JoinSet::new();
        let mut reconciliation = Reconciliation::default();
        let (mut lease_lost, mut was_failing) = (false, false);
        // After an outage, other nodes may be alive too and get one lease duration to renew before the first sweep.
        let mut sweeps_from = Instant::now() + self.devices.timeouts().lease;
        loop {
            let pause = jittered(self.devices.timeouts().lease / 3, 0.8..1.0);
            select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            match self.renew().await {
                Ok(held) => {
                    if failing_since.take().is_some() {
                        sweeps_from = Instant::now() + self.devices.timeouts().lease;
                        was_failing = true;
                    }
                    if !held {
                        tracing::info!("lease expired; writing all connections again");
                    }
                    lease_lost |= !held;
                    while let Some(finished) = assertion.try_join_next() {
                        reconciliation = finished.unwrap_or_default();
                    }
                    if assertion.is_empty() && self.has_presence {
                        let (lease, all) = (self.clone(), std::mem::take(&mut lease_lost));
                        let mut reconciliation = std::mem::take(&mut reconciliation);
                        // The database may be another one, with rows of long ago.
                        if all || std::mem::take(&mut was_failing) {
                            reconciliation.compare_everything();
                        }
                        assertion.spawn(async move { lease.assert_devices(all, reconciliation).await });
                    }
                    while sweep.try_join_next().is_some() {}
                    if Instant::now() >= sweeps_from && sweep.is_empty() {
                        let lease = self.clone();
                        sweep.spawn(async move { lease.sweep().await });
                    }
                    self.pending.request_snapshot();
                }
                Err(error) => {
                    let since = *failing_since.get_or_insert_with(Instant::now);
                    tracing::warn!(error = %ErrorChain(&error), failing_ms = since.elapsed().as_millis(), "lease renewal failed");
                }
            }
        }
    }

    async fn renew(&self) -> Result<bool, PgError> {
        let (node, lease) = (self.devices.node(), self.devices.timeouts().lease);
        let renew = |connection| async move { node::renew_lease(&connection, node, lease).await };
        self.database.within_liveness(LEASE_TIMEOUT, renew).await
    }

    /// Writes devices that the database does not have: those whose write failed, all after the lease was lost, and those
    /// that a comparison finds.
    async fn assert_devices(&self, all: bool, mut reconciliation: Reconciliation) -> Reconciliation {
        self.devices.assert_connected(all).await;
        reconciliation.run(&self.database, &self.devices).await;
        reconciliation
    }

    /// Releases the lease. Devices connected to no other node go offline. Call it after the last write: a later connect
    /// would keep its device online without a socket.
    pub async fn release(&self) {
        let (node, grace) = (self.devices.node(), self.devices.timeouts().grace);
        let has_presence = self.has_presence;
        let release = |connection| async move {
            if has_presence {
                node::release_lease(&connection, node, grace).await
            } else {
                node::leave(&connection, node).await
            }
        };
        let released = self.database.within(RELEASE_TIMEOUT, release).await;
        if let Err(error) = released {
            tracing::warn!(error = %ErrorChain(&error), "lease release failed; the lease expires by itself");
        }
    }

    async fn sweep(&self) {
        let idle_after = self.devices.timeouts().idle_after;
        let has_presence = self.has_presence;
        let sweep = |connection| async move {
            if has_presence {
                node::sweep(&connection, idle_after, HEARTBEAT_TIMEOUT).await
            } else {
                node::sweep_nodes(&connection).await.map(|()| node::SweepResult::default())
            }
        };
        match self.database.within(SWEEP_TIMEOUT, sweep).await {
            Ok(swept) if swept != node::SweepResult::default() => tracing::debug!(?swept, "sweep finished"),
            Ok(_) => {}
            Err(error) => tracing::warn!(error = %ErrorChain(&error), "sweep failed"),
        }
        if has_presence {
            let erase = |connection| async move { node::erase_deleted_accounts(&connection).await };
            match self.database.within(SWEEP_TIMEOUT, erase).await {
                Ok(0) => {}
                Ok(accounts) => tracing::info!(accounts, "data of deleted accounts erased"),
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "erasure of deleted accounts failed");
                }
            }
        }
    }
}
