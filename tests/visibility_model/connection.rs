//! A connection of a history, which connects again after PostgreSQL was restarted.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use testkit::harness::TestDatabase;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, Error, NoTls, Row, error::SqlState, types::ToSql};
use uuid::Uuid;

/// Time limit of one statement, and of all attempts.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
/// Time limit of one statement while the clock jumps: see [`Failure::Timeout`].
const STATEMENT_TIMEOUT_WITH_OUTAGES: Duration = Duration::from_secs(4);

/// A connection as the owner of the tables.
pub struct Connection {
    db: Arc<TestDatabase>,
    /// `None` before the first statement and after the connection was lost.
    client: Mutex<Option<Client>>,
    /// Whether PostgreSQL and its clock may fail. Otherwise a lost connection fails the history.
    survives_outages: bool,
}

impl Connection {
    pub fn new(db: Arc<TestDatabase>, survives_outages: bool) -> Self {
        Self { db, client: Mutex::new(None), survives_outages }
    }

    /// Executes statements that may be executed twice.
    pub async fn execute(&self, statements: &str) {
        let mut attempts = self.attempts().await;
        while let Err(failure) = self.in_time(attempts.client().await.batch_execute(statements)).await {
            attempts.failed(statements, failure).await;
        }
    }

    pub async fn query(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        let mut attempts = self.attempts().await;
        loop {
            match self.in_time(attempts.client().await.query(statement, params)).await {
                Ok(rows) => return rows,
                Err(failure) => attempts.failed(statement, failure).await,
            }
        }
    }

    /// Executes queries as a user, in one transaction.
    pub async fn query_as<const N: usize>(
        &self,
        user: Uuid,
        queries: [(&str, &[&(dyn ToSql + Sync)]); N],
    ) -> [Vec<Row>; N] {
        let mut attempts = self.attempts().await;
        loop {
            match self.in_time(query_as(attempts.client().await, user, queries)).await {
                Ok(answers) => return answers,
                Err(failure) => attempts.failed("queries as a user", failure).await,
            }
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
        let limit = if self.survives_outages { STATEMENT_TIMEOUT_WITH_OUTAGES } else { STATEMENT_TIMEOUT };
        match timeout(limit, work).await {
            Ok(result) => result.map_err(Failure::Postgres),
            Err(_) => Err(Failure::Timeout),
        }
    }

    async fn attempts(&self) -> Attempts<'_> {
        let client = self.client.lock().await;
        Attempts { connection: self, client, deadline: Instant::now() + RETRY_TIMEOUT }
    }

    /// Prints what PostgreSQL does, and which session waits for which.
    async fn print_sessions(&self) {
        let Ok(client) = self.open().await else { return };
        let sessions = "select to_jsonb(s)::text from (select pid, pg_blocking_pids(pid) as blocked_by,
          application_name, state, wait_event, clock_timestamp() - xact_start as transaction, query
          from pg_stat_activity where datname = current_database() and state <> 'idle') s";
        for row in client.query(sessions, &[]).await.unwrap_or_default() {
            println!("session: {}", row.get::<_, &str>(0));
        }
    }

    /// Opens a connection without the defaults that a fault may have set.
    async fn open(&self) -> Result<Client, Error> {
        let (client, connection) = tokio_postgres::connect(&self.db.url, NoTls).await?;
        tokio::spawn(connection);
        let defaults =
            "set default_transaction_read_only = off; set default_transaction_isolation = 'read committed'";
        client.batch_execute(defaults).await?;
        Ok(client)
    }
}

/// Repeats work after a deadlock or a lock timeout, as every client of PostgreSQL must, and after a restart.
struct Attempts<'c> {
    connection: &'c Connection,
    client: MutexGuard<'c, Option<Client>>,
    deadline: Instant,
}

impl Attempts<'_> {
    async fn client(&mut self) -> &Client {
        while self.client.is_none() {
            match self.connection.open().await {
                Ok(client) => *self.client = Some(client),
                Err(error) => self.failed("a connection", Failure::Postgres(error)).await,
            }
        }
        self.client.as_ref().expect("is open")
    }

    /// Prepares the next attempt.
    async fn failed(&mut self, what: &str, failure: Failure) {
        let is_locked = failure.is_lock_conflict();
        let is_expected = is_locked || self.connection.survives_outages && failure.is_outage();
        assert!(is_expected, "{what}: {failure:?}");
        assert!(Instant::now() < self.deadline, "{what}, for {RETRY_TIMEOUT:?}: {failure:?}");
        if let (Some(client), Failure::Timeout) = (self.client.as_ref(), &failure) {
            self.connection.print_sessions().await;
            client.cancel_token().cancel_query(NoTls).await.ok();
        }
        let is_rolled_back = match self.client.as_ref() {
            Some(client) if is_locked => client.batch_execute("rollback").await.is_ok(),
            _ => false,
        };
        if !is_rolled_back {
            *self.client = None;
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[derive(Debug)]
enum Failure {
    Postgres(Error),
    /// After the clock went back, PostgreSQL detects no deadlock until the old time has come. libfaketime may show the true
    /// time to its signal handlers, which is the same for it.
    Timeout,
}

impl Failure {
    fn is_lock_conflict(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        [Some(&SqlState::T_R_DEADLOCK_DETECTED), Some(&SqlState::LOCK_NOT_AVAILABLE)].contains(&error.code())
    }

    /// Whether PostgreSQL ended the connection, or does not accept one yet.
    fn is_outage(&self) -> bool {
        let Self::Postgres(error) = self else { return true };
        let states = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
        error.code().is_none_or(|code| states.contains(code))
    }
}

async fn query_as<const N: usize>(
    client: &Client,
    user: Uuid,
    queries: [(&str, &[&(dyn ToSql + Sync)]); N],
) -> Result<[Vec<Row>; N], Error> {
    let claims = json!({"sub": user, "role": "authenticated"}).to_string();
    let acting =
        "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)";
    client.batch_execute("begin").await?;
    client.query(acting, &[&claims]).await?;
    let mut answers = [const { Vec::new() }; N];
    for (answer, (query, params)) in answers.iter_mut().zip(queries) {
        *answer = client.query(query, params).await?;
    }
    client.batch_execute("commit").await?;
    Ok(answers)
}

/// IDs in the first column.
pub fn ids(rows: &[Row]) -> HashSet<Uuid> {
    rows.iter().map(|row| row.get(0)).collect()
}

/// JSON rows in the first column, by the user that they are about.
pub fn rows_by_user(rows: &[Row]) -> HashMap<Uuid, Value> {
    let rows = rows.iter().map(|row| row.get::<_, Value>(0));
    rows.map(|row| (row["user_id"].as_str().and_then(|id| id.parse().ok()).expect("a user's id"), row))
        .collect()
}
