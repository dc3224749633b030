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
    slot::{self, Berth},
    slow::{SlowWorker, slow_lane},
    subscribe::Checks,
    teller::{Sink, Teller},
};
use crate::{
    lifecycle::Chain,
    pg::{Database, PgError, replication::ReplicationError},
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
/// What subscribers hear after a gap.
const MISSED: &str = "Changes may have been missed: the stream of changes was interrupted. Fetch again.";
/// And before changes that they have heard of already.
const AGAIN: &str = "The stream of changes was interrupted: some changes may come twice.";
/// How often the publication is looked at, and whether anybody still listens.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How the engine works.
#[derive(Debug, Clone)]
pub struct ChangesSettings {
    /// A persistent slot of this name (or `name_2` and so on, one for each node), which survives PostgreSQL's restarts;
    /// `None`: a temporary one for each stream.
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
        let mut berth = Berth::new(PUBLICATION, shared.settings.slot.clone());
        let guard = async {
            match &shared.settings.slot {
                Some(family) => {
                    slot::guard(&shared.database, family, shared.settings.most_lag_bytes).await;
                }
                None => std::future::pending().await,
            }
        };
        let streams = async {
            let mut retry = FIRST_RETRY;
            loop {
                if shared.registry.empty_for().is_some() && retry == FIRST_RETRY {
                    shared.wanted.notified().await;
                }
                let started = Instant::now();
                match stream(&shared, &mut teller, &mut berth).boxed().await {
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
            () = guard => {}
            () = streams => {}
        }
        // A server that stops leaves nothing behind that keeps the log.
        berth.leave(shared.database.direct()).await;
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
    Tell(#[source] PgError),
}

/// One stream's life; ends well when nobody has listened for a while.
async fn stream(shared: &Shared, teller: &mut Teller, berth: &mut Berth) -> Result<(), StreamError> {
    let connector = shared.database.direct();
    let (mut stream, begun) = match berth.begin(connector).await {
        Ok(begun) => begun,
        Err(error) => {
            if error.is_lost_slot() {
                shared.registry.interrupted(MISSED);
                berth.leave(connector).await;
            }
            return Err(StreamError::Start(error));
        }
    };
    tracing::info!("streaming changes");
    shared.registry.streaming();
    shared.state.send_replace(StreamState::On);
    let (sender, pieces) = reader::pipe();
    let progress = Progress::from(begun);
    let mut telling =
        Telling { shared, teller, progress: &progress, is_amid: false, waits: berth.keeps_its_place() };
    let ended = {
        let telling = telling.tell_all(pieces);
        tokio::pin!(telling);
        let reading = reader::read(&mut stream, sender, progress.clone(), shared.settings.most_lag_bytes);
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
    let is_amid = telling.is_amid;
    shared.state.send_replace(StreamState::Off);
    berth.reached(progress.lsn());
    let Some(error) = ended else {
        berth.leave(connector).await;
        shared.registry.interrupted("The stream of changes was stopped.");
        return Ok(());
    };
    let is_behind = matches!(&error, StreamError::Read(ReadError::Behind { .. }));
    let is_lost = matches!(&error, StreamError::Read(ReadError::Stream(error)) if error.is_lost_slot());
    if is_behind {
        tracing::error!(error = %Chain(&error), "telling changes is too far behind: skipping to the present");
    }
    if is_behind || is_lost || !berth.keeps_its_place() {
        shared.registry.interrupted(MISSED);
        berth.leave(connector).await;
    } else if is_amid {
        // What was told of the transaction comes again with the rest of it.
        shared.registry.interrupted(AGAIN);
    }
    Err(error)
}

/// The teller at work.
struct Telling<'a> {
    shared: &'a Shared,
    teller: &'a mut Teller,
    progress: &'a Progress,
    /// Of a transaction a part has been told, and the end has not come yet.
    is_amid: bool,
    /// What cannot be told now is told when the stream goes on; else it counts as missed.
    waits: bool,
}

impl Telling<'_> {
    /// Tells what comes, in order; ends when nobody has listened for a while, or nothing more comes.
    async fn tell_all(&mut self, mut pieces: mpsc::Receiver<Piece>) -> Result<(), StreamError> {
        let shared = self.shared;
        let mut looks = interval(LOOK_EVERY);
        loop {
            let first = select! {
                piece = pieces.recv() => match piece {
                    Some(piece) => piece,
                    None => return Ok(()),
                },
                _ = looks.tick() => {
                    if shared.registry.empty_for().is_some_and(|empty| empty > shared.settings.linger) {
                        return Ok(());
                    }
                    metrics::gauge!(metric::CHANGE_CHANNELS).set(shared.registry.len() as f64);
                    shared.checks.look_again(&shared.database, &shared.registry).await;
                    continue;
                }
            };
            let (mut batch, mut permits, mut reached, mut is_amid) =
                (Vec::new(), Vec::new(), None, self.is_amid);
            let mut next = Some(first);
            while let Some(piece) = next {
                match piece {
                    Piece::Changed(changed, permit) => {
                        batch.push(changed);
                        permits.push(permit);
                        is_amid = true;
                    }
                    Piece::UpTo(lsn) => (reached, is_amid) = (Some(lsn), false),
                }
                next = if batch.len() < BATCH { pieces.try_recv().ok() } else { None };
            }
            if !batch.is_empty() {
                if let Err(error) = tell(shared, self.teller, &mut batch).await {
                    tracing::error!(error = %Chain(&error), changes = batch.len(), "changes could not be told");
                    if self.waits && matches!(error, PgError::Unavailable(_)) {
                        return Err(StreamError::Tell(error));
                    }
                    shared
                        .registry
                        .skipped("Changes may have been missed: the database did not answer. Fetch again.");
                }
                metrics::histogram!(metric::CHANGES_BATCH_SIZE).record(batch.len() as f64);
            }
            self.is_amid = is_amid;
            if let Some(reached) = reached {
                self.progress.reached(reached);
            }
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
