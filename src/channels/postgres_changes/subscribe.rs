//! Subscribing: validates the parameters, waits for the stream, and registers the channel.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rand::Rng;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{
    budget::{Reservation, SubscriptionBudget},
    delivery::DeliverySink,
    engine::Engine,
    params::RequestedBinding,
    registry::{Binding, SubscriptionInfo, SubscriptionRegistry, SubscriptionSpec, SystemMessageSink},
    state::{PostgresChangesSettings, Shared, StreamState},
    validator::{Limitations, ParamsValidator, SubscribeError},
};
use crate::{auth::Principal, hub::ConnId, model::ChannelId, pg::Database};

/// Maximum time that a join waits for the stream. After it, the subscription is confirmed when the stream starts.
const STREAM_START_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay between attempts to subscribe while the database is unavailable, in seconds.
const RETRY_DELAY_SECONDS: std::ops::Range<f64> = 5.0..10.0;

/// Subscribes channels to changes of the database. Clones share their state.
#[derive(Clone)]
pub struct PostgresChanges(Arc<Shared>);

/// A validated subscription that is not active yet.
pub struct PreparedSubscription {
    shared: Arc<Shared>,
    spec: SubscriptionSpec,
    principal: Arc<Principal>,
    validation: Result<Limitations, SubscribeError>,
    /// Generation of the publication before the validation.
    generation: u64,
    /// `None` if the subscription was refused.
    reservation: Option<Reservation>,
}

