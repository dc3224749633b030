//! What channels of this node track, written to `rollcall.presence` in groups.
//!
//! What changes while a batch is in flight becomes the next batch, and of a channel only its last state. Nobody waits for
//! it: while the database is away, presence goes on between sockets, and when it is back, or when rows were lost, the
//! node's rows are written anew.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use parking_lot::Mutex;
use rand::Rng;
use tokio::{
    select,
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{ChannelPresence, Meta, PresenceKey};
use crate::{
    model::{ChannelId, NodeId, Topic},
    pg::{
        Database, PgError,
        queries::channel_presence::{self as queries, NewPresenceRow},
    },
    telemetry::metric,
};

/// Channels that may wait to be written. Over it everything is written anew, from memory.
const MAX_PENDING_CHANNELS: usize = 32_768;
/// Channels in one batch.
const MAX_BATCH_ROWS: usize = 512;
/// Bytes of payloads in one batch, about: metas may have megabytes.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long a batch may take.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Between attempts: doubling, with jitter.
const INITIAL_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// How long taking leave may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// What a channel tracks, and where.
#[derive(Debug, Clone)]
pub(super) struct TrackedPresence {
    pub topic: Topic,
    pub key: PresenceKey,
    pub meta: Meta,
}

impl TrackedPresence {
    fn bytes(&self) -> usize {
        self.meta.payload.len() + self.key.len() + self.topic.name.len()
    }

    /// Text in PostgreSQL holds every character but this one.
    fn is_storable(&self) -> bool {
        !self.key.contains('\0') && !self.topic.name.contains('\0')
    }
}

#[derive(Default)]
struct Pending {
    /// Per channel its last state; `None`: tracks nothing.
    changes: HashMap<ChannelId, Option<TrackedPresence>>,
    /// Everything is to be written anew, so changes need not be kept.
    rewrite: bool,
}

#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    wake: Notify,
}

/// A handle to the rows. Nothing in it waits.
#[derive(Clone, Default)]
pub struct PresenceStore(Arc<Shared>);

impl PresenceStore {
    pub(super) fn track(&self, channel: ChannelId, tracked: TrackedPresence) {
        if tracked.is_storable() {
            self.enqueue(channel, Some(tracked));
        } else {
            tracing::debug!(%channel, "a key or topic with a NUL character has no row");
        }
    }

    pub(super) fn untrack(&self, channel: ChannelId) {
        self.enqueue(channel, None);
    }

    /// Writes the node's rows anew, because some may have been lost.
    pub(super) fn request_rewrite(&self, cause: &'static str) {
        {
            let mut waiting = self.0.pending.lock();
            if waiting.rewrite {
                return;
            }
            waiting.rewrite = true;
            waiting.changes = HashMap::new();
        }
        metrics::counter!(metric::CHANNEL_PRESENCE_REWRITES, "cause" => cause).increment(1);
        tracing::debug!(cause, "writing presence in channels anew");
        self.0.wake.notify_one();
    }

    fn enqueue(&self, channel: ChannelId, change: Option<TrackedPresence>) {
        let full = {
            let mut waiting = self.0.pending.lock();
            if waiting.rewrite {
                return;
            }
            waiting.changes.insert(channel, change);
            waiting.changes.len() > MAX_PENDING_CHANNELS
        };
        if full {
            self.request_rewrite("overflow");
        } else {
            self.0.wake.notify_one();
        }
    }

    /// Puts back what could not be written, unless something newer waits.
    fn requeue(&self, batch: Batch) {
        let mut waiting = self.0.pending.lock();
        if !waiting.rewrite {
            for (channel, change) in batch {
                waiting.changes.entry(channel).or_insert(change);
            }
        }
    }

    async fn next_work(&self) -> Work {
        loop {
            let woken = self.0.wake.notified();
            if let Some(work) = self.0.pending.lock().take() {
                return work;
            }
            woken.await;
        }
    }
}

type Batch = Vec<(ChannelId, Option<TrackedPresence>)>;

enum Work {
    Write(Batch),
    Rewrite,
}

