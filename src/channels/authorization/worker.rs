//! The task that asks the policies.
//!
//! Whoever waits while a question is under way becomes the next batch, so a single join takes one round trip and a storm
//! of them few. Joins come before re-checks, and re-checks leave a connection to them. A batch that does not come to an
//! end is asked again one by one, so that a policy that sleeps holds up nobody but its caller.

use std::{sync::Arc, time::Duration};

use rand::Rng;
use tokio::{
    select,
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    AuthorizationError, Authorizer,
    authorizer::Shared,
    cache::{AuthorizationCache, EntryId, QueueKind, RightsCheck},
    policy_poller::PolicyPoller,
};
use crate::{
    channels::broadcast_from_db::partitions,
    pg::{
        AUTHORIZATION_CONNECTIONS, Database, PgError,
        listener::{AUTHORIZATION, NotificationHandler},
        queries::rights::{self, ProbeFailure, ProbeResult, RightsProbe},
    },
    telemetry::metric,
};

/// Callers in one question. One takes about 50 microseconds of the database's time.
const CHECK_BATCH_SIZE: usize = 32;
/// How long a question about many may take; over it its callers are asked one by one, and each may take longer.
const BATCH_TIMEOUT: Duration = Duration::from_millis(500);
const ISOLATED_TIMEOUT: Duration = Duration::from_secs(1);
/// Beyond that the connection is given up.
const CONNECTION_GRACE: Duration = Duration::from_secs(2);
/// Questions under way at once, by line: each of those alone may have a connection for long, so they have their own.
const MAX_ISOLATED_CHECKS: usize = 2;
const MAX_BATCHES: usize = AUTHORIZATION_CONNECTIONS - MAX_ISOLATED_CHECKS;
const MAX_RECHECK_BATCHES: usize = MAX_BATCHES - 1;
/// A round of re-checks may take half of the time at most: where changes never end, the pause after one is as long as the
/// round was, up to this.
const MAX_ROUND_PAUSE: Duration = Duration::from_millis(100);
/// Between attempts on a database that fails: doubling, with jitter.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Makes an authorizer, the task behind it, and what the listener tells it.
#[must_use]
pub fn authorizer(database: Database) -> (Authorizer, AuthorizationWorker, AuthorizationNotifications) {
    let shared = Arc::new(Shared {
        cache: AuthorizationCache::default().into(),
        wake: Notify::new(),
        rechecks_done: Notify::new(),
    });
    let asker = AuthorizationWorker {
        database,
        shared: shared.clone(),
        running: JoinSet::new(),
        join_batches: 0,
        recheck_batches: 0,
        isolated_checks: 0,
        round: None,
        not_before: None,
        backoff: INITIAL_BACKOFF,
    };
    let ears = AuthorizationNotifications(shared.clone());
    (Authorizer { shared }, asker, ears)
}

/// The listener's end: hears that answers became void.
pub struct AuthorizationNotifications(Arc<Shared>);

impl NotificationHandler for AuthorizationNotifications {
    fn on_notification(&self, channel: &str, payload: &str) {
        if channel != AUTHORIZATION {
            return;
        }
        // `<ms>|<what>|<traces>`; what cannot be read names everybody.
        let traces = payload.splitn(3, '|').nth(2).unwrap_or_default().split(',');
        let traces: Vec<u32> = traces.filter_map(|trace| u32::from_str_radix(trace, 16).ok()).collect();
        self.0.cache.lock().invalidate(&traces);
        self.0.wake.notify_one();
    }

    fn on_connected(&self) {
        self.0.cache.lock().on_connected();
        self.0.wake.notify_one();
    }

    fn on_disconnected(&self) {
        self.0.cache.lock().on_disconnected();
    }
}

/// What came back, and what was asked.
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
    /// When the round of re-checks began that is under way, or when the next may begin.
    round: Option<RecheckRound>,
    /// The database failed a moment ago: nobody is re-checked before this.
    not_before: Option<Instant>,
    backoff: Duration,
}

