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
    DatabaseBroadcast, MessageNotifications, SkipReason,
    dedup::DeliveredIds,
    pending::{PendingIds, PendingItem},
};
use crate::{
    channels::authorization::AuthorizationError,
    model::Topic,
    pg::{
        Database, PgError,
        queries::messages::{self, ReplayQuery},
    },
    telemetry::metric,
};

/// Rows read at once, and about how many bytes.
const MAX_READ_ROWS: usize = 64;
const MAX_READ_BYTES: usize = 4 * 1024 * 1024;
/// How long a read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Rows that are read to close a gap; of more, the newest.
const MAX_MISSED: usize = 10_000;
/// Between attempts to read: doubling, with jitter.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(50);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
/// The most that is replayed, which is also the default.
pub const MAX_REPLAY: usize = 25;
/// How long a replay may take.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes broadcasts from the database, in order. The next ones are read once it is done with these.
pub trait BroadcastSink: Send + Sync + 'static {
    /// Delivers these to whoever is in their rooms on this node.
    fn deliver(&self, broadcasts: Vec<DatabaseBroadcast>) -> impl Future<Output = ()> + Send;
}

impl<F, D> BroadcastSink for F
where
    F: Fn(Vec<DatabaseBroadcast>) -> D + Send + Sync + 'static,
    D: Future<Output = ()> + Send,
{
    fn deliver(&self, broadcasts: Vec<DatabaseBroadcast>) -> impl Future<Output = ()> + Send {
        self(broadcasts)
    }
}

/// For how long after it was written a row may be on its way to this node while nothing waits here.
const IN_FLIGHT_WINDOW: Duration = Duration::from_secs(10);
/// The most of those of one room.
const MAX_IN_FLIGHT: usize = 1_000;

/// What the database had stored for a room at one moment.
#[derive(Debug, Clone, Default)]
pub struct StoredBroadcasts {
    /// What is to be sent again, oldest first.
    pub broadcasts: Vec<DatabaseBroadcast>,
    /// What was there as well and may be on its way to this node: to somebody who is sent the above it is past.
    pub in_flight: Vec<Uuid>,
}

/// What sessions ask of the messages in the database. Cheap to clone.
#[derive(Clone)]
pub struct StoredMessages {
    database: Database,
    pending: Arc<PendingIds>,
    max_payload_bytes: usize,
}

/// Makes the source, its handle, and what the listener tells it. `largest` is the size of a payload in bytes that is
/// still delivered.
#[must_use]
pub fn broadcast_reader<S: BroadcastSink>(
    database: Database,
    largest: usize,
    sink: S,
) -> (BroadcastReader<S>, StoredMessages, MessageNotifications) {
    let heard = Arc::new(PendingIds::new());
    let messages =
        StoredMessages { database: database.clone(), pending: heard.clone(), max_payload_bytes: largest };
    let ears = MessageNotifications(heard.clone());
    let source = BroadcastReader {
        database,
        pending: heard,
        max_payload_bytes: largest,
        sink,
        delivered: DeliveredIds::default(),
        started_at: Instant::now(),
    };
    (source, messages, ears)
}

