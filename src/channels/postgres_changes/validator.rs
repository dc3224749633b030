//! Validates the parameters of subscriptions in the database.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_postgres::error::DbError;

use super::{params::SubscriptionParams, registry::SubscriptionRegistry};
use crate::{
    lifecycle::ErrorChain,
    pg::{
        Database, PgError,
        queries::postgres_changes::{self, ParamsToCheck},
    },
};

/// How long a successful validation is cached, so that many equal joins are validated once.
const CHECK_CACHE_TTL: Duration = Duration::from_secs(2);
const MAX_CACHED_CHECKS: usize = 10_000;

/// Why a subscription failed. The texts are those of Supabase Realtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The parameters are invalid; a retry does not help.
    #[error("{0}")]
    Refused(String),
    /// The database is unavailable, or the stream could not be started.
    #[error("{0}")]
    Unavailable(String),
}

/// Reasons why some changes are never delivered to a subscriber, sent with the confirmation.
pub type Limitations = Vec<Arc<str>>;

/// Time and result of a successful validation.
type CachedCheck = (Instant, Arc<Limitations>);

/// Validates parameters in the database and caches the results.
#[derive(Default)]
pub struct ParamsValidator {
    cache: Mutex<HashMap<(SubscriptionParams, Box<str>), CachedCheck>>,
    publication_state: AtomicI32,
}

impl ParamsValidator {
    /// Validates parameters for a role; returns the limitations.
    ///
    /// # Errors
    /// If the parameters are invalid or the database is unavailable.
    pub async fn validate(
        &self,
        database: &Database,
        params: &SubscriptionParams,
        role: &str,
    ) -> Result<Arc<Limitations>, SubscribeError> {
        let key = (params.clone(), role.into());
        if let Some((cached_at, limitations)) = self.cache.lock().get(&key)
            && cached_at.elapsed() < CHECK_CACHE_TTL
        {
            return Ok(Arc::clone(limitations));
        }
        let limitations = Arc::new(self.query_database(database, params, role).await?);
        let mut cache = self.cache.lock();
        if cache.len() >= MAX_CACHED_CHECKS {
            cache.clear();
        }
        cache.insert(key, (Instant::now(), Arc::clone(&limitations)));
        Ok(limitations)
    }

    async fn query_database(
        &self,
        database: &Database,
        params: &SubscriptionParams,
        role: &str,
    ) -> Result<Limitations, SubscribeError> {
        let unavailable = |error: PgError| SubscribeError::Unavailable(ErrorChain(&error).to_string());
        let client = database.server_connection().await.map_err(unavailable)?;
        let tables = postgres_changes::published_tables(&client, &params.schema, &params.table)
            .await
            .map_err(unavailable)?;
        if tables.is_empty() {
            return Err(SubscribeError::Refused(format!(
                "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given \
                 connect parameters: {}",
                params.describe()
            )));
        }
        let to_check = ParamsToCheck {
            columns: params.filters.iter().map(|filter| &*filter.column).collect(),
            operators: params.filters.iter().map(|filter| filter.operator.as_str()).collect(),
            values: params.filters.iter().map(|filter| &*filter.value).collect(),
            select: params.select.iter().flatten().map(|name| &**name).collect(),
        };
        // Without filters and `select` the result depends only on the role, so one table is enough.
        let tables =
            if to_check.columns.is_empty() && to_check.select.is_empty() { &tables[..1] } else { &tables };
        for table in tables {
            if let Err(error) = postgres_changes::check_params(&client, table.oid, role, &to_check).await {
                let Some(db) = database_error(&error).filter(|db| !is_outage(db.code().code())) else {
                    return Err(unavailable(error));
                };
                return Err(SubscribeError::Refused(format!(
                    "Unable to subscribe to changes with given parameters. An exception happened so please check your \
                     connect parameters: {}. Exception: ERROR {} ({}) {}",
                    params.describe(),
                    db.code().code(),
                    sqlstate_name(db.code().code()),
                    db.message(),
                )));
            }
        }
        // Limitations are not reported for subscriptions to several tables.
        let [table] = tables else { return Ok(Limitations::new()) };
        if &*params.schema == "*" || &*params.table == "*" {
            return Ok(Limitations::new());
        }
        let limitations =
            postgres_changes::limitations(&client, table.oid, role).await.map_err(unavailable)?;
        Ok(limitations.into_iter().map(Arc::from).collect())
    }

    /// Checks whether the tables of the publication have changed; if so, validates all subscriptions again.
    pub async fn recheck_if_publication_changed(&self, database: &Database, registry: &SubscriptionRegistry) {
        let state = async {
            let client = database.server_connection().await?;
            postgres_changes::publication_state(&client).await
        };
        // An unavailable database is handled by the stream.
        let Ok(state) = state.await else { return };
        if self.publication_state.swap(state, Ordering::AcqRel) == state {
            return;
        }
        self.cache.lock().clear();
        let mut rejected = HashMap::new();
        for (spec, principal) in registry.distinct_specs() {
            for binding in spec.bindings.iter() {
                if let Err(SubscribeError::Refused(reason)) =
                    self.validate(database, &binding.params, &principal.role).await
                {
                    rejected.insert((Arc::clone(&spec), Arc::clone(&principal)), reason);
                    break;
                }
            }
        }
        if !rejected.is_empty() {
            registry.evict(|spec, principal| {
                rejected
                    .iter()
                    .find(|((rejected_spec, rejected_principal), _)| {
                        **rejected_spec == *spec && **rejected_principal == *principal
                    })
                    .map(|(_, reason)| reason.clone())
            });
        }
    }
}

/// The error that PostgreSQL reported, if any.
fn database_error(error: &PgError) -> Option<&DbError> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            return error.as_db_error();
        }
        cause = error.source();
    }
    None
}

/// Whether the SQLSTATE means that the server is unavailable or out of resources, so the parameters are not at fault.
fn is_outage(code: &str) -> bool {
    ["57P", "53", "08"].iter().any(|class| code.starts_with(class)) || code == "57014"
}

/// The condition name of a SQLSTATE, as in errors of Supabase Realtime.
fn sqlstate_name(code: &str) -> &'static str {
    match code {
        "P0001" => "raise_exception",
        "22P02" => "invalid_text_representation",
        "22003" => "numeric_value_out_of_range",
        "22007" => "invalid_datetime_format",
        "22008" => "datetime_field_overflow",
        "22023" => "invalid_parameter_value",
        "22000" => "data_exception",
        "2201B" => "invalid_regular_expression",
        "23514" => "check_violation",
        "42501" => "insufficient_privilege",
        "42601" => "syntax_error",
        "42602" => "invalid_name",
        "42703" => "undefined_column",
        "42704" => "undefined_object",
        "42804" => "datatype_mismatch",
        "42846" => "cannot_coerce",
        "42883" => "undefined_function",
        "42P01" => "undefined_table",
        "57014" => "query_canceled",
        _ => "error",
    }
}
