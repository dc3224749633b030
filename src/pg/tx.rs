//! Acting as the caller: the one place that takes on a role.

use std::time::Duration;

use futures_util::try_join;
use postgres_types::ToSql;
use tokio_postgres::Row;

use super::{Connection, Database, PgError};
use crate::auth::Principal;

const ACT_AS: &str = include_str!("../../sql/node/act_as.sql");

/// How long a statement on behalf of a caller may run.
pub const CALLER_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// A pooled connection inside a transaction. Unless it came to its end, the connection is thrown away instead of
/// going back: nobody inherits a role or claims, also when the request was dropped half-way.
struct TransactionGuard(Option<Connection>);

impl TransactionGuard {
    fn connection(&self) -> &Connection {
        self.0.as_ref().expect("taken only when the guard ends")
    }

    /// The transaction is over, whichever way: the connection may serve others.
    fn finish(mut self) {
        self.0.take();
    }
}

impl Drop for TransactionGuard {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.discard();
        }
    }
}

impl Database {
    /// Runs one statement as the caller: that role, those claims, in a transaction of its own.
    ///
    /// # Errors
    ///
    /// Whatever the statement, or a policy in it, raises; [`PgError::Unavailable`] without a connection.
    pub async fn query_as(
        &self,
        caller: &Principal,
        statement: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PgError> {
        let limit = CALLER_STATEMENT_TIMEOUT.as_millis().to_string();
        let (role, claims): (&str, &str) = (caller.role.as_str(), &caller.claims);
        run_in_transaction(self.request_connection().await?, &[&role, &claims, &limit], statement, params)
            .await
    }

    /// Begins a transaction for several statements as the caller: that role, those claims, and for each statement the
    /// same limit of time as in [`query_as`](Self::query_as).
    ///
    /// # Errors
    ///
    /// [`PgError::Unavailable`] without a connection.
    pub async fn begin_as(&self, caller: &Principal) -> Result<CallerTx, PgError> {
        let limit = CALLER_STATEMENT_TIMEOUT.as_millis().to_string();
        let (role, claims): (&str, &str) = (caller.role.as_str(), &caller.claims);
        let connection = self.request_connection().await?;
        let act_as = connection.prepare(ACT_AS).await?;
        let tx = TransactionGuard(Some(connection));
        let client = tx.connection();
        let acting: [&(dyn ToSql + Sync); 3] = [&role, &claims, &limit];
        let (begin, act) =
            futures_util::join!(client.batch_execute("begin"), client.query_prepared(&act_as, &acting));
        begin?;
        act?;
        Ok(CallerTx(tx))
    }

    /// Runs one statement with the login role's own rights that may not take longer than `limit`.
    ///
    /// # Errors
    ///
    /// [`PgError::TimedOut`] when it did; otherwise as [`query_as`](Self::query_as).
    pub async fn query_with_timeout(
        &self,
        limit: Duration,
        statement: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PgError> {
        let limit = limit.as_millis().to_string();
        run_in_transaction(self.server_connection().await?, &[&"none", &"", &limit], statement, params).await
    }

    /// Runs one statement with the login role's own rights, within `limit`, and takes back whatever it did. It costs one
    /// round trip, and no disk has to be waited for.
    ///
    /// # Errors
    ///
    /// [`PgError::TimedOut`] when it took longer; otherwise as [`query_as`](Self::query_as).
    pub async fn query_and_roll_back(
        &self,
        limit: Duration,
        statement: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PgError> {
        let connection = self.authorization_connection().await?;
        let statement = connection.prepare(statement).await?;
        let tx = TransactionGuard(Some(connection));
        let client = tx.connection();
        let begin = format!("begin; set local statement_timeout = {}", limit.as_millis());
        // All three must have been answered before the connection is anybody else's.
        let (begin, rows, rollback) = futures_util::join!(
            client.batch_execute(&begin),
            client.query_prepared(&statement, params),
            client.batch_execute("rollback"),
        );
        // Where the rollback was not confirmed the guard throws the connection away.
        rollback?;
        tx.finish();
        begin?;
        rows
    }
}

/// A transaction in which every statement runs as the caller. Dropped before [`commit`](Self::commit), its connection
/// is thrown away, and with it whatever was done.
pub struct CallerTx(TransactionGuard);

impl CallerTx {
    /// Runs one statement as the caller.
    ///
    /// # Errors
    ///
    /// Whatever the statement, or a policy in it, raises; the transaction cannot be used after that.
    pub async fn query(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PgError> {
        self.0.connection().query(statement, params).await
    }

    /// Makes it so.
    ///
    /// # Errors
    ///
    /// When the commit fails, nothing was done.
    pub async fn commit(self) -> Result<(), PgError> {
        self.0.connection().batch_execute("commit").await?;
        self.0.finish();
        Ok(())
    }
}

/// Begin, take on the role, the statement, commit. The four messages travel together, so it costs one round trip.
#[tracing::instrument(name = "db.query", level = "debug", skip_all, fields(db.system = "postgresql", otel.kind = "client"))]
async fn run_in_transaction(
    connection: Connection,
    acting: &[&(dyn ToSql + Sync); 3],
    statement: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, PgError> {
    let (act_as, statement) = try_join!(connection.prepare(ACT_AS), connection.prepare(statement))?;
    let tx = TransactionGuard(Some(connection));
    let client = tx.connection();
    // `join`, not `try_join`: all four must have been answered before the connection is anybody else's. A failed
    // transaction answers `commit` with a rollback.
    let (begin, act, rows, commit) = futures_util::join!(
        client.batch_execute("begin"),
        client.query_prepared(&act_as, acting),
        client.query_prepared(&statement, params),
        client.batch_execute("commit"),
    );
    tx.finish();
    begin?;
    act?;
    let rows = rows?;
    commit?;
    Ok(rows)
}
