//! The task that checks policies in the database.
//!
//! Requests that arrive while a check runs form the next batch: a single join takes one round trip, and many
//! simultaneous joins take few. Joins have priority over rechecks, and rechecks leave one connection to them.
//! The checks of a batch that times out are repeated one by one, so that a slow policy delays only its own
//! caller.

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    AuthorizationError, Authorizer,
    authorizer::Shared,
    cache::{AuthorizationCache, EntryId, QueueKind, RightsCheck},
    policy_poller::PolicyPoller,
};
use crate::{
    backoff::Backoff,
    channels::broadcast_from_db::partitions,
    lifecycle::ErrorChain,
    pg::{
        self, AUTHORIZATION_CONNECTIONS, Database, PgError,
        listener::NotificationHandler,
        notification::{AffectedCallers, Notification},
        queries::rights::{self, ProbeFailure, ProbeResult, RightsProbe},
    },
    telemetry::metric,
};

/// Checks per batch. One check takes about 50 µs of database time.
const CHECK_BATCH_SIZE: usize = 32;
/// Server-side timeout of a batch and of an isolated check. The checks of a batch that times out are
/// isolated.
const BATCH_TIMEOUT: Duration = Duration::from_millis(500);
const ISOLATED_TIMEOUT: Duration = Duration::from_secs(1);
/// Time beyond the server-side timeout after which the connection is discarded.
const CONNECTION_GRACE: Duration = Duration::from_secs(2);
/// Maximum concurrent batches and isolated checks. Isolated checks may hold a connection for long, so they
/// have their own.
const MAX_ISOLATED_CHECKS: usize = 2;
const MAX_BATCHES: usize = AUTHORIZATION_CONNECTIONS - MAX_ISOLATED_CHECKS;
const MAX_RECHECK_BATCHES: usize = MAX_BATCHES - 1;
/// Rechecks use at most half of the time: after a round the worker pauses for as long as the round took, up
/// to this maximum.
const MAX_ROUND_PAUSE: Duration = Duration::from_millis(100);
/// Backoff after a database error: doubled each time, with jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

impl Authorizer {
    /// Creates the authorizer, its worker and its notification handler.
    #[must_use]
    pub fn new(database: Database) -> (Self, AuthorizationNotifications, AuthorizationWorker) {
        let shared = Arc::new(Shared {
            cache: AuthorizationCache::default().into(),
            wake: Notify::new(),
            rechecks_done: Notify::new(),
        });
        let worker = AuthorizationWorker {
            database,
            shared: shared.clone(),
            running: JoinSet::new(),
            join_batches: 0,
            recheck_batches: 0,
            isolated_checks: 0,
            round: None,
            not_before: None,
            backoff: BACKOFF,
        };
        let notifications = AuthorizationNotifications(shared.clone());
        (Self { shared }, notifications, worker)
    }
}

/// Invalidates cached results when the listener reports a change of rights.
pub struct AuthorizationNotifications(Arc<Shared>);

impl NotificationHandler for AuthorizationNotifications {
    fn on_notification(&self, notification: &Notification) {
        let Notification::Authorization { callers, .. } = notification else { return };
        // Without hashes everything is invalidated.
        self.0.cache.lock().invalidate(callers);
        self.0.wake.notify_one();
    }

    fn on_connected(&self) {
        self.0.cache.lock().on_connected();
        self.0.wake.notify_one();
    }

    fn on_disconnected(&self) {
        self.0.cache.lock().on_disconnected();
    }

    fn on_missed(&self, _: Instant) {
        self.0.cache.lock().invalidate(&AffectedCallers::All);
        self.0.wake.notify_one();
    }
}

/// A finished batch with its checks.
struct CompletedBatch {
    queue: QueueKind,
    checks: Vec<RightsCheck>,
    results: Result<Vec<Result<ProbeResult, ProbeFailure>>, PgError>,
}

/// The task behind an [`Authorizer`].
pub struct AuthorizationWorker {
    database: Database,
    shared: Arc<Shared>,
    running: JoinSet<CompletedBatch>,
    join_batches: usize,
    recheck_batches: usize,
    isolated_checks: usize,
    /// The current round of rechecks, or the pause before the next.
    round: Option<RecheckRound>,
    /// No recheck starts before this time, because the database has just failed.
    not_before: Option<Instant>,
    backoff: Backoff,
}

enum RecheckRound {
    RunningSince(Instant),
    PauseUntil(Instant),
}

