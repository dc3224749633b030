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

use super::{ChannelPresence, Key, Meta};
use crate::{
    channels::{ChannelId, Room},
    model::NodeId,
    pg::{
        Database, PgError,
        queries::channel_presence::{self as queries, WrittenRow},
    },
    telemetry::metric,
};

/// Channels that may wait to be written. Over it everything is written anew, from memory.
const MOST_WAITING: usize = 32_768;
/// Channels in one batch.
const BATCH: usize = 512;
/// Bytes of payloads in one batch, about: metas may have megabytes.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long a batch may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between attempts: doubling, with jitter.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// How long taking leave may take.
const LEAVE_PATIENCE: Duration = Duration::from_secs(3);

/// What a channel tracks, and where.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    pub room: Room,
    pub key: Key,
    pub meta: Meta,
}

impl Tracked {
    fn bytes(&self) -> usize {
        self.meta.payload.len() + self.key.len() + self.room.topic.len()
    }

    /// Text in PostgreSQL holds every character but this one.
    fn fits_a_row(&self) -> bool {
        !self.key.contains('\0') && !self.room.topic.contains('\0')
    }
}

#[derive(Default)]
struct Waiting {
    /// Per channel its last state; `None`: tracks nothing.
    changes: HashMap<ChannelId, Option<Tracked>>,
    /// Everything is to be written anew, so changes need not be kept.
    rewrite: bool,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

/// A handle to the rows. Nothing in it waits.
#[derive(Clone, Default)]
pub struct Rows(Arc<Shared>);

impl Rows {
    pub(super) fn tracks(&self, channel: ChannelId, tracked: Tracked) {
        if tracked.fits_a_row() {
            self.note(channel, Some(tracked));
        } else {
            tracing::debug!(%channel, "a key or topic with a NUL character has no row");
        }
    }

    pub(super) fn tracks_nothing(&self, channel: ChannelId) {
        self.note(channel, None);
    }

