//! The task that streams changes while there are subscriptions.
//!
//! It starts the stream for the first subscription and stops it some time after the last one ends. Changes may be
//! missed between two streams: the registry then sends an error to the confirmed subscriptions before it confirms
//! them again.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::join_all};
use tokio::{
    select,
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    delivery::DeliverySink,
    pipeline::ChangePipeline,
    reader::{self, FlushPosition, ReadError, StreamItem},
    rls::{
        executor::RlsExecutor,
        lanes::{Lane, LaneWorker, Lanes},
    },
    slot::{self, SlotLease},
    state::{Shared, StreamState},
    system_messages,
};
use crate::{
    backoff::Backoff,
    lifecycle::ErrorChain,
    pg::{
        PgError,
        replication::{ReplicationError, RowChange},
    },
    telemetry::metric,
};

/// The publication whose tables are streamed.
const PUBLICATION: &str = "supabase_realtime";
/// Number of connections for row-level security checks.
const RLS_CONNECTIONS: usize = 2;
/// Maximum duration of one row-level security check or filter: in the shared queue and the quick lane, then in the slow
/// lane.
const RLS_TIMEOUT: Duration = Duration::from_millis(500);
const SLOW_RLS_TIMEOUT: Duration = Duration::from_secs(15);
/// Number of workers of the slow lane, each with a connection.
const SLOW_WORKERS: usize = 2;
/// Maximum number of changes in a batch.
const MAX_BATCH: usize = 1_000;
/// Attempts per batch while the database does not respond. After the last one, the batch counts as missed.
const MAX_ATTEMPTS: u32 = 5;
/// Delay between attempts to start the stream: doubles up to the maximum, with jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// Runs the stream of changes; [`run`](Self::run) is its task.
pub struct Engine {
    shared: Arc<Shared>,
    pipeline: ChangePipeline,
    lane_workers: Vec<LaneWorker>,
}

impl Engine {
    pub(super) fn new(shared: Arc<Shared>, sink: Arc<dyn DeliverySink>) -> Self {
        let connector = shared.database.direct_connector().clone();
        let lanes = Lanes::default();
        let worker = |lane, limit| {
            lanes.worker(lane, RlsExecutor::new(connector.clone(), 1, limit), limit, Arc::clone(&sink))
        };
        let mut lane_workers = vec![worker(Lane::Quick, RLS_TIMEOUT)];
        lane_workers.extend((0..SLOW_WORKERS).map(|_| worker(Lane::Slow, SLOW_RLS_TIMEOUT)));
        let rls = RlsExecutor::new(connector.clone(), RLS_CONNECTIONS, RLS_TIMEOUT);
        Self { shared, pipeline: ChangePipeline::new(connector.clone(), rls, lanes, sink), lane_workers }
    }

    /// Streams changes while there are subscriptions, until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let Self { shared, mut pipeline, lane_workers } = self;
        let mut lease = SlotLease::new(PUBLICATION, shared.settings.slot_name.clone());
        let slot_watch = async {
            match &shared.settings.slot_name {
                Some(base_name) => {
                    slot::watch_slots(&shared.database, base_name, shared.settings.max_lag_bytes).await;
                }
                None => std::future::pending().await,
            }
        };
        let publication_watch = async {
            let mut poll = interval(shared.settings.poll_interval);
            poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                poll.tick().await;
                // A subscription that became active may need the stream.
                if !shared.registry.is_empty() && shared.validator.recheck(&shared.registry).await {
                    shared.start_requested.notify_one();
                }
            }
        };
        let stream_loop = async {
            let mut backoff = BACKOFF;
            loop {
                if shared.registry.idle_time().is_some() && backoff.is_reset() {
                    shared.start_requested.notified().await;
                }
                let started = Instant::now();
                match run_stream(&shared, &mut pipeline, &mut lease).boxed().await {
                    Ok(()) => {
                        backoff.reset();
                        continue;
                    }
                    Err(error) => {
                        let text = ErrorChain(&error).to_string();
                        tracing::warn!(error = text, "change stream failed");
                        metrics::counter!(metric::REPLICATION_INTERRUPTIONS).increment(1);
                        if matches!(error, StreamError::Start(_)) {
                            shared.stream_state.send_replace(StreamState::Failed(text));
                        }
                    }
                }
                if started.elapsed() > backoff.max() {
                    backoff.reset();
                }
                sleep(backoff.next_delay()).await;
                if shared.registry.idle_time().is_some() {
                    shared.stream_state.send_replace(StreamState::Stopped);
                    backoff.reset();
                }
            }
        };
        select! {
            () = stop.cancelled() => {}
            _ = join_all(lane_workers.into_iter().map(|worker| worker.run(stop.clone()))) => {}
            () = slot_watch => {}
            () = publication_watch => {}
            () = stream_loop => {}
        }
        // A stopped server must not leave a slot that retains WAL.
        lease.release(shared.database.direct_connector()).await;
    }
}

