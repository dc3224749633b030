//! Subscribing: validates the parameters, waits for the stream, and registers the channel.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicI32, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rand::Rng;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{sleep, timeout},
};

use tokio_postgres::error::DbError;

use super::{
    engine::{Engine, PostgresChangesSettings, Shared, StreamState},
    params::{RequestedBinding, SubscriptionParams},
    pipeline::DeliverySink,
    registry::{Binding, SubscriptionRegistry, SubscriptionSpec, SystemMessageSink},
};
use crate::{
    channels::ChannelPrincipal,
    hub::ConnId,
    lifecycle::ErrorChain,
    model::ChannelId,
    pg::{
        Database, PgError,
        queries::postgres_changes::{self, ParamsToCheck},
    },
};

/// Maximum time that a join waits for the stream. After it, the subscription is confirmed when the stream starts.
const STREAM_START_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a successful validation is cached, so that many equal joins are validated once.
const CHECK_CACHE_TTL: Duration = Duration::from_secs(2);
const MAX_CACHED_CHECKS: usize = 10_000;
/// Delay between attempts to subscribe while the database is unavailable, in seconds.
const RETRY_DELAY_SECONDS: std::ops::Range<f64> = 5.0..10.0;

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

/// Subscribes channels to changes of the database. Clones share their state.
#[derive(Clone)]
pub struct PostgresChanges(Arc<Shared>);

/// A validated subscription that is not active yet.
pub struct PreparedSubscription {
    shared: Arc<Shared>,
    spec: SubscriptionSpec,
    principal: Arc<ChannelPrincipal>,
    validation: Result<Limitations, SubscribeError>,
}

/// Reasons why some changes are never delivered to a subscriber, sent with the confirmation.
type Limitations = Vec<Arc<str>>;

/// An active subscription; ends when dropped.
pub struct Subscription {
    shared: Arc<Shared>,
    id: ChannelId,
    spec: SubscriptionSpec,
    conn: ConnId,
    system_messages: Arc<dyn SystemMessageSink>,
    retry_task: Mutex<Option<AbortHandle>>,
}

impl std::fmt::Debug for PreparedSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedSubscription").field("validation", &self.validation).finish_non_exhaustive()
    }
}

impl PostgresChanges {
    /// Creates the handle and the engine for `database`. The caller runs the engine's task; changes are delivered to
    /// `sink`.
    #[must_use]
    pub fn new(
        database: Database,
        sink: Arc<dyn DeliverySink>,
        settings: PostgresChangesSettings,
    ) -> (Self, Engine) {
        let shared = Arc::new(Shared {
            database,
            registry: SubscriptionRegistry::default(),
            validator: ParamsValidator::default(),
            start_requested: Notify::new(),
            stream_state: watch::Sender::new(StreamState::Stopped),
            settings,
        });
        let engine = Engine::new(Arc::clone(&shared), sink);
        (Self(shared), engine)
    }

    /// Validates a subscription and waits up to 2 seconds for the stream. The result is sent to the channel by
    /// [`PreparedSubscription::activate`], after the reply to its join.
    pub async fn prepare(
        &self,
        topic: Arc<str>,
        requested: &[RequestedBinding],
        is_legacy: bool,
        principal: Arc<ChannelPrincipal>,
    ) -> PreparedSubscription {
        let mut bindings = Vec::with_capacity(requested.len());
        let mut validation = Ok(Limitations::new());
        for requested in requested {
            match &requested.params {
                Ok(params) => bindings.push(Binding { id: requested.id(), params: params.clone() }),
                Err(error) => {
                    validation = validation.and(Err(SubscribeError::Refused(error.to_string())));
                }
            }
        }
        let spec = SubscriptionSpec { topic, bindings: bindings.into(), is_legacy };
        if validation.is_ok() {
            validation = validate_and_wait(&self.0, &spec, &principal).await;
        }
        PreparedSubscription { shared: Arc::clone(&self.0), spec, principal, validation }
    }

    /// Waits until changes are streamed; false if they are not within the timeout.
    pub async fn wait_until_streaming(&self, wait_timeout: Duration) -> bool {
        let mut state = self.0.stream_state.subscribe();
        timeout(wait_timeout, state.wait_for(|state| *state == StreamState::Streaming)).await.is_ok()
    }

    /// Number of subscriptions on this node.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.0.registry.len()
    }

    /// State of the stream of changes.
    #[must_use]
    pub fn stream_state(&self) -> StreamState {
        self.0.stream_state.borrow().clone()
    }
}

impl PreparedSubscription {
    /// The validation error, if any.
    #[must_use]
    pub fn error(&self) -> Option<&SubscribeError> {
        self.validation.as_ref().err()
    }

