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

use super::rls_query::RlsQuery;
use crate::{
    channels::ChannelPrincipal,
    pg::{Connector, PgError},
    telemetry::metric,
};

const SET_IDENTITY_SQL: &str = include_str!("../../../sql/changes/become.sql");
/// Plans are made once a role and table; see `sql/node/plan_once.sql`.
const PLAN_ONCE_SQL: &str = include_str!("../../../sql/node/plan_once.sql");
/// Questions under way on one connection. `join_all` polls so many in order, which the pipeline relies on.
const PIPELINE_DEPTH: usize = 24;
/// Statements kept by one connection; over it all are forgotten.
const MAX_STATEMENTS: usize = 500;

/// A table whose rows are asked about.
#[derive(Debug, Clone)]
pub struct CheckedTable {
    /// Its name, quoted.
    pub qualified_name: String,
    /// The ways to ask about its rows, the best first.
    pub queries: Vec<RlsQuery>,
}

/// Which of some rows of a table somebody sees.
#[derive(Debug, Clone)]
pub struct RlsCheck {
    /// Who.
    pub principal: Arc<ChannelPrincipal>,
    /// The place of the table among those asked about.
    pub table_index: usize,
    /// Places of rows in the table.
    pub rows: Vec<usize>,
}

/// What became of a question.
#[derive(Debug, Clone, Default)]
pub struct RlsCheckResult {
    /// The rows that are seen.
    pub visible_rows: Vec<usize>,
    /// The policies took too long: nothing is known.
    pub timed_out: bool,
    /// A policy raised for some rows, which are not seen: what it said.
    pub error: Option<String>,
}

/// Connections for questions.
pub struct RlsExecutor {
    connector: Connector,
    connections: Vec<RlsConnection>,
    /// The longest that one question may take.
    query_timeout: Duration,
}

#[derive(Default)]
struct RlsConnection {
    client: Option<Client>,
    set_identity: Option<Statement>,
    statements: HashMap<(Arc<str>, Box<str>), Statement>,
}

/// What is sent for a question: some rows, by one probe.
struct RlsQueryCall<'a> {
    principal: &'a ChannelPrincipal,
    query: &'a RlsQuery,
    /// The place of the question.
    check_index: usize,
    rows: Vec<usize>,
}

/// What came back.
enum QueryOutcome {
    /// The rows that are seen.
    Visible(Vec<usize>),
    TimedOut,
    Failed(String),
    /// The table is gone, or not what it was.
    Unusable,
}

impl RlsExecutor {
    /// So many connections, opened when they are needed.
    #[must_use]
    pub fn new(connector: Connector, lanes: usize, limit: Duration) -> Self {
        Self {
            connector,
            connections: (0..lanes).map(|_| RlsConnection::default()).collect(),
            query_timeout: limit,
        }
    }

    /// Asks everything, and answers in the order of the questions.
    ///
    /// # Errors
    /// When the database is out of reach; then nothing is known.
    pub async fn run_checks(
        &mut self,
        tables: &[CheckedTable],
        questions: &[RlsCheck],
    ) -> Result<Vec<RlsCheckResult>, PgError> {
        let started = Instant::now();
        let share = questions.len().div_ceil(self.connections.len()).max(1);
        let (connector, limit) = (&self.connector, self.query_timeout);
        let mut asked: Vec<BoxFuture<'_, Result<Vec<RlsCheckResult>, PgError>>> =
            Vec::with_capacity(self.connections.len());
        for (lane, part) in self.connections.iter_mut().zip(questions.chunks(share)) {
            asked.push(lane.run_checks(connector, limit, tables, part).boxed());
        }
        let mut all = Vec::with_capacity(questions.len());
        for part in join_all(asked).await {
            all.extend(part?);
        }
        metrics::histogram!(metric::RLS_QUERY).record(started.elapsed().as_secs_f64());
        Ok(all)
    }
}

impl RlsConnection {
    async fn run_checks(
        &mut self,
        connector: &Connector,
        limit: Duration,
        tables: &[CheckedTable],
        questions: &[RlsCheck],
    ) -> Result<Vec<RlsCheckResult>, PgError> {
        let mut answers = vec![RlsCheckResult::default(); questions.len()];
        // Of each question the rows that have not been answered.
        let mut open: Vec<Vec<usize>> = questions.iter().map(|question| question.rows.clone()).collect();
        let rounds = tables.iter().map(|table| table.queries.len()).max().unwrap_or(0);
        for round in 0..rounds {
            let mut asks = Vec::new();
            for (at, question) in questions.iter().enumerate() {
                let Some(probe) = tables[question.table_index].queries.get(round) else { continue };
                let rows: Vec<usize> = open[at].iter().copied().filter(|row| probe.covers(*row)).collect();
                if !rows.is_empty() && !answers[at].timed_out {
                    asks.push(RlsQueryCall {
                        principal: &question.principal,
                        query: probe,
                        check_index: at,
                        rows,
                    });
                }
            }
            let outcomes = self.run_queries(connector, limit, &asks).await?;
            for (ask, outcome) in asks.iter().zip(outcomes) {
                let answer = &mut answers[ask.check_index];
                match outcome {
                    QueryOutcome::Visible(seen) => {
                        answer.visible_rows.extend(seen);
                        answer.error = None;
                        open[ask.check_index].retain(|row| !ask.query.covers(*row));
                    }
                    QueryOutcome::TimedOut => answer.timed_out = true,
                    QueryOutcome::Failed(trouble) => answer.error = Some(trouble),
                    QueryOutcome::Unusable => {}
                }
            }
        }
        // Who raised for all rows together is asked about each, so that the others are told.
        let mut singles = Vec::new();
        for (at, question) in questions.iter().enumerate() {
            if answers[at].error.is_none() || question.rows.len() < 2 {
                continue;
            }
            for row in &open[at] {
                let probes = tables[question.table_index].queries.iter().rev();
                if let Some(probe) = probes.into_iter().find(|probe| probe.covers(*row)) {
                    singles.push(RlsQueryCall {
                        principal: &question.principal,
                        query: probe,
                        check_index: at,
                        rows: vec![*row],
                    });
                }
            }
        }
        let outcomes = self.run_queries(connector, limit, &singles).await?;
        for (ask, outcome) in singles.iter().zip(outcomes) {
            match outcome {
                QueryOutcome::Visible(seen) => answers[ask.check_index].visible_rows.extend(seen),
                QueryOutcome::TimedOut => answers[ask.check_index].timed_out = true,
                QueryOutcome::Failed(_) | QueryOutcome::Unusable => {}
            }
        }
        Ok(answers)
    }