/// Why a stream ended with an error.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("the change stream could not be started")]
    Start(#[source] ReplicationError),
    #[error("the change stream failed")]
    Read(#[source] ReadError),
    #[error("changes could not be delivered")]
    Deliver(#[source] PgError),
}

/// Runs one stream. Returns `Ok` when there have been no subscriptions for the idle timeout.
async fn run_stream(
    shared: &Shared,
    pipeline: &mut ChangePipeline,
    lease: &mut SlotLease,
) -> Result<(), StreamError> {
    let connector = shared.database.direct_connector();
    let (mut stream, start_lsn) = match lease.acquire(connector).await {
        Ok(started) => started,
        Err(error) => {
            if error.is_lost_slot() {
                shared.registry.on_stream_interrupted(system_messages::STREAM_INTERRUPTED);
                lease.release(connector).await;
            }
            return Err(StreamError::Start(error));
        }
    };
    tracing::info!("change stream started");
    shared.registry.on_stream_started();
    shared.stream_state.send_replace(StreamState::Streaming);
    let (sender, items) = reader::item_channel();
    let flush_position = FlushPosition::starting_at(start_lsn);
    let mut delivery_loop = DeliveryLoop {
        shared,
        pipeline,
        flush_position: &flush_position,
        mid_transaction: false,
        can_resume: lease.is_resumable(),
    };
    let error_or_end = {
        let delivery_loop = delivery_loop.run(items);
        tokio::pin!(delivery_loop);
        let reading =
            reader::read_stream(&mut stream, sender, flush_position.clone(), shared.settings.max_lag_bytes);
        let ended_first = select! {
            error = reading => Ok(error),
            result = &mut delivery_loop => Err(result),
        };
        match ended_first {
            Ok(error) => {
                // Close the connection first: PostgreSQL need not wait while the buffered changes are delivered.
                drop(stream);
                let result = delivery_loop.await;
                Some(result.err().unwrap_or(StreamError::Read(error)))
            }
            Err(result) => {
                stream.close().await;
                result.err()
            }
        }
    };
    let mid_transaction = delivery_loop.mid_transaction;
    shared.stream_state.send_replace(StreamState::Stopped);
    lease.advance(flush_position.lsn());
    let Some(error) = error_or_end else {
        lease.release(connector).await;
        shared.registry.on_stream_interrupted(system_messages::STREAM_STOPPED);
        return Ok(());
    };
    let is_behind = matches!(&error, StreamError::Read(ReadError::LagExceeded { .. }));
    let is_lost = matches!(&error, StreamError::Read(ReadError::Stream(error)) if error.is_lost_slot());
    if is_behind {
        tracing::error!(error = %ErrorChain(&error), "change stream lags too far behind; skipping to the current position");
    }
    if is_behind || is_lost || !lease.is_resumable() {
        shared.registry.on_stream_interrupted(system_messages::STREAM_INTERRUPTED);
        lease.release(connector).await;
    } else if mid_transaction {
        // The slot resumes at the beginning of the transaction, so its delivered part is sent again.
        shared.registry.on_stream_interrupted(system_messages::DUPLICATES_POSSIBLE);
    }
    Err(error)
}

/// Collects changes into batches and delivers them.
struct DeliveryLoop<'a> {
    shared: &'a Shared,
    pipeline: &'a mut ChangePipeline,
    flush_position: &'a FlushPosition,
    /// Part of the current transaction was delivered; its commit was not.
    mid_transaction: bool,
    /// An undelivered batch is delivered when the stream resumes. If false, the batch counts as missed.
    can_resume: bool,
}

impl DeliveryLoop<'_> {
    /// Delivers the items in order. Returns when the channel is closed or there have been no subscriptions for the
    /// idle timeout.
    async fn run(&mut self, mut items: mpsc::Receiver<StreamItem>) -> Result<(), StreamError> {
        let shared = self.shared;
        let mut poll = interval(shared.settings.poll_interval);
        loop {
            let first = select! {
                item = items.recv() => match item {
                    Some(item) => item,
                    None => return Ok(()),
                },
                _ = poll.tick() => {
                    if shared.registry.idle_time().is_some_and(|idle| idle > shared.settings.idle_timeout) {
                        return Ok(());
                    }
                    metrics::gauge!(metric::POSTGRES_CHANGES_SUBSCRIPTIONS).set(shared.registry.len() as f64);
                    self.pipeline.retain(&shared.registry.snapshot());
                    shared.cached_bytes.store(self.pipeline.cached_bytes(), Ordering::Relaxed);
                    continue;
                }
            };
            let (mut batch, mut permits, mut position, mut mid_transaction) =
                (Vec::new(), Vec::new(), None, self.mid_transaction);
            let mut next = Some(first);
            while let Some(item) = next {
                match item {
                    StreamItem::Change(change, permit) => {
                        batch.push(change);
                        permits.push(permit);
                        mid_transaction = true;
                    }
                    StreamItem::Position(lsn) => (position, mid_transaction) = (Some(lsn), false),
                }
                next = if batch.len() < MAX_BATCH { items.try_recv().ok() } else { None };
            }
            if !batch.is_empty() {
                if let Err(error) = process_with_retry(shared, self.pipeline, &mut batch).await {
                    tracing::error!(error = %ErrorChain(&error), changes = batch.len(), "change delivery failed");
                    if self.can_resume && matches!(error, PgError::Unavailable(_)) {
                        return Err(StreamError::Deliver(error));
                    }
                    shared.registry.on_changes_skipped(system_messages::DATABASE_UNAVAILABLE);
                }
                metrics::histogram!(metric::POSTGRES_CHANGES_BATCH_SIZE).record(batch.len() as f64);
            }
            self.mid_transaction = mid_transaction;
            if let Some(position) = position {
                self.flush_position.advance(position);
            }
        }
    }
}

async fn process_with_retry(
    shared: &Shared,
    pipeline: &mut ChangePipeline,
    batch: &mut [RowChange],
) -> Result<(), PgError> {
    let mut backoff = BACKOFF;
    for _ in 1..MAX_ATTEMPTS {
        match pipeline.process(batch, &shared.registry.snapshot()).await {
            Err(error @ PgError::Unavailable(_)) => {
                tracing::warn!(error = %ErrorChain(&error), "change delivery failed; retrying")
            }
            result => return result,
        }
        sleep(backoff.next_delay()).await;
    }
    pipeline.process(batch, &shared.registry.snapshot()).await
}
