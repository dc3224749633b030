//! The group-commit writer: one a node, through which every presence write goes.
//!
//! What arrives while a batch is in flight becomes the next batch. There is no timer: an idle system answers after
//! one transaction, and a busy one batches by itself. Callers are answered after the commit.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use rand::Rng;
use tokio::{
    select,
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    model::UserId,
    pg::{
        Database, PgError,
        queries::presence::{Change, VersionedFace, write_batch},
    },
    telemetry::metric,
};

/// Writes that may wait for the next batch. Over it callers wait for room.
const QUEUE_CAPACITY: usize = 16_384;
/// Writes in one batch. At a thousand a batch takes about 50 ms on the development machine; more only adds latency.
const MAX_BATCH_SIZE: usize = 512;
/// How long a batch may take before it is given up.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a batch that collided with another node's, or with psql, is tried again.
const MAX_RETRIES: u32 = 5;
/// How long a caller waits for room in the queue and for the commit.
const CALLER_TIMEOUT: Duration = Duration::from_secs(15);

/// A write did not happen, or nobody knows whether it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The database is out of reach, or too slow.
    #[error("the database is out of reach")]
    Unavailable,
    /// This one write is not acceptable to the database.
    #[error("the database refused the write")]
    Rejected,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

struct Request {
    user: UserId,
    change: Change,
    queued_at: Instant,
    reply: oneshot::Sender<Result<Option<VersionedFace>, WriteError>>,
}

/// A handle to the writer.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Request>,
}

/// The writer's task, to be spawned by whoever owns it.
pub struct WriterTask {
    database: Database,
    queue: mpsc::Receiver<Request>,
}

/// Makes a writer and its task.
#[must_use]
pub fn writer(database: Database) -> (Writer, WriterTask) {
    let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
    (Writer { queue: sender }, WriterTask { database, queue: receiver })
}

impl Writer {
    /// Applies a change and returns the user's trusted face after it, once committed; `None` where the change left
    /// nothing to see (a disconnect of a device that is not there).
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub async fn apply(&self, user: UserId, change: Change) -> Result<Option<VersionedFace>, WriteError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { user, change, queued_at: Instant::now(), reply };
        let whole = async {
            self.queue.send(request).await.map_err(|_| WriteError::Stopping)?;
            answer.await.map_err(|_| WriteError::Stopping)?
        };
        timeout(CALLER_TIMEOUT, whole).await.unwrap_or(Err(WriteError::Unavailable))
    }
}

impl WriterTask {
    /// Writes until told to stop and nothing is waiting.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut waiting: VecDeque<Request> = VecDeque::new();
        loop {
            if waiting.is_empty() {
                let first = select! {
                    biased;
                    first = self.queue.recv() => first,
                    () = stop.cancelled() => {
                        // What was accepted is written; what comes later is told that the server stops.
                        self.queue.close();
                        self.queue.recv().await
                    }
                };
                let Some(first) = first else { return };
                waiting.push_back(first);
            }
            while waiting.len() < 2 * MAX_BATCH_SIZE {
                let Ok(next) = self.queue.try_recv() else { break };
                waiting.push_back(next);
            }
            let batch = take_batch(&mut waiting);
            self.commit(batch).await;
        }
    }

    async fn commit(&self, batch: Vec<Request>) {
        let started = Instant::now();
        metrics::histogram!(metric::WRITER_BATCH_SIZE).record(batch.len() as f64);
        let result = self.write(&batch).await;
        match result {
            Ok(faces) => {
                let mut faces: HashMap<UserId, VersionedFace> =
                    faces.into_iter().map(|face| (face.presence.user_id, face)).collect();
                for request in batch {
                    metrics::histogram!(metric::WRITER_LATENCY)
                        .record(request.queued_at.elapsed().as_secs_f64());
                    // A caller that gave up does not need the answer.
                    drop(request.reply.send(Ok(faces.remove(&request.user))));
                }
            }
            Err(error @ (PgError::Failed(_) | PgError::LockTimeout(_))) if batch.len() > 1 => {
                // One write that the database refuses, or a user whom somebody in psql holds, must not take the others
                // along.
                tracing::warn!(error = ?error, batch = batch.len(), "a batch failed; writing one by one");
                for request in batch {
                    Box::pin(self.commit(vec![request])).await;
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = ?error, batch = batch.len(), duration_ms = started.elapsed().as_millis(),
                    "presence could not be written"
                );
                let answer = if matches!(error, PgError::Failed(_) | PgError::PermissionDenied(_)) {
                    WriteError::Rejected
                } else {
                    WriteError::Unavailable
                };
                for request in batch {
                    drop(request.reply.send(Err(answer)));
                }
            }
        }
    }

    #[tracing::instrument(name = "presence.write", level = "debug", skip_all, fields(batch = batch.len()))]
    async fn write(&self, batch: &[Request]) -> Result<Vec<VersionedFace>, PgError> {
        let mut attempt = 0;
        loop {
            let once = async {
                let connection = self.database.server_connection().await?;
                write_batch(&connection, batch.iter().map(|request| (request.user, &request.change))).await
            };
            let result = match timeout(BATCH_TIMEOUT, once).await {
                Ok(result) => result,
                Err(_) => Err(PgError::Unavailable("the batch took too long".into())),
            };
            match result {
                Err(PgError::Conflict(_)) if attempt < MAX_RETRIES => {
                    attempt += 1;
                    let pause = Duration::from_millis(rand::rng().random_range(1..(10 << attempt)));
                    sleep(pause).await;
                }
                result => return result,
            }
        }
    }
}

/// Takes up to a batch of requests, at most one a user: the second write of a user waits for the next batch, so that
/// writes of one user happen in the order in which they came.
fn take_batch(waiting: &mut VecDeque<Request>) -> Vec<Request> {
    let mut users = HashSet::new();
    let mut batch = Vec::new();
    let mut later = VecDeque::new();
    while let Some(request) = waiting.pop_front() {
        if batch.len() == MAX_BATCH_SIZE {
            later.push_back(request);
            break;
        }
        if users.insert(request.user) {
            batch.push(request);
        } else {
            later.push_back(request);
        }
    }
    later.append(waiting);
    *waiting = later;
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(user: UserId, age: f64) -> Request {
        let change = Change::Heartbeat { device: None, active: age > 0.0 };
        Request { user, change, queued_at: Instant::now(), reply: oneshot::channel().0 }
    }

    #[test]
    fn a_batch_holds_one_write_per_user_in_order() {
        let (a, b) = (UserId::random(), UserId::random());
        let mut waiting = VecDeque::from([request(a, 0.0), request(b, 0.0), request(a, 1.0)]);

        let first = take_batch(&mut waiting);
        assert_eq!(first.iter().map(|r| r.user).collect::<Vec<_>>(), [a, b]);
        assert!(matches!(first[0].change, Change::Heartbeat { active: false, .. }));

        let second = take_batch(&mut waiting);
        assert!(matches!(second[..], [Request { change: Change::Heartbeat { active: true, .. }, .. }]));
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_batch_is_bounded_and_leaves_the_rest_in_order() {
        let users: Vec<UserId> = (0..MAX_BATCH_SIZE + 3).map(|_| UserId::random()).collect();
        let mut waiting: VecDeque<Request> = users.iter().map(|user| request(*user, 0.0)).collect();

        assert_eq!(take_batch(&mut waiting).len(), MAX_BATCH_SIZE);
        assert_eq!(waiting.iter().map(|r| r.user).collect::<Vec<_>>(), users[MAX_BATCH_SIZE..]);
    }
}
