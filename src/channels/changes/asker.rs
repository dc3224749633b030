//! Asking row-level security which rows a claimant sees, as that claimant.
//!
//! Each question is a transaction of its own on a connection that does nothing else, so a policy that raises or does
//! not end is its claimant's trouble alone. Questions are pipelined, their statements planned once a role, and a question
//! is about all rows of a table at once: what costs is the question, not the row. How rows are asked about is a
//! [`Probe`]'s matter; where one does not answer, the next is tried.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, join, join_all},
};
use tokio::time::timeout;
use tokio_postgres::{
    Client, Statement,
    error::SqlState,
    types::{ToSql, Type as PgType},
};

use super::probe::Probe;
use crate::{
    channels::Claimant,
    pg::{Connector, PgError},
    telemetry::metric,
};

const BECOME: &str = include_str!("../../../sql/changes/become.sql");
/// Plans are made once a role and table; see `sql/node/plan_once.sql`.
const PLAN_ONCE: &str = include_str!("../../../sql/node/plan_once.sql");
/// Questions under way on one connection. `join_all` polls so many in order, which the pipeline relies on.
const WINDOW: usize = 24;
/// Statements kept by one connection; over it all are forgotten.
const MOST_STATEMENTS: usize = 500;

/// A table whose rows are asked about.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name, quoted.
    pub qualified: String,
    /// The ways to ask about its rows, the best first.
    pub probes: Vec<Probe>,
}

/// Which of some rows of a table somebody sees.
#[derive(Debug, Clone)]
pub struct Question {
    /// Who.
    pub claimant: Arc<Claimant>,
    /// The place of the table among those asked about.
    pub table: usize,
    /// Places of rows in the table.
    pub rows: Vec<usize>,
}

/// What became of a question.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The rows that are seen.
    pub seen: Vec<usize>,
    /// The policies took too long: nothing is known.
    pub is_late: bool,
    /// A policy raised for some rows, which are not seen: what it said.
    pub trouble: Option<String>,
}

/// Connections for questions.
pub struct Askers {
    connector: Connector,
    lanes: Vec<Lane>,
    /// The longest that one question may take.
    limit: Duration,
}

#[derive(Default)]
struct Lane {
    client: Option<Client>,
    become_somebody: Option<Statement>,
    statements: HashMap<(Arc<str>, Box<str>), Statement>,
}

/// What is sent for a question: some rows, by one probe.
struct Ask<'a> {
    claimant: &'a Claimant,
    probe: &'a Probe,
    /// The place of the question.
    question: usize,
    rows: Vec<usize>,
}

/// What came back.
enum Outcome {
    /// The rows that are seen.
    Seen(Vec<usize>),
    Late,
    Raised(String),
    /// The table is gone, or not what it was.
    Pointless,
}

impl Askers {
    /// So many connections, opened when they are needed.
    #[must_use]
    pub fn new(connector: Connector, lanes: usize, limit: Duration) -> Self {
        Self { connector, lanes: (0..lanes).map(|_| Lane::default()).collect(), limit }
    }

    /// Asks everything, and answers in the order of the questions.
    ///
    /// # Errors
    /// When the database is out of reach; then nothing is known.
    pub async fn ask(&mut self, tables: &[Table], questions: &[Question]) -> Result<Vec<Answer>, PgError> {
        let started = Instant::now();
        let share = questions.len().div_ceil(self.lanes.len()).max(1);
        let (connector, limit) = (&self.connector, self.limit);
        let mut asked: Vec<BoxFuture<'_, Result<Vec<Answer>, PgError>>> =
            Vec::with_capacity(self.lanes.len());
        for (lane, part) in self.lanes.iter_mut().zip(questions.chunks(share)) {
            asked.push(lane.ask(connector, limit, tables, part).boxed());
        }
        let mut all = Vec::with_capacity(questions.len());
        for part in join_all(asked).await {
            all.extend(part?);
        }
        metrics::histogram!(metric::RLS_QUERY).record(started.elapsed().as_secs_f64());
        Ok(all)
    }
}

impl Lane {
    async fn ask(
        &mut self,
        connector: &Connector,
        limit: Duration,
        tables: &[Table],
        questions: &[Question],
    ) -> Result<Vec<Answer>, PgError> {
        let mut answers = vec![Answer::default(); questions.len()];
        // Of each question the rows that have not been answered.
        let mut open: Vec<Vec<usize>> = questions.iter().map(|question| question.rows.clone()).collect();
        let rounds = tables.iter().map(|table| table.probes.len()).max().unwrap_or(0);
        for round in 0..rounds {
            let mut asks = Vec::new();
            for (at, question) in questions.iter().enumerate() {
                let Some(probe) = tables[question.table].probes.get(round) else { continue };
                let rows: Vec<usize> = open[at].iter().copied().filter(|row| probe.knows(*row)).collect();
                if !rows.is_empty() && !answers[at].is_late {
                    asks.push(Ask { claimant: &question.claimant, probe, question: at, rows });
                }
            }
            let outcomes = self.ask_all(connector, limit, &asks).await?;
            for (ask, outcome) in asks.iter().zip(outcomes) {
                let answer = &mut answers[ask.question];
                match outcome {
                    Outcome::Seen(seen) => {
                        answer.seen.extend(seen);
                        answer.trouble = None;
                        open[ask.question].retain(|row| !ask.probe.knows(*row));
                    }
                    Outcome::Late => answer.is_late = true,
                    Outcome::Raised(trouble) => answer.trouble = Some(trouble),
                    Outcome::Pointless => {}
                }
            }
        }
        // Who raised for all rows together is asked about each, so that the others are told.
        let mut singles = Vec::new();
        for (at, question) in questions.iter().enumerate() {
            if answers[at].trouble.is_none() || question.rows.len() < 2 {
                continue;
            }
            for row in &open[at] {
                let probes = tables[question.table].probes.iter().rev();
                if let Some(probe) = probes.into_iter().find(|probe| probe.knows(*row)) {
                    singles.push(Ask { claimant: &question.claimant, probe, question: at, rows: vec![*row] });
                }
            }
        }
        let outcomes = self.ask_all(connector, limit, &singles).await?;
        for (ask, outcome) in singles.iter().zip(outcomes) {
            match outcome {
                Outcome::Seen(seen) => answers[ask.question].seen.extend(seen),
                Outcome::Late => answers[ask.question].is_late = true,
                Outcome::Raised(_) | Outcome::Pointless => {}
            }
        }
        Ok(answers)
    }

