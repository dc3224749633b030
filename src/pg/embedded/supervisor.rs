//! Keeps PostgreSQL up: whoever ends it, it comes back, and the server waits for it instead of dying.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::unistd::Pid;
use rand::Rng;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::EmbeddedError;
use super::cluster_files::ClusterFiles;
use super::postmaster::Postmaster;
use super::record::ClusterRecord;
use crate::lifecycle::ErrorChain;

/// Before the first try. Somebody's `pg_ctl restart` looks ten times a second whether the old one is gone; their
/// new one goes first.
const FIRST_RESTART_DELAY: Duration = Duration::from_millis(600);
/// Between two tries at most.
const MAX_RESTART_DELAY: Duration = Duration::from_secs(5);

/// Which process runs now, for whoever has to end it.
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

/// Watches `postmaster` until `stop`.
pub(super) async fn supervise(
    home: ClusterFiles,
    record: ClusterRecord,
    mut postmaster: Postmaster,
    current: Arc<CurrentPid>,
    stop: CancellationToken,
) {
    loop {
        let status = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            status = postmaster.wait_for_exit() => status,
        };
        let how = status.map_or_else(|| "ended".to_owned(), |status| status.to_string());
        warn!(pid = postmaster.pid.as_raw(), "PostgreSQL went away ({how}), bringing it back");
        postmaster = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            postmaster = restart(&home, &record, &current) => postmaster,
        };
        info!(pid = postmaster.pid.as_raw(), "PostgreSQL is back");
    }
}

async fn restart(home: &ClusterFiles, record: &ClusterRecord, current: &CurrentPid) -> Postmaster {
    let mut pause = FIRST_RESTART_DELAY;
    loop {
        sleep(with_jitter(pause)).await;
        match attach_or_start(home, record, current).await {
            Ok(postmaster) => return postmaster,
            Err(error) => warn!(error = %ErrorChain(&error), "PostgreSQL is not back yet, trying again"),
        }
        pause = (pause * 2).min(MAX_RESTART_DELAY);
    }
}

/// Half of it is chance, so that two who compete for the cluster do not stay in step.
pub(super) fn with_jitter(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// Adopts the one that runs, or starts one, and waits until it answers.
pub(super) async fn attach_or_start(
    home: &ClusterFiles,
    record: &ClusterRecord,
    current: &CurrentPid,
) -> Result<Postmaster, EmbeddedError> {
    let mut postmaster = match Postmaster::find_running(home) {
        Some(found) => found,
        None => Postmaster::spawn(home)?,
    };
    current.set(postmaster.pid);
    match postmaster.wait_until_ready(home, record).await {
        Ok(_) => Ok(postmaster),
        Err(error) => {
            postmaster.stop_child();
            Err(error)
        }
    }
}
