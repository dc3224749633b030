//! The group-commit writer: one per node, used by all presence writes.
//!
//! Writes that arrive while a batch is in flight form the next batch. There is no timer: an idle system responds after
//! one transaction, and a busy one batches. Callers are answered after the commit. Writes of users whose rows another
//! session has locked leave the batch ([`LockedUsers`]), so that nobody else waits for them. Users take turns: each has at
//! most one write in a batch, and [`MAX_QUEUED_PER_USER`] in the queue.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
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
    user_shares::UserShares,
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
/// Maximum number of a user's writes in the queue. Further callers of the user wait.
const MAX_QUEUED_PER_USER: usize = 64;
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
    shares: Arc<UserShares>,
}

/// The writer's task, spawned by its owner.
pub struct WriterTask {
    database: Database,
    queue: mpsc::Receiver<Request>,
    locked_users: LockedUsers,
}

impl Writer {
    /// Creates a writer and its task.
    #[must_use]
    pub fn new(database: Database) -> (Self, WriterTask) {
        let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
        let locked_users = LockedUsers::new(database.clone());
        let shares = Arc::new(UserShares::new(MAX_QUEUED_PER_USER));
        (Self { queue: sender, shares }, WriterTask { database, queue: receiver, locked_users })
    }

    /// Applies a change and returns the user's trusted face after the commit. `None` if the change left no presence (a
    /// disconnect of an unknown device).
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub async fn apply(&self, user: UserId, change: Change) -> Result<Option<VersionedFace>, WriteError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { user, change, queued_at: Instant::now(), replies: vec![reply] };
        let write = async {
            let _share = self.shares.acquire(user).await;
            self.queue.send(request).await.map_err(|_| WriteError::Stopping)?;
            answer.await.map_err(|_| WriteError::Stopping)?
        };
        timeout(CALLER_TIMEOUT, write).await.unwrap_or(Err(WriteError::Unavailable))
    }
}

impl WriterTask {
    /// Writes until `stop` is cancelled and the queue is empty.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut waiting = Turns::default();
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
                waiting.push(first);
            }
            // Everything that is queued: a user's many writes must not keep those of others out of the next batch.
            while waiting.count < QUEUE_CAPACITY {
                let Ok(next) = self.queue.try_recv() else { break };
                waiting.push(next);
            }
            let mut batch = self.locked_users.take_over(waiting.take_batch());
            // A caller that was answered with an error must not find its write applied later.
            batch.retain(|request| !request.is_abandoned());
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
                    let face = faces.remove(&request.user);
                    let result = answer(&request.change, face);
                    request.reply(&result);
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
                        request.reply(&Err(WriteError::Unavailable));
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
                    request.reply(&Err(WriteError::from(&error)));
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

/// Writes that wait for a batch, by user. Users take turns.
#[derive(Default)]
struct Turns {
    users: HashMap<UserId, VecDeque<Request>>,
    /// The users that have writes, next one first.
    order: VecDeque<UserId>,
    /// Number of writes of all users.
    count: usize,
}

impl Turns {
    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Adds a write. A heartbeat is merged with that of the same device before it.
    fn push(&mut self, request: Request) {
        let writes = self.users.entry(request.user).or_default();
        if writes.is_empty() {
            self.order.push_back(request.user);
        }
        let request = match writes.back_mut() {
            Some(last) => last.merge(request),
            None => Some(request),
        };
        if let Some(request) = request {
            writes.push_back(request);
            self.count += 1;
        }
    }

    /// Takes the next write of as many users as fit into a batch. A user's second write waits for the next batch, so that
    /// the writes of one user keep their order.
    fn take_batch(&mut self) -> Vec<Request> {
        let users = self.order.len().min(MAX_BATCH_SIZE);
        let mut batch = Vec::with_capacity(users);
        for _ in 0..users {
            let Some(user) = self.order.pop_front() else { break };
            let Some(writes) = self.users.get_mut(&user) else { continue };
            batch.extend(writes.pop_front());
            if writes.is_empty() {
                self.users.remove(&user);
            } else {
                self.order.push_back(user);
            }
        }
        self.count -= batch.len();
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeviceId;

    fn heartbeat(user: UserId, device: &str, active: bool) -> Request {
        let device = Some(DeviceId::try_from(device).expect("is valid"));
        let change = Change::Heartbeat { device, active };
        Request { user, change, queued_at: Instant::now(), replies: vec![oneshot::channel().0] }
    }

    fn turns(requests: impl IntoIterator<Item = Request>) -> Turns {
        let mut turns = Turns::default();
        requests.into_iter().for_each(|request| turns.push(request));
        turns
    }

    fn users(batch: &[Request]) -> Vec<UserId> {
        batch.iter().map(|request| request.user).collect()
    }

    #[test]
    fn a_batch_holds_one_write_per_user_in_order() {
        let (a, b) = (UserId::random(), UserId::random());
        let mut waiting =
            turns([heartbeat(a, "x", false), heartbeat(b, "x", false), heartbeat(a, "y", true)]);

        let first = waiting.take_batch();
        assert_eq!(users(&first), [a, b]);
        assert!(matches!(first[0].change, Change::Heartbeat { active: false, .. }));

        let second = waiting.take_batch();
        assert!(matches!(second[..], [Request { change: Change::Heartbeat { active: true, .. }, .. }]));
        assert!(waiting.is_empty() && waiting.users.is_empty());
        assert_eq!(waiting.count, 0);
    }

    #[test]
    fn a_batch_is_bounded_and_leaves_the_rest_in_order() {
        let all: Vec<UserId> = (0..MAX_BATCH_SIZE + 3).map(|_| UserId::random()).collect();
        let mut waiting = turns(all.iter().map(|user| heartbeat(*user, "x", false)));

        assert_eq!(waiting.take_batch().len(), MAX_BATCH_SIZE);
        assert_eq!(users(&waiting.take_batch()), all[MAX_BATCH_SIZE..]);
    }

    #[test]
    fn many_writes_of_one_user_do_not_keep_others_out_of_the_next_batch() {
        let (flooder, innocent) = (UserId::random(), UserId::random());
        let devices = ["x", "y"];
        let mut waiting = turns((0..QUEUE_CAPACITY).map(|n| heartbeat(flooder, devices[n % 2], false)));
        for _ in 0..3 {
            waiting.push(heartbeat(innocent, "x", false));
            assert_eq!(users(&waiting.take_batch()), [flooder, innocent]);
            waiting.push(heartbeat(flooder, "z", false));
        }
    }

    #[test]
    fn heartbeats_of_one_device_are_merged_and_all_are_answered() {
        let user = UserId::random();
        let mut waiting = turns((0..10).map(|n| heartbeat(user, "x", n == 5)));
        let batch = waiting.take_batch();
        let [Request { change: Change::Heartbeat { active: true, .. }, replies, .. }] = &batch[..] else {
            panic!("one heartbeat is expected");
        };
        assert_eq!(replies.len(), 10);
        assert!(waiting.is_empty());
    }
}
