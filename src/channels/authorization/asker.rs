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
    lookout::Lookout,
    verdicts::{Key, Line, Question, Verdicts},
};
use crate::{
    channels::database::partitions,
    pg::{
        Database, PgError, RIGHTS_CONNECTIONS,
        listener::{Audience, RIGHTS},
        queries::rights::{self, Probe, ProbeFailure, Probed},
    },
    telemetry::metric,
};

/// Callers in one question. One takes about 50 microseconds of the database's time.
const CALLERS_A_QUESTION: usize = 32;
/// How long a question about many may take; over it its callers are asked one by one, and each may take longer.
const LIMIT: Duration = Duration::from_millis(500);
const LIMIT_ALONE: Duration = Duration::from_secs(1);
/// Beyond that the connection is given up.
const GRACE: Duration = Duration::from_secs(2);
/// Questions under way at once, by line: each of those alone may have a connection for long, so they have their own.
const MOST_ALONE: usize = 2;
const MOST_QUESTIONS: usize = RIGHTS_CONNECTIONS - MOST_ALONE;
const MOST_RECHECKS: usize = MOST_QUESTIONS - 1;
/// A round of re-checks may take half of the time at most: where changes never end, the pause after one is as long as the
/// round was, up to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// Between attempts on a database that fails: doubling, with jitter.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Makes an authorizer, the task behind it, and what the listener tells it.
#[must_use]
pub fn authorizer(database: Database) -> (Authorizer, Asker, RightsEars) {
    let shared =
        Arc::new(Shared { verdicts: Verdicts::default().into(), wake: Notify::new(), told: Notify::new() });
    let asker = Asker {
        database,
        shared: shared.clone(),
        questions: JoinSet::new(),
        joins: 0,
        rechecks: 0,
        alone: 0,
        round: None,
        not_before: None,
        retry: FIRST_RETRY,
    };
    let ears = RightsEars(shared.clone());
    (Authorizer { shared }, asker, ears)
}

/// The listener's end: hears that answers became void.
pub struct RightsEars(Arc<Shared>);

impl Audience for RightsEars {
    fn heard(&self, channel: &str, payload: &str) {
        if channel != RIGHTS {
            return;
        }
        // `<ms>|<what>|<traces>`; what cannot be read names everybody.
        let traces = payload.splitn(3, '|').nth(2).unwrap_or_default().split(',');
        let traces: Vec<u32> = traces.filter_map(|trace| u32::from_str_radix(trace, 16).ok()).collect();
        self.0.verdicts.lock().void(&traces);
        self.0.wake.notify_one();
    }

    fn listening(&self) {
        self.0.verdicts.lock().listening();
        self.0.wake.notify_one();
    }

    fn deaf(&self) {
        self.0.verdicts.lock().deaf();
    }
}

/// What came back, and what was asked.
struct Asked {
    line: Line,
    questions: Vec<Question>,
    answer: Result<Vec<Result<Probed, ProbeFailure>>, PgError>,
}

/// The task behind an [`Authorizer`].
pub struct Asker {
    database: Database,
    shared: Arc<Shared>,
    questions: JoinSet<Asked>,
    joins: usize,
    rechecks: usize,
    alone: usize,
    /// When the round of re-checks began that is under way, or when the next may begin.
    round: Option<Round>,
    /// The database failed a moment ago: nobody is re-checked before this.
    not_before: Option<Instant>,
    retry: Duration,
}

enum Round {
    Since(Instant),
    PauseUntil(Instant),
}

impl Asker {
    /// Asks until stopped.
    pub async fn run(self, stop: CancellationToken) {
        // The lookout may wait for the database; whoever joins must not wait for it.
        let lookout = Lookout::new(self.database.clone(), self.shared.clone());
        select! {
            () = stop.cancelled() => {}
            () = self.ask_for_ever() => {}
            () = lookout.run() => {}
        }
    }

