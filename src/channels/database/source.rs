//! The task that reads new rows and hands them on, and the handle to what the database holds.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use jiff::Timestamp;
use rand::Rng;
use tokio::{
    select,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    DatabaseBroadcast, DatabaseEars, Skipped,
    heard::{Heard, Item},
    seen::Seen,
};
use crate::{
    channels::{Room, authorization::AuthorizationError},
    pg::{
        Database, PgError,
        queries::messages::{self, Wanted},
    },
    telemetry::metric,
};

/// Rows read at once, and about how many bytes.
const ROWS_A_READ: usize = 64;
const BYTES_A_READ: usize = 4 * 1024 * 1024;
/// How long a read may take.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// Rows that are read to close a gap; of more, the newest.
const MOST_MISSED: usize = 10_000;
/// Between attempts to read: doubling, with jitter.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// The most that is replayed, which is also the default.
pub const REPLAY_MOST: usize = 25;
/// How long a replay may take.
const REPLAY_LIMIT: Duration = Duration::from_secs(5);

/// Takes broadcasts from the database, in order. The next ones are read once it is done with these.
pub trait Sink: Send + Sync + 'static {
    /// Delivers these to whoever is in their rooms on this node.
    fn deliver(&self, broadcasts: Vec<DatabaseBroadcast>) -> impl Future<Output = ()> + Send;
}

impl<F, D> Sink for F
where
    F: Fn(Vec<DatabaseBroadcast>) -> D + Send + Sync + 'static,
    D: Future<Output = ()> + Send,
{
    fn deliver(&self, broadcasts: Vec<DatabaseBroadcast>) -> impl Future<Output = ()> + Send {
        self(broadcasts)
    }
}

/// For how long after it was written a row may be on its way to this node while nothing waits here.
const UNTOLD_FOR: Duration = Duration::from_secs(10);
/// The most of those of one room.
const MOST_UNTOLD: usize = 1_000;

/// What the database had stored for a room at one moment.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// What is to be sent again, oldest first.
    pub broadcasts: Vec<DatabaseBroadcast>,
    /// What was there as well and may be on its way to this node: to somebody who is sent the above it is past.
    pub others: Vec<Uuid>,
}

/// What sessions ask of the messages in the database. Cheap to clone.
#[derive(Clone)]
pub struct Messages {
    database: Database,
    heard: Arc<Heard>,
    largest: usize,
}

/// Makes the source, its handle, and what the listener tells it. `largest` is the size of a payload in bytes that is
/// still delivered.
#[must_use]
pub fn database_source<S: Sink>(
    database: Database,
    largest: usize,
    sink: S,
) -> (DatabaseSource<S>, Messages, DatabaseEars) {
    let heard = Arc::new(Heard::new());
    let messages = Messages { database: database.clone(), heard: heard.clone(), largest };
    let ears = DatabaseEars(heard.clone());
    let source =
        DatabaseSource { database, heard, largest, sink, seen: Seen::default(), begun: Instant::now() };
    (source, messages, ears)
}

impl Messages {
    /// The newest `limit` broadcasts of a private room since a moment in milliseconds since 1970. Limits outside of 1 to
    /// [`REPLAY_MOST`] are brought into it; a moment beyond the calendar is its end.
    ///
    /// # Errors
    ///
    /// When the database does not answer in time.
    pub async fn replay(&self, room: &Room, since_ms: i64, limit: i64) -> Result<Stored, AuthorizationError> {
        if !room.private || room.topic.contains('\0') {
            return Ok(Stored::default());
        }
        let limit = usize::try_from(limit).unwrap_or(1).clamp(1, REPLAY_MOST);
        // PostgreSQL's calendar ends elsewhere than ours; nothing is kept for longer than days.
        let since = Timestamp::from_millisecond(since_ms.max(0)).unwrap_or(Timestamp::MAX);
        let recent = (UNTOLD_FOR + self.heard.behind(), MOST_UNTOLD);
        let wanted = Wanted { topic: &room.topic, since, limit, largest: self.largest, recent };
        let read = async { messages::replay(&self.database.own().await?, wanted).await };
        match timeout(REPLAY_LIMIT, read).await {
            Ok(Ok(replay)) => Ok(Stored {
                broadcasts: replay.wanted.into_iter().filter_map(|one| one.try_into().ok()).collect(),
                others: replay.others,
            }),
            Ok(Err(error)) => {
                tracing::warn!(error = ?error, "UnableToReplayMessages");
                Err(AuthorizationError::from(&error))
            }
            Err(_) => Err(AuthorizationError::QueryCanceled),
        }
    }

    /// Whether broadcasts from the database reach this node at present.
    #[must_use]
    pub fn is_live(&self) -> bool {
        *self.heard.live.borrow()
    }

