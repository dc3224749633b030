//! The context engine's handle, its notification handler, and the tasks that store and count after assembly.

use std::{collections::HashMap, sync::Arc, time::Duration};

use postgres_types::Json;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    select,
    sync::{Notify, mpsc},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    assemble::{self, AssemblySources, Prompt, PromptError, PromptOptions, PromptTooLong},
    background::{BackgroundCalls, record_call},
    bundle::{CompiledBundle, ReadPoint, Subject},
    chat_limits::ChatLimits,
    compile::InvalidSources,
    embeddings::SemanticSearch,
    provider::{Embedder, Providers, Purpose, Usage},
    settings::ContextSettings,
    simple::{self, SimplePrompt, SimpleSources},
    store::{
        bundles::{self, ReadError},
        library, usage,
    },
};
use crate::{
    auth::{Principal, Role},
    backoff::jittered,
    hub::{Delivery, Encodable, Hub, UserIndex},
    lifecycle::ErrorChain,
    model::{ConversationId, UserId},
    pg::{
        Database, PgError,
        listener::NotificationHandler,
        notification::{Notification, ReadyBundle},
    },
    protocol::ServerMessage,
    settings::Problem,
    telemetry::metric,
};

/// Queue size for storing what assembly compiled. When it is full, entries are dropped and counted; the next assembly
/// compiles those bundles again.
const MAX_DEFERRED_WRITES: usize = 256;
/// Queue size of `bundle_ready` messages. A client that misses one gets the bundle with its next request.
const MAX_PENDING_READY_MESSAGES: usize = 1_024;
/// Interval of [`ContextEngine::run_maintenance`], with 50 % jitter.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);
/// Interval between writes of usage counts.
const USAGE_FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Usage counts are written earlier when so many bundles have one.
const MAX_COUNTED_BUNDLES: usize = 10_000;

