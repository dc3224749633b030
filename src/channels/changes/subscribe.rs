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
    engine::{ChangesSettings, Engine, Shared, StreamState},
    params::{Params, Requested},
    registry::{Binding, Ears, Interest, Registry},
    teller::Sink,
};
use crate::{
    channels::{ChannelId, Claimant},
    hub::ConnId,
    lifecycle::Chain,
    pg::{
        Database, PgError,
        queries::changes::{self, Asked},
    },
};

/// How long a join waits for the stream; then it is confirmed when it runs.
const STREAM_WAIT: Duration = Duration::from_secs(2);
/// A good answer about parameters is believed so long, so that a crowd that joins at once is checked once.
const BELIEVED_FOR: Duration = Duration::from_secs(2);
const MOST_BELIEVED: usize = 10_000;
/// Between attempts to subscribe while the database is out of reach.
const RETRY: std::ops::Range<f64> = 5.0..10.0;

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
pub struct Changes(Arc<Shared>);

/// A channel's request, checked.
pub struct Prepared {
    shared: Arc<Shared>,
    interest: Interest,
    claimant: Arc<Claimant>,
    checked: Result<Notes, SubscribeError>,
}

/// What will never come of what is asked for, and why; said to the subscriber with the confirmation.
type Notes = Vec<Arc<str>>;

/// A channel's place; given up when dropped.
pub struct Subscription {
    shared: Arc<Shared>,
    id: ChannelId,
    interest: Interest,
    conn: ConnId,
    ears: Arc<dyn Ears>,
    trying: Mutex<Option<AbortHandle>>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("checked", &self.checked).finish_non_exhaustive()
    }
}

impl Changes {
    /// Changes of `database`, delivered to `sink` by the engine, whose task the caller runs.
    #[must_use]
    pub fn new(database: Database, sink: Arc<dyn Sink>, settings: ChangesSettings) -> (Self, Engine) {
        let shared = Arc::new(Shared {
            database,
            registry: Registry::default(),
            checks: Checks::default(),
            wanted: Notify::new(),
            state: watch::Sender::new(StreamState::Off),
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
        requested: &[Requested],
        is_legacy: bool,
        claimant: Arc<Claimant>,
    ) -> Prepared {
        let mut bindings = Vec::with_capacity(requested.len());
        let mut checked = Ok(Notes::new());
        for requested in requested {
            match &requested.params {
                Ok(params) => bindings.push(Binding { id: requested.id(), params: params.clone() }),
                Err(error) => {
                    checked = checked.and(Err(SubscribeError::Refused(error.to_string())));
                }
            }
        }
        let interest = Interest { topic, bindings: bindings.into(), is_legacy };
        if checked.is_ok() {
            checked = ready(&self.0, &interest, &claimant).await;
        }
        Prepared { shared: Arc::clone(&self.0), interest, claimant, checked }
    }

    /// Waits until changes are streamed; false if they are not after `patience`.
    pub async fn until_streaming(&self, patience: Duration) -> bool {
        let mut state = self.0.state.subscribe();
        timeout(patience, state.wait_for(|state| *state == StreamState::On)).await.is_ok()
    }

    /// How many channels hear changes here.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.0.registry.len()
    }

    /// Whether changes are streamed.
    #[must_use]
    pub fn state(&self) -> StreamState {
        self.0.state.borrow().clone()
    }
}

impl Prepared {
    /// Why it would be told that it hears nothing, if so.
    #[must_use]
    pub fn refusal(&self) -> Option<&SubscribeError> {
        self.checked.as_ref().err()
    }

    /// Seats the channel. `reply` sends the reply to its join; no change comes before that, and what is committed after
    /// the client read `Subscribed to PostgreSQL` comes. What went wrong is told to `ears`, and tried again if that
    /// can help.
    pub fn activate(
        self,
        (id, conn): (ChannelId, ConnId),
        ears: Arc<dyn Ears>,
        reply: impl FnOnce(),
    ) -> Subscription {
        let Self { shared, interest, claimant, checked } = self;
        let subscription = Subscription { shared, id, interest, conn, ears, trying: Mutex::default() };
        match checked {
            Ok(notes) => subscription.enter(claimant, &notes, reply),
            Err(error) => {
                reply();
                subscription.failed(error, claimant);
            }
        }
        subscription
    }
}

impl Subscription {
    /// The channel acts as somebody else from now on: what it asks for is checked again, and confirmed again.
    pub async fn renew(&self, claimant: Arc<Claimant>) {
        if let Some(trying) = self.trying.lock().take() {
            trying.abort();
        }
        match ready(&self.shared, &self.interest, &claimant).await {
            Ok(notes) if self.shared.registry.holds(self.id) => {
                self.shared.registry.renew(self.id, claimant);
                say(&*self.ears, &notes);
            }
            Ok(notes) => self.enter(claimant, &notes, || {}),
            Err(error) => {
                // The new token may see less: the old one's rights end here.
                self.shared.registry.leave(self.id);
                self.failed(error, claimant);
            }
        }
    }

    fn enter(&self, claimant: Arc<Claimant>, notes: &[Arc<str>], reply: impl FnOnce()) {
        let ears = Arc::clone(&self.ears);
        self.shared.registry.enter((self.id, self.conn), self.interest.clone(), claimant, ears, reply);
        self.shared.wanted.notify_one();
        say(&*self.ears, notes);
    }