impl Pending {
    fn take(&mut self) -> Option<Work> {
        if std::mem::take(&mut self.rewrite) {
            return Some(Work::Rewrite);
        }
        let mut bytes = 0;
        let now: Vec<ChannelId> = self
            .changes
            .iter()
            .take_while(|(_, change)| {
                let fits = bytes < MAX_BATCH_BYTES;
                bytes += change.as_ref().map_or(0, TrackedPresence::bytes);
                fits
            })
            .map(|(channel, _)| *channel)
            .take(MAX_BATCH_ROWS)
            .collect();
        if now.is_empty() {
            return None;
        }
        let batch = now.into_iter().filter_map(|channel| self.changes.remove_entry(&channel)).collect();
        if self.changes.is_empty() {
            // A burst is rare; its room is not kept.
            self.changes.shrink_to(MAX_BATCH_ROWS);
        }
        Some(Work::Write(batch))
    }
}

/// The task that writes the rows.
pub struct PresenceRowWriter {
    store: PresenceStore,
    presence: ChannelPresence,
    database: Database,
    node: NodeId,
}

impl PresenceRowWriter {
    /// Makes the task; `presence` is what writes to `rows`.
    #[must_use]
    pub const fn new(
        rows: PresenceStore,
        presence: ChannelPresence,
        database: Database,
        node: NodeId,
    ) -> Self {
        Self { store: rows, presence, database, node }
    }

    /// Writes until stopped, and then takes the node's leave: the other nodes need not wait until its sockets have closed.
    pub async fn run(self, stop: CancellationToken) {
        let mut retry = INITIAL_BACKOFF;
        self.store.request_rewrite("start");
        loop {
            let work = select! {
                () = stop.cancelled() => break,
                work = self.store.next_work() => work,
            };
            let done = select! {
                () = stop.cancelled() => break,
                done = self.run_work(work) => done,
            };
            if done {
                retry = INITIAL_BACKOFF;
                continue;
            }
            select! {
                () = stop.cancelled() => break,
                () = sleep(retry.mul_f64(rand::rng().random_range(0.5..1.0))) => {}
            }
            retry = (retry * 2).min(MAX_BACKOFF);
        }
        let leave =
            async { queries::remove_node(&self.database.server_connection().await?, self.node).await };
        if let Err(error) = with_timeout(LEAVE_TIMEOUT, leave).await {
            tracing::warn!(error = ?error, "could not take leave of channels; the lease will lapse");
        }
    }

    /// Whether it was done; if not, it is waiting again.
    async fn run_work(&self, work: Work) -> bool {
        match work {
            Work::Write(batch) => self.write_batch(batch).await,
            Work::Rewrite => match self.rewrite_all().await {
                Ok(true) => true,
                Ok(false) => {
                    self.store.request_rewrite("interrupted");
                    false
                }
                Err(error) => {
                    tracing::warn!(error = ?error, "could not write presence in channels anew");
                    self.store.request_rewrite("failed");
                    false
                }
            },
        }
    }

    async fn write_batch(&self, batch: Batch) -> bool {
        let started = Instant::now();
        metrics::histogram!(metric::CHANNEL_PRESENCE_BATCH_SIZE).record(batch.len() as f64);
        match self.write(&batch, true).await {
            Ok(()) => {
                metrics::histogram!(metric::CHANNEL_PRESENCE_WRITE).record(started.elapsed().as_secs_f64());
                true
            }
            Err(error) if error.is_rejected() => {
                tracing::warn!(error = ?error, rows = batch.len(), "the database refused presence in channels");
                let apart = self.write_one_by_one(&batch, true).await;
                if let Some(error) = &apart.failed {
                    tracing::warn!(error = ?error, "could not write presence in channels");
                }
                let done = apart.unwritten.is_empty();
                self.store.requeue(
                    batch.into_iter().filter(|(channel, _)| apart.unwritten.contains(channel)).collect(),
                );
                done
            }
            Err(error) => {
                tracing::warn!(error = ?error, "could not write presence in channels");
                self.store.requeue(batch);
                false
            }
        }
    }