impl StoredMessages {
    /// The newest `limit` broadcasts of a private room since a moment in milliseconds since 1970. Limits outside of 1 to
    /// [`REPLAY_MOST`] are brought into it; a moment beyond the calendar is its end.
    ///
    /// # Errors
    ///
    /// When the database does not answer in time.
    pub async fn replay(
        &self,
        room: &Topic,
        since_ms: i64,
        limit: i64,
    ) -> Result<StoredBroadcasts, AuthorizationError> {
        if !room.private || room.name.contains('\0') {
            return Ok(StoredBroadcasts::default());
        }
        let limit = usize::try_from(limit).unwrap_or(1).clamp(1, MAX_REPLAY);
        // PostgreSQL's calendar ends elsewhere than ours; nothing is kept for longer than days.
        let since = Timestamp::from_millisecond(since_ms.max(0)).unwrap_or(Timestamp::MAX);
        let recent = (IN_FLIGHT_WINDOW + self.pending.delivery_lag(), MAX_IN_FLIGHT);
        let wanted = ReplayQuery {
            topic: &room.name,
            since,
            limit,
            max_payload_bytes: self.max_payload_bytes,
            recent,
        };
        let read = async { messages::replay(&self.database.server_connection().await?, wanted).await };
        match timeout(REPLAY_TIMEOUT, read).await {
            Ok(Ok(replay)) => Ok(StoredBroadcasts {
                broadcasts: replay.replayed.into_iter().filter_map(|one| one.try_into().ok()).collect(),
                in_flight: replay.other_ids,
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
    pub fn is_connected(&self) -> bool {
        *self.pending.connected.borrow()
    }

    /// Returns once broadcasts from the database reach this node.
    pub async fn wait_until_connected(&self) {
        // Fails only when the sender is gone, which is in `self`.
        drop(self.pending.connected.subscribe().wait_for(|live| *live).await);
    }
}

/// The task that reads what was heard.
pub struct BroadcastReader<S> {
    database: Database,
    pending: Arc<PendingIds>,
    max_payload_bytes: usize,
    sink: S,
    delivered: DeliveredIds,
    started_at: Instant,
}

impl<S: BroadcastSink> BroadcastReader<S> {
    /// Reads until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let items = select! {
                () = stop.cancelled() => return,
                items = self.pending.next_batch(MAX_READ_ROWS) => items,
            };
            select! {
                () = stop.cancelled() => return,
                () = self.process(items) => {}
            }
        }
    }

    async fn process(&mut self, items: Vec<PendingItem>) {
        let mut rows = VecDeque::with_capacity(items.len());
        for item in items {
            match item {
                PendingItem::Row(id) => rows.push_back(id),
                PendingItem::Gap(since) => rows.extend(self.read_missed(since).await),
            }
        }
        rows.retain(|id| !self.delivered.contains(id));
        while !rows.is_empty() {
            let ids: Vec<Uuid> = rows.iter().take(MAX_READ_ROWS).copied().collect();
            let (database, wanted, largest) = (&self.database, &ids, self.max_payload_bytes);
            let read = read_with_retry(|| async move {
                messages::read(&database.server_connection().await?, wanted, largest, MAX_READ_BYTES).await
            });
            let Some(read) = read.await else {
                ids.iter().for_each(|_| count_skipped(SkipReason::Unreadable));
                rows.drain(..ids.len());
                continue;
            };
            let done = rows.drain(..read.len().clamp(1, ids.len()));
            let now = Instant::now();
            let new: Vec<bool> = done.map(|id| self.delivered.insert(id, now)).collect();
            let mut broadcasts = Vec::with_capacity(read.len());
            for (message, _) in read.into_iter().zip(new).filter(|(_, new)| *new) {
                match message.ok_or(SkipReason::Deleted).and_then(DatabaseBroadcast::try_from) {
                    Ok(broadcast) => broadcasts.push(broadcast),
                    Err(skipped) => count_skipped(skipped),
                }
            }
            metrics::counter!(metric::DATABASE_BROADCASTS).increment(broadcasts.len() as u64);
            if !broadcasts.is_empty() {
                self.sink.deliver(broadcasts).await;
            }
        }
        // What is forgotten while nothing is heard might be asked for by the gap that this becomes.
        if *self.pending.connected.borrow() {
            self.delivered.evict_expired(Instant::now());
        }
    }

    /// The rows that may not have been heard of, oldest first.
    async fn read_missed(&self, since: Instant) -> Vec<Uuid> {
        // Before this node began nobody can have missed anything.
        let from = self.delivered.gap_read_start(since).max(self.started_at);
        let database = &self.database;
        let read = read_with_retry(|| async move {
            let connection = database.server_connection().await?;
            if !messages::enable_notifications(&connection).await? {
                tracing::warn!(
                    "realtime.messages is not ours: broadcasts from the database are not delivered; see `rollcall doctor`"
                );
            }
            messages::recent_ids(&connection, from.elapsed(), MAX_MISSED + 1).await
        });
        let mut missed = read.await.unwrap_or_default();
        if missed.len() > MAX_MISSED {
            missed.remove(0);
            tracing::warn!(
                most = MAX_MISSED,
                "more broadcasts were missed than are read again; the oldest are lost"
            );
            count_skipped(SkipReason::TooManyMissed);
        }
        missed
    }
}

/// Tries until the database answers: there is nothing else to do for a source. Nothing where the answer is that it cannot
/// be read, as in a table of another shape.
async fn read_with_retry<T, R>(read: impl Fn() -> R) -> Option<T>
where
    R: Future<Output = Result<T, PgError>>,
{
    let mut retry = FIRST_RETRY_DELAY;
    loop {
        let error = match timeout(READ_TIMEOUT, read()).await {
            Ok(Ok(read)) => return Some(read),
            Ok(Err(error @ (PgError::Failed(_) | PgError::PermissionDenied(_)))) => {
                tracing::error!(error = ?error, "broadcasts from the database cannot be read");
                return None;
            }
            Ok(Err(error)) => error,
            Err(_) => PgError::Unavailable("no answer in time".into()),
        };
        tracing::warn!(error = ?error, "could not read broadcasts from the database");
        let pause = retry.mul_f64(rand::rng().random_range(0.5..1.0));
        sleep(pause).await;
        retry = (retry * 2).min(MAX_RETRY_DELAY);
    }
}

fn count_skipped(why: SkipReason) {
    metrics::counter!(metric::DATABASE_BROADCASTS_SKIPPED, "reason" => why.as_label()).increment(1);
}