    async fn ask_all(
        &mut self,
        connector: &Connector,
        limit: Duration,
        asks: &[Ask<'_>],
    ) -> Result<Vec<Outcome>, PgError> {
        let mut outcomes = Vec::with_capacity(asks.len());
        let mut refused = HashSet::new();
        for window in asks.chunks(WINDOW) {
            let most = limit * u32::try_from(window.len() + 1).unwrap_or(u32::MAX);
            let answered = timeout(most, self.pipeline(connector, limit, window, &mut refused)).await;
            let answered =
                answered.unwrap_or_else(|_| Err(PgError::Unavailable("it did not answer in time".into())));
            if answered.is_err() {
                // Whatever state it is in: the next question opens another.
                *self = Self::default();
            }
            outcomes.extend(answered?);
        }
        Ok(outcomes)
    }

    /// `refused` are statements that could not be prepared.
    async fn pipeline(
        &mut self,
        connector: &Connector,
        limit: Duration,
        window: &[Ask<'_>],
        refused: &mut HashSet<(Arc<str>, Box<str>)>,
    ) -> Result<Vec<Outcome>, PgError> {
        let client = match &self.client {
            Some(client) if !client.is_closed() => client,
            _ => {
                let client = connector.client("changes").await?;
                let limit = format!("set statement_timeout = {}; {PLAN_ONCE}", limit.as_millis());
                client.batch_execute(&limit).await?;
                self.statements.clear();
                self.become_somebody =
                    Some(client.prepare_typed(BECOME, &[PgType::TEXT, PgType::TEXT, PgType::TEXT]).await?);
                self.client.insert(client)
            }
        };
        let Some(become_somebody) = &self.become_somebody else {
            return Err(PgError::Unavailable("a connection without its statement".into()));
        };
        if self.statements.len() > MOST_STATEMENTS {
            self.statements.clear();
        }
        let keys: Vec<_> =
            window.iter().map(|ask| (Arc::clone(ask.probe.statement()), ask.claimant.role.clone())).collect();
        if keys.iter().any(|key| !self.statements.contains_key(key) && !refused.contains(key)) {
            // Names are looked up as the server: the last claimant may not even see the schema.
            client.batch_execute("reset role").await?;
        }
        for key in &keys {
            if !self.statements.contains_key(key) && !refused.contains(key) {
                // One for each role, because it is planned for the role that runs it.
                match client.prepare(&key.0).await {
                    Ok(statement) => {
                        self.statements.insert(key.clone(), statement);
                    }
                    Err(error) if error.code().is_some() => {
                        tracing::debug!(%error, statement = &*key.0, "rows cannot be asked about in this way");
                        refused.insert(key.clone());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let mut asked: Vec<BoxFuture<'_, Result<Outcome, PgError>>> = Vec::with_capacity(window.len());
        for (ask, key) in window.iter().zip(&keys) {
            let statement = self.statements.get(key);
            asked.push(ask_one(client, become_somebody, ask, statement).boxed());
        }
        join_all(asked).await.into_iter().collect()
    }
}

/// Becomes the claimant and asks, without waiting for the first answer before the second question.
async fn ask_one(
    client: &Client,
    become_somebody: &Statement,
    ask: &Ask<'_>,
    statement: Option<&Statement>,
) -> Result<Outcome, PgError> {
    let Some(statement) = statement else { return Ok(Outcome::Pointless) };
    let claimant = ask.claimant;
    let sub = claimant.sub.as_deref().unwrap_or_default();
    let (role, claims) = (&*claimant.role, &*claimant.claims);
    let identity: [&(dyn ToSql + Sync); 3] = [&role, &claims, &sub];
    let places = ask.probe.places(&ask.rows);
    let columns = ask.probe.columns(&places);
    let mut params: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(1 + columns.len());
    params.push(&places);
    params.extend(columns.iter().map(|values| values as &(dyn ToSql + Sync)));
    let (became, found) =
        join(client.query(become_somebody, &identity), client.query(statement, &params)).await;
    // If it did not become the claimant, the second answer is somebody else's.
    outcome(ask, became.and(found))
}

fn outcome(
    ask: &Ask<'_>,
    found: Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>,
) -> Result<Outcome, PgError> {
    match found {
        Ok(rows) => {
            let places: Vec<i32> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            Ok(Outcome::Seen(ask.probe.rows_at(&places, &ask.rows)))
        }
        Err(error) => match error.as_db_error() {
            Some(db) if *db.code() == SqlState::QUERY_CANCELED => Ok(Outcome::Late),
            // Shut down or crashed: nobody's policy.
            Some(db) if !db.code().code().starts_with("57P") => Ok(Outcome::Raised(db.message().to_owned())),
            _ => Err(error.into()),
        },
    }
}
