//! Joining: what is asked for is checked, the stream is waited for, and then the channel is seated.

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

/// How long a join waits for the stream; then it is confirmed when it runs.
const STREAM_START_TIMEOUT: Duration = Duration::from_secs(2);
/// A good answer about parameters is believed so long, so that a crowd that joins at once is checked once.
const CHECK_CACHE_TTL: Duration = Duration::from_secs(2);
const MAX_CACHED_CHECKS: usize = 10_000;
/// Between attempts to subscribe while the database is out of reach.
const RETRY_DELAY_SECONDS: std::ops::Range<f64> = 5.0..10.0;

/// Why a channel does not hear changes. The texts are the original's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// What is asked for is wrong; asking again does not help.
    #[error("{0}")]
    Refused(String),
    /// The database is out of reach, or changes cannot be streamed now.
    #[error("{0}")]
    Unavailable(String),
}

/// Changes of the database, for whoever asks. Clones share them.
#[derive(Clone)]
pub struct PostgresChanges(Arc<Shared>);

/// A channel's request, checked.
pub struct PreparedSubscription {
    shared: Arc<Shared>,
    spec: SubscriptionSpec,
    principal: Arc<ChannelPrincipal>,
    validation: Result<Limitations, SubscribeError>,
}

/// What will never come of what is asked for, and why; said to the subscriber with the confirmation.
type Limitations = Vec<Arc<str>>;

/// A channel's place; given up when dropped.
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
        f.debug_struct("Prepared").field("checked", &self.validation).finish_non_exhaustive()
    }
}

impl PostgresChanges {
    /// Changes of `database`, delivered to `sink` by the engine, whose task the caller runs.
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

    /// Checks what a channel asks for, and waits until changes are streamed, a bounded time. The result is told to the
    /// channel only when it is [seated](Prepared::activate), behind the reply to its join.
    pub async fn prepare(
        &self,
        topic: Arc<str>,
        requested: &[RequestedBinding],
        is_legacy: bool,
        claimant: Arc<ChannelPrincipal>,
    ) -> PreparedSubscription {
        let mut bindings = Vec::with_capacity(requested.len());
        let mut checked = Ok(Limitations::new());
        for requested in requested {
            match &requested.params {
                Ok(params) => bindings.push(Binding { id: requested.id(), params: params.clone() }),
                Err(error) => {
                    checked = checked.and(Err(SubscribeError::Refused(error.to_string())));
                }
            }
        }
        let interest = SubscriptionSpec { topic, bindings: bindings.into(), is_legacy };
        if checked.is_ok() {
            checked = validate_and_wait(&self.0, &interest, &claimant).await;
        }
        PreparedSubscription {
            shared: Arc::clone(&self.0),
            spec: interest,
            principal: claimant,
            validation: checked,
        }
    }

    /// Waits until changes are streamed; false if they are not after `patience`.
    pub async fn wait_until_streaming(&self, patience: Duration) -> bool {
        let mut state = self.0.stream_state.subscribe();
        timeout(patience, state.wait_for(|state| *state == StreamState::Streaming)).await.is_ok()
    }

    /// How many channels hear changes here.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.0.registry.len()
    }

    /// Whether changes are streamed.
    #[must_use]
    pub fn stream_state(&self) -> StreamState {
        self.0.stream_state.borrow().clone()
    }
}

impl PreparedSubscription {
    /// Why it would be told that it hears nothing, if so.
    #[must_use]
    pub fn error(&self) -> Option<&SubscribeError> {
        self.validation.as_ref().err()
    }

    /// Seats the channel. `reply` sends the reply to its join; no change comes before that, and what is committed after
    /// the client read `Subscribed to PostgreSQL` comes. What went wrong is told to `ears`, and tried again if that
    /// can help.
    pub fn activate(
        self,
        (id, conn): (ChannelId, ConnId),
        ears: Arc<dyn SystemMessageSink>,
        reply: impl FnOnce(),
    ) -> Subscription {
        let Self { shared, spec: interest, principal: claimant, validation: checked } = self;
        let subscription = Subscription {
            shared,
            id,
            spec: interest,
            conn,
            system_messages: ears,
            retry_task: Mutex::default(),
        };
        match checked {
            Ok(notes) => subscription.register(claimant, &notes, reply),
            Err(error) => {
                reply();
                subscription.report_and_retry(error, claimant);
            }
        }
        subscription
    }
}

impl Subscription {
    /// The channel acts as somebody else from now on: what it asks for is checked again, and confirmed again.
    pub async fn replace_principal(&self, claimant: Arc<ChannelPrincipal>) {
        if let Some(trying) = self.retry_task.lock().take() {
            trying.abort();
        }
        match validate_and_wait(&self.shared, &self.spec, &claimant).await {
            Ok(notes) if self.shared.registry.contains(self.id) => {
                self.shared.registry.replace_principal(self.id, claimant);
                send_limitations(&*self.system_messages, &notes);
            }
            Ok(notes) => self.register(claimant, &notes, || {}),
            Err(error) => {
                // The new token may see less: the old one's rights end here.
                self.shared.registry.remove(self.id);
                self.report_and_retry(error, claimant);
            }
        }
    }

    fn register(&self, claimant: Arc<ChannelPrincipal>, notes: &[Arc<str>], reply: impl FnOnce()) {
        let ears = Arc::clone(&self.system_messages);
        self.shared.registry.register((self.id, self.conn), self.spec.clone(), claimant, ears, reply);
        self.shared.start_requested.notify_one();
        send_limitations(&*self.system_messages, notes);
    }

