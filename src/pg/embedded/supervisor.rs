//! Restarts PostgreSQL whenever it exits; the server waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::unistd::Pid;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::EmbeddedError;
use super::cluster_files::ClusterFiles;
use super::postmaster::Postmaster;
use super::record::ClusterRecord;
use crate::backoff::Backoff;
use crate::lifecycle::ErrorChain;

/// Delay before the first restart. `pg_ctl restart` polls ten times a second for the old process to exit; the delay
/// lets it start the new one first.
const RESTART_BACKOFF: Backoff = Backoff::new(Duration::from_millis(600), Duration::from_secs(5));

/// Process ID of the current postmaster; 0 before the first start.
#[derive(Debug, Default)]
pub(super) struct CurrentPid(AtomicI32);

impl CurrentPid {
    pub(super) fn set(&self, pid: Pid) {
        self.0.store(pid.as_raw(), Ordering::Release);
    }

    pub(super) fn get(&self) -> Option<Pid> {
        Some(self.0.load(Ordering::Acquire)).filter(|&pid| pid > 0).map(Pid::from_raw)
    }
}

/// Supervises `postmaster` until `stop` is cancelled.
pub(super) async fn supervise(
    files: ClusterFiles,
    record: ClusterRecord,
    mut postmaster: Postmaster,
    current_pid: Arc<CurrentPid>,
    stop: CancellationToken,
) {
    loop {
        let status = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            status = postmaster.wait_for_exit() => status,
        };
        let status = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
        warn!(pid = postmaster.pid.as_raw(), status, "PostgreSQL exited, restarting it");
        postmaster = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            postmaster = restart(&files, &record, &current_pid) => postmaster,
        };
        info!(pid = postmaster.pid.as_raw(), "PostgreSQL restarted");
    }
}

async fn restart(files: &ClusterFiles, record: &ClusterRecord, current_pid: &CurrentPid) -> Postmaster {
    let mut backoff = RESTART_BACKOFF;
    loop {
        sleep(backoff.next_delay()).await;
        match attach_or_start(files, record, current_pid).await {
            Ok(postmaster) => return postmaster,
            Err(error) => warn!(error = %ErrorChain(&error), "PostgreSQL restart failed, retrying"),
        }
    }
}

/// Adopts a running postmaster or starts one, and waits until it accepts connections.
pub(super) async fn attach_or_start(
    files: &ClusterFiles,
    record: &ClusterRecord,
    current_pid: &CurrentPid,
) -> Result<Postmaster, EmbeddedError> {
    let mut postmaster = match Postmaster::find_running(files) {
        Some(found) => found,
        None => Postmaster::spawn(files)?,
    };
    current_pid.set(postmaster.pid);
    match postmaster.wait_until_ready(files, record).await {
        Ok(_) => Ok(postmaster),
        Err(error) => {
            postmaster.stop_child();
            Err(error)
        }
    }
}