    /// Registers the channel. `reply` sends the reply to its join; no change is delivered before that. Changes that
    /// are committed after the client received `Subscribed to PostgreSQL` are delivered. An error is sent to the
    /// channel; if a retry can help, subscribing is retried in the background.
    pub fn activate(
        self,
        (id, conn): (ChannelId, ConnId),
        system_messages: Arc<dyn SystemMessageSink>,
        reply: impl FnOnce(),
    ) -> Subscription {
        let Self { shared, spec, principal, validation } = self;
        let subscription =
            Subscription { shared, id, spec, conn, system_messages, retry_task: Mutex::default() };
        match validation {
            Ok(limitations) => subscription.register(principal, &limitations, reply),
            Err(error) => {
                reply();
                subscription.report_and_retry(error, principal);
            }
        }
        subscription
    }
}

impl Subscription {
    /// Replaces the principal: validates the subscription and confirms it again.
    pub async fn replace_principal(&self, principal: Arc<ChannelPrincipal>) {
        if let Some(retry_task) = self.retry_task.lock().take() {
            retry_task.abort();
        }
        match validate_and_wait(&self.shared, &self.spec, &principal).await {
            Ok(limitations) if self.shared.registry.contains(self.id) => {
                self.shared.registry.replace_principal(self.id, principal);
                send_limitations(&*self.system_messages, &limitations);
            }
            Ok(limitations) => self.register(principal, &limitations, || {}),
            Err(error) => {
                // The new principal may have fewer rights, so the old one's must not be used any longer.
                self.shared.registry.remove(self.id);
                self.report_and_retry(error, principal);
            }
        }
    }

    fn register(&self, principal: Arc<ChannelPrincipal>, limitations: &[Arc<str>], reply: impl FnOnce()) {
        let system_messages = Arc::clone(&self.system_messages);
        self.shared.registry.register(
            (self.id, self.conn),
            self.spec.clone(),
            principal,
            system_messages,
            reply,
        );
        self.shared.start_requested.notify_one();
        send_limitations(&*self.system_messages, limitations);
    }

    fn report_and_retry(&self, error: SubscribeError, principal: Arc<ChannelPrincipal>) {
        self.system_messages.send(false, &error.to_string());
        if matches!(error, SubscribeError::Refused(_)) {
            return;
        }
        let (shared, spec, system_messages) =
            (Arc::clone(&self.shared), self.spec.clone(), Arc::clone(&self.system_messages));
        let ids = (self.id, self.conn);
        // Dropping the subscription aborts the task.
        let retry_task = tokio::spawn(async move {
            loop {
                let delay_seconds = rand::rng().random_range(RETRY_DELAY_SECONDS);
                sleep(Duration::from_secs_f64(delay_seconds)).await;
                match validate_and_wait(&shared, &spec, &principal).await {
                    Ok(limitations) => {
                        shared.registry.register(ids, spec, principal, Arc::clone(&system_messages), || {});
                        send_limitations(&*system_messages, &limitations);
                        return;
                    }
                    Err(error) => {
                        system_messages.send(false, &error.to_string());
                        if matches!(error, SubscribeError::Refused(_)) {
                            return;
                        }
                    }
                }
            }
        });
        *self.retry_task.lock() = Some(retry_task.abort_handle());
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(retry_task) = self.retry_task.lock().take() {
            retry_task.abort();
        }
        self.shared.registry.remove(self.id);
    }
}

fn send_limitations(system_messages: &dyn SystemMessageSink, limitations: &[Arc<str>]) {
    for limitation in limitations {
        system_messages.send(true, limitation);
    }
}

/// Validates the bindings and waits for the stream; returns the limitations.
async fn validate_and_wait(
    shared: &Shared,
    spec: &SubscriptionSpec,
    principal: &ChannelPrincipal,
) -> Result<Limitations, SubscribeError> {
    shared.registry.restart_idle_timer();
    shared.start_requested.notify_one();
    let mut limitations = Limitations::new();
    for binding in spec.bindings.iter() {
        for limitation in
            shared.validator.validate(&shared.database, &binding.params, &principal.role).await?.iter()
        {
            if !limitations.contains(limitation) {
                limitations.push(Arc::clone(limitation));
            }
        }
    }
    let mut state = shared.stream_state.subscribe();
    let started = timeout(STREAM_START_TIMEOUT, state.wait_for(|state| *state != StreamState::Stopped)).await;
    match started {
        Ok(Ok(state)) => match &*state {
            StreamState::Failed(reason) => {
                Err(SubscribeError::Unavailable(format!("Changes cannot be streamed: {reason}")))
            }
            _ => Ok(limitations),
        },
        // The channel is registered anyway, and confirmed when the stream starts.
        _ => Ok(limitations),
    }
}

/// Time and result of a successful validation.
type CachedCheck = (Instant, Arc<Limitations>);

/// Validates parameters in the database and caches the results.
#[derive(Default)]
pub(super) struct ParamsValidator {
    cache: Mutex<HashMap<(SubscriptionParams, Box<str>), CachedCheck>>,
    publication_state: AtomicI32,
}

impl ParamsValidator {
    async fn validate(
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
    pub(super) async fn recheck_if_publication_changed(
        &self,
        database: &Database,
        registry: &SubscriptionRegistry,
    ) {
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