    fn report_and_retry(&self, error: SubscribeError, claimant: Arc<ChannelPrincipal>) {
        self.system_messages.send(false, &error.to_string());
        if matches!(error, SubscribeError::Refused(_)) {
            return;
        }
        let (shared, interest, ears) =
            (Arc::clone(&self.shared), self.spec.clone(), Arc::clone(&self.system_messages));
        let seat = (self.id, self.conn);
        // Ends with the subscription, which aborts it.
        let trying = tokio::spawn(async move {
            loop {
                let pause = rand::rng().random_range(RETRY_DELAY_SECONDS);
                sleep(Duration::from_secs_f64(pause)).await;
                match validate_and_wait(&shared, &interest, &claimant).await {
                    Ok(notes) => {
                        shared.registry.register(seat, interest, claimant, Arc::clone(&ears), || {});
                        send_limitations(&*ears, &notes);
                        return;
                    }
                    Err(error) => {
                        ears.send(false, &error.to_string());
                        if matches!(error, SubscribeError::Refused(_)) {
                            return;
                        }
                    }
                }
            }
        });
        *self.retry_task.lock() = Some(trying.abort_handle());
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(trying) = self.retry_task.lock().take() {
            trying.abort();
        }
        self.shared.registry.remove(self.id);
    }
}

fn send_limitations(ears: &dyn SystemMessageSink, notes: &[Arc<str>]) {
    for note in notes {
        ears.send(true, note);
    }
}

/// Whether what is asked for is fine and changes are streamed; what will never come all the same.
async fn validate_and_wait(
    shared: &Shared,
    interest: &SubscriptionSpec,
    claimant: &ChannelPrincipal,
) -> Result<Limitations, SubscribeError> {
    shared.registry.restart_idle_timer();
    shared.start_requested.notify_one();
    let mut notes = Limitations::new();
    for binding in interest.bindings.iter() {
        for note in shared.validator.validate(&shared.database, &binding.params, &claimant.role).await?.iter()
        {
            if !notes.contains(note) {
                notes.push(Arc::clone(note));
            }
        }
    }
    let mut state = shared.stream_state.subscribe();
    let decided = timeout(STREAM_START_TIMEOUT, state.wait_for(|state| *state != StreamState::Stopped)).await;
    match decided {
        Ok(Ok(state)) => match &*state {
            StreamState::Failed(why) => {
                Err(SubscribeError::Unavailable(format!("Changes cannot be streamed: {why}")))
            }
            _ => Ok(notes),
        },
        // Seated anyway: it is confirmed as soon as the stream runs.
        _ => Ok(notes),
    }
}

/// When a good answer came, and what was noted with it.
type CachedCheck = (Instant, Arc<Limitations>);

/// What has been asked of the database about parameters.
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
        if let Some((at, notes)) = self.cache.lock().get(&key)
            && at.elapsed() < CHECK_CACHE_TTL
        {
            return Ok(Arc::clone(notes));
        }
        let notes = Arc::new(self.query_database(database, params, role).await?);
        let mut good = self.cache.lock();
        if good.len() >= MAX_CACHED_CHECKS {
            good.clear();
        }
        good.insert(key, (Instant::now(), Arc::clone(&notes)));
        Ok(notes)
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
        let asked = ParamsToCheck {
            columns: params.filters.iter().map(|filter| &*filter.column).collect(),
            operators: params.filters.iter().map(|filter| filter.operator.as_str()).collect(),
            values: params.filters.iter().map(|filter| &*filter.value).collect(),
            select: params.select.iter().flatten().map(|name| &**name).collect(),
        };
        // Without conditions only the role is in question, and one table tells.
        let tables = if asked.columns.is_empty() && asked.select.is_empty() { &tables[..1] } else { &tables };
        for table in tables {
            if let Err(error) = postgres_changes::check_params(&client, table.oid, role, &asked).await {
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
        // Who asks for all tables is not told of each that is none of its business.
        let [table] = tables else { return Ok(Limitations::new()) };
        if &*params.schema == "*" || &*params.table == "*" {
            return Ok(Limitations::new());
        }
        let notes = postgres_changes::limitations(&client, table.oid, role).await.map_err(unavailable)?;
        Ok(notes.into_iter().map(Arc::from).collect())
    }

    /// Looks whether tables have joined or left the publication, and if so checks everybody again.
    pub(super) async fn recheck_if_publication_changed(
        &self,
        database: &Database,
        registry: &SubscriptionRegistry,
    ) {
        let state = async {
            let client = database.server_connection().await?;
            postgres_changes::publication_state(&client).await
        };
        // A database that does not answer is the stream's trouble.
        let Ok(state) = state.await else { return };
        if self.publication_state.swap(state, Ordering::AcqRel) == state {
            return;
        }
        self.cache.lock().clear();
        let mut refused = HashMap::new();
        for (interest, claimant) in registry.distinct_specs() {
            for binding in interest.bindings.iter() {
                if let Err(SubscribeError::Refused(why)) =
                    self.validate(database, &binding.params, &claimant.role).await
                {
                    refused.insert((Arc::clone(&interest), Arc::clone(&claimant)), why);
                    break;
                }
            }
        }
        if !refused.is_empty() {
            registry.evict(|interest, claimant| {
                refused
                    .iter()
                    .find(|((of, by), _)| **of == *interest && **by == *claimant)
                    .map(|(_, why)| why.clone())
            });
        }
    }
}

/// What PostgreSQL itself said.
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

/// Shut down, crashed, out of connections or memory: nothing that is asked for is wrong.
fn is_outage(code: &str) -> bool {
    ["57P", "53", "08"].iter().any(|class| code.starts_with(class)) || code == "57014"
}

/// The name of a SQLSTATE, as the original shows it.
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
