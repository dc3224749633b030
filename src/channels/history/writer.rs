//! Stores broadcasts as rows of `realtime.messages`.
//!
//! One task writes the broadcasts of this node in their order, many in one statement. The nodes deliver them when the
//! database notifies them of the rows, like every broadcast from the database.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::KeptMessage;
use crate::{
    backoff::Backoff,
    lifecycle::ErrorChain,
    model::{ChannelId, Topic},
    pg::{
        Database, PgError,
        queries::messages::{self, NewMessage},
    },
    protocol::phoenix::UserPayload,
    telemetry::metric,
};

/// Maximum number of broadcasts that wait to be stored, and their bytes.
const MAX_QUEUED: usize = 20_000;
const MAX_QUEUED_BYTES: usize = 32 * 1024 * 1024;
/// Maximum number of broadcasts per statement, and their bytes.
const MAX_BATCH: usize = 256;
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// Timeout of one statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which a broadcast that could not be stored is given up.
const MAX_AGE: Duration = Duration::from_secs(10);
/// Time for which waiting broadcasts are stored when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Backoff between failed attempts: doubled each time, with jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
/// Maximum number of remembered senders. Of older broadcasts, the sender receives a copy.
const MAX_SENDERS: usize = 65_536;

/// The broadcast was not stored, or it is not known whether it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    #[error("too many broadcasts wait to be stored")]
    QueueFull,
    #[error("the database does not answer")]
    Unavailable,
    #[error("the database refused the broadcast")]
    Refused,
}

/// Called once with the result, when the broadcast is committed or given up.
pub type OnStored = Box<dyn FnOnce(Result<(), NotStored>) + Send>;

/// A broadcast to store.
pub struct UnstoredBroadcast {
    pub topic: Topic,
    pub message: KeptMessage,
    /// Channel that does not receive it.
    pub except: Option<ChannelId>,
    pub on_stored: Option<OnStored>,
}

impl fmt::Debug for UnstoredBroadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads are not logged.
        f.debug_struct("UnstoredBroadcast").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl UnstoredBroadcast {
    fn size_bytes(&self) -> usize {
        self.topic.name.len() + self.message.size_bytes()
    }

    fn finish(self, result: Result<(), NotStored>) {
        if result.is_err() {
            metrics::counter!(metric::CHANNEL_HISTORY_NOT_STORED).increment(1);
        }
        if let Some(on_stored) = self.on_stored {
            on_stored(result);
        }
    }

    fn as_row(&self) -> NewMessage<'_> {
        let (json, binary) = match &self.message.payload {
            UserPayload::Json(json) => (Some(&**json), None),
            UserPayload::Binary(bytes) => (None, Some(&**bytes)),
        };
        NewMessage {
            id: self.message.id,
            topic: &self.topic.name,
            private: self.topic.private,
            event: &self.message.event,
            json,
            binary,
        }
    }
}

/// Handle that queues broadcasts. Clones share one queue.
#[derive(Debug, Clone, Default)]
pub struct HistoryQueue(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<QueueState>,
    senders: Mutex<Senders>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    broadcasts: VecDeque<(Instant, UnstoredBroadcast)>,
    bytes: usize,
}

/// The senders of broadcasts that are not delivered yet and that they do not receive.
#[derive(Debug, Default)]
struct Senders {
    by_id: HashMap<Uuid, ChannelId>,
    /// Oldest first. IDs that were taken stay until they are the oldest.
    order: VecDeque<Uuid>,
}

impl Senders {
    fn add(&mut self, id: Uuid, sender: ChannelId) {
        self.by_id.insert(id, sender);
        self.order.push_back(id);
        while self.order.len() > MAX_SENDERS
            || self.order.front().is_some_and(|oldest| !self.by_id.contains_key(oldest))
        {
            if let Some(oldest) = self.order.pop_front() {
                self.by_id.remove(&oldest);
            }
        }
    }
}

impl HistoryQueue {
    /// Queues a broadcast. If the queue is full, its callback is called at once.
    pub fn push(&self, broadcast: UnstoredBroadcast) {
        let mut state = self.0.state.lock();
        let bytes = state.bytes + broadcast.size_bytes();
        if state.broadcasts.len() >= MAX_QUEUED || (bytes > MAX_QUEUED_BYTES && !state.broadcasts.is_empty())
        {
            drop(state);
            return broadcast.finish(Err(NotStored::QueueFull));
        }
        if let Some(sender) = broadcast.except {
            self.0.senders.lock().add(broadcast.message.id, sender);
        }
        state.bytes = bytes;
        state.broadcasts.push_back((Instant::now(), broadcast));
        drop(state);
        self.0.wake.notify_one();
    }

    /// The channel that does not receive a broadcast of this node. Returned once.
    #[must_use]
    pub fn take_sender(&self, id: Uuid) -> Option<ChannelId> {
        self.0.senders.lock().by_id.remove(&id)
    }

    async fn next_batch(&self) -> Vec<(Instant, UnstoredBroadcast)> {
        loop {
            let notified = self.0.wake.notified();
            {
                let mut state = self.0.state.lock();
                let (mut batch, mut bytes) = (Vec::new(), 0);
                while let Some((_, next)) = state.broadcasts.front() {
                    bytes += next.size_bytes();
                    if batch.len() == MAX_BATCH || (bytes > MAX_BATCH_BYTES && !batch.is_empty()) {
                        break;
                    }
                    batch.extend(state.broadcasts.pop_front());
                }
                if !batch.is_empty() {
                    state.bytes -= batch.iter().map(|(_, broadcast)| broadcast.size_bytes()).sum::<usize>();
                    if state.broadcasts.is_empty() {
                        // Release the memory of a burst.
                        state.broadcasts.shrink_to(64);
                    }
                    return batch;
                }
            }
            notified.await;
        }
    }
}

