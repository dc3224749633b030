//! Shutdown in two stages (soft stop, hard stop), signal handling, and the set of tracked background tasks.
//!
//! The first shutdown request lets running work finish, the second drops it. [`Tasks`] owns the long-running
//! tasks: when one ends or panics before the soft stop, it requests the soft stop, so that the server never
//! runs without its listener or sweep.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

/// The two stages of shutdown. Clones share the same state.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Soft stop: cancelled when no new work may start. Running work may finish.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Hard stop: cancelled when running work must be dropped. Always comes after the soft stop.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Requests the soft stop, or the hard stop when the soft stop was requested before.
    pub fn request(&self) {
        if self.soft.is_cancelled() {
            self.hard.cancel();
        }
        self.soft.cancel();
    }

    /// Handles SIGINT, SIGTERM and SIGHUP from now on: the first signal requests the soft stop, the second the
    /// hard stop. SIGHUP comes from a closed terminal; without a handler it would leave the embedded PostgreSQL
    /// running.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    pub fn listen_for_signals(&self) -> io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                let first = !shutdown.soft.is_cancelled();
                info!(
                    "{}",
                    if first {
                        "shutdown requested; a second signal stops the server immediately"
                    } else {
                        "second signal received; stopping immediately"
                    }
                );
                shutdown.request();
            }
        });
        Ok(())
    }
}

/// Reason for an unrequested or incomplete stop.
#[derive(Debug, thiserror::Error)]
pub enum TaskFailure {
    /// A task ended while the server was running.
    #[error("task \"{0}\" ended unexpectedly")]
    Ended(&'static str),
    /// A task failed with an error.
    #[error("task \"{name}\" failed")]
    Failed { name: &'static str, source: BoxError },
    #[error("task \"{0}\" panicked")]
    Panicked(&'static str),
    /// Names of the tasks that did not end in time and were dropped.
    #[error("tasks did not stop in time: {0}")]
    StillRunning(String),
}

/// Error of a background task.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The long-running tasks by name. Clones share the same set.
#[derive(Clone)]
pub struct Tasks {
    shutdown: Shutdown,
    tracker: TaskTracker,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    running: BTreeMap<u64, &'static str>,
    /// The first failure only; later ones are usually its consequence.
    failure: Option<TaskFailure>,
}

impl Tasks {
    /// Creates an empty set that stops with `shutdown`.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, tracker: TaskTracker::new(), state: Arc::default() }
    }

    /// The shutdown that the tasks follow.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Spawns a task that cannot fail and that ends when the token of the soft stop is cancelled.
    pub fn spawn_until_stopped<F>(&self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let running = task(self.shutdown.soft().clone());
        self.spawn(name, async {
            running.await;
            Ok::<(), Infallible>(())
        });
    }

    /// Spawns a task. It should end soon after the soft stop; ending earlier, failing or panicking stops the
    /// server. The hard stop drops it at its next await.
    pub fn spawn<F, E>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError> + Send + 'static,
    {
        let id = self.state.lock().register(name);
        let this = self.clone();
        self.tracker.spawn(async move {
            // A separate Tokio task, so that a panic ends only that task and is reported here.
            let mut running = tokio::spawn(task);
            let ended = tokio::select! {
                biased;
                ended = &mut running => Some(ended),
                () = this.shutdown.hard.cancelled() => {
                    running.abort();
                    None
                }
            };
            this.state.lock().running.remove(&id);
            let Some(ended) = ended else { return };
            match ended {
                Ok(Ok(())) if this.shutdown.soft.is_cancelled() => {}
                Ok(Ok(())) => this.fail(TaskFailure::Ended(name)),
                Ok(Err(source)) => this.fail(TaskFailure::Failed { name, source: source.into() }),
                Err(join) if join.is_panic() => this.fail(TaskFailure::Panicked(name)),
                Err(_) => {}
            }
        });
    }

    fn fail(&self, failure: TaskFailure) {
        error!(error = %ErrorChain(&failure), "background task failed; stopping the server");
        self.state.lock().failure.get_or_insert(failure);
        self.shutdown.soft.cancel();
    }

    /// Waits for the soft stop and then for all tasks, for at most `grace`. Drops the tasks that remain.
    ///
    /// # Errors
    /// The first failed task; otherwise the names of the dropped tasks, unless a second signal requested the
    /// drop.
    pub async fn run(&self, grace: Duration) -> Result<(), TaskFailure> {
        self.shutdown.soft.cancelled().await;
        self.tracker.close();
        tokio::select! {
            () = self.tracker.wait() => {}
            () = self.shutdown.hard.cancelled() => {}
            () = tokio::time::sleep(grace) => {
                let remaining = self.state.lock().running.values().copied().collect::<Vec<_>>().join(", ");
                warn!(tasks = %remaining, "tasks did not stop in time and were dropped");
                self.state.lock().failure.get_or_insert(TaskFailure::StillRunning(remaining));
            }
        }
        self.shutdown.hard.cancel();
        self.state.lock().failure.take().map_or(Ok(()), Err)
    }
}

impl State {
    fn register(&mut self, name: &'static str) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.running.insert(id, name);
        id
    }
}

/// Displays an error with its causes on one line, for example `could not listen: address in use`.
pub struct ErrorChain<'a>(pub &'a (dyn std::error::Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        f.write_str(&text)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let cause_text = error.to_string();
            // Transparent errors and some libraries repeat the text of their cause.
            if !text.contains(&cause_text) {
                write!(f, ": {cause_text}")?;
                text = cause_text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);
    type Never = Result<(), std::convert::Infallible>;

    async fn wait_for_stop(stop: CancellationToken) -> Never {
        stop.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn tasks_end_on_soft_stop() {
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn("cooperative", wait_for_stop(tasks.shutdown().soft().clone()));
        tasks.shutdown().request();
        tasks.run(GRACE).await.unwrap();
    }

    #[tokio::test]
    async fn early_task_end_stops_the_server() {
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn("cooperative", wait_for_stop(tasks.shutdown().soft().clone()));
        tasks.spawn("short", async { Never::Ok(()) });
        assert!(matches!(tasks.run(GRACE).await, Err(TaskFailure::Ended("short"))));
    }

    #[tokio::test]
    async fn task_panic_stops_the_server() {
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn("panicking", async {
            assert!(std::env::args().count() == 0, "panics");
            Never::Ok(())
        });
        assert!(matches!(tasks.run(GRACE).await, Err(TaskFailure::Panicked("panicking"))));
    }

    #[tokio::test]
    async fn task_error_keeps_its_cause() {
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn("broken", async { Err(io::Error::other("pipe")) });
        let failure = tasks.run(GRACE).await.unwrap_err();
        assert_eq!(ErrorChain(&failure).to_string(), "task \"broken\" failed: pipe");
    }

    #[tokio::test]
    async fn hanging_task_is_dropped_after_the_timeout() {
        let tasks = Tasks::new(Shutdown::new());
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("stuck", async move {
            let _held = held;
            std::future::pending::<Never>().await
        });
        tasks.shutdown().request();
        let failure = tasks.run(Duration::from_millis(20)).await.unwrap_err();
        assert!(matches!(&failure, TaskFailure::StillRunning(names) if names == "stuck"), "{failure}");
        assert!(dropped.await.is_err(), "dropped");
    }

    #[tokio::test]
    async fn second_stop_request_drops_tasks_without_failure() {
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn("stuck", std::future::pending::<Never>());
        tasks.shutdown().request();
        tasks.shutdown().request();
        tasks.run(GRACE).await.unwrap();
    }
}
