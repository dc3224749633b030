//! A pooled connection that hides whether statements are prepared by name, and that leaves nothing behind.
//!
//! On a direct connection each statement is prepared once by name. A pooler in transaction mode may switch the server
//! connection, so there each statement is sent unnamed, in a transaction with its own settings. That requires the
//! parameter types, which are read once over the direct connection.
//!
//! A connection whose statement was given up (a timeout, a dropped request), whose transaction did not end, or whose
//! server can no longer be written to is closed instead of returned to the pool; a statement in flight is cancelled.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::Object;
use futures_util::join;
use parking_lot::Mutex;
use postgres_types::{ToSql, Type};
use tokio::{runtime::Handle, time::timeout};
use tokio_postgres::{Client, Row, Statement, error::SqlState};

use super::{
    Connector, PgError,
    connect::MakeTls,
    disk_space::DiskSpace,
    session::{StatementLimits, client_timeout, within},
};
use crate::telemetry::metric;

/// Timeout for reading the parameter types of a statement.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Limits of the connection that describes statements, which blocks all others.
const DESCRIBE_LIMITS: StatementLimits =
    StatementLimits { statement_timeout: Duration::from_secs(4), lock_timeout: Duration::from_millis(1_500) };
/// Timeout of a cancel request.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// The server has far fewer statements. When the cache reaches this size, it is cleared.
const MAX_CACHED_STATEMENTS: usize = 2_000;

pub struct Connection {
    /// `None` only while it is dropped.
    client: Option<Object>,
    parameter_types: Option<Arc<ParameterTypes>>,
    tls: MakeTls,
    disk_space: DiskSpace,
    limits: StatementLimits,
    /// The session has these limits; otherwise they are sent with the first statement.
    has_limits: AtomicBool,
    /// Requests whose response has not arrived completely.
    in_flight: AtomicU32,
    in_transaction: AtomicBool,
    /// The server said that this connection is of no further use.
    is_unusable: AtomicBool,
}

/// A statement that can run on the connection that prepared it.
pub(super) enum Prepared<'a> {
    Named(Statement),
    Unnamed(&'a str, Arc<[Type]>),
}

impl Connection {
    /// With `types`, statements are sent unnamed. `has_limits`: the session was opened with these limits.
    pub(super) fn new(
        client: Object,
        types: Option<Arc<ParameterTypes>>,
        tls: MakeTls,
        disk_space: DiskSpace,
        limits: StatementLimits,
        has_limits: bool,
    ) -> Self {
        // Behind a pooler the limits are part of each transaction.
        let has_limits = AtomicBool::new(has_limits || types.is_some());
        Self {
            client: Some(client),
            parameter_types: types,
            tls,
            disk_space,
            limits,
            has_limits,
            in_flight: AtomicU32::new(0),
            in_transaction: AtomicBool::new(false),
            is_unusable: AtomicBool::new(false),
        }
    }

    fn client(&self) -> &Object {
        self.client.as_ref().expect("the client is taken only when the connection is dropped")
    }

    /// Waits for the response to a request. If the returned future is dropped before, the request counts as in flight
    /// for ever, so that the connection is not used again.
    async fn track<T>(
        &self,
        request: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PgError> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let result = request.await;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        result.map_err(|error| {
            if error.code().is_some_and(PgError::needs_new_connection) {
                self.is_unusable.store(true, Ordering::Relaxed);
            }
            if error.code() == Some(&SqlState::DISK_FULL) {
                self.disk_space.record_full();
            }
            error.into()
        })
    }

    async fn send_limits(&self) -> Result<(), PgError> {
        if self.has_limits.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        self.batch_execute(&self.limits.set_sql()).await
    }