/// Assembling or compiling failed.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The conversation does not exist or the caller cannot see it.
    #[error("the conversation does not exist, or the caller cannot see it")]
    NotFound,
    /// A query failed or its result has an unexpected shape.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The sources of a bundle have an unexpected shape.
    #[error(transparent)]
    Sources(#[from] InvalidSources),
    /// The client's messages do not fit into the prompt.
    #[error(transparent)]
    TooLong(#[from] PromptTooLong),
}

impl From<PromptError> for ContextError {
    fn from(error: PromptError) -> Self {
        match error {
            PromptError::Sources(error) => error.into(),
            PromptError::TooLong(error) => error.into(),
        }
    }
}

impl From<PgError> for ContextError {
    fn from(error: PgError) -> Self {
        Self::Read(error.into())
    }
}

/// What is stored after an assembly, without delaying it.
struct DeferredWrite {
    user: UserId,
    compiled: Vec<CompiledBundle>,
    point: ReadPoint,
    hits: Vec<Uuid>,
    misses: Vec<Uuid>,
}

/// Usage counts since the last write. Writing them per prompt would create a new row version of every bundle each time.
#[derive(Default)]
struct BundleUsage(HashMap<Uuid, UsageCount>);

#[derive(Default, Clone, Copy)]
struct UsageCount {
    hits: i32,
    misses: i32,
}

impl BundleUsage {
    fn add(&mut self, hits: Vec<Uuid>, misses: Vec<Uuid>) {
        for id in hits {
            self.0.entry(id).or_default().hits += 1;
        }
        for id in misses {
            self.0.entry(id).or_default().misses += 1;
        }
    }

    /// Writes the counts. On failure they are lost.
    async fn flush(&mut self, database: &Database) {
        if self.0.is_empty() {
            return;
        }
        let (ids, counts): (Vec<Uuid>, Vec<UsageCount>) = self.0.drain().unzip();
        let (hits, misses): (Vec<i32>, Vec<i32>) = counts.iter().map(|one| (one.hits, one.misses)).unzip();
        if let Err(error) = bundles::count_uses(database, &ids, &hits, &misses).await {
            tracing::warn!(error = %ErrorChain(&error), "storing bundle usage failed");
        }
    }
}

/// The context engine, shared in an [`Arc`].
pub struct ContextEngine {
    pub(super) database: Database,
    pub(super) settings: ContextSettings,
    pub(super) providers: Providers,
    chat_limits: ChatLimits,
    pub(super) wake: Arc<Notify>,
    /// Notified when this node has saved a message to learn from.
    pub(super) wake_learning: Notify,
    /// Tasks of chat turns, which may outlive their request.
    pub(super) turns: TaskTracker,
    /// Cancelled when the remaining turns must end.
    pub(super) cancel_turns: CancellationToken,
    semantic_search: SemanticSearch,
    deferred_writes: mpsc::Sender<DeferredWrite>,
}

/// Handles notifications: wakes the queue workers and queues `bundle_ready` messages.
pub struct ContextNotifications {
    wake: Arc<Notify>,
    user_index: UserIndex,
    ready_messages: mpsc::Sender<(UserId, ServerMessage)>,
}

impl NotificationHandler for ContextNotifications {
    fn on_notification(&self, notification: &Notification) {
        match notification {
            // New signals enqueue a warm-up in the same transaction.
            Notification::Context(_) | Notification::BundlesStale => self.wake.notify_one(),
            Notification::BundlesReady { user, bundles } => self.on_bundles_ready(*user, bundles),
            _ => {}
        }
    }

    // Missed notifications do no harm: the queue is polled every few seconds.
    fn on_connected(&self) {
        self.wake.notify_one();
    }

    fn on_disconnected(&self) {}

    fn on_missed(&self, _: tokio::time::Instant) {
        self.wake.notify_one();
    }
}

impl ContextNotifications {
    fn on_bundles_ready(&self, user: UserId, bundles: &[ReadyBundle]) {
        if !self.user_index.is_connected(user) {
            return;
        }
        for bundle in bundles {
            let message = ServerMessage::BundleReady {
                bundle_type: bundle.bundle_type.clone().into(),
                bundle_id: bundle.id,
                version: bundle.version,
            };
            if self.ready_messages.try_send((user, message)).is_err() {
                metrics::counter!(metric::CONTEXT_DROPPED, "what" => "ready_messages").increment(1);
            }
        }
    }
}

/// Task that stores compiled bundles, writes usage counts and sends `bundle_ready` messages.
pub struct ContextTasks {
    engine: Arc<ContextEngine>,
    hub: Hub,
    user_index: UserIndex,
    deferred_writes: mpsc::Receiver<DeferredWrite>,
    ready_messages: mpsc::Receiver<(UserId, ServerMessage)>,
}

impl ContextEngine {
    /// Creates the engine, its notification handler and its background task.
    ///
    /// # Errors
    /// When the settings of the model provider are inconsistent.
    pub fn new(
        database: Database,
        hub: Hub,
        user_index: UserIndex,
        settings: ContextSettings,
    ) -> Result<(Arc<Self>, ContextNotifications, ContextTasks), Problem> {
        let (deferred_writes, deferred_writes_receiver) = mpsc::channel(MAX_DEFERRED_WRITES);
        let (ready_messages, ready_receiver) = mpsc::channel(MAX_PENDING_READY_MESSAGES);
        let wake = Arc::new(Notify::new());
        let models = &settings.models;
        let embedder = models.embedder().map(|config| Arc::new(Embedder::new(&config)));
        let semantic_search = SemanticSearch::new(database.clone(), embedder);
        let engine = Arc::new(Self {
            database,
            providers: models.providers()?,
            chat_limits: settings.chat_limits(),
            settings,
            wake: wake.clone(),
            wake_learning: Notify::new(),
            turns: TaskTracker::new(),
            cancel_turns: CancellationToken::new(),
            semantic_search,
            deferred_writes,
        });
        let notifications = ContextNotifications { wake, user_index: user_index.clone(), ready_messages };
        let tasks = ContextTasks {
            engine: engine.clone(),
            hub,
            user_index,
            deferred_writes: deferred_writes_receiver,
            ready_messages: ready_receiver,
        };
        Ok((engine, notifications, tasks))
    }

    #[must_use]
    pub const fn providers(&self) -> &Providers {
        &self.providers
    }

    /// Models and tokens that each role may ask for.
    #[must_use]
    pub const fn chat_limits(&self) -> &ChatLimits {
        &self.chat_limits
    }

    /// Whether requests use the dynamic engine by default.
    #[must_use]
    pub const fn uses_dynamic(&self) -> bool {
        self.settings.use_dynamic
    }

    /// Whether the simple engine answers when the dynamic one fails.
    #[must_use]
    pub const fn falls_back(&self) -> bool {
        self.settings.fall_back_to_simple
    }

    #[must_use]
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Assembles the prompt for a message of `user`, as the caller. Takes one database round trip, and one to the embeddings
    /// API if configured. Newly compiled bundles are stored in the background. Without a conversation, the prompt has
    /// identity and guidelines only.
    ///
    /// # Errors
    ///
    /// [`ContextError::NotFound`] if the caller cannot see the conversation, [`ContextError::TooLong`] if the messages exceed
    /// the maximum.
    pub async fn assemble(
        &self,
        caller: &Principal,
        user: UserId,
        conversation: Option<ConversationId>,
        options: PromptOptions<'_>,
    ) -> Result<Prompt, ContextError> {
        let found = match conversation {
            Some(conversation) => {
                let vector = self.semantic_search.embed_query(options.message).await;
                let count = options.messages_to_read();
                bundles::assemble(
                    &self.database,
                    caller,
                    conversation,
                    options.message,
                    count,
                    vector.as_deref(),
                )
                .await?
                .ok_or(ContextError::NotFound)?
            }
            None => {
                let subjects = [Subject::IDENTITY, Subject::PREFERENCES];
                let wanted = bundles::wanted(&self.database, caller, &subjects, false).await?;
                AssemblySources::without_conversation(wanted)
            }
        };
        let mut prompt = assemble::build_prompt(found, options)?;
        let write = DeferredWrite {
            user,
            compiled: std::mem::take(&mut prompt.compiled),
            point: prompt.point.clone(),
            hits: prompt.hits.clone(),
            misses: prompt.misses.clone(),
        };
        if self.deferred_writes.try_send(write).is_err() {
            metrics::counter!(metric::CONTEXT_DROPPED, "what" => "bundles").increment(1);
        }
        Ok(prompt)
    }

    /// Searches the caller's memories and units, best first. `filters` are those of `rollcall.search`.
    ///
    /// # Errors
    ///
    /// As for a query.
    pub async fn search<T: DeserializeOwned>(
        &self,
        caller: &Principal,
        text: &str,
        filters: &(impl Serialize + Sync),
        limit: i32,
    ) -> Result<Vec<T>, ReadError> {
        let vector = self.semantic_search.embed_query(text).await;
        let filters = Json(serde_json::to_value(filters)?);
        let statement = include_str!("../../sql/library/search.sql");
        library::read(&self.database, caller, statement, &[&text, &vector, &filters, &limit]).await
    }

    /// As [`assemble`](Self::assemble), with the simple engine. Without a conversation, the prompt is empty.
    ///
    /// # Errors
    ///
    /// As for [`assemble`](Self::assemble).
    pub async fn assemble_simple(
        &self,
        caller: &Principal,
        conversation: Option<ConversationId>,
        options: PromptOptions<'_>,
    ) -> Result<SimplePrompt, ContextError> {
        let found = match conversation {
            Some(conversation) => {
                let count = options.messages_to_read();
                let found = bundles::assemble_simple(&self.database, caller, conversation, count).await?;
                found.ok_or(ContextError::NotFound)?
            }
            None => SimpleSources::default(),
        };
        Ok(simple::fit(found, options)?)
    }

    /// The daily budget of a user's role, if it is used up.
    pub(super) async fn exhausted_budget(&self, role: &Role, user: UserId) -> Result<Option<u32>, PgError> {
        let Some(budget) = self.chat_limits.daily_tokens.get(role).copied() else { return Ok(None) };
        let used = usage::tokens_used_today(&self.database, user).await?;
        Ok((used >= i64::from(budget)).then_some(budget))
    }

    /// The model of background calls; `None` if they are disabled or the user's budget is used up.
    pub(super) async fn background_calls(&self, user: UserId) -> Option<BackgroundCalls<'_>> {
        let (provider, model) = self.providers.background()?;
        // If the budget cannot be read, storing the result would fail as well.
        if !matches!(self.exhausted_budget(&Role::Authenticated, user).await, Ok(None)) {
            return None;
        }
        let (database, prices) = (&self.database, &self.settings.prices);
        Some(BackgroundCalls { database, prices, user, provider, model })
    }

    /// Records a call for an answer.
    pub(super) async fn record_chat(&self, user: UserId, provider: &str, model: &str, usage: Usage) {
        record_call(&self.database, &self.settings.prices, user, Purpose::Chat, (provider, model), usage)
            .await;
    }

    /// Embeds units and memories until `stop` is cancelled.
    pub async fn run_embedding_worker(self: Arc<Self>, stop: CancellationToken) {
        self.semantic_search.run(stop).await;
    }

    /// Deletes expired rows periodically until `stop` is cancelled. The database lets one node do it at a time.
    pub async fn run_maintenance(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let delay = jittered(MAINTENANCE_INTERVAL, 0.5..1.5);
            select! {
                () = stop.cancelled() => return,
                () = sleep(delay) => {}
            }
            if let Err(error) = bundles::purge(&self.database).await {
                tracing::warn!(error = %ErrorChain(&error), "context maintenance failed");
            }
        }
    }

    /// After `stop`, waits for chats in progress, then interrupts them, which saves what was written.
    pub async fn drain_turns(self: Arc<Self>, stop: CancellationToken) {
        const GRACE: Duration = Duration::from_secs(4);
        stop.cancelled().await;
        self.turns.close();
        if timeout(GRACE, self.turns.wait()).await.is_err() {
            self.cancel_turns.cancel();
            timeout(GRACE, self.turns.wait()).await.ok();
        }
    }
}

