//! The task that streams changes while somebody listens.
//!
//! It starts the stream for the first subscriber, stops it some time after the last has gone, and makes every interruption
//! heard: between the end of one stream and the beginning of the next, changes may be missed, and those who had been
//! confirmed are told so before they are confirmed again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use rand::Rng;
use tokio::{
    select,
    sync::{Notify, mpsc, watch},
    time::{interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    pipeline::{ChangePipeline, DeliverySink},
    reader::{self, FlushPosition, ReadError, StreamItem},
    registry::SubscriptionRegistry,
    rls_executor::RlsExecutor,
    slot::{self, SlotLease},
    slow_queue::{SlowQueueWorker, slow_queue},
    subscribe::ParamsValidator,
};
use crate::{
    lifecycle::ErrorChain,
    pg::{Database, PgError, replication::ReplicationError},
    telemetry::metric,
};

/// The publication whose tables are told about.
const PUBLICATION: &str = "supabase_realtime";
/// Connections that ask row-level security.
const RLS_CONNECTIONS: usize = 2;
/// How long one question may take before its claimant goes to the slow lane, and how long there.
const RLS_TIMEOUT: Duration = Duration::from_millis(500);
const SLOW_RLS_TIMEOUT: Duration = Duration::from_secs(15);
/// Changes told in one pass; what comes meanwhile is the next.
const MAX_BATCH: usize = 1_000;
/// How often a batch is tried while the database does not answer; then it counts as missed.
const MAX_ATTEMPTS: u32 = 5;
/// Between attempts to start the stream: doubling, with jitter.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(100);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
/// What subscribers hear after a gap.
const MISSED_MESSAGE: &str =
    "Changes may have been missed: the stream of changes was interrupted. Fetch again.";
/// And before changes that they have heard of already.
const DUPLICATES_MESSAGE: &str = "The stream of changes was interrupted: some changes may come twice.";
/// How often the publication is looked at, and whether anybody still listens.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// How the engine works.
#[derive(Debug, Clone)]
pub struct PostgresChangesSettings {
    /// A persistent slot of this name (or `name_2` and so on, one for each node), which survives PostgreSQL's restarts;
    /// `None`: a temporary one for each stream.
    pub slot_name: Option<String>,
    /// The stream ends so long after the last subscriber has gone.
    pub idle_timeout: Duration,
    /// Bytes of log that PostgreSQL may have to keep for us. Over it the stream skips to the present, which
    /// subscribers are told.
    pub max_lag_bytes: u64,
}

impl Default for PostgresChangesSettings {
    fn default() -> Self {
        Self { slot_name: None, idle_timeout: Duration::from_secs(600), max_lag_bytes: 1 << 30 }
    }
}

/// Whether changes are streamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamState {
    /// Nobody has asked yet, or it is about to start.
    Stopped,
    /// It runs.
    Streaming,
    /// It cannot be started: why.
    Failed(String),
}

/// What engine and subscriptions share.
pub(super) struct Shared {
    pub database: Database,
    pub registry: SubscriptionRegistry,
    pub validator: ParamsValidator,
    pub start_requested: Notify,
    pub stream_state: watch::Sender<StreamState>,
    pub settings: PostgresChangesSettings,
}

/// The engine; [`run`](Self::run) is its task.
pub struct Engine {
    shared: Arc<Shared>,
    pipeline: ChangePipeline,
    slow_worker: SlowQueueWorker,
}

impl Engine {
    pub(super) fn new(shared: Arc<Shared>, sink: Arc<dyn DeliverySink>) -> Self {
        let connector = shared.database.direct_connector().clone();
        let slow_askers = RlsExecutor::new(connector.clone(), 1, SLOW_RLS_TIMEOUT);
        let (lane, slow) = slow_queue(slow_askers, Arc::clone(&sink));
        let askers = RlsExecutor::new(connector.clone(), RLS_CONNECTIONS, RLS_TIMEOUT);
        Self { shared, pipeline: ChangePipeline::new(connector, askers, lane, sink), slow_worker: slow }
    }