    /// Prepares a statement. `statement_timeout` and `lock_timeout` bound this too.
    pub(super) async fn prepare<'a>(&self, statement: &'a str) -> Result<Prepared<'a>, PgError> {
        let (limits, prepared) = join!(self.send_limits(), self.prepare_within_limits(statement));
        limits?;
        prepared
    }

    /// Prepares a statement on a session whose limits were sent before.
    async fn prepare_within_limits<'a>(&self, statement: &'a str) -> Result<Prepared<'a>, PgError> {
        match &self.parameter_types {
            None => Ok(Prepared::Named(self.track(self.client().prepare_cached(statement)).await?)),
            Some(types) => Ok(Prepared::Unnamed(statement, types.get_or_describe(statement).await?)),
        }
    }

    pub(super) async fn query_prepared(
        &self,
        statement: &Prepared<'_>,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PgError> {
        match statement {
            Prepared::Named(statement) => self.track(self.client().query(statement, params)).await,
            Prepared::Unnamed(text, types) => {
                let typed: Vec<_> = params.iter().copied().zip(types.iter().cloned()).collect();
                let rows = async {
                    let rows = self.client().query_typed(text, &typed).await;
                    rows.inspect_err(|error| {
                        if let Some(types) = &self.parameter_types {
                            types.invalidate_on_type_error(text, error);
                        }
                    })
                };
                self.track(rows).await
            }
        }
    }

    /// Begins a transaction. Until [`end_transaction`](Self::end_transaction), dropping the connection closes it, which
    /// rolls back.
    pub(super) async fn begin_transaction(&self) -> Result<(), PgError> {
        self.in_transaction.store(true, Ordering::Relaxed);
        if self.parameter_types.is_none() {
            return self.batch_execute("begin").await;
        }
        self.batch_execute(&self.limits.pooled_begin_sql()).await.map_err(PgError::after_begin)
    }

    /// Commits or rolls back. PostgreSQL answers `commit` of a failed transaction with a rollback.
    pub(super) async fn end_transaction(&self, statement: &str) -> Result<(), PgError> {
        self.batch_execute(statement).await?;
        self.in_transaction.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Runs a statement in its own implicit transaction. A statement that is given up may still take effect later;
    /// writes whose order matters use [`write`](Self::write).
    pub async fn query(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PgError> {
        let run = async {
            if self.parameter_types.is_none() {
                // The limits are sent first; the statement does not wait for their response.
                let (limits, rows) = join!(self.send_limits(), async {
                    let statement = self.prepare_within_limits(statement).await?;
                    self.query_prepared(&statement, params).await
                });
                limits?;
                return rows;
            }
            let statement = self.prepare(statement).await?;
            // Not `try_join`: all responses must arrive before the connection is returned.
            let (begin, rows, end) = join!(
                self.begin_transaction(),
                self.query_prepared(&statement, params),
                self.end_transaction("commit")
            );
            begin?;
            let rows = rows?;
            end?;
            Ok(rows)
        };
        within(client_timeout(self.limits.statement_timeout), Box::pin(run)).await
    }

    /// Runs a statement that changes rows. `commit` is sent after its response: a write that was given up before never
    /// takes effect, even if the server reads it later. Once `commit` is sent, the transaction holds the locks of its
    /// rows, so a later write of the same rows is applied after it.
    pub async fn write(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PgError> {
        let run = async {
            // The limits are sent first; the statement does not wait for their response.
            let (limits, result) = join!(self.send_limits(), async {
                let statement = self.prepare_within_limits(statement).await?;
                Ok::<_, PgError>(join!(self.begin_transaction(), self.query_prepared(&statement, params)))
            });
            let (begin, rows) = result?;
            let is_complete = limits.is_ok() && begin.is_ok() && rows.is_ok();
            let end = self.end_transaction(if is_complete { "commit" } else { "rollback" }).await;
            limits?;
            begin?;
            let rows = rows?;
            end?;
            Ok(rows)
        };
        within(client_timeout(self.limits.statement_timeout), Box::pin(run)).await
    }

    /// Runs a statement that returns exactly one row.
    ///
    /// # Panics
    ///
    /// If the statement returns another number of rows.
    pub async fn query_one(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, PgError> {
        Ok(one_row(self.query(statement, params).await?, statement))
    }

    /// [`write`](Self::write) for a statement that returns exactly one row.
    ///
    /// # Panics
    ///
    /// If the statement returns another number of rows.
    pub async fn write_one(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, PgError> {
        Ok(one_row(self.write(statement, params).await?, statement))
    }

    /// Runs a statement that returns at most one row.
    pub async fn query_opt(
        &self,
        statement: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, PgError> {
        Ok(self.query(statement, params).await?.into_iter().next())
    }

    /// Runs statements without parameters and discards their rows.
    pub(super) async fn batch_execute(&self, statements: &str) -> Result<(), PgError> {
        self.track(self.client().batch_execute(statements)).await
    }
}

fn one_row(mut rows: Vec<Row>, statement: &str) -> Row {
    assert!(rows.len() == 1, "expected exactly one row from: {statement}");
    rows.remove(0)
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(object) = self.client.take() else { return };
        let is_interrupted = *self.in_flight.get_mut() > 0;
        if !is_interrupted && !*self.in_transaction.get_mut() && !*self.is_unusable.get_mut() {
            return; // Dropping the object returns it to the pool.
        }
        let client = Object::take(object);
        let cause = if is_interrupted { "interrupted" } else { "unusable" };
        metrics::counter!(metric::DATABASE_CONNECTIONS_DISCARDED, "cause" => cause).increment(1);
        if is_interrupted && let Ok(runtime) = Handle::try_current() {
            let (token, tls) = (client.cancel_token(), self.tls.clone());
            runtime.spawn(async move {
                drop(timeout(CANCEL_TIMEOUT, token.cancel_query(tls)).await);
                // A pooler forwards a cancel request only while the client is connected.
                drop(client);
            });
        }
    }
}

/// Cache of the parameter types of statements.
pub(super) struct ParameterTypes {
    direct: Connector,
    cache: Mutex<HashMap<Box<str>, Arc<[Type]>>>,
    /// Connection for describing statements, opened on first use and kept.
    describe_client: tokio::sync::Mutex<Option<Client>>,
}

impl ParameterTypes {
    pub(super) fn new(direct: Connector) -> Self {
        Self { direct, cache: Mutex::default(), describe_client: tokio::sync::Mutex::default() }
    }

    async fn get_or_describe(&self, statement: &str) -> Result<Arc<[Type]>, PgError> {
        if let Some(types) = self.cache.lock().get(statement) {
            return Ok(types.clone());
        }
        within(DESCRIBE_TIMEOUT, Box::pin(self.describe(statement))).await
    }

    async fn describe(&self, statement: &str) -> Result<Arc<[Type]>, PgError> {
        let mut describe_client = self.describe_client.lock().await;
        if let Some(types) = self.cache.lock().get(statement) {
            return Ok(types.clone());
        }
        let client = match describe_client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.direct.client_with_limits("types", DESCRIBE_LIMITS).await?,
        };
        let types: Arc<[Type]> = client.prepare(statement).await?.params().into();
        *describe_client = Some(client);
        let mut cache = self.cache.lock();
        if cache.len() >= MAX_CACHED_STATEMENTS {
            cache.clear();
        }
        cache.insert(statement.into(), types.clone());
        Ok(types)
    }

    /// Drops cached parameter types after a type error: a recreated type has a new OID.
    fn invalidate_on_type_error(&self, statement: &str, error: &tokio_postgres::Error) {
        let type_errors = [
            SqlState::UNDEFINED_OBJECT,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::DATATYPE_MISMATCH,
            SqlState::INTERNAL_ERROR,
        ];
        if error.code().is_some_and(|code| type_errors.contains(code)) {
            self.cache.lock().remove(statement);
        }
    }
}