    /// Returns once broadcasts from the database reach this node.
    pub async fn until_live(&self) {
        // Fails only when the sender is gone, which is in `self`.
        drop(self.heard.live.subscribe().wait_for(|live| *live).await);
    }
}

/// The task that reads what was heard.
pub struct DatabaseSource<S> {
    database: Database,
    heard: Arc<Heard>,
    largest: usize,
    sink: S,
    seen: Seen,
    begun: Instant,
}

impl<S: Sink> DatabaseSource<S> {
    /// Reads until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let items = select! {
                () = stop.cancelled() => return,
                items = self.heard.next(ROWS_A_READ) => items,
            };
            select! {
                () = stop.cancelled() => return,
                () = self.follow(items) => {}
            }
        }
    }

    async fn follow(&mut self, items: Vec<Item>) {
        let mut rows = VecDeque::with_capacity(items.len());
        for item in items {
            match item {
                Item::Row(id) => rows.push_back(id),
                Item::Gap(since) => rows.extend(self.missed(since).await),
            }
        }
        rows.retain(|id| !self.seen.holds(id));
        while !rows.is_empty() {
            let ids: Vec<Uuid> = rows.iter().take(ROWS_A_READ).copied().collect();
            let (database, wanted, largest) = (&self.database, &ids, self.largest);
            let read = until_read(|| async move {
                messages::read(&database.own().await?, wanted, largest, BYTES_A_READ).await
            });
            let Some(read) = read.await else {
                ids.iter().for_each(|_| skip(Skipped::Unreadable));
                rows.drain(..ids.len());
                continue;
            };
            let done = rows.drain(..read.len().clamp(1, ids.len()));
            let now = Instant::now();
            let new: Vec<bool> = done.map(|id| self.seen.insert(id, now)).collect();
            let mut broadcasts = Vec::with_capacity(read.len());
            for (message, _) in read.into_iter().zip(new).filter(|(_, new)| *new) {
                match message.ok_or(Skipped::Gone).and_then(DatabaseBroadcast::try_from) {
                    Ok(broadcast) => broadcasts.push(broadcast),
                    Err(skipped) => skip(skipped),
                }
            }
            metrics::counter!(metric::DATABASE_BROADCASTS).increment(broadcasts.len() as u64);
            if !broadcasts.is_empty() {
                self.sink.deliver(broadcasts).await;
            }
        }
        // What is forgotten while nothing is heard might be asked for by the gap that this becomes.
        if *self.heard.live.borrow() {
            self.seen.tidy(Instant::now());
        }
    }

    /// The rows that may not have been heard of, oldest first.
    async fn missed(&self, since: Instant) -> Vec<Uuid> {
        // Before this node began nobody can have missed anything.
        let from = self.seen.reread_from(since).max(self.begun);
        let database = &self.database;
        let read = until_read(|| async move {
            let connection = database.own().await?;
            if !messages::hear(&connection).await? {
                tracing::warn!(
                    "realtime.messages is not ours: broadcasts from the database are not delivered; see `rollcall doctor`"
                );
            }
            messages::missed(&connection, from.elapsed(), MOST_MISSED + 1).await
        });
        let mut missed = read.await.unwrap_or_default();
        if missed.len() > MOST_MISSED {
            missed.remove(0);
            tracing::warn!(
                most = MOST_MISSED,
                "more broadcasts were missed than are read again; the oldest are lost"
            );
            skip(Skipped::TooMany);
        }
        missed
    }
}

/// Tries until the database answers: there is nothing else to do for a source. Nothing where the answer is that it cannot
/// be read, as in a table of another shape.
async fn until_read<T, R>(read: impl Fn() -> R) -> Option<T>
where
    R: Future<Output = Result<T, PgError>>,
{
    let mut retry = FIRST_RETRY;
    loop {
        let error = match timeout(READ_LIMIT, read()).await {
            Ok(Ok(read)) => return Some(read),
            Ok(Err(error @ (PgError::Failed(_) | PgError::Denied(_)))) => {
                tracing::error!(error = ?error, "broadcasts from the database cannot be read");
                return None;
            }
            Ok(Err(error)) => error,
            Err(_) => PgError::Unavailable("no answer in time".into()),
        };
        tracing::warn!(error = ?error, "could not read broadcasts from the database");
        let pause = retry.mul_f64(rand::rng().random_range(0.5..1.0));
        sleep(pause).await;
        retry = (retry * 2).min(LAST_RETRY);
    }
}

fn skip(why: Skipped) {
    metrics::counter!(metric::DATABASE_BROADCASTS_SKIPPED, "reason" => why.reason()).increment(1);
}