/// An active subscription; ends when dropped.
pub struct Subscription {
    shared: Arc<Shared>,
    id: ChannelId,
    spec: SubscriptionSpec,
    conn: ConnId,
    system_messages: Arc<dyn SystemMessageSink>,
    retry_task: Mutex<Option<AbortHandle>>,
    is_dropped: Arc<AtomicBool>,
    _reservation: Option<Reservation>,
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
            registry: SubscriptionRegistry::default(),
            validator: ParamsValidator::new(database.direct_connector().clone()),
            budget: Arc::new(SubscriptionBudget::new(settings.limits)),
            start_requested: Notify::new(),
            stream_state: watch::Sender::new(StreamState::Stopped),
            settings,
            cached_bytes: AtomicUsize::new(0),
            database,
        });
        let engine = Engine::new(Arc::clone(&shared), sink);
        (Self(shared), engine)
    }

    /// The subscriptions on this node, in no order.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<SubscriptionInfo> {
        self.0.registry.list()
    }

    /// Validates a subscription and waits up to 2 seconds for the stream. The result is sent to the channel by
    /// [`PreparedSubscription::activate`], after the reply to its join.
    pub async fn prepare(
        &self,
        conn: ConnId,
        topic: Arc<str>,
        requested: &[RequestedBinding],
        is_legacy: bool,
        principal: Arc<Principal>,
    ) -> PreparedSubscription {
        let generation = self.0.validator.generation();
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
        let bytes = spec.bindings.iter().map(|binding| binding.params.size_bytes()).sum();
        let reservation = self.0.budget.reserve(conn, principal.sub.as_deref(), spec.bindings.len(), bytes);
        let reservation = match reservation {
            Ok(reservation) => Some(reservation),
            Err(error) => {
                validation = validation.and(Err(SubscribeError::Refused(error.to_string())));
                None
            }
        };
        if validation.is_ok() {
            validation = validate_and_wait(&self.0, conn, &spec, &principal).await;
        }
        let shared = Arc::clone(&self.0);
        PreparedSubscription { shared, spec, principal, validation, generation, reservation }
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

    /// Bytes that the subscriptions hold: their parameters, and what caches derive from them.
    #[must_use]
    pub fn accounted_bytes(&self) -> usize {
        self.0.budget.used_bytes()
            + self.0.validator.cached_bytes()
            + self.0.cached_bytes.load(Ordering::Relaxed)
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
        let Self { shared, spec, principal, validation, generation, reservation } = self;
        let principal = (principal, generation);
        let subscription = Subscription {
            shared,
            id,
            spec,
            conn,
            system_messages,
            retry_task: Mutex::default(),
            is_dropped: Arc::default(),
            _reservation: reservation,
        };
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
    pub async fn replace_principal(&self, principal: Arc<Principal>) {
        if let Some(retry_task) = self.retry_task.lock().take() {
            retry_task.abort();
        }
        let generation = self.shared.validator.generation();
        match validate_and_wait(&self.shared, self.conn, &self.spec, &principal).await {
            Ok(limitations) if self.shared.registry.contains(self.id) => {
                self.shared.registry.replace_principal(self.id, principal, generation);
                send_limitations(&*self.system_messages, &limitations);
            }
            Ok(limitations) => self.register((principal, generation), &limitations, || {}),
            Err(error) => {
                // The new principal may have fewer rights, so the old one's must not be used any longer.
                self.shared.registry.remove(self.id);
                self.report_and_retry(error, (principal, generation));
            }
        }
    }

    fn register(&self, principal: (Arc<Principal>, u64), limitations: &[Arc<str>], reply: impl FnOnce()) {
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

    /// `principal` comes with the generation of the publication before the validation.
    fn report_and_retry(&self, error: SubscribeError, (principal, generation): (Arc<Principal>, u64)) {
        let (shared, spec, system_messages) =
            (Arc::clone(&self.shared), self.spec.clone(), Arc::clone(&self.system_messages));
        let (ids, is_dropped) = ((self.id, self.conn), Arc::clone(&self.is_dropped));
        if !report(&shared, ids, &spec, (&principal, generation), &system_messages, error) {
            return;
        }
        // Dropping the subscription aborts the task.
        let retry_task = tokio::spawn(async move {
            loop {
                let delay_seconds = rand::rng().random_range(RETRY_DELAY_SECONDS);
                sleep(Duration::from_secs_f64(delay_seconds)).await;
                let generation = shared.validator.generation();
                match validate_and_wait(&shared, ids.1, &spec, &principal).await {
                    Ok(limitations) => {
                        let principal = (principal, generation);
                        shared.registry.register(ids, spec, principal, Arc::clone(&system_messages), || {});
                        send_limitations(&*system_messages, &limitations);
                        break;
                    }
                    Err(error) => {
                        if !report(&shared, ids, &spec, (&principal, generation), &system_messages, error) {
                            break;
                        }
                    }
                }
            }
            // The task may have been in progress on another thread when it was aborted.
            if is_dropped.load(Ordering::SeqCst) {
                shared.registry.remove(ids.0);
            }
        });
        *self.retry_task.lock() = Some(retry_task.abort_handle());
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::SeqCst);
        if let Some(retry_task) = self.retry_task.lock().take() {
            retry_task.abort();
        }
        self.shared.registry.remove(self.id);
    }
}

/// Sends an error to the subscriber; returns whether another attempt may succeed. A subscription to a table that is not
/// published becomes dormant.
fn report(
    shared: &Shared,
    ids: (ChannelId, ConnId),
    spec: &SubscriptionSpec,
    (principal, generation): (&Arc<Principal>, u64),
    system_messages: &Arc<dyn SystemMessageSink>,
    error: SubscribeError,
) -> bool {
    system_messages.send(false, &error.to_string());
    match error {
        SubscribeError::Refused(_) => false,
        SubscribeError::Unpublished(reason) => {
            let principal = (Arc::clone(principal), generation);
            shared.registry.add_dormant(ids, spec.clone(), principal, Arc::clone(system_messages), reason);
            false
        }
        SubscribeError::Unavailable(_) => true,
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
    conn: ConnId,
    spec: &SubscriptionSpec,
    principal: &Principal,
) -> Result<Limitations, SubscribeError> {
    shared.registry.restart_idle_timer();
    shared.start_requested.notify_one();
    let requester = (conn, principal.sub.as_deref());
    let limitations = shared.validator.validate(Some(requester), &spec.bindings, &principal.role).await?;
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
