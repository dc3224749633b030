//! Runs statements as the caller: the only place that sets a role and claims.

use std::time::Duration;

use futures_util::try_join;
use postgres_types::ToSql;
use tokio_postgres::Row;

use super::{Connection, Database, PgError};
use crate::auth::Principal;

const ACT_AS: &str = include_str!("../../sql/node/act_as.sql");

/// `statement_timeout` of statements that run as a caller.
pub const CALLER_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// A pooled connection inside a transaction. If the transaction does not finish, for example because the request was
/// dropped, the connection is closed instead of returned, so no later user inherits its role or claims.
struct TransactionGuard(Option<Connection>);

impl TransactionGuard {
    fn connection(&self) -> &Connection {
        self.0.as_ref().expect("the connection is taken only when the guard ends")
    }

    /// Returns the connection to the pool; the transaction has ended.
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
    /// Runs one statement with the caller's role and claims in its own transaction.
    ///
    /// # Errors
    ///
    /// Errors of the statement or of a policy; [`PgError::Unavailable`] without a connection.
    pub async fn query_as(
        &self,
        caller: &Principal,
        statement: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PgError> {
        let timeout_ms = CALLER_STATEMENT_TIMEOUT.as_millis().to_string();
        let (role, claims): (&str, &str) = (caller.role.as_str(), &caller.claims);
        run_in_transaction(
            self.request_connection().await?,
            &[&role, &claims, &timeout_ms],
            statement,
            params,
        )
        .await
    }

    /// Begins a transaction with the caller's role and claims. Each statement has the same timeout as in
    /// [`query_as`](Self::query_as).
    ///
    /// # Errors
    ///
    /// [`PgError::Unavailable`] without a connection.
    pub async fn begin_as(&self, caller: &Principal) -> Result<CallerTx, PgError> {
        let timeout_ms = CALLER_STATEMENT_TIMEOUT.as_millis().to_string();
        let (role, claims): (&str, &str) = (caller.role.as_str(), &caller.claims);
        let connection = self.request_connection().await?;
        let act_as = connection.prepare(ACT_AS).await?;
        let tx = TransactionGuard(Some(connection));
        let client = tx.connection();
        let role_settings: [&(dyn ToSql + Sync); 3] = [&role, &claims, &timeout_ms];
        let (begin, act) = futures_util::join!(
            client.batch_execute("begin"),
            client.query_prepared(&act_as, &role_settings)
        );
        begin?;
        act?;
        Ok(CallerTx(tx))
    }

    /// Runs one statement with the rights of the login role and a `statement_timeout`.
    ///
    /// # Errors
    ///
    /// [`PgError::StatementTimeout`] after `limit`; otherwise as [`query_as`](Self::query_as).
    pub async fn query_with_timeout(
        &self,
        limit: Duration,
        statement: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PgError> {
        let timeout_ms = limit.as_millis().to_string();
        run_in_transaction(self.server_connection().await?, &[&"none", &"", &timeout_ms], statement, params)
            .await
    }

    /// Runs one statement with the rights of the login role and a `statement_timeout`, then rolls back. Takes one round
    /// trip and no disk flush.
    ///
    /// # Errors
    ///
    /// [`PgError::StatementTimeout`] after `limit`; otherwise as [`query_as`](Self::query_as).
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
        // Not `try_join`: all three responses must arrive before the connection is returned.
        let (begin, rows, rollback) = futures_util::join!(
            client.batch_execute(&begin),
            client.query_prepared(&statement, params),
            client.batch_execute("rollback"),
        );
        // Without a confirmed rollback the guard closes the connection.
        rollback?;
        tx.finish();
        begin?;
        rows
    }
}

/// A transaction with the caller's role and claims. If it is dropped before [`commit`](Self::commit), its connection is
/// closed, which rolls it back.
pub struct CallerTx(TransactionGuard);

impl CallerTx {
    /// Runs one statement as the caller. After an error the transaction cannot be used.
    pub async fn query(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PgError> {
        self.0.connection().query(statement, params).await
    }

    /// Commits the transaction. After an error nothing was committed.
    pub async fn commit(self) -> Result<(), PgError> {
        self.0.connection().batch_execute("commit").await?;
        self.0.finish();
        Ok(())
    }
}

/// Sends begin, role and claims, the statement and commit together, so it takes one round trip.
#[tracing::instrument(name = "db.query", level = "debug", skip_all, fields(db.system = "postgresql", otel.kind = "client"))]
async fn run_in_transaction(
    connection: Connection,
    role_settings: &[&(dyn ToSql + Sync); 3],
    statement: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, PgError> {
    let (act_as, statement) = try_join!(connection.prepare(ACT_AS), connection.prepare(statement))?;
    let tx = TransactionGuard(Some(connection));
    let client = tx.connection();
    // `join`, not `try_join`: all four responses must arrive before the connection is returned. PostgreSQL answers
    // `commit` of a failed transaction with a rollback.
    let (begin, act, rows, commit) = futures_util::join!(
        client.batch_execute("begin"),
        client.query_prepared(&act_as, role_settings),
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