    /// Streams whenever somebody listens, until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let Self { shared, pipeline: mut teller, slow_worker: slow } = self;
        let mut berth = SlotLease::new(PUBLICATION, shared.settings.slot_name.clone());
        let guard = async {
            match &shared.settings.slot_name {
                Some(family) => {
                    slot::watch_slots(&shared.database, family, shared.settings.max_lag_bytes).await;
                }
                None => std::future::pending().await,
            }
        };
        let streams = async {
            let mut retry = FIRST_RETRY_DELAY;
            loop {
                if shared.registry.idle_time().is_some() && retry == FIRST_RETRY_DELAY {
                    shared.start_requested.notified().await;
                }
                let started = Instant::now();
                match run_stream(&shared, &mut teller, &mut berth).boxed().await {
                    Ok(()) => {
                        retry = FIRST_RETRY_DELAY;
                        continue;
                    }
                    Err(error) => {
                        let text = ErrorChain(&error).to_string();
                        tracing::warn!(error = text, "changes are not streamed");
                        metrics::counter!(metric::REPLICATION_INTERRUPTIONS).increment(1);
                        if matches!(error, StreamError::Start(_)) {
                            shared.stream_state.send_replace(StreamState::Failed(text));
                        }
                    }
                }
                if started.elapsed() > MAX_RETRY_DELAY {
                    retry = FIRST_RETRY_DELAY;
                }
                let pause = retry.mul_f64(rand::rng().random_range(0.5..1.0));
                sleep(pause).await;
                retry = (retry * 2).min(MAX_RETRY_DELAY);
                if shared.registry.idle_time().is_some() {
                    shared.stream_state.send_replace(StreamState::Stopped);
                    retry = FIRST_RETRY_DELAY;
                }
            }
        };
        select! {
            () = stop.cancelled() => {}
            () = slow.run(stop.clone()) => {}
            () = guard => {}
            () = streams => {}
        }
        // A server that stops leaves nothing behind that keeps the log.
        berth.release(shared.database.direct_connector()).await;
    }
}

