//! Runs row-level security checks as the principal.
//!
//! Each query is its own transaction on a dedicated connection, so a policy that raises an error or does not return
//! affects only its principal. Queries are pipelined and prepared once per role. A query covers all rows of a table,
//! because its cost does not depend on the number of rows. If an [`RowQuery`] fails for a row, the next one is tried.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all, join3, ready},
};
use tokio::time::timeout;
use tokio_postgres::{
    Client, Statement,
    error::SqlState,
    types::{ToSql, Type as PgType},
};

use super::query::RowQuery;
use crate::{
    auth::{Principal, Role},
    lifecycle::ErrorChain,
    pg::{Connector, PgError},
    telemetry::metric,
};

const SET_IDENTITY_SQL: &str = include_str!("../../../../sql/changes/become.sql");
/// Plans are made once per role and table; see `sql/node/plan_once.sql`.
const PLAN_ONCE_SQL: &str = include_str!("../../../../sql/node/plan_once.sql");
/// Maximum number of queries in flight on one connection. `join_all` polls this many futures in order, which
/// pipelining relies on.
const PIPELINE_DEPTH: usize = 24;
/// Number of rows that are checked alone before the timeout is checked again.
const SINGLE_ROW_CALLS: usize = 8;
/// Maximum number of prepared statements per connection. Above it, the cache is cleared.
const MAX_STATEMENTS: usize = 500;

/// A table whose rows are checked.
#[derive(Debug, Clone)]
pub(crate) struct CheckedTable {
    /// Table name, schema-qualified and quoted.
    pub qualified_name: String,
    /// Queries that check rows, in order of preference.
    pub queries: Vec<RowQuery>,
}

impl CheckedTable {
    /// Bytes of the values that the queries check.
    #[must_use]
    pub(crate) fn size_bytes(&self) -> usize {
        self.queries.iter().map(RowQuery::size_bytes).sum()
    }
}

/// A check of rows of one table for one principal.
#[derive(Debug, Clone)]
pub(crate) struct RlsCheck {
    pub principal: Arc<Principal>,
    /// Index of the table in the list of checked tables.
    pub table_index: usize,
    /// Row indexes in the table.
    pub rows: Vec<usize>,
}

/// Result of a check.
#[derive(Debug, Clone, Default)]
pub(crate) struct RlsCheckResult {
    pub visible_rows: Vec<usize>,
    /// The policies exceeded the timeout; the other fields have no meaning.
    pub timed_out: bool,
    /// The error that a policy raised for some rows. These rows are not visible.
    pub error: Option<String>,
}

/// Connections for row-level security checks.
pub(crate) struct RlsExecutor {
    connector: Connector,
    connections: Vec<RlsConnection>,
    /// Maximum duration of one query.
    query_timeout: Duration,
}

#[derive(Default)]
struct RlsConnection {
    client: Option<Client>,
    set_identity: Option<Statement>,
    statements: HashMap<(Arc<str>, Role), Statement>,
}

/// One query of a check.
struct RowQueryCall<'a> {
    principal: &'a Principal,
    query: &'a RowQuery,
    /// Index of the check.
    check_index: usize,
    rows: Vec<usize>,
}

/// Result of a query.
#[derive(Debug, Clone)]
enum QueryOutcome {
    /// The rows that are visible.
    Visible(Vec<usize>),
    TimedOut,
    Failed(String),
    /// As `Failed`, by a missing privilege. Perhaps the principal may not use the schema of a function.
    Denied(String),
    /// The query could not be prepared: the table was dropped or altered.
    Unusable,
}

impl RlsExecutor {
    /// Creates an executor with `connection_count` connections, which are opened when needed.
    #[must_use]
    pub(crate) fn new(connector: Connector, connection_count: usize, query_timeout: Duration) -> Self {
        Self {
            connector,
            connections: (0..connection_count).map(|_| RlsConnection::default()).collect(),
            query_timeout,
        }
    }

