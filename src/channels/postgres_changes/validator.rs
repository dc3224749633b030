//! Validates the parameters of subscriptions in the database.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Weak,
        atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_postgres::{
    Client,
    error::{DbError, SqlState},
};

use super::{
    budget::{Amount, Holder, Reservation, Shares},
    filter::{Filter, Operator},
    params::SubscriptionParams,
    registry::{Binding, SubscriptionRegistry},
};
use crate::{
    auth::Role,
    hub::ConnId,
    lifecycle::ErrorChain,
    pg::{
        Connector, PgError,
        queries::postgres_changes::{self, ParamsToCheck, PublishedTable},
    },
};

/// How long a successful validation is cached, so that many equal joins are validated once.
const CHECK_CACHE_TTL: Duration = Duration::from_secs(2);
/// Maximum bytes of cached parameters.
const MAX_CACHED_BYTES: usize = 8 << 20;
/// Number of connections for checks whose cost does not depend on the client's choice.
const PLAIN_CONNECTIONS: usize = 2;
/// Maximum duration of a query for such a check, and for one that compiles regular expressions.
const PLAIN_TIMEOUT: Duration = Duration::from_secs(10);
const PATTERN_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of checks of regular expressions that wait or run, per connection, user and node.
const MAX_PENDING_PATTERNS_PER_CLIENT: usize = 4;
const MAX_PENDING_PATTERNS_PER_USER: usize = 8;
const MAX_PENDING_PATTERNS: usize = 64;

/// Why a subscription failed. The texts are those of Supabase Realtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The parameters are invalid; a retry does not help.
    #[error("{0}")]
    Refused(String),
    /// The parameters select no published table. The subscription becomes active when one is published.
    #[error("{0}")]
    Unpublished(String),
    /// The database is unavailable, or the stream could not be started.
    #[error("{0}")]
    Unavailable(String),
}

/// Reasons why some changes are never delivered to a subscriber, sent with the confirmation.
pub(super) type Limitations = Vec<Arc<str>>;

/// Who waits for a validation: connection and `sub` claim.
type Requester<'a> = (ConnId, Option<&'a str>);

/// Schema and table of parameters.
type Target = (Box<str>, Box<str>);

/// What a pass over several bindings has read, so that it is read once. Dropped after the pass.
#[derive(Default)]
struct CatalogPass {
    tables: HashMap<Target, Arc<[PublishedTable]>>,
    /// By table OID and role.
    limitations: HashMap<(u32, Role), Vec<String>>,
}

#[derive(Default)]
struct CheckCache {
    /// Time and limitations by parameters and role.
    entries: HashMap<(SubscriptionParams, Role), (Instant, Arc<Limitations>)>,
    bytes: usize,
    /// The publication's generation that the entries belong to.
    generation: u64,
}

impl CheckCache {
    fn get(&self, key: &(SubscriptionParams, Role)) -> Option<Arc<Limitations>> {
        let (cached_at, limitations) = self.entries.get(key)?;
        (cached_at.elapsed() < CHECK_CACHE_TTL).then(|| Arc::clone(limitations))
    }

    fn insert(&mut self, key: (SubscriptionParams, Role), limitations: Arc<Limitations>, generation: u64) {
        if generation != self.generation {
            return;
        }
        let bytes = key.0.size_bytes();
        if self.bytes + bytes > MAX_CACHED_BYTES {
            self.remove_expired();
        }
        if self.bytes + bytes <= MAX_CACHED_BYTES
            && self.entries.insert(key, (Instant::now(), limitations)).is_none()
        {
            self.bytes += bytes;
        }
    }

    fn remove_expired(&mut self) {
        self.entries.retain(|_, (cached_at, _)| cached_at.elapsed() < CHECK_CACHE_TTL);
        self.entries.shrink_to(self.entries.len() * 2);
        self.bytes = self.entries.keys().map(|(params, _)| params.size_bytes()).sum();
    }
}

