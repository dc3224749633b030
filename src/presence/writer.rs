//! The group-commit writer: one per node, used by all presence writes.
//!
//! Writes that arrive while a batch is in flight form the next batch. There is no timer: an idle system responds after
//! one transaction, and a busy one batches. Callers are answered after the commit. Writes of users whose rows another
//! session has locked leave the batch ([`LockedUsers`]), so that nobody else waits for them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use tokio::{
    select,
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub use super::write_request::WriteError;
use super::{
    locked_users::LockedUsers,
    write_request::{Request, answer},
};
use crate::{
    backoff::Backoff,
    lifecycle::ErrorChain,
    model::UserId,
    pg::{
        Database, PgError,
        queries::presence::{Change, VersionedFace, write_batch},
    },
    telemetry::metric,
};

/// Capacity of the queue for the next batch. Callers wait while it is full.
const QUEUE_CAPACITY: usize = 16_384;
/// Maximum number of writes in one batch. A batch of 1,000 takes about 50 ms on the development machine; larger batches
/// only add latency.
const MAX_BATCH_SIZE: usize = 512;
/// Timeout of a batch.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum wait of a batch for a lock, before locked users leave it.
const BATCH_LOCK_TIMEOUT: Duration = Duration::from_millis(100);
/// Maximum wait of a batch for a lock that is not on rows of its users, such as that of a table whose policies change.
const TABLE_LOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// Retries of a batch after a conflict with another node or psql.
const MAX_RETRIES: u32 = 5;
const CONFLICT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(320));
/// Maximum time that a caller waits for the queue and the commit.
const CALLER_TIMEOUT: Duration = Duration::from_secs(15);

/// Handle of the writer. Clones share it.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Request>,
}

/// The writer's task, spawned by its owner.
pub struct WriterTask {
    database: Database,
    queue: mpsc::Receiver<Request>,
    locked_users: LockedUsers,
}

/// Creates a writer and its task.
#[must_use]
pub fn writer(database: Database) -> (Writer, WriterTask) {
    let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
    let locked_users = LockedUsers::new(database.clone());
    (Writer { queue: sender }, WriterTask { database, queue: receiver, locked_users })
}

impl Writer {
    /// Applies a change and returns the user's trusted face after the commit. `None` if the change left no presence (a
    /// disconnect of an unknown device).
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub async fn apply(&self, user: UserId, change: Change) -> Result<Option<VersionedFace>, WriteError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { user, change, queued_at: Instant::now(), reply };
        let write = async {
            self.queue.send(request).await.map_err(|_| WriteError::Stopping)?;
            answer.await.map_err(|_| WriteError::Stopping)?
        };
        timeout(CALLER_TIMEOUT, write).await.unwrap_or(Err(WriteError::Unavailable))
    }
}

impl WriterTask {
    /// Writes until `stop` is cancelled and the queue is empty.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut waiting: VecDeque<Request> = VecDeque::new();
        loop {
            if waiting.is_empty() {
                let first = select! {
                    biased;
                    first = self.queue.recv() => first,
                    () = stop.cancelled() => {
                        // Accepted writes are completed; later ones fail with `Stopping`.
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
            let mut batch = self.locked_users.take_over(take_batch(&mut waiting));
            // A caller that was answered with an error must not find its write applied later.
            batch.retain(|request| !request.reply.is_closed());
            if !batch.is_empty() {
                self.commit(batch, BATCH_LOCK_TIMEOUT).await;
            }
        }
    }

    async fn commit(&self, batch: Vec<Request>, lock_timeout: Duration) {
        let started = Instant::now();
        metrics::histogram!(metric::WRITER_BATCH_SIZE).record(batch.len() as f64);
        let result = self.write(&batch, lock_timeout).await;
        match result {
            Ok(faces) => {
                let mut faces: HashMap<UserId, VersionedFace> =
                    faces.into_iter().map(|face| (face.presence.user_id, face)).collect();
                for request in batch {
                    metrics::histogram!(metric::WRITER_LATENCY)
                        .record(request.queued_at.elapsed().as_secs_f64());
                    // The caller may have timed out.
                    let face = faces.remove(&request.user);
                    drop(request.reply.send(answer(&request.change, face)));
                }
            }
            Err(PgError::LockTimeout(error)) => match self.locked_users.take_locked(batch).await {
                Ok(others) if others.is_empty() => {}
                Ok(others) => Box::pin(self.commit(others, BATCH_LOCK_TIMEOUT)).await,
                Err(batch) if lock_timeout < TABLE_LOCK_TIMEOUT => {
                    Box::pin(self.commit(batch, TABLE_LOCK_TIMEOUT)).await;
                }
                Err(batch) => {
                    tracing::warn!(error = %ErrorChain(&error), batch = batch.len(), "presence write waited for a lock");
                    for request in batch {
                        drop(request.reply.send(Err(WriteError::Unavailable)));
                    }
                }
            },
            Err(error @ PgError::Failed(_)) if batch.len() > 1 => {
                // A write that the database rejects must not fail the other writes.
                tracing::warn!(error = %ErrorChain(&error), batch = batch.len(), "batch failed; retrying writes one by one");
                for request in batch {
                    Box::pin(self.commit(vec![request], lock_timeout)).await;
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = %ErrorChain(&error), batch = batch.len(), duration_ms = started.elapsed().as_millis(),
                    "presence write failed"
                );
                for request in batch {
                    drop(request.reply.send(Err(WriteError::from(&error))));
                }
            }
        }
    }

    #[tracing::instrument(name = "presence.write", level = "debug", skip_all, fields(batch = batch.len()))]
    async fn write(&self, batch: &[Request], lock_timeout: Duration) -> Result<Vec<VersionedFace>, PgError> {
        let mut attempt = 0;
        let mut backoff = CONFLICT_BACKOFF;
        loop {
            let write = |connection| async move {
                write_batch(&connection, batch.iter().map(|request| (request.user, &request.change))).await
            };
            match self.database.within_locks(BATCH_TIMEOUT, lock_timeout, write).await {
                Err(PgError::Conflict(_)) if attempt < MAX_RETRIES => {
                    attempt += 1;
                    sleep(backoff.next_delay()).await;
                }
                result => return result,
            }
        }
    }
}

/// Takes a batch of requests with at most one per user. A user's second write waits for the next batch, so that the
/// writes of one user keep their order.
fn take_batch(waiting: &mut VecDeque<Request>) -> Vec<Request> {
    let mut users = HashSet::new();
    let mut batch = Vec::new();
    let mut deferred = VecDeque::new();
    while let Some(request) = waiting.pop_front() {
        if batch.len() == MAX_BATCH_SIZE {
            deferred.push_back(request);
            break;
        }
        if users.insert(request.user) {
            batch.push(request);
        } else {
            deferred.push_back(request);
        }
    }
    deferred.append(waiting);
    *waiting = deferred;
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
