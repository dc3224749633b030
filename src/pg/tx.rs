//! Runs statements as the caller: the only place that sets a role and claims.

use std::time::Duration;

use futures_util::{join, try_join};
use postgres_types::ToSql;
use tokio_postgres::Row;

use super::{
    Connection, Database, PgError,
    session::{CALLER_STATEMENT_TIMEOUT, StatementLimits, client_timeout, within},
};
use crate::auth::Principal;

const ACT_AS: &str = include_str!("../../sql/node/act_as.sql");

impl Database {
    /// Runs one statement with the caller's role and claims in its own transaction, in one round trip. For statements
    /// that change rows use [`write_as`](Self::write_as).
    ///
    /// # Errors
    ///
    /// Errors of the statement or of a policy; [`PgError::Unavailable`] without a connection or a response.
    pub async fn query_as(
        &self,
        caller: &Principal,
        statement: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PgError> {
        self.run_as(caller, statement, params, Commit::WithStatement).await
    }

    /// Runs one statement that changes rows, with the caller's role and claims. `commit` is sent after the statement's
    /// response, as in [`Connection::write`]: a write that was answered with an error never overwrites a later one.
    ///
    /// # Errors
    ///
    /// As [`query_as`](Self::query_as).
    pub async fn write_as(
        &self,
        caller: &Principal,
        statement: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PgError> {
        self.run_as(caller, statement, params, Commit::AfterResponse).await
    }

    async fn run_as(
        &self,
        caller: &Principal,
        statement: &str,
        params: &[&(dyn ToSql + Sync)],
        commit: Commit,
    ) -> Result<Vec<Row>, PgError> {
        let timeout_ms = CALLER_STATEMENT_TIMEOUT.as_millis().to_string();
        let (role, claims): (&str, &str) = (caller.role.as_str(), &caller.claims);
        let (connection, _permit) = self.request_connection_for(statement).await?;
        let settings: [&(dyn ToSql + Sync); 3] = [&role, &claims, &timeout_ms];
        let run = run_in_transaction(connection, &settings, statement, params, commit);
        let result = within(client_timeout(CALLER_STATEMENT_TIMEOUT), Box::pin(run)).await;
        self.leave_statement(statement, &result);
        match result {
            Ok(rows) => Ok(rows),
            Err(error) => Err(self.name_failing_policy(caller, error).await),
        }
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
        let role_settings: [&(dyn ToSql + Sync); 3] = [&role, &claims, &timeout_ms];
        within(
            client_timeout(CALLER_STATEMENT_TIMEOUT),
            Box::pin(async {
                let act_as = connection.prepare(ACT_AS).await?;
                let (begin, act) =
                    join!(connection.begin_transaction(), connection.query_prepared(&act_as, &role_settings));
                begin?;
                act?;
                Ok(())
            }),
        )
        .await?;
        Ok(CallerTx(connection))
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
        let limits = StatementLimits { statement_timeout: limit, lock_timeout: Duration::ZERO };
        let connection = self.limited_server_connection(limits).await?;
        let settings: [&(dyn ToSql + Sync); 3] = [&"none", &"", &timeout_ms];
        let run = run_in_transaction(connection, &settings, statement, params, Commit::WithStatement);
        within(client_timeout(limit), Box::pin(run)).await
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
        within(
            client_timeout(limit),
            Box::pin(async {
                let statement = connection.prepare(statement).await?;
                let set_timeout = format!("set local statement_timeout = {}", limit.as_millis());
                // Not `try_join`: all responses must arrive before the connection is returned.
                let (begin, set, rows, rollback) = join!(
                    connection.begin_transaction(),
                    connection.batch_execute(&set_timeout),
                    connection.query_prepared(&statement, params),
                    connection.end_transaction("rollback"),
                );
                begin?;
                set?;
                let rows = rows?;
                rollback?;
                Ok(rows)
            }),
        )
        .await
    }
}

/// When a transaction of one statement is committed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Commit {
    /// In the same round trip.
    WithStatement,
    /// After the statement's response.
    AfterResponse,
}

/// A transaction with the caller's role and claims. If it is dropped before [`commit`](Self::commit), its connection is
/// closed, which rolls it back.
pub struct CallerTx(Connection);

impl CallerTx {
    /// Runs one statement as the caller. After an error the transaction cannot be used.
    pub async fn query(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PgError> {
        within(
            client_timeout(CALLER_STATEMENT_TIMEOUT),
            Box::pin(async { self.0.query_prepared(&self.0.prepare(statement).await?, params).await }),
        )
        .await
    }

    /// Commits the transaction. After an error nothing was committed.
    pub async fn commit(self) -> Result<(), PgError> {
        within(client_timeout(CALLER_STATEMENT_TIMEOUT), self.0.end_transaction("commit")).await
    }
}

/// Sends begin, role and claims, and the statement together; `commit` with them or after their responses.
#[tracing::instrument(name = "db.query", level = "debug", skip_all, fields(db.system = "postgresql", otel.kind = "client"))]
async fn run_in_transaction(
    connection: Connection,
    role_settings: &[&(dyn ToSql + Sync); 3],
    statement: &str,
    params: &[&(dyn ToSql + Sync)],
    commit: Commit,
) -> Result<Vec<Row>, PgError> {
    let (act_as, statement) = try_join!(connection.prepare(ACT_AS), connection.prepare(statement))?;
    // Not `try_join`: all responses must arrive before the connection is returned. A transaction that failed ends with a
    // rollback, whichever statement ends it.
    let begin_and_run = async {
        join!(
            connection.begin_transaction(),
            connection.query_prepared(&act_as, role_settings),
            connection.query_prepared(&statement, params),
        )
    };
    let ((begin, act, rows), end) = match commit {
        Commit::WithStatement => join!(begin_and_run, connection.end_transaction("commit")),
        Commit::AfterResponse => {
            let responses = begin_and_run.await;
            let succeeded = responses.0.is_ok() && responses.1.is_ok() && responses.2.is_ok();
            (responses, connection.end_transaction(if succeeded { "commit" } else { "rollback" }).await)
        }
    };
    begin?;
    act?;
    let rows = rows?;
    end?;
    Ok(rows)
}
