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
use super::home::Home;
use super::postmaster::Postmaster;
use super::record::Record;
use crate::lifecycle::Chain;

/// Before the first try. Somebody's `pg_ctl restart` looks ten times a second whether the old one is gone; their
/// new one goes first.
const FIRST_PAUSE: Duration = Duration::from_millis(600);
/// Between two tries at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Which process runs now, for whoever has to end it.
#[derive(Debug, Default)]
pub(super) struct Current(AtomicI32);

impl Current {
    pub(super) fn set(&self, pid: Pid) {
        self.0.store(pid.as_raw(), Ordering::Release);
    }

    pub(super) fn get(&self) -> Option<Pid> {
        Some(self.0.load(Ordering::Acquire)).filter(|&pid| pid > 0).map(Pid::from_raw)
    }
}

/// Watches `postmaster` until `stop`.
pub(super) async fn supervise(
    home: Home,
    record: Record,
    mut postmaster: Postmaster,
    current: Arc<Current>,
    stop: CancellationToken,
) {
    loop {
        let status = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            status = postmaster.ended() => status,
        };
        let how = status.map_or_else(|| "ended".to_owned(), |status| status.to_string());
        warn!(pid = postmaster.pid.as_raw(), "PostgreSQL went away ({how}), bringing it back");
        postmaster = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            postmaster = bring_back(&home, &record, &current) => postmaster,
        };
        info!(pid = postmaster.pid.as_raw(), "PostgreSQL is back");
    }
}

async fn bring_back(home: &Home, record: &Record, current: &Current) -> Postmaster {
    let mut pause = FIRST_PAUSE;
    loop {
        sleep(jittered(pause)).await;
        match run(home, record, current).await {
            Ok(postmaster) => return postmaster,
            Err(error) => warn!(error = %Chain(&error), "PostgreSQL is not back yet, trying again"),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Half of it is chance, so that two who compete for the cluster do not stay in step.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// Adopts the one that runs, or starts one, and waits until it answers.
pub(super) async fn run(
    home: &Home,
    record: &Record,
    current: &Current,
) -> Result<Postmaster, EmbeddedError> {
    let mut postmaster = match Postmaster::find(home) {
        Some(found) => found,
        None => Postmaster::spawn(home)?,
    };
    current.set(postmaster.pid);
    match postmaster.ready(home, record).await {
        Ok(_) => Ok(postmaster),
        Err(error) => {
            postmaster.give_up();
            Err(error)
        }
    }
}