    async fn run_queries(
        &mut self,
        connector: &Connector,
        limit: Duration,
        asks: &[RlsQueryCall<'_>],
    ) -> Result<Vec<QueryOutcome>, PgError> {
        let mut outcomes = Vec::with_capacity(asks.len());
        let mut refused = HashSet::new();
        for window in asks.chunks(PIPELINE_DEPTH) {
            let most = limit * u32::try_from(window.len() + 1).unwrap_or(u32::MAX);
            let answered = timeout(most, self.run_pipelined(connector, limit, window, &mut refused)).await;
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
    async fn run_pipelined(
        &mut self,
        connector: &Connector,
        limit: Duration,
        window: &[RlsQueryCall<'_>],
        refused: &mut HashSet<(Arc<str>, Box<str>)>,
    ) -> Result<Vec<QueryOutcome>, PgError> {
        let client = match &self.client {
            Some(client) if !client.is_closed() => client,
            _ => {
                let client = connector.client("changes").await?;
                let limit = format!("set statement_timeout = {}; {PLAN_ONCE_SQL}", limit.as_millis());
                client.batch_execute(&limit).await?;
                self.statements.clear();
                self.set_identity = Some(
                    client
                        .prepare_typed(SET_IDENTITY_SQL, &[PgType::TEXT, PgType::TEXT, PgType::TEXT])
                        .await?,
                );
                self.client.insert(client)
            }
        };
        let Some(become_somebody) = &self.set_identity else {
            return Err(PgError::Unavailable("a connection without its statement".into()));
        };
        if self.statements.len() > MAX_STATEMENTS {
            self.statements.clear();
        }
        let keys: Vec<_> = window
            .iter()
            .map(|ask| (Arc::clone(ask.query.statement()), ask.principal.role.clone()))
            .collect();
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
        let mut asked: Vec<BoxFuture<'_, Result<QueryOutcome, PgError>>> = Vec::with_capacity(window.len());
        for (ask, key) in window.iter().zip(&keys) {
            let statement = self.statements.get(key);
            asked.push(run_query(client, become_somebody, ask, statement).boxed());
        }
        join_all(asked).await.into_iter().collect()
    }
}

/// Becomes the claimant and asks, without waiting for the first answer before the second question.
async fn run_query(
    client: &Client,
    become_somebody: &Statement,
    ask: &RlsQueryCall<'_>,
    statement: Option<&Statement>,
) -> Result<QueryOutcome, PgError> {
    let Some(statement) = statement else { return Ok(QueryOutcome::Unusable) };
    let claimant = ask.principal;
    let sub = claimant.sub.as_deref().unwrap_or_default();
    let (role, claims) = (&*claimant.role, &*claimant.claims);
    let identity: [&(dyn ToSql + Sync); 3] = [&role, &claims, &sub];
    let places = ask.query.tuple_indexes(&ask.rows);
    let columns = ask.query.column_values(&places);
    let mut params: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(1 + columns.len());
    params.push(&places);
    params.extend(columns.iter().map(|values| values as &(dyn ToSql + Sync)));
    let (became, found) =
        join(client.query(become_somebody, &identity), client.query(statement, &params)).await;
    // If it did not become the claimant, the second answer is somebody else's.
    query_outcome(ask, became.and(found))
}

fn query_outcome(
    ask: &RlsQueryCall<'_>,
    found: Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>,
) -> Result<QueryOutcome, PgError> {
    match found {
        Ok(rows) => {
            let places: Vec<i32> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            Ok(QueryOutcome::Visible(ask.query.rows_for(&places, &ask.rows)))
        }
        Err(error) => match error.as_db_error() {
            Some(db) if *db.code() == SqlState::QUERY_CANCELED => Ok(QueryOutcome::TimedOut),
            // Shut down or crashed: nobody's policy.
            Some(db) if !db.code().code().starts_with("57P") => {
                Ok(QueryOutcome::Failed(db.message().to_owned()))
            }
            _ => Err(error.into()),
        },
    }
}