    fn failed(&self, error: SubscribeError, claimant: Arc<Claimant>) {
        self.ears.system(false, &error.to_string());
        if matches!(error, SubscribeError::Refused(_)) {
            return;
        }
        let (shared, interest, ears) =
            (Arc::clone(&self.shared), self.interest.clone(), Arc::clone(&self.ears));
        let seat = (self.id, self.conn);
        // Ends with the subscription, which aborts it.
        let trying = tokio::spawn(async move {
            loop {
                let pause = rand::rng().random_range(RETRY);
                sleep(Duration::from_secs_f64(pause)).await;
                match ready(&shared, &interest, &claimant).await {
                    Ok(notes) => {
                        shared.registry.enter(seat, interest, claimant, Arc::clone(&ears), || {});
                        say(&*ears, &notes);
                        return;
                    }
                    Err(error) => {
                        ears.system(false, &error.to_string());
                        if matches!(error, SubscribeError::Refused(_)) {
                            return;
                        }
                    }
                }
            }
        });
        *self.trying.lock() = Some(trying.abort_handle());
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(trying) = self.trying.lock().take() {
            trying.abort();
        }
        self.shared.registry.leave(self.id);
    }
}

fn say(ears: &dyn Ears, notes: &[Arc<str>]) {
    for note in notes {
        ears.system(true, note);
    }
}

/// Whether what is asked for is fine and changes are streamed; what will never come all the same.
async fn ready(shared: &Shared, interest: &Interest, claimant: &Claimant) -> Result<Notes, SubscribeError> {
    shared.registry.expect_somebody();
    shared.wanted.notify_one();
    let mut notes = Notes::new();
    for binding in interest.bindings.iter() {
        for note in shared.checks.check(&shared.database, &binding.params, &claimant.role).await?.iter() {
            if !notes.contains(note) {
                notes.push(Arc::clone(note));
            }
        }
    }
    let mut state = shared.state.subscribe();
    let decided = timeout(STREAM_WAIT, state.wait_for(|state| *state != StreamState::Off)).await;
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
type Believed = (Instant, Arc<Notes>);

/// What has been asked of the database about parameters.
#[derive(Default)]
pub(super) struct Checks {
    good: Mutex<HashMap<(Params, Box<str>), Believed>>,
    publication: AtomicI32,
}

impl Checks {
    async fn check(
        &self,
        database: &Database,
        params: &Params,
        role: &str,
    ) -> Result<Arc<Notes>, SubscribeError> {
        let key = (params.clone(), role.into());
        if let Some((at, notes)) = self.good.lock().get(&key)
            && at.elapsed() < BELIEVED_FOR
        {
            return Ok(Arc::clone(notes));
        }
        let notes = Arc::new(self.ask(database, params, role).await?);
        let mut good = self.good.lock();
        if good.len() >= MOST_BELIEVED {
            good.clear();
        }
        good.insert(key, (Instant::now(), Arc::clone(&notes)));
        Ok(notes)
    }

    async fn ask(&self, database: &Database, params: &Params, role: &str) -> Result<Notes, SubscribeError> {
        let unavailable = |error: PgError| SubscribeError::Unavailable(Chain(&error).to_string());
        let client = database.own().await.map_err(unavailable)?;
        let tables = changes::published(&client, &params.schema, &params.table).await.map_err(unavailable)?;
        if tables.is_empty() {
            return Err(SubscribeError::Refused(format!(
                "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given \
                 connect parameters: {}",
                params.describe()
            )));
        }
        let asked = Asked {
            columns: params.filters.iter().map(|filter| &*filter.column).collect(),
            operators: params.filters.iter().map(|filter| filter.operator.as_str()).collect(),
            values: params.filters.iter().map(|filter| &*filter.value).collect(),
            select: params.select.iter().flatten().map(|name| &**name).collect(),
        };
        // Without conditions only the role is in question, and one table tells.
        let tables = if asked.columns.is_empty() && asked.select.is_empty() { &tables[..1] } else { &tables };
        for table in tables {
            if let Err(error) = changes::check_params(&client, table.relation, role, &asked).await {
                let Some(db) = said(&error).filter(|db| !is_outage(db.code().code())) else {
                    return Err(unavailable(error));
                };
                return Err(SubscribeError::Refused(format!(
                    "Unable to subscribe to changes with given parameters. An exception happened so please check your \
                     connect parameters: {}. Exception: ERROR {} ({}) {}",
                    params.describe(),
                    db.code().code(),
                    condition(db.code().code()),
                    db.message(),
                )));
            }
        }
        // Who asks for all tables is not told of each that is none of its business.
        let [table] = tables else { return Ok(Notes::new()) };
        if &*params.schema == "*" || &*params.table == "*" {
            return Ok(Notes::new());
        }
        let notes = changes::notes(&client, table.relation, role).await.map_err(unavailable)?;
        Ok(notes.into_iter().map(Arc::from).collect())
    }

    /// Looks whether tables have joined or left the publication, and if so checks everybody again.
    pub(super) async fn look_again(&self, database: &Database, registry: &Registry) {
        let state = async {
            let client = database.own().await?;
            changes::publication_state(&client).await
        };
        // A database that does not answer is the stream's trouble.
        let Ok(state) = state.await else { return };
        if self.publication.swap(state, Ordering::AcqRel) == state {
            return;
        }
        self.good.lock().clear();
        let mut refused = HashMap::new();
        for (interest, claimant) in registry.asked_for() {
            for binding in interest.bindings.iter() {
                if let Err(SubscribeError::Refused(why)) =
                    self.check(database, &binding.params, &claimant.role).await
                {
                    refused.insert((Arc::clone(&interest), Arc::clone(&claimant)), why);
                    break;
                }
            }
        }
        if !refused.is_empty() {
            registry.dismiss(|interest, claimant| {
                refused
                    .iter()
                    .find(|((of, by), _)| **of == *interest && **by == *claimant)
                    .map(|(_, why)| why.clone())
            });
        }
    }
}

/// What PostgreSQL itself said.
fn said(error: &PgError) -> Option<&DbError> {
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
fn condition(code: &str) -> &'static str {
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
