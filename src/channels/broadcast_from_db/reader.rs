//! The task that reads new rows and delivers them, and the handle to the stored messages.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    select,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    DatabaseBroadcast, MessageNotifications, SkipReason,
    dedup::DeliveredIds,
    pending::{PendingIds, PendingItem},
};
use crate::{
    backoff::Backoff,
    channels::{
        authorization::AuthorizationError,
        history::{HistoryQuery, HistoryRule, MAX_REPLAY_BYTES},
    },
    lifecycle::ErrorChain,
    model::Topic,
    pg::{
        Connection, Database, PgError,
        queries::messages::{self, HistoryRowsQuery, ReadMessages, ReplayQuery, ReplayRows},
    },
    telemetry::metric,
};

/// Maximum number of rows per read, and their approximate maximum size.
const MAX_READ_ROWS: usize = 64;
const MAX_READ_BYTES: usize = 4 * 1024 * 1024;
/// Maximum duration of a read.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of rows that are read to close a gap; the newest are read.
const MAX_MISSED: usize = 10_000;
/// Delay between attempts to read: doubles up to the maximum, with jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
/// Maximum and default number of replayed broadcasts.
pub const MAX_REPLAY: usize = 25;
/// Maximum duration of a replay.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(5);

/// Receives broadcasts from the database, in order. The next ones are read after the future completes.
pub trait BroadcastSink: Send + Sync + 'static {
    /// Delivers the broadcasts to the members of their topics on this node.
    fn deliver(&self, broadcasts: Vec<DatabaseBroadcast>) -> impl Future<Output = ()> + Send;

    /// Called before [`deliver`](Self::deliver) when a revocation that was committed before the broadcasts may not have
    /// been notified yet.
    fn invalidate_authorization(&self) {}
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

/// Time after its insertion during which a row may not have reached this node, even if nothing is queued.
const IN_FLIGHT_WINDOW: Duration = Duration::from_secs(10);
/// Maximum number of such rows per topic.
const MAX_IN_FLIGHT: usize = 1_000;

/// The stored broadcasts of a topic at one moment.
#[derive(Debug, Clone, Default)]
pub struct StoredBroadcasts {
    /// The broadcasts to replay, oldest first.
    pub broadcasts: Vec<DatabaseBroadcast>,
    /// IDs of other stored rows that may still be on their way to this node. A client that receives the replay must
    /// not receive them afterwards.
    pub in_flight: Vec<Uuid>,
}

impl From<ReplayRows> for StoredBroadcasts {
    fn from(rows: ReplayRows) -> Self {
        let broadcasts = rows.replayed.into_iter().filter_map(|message| message.try_into().ok());
        Self { broadcasts: broadcasts.collect(), in_flight: rows.other_ids }
    }
}

/// PostgreSQL's calendar has another range; messages are kept for days only.
fn to_timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms.max(0)).unwrap_or(Timestamp::MAX)
}

fn replay_error(error: &PgError) -> AuthorizationError {
    tracing::warn!(error = %ErrorChain(error), "replaying messages failed");
    AuthorizationError::from(error)
}

/// Handle to the messages in the database. Cheap to clone.
#[derive(Clone)]
pub struct StoredMessages {
    database: Database,
    pending: Arc<PendingIds>,
    max_payload_bytes: usize,
}

impl StoredMessages {
    /// Creates the reader, its handle and its notification handler. `max_payload_bytes` is the maximum payload size;
    /// larger payloads are not delivered.
    #[must_use]
    pub fn new<S: BroadcastSink>(
        database: Database,
        max_payload_bytes: usize,
        sink: S,
    ) -> (Self, MessageNotifications, BroadcastReader<S>) {
        let pending = Arc::new(PendingIds::new());
        let messages = Self { database: database.clone(), pending: pending.clone(), max_payload_bytes };
        let notifications = MessageNotifications(pending.clone());
        let reader = BroadcastReader {
            database,
            pending,
            max_payload_bytes,
            sink,
            delivered: DeliveredIds::default(),
            started_at: Instant::now(),
        };
        (messages, notifications, reader)
    }

    /// Returns the newest `limit` broadcasts of a private topic since `since_ms` (milliseconds since 1970). The limit
    /// is clamped to 1 to [`MAX_REPLAY`], the time to the range of the calendar.
    ///
    /// # Errors
    /// If the database does not respond in time or refuses.
    pub async fn replay(
        &self,
        topic: &Topic,
        since_ms: i64,
        limit: i64,
    ) -> Result<StoredBroadcasts, AuthorizationError> {
        if !topic.private || topic.name.contains('\0') {
            return Ok(StoredBroadcasts::default());
        }
        let limit = usize::try_from(limit).unwrap_or(1).clamp(1, MAX_REPLAY);
        let since = to_timestamp(since_ms);
        let recent = (IN_FLIGHT_WINDOW + self.pending.delivery_lag(), MAX_IN_FLIGHT);
        let query = ReplayQuery {
            topic: &topic.name,
            since,
            limit,
            max_payload_bytes: self.max_payload_bytes,
            recent,
        };
        let read = |connection| async move { messages::replay(&connection, query).await };
        let read = self.database.within(REPLAY_TIMEOUT, read).await;
        Ok(read.map_err(|error| replay_error(&error))?.into())
    }

