//! Signals, soft stop, hard stop, the set of tracked tasks.
//!
//! A [`Shutdown`] is asked for once (finish what you hold) or twice (let go of everything). [`Tasks`] owns the
//! long-running tasks by name: one that ends or panics while the server should be running is a fault, and asks
//! for the soft stop itself, so that a server never limps on without its listener or its sweep.

use std::collections::BTreeMap;
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

/// The two stages of stopping. Cheap to clone; all clones mean the same stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Shutdown {
    /// Nothing asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when no new work is to be begun; what is under way may finish.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when even that has to be dropped. The soft stop always comes first.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Asks for the soft stop; if that was done already, for the hard one.
    pub fn request(&self) {
        if self.soft.is_cancelled() {
            self.hard.cancel();
        }
        self.soft.cancel();
    }

    /// Turns SIGINT and SIGTERM into requests from now on: the first is the soft stop, the second the hard one.
    ///
    /// # Errors
    /// If the system does not let us listen to signals.
    pub fn listen_for_signals(&self) -> io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                let first = !shutdown.soft.is_cancelled();
                info!(
                    "{}",
                    if first { "stopping; a second signal stops at once" } else { "stopping at once" }
                );
                shutdown.request();
            }
        });
        Ok(())
    }
}

/// Why the server stopped without being asked, or could not stop in order.
#[derive(Debug, thiserror::Error)]
pub enum TaskFailure {
    /// A task came to its end while the server should be running.
    #[error("the task \"{0}\" ended although the server was running")]
    Ended(&'static str),
    /// A task gave up with an error.
    #[error("the task \"{name}\" failed")]
    Failed {
        /// The task.
        name: &'static str,
        /// What it said.
        source: BoxError,
    },
    /// A task panicked: a bug.
    #[error("the task \"{0}\" panicked")]
    Panicked(&'static str),
    /// Tasks that did not end in time and were dropped.
    #[error("did not stop in time: {0}")]
    StillRunning(String),
}

/// Any error of a task.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The long-running tasks, by name. Cheap to clone; all clones are the same set.
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
    /// The first only: what fails after it fails because of it.
    failure: Option<TaskFailure>,
}

impl Tasks {
    /// An empty set that stops with `shutdown`.
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, tracker: TaskTracker::new(), state: Arc::default() }
    }

    /// The stop that the tasks heed.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Runs a task until it ends, which it should do soon after the soft stop. Ending before that, failing or
    /// panicking stops the server. The hard stop drops it at its next await.
    pub fn spawn<F, E>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError> + Send + 'static,
    {
        let id = self.state.lock().register(name);
        let this = self.clone();
        self.tracker.spawn(async move {
            // A task of its own, so that its panic ends there and is seen here.
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
        error!(error = %ErrorChain(&failure), "a background task failed, stopping");
        self.state.lock().failure.get_or_insert(failure);
        self.shutdown.soft.cancel();
    }

    /// Waits for the soft stop, then for all tasks, for at most `grace`; then drops those that are left.
    ///
    /// # Errors
    /// The first task that failed; else the names of those that had to be dropped, unless the operator asked
    /// for just that with a second signal.
    pub async fn run(&self, grace: Duration) -> Result<(), TaskFailure> {
        self.shutdown.soft.cancelled().await;
        self.tracker.close();
        tokio::select! {
            () = self.tracker.wait() => {}
            () = self.shutdown.hard.cancelled() => {}
            () = tokio::time::sleep(grace) => {
                let left = self.state.lock().running.values().copied().collect::<Vec<_>>().join(", ");
                warn!(tasks = %left, "tasks did not stop in time and are dropped");
                self.state.lock().failure.get_or_insert(TaskFailure::StillRunning(left));
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

/// An error with its causes on one line, for people: `could not listen: address in use`.
pub struct ErrorChain<'a>(pub &'a (dyn std::error::Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Transparent errors and some libraries repeat their cause.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
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
        tasks.spawn("good", wait_for_stop(tasks.shutdown().soft().clone()));
        tasks.shutdown().request();
        tasks.run(GRACE).await.unwrap();
    }

    #[tokio::test]
    async fn early_task_end_stops_the_server() {
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn("good", wait_for_stop(tasks.shutdown().soft().clone()));
        tasks.spawn("short", async { Never::Ok(()) });
        assert!(matches!(tasks.run(GRACE).await, Err(TaskFailure::Ended("short"))));
    }

    #[tokio::test]
    async fn task_panic_stops_the_server() {
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn("shaky", async {
            assert!(std::env::args().count() == 0, "shaken");
            Never::Ok(())
        });
        assert!(matches!(tasks.run(GRACE).await, Err(TaskFailure::Panicked("shaky"))));
    }

    #[tokio::test]
    async fn task_error_keeps_its_cause() {
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn("broken", async { Err(io::Error::other("pipe")) });
        let failure = tasks.run(GRACE).await.unwrap_err();
        assert_eq!(ErrorChain(&failure).to_string(), "the task \"broken\" failed: pipe");
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
