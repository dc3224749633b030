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
    asker::Askers,
    reader::{self, Piece, Progress, ReadError},
    registry::Registry,
    slow::{SlowWorker, slow_lane},
    subscribe::Checks,
    teller::{Sink, Teller},
};
use crate::{
    lifecycle::Chain,
    pg::{
        Connector, Database, PgError,
        replication::{ReplicationError, SlotKind, Stream},
    },
    telemetry::metric,
};

/// The publication whose tables are told about.
const PUBLICATION: &str = "supabase_realtime";
/// Connections that ask row-level security.
const ASKERS: usize = 2;
/// How long one question may take before its claimant goes to the slow lane, and how long there.
const QUESTION_LIMIT: Duration = Duration::from_millis(500);
const SLOW_QUESTION_LIMIT: Duration = Duration::from_secs(15);
/// Changes told in one pass; what comes meanwhile is the next.
const BATCH: usize = 1_000;
/// How often a batch is tried while the database does not answer; then it counts as missed.
const ATTEMPTS: u32 = 5;
/// Between attempts to start the stream: doubling, with jitter.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// How often the publication is looked at, and whether anybody still listens.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How the engine works.
#[derive(Debug, Clone)]
pub struct ChangesSettings {
    /// A persistent slot of this name, which survives PostgreSQL's restarts; `None`: a temporary one for each stream.
    pub slot: Option<String>,
    /// The stream ends so long after the last subscriber has gone.
    pub linger: Duration,
    /// Bytes of log that PostgreSQL may have to keep for us. Over it the stream skips to the present, which
    /// subscribers are told.
    pub most_lag_bytes: u64,
}

impl Default for ChangesSettings {
    fn default() -> Self {
        Self { slot: None, linger: Duration::from_secs(600), most_lag_bytes: 1 << 30 }
    }
}

/// Whether changes are streamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamState {
    /// Nobody has asked yet, or it is about to start.
    Off,
    /// It runs.
    On,
    /// It cannot be started: why.
    Failed(String),
}

/// What engine and subscriptions share.
pub(super) struct Shared {
    pub database: Database,
    pub registry: Registry,
    pub checks: Checks,
    pub wanted: Notify,
    pub state: watch::Sender<StreamState>,
    pub settings: ChangesSettings,
}

/// The engine; [`run`](Self::run) is its task.
pub struct Engine {
    shared: Arc<Shared>,
    teller: Teller,
    slow: SlowWorker,
}

impl Engine {
    pub(super) fn new(shared: Arc<Shared>, sink: Arc<dyn Sink>) -> Self {
        let connector = shared.database.direct().clone();
        let slow_askers = Askers::new(connector.clone(), 1, SLOW_QUESTION_LIMIT);
        let (lane, slow) = slow_lane(slow_askers, Arc::clone(&sink));
        let askers = Askers::new(connector.clone(), ASKERS, QUESTION_LIMIT);
        Self { shared, teller: Teller::new(connector, askers, lane, sink), slow }
    }

    /// Streams whenever somebody listens, until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let Self { shared, mut teller, slow } = self;
        let streams = async {
            let mut retry = FIRST_RETRY;
            loop {
                if shared.registry.empty_for().is_some() && retry == FIRST_RETRY {
                    shared.wanted.notified().await;
                }
                let started = Instant::now();
                match stream(&shared, &mut teller).boxed().await {
                    Ok(()) => {
                        retry = FIRST_RETRY;
                        continue;
                    }
                    Err(error) => {
                        let text = Chain(&error).to_string();
                        tracing::warn!(error = text, "changes are not streamed");
                        metrics::counter!(metric::REPLICATION_INTERRUPTIONS).increment(1);
                        if matches!(error, StreamError::Start(_)) {
                            shared.state.send_replace(StreamState::Failed(text));
                        }
                    }
                }
                if started.elapsed() > LAST_RETRY {
                    retry = FIRST_RETRY;
                }
                let pause = retry.mul_f64(rand::rng().random_range(0.5..1.0));
                sleep(pause).await;
                retry = (retry * 2).min(LAST_RETRY);
                if shared.registry.empty_for().is_some() {
                    shared.state.send_replace(StreamState::Off);
                    retry = FIRST_RETRY;
                }
            }
        };
        select! {
            () = stop.cancelled() => {}
            () = slow.run(stop.clone()) => {}
            () = streams => {}
        }
    }
}

