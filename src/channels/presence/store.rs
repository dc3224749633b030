//! Writes what local channels track to `rollcall.presence` in batches.
//!
//! Changes that arrive while a batch is written form the next batch; only the last state of a channel is
//! written. Nothing waits for the writes: while the database is down, presence works between the sockets of
//! this node. When the database is back, or rows were lost, the node's rows are rewritten.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;

pub use super::row_queue::PresenceStore;
use super::{
    ChannelPresence,
    row_queue::{Batch, MAX_BATCH_BYTES, MAX_BATCH_ROWS, TrackedPresence, Work},
};
use crate::{
    backoff::Backoff,
    lifecycle::ErrorChain,
    model::{ChannelId, NodeId},
    pg::{
        Database, PgError,
        queries::channel_presence::{self as queries, NewPresenceRow},
    },
    telemetry::metric,
};

/// Timeout of a batch.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Backoff between failed attempts: doubled each time, with jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
/// Timeout of removing the node's rows on shutdown.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// The task that writes the rows.
pub struct PresenceRowWriter {
    store: PresenceStore,
    presence: ChannelPresence,
    database: Database,
    node: NodeId,
}

impl PresenceRowWriter {
    /// Creates the task. `presence` is the source of a rewrite.
    #[must_use]
    pub const fn new(
        store: PresenceStore,
        presence: ChannelPresence,
        database: Database,
        node: NodeId,
    ) -> Self {
        Self { store, presence, database, node }
    }

    /// Writes until `stop` is cancelled, then removes the node's rows: other nodes need not wait until its
    /// sockets have closed.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = BACKOFF;
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
                backoff.reset();
                continue;
            }
            select! {
                () = stop.cancelled() => break,
                () = sleep(backoff.next_delay()) => {}
            }
        }
        let node = self.node;
        let remove = |connection| async move { queries::remove_node(&connection, node).await };
        if let Err(error) = self.database.within(LEAVE_TIMEOUT, remove).await {
            tracing::warn!(error = %ErrorChain(&error), "removing channel presence rows failed; they expire with the lease");
        }
    }

    /// Returns whether the work is done. If not, it was queued again.
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
                    tracing::warn!(error = %ErrorChain(&error), "rewriting channel presence rows failed");
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
                let rows = batch.len();
                tracing::warn!(error = %ErrorChain(&error), rows, "channel presence rows rejected, writing one by one");
                let split = self.write_one_by_one(&batch, true).await;
                if let Some(error) = &split.failed {
                    tracing::warn!(error = %ErrorChain(error), "writing channel presence rows failed");
                }
                let done = split.unwritten.is_empty();
                self.store.requeue(
                    batch.into_iter().filter(|(channel, _)| split.unwritten.contains(channel)).collect(),
                );
                done
            }
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "writing channel presence rows failed");
                self.store.requeue(batch);
                false
            }
        }
    }

    /// Writes each row in its own transaction, so that one rejected row does not keep out the others. A row
    /// is rejected only if the error names it or a later row is accepted; otherwise the database may be
    /// rejecting all.
    async fn write_one_by_one(
        &self,
        batch: &[(ChannelId, Option<TrackedPresence>)],
        notify: bool,
    ) -> SplitResult {
        let mut split = SplitResult::default();
        let mut in_doubt = Vec::new();
        for (index, change) in batch.iter().enumerate() {
            match self.write(std::slice::from_ref(change), notify).await {
                Ok(()) => {
                    in_doubt.drain(..).for_each(|(channel, error)| split.record_rejected(channel, &error))
                }
                Err(error) if error.is_invalid_value() => split.record_rejected(change.0, &error),
                Err(error) if error.is_rejected() => in_doubt.push((change.0, error)),
                Err(error) => {
                    split.unwritten.extend(batch[index..].iter().map(|(channel, _)| *channel));
                    split.failed = Some(error);
                    break;
                }
            }
        }
        for (channel, error) in in_doubt {
            split.unwritten.insert(channel);
            split.failed = Some(error);
        }
        split
    }

    /// Writes all rows in batches. The other nodes are notified after the last one.
    async fn rewrite_all(&self) -> Result<bool, PgError> {
        let all = self.presence.local_entries();
        let mut rejected = HashSet::new();
        let all: Batch = all
            .into_iter()
            .filter(|(_, tracked)| tracked.is_storable())
            .map(|(channel, tracked)| (channel, Some(tracked)))
            .collect();
        for chunk in batches(&all) {
            match self.write(chunk, false).await {
                Err(error) if error.is_rejected() => {
                    let split = self.write_one_by_one(chunk, false).await;
                    if let Some(error) = split.failed {
                        return Err(error);
                    }
                    rejected.extend(split.rejected);
                }
                result => result?,
            }
        }
        let channels: Vec<i64> = all
            .iter()
            .map(|(channel, _)| channel)
            .filter(|channel| !rejected.contains(channel))
            .map(|channel| channel.as_i64())
            .collect();
        let (node, channels) = (self.node, &channels);
        let complete =
            |connection| async move { queries::complete_rewrite(&connection, node, channels).await };
        self.database.within(BATCH_TIMEOUT, complete).await
    }

    async fn write(
        &self,
        batch: &[(ChannelId, Option<TrackedPresence>)],
        notify: bool,
    ) -> Result<(), PgError> {
        let removed: Vec<i64> = batch
            .iter()
            .filter(|(_, change)| change.is_none())
            .map(|(channel, _)| channel.as_i64())
            .collect();
        let rows: Vec<NewPresenceRow<'_>> =
            batch.iter().filter_map(|(channel, change)| Some(to_row(*channel, change.as_ref()?))).collect();
        let (node, removed, rows) = (self.node, &removed, &rows);
        let write =
            |connection| async move { queries::write(&connection, node, removed, rows, notify).await };
        self.database.within(BATCH_TIMEOUT, write).await
    }
}

/// Result of writing rows one by one.
#[derive(Default)]
struct SplitResult {
    /// Channels whose row was rejected. They are not retried.
    rejected: HashSet<ChannelId>,
    /// Channels that are still to be written.
    unwritten: HashSet<ChannelId>,
    /// The error that left rows unwritten.
    failed: Option<PgError>,
}

impl SplitResult {
    fn record_rejected(&mut self, channel: ChannelId, error: &PgError) {
        metrics::counter!(metric::CHANNEL_PRESENCE_REFUSED).increment(1);
        tracing::error!(error = %ErrorChain(error), %channel, "channel presence row rejected");
        self.rejected.insert(channel);
    }
}

/// Splits a rewrite into batches.
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
    let TrackedPresence { topic, key, meta } = tracked;
    NewPresenceRow {
        channel: channel.as_i64(),
        topic: &topic.name,
        private: topic.private,
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