/// A batch that the database refuses.
struct Refused {
    batch: Vec<(Instant, UnstoredBroadcast)>,
    error: Box<PgError>,
}

/// Task that stores the queued broadcasts.
pub struct HistoryWriter {
    queue: HistoryQueue,
    database: Database,
}

impl HistoryWriter {
    #[must_use]
    pub const fn new(queue: HistoryQueue, database: Database) -> Self {
        Self { queue, database }
    }

    /// Stores broadcasts until `stop` is cancelled, and then those that wait, for a moment.
    pub async fn run(self, stop: CancellationToken) {
        let timeout = async {
            stop.cancelled().await;
            sleep(DRAIN_TIMEOUT).await;
        };
        let store_all = async {
            loop {
                let batch = select! {
                    biased;
                    batch = self.queue.next_batch() => batch,
                    () = stop.cancelled() => return,
                };
                self.store_all(batch).await;
            }
        };
        select! {
            () = timeout => {}
            () = store_all => {}
        }
    }

    /// Stores a batch. If the database refuses it, halves of it are stored, until only the refused broadcasts are left.
    async fn store_all(&self, batch: Vec<(Instant, UnstoredBroadcast)>) {
        let mut batches = VecDeque::from([batch]);
        while let Some(batch) = batches.pop_front() {
            let Err(Refused { mut batch, error }) = self.store(batch).await else { continue };
            if batch.len() > 1 {
                let rest = batch.split_off(batch.len() / 2);
                batches.push_front(rest);
                batches.push_front(batch);
            } else {
                tracing::warn!(error = %ErrorChain(&*error), "the database refused a broadcast");
                batch.into_iter().for_each(|(_, broadcast)| broadcast.finish(Err(NotStored::Refused)));
            }
        }
    }

    /// Stores a batch and tells the senders. Returns it if the database refuses it.
    async fn store(&self, mut batch: Vec<(Instant, UnstoredBroadcast)>) -> Result<(), Refused> {
        let mut backoff = BACKOFF;
        let mut is_retry = false;
        loop {
            let (expired, rest): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|(queued_at, _)| queued_at.elapsed() > MAX_AGE);
            expired.into_iter().for_each(|(_, broadcast)| broadcast.finish(Err(NotStored::Unavailable)));
            batch = rest;
            if batch.is_empty() {
                return Ok(());
            }
            let rows: Vec<NewMessage<'_>> = batch.iter().map(|(_, broadcast)| broadcast.as_row()).collect();
            let rows = &rows;
            let store = |connection| async move { messages::store(&connection, rows, is_retry).await };
            let error = match self.database.within(STATEMENT_TIMEOUT, store).await {
                Ok(()) => {
                    batch.into_iter().for_each(|(_, broadcast)| broadcast.finish(Ok(())));
                    return Ok(());
                }
                Err(error) => error,
            };
            let may_succeed = error.is_transient()
                || matches!(error, PgError::StatementTimeout(_) | PgError::LockTimeout(_));
            if !may_succeed {
                return Err(Refused { batch, error: Box::new(error) });
            }
            tracing::warn!(error = %ErrorChain(&error), "storing broadcasts failed; retrying");
            is_retry = true;
            sleep(backoff.next_delay()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    fn broadcast(
        id: u128,
        bytes: usize,
        results: &Arc<Mutex<Vec<Result<(), NotStored>>>>,
    ) -> UnstoredBroadcast {
        let results = results.clone();
        UnstoredBroadcast {
            topic: Topic::public("a"),
            message: KeptMessage {
                id: Uuid::from_u128(id),
                event: "e".into(),
                payload: UserPayload::Binary(vec![0; bytes].into()),
            },
            except: Some(ChannelId::next()),
            on_stored: Some(Box::new(move |result| results.lock().push(result))),
        }
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_ordered() {
        let (queue, results) = (HistoryQueue::default(), Arc::default());
        for id in 0..40 {
            queue.push(broadcast(id, 1024 * 1024, &results));
        }
        assert_eq!(*results.lock(), [Err(NotStored::QueueFull); 9]);
        for id in 0..31 {
            let batch = queue.next_batch().await;
            assert_eq!(batch.iter().map(|(_, next)| next.message.id.as_u128()).collect::<Vec<_>>(), [id]);
        }
        assert_eq!(queue.0.state.lock().bytes, 0);
        assert!(queue.take_sender(Uuid::from_u128(3)).is_some());
        assert_eq!(queue.take_sender(Uuid::from_u128(3)), None);
        assert_eq!(queue.take_sender(Uuid::from_u128(39)), None, "was not queued");
    }

    #[test]
    fn the_remembered_senders_are_bounded() {
        let mut senders = Senders::default();
        for id in 0..=MAX_SENDERS as u128 {
            senders.add(Uuid::from_u128(id), ChannelId::next());
        }
        assert_eq!((senders.by_id.len(), senders.order.len()), (MAX_SENDERS, MAX_SENDERS));
        senders.by_id.clear();
        senders.add(Uuid::from_u128(u128::MAX), ChannelId::next());
        assert_eq!(senders.order.len(), 1);
    }
}