/// Validates parameters in the database and caches the results.
///
/// It has connections of its own, so that subscribing never waits for the pools of other work nor makes it wait.
/// Regular expressions, which may take long to compile, have one connection and a short timeout.
pub(super) struct ParamsValidator {
    connector: Connector,
    cache: Mutex<CheckCache>,
    /// The last hash of the publication, and the number of its changes that this node has noticed.
    publication_state: AtomicI32,
    generation: AtomicU64,
    plain: [tokio::sync::Mutex<Option<Client>>; PLAIN_CONNECTIONS],
    next_plain: AtomicUsize,
    patterns: tokio::sync::Mutex<Option<Client>>,
    pending: Arc<Shares>,
    /// One check at a time per connection, so that many joins of one connection delay the others by one check.
    turns: Mutex<HashMap<ConnId, Weak<tokio::sync::Mutex<()>>>>,
}

impl ParamsValidator {
    /// Creates a validator; it opens connections when needed.
    #[must_use]
    pub(super) fn new(connector: Connector) -> Self {
        Self {
            connector,
            cache: Mutex::default(),
            publication_state: AtomicI32::new(0),
            generation: AtomicU64::new(0),
            plain: Default::default(),
            next_plain: AtomicUsize::new(0),
            patterns: Default::default(),
            pending: Arc::default(),
            turns: Mutex::default(),
        }
    }

    /// Bytes of cached parameters.
    #[must_use]
    pub(super) fn cached_bytes(&self) -> usize {
        self.cache.lock().bytes
    }

    /// Number of changes of the publication that were noticed. A result is valid for the generation before its validation.
    #[must_use]
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Validates bindings for a role; returns the limitations. The bounds on pending checks of regular expressions
    /// apply to `requester`, if any.
    ///
    /// # Errors
    /// If the parameters are invalid, too many checks are pending, or the database is unavailable.
    pub(super) async fn validate(
        &self,
        requester: Option<Requester<'_>>,
        bindings: &[Binding],
        role: &Role,
    ) -> Result<Limitations, SubscribeError> {
        if let (Role::Denied, Some(binding)) = (role, bindings.first()) {
            return Err(SubscribeError::Refused(format!(
                "Unable to subscribe to changes with given parameters. An exception happened so please check your \
                 connect parameters: {}. Exception: the role of the token is not in REALTIME_ROLES",
                binding.params.describe()
            )));
        }
        self.validate_in_pass(requester, &mut CatalogPass::default(), bindings, role).await
    }

    async fn validate_in_pass(
        &self,
        requester: Option<Requester<'_>>,
        pass: &mut CatalogPass,
        bindings: &[Binding],
        role: &Role,
    ) -> Result<Limitations, SubscribeError> {
        let mut all = Limitations::new();
        for binding in bindings {
            for limitation in self.validate_params(requester, pass, &binding.params, role).await?.iter() {
                if !all.contains(limitation) {
                    all.push(Arc::clone(limitation));
                }
            }
        }
        Ok(all)
    }

    async fn validate_params(
        &self,
        requester: Option<Requester<'_>>,
        pass: &mut CatalogPass,
        params: &SubscriptionParams,
        role: &Role,
    ) -> Result<Arc<Limitations>, SubscribeError> {
        let key = (params.clone(), role.clone());
        if let Some(limitations) = self.cache.lock().get(&key) {
            return Ok(limitations);
        }
        let generation = self.generation();
        let limitations = Arc::new(self.query_database(requester, pass, params, role).await?);
        self.cache.lock().insert(key, Arc::clone(&limitations), generation);
        Ok(limitations)
    }

    /// The lock that the checks of a connection hold in turn.
    fn turn(&self, conn: ConnId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock();
        if let Some(turn) = turns.get(&conn).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(conn, Arc::downgrade(&turn));
        turn
    }