enum RecheckRound {
    RunningSince(Instant),
    PauseUntil(Instant),
}

impl AuthorizationWorker {
    /// Asks until stopped.
    pub async fn run(self, stop: CancellationToken) {
        // The lookout may wait for the database; whoever joins must not wait for it.
        let lookout = PolicyPoller::new(self.database.clone(), self.shared.clone());
        select! {
            () = stop.cancelled() => {}
            () = self.run_worker() => {}
            () = lookout.run() => {}
        }
    }

    async fn run_worker(mut self) {
        loop {
            let pause = self.recheck_pause_until();
            select! {
                () = self.shared.wake.notified() => {}
                Some(asked) = self.running.join_next(), if !self.running.is_empty() => match asked {
                    Ok(asked) => self.on_batch_done(asked),
                    // A panic would leave its callers waiting for ever, and with them every later one.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {}
            }
            self.dispatch();
        }
    }

    /// Until when re-checks have to wait, if they do.
    fn recheck_pause_until(&self) -> Option<Instant> {
        let round = match self.round {
            Some(RecheckRound::PauseUntil(until)) => Some(until),
            _ => None,
        };
        round.max(self.not_before).filter(|_| {
            let verdicts = self.shared.cache.lock();
            verdicts.is_round_due() || verdicts.has_pending(QueueKind::Rechecks)
        })
    }

    fn dispatch(&mut self) {
        let shared = self.shared.clone();
        let mut verdicts = shared.cache.lock();
        while self.join_batches + self.recheck_batches < MAX_BATCHES && verdicts.has_pending(QueueKind::Joins)
        {
            let questions = verdicts.take_batch(QueueKind::Joins, CHECK_BATCH_SIZE);
            self.join_batches += usize::from(self.spawn_batch(QueueKind::Joins, questions));
        }
        while self.isolated_checks < MAX_ISOLATED_CHECKS && verdicts.has_pending(QueueKind::Isolated) {
            let questions = verdicts.take_batch(QueueKind::Isolated, 1);
            self.isolated_checks += usize::from(self.spawn_batch(QueueKind::Isolated, questions));
        }
        let now = Instant::now();
        if self.not_before.is_some_and(|at| at > now) {
            return;
        }
        self.not_before = None;
        if matches!(self.round, Some(RecheckRound::PauseUntil(until)) if until <= now) {
            self.round = None;
        }
        if self.round.is_none() && verdicts.begin_round() {
            self.round = Some(RecheckRound::RunningSince(now));
        }
        while self.recheck_batches < MAX_RECHECK_BATCHES
            && self.join_batches + self.recheck_batches < MAX_BATCHES
            && verdicts.has_pending(QueueKind::Rechecks)
        {
            let questions = verdicts.take_batch(QueueKind::Rechecks, CHECK_BATCH_SIZE);
            self.recheck_batches += usize::from(self.spawn_batch(QueueKind::Rechecks, questions));
        }
        if let Some(RecheckRound::RunningSince(since)) = self.round
            && self.recheck_batches == 0
            && !verdicts.has_pending(QueueKind::Rechecks)
        {
            self.round = Some(RecheckRound::PauseUntil(now + since.elapsed().min(MAX_ROUND_PAUSE)));
        }
        metrics::gauge!(metric::CHANNEL_AUTHORIZATION_SUBSCRIPTIONS).set(verdicts.subscribed() as f64);
    }

    /// Sends a question off; false where there is nobody to ask about.
    fn spawn_batch(&mut self, line: QueueKind, questions: Vec<RightsCheck>) -> bool {
        if questions.is_empty() {
            return false;
        }
        let why = if line == QueueKind::Joins { "join" } else { "recheck" };
        metrics::counter!(metric::CHANNEL_AUTHORIZATION_CHECKS, "why" => why)
            .increment(questions.len() as u64);
        let limit = if line == QueueKind::Isolated { ISOLATED_TIMEOUT } else { BATCH_TIMEOUT };
        let database = self.database.clone();
        self.running.spawn(async move {
            let started = Instant::now();
            let probes: Vec<RightsProbe<'_>> = questions.iter().map(to_probe).collect();
            let ask = async || {
                timeout(limit + CONNECTION_GRACE, rights::probe(&database, limit, &probes))
                    .await
                    .unwrap_or_else(|_| Err(PgError::Unavailable("no answer in time".into())))
            };
            let mut answer = ask().await;
            if lacks_partition(&answer) && partitions::maintain(&database).await {
                answer = ask().await;
            }
            metrics::histogram!(metric::CHANNEL_AUTHORIZATION_CHECK_SECONDS)
                .record(started.elapsed().as_secs_f64());
            CompletedBatch { queue: line, checks: questions, results: answer }
        });
        true
    }

    fn on_batch_done(
        &mut self,
        CompletedBatch { queue: line, checks: questions, results: answer }: CompletedBatch,
    ) {
        match line {
            QueueKind::Joins => self.join_batches -= 1,
            QueueKind::Rechecks => self.recheck_batches -= 1,
            QueueKind::Isolated => self.isolated_checks -= 1,
        }
        let mut news = Vec::new();
        let asked: Vec<EntryId> = questions.iter().map(|question| question.entry).collect();
        let mut verdicts = self.shared.cache.lock();
        match answer {
            Ok(answers) => {
                self.backoff = INITIAL_BACKOFF;
                for (question, answer) in questions.into_iter().zip(answers) {
                    match answer.map_err(AuthorizationError::from) {
                        // Nothing was learnt of the policies.
                        Err(error) if error.is_transient() => {
                            self.not_before = Some(Instant::now() + INITIAL_BACKOFF);
                            news.extend(verdicts.on_failure(question.entry, error));
                        }
                        answer => {
                            if let Err(error @ AuthorizationError::Policy(_)) = answer {
                                tracing::warn!(topic = %question.key.topic, %error, "RlsPolicyError");
                            }
                            news.extend(verdicts.on_result(question.entry, answer));
                        }
                    }
                }
            }
            // Somebody's policies did not come to an end: each is asked alone to find out whose.
            Err(PgError::StatementTimeout(_)) if line != QueueKind::Isolated => {
                questions.iter().for_each(|question| verdicts.isolate(question.entry));
            }
            Err(error) => {
                let reason = AuthorizationError::from(&error);
                tracing::warn!(error = ?error, "could not ask the policies of private channels");
                // One caller's policies are no reason to let the others wait.
                if reason != AuthorizationError::QueryCanceled {
                    let pause = self.backoff.mul_f64(rand::rng().random_range(0.5..1.0));
                    self.not_before = Some(Instant::now() + pause);
                    self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
                }
                for question in questions {
                    news.extend(verdicts.on_failure(question.entry, reason));
                }
            }
        }
        drop(verdicts);
        Shared::notify(news);
        self.shared.cache.lock().mark_settled(&asked);
        self.shared.rechecks_done.notify_waiters();
    }
}

/// Whether there was no partition for the rows of the probe.
fn lacks_partition(answer: &Result<Vec<Result<ProbeResult, ProbeFailure>>, PgError>) -> bool {
    match answer {
        Ok(answers) => answers.contains(&Err(ProbeFailure::NoPartition)),
        Err(error) => matches!(error, PgError::CheckViolation(_)),
    }
}

fn to_probe(question: &RightsCheck) -> RightsProbe<'_> {
    let claimant = &question.key.principal;
    RightsProbe {
        topic: &question.key.topic,
        role: &claimant.role,
        sub: claimant.sub.as_deref(),
        claims: &claimant.claims,
        headers: &claimant.headers,
        read: question.read,
        write: question.write,
    }
}
