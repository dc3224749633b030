//! A pooled connection that hides whether statements are prepared by name.
//!
//! On a direct connection each statement is prepared once by name. A pooler in transaction mode may switch the server
//! connection, so there each statement is sent unnamed in one message. That requires the parameter types, which are
//! read once over the direct connection.

use std::{collections::HashMap, sync::Arc, time::Duration};

use deadpool_postgres::Object;
use parking_lot::Mutex;
use postgres_types::{ToSql, Type};
use tokio::time::timeout;
use tokio_postgres::{Client, Row, Statement, error::SqlState};

use super::{Connector, PgError};

/// Timeout for reading the parameter types of a statement.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The server has far fewer statements. When the cache reaches this size, it is cleared.
const MAX_CACHED_STATEMENTS: usize = 2_000;

pub struct Connection {
    client: Object,
    parameter_types: Option<Arc<ParameterTypes>>,
}

/// A statement that can run on the connection that prepared it.
pub(super) enum Prepared<'a> {
    Named(Statement),
    Unnamed(&'a str, Arc<[Type]>),
}

impl Connection {
    /// With `types`, statements are sent unnamed.
    pub(super) const fn new(client: Object, types: Option<Arc<ParameterTypes>>) -> Self {
        Self { client, parameter_types: types }
    }

    /// Closes the connection instead of returning it to the pool.
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

    pub async fn query(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, PgError> {
        self.query_prepared(&self.prepare(statement).await?, params).await
    }

    /// Runs a statement that returns exactly one row.
    ///
    /// # Panics
    ///
    /// If the statement returns another number of rows.
    pub async fn query_one(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, PgError> {
        let mut rows = self.query(statement, params).await?;
        assert!(rows.len() == 1, "expected exactly one row from: {statement}");
        Ok(rows.remove(0))
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
    pub async fn batch_execute(&self, statements: &str) -> Result<(), PgError> {
        Ok(self.client.batch_execute(statements).await?)
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
        timeout(DESCRIBE_TIMEOUT, self.describe(statement)).await.unwrap_or_else(|_| {
            Err(PgError::Unavailable("no response in time on the direct connection".into()))
        })
    }

    async fn describe(&self, statement: &str) -> Result<Arc<[Type]>, PgError> {
        let mut describe_client = self.describe_client.lock().await;
        if let Some(types) = self.cache.lock().get(statement) {
            return Ok(types.clone());
        }
        let client = match describe_client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.direct.client("types").await?,
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