    /// Writes the node's rows anew, because some may have been lost.
    pub(super) fn rewrite(&self, cause: &'static str) {
        {
            let mut waiting = self.0.waiting.lock();
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

    fn note(&self, channel: ChannelId, change: Option<Tracked>) {
        let full = {
            let mut waiting = self.0.waiting.lock();
            if waiting.rewrite {
                return;
            }
            waiting.changes.insert(channel, change);
            waiting.changes.len() > MOST_WAITING
        };
        if full {
            self.rewrite("overflow");
        } else {
            self.0.wake.notify_one();
        }
    }

    /// Puts back what could not be written, unless something newer waits.
    fn put_back(&self, batch: Batch) {
        let mut waiting = self.0.waiting.lock();
        if !waiting.rewrite {
            for (channel, change) in batch {
                waiting.changes.entry(channel).or_insert(change);
            }
        }
    }

    async fn next(&self) -> Work {
        loop {
            let woken = self.0.wake.notified();
            if let Some(work) = self.0.waiting.lock().take() {
                return work;
            }
            woken.await;
        }
    }
}

type Batch = Vec<(ChannelId, Option<Tracked>)>;

enum Work {
    Write(Batch),
    Rewrite,
}

impl Waiting {
    fn take(&mut self) -> Option<Work> {
        if std::mem::take(&mut self.rewrite) {
            return Some(Work::Rewrite);
        }
        let mut bytes = 0;
        let now: Vec<ChannelId> = self
            .changes
            .iter()
            .take_while(|(_, change)| {
                let fits = bytes < BATCH_BYTES;
                bytes += change.as_ref().map_or(0, Tracked::bytes);
                fits
            })
            .map(|(channel, _)| *channel)
            .take(BATCH)
            .collect();
        if now.is_empty() {
            return None;
        }
        let batch = now.into_iter().filter_map(|channel| self.changes.remove_entry(&channel)).collect();
        if self.changes.is_empty() {
            // A burst is rare; its room is not kept.
            self.changes.shrink_to(BATCH);
        }
        Some(Work::Write(batch))
    }
}

/// The task that writes the rows.
pub struct RowsTask {
    rows: Rows,
    presence: ChannelPresence,
    database: Database,
    node: NodeId,
}

impl RowsTask {
    /// Makes the task; `presence` is what writes to `rows`.
    #[must_use]
    pub const fn new(rows: Rows, presence: ChannelPresence, database: Database, node: NodeId) -> Self {
        Self { rows, presence, database, node }
    }

    /// Writes until stopped, and then takes the node's leave: the other nodes need not wait until its sockets have closed.
    pub async fn run(self, stop: CancellationToken) {
        let mut retry = FIRST_RETRY;
        self.rows.rewrite("start");
        loop {
            let work = select! {
                () = stop.cancelled() => break,
                work = self.rows.next() => work,
            };
            let done = select! {
                () = stop.cancelled() => break,
                done = self.work(work) => done,
            };
            if done {
                retry = FIRST_RETRY;
                continue;
            }
            select! {
                () = stop.cancelled() => break,
                () = sleep(retry.mul_f64(rand::rng().random_range(0.5..1.0))) => {}
            }
            retry = (retry * 2).min(LAST_RETRY);
        }
        let leave = async { queries::leave(&self.database.own().await?, self.node).await };
        if let Err(error) = within(LEAVE_PATIENCE, leave).await {
            tracing::warn!(error = ?error, "could not take leave of channels; the lease will lapse");
        }
    }

    /// Whether it was done; if not, it is waiting again.
    async fn work(&self, work: Work) -> bool {
        match work {
            Work::Write(batch) => self.write_batch(batch).await,
            Work::Rewrite => match self.write_anew().await {
                Ok(true) => true,
                Ok(false) => {
                    self.rows.rewrite("interrupted");
                    false
                }
                Err(error) => {
                    tracing::warn!(error = ?error, "could not write presence in channels anew");
                    self.rows.rewrite("failed");
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
            Err(error) if error.is_refusal() => {
                tracing::warn!(error = ?error, rows = batch.len(), "the database refused presence in channels");
                let apart = self.one_by_one(&batch, true).await;
                if let Some(error) = &apart.failed {
                    tracing::warn!(error = ?error, "could not write presence in channels");
                }
                let done = apart.unwritten.is_empty();
                self.rows.put_back(
                    batch.into_iter().filter(|(channel, _)| apart.unwritten.contains(channel)).collect(),
                );
                done
            }
            Err(error) => {
                tracing::warn!(error = ?error, "could not write presence in channels");
                self.rows.put_back(batch);
                false
            }
        }
    }

    /// One row that the database does not take must not keep out the others. A row is to blame only if the refusal says
    /// so, or if another is taken after it: otherwise it may be the database that takes none.
    async fn one_by_one(&self, batch: &[(ChannelId, Option<Tracked>)], tell: bool) -> Apart {
        let mut apart = Apart::default();
        let mut in_doubt = Vec::new();
        for (at, one) in batch.iter().enumerate() {
            match self.write(std::slice::from_ref(one), tell).await {
                Ok(()) => in_doubt.drain(..).for_each(|(channel, error)| apart.refuse(channel, &error)),
                Err(error) if error.blames_a_value() => apart.refuse(one.0, &error),
                Err(error) if error.is_refusal() => in_doubt.push((one.0, error)),
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
    async fn write_anew(&self) -> Result<bool, PgError> {
        let all = self.presence.tracked_here();
        let mut refused = HashSet::new();
        let all: Batch = all
            .into_iter()
            .filter(|(_, tracked)| tracked.fits_a_row())
            .map(|(channel, tracked)| (channel, Some(tracked)))
            .collect();
        for chunk in batches(&all) {
            match self.write(chunk, false).await {
                Err(error) if error.is_refusal() => {
                    let apart = self.one_by_one(chunk, false).await;
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
            .map(|channel| channel.number())
            .collect();
        let complete = async { queries::complete(&self.database.own().await?, self.node, &channels).await };
        within(PATIENCE, complete).await
    }

    async fn write(&self, batch: &[(ChannelId, Option<Tracked>)], tell: bool) -> Result<(), PgError> {
        let gone: Vec<i64> = batch
            .iter()
            .filter(|(_, change)| change.is_none())
            .map(|(channel, _)| channel.number())
            .collect();
        let rows: Vec<WrittenRow<'_>> =
            batch.iter().filter_map(|(channel, change)| Some(row(*channel, change.as_ref()?))).collect();
        let write =
            async { queries::write(&self.database.own().await?, self.node, &gone, &rows, tell).await };
        within(PATIENCE, write).await
    }
}

/// What came of writing rows one by one.
#[derive(Default)]
struct Apart {
    /// These have no row, and will have none as they are.
    refused: HashSet<ChannelId>,
    /// These are still to be written.
    unwritten: HashSet<ChannelId>,
    /// Why.
    failed: Option<PgError>,
}

impl Apart {
    fn refuse(&mut self, channel: ChannelId, error: &PgError) {
        metrics::counter!(metric::CHANNEL_PRESENCE_REFUSED).increment(1);
        tracing::error!(error = ?error, %channel, "this channel's presence has no row");
        self.refused.insert(channel);
    }
}

/// Cuts a rewrite into batches.
fn batches(all: &[(ChannelId, Option<Tracked>)]) -> impl Iterator<Item = &[(ChannelId, Option<Tracked>)]> {
    let (mut rows, mut bytes) = (0, 0);
    all.chunk_by(move |_, (_, next)| {
        rows += 1;
        bytes += next.as_ref().map_or(0, Tracked::bytes);
        let fits = rows < BATCH && bytes < BATCH_BYTES;
        if !fits {
            (rows, bytes) = (0, 0);
        }
        fits
    })
}

fn row(channel: ChannelId, tracked: &Tracked) -> WrittenRow<'_> {
    let Tracked { room, key, meta } = tracked;
    WrittenRow {
        channel: channel.number(),
        topic: &room.topic,
        private: room.private,
        key,
        phx_ref: meta.phx_ref.to_string(),
        payload: meta.payload.to_json(),
        user: meta.user,
        joined: moment(meta.joined_ms),
        updated: moment(meta.updated_ms),
    }
}

fn moment(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(PgError::Unavailable("no answer in time".into())))
}