    /// One row that the database does not take must not keep out the others. A row is to blame only if the refusal says
    /// so, or if another is taken after it: otherwise it may be the database that takes none.
    async fn write_one_by_one(
        &self,
        batch: &[(ChannelId, Option<TrackedPresence>)],
        tell: bool,
    ) -> SplitResult {
        let mut apart = SplitResult::default();
        let mut in_doubt = Vec::new();
        for (at, one) in batch.iter().enumerate() {
            match self.write(std::slice::from_ref(one), tell).await {
                Ok(()) => {
                    in_doubt.drain(..).for_each(|(channel, error)| apart.record_refused(channel, &error))
                }
                Err(error) if error.is_invalid_value() => apart.record_refused(one.0, &error),
                Err(error) if error.is_rejected() => in_doubt.push((one.0, error)),
                Err(error) => {
                    apart.unwritten.extend(batch[at..].iter().map(|(channel, _)| *channel));
                    apart.failed = Some(error);
                    break;
                }
            }
        }
        for (channel, error) in in_doubt {
            apart.unwritten.insert(channel);
            apart.failed = Some(error);
        }
        apart
    }

    /// Everything, in batches of which nobody is told until the last.
    async fn rewrite_all(&self) -> Result<bool, PgError> {
        let all = self.presence.local_entries();
        let mut refused = HashSet::new();
        let all: Batch = all
            .into_iter()
            .filter(|(_, tracked)| tracked.is_storable())
            .map(|(channel, tracked)| (channel, Some(tracked)))
            .collect();
        for chunk in batches(&all) {
            match self.write(chunk, false).await {
                Err(error) if error.is_rejected() => {
                    let apart = self.write_one_by_one(chunk, false).await;
                    if let Some(error) = apart.failed {
                        return Err(error);
                    }
                    refused.extend(apart.refused);
                }
                result => result?,
            }
        }
        let channels: Vec<i64> = all
            .iter()
            .map(|(channel, _)| channel)
            .filter(|channel| !refused.contains(channel))
            .map(|channel| channel.as_i64())
            .collect();
        let complete = async {
            queries::complete_rewrite(&self.database.server_connection().await?, self.node, &channels).await
        };
        with_timeout(BATCH_TIMEOUT, complete).await
    }

    async fn write(&self, batch: &[(ChannelId, Option<TrackedPresence>)], tell: bool) -> Result<(), PgError> {
        let gone: Vec<i64> = batch
            .iter()
            .filter(|(_, change)| change.is_none())
            .map(|(channel, _)| channel.as_i64())
            .collect();
        let rows: Vec<NewPresenceRow<'_>> =
            batch.iter().filter_map(|(channel, change)| Some(to_row(*channel, change.as_ref()?))).collect();
        let write = async {
            queries::write(&self.database.server_connection().await?, self.node, &gone, &rows, tell).await
        };
        with_timeout(BATCH_TIMEOUT, write).await
    }
}

/// What came of writing rows one by one.
#[derive(Default)]
struct SplitResult {
    /// These have no row, and will have none as they are.
    refused: HashSet<ChannelId>,
    /// These are still to be written.
    unwritten: HashSet<ChannelId>,
    /// Why.
    failed: Option<PgError>,
}

impl SplitResult {
    fn record_refused(&mut self, channel: ChannelId, error: &PgError) {
        metrics::counter!(metric::CHANNEL_PRESENCE_REFUSED).increment(1);
        tracing::error!(error = ?error, %channel, "this channel's presence has no row");
        self.refused.insert(channel);
    }
}

/// Cuts a rewrite into batches.
fn batches(
    all: &[(ChannelId, Option<TrackedPresence>)],
) -> impl Iterator<Item = &[(ChannelId, Option<TrackedPresence>)]> {
    let (mut rows, mut bytes) = (0, 0);
    all.chunk_by(move |_, (_, next)| {
        rows += 1;
        bytes += next.as_ref().map_or(0, TrackedPresence::bytes);
        let fits = rows < MAX_BATCH_ROWS && bytes < MAX_BATCH_BYTES;
        if !fits {
            (rows, bytes) = (0, 0);
        }
        fits
    })
}

fn to_row(channel: ChannelId, tracked: &TrackedPresence) -> NewPresenceRow<'_> {
    let TrackedPresence { topic: room, key, meta } = tracked;
    NewPresenceRow {
        channel: channel.as_i64(),
        topic: &room.name,
        private: room.private,
        key,
        phx_ref: meta.phx_ref.to_string(),
        payload: meta.payload.to_json(),
        user: meta.user,
        joined: timestamp(meta.joined_ms),
        updated: timestamp(meta.updated_ms),
    }
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

async fn with_timeout<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, PgError>>,
) -> Result<T, PgError> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(PgError::Unavailable("no answer in time".into())))
}