    /// Closes the connections; the next check opens new ones.
    pub(crate) fn disconnect(&mut self) {
        self.connections.iter_mut().for_each(|connection| *connection = RlsConnection::default());
    }

    /// Runs all checks; returns the results in the order of the checks.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub(crate) async fn run_checks(
        &mut self,
        tables: &[Arc<CheckedTable>],
        checks: &[RlsCheck],
    ) -> Result<Vec<RlsCheckResult>, PgError> {
        let started = Instant::now();
        let checks_per_connection = checks.len().div_ceil(self.connections.len()).max(1);
        let (connector, query_timeout) = (&self.connector, self.query_timeout);
        let mut futures: Vec<BoxFuture<'_, Result<Vec<RlsCheckResult>, PgError>>> =
            Vec::with_capacity(self.connections.len());
        for (connection, part) in self.connections.iter_mut().zip(checks.chunks(checks_per_connection)) {
            futures.push(connection.run_checks(connector, query_timeout, tables, part).boxed());
        }
        let mut all = Vec::with_capacity(checks.len());
        for part in join_all(futures).await {
            all.extend(part?);
        }
        metrics::histogram!(metric::RLS_QUERY, "kind" => "postgres_changes")
            .record(started.elapsed().as_secs_f64());
        Ok(all)
    }
}

impl RlsConnection {
    async fn run_checks(
        &mut self,
        connector: &Connector,
        query_timeout: Duration,
        tables: &[Arc<CheckedTable>],
        checks: &[RlsCheck],
    ) -> Result<Vec<RlsCheckResult>, PgError> {
        let mut results = vec![RlsCheckResult::default(); checks.len()];
        // For each check, the rows without a result.
        let mut open_rows: Vec<Vec<usize>> = checks.iter().map(|check| check.rows.clone()).collect();
        // Whether the last query of a check failed by a missing privilege. Only then a function can help.
        let mut denied = vec![false; checks.len()];
        let rounds = tables.iter().map(|table| table.queries.len()).max().unwrap_or(0);
        for round in 0..rounds {
            let mut calls = Vec::new();
            for (index, check) in checks.iter().enumerate() {
                let Some(query) = tables[check.table_index].queries.get(round) else { continue };
                if query.function().is_some() && !denied[index] {
                    continue;
                }
                let rows: Vec<usize> =
                    open_rows[index].iter().copied().filter(|row| query.covers(*row)).collect();
                if !rows.is_empty() && !results[index].timed_out {
                    calls.push(RowQueryCall { principal: &check.principal, query, check_index: index, rows });
                }
            }
            let outcomes = self.run_queries(connector, query_timeout, &calls).await?;
            for (call, outcome) in calls.iter().zip(outcomes) {
                let result = &mut results[call.check_index];
                match outcome {
                    QueryOutcome::Visible(visible) => {
                        result.visible_rows.extend(visible);
                        result.error = None;
                        open_rows[call.check_index].retain(|row| !call.query.covers(*row));
                    }
                    QueryOutcome::TimedOut => result.timed_out = true,
                    QueryOutcome::Failed(error) => {
                        result.error = Some(error);
                        denied[call.check_index] = false;
                    }
                    QueryOutcome::Denied(error) => {
                        result.error = Some(error);
                        denied[call.check_index] = true;
                    }
                    QueryOutcome::Unusable => {}
                }
            }
        }
        // If a query for several rows raised an error, each row is checked alone so that the others are delivered.
        let mut single_row_calls = Vec::new();
        for (index, check) in checks.iter().enumerate() {
            if results[index].error.is_none() || check.rows.len() < 2 {
                continue;
            }
            for row in &open_rows[index] {
                let queries = tables[check.table_index].queries.iter().rev();
                let usable =
                    |query: &&RowQuery| query.covers(*row) && (query.function().is_none() || denied[index]);
                if let Some(query) = queries.into_iter().find(usable) {
                    single_row_calls.push(RowQueryCall {
                        principal: &check.principal,
                        query,
                        check_index: index,
                        rows: vec![*row],
                    });
                }
            }
        }
        let started = Instant::now();
        for calls in single_row_calls.chunks(SINGLE_ROW_CALLS) {
            if started.elapsed() > query_timeout {
                calls.iter().for_each(|call| results[call.check_index].timed_out = true);
                continue;
            }
            let outcomes = self.run_queries(connector, query_timeout, calls).await?;
            for (call, outcome) in calls.iter().zip(outcomes) {
                match outcome {
                    QueryOutcome::Visible(visible) => results[call.check_index].visible_rows.extend(visible),
                    QueryOutcome::TimedOut => results[call.check_index].timed_out = true,
                    QueryOutcome::Failed(_) | QueryOutcome::Denied(_) | QueryOutcome::Unusable => {}
                }
            }
        }
        Ok(results)
    }

