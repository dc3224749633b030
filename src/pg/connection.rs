//! A pooled connection, and the two ways in which statements travel on one.
//!
//! On a connection of its own the server prepares each statement once, by name. Behind a pooler in transaction mode a
//! name belongs to whichever connection carried it, so there each statement goes without one, all of it in one message;
//! the types of its parameters, which that takes, are learned once on the direct connection.

use std::{collections::HashMap, sync::Arc, time::Duration};

use deadpool_postgres::Object;
use parking_lot::Mutex;
use postgres_types::{ToSql, Type};
use tokio::time::timeout;
use tokio_postgres::{Client, Row, Statement, error::SqlState};

use super::{Connector, PgError};

/// How long learning the types of a statement may take.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Statements whose types are remembered. Ours are far fewer; over it all are learned again.
const MAX_CACHED_STATEMENTS: usize = 2_000;

/// A pooled connection.
pub struct Connection {
    client: Object,
    parameter_types: Option<Arc<ParameterTypes>>,
}

/// A statement that is ready to run on the connection that prepared it.
pub(super) enum Prepared<'a> {
    Named(Statement),
    Unnamed(&'a str, Arc<[Type]>),
}

impl Connection {
    /// With `types`, statements go unnamed.
    pub(super) const fn new(client: Object, types: Option<Arc<ParameterTypes>>) -> Self {
        Self { client, parameter_types: types }
    }

    /// Closes the connection instead of giving it back to the pool.
    pub(super) fn discard(self) {
        drop(Object::take(self.client));
    }

    pub(super) async fn prepare<'a>(&self, statement: &'a str) -> Result<Prepared<'a>, PgError> {
        Ok(match &self.parameter_types {
            None => Prepared::Named(self.client.prepare_cached(statement).await?),
            Some(types) => Prepared::Unnamed(statement, types.get_or_describe(statement).await?),
        })
    }

    pub(super) async fn query_prepared(
        &self,
        statement: &Prepared<'_>,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PgError> {
        match statement {
            Prepared::Named(statement) => Ok(self.client.query(statement, params).await?),
            Prepared::Unnamed(text, types) => {
                let typed: Vec<_> = params.iter().copied().zip(types.iter().cloned()).collect();
                let rows = self.client.query_typed(text, &typed).await;
                Ok(rows.inspect_err(|error| {
                    if let Some(types) = &self.parameter_types {
                        types.invalidate_on_type_error(text, error);
                    }
                })?)
            }
        }
    }

    /// Runs a statement.
    ///
    /// # Errors
    ///
    /// When it fails, or the database does not answer.
    pub async fn query(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PgError> {
        self.query_prepared(&self.prepare(statement).await?, params).await
    }

    /// Runs a statement that returns exactly one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Panics
    ///
    /// When it returns none: the statement is not what it says.
    pub async fn query_one(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, PgError> {
        let mut rows = self.query(statement, params).await?;
        assert!(rows.len() == 1, "one row was expected of: {statement}");
        Ok(rows.remove(0))
    }

    /// Runs a statement that returns at most one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn query_opt(
        &self,
        statement: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, PgError> {
        Ok(self.query(statement, params).await?.into_iter().next())
    }

    /// Runs statements without parameters or rows.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn batch_execute(&self, statements: &str) -> Result<(), PgError> {
        Ok(self.client.batch_execute(statements).await?)
    }
}

/// The types of statements' parameters, learned from the database itself.
pub(super) struct ParameterTypes {
    direct: Connector,
    cache: Mutex<HashMap<Box<str>, Arc<[Type]>>>,
    /// Opened when there is something to learn, and kept.
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
        timeout(DESCRIBE_TIMEOUT, self.describe(statement))
            .await
            .unwrap_or_else(|_| Err(PgError::Unavailable("the direct connection does not answer".into())))
    }

    async fn describe(&self, statement: &str) -> Result<Arc<[Type]>, PgError> {
        let mut teacher = self.describe_client.lock().await;
        if let Some(types) = self.cache.lock().get(statement) {
            return Ok(types.clone());
        }
        let client = match teacher.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.direct.client("types").await?,
        };
        let types: Arc<[Type]> = client.prepare(statement).await?.params().into();
        *teacher = Some(client);
        let mut learned = self.cache.lock();
        if learned.len() >= MAX_CACHED_STATEMENTS {
            learned.clear();
        }
        learned.insert(statement.into(), types.clone());
        Ok(types)
    }

    /// Forgets what a failure may come from: a type that a migration made anew has another number.
    fn invalidate_on_type_error(&self, statement: &str, error: &tokio_postgres::Error) {
        let doubtful = [
            SqlState::UNDEFINED_OBJECT,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::DATATYPE_MISMATCH,
            SqlState::INTERNAL_ERROR,
        ];
        if error.code().is_some_and(|code| doubtful.contains(code)) {
            self.cache.lock().remove(statement);
        }
    }
}