impl AuthorizationWorker {
    /// Runs checks until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        // A separate future: the poller may wait for the database, and joins must not wait for the poller.
        let poller = PolicyPoller::new(self.database.clone(), self.shared.clone());
        select! {
            () = stop.cancelled() => {}
            () = self.run_worker() => {}
            () = poller.run() => {}
        }
    }

    async fn run_worker(mut self) {
        loop {
            let pause = self.recheck_pause_until();
            select! {
                () = self.shared.wake.notified() => {}
                Some(batch) = self.running.join_next(), if !self.running.is_empty() => match batch {
                    Ok(batch) => self.on_batch_done(batch),
                    // Propagate the panic: otherwise the callers of the batch would wait forever, and all
                    // later ones with them.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {}
            }
            self.dispatch();
        }
    }

    /// The time until which rechecks have to wait, if they do.
    fn recheck_pause_until(&self) -> Option<Instant> {
        let round = match self.round {
            Some(RecheckRound::PauseUntil(until)) => Some(until),
            _ => None,
        };
        round.max(self.not_before).filter(|_| {
            let cache = self.shared.cache.lock();
            cache.is_round_due() || cache.has_pending(QueueKind::Rechecks)
        })
    }

    fn dispatch(&mut self) {
        let shared = self.shared.clone();
        let mut cache = shared.cache.lock();
        while self.join_batches + self.recheck_batches < MAX_BATCHES && cache.has_pending(QueueKind::Joins) {
            let checks = cache.take_batch(QueueKind::Joins, CHECK_BATCH_SIZE);
            self.join_batches += usize::from(self.spawn_batch(QueueKind::Joins, checks));
        }
        while self.isolated_checks < MAX_ISOLATED_CHECKS && cache.has_pending(QueueKind::Isolated) {
            let checks = cache.take_batch(QueueKind::Isolated, 1);
            self.isolated_checks += usize::from(self.spawn_batch(QueueKind::Isolated, checks));
        }
        let now = Instant::now();
        if self.not_before.is_some_and(|time| time > now) {
            return;
        }
        self.not_before = None;
        if matches!(self.round, Some(RecheckRound::PauseUntil(until)) if until <= now) {
            self.round = None;
        }
        if self.round.is_none() && cache.begin_round() {
            self.round = Some(RecheckRound::RunningSince(now));
        }
        while self.recheck_batches < MAX_RECHECK_BATCHES
            && self.join_batches + self.recheck_batches < MAX_BATCHES
            && cache.has_pending(QueueKind::Rechecks)
        {
            let checks = cache.take_batch(QueueKind::Rechecks, CHECK_BATCH_SIZE);
            self.recheck_batches += usize::from(self.spawn_batch(QueueKind::Rechecks, checks));
        }
        if let Some(RecheckRound::RunningSince(since)) = self.round
            && self.recheck_batches == 0
            && !cache.has_pending(QueueKind::Rechecks)
        {
            self.round = Some(RecheckRound::PauseUntil(now + since.elapsed().min(MAX_ROUND_PAUSE)));
        }
        metrics::gauge!(metric::CHANNEL_AUTHORIZATION_SUBSCRIPTIONS).set(cache.subscribed() as f64);
    }

    /// Starts a batch. Returns false if it is empty.
    fn spawn_batch(&mut self, queue: QueueKind, checks: Vec<RightsCheck>) -> bool {
        if checks.is_empty() {
            return false;
        }
        let why = if queue == QueueKind::Joins { "join" } else { "recheck" };
        metrics::counter!(metric::CHANNEL_AUTHORIZATION_CHECKS, "why" => why).increment(checks.len() as u64);
        let limit = if queue == QueueKind::Isolated { ISOLATED_TIMEOUT } else { BATCH_TIMEOUT };
        let database = self.database.clone();
        self.running.spawn(async move {
            let started = Instant::now();
            let probes: Vec<RightsProbe<'_>> = checks.iter().map(to_probe).collect();
            let run =
                async || pg::within(limit + CONNECTION_GRACE, rights::probe(&database, limit, &probes)).await;
            let mut results = run().await;
            if lacks_partition(&results) && partitions::maintain(&database).await {
                results = run().await;
            }
            metrics::histogram!(metric::CHANNEL_AUTHORIZATION_CHECK_SECONDS)
                .record(started.elapsed().as_secs_f64());
            CompletedBatch { queue, checks, results }
        });
        true
    }

    fn on_batch_done(&mut self, CompletedBatch { queue, checks, results }: CompletedBatch) {
        match queue {
            QueueKind::Joins => self.join_batches -= 1,
            QueueKind::Rechecks => self.recheck_batches -= 1,
            QueueKind::Isolated => self.isolated_checks -= 1,
        }
        let mut updates = Vec::new();
        let entries: Vec<EntryId> = checks.iter().map(|check| check.entry).collect();
        let mut cache = self.shared.cache.lock();
        match results {
            Ok(results) => {
                self.backoff.reset();
                for (check, result) in checks.into_iter().zip(results) {
                    match result.map_err(AuthorizationError::from) {
                        // The error says nothing about the policies.
                        Err(error) if error.is_transient() => {
                            self.not_before = Some(Instant::now() + BACKOFF.delay_for(1));
                            updates.extend(cache.on_failure(check.entry, error));
                        }
                        result => updates.extend(cache.on_result(check.entry, result)),
                    }
                }
            }
            // The policies of one caller timed out: check each caller alone to find out which.
            Err(PgError::StatementTimeout(_)) if queue != QueueKind::Isolated => {
                checks.iter().for_each(|check| cache.isolate(check.entry));
            }
            Err(error) => {
                let reason = AuthorizationError::from(&error);
                tracing::warn!(error = %ErrorChain(&error), "channel authorization check failed");
                // A timeout of one caller's policies must not delay the others.
                if reason != AuthorizationError::QueryCanceled {
                    self.not_before = Some(Instant::now() + self.backoff.next_delay());
                }
                for check in checks {
                    updates.extend(cache.on_failure(check.entry, reason));
                }
            }
        }
        drop(cache);
        Shared::notify(updates);
        self.shared.cache.lock().mark_settled(&entries);
        self.shared.rechecks_done.notify_waiters();
    }
}

/// Whether the check failed because `realtime.messages` has no partition for its rows.
fn lacks_partition(results: &Result<Vec<Result<ProbeResult, ProbeFailure>>, PgError>) -> bool {
    match results {
        Ok(results) => results.contains(&Err(ProbeFailure::NoPartition)),
        Err(error) => matches!(error, PgError::CheckViolation(_)),
    }
}

fn to_probe(check: &RightsCheck) -> RightsProbe<'_> {
    let principal = &check.key.principal;
    RightsProbe {
        topic: &check.key.topic,
        role: principal.role.as_str(),
        sub: principal.sub.as_deref(),
        claims: &principal.claims,
        headers: &principal.headers,
        read: check.read,
        write: check.write,
    }
}