    async fn run_queries(
        &mut self,
        connector: &Connector,
        query_timeout: Duration,
        calls: &[RowQueryCall<'_>],
    ) -> Result<Vec<QueryOutcome>, PgError> {
        let mut outcomes = Vec::with_capacity(calls.len());
        let mut refused = HashMap::new();
        for window in calls.chunks(PIPELINE_DEPTH) {
            let window_timeout = query_timeout * u32::try_from(window.len() + 1).unwrap_or(u32::MAX);
            let window_outcomes =
                timeout(window_timeout, self.run_pipelined(connector, query_timeout, window, &mut refused))
                    .await;
            let window_outcomes = window_outcomes
                .unwrap_or_else(|_| Err(PgError::Unavailable("no response within the timeout".into())));
            if window_outcomes.is_err() {
                // The connection is in an unknown state: the next query opens a new one.
                *self = Self::default();
            }
            outcomes.extend(window_outcomes?);
        }
        Ok(outcomes)
    }

    /// `refused` holds the statements that could not be prepared, and the outcome of their queries.
    async fn run_pipelined(
        &mut self,
        connector: &Connector,
        query_timeout: Duration,
        window: &[RowQueryCall<'_>],
        refused: &mut HashMap<(Arc<str>, Role), QueryOutcome>,
    ) -> Result<Vec<QueryOutcome>, PgError> {
        let client = match &self.client {
            Some(client) if !client.is_closed() => client,
            _ => {
                let client = connector.client("changes").await?;
                let setup = format!("set statement_timeout = {}; {PLAN_ONCE_SQL}", query_timeout.as_millis());
                client.batch_execute(&setup).await?;
                self.statements.clear();
                self.set_identity = Some(
                    client
                        .prepare_typed(SET_IDENTITY_SQL, &[PgType::TEXT, PgType::TEXT, PgType::TEXT])
                        .await?,
                );
                self.client.insert(client)
            }
        };
        let Some(set_identity) = &self.set_identity else {
            return Err(PgError::Unavailable("the connection has no prepared identity statement".into()));
        };
        if self.statements.len() > MAX_STATEMENTS {
            self.statements.clear();
        }
        if window.iter().any(|call| call.query.function().is_some()) {
            let mut outcomes = Vec::with_capacity(window.len());
            for call in window {
                outcomes.push(run_in_function(client, set_identity, call).await?);
            }
            return Ok(outcomes);
        }
        let keys: Vec<_> = window
            .iter()
            .map(|call| (Arc::clone(call.query.statement()), call.principal.role.clone()))
            .collect();
        if keys.iter().any(|key| !self.statements.contains_key(key) && !refused.contains_key(key)) {
            // Names are resolved as the server's role: the last principal may not have access to the schema.
            client.batch_execute("reset role").await?;
        }
        for key in &keys {
            if !self.statements.contains_key(key) && !refused.contains_key(key) {
                // One statement per role, because its plan depends on the role.
                match client.prepare(&key.0).await {
                    Ok(statement) => {
                        self.statements.insert(key.clone(), statement);
                    }
                    Err(error) if error.code().is_some() => {
                        tracing::debug!(error = %ErrorChain(&error), statement = &*key.0, "row-level security query could not be prepared");
                        let outcome = match error.as_db_error() {
                            Some(db) if *db.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
                                QueryOutcome::Denied(db.message().to_owned())
                            }
                            _ => QueryOutcome::Unusable,
                        };
                        refused.insert(key.clone(), outcome);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let mut futures: Vec<BoxFuture<'_, Result<QueryOutcome, PgError>>> = Vec::with_capacity(window.len());
        for (call, key) in window.iter().zip(&keys) {
            futures.push(match (self.statements.get(key), refused.get(key)) {
                (Some(statement), _) => run_query(client, set_identity, call, statement).boxed(),
                (None, outcome) => ready(Ok(outcome.cloned().unwrap_or(QueryOutcome::Unusable))).boxed(),
            });
        }
        join_all(futures).await.into_iter().collect()
    }
}

/// Runs a query that calls a temporary function. The function exists in this transaction only, so it never keeps others
/// from dropping what the policies use.
async fn run_in_function(
    client: &Client,
    set_identity: &Statement,
    call: &RowQueryCall<'_>,
) -> Result<QueryOutcome, PgError> {
    let Some(function) = call.query.function() else { return Ok(QueryOutcome::Unusable) };
    let created = client.batch_execute(&format!("reset role; begin; {function}")).await;
    let outcome = match created {
        Ok(()) => {
            let statement = client.prepare(call.query.statement()).await;
            match statement {
                Ok(statement) => run_query(client, set_identity, call, &statement).await,
                Err(error) => query_outcome(call, Err(error)),
            }
        }
        Err(error) => query_outcome(call, Err(error)),
    };
    client.batch_execute("rollback").await?;
    outcome
}

/// Sets the principal's identity and runs the query, without a round trip between the two.
async fn run_query(
    client: &Client,
    set_identity: &Statement,
    call: &RowQueryCall<'_>,
    statement: &Statement,
) -> Result<QueryOutcome, PgError> {
    let principal = call.principal;
    let sub = principal.sub.as_deref().unwrap_or_default();
    let (role, claims) = (principal.role.as_str(), &*principal.claims);
    let identity: [&(dyn ToSql + Sync); 3] = [&role, &claims, &sub];
    let tuple_indexes = call.query.tuple_indexes(&call.rows);
    let columns = call.query.column_values(&tuple_indexes);
    let mut params: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(1 + columns.len());
    params.push(&tuple_indexes);
    params.extend(columns.iter().map(|values| values as &(dyn ToSql + Sync)));
    let (role_reset, identity_set, rows) = join3(
        client.batch_execute("reset role"),
        client.query(set_identity, &identity),
        client.query(statement, &params),
    )
    .await;
    // If the identity was not set, the rows were checked for another principal.
    query_outcome(call, role_reset.and(identity_set).and(rows))
}

fn query_outcome(
    call: &RowQueryCall<'_>,
    rows: Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>,
) -> Result<QueryOutcome, PgError> {
    match rows {
        Ok(rows) => {
            let tuple_indexes: Vec<i32> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            Ok(QueryOutcome::Visible(call.query.rows_for(&tuple_indexes, &call.rows)))
        }
        Err(error) => match error.as_db_error() {
            Some(db) if *db.code() == SqlState::QUERY_CANCELED => Ok(QueryOutcome::TimedOut),
            Some(db) if *db.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
                Ok(QueryOutcome::Denied(db.message().to_owned()))
            }
            // 57P01 to 57P03 mean that the server shut down or crashed; no policy raised them.
            Some(db) if !db.code().code().starts_with("57P") => {
                Ok(QueryOutcome::Failed(db.message().to_owned()))
            }
            _ => Err(error.into()),
        },
    }
}