    async fn ask_for_ever(mut self) {
        loop {
            let pause = self.pause();
            select! {
                () = self.shared.wake.notified() => {}
                Some(asked) = self.questions.join_next(), if !self.questions.is_empty() => match asked {
                    Ok(asked) => self.answered(asked),
                    // A panic would leave its callers waiting for ever, and with them every later one.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {}
            }
            self.ask();
        }
    }

    /// Until when re-checks have to wait, if they do.
    fn pause(&self) -> Option<Instant> {
        let round = match self.round {
            Some(Round::PauseUntil(until)) => Some(until),
            _ => None,
        };
        round.max(self.not_before).filter(|_| {
            let verdicts = self.shared.verdicts.lock();
            verdicts.wants_round() || verdicts.has(Line::Rechecks)
        })
    }

    fn ask(&mut self) {
        let shared = self.shared.clone();
        let mut verdicts = shared.verdicts.lock();
        while self.joins + self.rechecks < MOST_QUESTIONS && verdicts.has(Line::Joins) {
            let questions = verdicts.take(Line::Joins, CALLERS_A_QUESTION);
            self.joins += usize::from(self.send(Line::Joins, questions));
        }
        while self.alone < MOST_ALONE && verdicts.has(Line::Alone) {
            let questions = verdicts.take(Line::Alone, 1);
            self.alone += usize::from(self.send(Line::Alone, questions));
        }
        let now = Instant::now();
        if self.not_before.is_some_and(|at| at > now) {
            return;
        }
        self.not_before = None;
        if matches!(self.round, Some(Round::PauseUntil(until)) if until <= now) {
            self.round = None;
        }
        if self.round.is_none() && verdicts.begin_round() {
            self.round = Some(Round::Since(now));
        }
        while self.rechecks < MOST_RECHECKS
            && self.joins + self.rechecks < MOST_QUESTIONS
            && verdicts.has(Line::Rechecks)
        {
            let questions = verdicts.take(Line::Rechecks, CALLERS_A_QUESTION);
            self.rechecks += usize::from(self.send(Line::Rechecks, questions));
        }
        if let Some(Round::Since(since)) = self.round
            && self.rechecks == 0
            && !verdicts.has(Line::Rechecks)
        {
            self.round = Some(Round::PauseUntil(now + since.elapsed().min(LONGEST_PAUSE)));
        }
        metrics::gauge!(metric::RIGHTS_WATCHED).set(verdicts.watched() as f64);
    }

    /// Sends a question off; false where there is nobody to ask about.
    fn send(&mut self, line: Line, questions: Vec<Question>) -> bool {
        if questions.is_empty() {
            return false;
        }
        let why = if line == Line::Joins { "join" } else { "recheck" };
        metrics::counter!(metric::RIGHTS_ASKED, "why" => why).increment(questions.len() as u64);
        let limit = if line == Line::Alone { LIMIT_ALONE } else { LIMIT };
        let database = self.database.clone();
        self.questions.spawn(async move {
            let started = Instant::now();
            let probes: Vec<Probe<'_>> = questions.iter().map(probe).collect();
            let ask = async || {
                timeout(limit + GRACE, rights::probe(&database, limit, &probes))
                    .await
                    .unwrap_or_else(|_| Err(PgError::Unavailable("no answer in time".into())))
            };
            let mut answer = ask().await;
            if lacks_partition(&answer) && partitions::keep(&database).await {
                answer = ask().await;
            }
            metrics::histogram!(metric::RIGHTS_PROBE).record(started.elapsed().as_secs_f64());
            Asked { line, questions, answer }
        });
        true
    }

    fn answered(&mut self, Asked { line, questions, answer }: Asked) {
        match line {
            Line::Joins => self.joins -= 1,
            Line::Rechecks => self.rechecks -= 1,
            Line::Alone => self.alone -= 1,
        }
        let mut news = Vec::new();
        let asked: Vec<Key> = questions.iter().map(|question| question.key).collect();
        let mut verdicts = self.shared.verdicts.lock();
        match answer {
            Ok(answers) => {
                self.retry = FIRST_RETRY;
                for (question, answer) in questions.into_iter().zip(answers) {
                    match answer.map_err(AuthorizationError::from) {
                        // Nothing was learnt of the policies.
                        Err(error) if error.is_transient() => {
                            self.not_before = Some(Instant::now() + FIRST_RETRY);
                            news.extend(verdicts.failed(question.key, error));
                        }
                        answer => {
                            if let Err(error @ AuthorizationError::Policy(_)) = answer {
                                tracing::warn!(topic = %question.pair.topic, %error, "RlsPolicyError");
                            }
                            news.extend(verdicts.answered(question.key, answer));
                        }
                    }
                }
            }
            // Somebody's policies did not come to an end: each is asked alone to find out whose.
            Err(PgError::TimedOut(_)) if line != Line::Alone => {
                questions.iter().for_each(|question| verdicts.suspect(question.key));
            }
            Err(error) => {
                let reason = AuthorizationError::from(&error);
                tracing::warn!(error = ?error, "could not ask the policies of private channels");
                // One caller's policies are no reason to let the others wait.
                if reason != AuthorizationError::QueryCanceled {
                    let pause = self.retry.mul_f64(rand::rng().random_range(0.5..1.0));
                    self.not_before = Some(Instant::now() + pause);
                    self.retry = (self.retry * 2).min(LAST_RETRY);
                }
                for question in questions {
                    news.extend(verdicts.failed(question.key, reason));
                }
            }
        }
        drop(verdicts);
        Shared::tell(news);
        self.shared.verdicts.lock().settle(&asked);
        self.shared.told.notify_waiters();
    }
}

/// Whether there was no partition for the rows of the probe.
fn lacks_partition(answer: &Result<Vec<Result<Probed, ProbeFailure>>, PgError>) -> bool {
    match answer {
        Ok(answers) => answers.contains(&Err(ProbeFailure::NoPartition)),
        Err(error) => matches!(error, PgError::Violation(_)),
    }
}

fn probe(question: &Question) -> Probe<'_> {
    let claimant = &question.pair.claimant;
    Probe {
        topic: &question.pair.topic,
        role: &claimant.role,
        sub: claimant.sub.as_deref(),
        claims: &claimant.claims,
        headers: &claimant.headers,
        read: question.read,
        write: question.write,
    }
}