    fn count_pending(&self, (conn, user): Requester<'_>) -> Result<Reservation, SubscribeError> {
        self.pending.reserve(conn, user, Amount { entries: 1, bytes: 0 }, |holder, used| {
            let (name, max) = match holder {
                Holder::Connection => ("connection", MAX_PENDING_PATTERNS_PER_CLIENT),
                Holder::User => ("user", MAX_PENDING_PATTERNS_PER_USER),
                Holder::Node => ("node", MAX_PENDING_PATTERNS),
            };
            if used.entries < max {
                return Ok(());
            }
            Err(SubscribeError::Unavailable(format!(
                "too_many_pending_filters: {max} filters with regular expressions are being validated for this \
                 {name}. Subscribing is tried again in some seconds."
            )))
        })
    }

    async fn query_database(
        &self,
        requester: Option<Requester<'_>>,
        pass: &mut CatalogPass,
        params: &SubscriptionParams,
        role: &Role,
    ) -> Result<Limitations, SubscribeError> {
        let turn = requester.map(|(conn, _)| self.turn(conn));
        let turn_guard = match &turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        let position = self.next_plain.fetch_add(1, Ordering::Relaxed) % PLAIN_CONNECTIONS;
        let mut connection = self.plain[position].lock().await;
        let client = connect(&self.connector, &mut connection, PLAIN_TIMEOUT).await.map_err(unavailable)?;
        let target = (params.schema.clone(), params.table.clone());
        let tables = match pass.tables.get(&target) {
            Some(tables) => Arc::clone(tables),
            None => {
                let tables = postgres_changes::published_tables(client, &params.schema, &params.table).await;
                Arc::clone(pass.tables.entry(target).or_insert(tables.map_err(unavailable)?.into()))
            }
        };
        if tables.is_empty() {
            return Err(SubscribeError::Unpublished(format!(
                "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given \
                 connect parameters: {}",
                params.describe()
            )));
        }
        let to_check = ParamsToCheck {
            columns: params.filters.iter().map(|filter| &*filter.column).collect(),
            operators: params.filters.iter().map(|filter| filter.operator.as_str()).collect(),
            // Regular expressions are compiled below.
            values: params.filters.iter().map(plain_value).collect(),
            select: params.select.iter().flatten().map(|name| &**name).collect(),
        };
        // Without filters and `select` the result depends only on the role, so one table is enough.
        let is_plain = to_check.columns.is_empty() && to_check.select.is_empty();
        let tables = if is_plain { &tables[..1] } else { &tables[..] };
        for table in tables {
            let result = postgres_changes::check_params(client, table.oid, role.as_str(), &to_check).await;
            result.map_err(|error| check_error(error, params))?;
        }
        // Limitations are not reported for subscriptions to several tables.
        let limitations = match tables {
            [table] if !params.is_wildcard() => match pass.limitations.entry((table.oid, role.clone())) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(unknown) => {
                    let limitations = postgres_changes::limitations(client, table.oid, role.as_str()).await;
                    unknown.insert(limitations.map_err(unavailable)?).clone()
                }
            },
            _ => Vec::new(),
        };
        drop(connection);
        drop(turn_guard);
        let patterns: Vec<&Filter> = params.filters.iter().filter(|filter| is_regex(filter)).collect();
        if !patterns.is_empty() {
            let _permit = requester.map(|requester| self.count_pending(requester)).transpose()?;
            self.check_patterns(&patterns, tables[0].oid, role, params).await?;
        }
        Ok(limitations.into_iter().map(Arc::from).collect())
    }

    /// Compiles regular expressions, which does not depend on the table.
    async fn check_patterns(
        &self,
        patterns: &[&Filter],
        table: u32,
        role: &Role,
        params: &SubscriptionParams,
    ) -> Result<(), SubscribeError> {
        let mut connection = self.patterns.lock().await;
        let client = connect(&self.connector, &mut connection, PATTERN_TIMEOUT).await.map_err(unavailable)?;
        for pattern in patterns {
            let to_check = ParamsToCheck {
                columns: vec![&*pattern.column],
                operators: vec![pattern.operator.as_str()],
                values: vec![&*pattern.value],
                select: Vec::new(),
            };
            match postgres_changes::check_params(client, table, role.as_str(), &to_check).await {
                Ok(()) => {}
                Err(error)
                    if database_error(&error).is_some_and(|db| *db.code() == SqlState::QUERY_CANCELED) =>
                {
                    return Err(SubscribeError::Refused(format!(
                        "filter_too_complex: compiling the regular expression of the filter on column {} took more \
                         than {} ms. Use a simpler expression.",
                        pattern.column,
                        PATTERN_TIMEOUT.as_millis()
                    )));
                }
                Err(error) => return Err(check_error(error, params)),
            }
        }
        Ok(())
    }

    /// Checks whether the publication has changed, and validates again the subscriptions that were validated before
    /// that. Drops expired entries of the cache. Returns whether a subscription became active.
    pub(super) async fn recheck(&self, registry: &SubscriptionRegistry) -> bool {
        self.cache.lock().remove_expired();
        let state = async {
            let mut connection = self.plain[0].lock().await;
            let client = connect(&self.connector, &mut connection, PLAIN_TIMEOUT).await?;
            postgres_changes::publication_state(client).await
        };
        // An unavailable database is handled by the stream.
        let Ok(state) = state.await else { return false };
        if self.publication_state.swap(state, Ordering::AcqRel) != state {
            let mut cache = self.cache.lock();
            let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
            *cache = CheckCache { generation, ..CheckCache::default() };
        }
        let generation = self.generation();
        let mut pass = CatalogPass::default();
        let mut results = HashMap::new();
        for (spec, principal) in registry.outdated(generation) {
            let result = match self.validate_in_pass(None, &mut pass, &spec.bindings, &principal.role).await {
                Ok(limitations) => Ok(limitations),
                Err(SubscribeError::Refused(reason) | SubscribeError::Unpublished(reason)) => Err(reason),
                // Tried again at the next call.
                Err(SubscribeError::Unavailable(_)) => continue,
            };
            results.insert((spec, principal), result);
        }
        !results.is_empty() && registry.apply_validations(&results, generation)
    }
}