    /// Returns the broadcasts of a topic with a history: at most the newest `limit`. The second value is whether nothing
    /// after the position is missing, if the query has one.
    ///
    /// # Errors
    /// If the database does not respond in time or refuses.
    pub async fn history(
        &self,
        topic: &Topic,
        rule: HistoryRule,
        query: &HistoryQuery,
        limit: usize,
    ) -> Result<(StoredBroadcasts, Option<bool>), AuthorizationError> {
        if topic.name.contains('\0') {
            return Ok((StoredBroadcasts::default(), None));
        }
        let (received, since_ms) = match query {
            HistoryQuery::After(ids) => (Some(&**ids), 0),
            HistoryQuery::Since(ms) => (None, *ms),
        };
        let query = HistoryRowsQuery {
            topic: &topic.name,
            private: topic.private,
            received,
            since: to_timestamp(since_ms),
            kept: (rule.age, rule.count),
            limit: (limit, MAX_REPLAY_BYTES),
            commit_window: IN_FLIGHT_WINDOW,
            max_payload_bytes: self.max_payload_bytes,
            recent: (IN_FLIGHT_WINDOW + self.pending.delivery_lag(), MAX_IN_FLIGHT),
        };
        let read = |connection| async move { messages::history(&connection, query).await };
        let read = self.database.within(REPLAY_TIMEOUT, read).await;
        let (rows, is_complete) = read.map_err(|error| replay_error(&error))?;
        Ok((rows.into(), received.map(|_| is_complete)))
    }

    /// Whether broadcasts from the database currently reach this node.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        *self.pending.connected.borrow()
    }

    /// Waits until broadcasts from the database reach this node.
    pub async fn wait_until_connected(&self) {
        // This fails only if the sender is dropped, and `self` holds it.
        drop(self.pending.connected.subscribe().wait_for(|connected| *connected).await);
    }
}

/// Task that reads the rows of received IDs and delivers them.
pub struct BroadcastReader<S> {
    database: Database,
    pending: Arc<PendingIds>,
    max_payload_bytes: usize,
    sink: S,
    delivered: DeliveredIds,
    started_at: Instant,
}

impl<S: BroadcastSink> BroadcastReader<S> {
    /// Reads until `stop` is cancelled.
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
            let (database, read_ids, max_payload_bytes) = (&self.database, &ids, self.max_payload_bytes);
            let read = read_with_retry(database, |connection| async move {
                messages::read(&connection, read_ids, max_payload_bytes, MAX_READ_BYTES).await
            });
            let Some(ReadMessages { messages: read, is_unordered }) = read.await else {
                ids.iter().for_each(|_| count_skipped(SkipReason::Unreadable));
                rows.drain(..ids.len());
                continue;
            };
            let taken = rows.drain(..read.len().clamp(1, ids.len()));
            let now = Instant::now();
            let new: Vec<bool> = taken.map(|id| self.delivered.insert(id, now)).collect();
            let mut broadcasts = Vec::with_capacity(read.len());
            for (message, _) in read.into_iter().zip(new).filter(|(_, new)| *new) {
                match message.ok_or(SkipReason::Deleted).and_then(DatabaseBroadcast::try_from) {
                    Ok(broadcast) => broadcasts.push(broadcast),
                    Err(reason) => count_skipped(reason),
                }
            }
            metrics::counter!(metric::DATABASE_BROADCASTS).increment(broadcasts.len() as u64);
            if !broadcasts.is_empty() {
                if is_unordered {
                    self.sink.invalidate_authorization();
                }
                self.sink.deliver(broadcasts).await;
            }
        }
        // While disconnected, keep the IDs: the gap that follows may need them.
        if *self.pending.connected.borrow() {
            self.delivered.evict_expired(Instant::now());
        }
    }

    /// IDs of the rows that may have been missed, oldest first.
    async fn read_missed(&self, since: Instant) -> Vec<Uuid> {
        // Nothing can be missed before this node started.
        let from = self.delivered.gap_read_start(since).max(self.started_at);
        let read = read_with_retry(&self.database, |connection| async move {
            if !messages::enable_notifications(&connection).await? {
                tracing::warn!(
                    "broadcasts from the database are not delivered: no permission to create the trigger on \
                     realtime.messages; run `rollcall doctor`"
                );
            }
            messages::recent_ids(&connection, from.elapsed(), MAX_MISSED + 1).await
        });
        let mut missed = read.await.unwrap_or_default();
        if missed.len() > MAX_MISSED {
            missed.remove(0);
            tracing::warn!(max = MAX_MISSED, "too many broadcasts were missed; the oldest are not delivered");
            count_skipped(SkipReason::TooManyMissed);
        }
        missed
    }
}

/// Retries until the database responds. `None` if it refuses the read, for example because the table has another
/// shape.
async fn read_with_retry<T, R>(database: &Database, read: impl Fn(Connection) -> R) -> Option<T>
where
    R: Future<Output = Result<T, PgError>>,
{
    let mut backoff = BACKOFF;
    loop {
        let error = match database.within(READ_TIMEOUT, &read).await {
            Ok(read) => return Some(read),
            Err(error @ (PgError::Failed(_) | PgError::PermissionDenied(_))) => {
                tracing::error!(error = %ErrorChain(&error), "reading broadcasts from the database failed permanently");
                return None;
            }
            Err(error) => error,
        };
        tracing::warn!(error = %ErrorChain(&error), "reading broadcasts from the database failed; retrying");
        sleep(backoff.next_delay()).await;
    }
}

fn count_skipped(reason: SkipReason) {
    metrics::counter!(metric::DATABASE_BROADCASTS_SKIPPED, "reason" => reason.as_label()).increment(1);
}