/// Why a stream ended before its time.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("the stream did not start")]
    Start(#[source] ReplicationError),
    #[error("the stream broke")]
    Read(#[source] ReadError),
}

/// One stream's life; ends well when nobody has listened for a while.
async fn stream(shared: &Shared, teller: &mut Teller) -> Result<(), StreamError> {
    let connector = shared.database.direct();
    let (slot, kind) = match &shared.settings.slot {
        Some(name) => (name.clone(), SlotKind::Persistent),
        None => (format!("rollcall_{}", uuid::Uuid::new_v4().simple()), SlotKind::Temporary),
    };
    let mut stream = Stream::start(connector, &slot, kind, PUBLICATION).await.map_err(StreamError::Start)?;
    tracing::info!(slot, "streaming changes");
    shared.registry.streaming();
    shared.state.send_replace(StreamState::On);
    let (sender, pieces) = reader::pipe();
    let progress = Progress::default();
    let ended = {
        let reading = reader::read(&mut stream, sender, progress.clone(), shared.settings.most_lag_bytes);
        let telling = tell_all(shared, teller, pieces, &progress);
        tokio::pin!(reading, telling);
        select! {
            error = &mut reading => {
                // What has been read is still told.
                telling.await;
                Some(error)
            }
            () = &mut telling => None,
        }
    };
    shared.state.send_replace(StreamState::Off);
    match ended {
        None => {
            stream.close().await;
            drop_slot(connector, &slot, kind).await;
            shared.registry.interrupted("The stream of changes was stopped.");
            Ok(())
        }
        Some(error) => {
            let is_behind = matches!(error, ReadError::Behind { .. });
            let is_lost = matches!(&error, ReadError::Stream(error) if error.is_lost_slot());
            // A slot that keeps its place loses nothing, unless it lost that.
            if kind == SlotKind::Temporary || is_behind || is_lost {
                if is_behind {
                    tracing::error!(%error, "telling changes is too far behind: skipping to the present");
                }
                shared.registry.interrupted(
                    "Changes may have been missed: the stream of changes was interrupted. Fetch again.",
                );
            }
            drop(stream);
            if is_behind || is_lost {
                drop_slot(connector, &slot, kind).await;
            }
            Err(StreamError::Read(error))
        }
    }
}

async fn drop_slot(connector: &Connector, slot: &str, kind: SlotKind) {
    if kind == SlotKind::Persistent
        && let Err(error) = Stream::drop_slot(connector, slot).await
    {
        tracing::warn!(error = %Chain(&error), slot, "the slot was not dropped and keeps the log from being recycled");
    }
}

/// Tells what comes, in order; ends when nobody has listened for a while, or nothing more comes.
async fn tell_all(
    shared: &Shared,
    teller: &mut Teller,
    mut pieces: mpsc::Receiver<Piece>,
    progress: &Progress,
) {
    let mut looks = interval(LOOK_EVERY);
    loop {
        let first = select! {
            piece = pieces.recv() => match piece {
                Some(piece) => piece,
                None => return,
            },
            _ = looks.tick() => {
                if shared.registry.empty_for().is_some_and(|empty| empty > shared.settings.linger) {
                    return;
                }
                metrics::gauge!(metric::CHANGE_CHANNELS).set(shared.registry.len() as f64);
                shared.checks.look_again(&shared.database, &shared.registry).await;
                continue;
            }
        };
        let (mut batch, mut permits, mut reached) = (Vec::new(), Vec::new(), None);
        let mut next = Some(first);
        while let Some(piece) = next {
            match piece {
                Piece::Changed(changed, permit) => {
                    batch.push(changed);
                    permits.push(permit);
                }
                Piece::UpTo(lsn) => reached = Some(lsn),
            }
            next = if batch.len() < BATCH { pieces.try_recv().ok() } else { None };
        }
        if !batch.is_empty() {
            let told = tell(shared, teller, &mut batch).await;
            if let Err(error) = told {
                tracing::error!(error = %Chain(&error), changes = batch.len(), "changes could not be told");
                shared
                    .registry
                    .skipped("Changes may have been missed: the database did not answer. Fetch again.");
            }
            metrics::histogram!(metric::CHANGES_BATCH_SIZE).record(batch.len() as f64);
        }
        if let Some(reached) = reached {
            progress.reached(reached);
        }
    }
}

async fn tell(
    shared: &Shared,
    teller: &mut Teller,
    batch: &mut [super::row::Changed],
) -> Result<(), PgError> {
    let mut pause = FIRST_RETRY;
    for _ in 1..ATTEMPTS {
        match teller.tell(batch, &shared.registry.snapshot()).await {
            Err(error @ PgError::Unavailable(_)) => {
                tracing::warn!(error = %Chain(&error), "telling changes again")
            }
            done => return done,
        }
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        sleep(jittered).await;
        pause *= 2;
    }
    teller.tell(batch, &shared.registry.snapshot()).await
}