impl ContextTasks {
    /// Runs the task until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut usage = BundleUsage::default();
        let mut flush = interval(USAGE_FLUSH_INTERVAL);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            select! {
                () = stop.cancelled() => break,
                Some(write) = self.deferred_writes.recv() => {
                    self.store(write, &mut usage).await;
                    if usage.0.len() >= MAX_COUNTED_BUNDLES {
                        usage.flush(&self.engine.database).await;
                    }
                }
                Some((user, message)) = self.ready_messages.recv() => self.send_to_user(user, message).await,
                _ = flush.tick(), if !usage.0.is_empty() => usage.flush(&self.engine.database).await,
            }
        }
        timeout(USAGE_FLUSH_INTERVAL, usage.flush(&self.engine.database)).await.ok();
    }

    async fn store(
        &self,
        DeferredWrite { user, compiled, point, hits, misses }: DeferredWrite,
        usage: &mut BundleUsage,
    ) {
        usage.add(hits, misses);
        if compiled.is_empty() {
            return;
        }
        if let Err(error) = bundles::store(&self.engine.database, user, &compiled, &point, false).await {
            tracing::warn!(error = %ErrorChain(&error), "storing compiled bundles failed");
        }
    }

    async fn send_to_user(&self, user: UserId, message: ServerMessage) {
        let to = self.user_index.connections_of(&[user]);
        if to.is_empty() {
            return;
        }
        let delivery = Delivery { key: None, message: Encodable::new(message), to };
        if self.hub.fan_out(vec![delivery]).await.is_err() {
            tracing::debug!("bundle_ready not delivered: the hub has stopped");
        }
    }
}