/// Returns the connection, opened if necessary, with a limit on the duration of each statement.
async fn connect<'a>(
    connector: &Connector,
    connection: &'a mut Option<Client>,
    limit: Duration,
) -> Result<&'a Client, PgError> {
    match connection {
        Some(client) if !client.is_closed() => {}
        _ => {
            let client = connector.client("changes").await?;
            client.batch_execute(&format!("set statement_timeout = {}", limit.as_millis())).await?;
            *connection = Some(client);
        }
    }
    connection.as_ref().ok_or_else(|| PgError::Unavailable("the connection is not open".into()))
}

const fn is_regex(filter: &Filter) -> bool {
    matches!(filter.operator, Operator::Match | Operator::IMatch)
}

/// The operand that is checked on a connection for plain checks: a regular expression is not compiled there.
fn plain_value(filter: &Filter) -> &str {
    if is_regex(filter) { "" } else { &filter.value }
}

fn unavailable(error: PgError) -> SubscribeError {
    SubscribeError::Unavailable(ErrorChain(&error).to_string())
}

/// The error of a failed check.
fn check_error(error: PgError, params: &SubscriptionParams) -> SubscribeError {
    let Some(db) = database_error(&error).filter(|db| !is_outage(db.code().code())) else {
        return unavailable(error);
    };
    SubscribeError::Refused(format!(
        "Unable to subscribe to changes with given parameters. An exception happened so please check your connect \
         parameters: {}. Exception: ERROR {} ({}) {}",
        params.describe(),
        db.code().code(),
        sqlstate_name(db.code().code()),
        db.message(),
    ))
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
