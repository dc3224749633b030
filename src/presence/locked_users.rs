//! Writes of users whose rows another session has locked. They wait apart from all others, each user's in their order.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::sleep};

use super::write_request::{Request, WriteError, answer};
use crate::{
    backoff::Backoff,
    lifecycle::ErrorChain,
    model::UserId,
    pg::{
        Database, PgError,
        queries::presence::{free_users, write_batch},
    },
    telemetry::metric,
};

/// Writes that wait for locked users. Further ones fail at once.
const MAX_WAITING: usize = 16_384;
/// Server connections that writes of locked users may hold.
const MAX_CONNECTIONS: usize = 2;
/// Maximum wait for a lock in one attempt. Short, so that users whose rows are free again wait little for their turn.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// Timeout of one attempt.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of finding out whose rows are locked.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pauses between attempts for one user: doubling, with jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

#[derive(Default)]
struct Waiting {
    /// A user is here from its first locked write until none is left.
    users: HashMap<UserId, VecDeque<Request>>,
    count: usize,
}

/// The writes that wait. Clones share them.
#[derive(Clone)]
pub(super) struct LockedUsers {
    database: Database,
    waiting: Arc<Mutex<Waiting>>,
    connections: Arc<Semaphore>,
}

impl LockedUsers {
    pub(super) fn new(database: Database) -> Self {
        Self { database, waiting: Arc::default(), connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }

    /// Keeps the writes of users that wait already, so that each user's writes stay in order. Returns the others.
    pub(super) fn take_over(&self, batch: Vec<Request>) -> Vec<Request> {
        let mut waiting = self.waiting.lock();
        if waiting.users.is_empty() {
            return batch;
        }
        let mut others = Vec::with_capacity(batch.len());
        for request in batch {
            if waiting.users.contains_key(&request.user) {
                waiting.push(request);
            } else {
                others.push(request);
            }
        }
        others
    }

    /// Keeps the writes of users whose rows are locked and returns the others. Without a result, the lock is not on rows
    /// of these users, or the database does not answer.
    pub(super) async fn take_locked(&self, batch: Vec<Request>) -> Result<Vec<Request>, Vec<Request>> {
        let users: Vec<UserId> = batch.iter().map(|request| request.user).collect();
        let users = &users;
        let probe = |connection| async move { free_users(&connection, users).await };
        let free: HashSet<UserId> = match self.database.within(PROBE_TIMEOUT, probe).await {
            Ok(free) if free.len() < users.len() => free.into_iter().collect(),
            _ => return Err(batch),
        };
        let (others, locked): (Vec<Request>, Vec<Request>) =
            batch.into_iter().partition(|request| free.contains(&request.user));
        tracing::warn!(
            users = locked.len(),
            "rows of users are locked by another session; their writes wait"
        );
        for request in locked {
            let user = request.user;
            let is_new = {
                let mut waiting = self.waiting.lock();
                let is_new = !waiting.users.contains_key(&user);
                waiting.push(request);
                is_new
            };
            if is_new {
                tokio::spawn(self.clone().run(user));
            }
        }
        Ok(others)
    }

    /// Writes what waits for one user, in order, until nothing is left. Ends within the timeout of its last caller.
    async fn run(self, user: UserId) {
        let mut backoff = BACKOFF;
        loop {
            let Some(request) = self.waiting.lock().pop(user) else { return };
            // A caller that was answered with an error must not find its write applied later.
            if request.is_abandoned() {
                continue;
            }
            let written = {
                let Ok(_permit) = self.connections.acquire().await else { return };
                let write = |connection| {
                    let change = (request.user, &request.change);
                    async move { write_batch(&connection, std::iter::once(change)).await }
                };
                self.database.within_locks(WRITE_TIMEOUT, LOCK_TIMEOUT, write).await
            };
            let result = match written {
                Ok(faces) => {
                    metrics::histogram!(metric::WRITER_LATENCY)
                        .record(request.queued_at.elapsed().as_secs_f64());
                    answer(&request.change, faces.into_iter().next())
                }
                Err(PgError::LockTimeout(_) | PgError::Conflict(_)) => {
                    self.waiting.lock().push_front(request);
                    sleep(backoff.next_delay()).await;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "presence write failed");
                    Err(WriteError::from(&error))
                }
            };
            backoff.reset();
            request.reply(&result);
        }
    }
}

impl Waiting {
    fn push(&mut self, request: Request) {
        if self.count >= MAX_WAITING {
            request.reply(&Err(WriteError::Unavailable));
            return;
        }
        self.count += 1;
        self.users.entry(request.user).or_default().push_back(request);
    }

    fn push_front(&mut self, request: Request) {
        self.count += 1;
        self.users.entry(request.user).or_default().push_front(request);
    }

    /// The next write of a user. `None` also removes the user: its later writes join the batches again.
    fn pop(&mut self, user: UserId) -> Option<Request> {
        let next = self.users.get_mut(&user).and_then(VecDeque::pop_front);
        if next.is_some() {
            self.count -= 1;
        } else {
            self.users.remove(&user);
        }
        next
    }
}