/// Why a stream ended before its time.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("the stream did not start")]
    Start(#[source] ReplicationError),
    #[error("the stream broke")]
    Read(#[source] ReadError),
    #[error("changes could not be told")]
    Deliver(#[source] PgError),
}

/// One stream's life; ends well when nobody has listened for a while.
async fn run_stream(
    shared: &Shared,
    teller: &mut ChangePipeline,
    berth: &mut SlotLease,
) -> Result<(), StreamError> {
    let connector = shared.database.direct_connector();
    let (mut stream, begun) = match berth.acquire(connector).await {
        Ok(begun) => begun,
        Err(error) => {
            if error.is_lost_slot() {
                shared.registry.on_stream_interrupted(MISSED_MESSAGE);
                berth.release(connector).await;
            }
            return Err(StreamError::Start(error));
        }
    };
    tracing::info!("streaming changes");
    shared.registry.on_stream_started();
    shared.stream_state.send_replace(StreamState::Streaming);
    let (sender, pieces) = reader::item_channel();
    let progress = FlushPosition::starting_at(begun);
    let mut telling = DeliveryLoop {
        shared,
        pipeline: teller,
        flush_position: &progress,
        mid_transaction: false,
        can_resume: berth.is_resumable(),
    };
    let ended = {
        let telling = telling.run(pieces);
        tokio::pin!(telling);
        let reading =
            reader::read_stream(&mut stream, sender, progress.clone(), shared.settings.max_lag_bytes);
        let broken = select! {
            error = reading => Ok(error),
            told = &mut telling => Err(told),
        };
        match broken {
            Ok(error) => {
                // PostgreSQL need not wait while what has been read is told.
                drop(stream);
                let told = telling.await;
                Some(told.err().unwrap_or(StreamError::Read(error)))
            }
            Err(told) => {
                stream.close().await;
                told.err()
            }
        }
    };
    let is_amid = telling.mid_transaction;
    shared.stream_state.send_replace(StreamState::Stopped);
    berth.advance(progress.lsn());
    let Some(error) = ended else {
        berth.release(connector).await;
        shared.registry.on_stream_interrupted("The stream of changes was stopped.");
        return Ok(());
    };
    let is_behind = matches!(&error, StreamError::Read(ReadError::LagExceeded { .. }));
    let is_lost = matches!(&error, StreamError::Read(ReadError::Stream(error)) if error.is_lost_slot());
    if is_behind {
        tracing::error!(error = %ErrorChain(&error), "telling changes is too far behind: skipping to the present");
    }
    if is_behind || is_lost || !berth.is_resumable() {
        shared.registry.on_stream_interrupted(MISSED_MESSAGE);
        berth.release(connector).await;
    } else if is_amid {
        // What was told of the transaction comes again with the rest of it.
        shared.registry.on_stream_interrupted(DUPLICATES_MESSAGE);
    }
    Err(error)
}

/// The teller at work.
struct DeliveryLoop<'a> {
    shared: &'a Shared,
    pipeline: &'a mut ChangePipeline,
    flush_position: &'a FlushPosition,
    /// Of a transaction a part has been told, and the end has not come yet.
    mid_transaction: bool,
    /// What cannot be told now is told when the stream goes on; else it counts as missed.
    can_resume: bool,
}

impl DeliveryLoop<'_> {
    /// Tells what comes, in order; ends when nobody has listened for a while, or nothing more comes.
    async fn run(&mut self, mut pieces: mpsc::Receiver<StreamItem>) -> Result<(), StreamError> {
        let shared = self.shared;
        let mut looks = interval(POLL_INTERVAL);
        loop {
            let first = select! {
                piece = pieces.recv() => match piece {
                    Some(piece) => piece,
                    None => return Ok(()),
                },
                _ = looks.tick() => {
                    if shared.registry.idle_time().is_some_and(|empty| empty > shared.settings.idle_timeout) {
                        return Ok(());
                    }
                    metrics::gauge!(metric::POSTGRES_CHANGES_SUBSCRIPTIONS).set(shared.registry.len() as f64);
                    shared.validator.recheck_if_publication_changed(&shared.database, &shared.registry).await;
                    continue;
                }
            };
            let (mut batch, mut permits, mut reached, mut is_amid) =
                (Vec::new(), Vec::new(), None, self.mid_transaction);
            let mut next = Some(first);
            while let Some(piece) = next {
                match piece {
                    StreamItem::Change(changed, permit) => {
                        batch.push(changed);
                        permits.push(permit);
                        is_amid = true;
                    }
                    StreamItem::Position(lsn) => (reached, is_amid) = (Some(lsn), false),
                }
                next = if batch.len() < MAX_BATCH { pieces.try_recv().ok() } else { None };
            }
            if !batch.is_empty() {
                if let Err(error) = process_with_retry(shared, self.pipeline, &mut batch).await {
                    tracing::error!(error = %ErrorChain(&error), changes = batch.len(), "changes could not be told");
                    if self.can_resume && matches!(error, PgError::Unavailable(_)) {
                        return Err(StreamError::Deliver(error));
                    }
                    shared.registry.on_changes_skipped(
                        "Changes may have been missed: the database did not answer. Fetch again.",
                    );
                }
                metrics::histogram!(metric::POSTGRES_CHANGES_BATCH_SIZE).record(batch.len() as f64);
            }
            self.mid_transaction = is_amid;
            if let Some(reached) = reached {
                self.flush_position.advance(reached);
            }
        }
    }
}

async fn process_with_retry(
    shared: &Shared,
    teller: &mut ChangePipeline,
    batch: &mut [super::row_change::RowChange],
) -> Result<(), PgError> {
    let mut pause = FIRST_RETRY_DELAY;
    for _ in 1..MAX_ATTEMPTS {
        match teller.process(batch, &shared.registry.snapshot()).await {
            Err(error @ PgError::Unavailable(_)) => {
                tracing::warn!(error = %ErrorChain(&error), "telling changes again")
            }
            done => return done,
        }
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        sleep(jittered).await;
        pause *= 2;
    }
    teller.process(batch, &shared.registry.snapshot()).await
}
