//! The engine's handle: assembling on request, and what is left to do afterwards.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rand::Rng;
use tokio::{
    select,
    sync::{Notify, mpsc},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    assemble::{self, Prompt, PromptOptions},
    bundle::{CompiledBundle, ReadPoint},
    compile::InvalidSources,
    embeddings::PgvectorState,
    provider::{Embedder, Providers},
    simple::{self, SimplePrompt},
    store::bundles::{self, ReadError},
};
use crate::{
    auth::Principal,
    hub::{Delivery, Encodable, Hub, UserIndex},
    model::{ConversationId, UserId},
    pg::{
        Database, PgError,
        listener::{BUNDLES, CONTEXT, NotificationHandler},
    },
    protocol::ServerMessage,
};

/// What assemblies compiled and used that may wait to be stored and counted. Over it they are dropped, and counted: the
/// next assembly compiles again.
const MAX_DEFERRED_WRITES: usize = 256;
/// News for sockets that may wait. State: a client that misses one finds the bundle in its next request.
const MAX_PENDING_READY_MESSAGES: usize = 1_024;
/// Between looks at what has gathered.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(60);
/// Between counts of which bundles were used.
const USAGE_FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// So many bundles are counted at once at the latest.
const MAX_COUNTED_BUNDLES: usize = 10_000;
/// Counter: left-overs and news that were dropped because too many waited.
const DROPPED_TOTAL: &str = "rollcall_context_dropped_total";

/// What the operator decides.
#[derive(Clone)]
pub struct ContextSettings {
    /// Whether the dynamic engine answers where a request does not say.
    pub use_dynamic: bool,
    /// Whether the simple engine answers when the dynamic one fails.
    pub fall_back_to_simple: bool,
    /// The models.
    pub providers: Providers,
    /// What turns texts into vectors, to find by meaning.
    pub embedder: Option<Arc<Embedder>>,
    /// Between roll-ups of everybody; none without.
    pub roll_up_interval: Option<Duration>,
}

/// A prompt could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// There is no such conversation, as far as the caller may know.
    #[error("not found")]
    NotFound,
    /// What the database gave cannot be read, or it gave nothing.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The sources of a bundle cannot be read.
    #[error(transparent)]
    Sources(#[from] InvalidSources),
}

impl From<PgError> for ContextError {
    fn from(error: PgError) -> Self {
        Self::Read(error.into())
    }
}

/// What an assembly leaves to be done.
struct DeferredWrite {
    user: UserId,
    compiled: Vec<CompiledBundle>,
    point: ReadPoint,
    hits: Vec<Uuid>,
    misses: Vec<Uuid>,
}

/// How often prompts used bundles since it was last told to the database: counting each time would write a new version
/// of every bundle for every prompt.
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

    /// Best effort: what cannot be told is forgotten.
    async fn flush(&mut self, database: &Database) {
        if self.0.is_empty() {
            return;
        }
        let (ids, uses): (Vec<Uuid>, Vec<UsageCount>) = self.0.drain().unzip();
        let (hits, misses): (Vec<i32>, Vec<i32>) = uses.iter().map(|one| (one.hits, one.misses)).unzip();
        if let Err(error) = bundles::count_uses(database, &ids, &hits, &misses).await {
            tracing::warn!(error = ?error, "could not count which bundles were used");
        }
    }
}

/// The context engine. Share it in an [`Arc`].
pub struct ContextEngine {
    pub(super) database: Database,
    pub(super) settings: ContextSettings,
    pub(super) wake: Arc<Notify>,
    /// Turns of chats that outlive their request.
    pub(super) turns: TaskTracker,
    /// Cancelled when turns have to end.
    pub(super) cancel_turns: CancellationToken,
    pub(super) pgvector: PgvectorState,
    deferred_writes: mpsc::Sender<DeferredWrite>,
}

/// The listener's end: bells for the workers, and news for sockets.
pub struct ContextNotifications {
    wake: Arc<Notify>,
    roster: UserIndex,
    ready_messages: mpsc::Sender<(UserId, ServerMessage)>,
}

impl NotificationHandler for ContextNotifications {
    fn on_notification(&self, channel: &str, payload: &str) {
        match channel {
            // Signals queue a warm-up in the same transaction.
            CONTEXT => self.wake.notify_one(),
            BUNDLES => match payload.strip_prefix("ready|") {
                Some(news) => self.on_bundles_ready(news),
                None => self.wake.notify_one(),
            },
            _ => {}
        }
    }

    // What was missed lies in the queue, which is looked at every few seconds.
    fn on_connected(&self) {
        self.wake.notify_one();
    }

    fn on_disconnected(&self) {}
}

impl ContextNotifications {
    /// `user|type:id:version,…`
    fn on_bundles_ready(&self, news: &str) {
        let Some((user, bundles)) = news.split_once('|') else { return };
        let Some(user) = user.parse().ok().filter(|user| self.roster.is_connected(*user)) else { return };
        for message in bundles.split(',').filter_map(parse_ready) {
            if self.ready_messages.try_send((user, message)).is_err() {
                metrics::counter!(DROPPED_TOTAL, "what" => "news").increment(1);
            }
        }
    }
}

fn parse_ready(bundle: &str) -> Option<ServerMessage> {
    let mut parts = bundle.split(':');
    let (bundle_type, id, version) = (parts.next()?, parts.next()?, parts.next()?);
    Some(ServerMessage::BundleReady {
        bundle_type: bundle_type.to_owned().into(),
        bundle_id: id.parse().ok()?,
        version: version.parse().ok()?,
    })
}

/// The engine's smaller tasks, to be spawned by whoever owns it.
pub struct ContextTasks {
    engine: Arc<ContextEngine>,
    hub: Hub,
    roster: UserIndex,
    deferred_writes: mpsc::Receiver<DeferredWrite>,
    ready_messages: mpsc::Receiver<(UserId, ServerMessage)>,
}

/// Makes the engine, its ears and its tasks.
#[must_use]
pub fn context_engine(
    database: Database,
    hub: Hub,
    roster: UserIndex,
    settings: ContextSettings,
) -> (Arc<ContextEngine>, ContextNotifications, ContextTasks) {
    let (left_overs, left_overs_receiver) = mpsc::channel(MAX_DEFERRED_WRITES);
    let (news, news_receiver) = mpsc::channel(MAX_PENDING_READY_MESSAGES);
    let wake = Arc::new(Notify::new());
    let engine = Arc::new(ContextEngine {
        database,
        settings,
        wake: wake.clone(),
        turns: TaskTracker::new(),
        cancel_turns: CancellationToken::new(),
        pgvector: PgvectorState::default(),
        deferred_writes: left_overs,
    });
    let bell = ContextNotifications { wake, roster: roster.clone(), ready_messages: news };
    let tasks = ContextTasks {
        engine: engine.clone(),
        hub,
        roster,
        deferred_writes: left_overs_receiver,
        ready_messages: news_receiver,
    };
    (engine, bell, tasks)
}

impl ContextEngine {
    /// The models.
    #[must_use]
    pub const fn providers(&self) -> &Providers {
        &self.settings.providers
    }

    /// Whether the dynamic engine answers where a request does not say.
    #[must_use]
    pub const fn uses_dynamic(&self) -> bool {
        self.settings.use_dynamic
    }

    /// Whether the simple engine answers when the dynamic one fails.
    #[must_use]
    pub const fn falls_back(&self) -> bool {
        self.settings.fall_back_to_simple
    }

    /// The database.
    #[must_use]
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Assembles the prompt for a message of `user`, as the caller: one round trip, and
    /// one to the embeddings API where there is one. What had to be compiled is stored
    /// afterwards, without anybody waiting for it.
    ///
    /// # Errors
    ///
    /// [`ContextError::NotFound`] where the caller sees no such conversation.
    pub async fn assemble(
        &self,
        caller: &Principal,
        user: UserId,
        conversation: ConversationId,
        wish: PromptOptions<'_>,
    ) -> Result<Prompt, ContextError> {
        let history = if wish.with_history { assemble::MAX_HISTORY } else { 0 };
        let vector = self.embed_query(wish.message).await;
        let found =
            bundles::assemble(&self.database, caller, conversation, wish.message, history, vector.as_deref())
                .await?;
        let mut prompt = assemble::build_prompt(found.ok_or(ContextError::NotFound)?, wish)?;
        let left_over = DeferredWrite {
            user,
            compiled: std::mem::take(&mut prompt.compiled),
            point: prompt.point.clone(),
            hits: prompt.hits.clone(),
            misses: prompt.misses.clone(),
        };
        if self.deferred_writes.try_send(left_over).is_err() {
            metrics::counter!(DROPPED_TOTAL, "what" => "bundles").increment(1);
        }
        Ok(prompt)
    }

    /// The same by the simple engine.
    ///
    /// # Errors
    ///
    /// [`ContextError::NotFound`] where the caller sees no such conversation.
    pub async fn assemble_simple(
        &self,
        caller: &Principal,
        conversation: ConversationId,
        wish: PromptOptions<'_>,
    ) -> Result<SimplePrompt, ContextError> {
        let found =
            bundles::assemble_simple(&self.database, caller, conversation, simple::MAX_HISTORY).await?;
        Ok(simple::fit(&found.ok_or(ContextError::NotFound)?, wish))
    }

    /// Keeps house now and then, one node at a time.
    pub async fn run_maintenance(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let pause = MAINTENANCE_INTERVAL.mul_f64(rand::rng().random_range(0.5..1.5));
            select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
            if let Err(error) = bundles::purge(&self.database).await {
                tracing::warn!(error = ?error, "could not keep the context engine's house");
            }
        }
    }

    /// After the stop lets chats that are under way come to an end, or saves what they have.
    pub async fn drain_turns(self: Arc<Self>, stop: CancellationToken) {
        /// How long they may go on.
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
    /// Stores what assemblies compiled, counts what they used, and tells sockets of bundles, until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut uses = BundleUsage::default();
        let mut count = interval(USAGE_FLUSH_INTERVAL);
        count.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            select! {
                () = stop.cancelled() => break,
                Some(left_over) = self.deferred_writes.recv() => {
                    self.store(left_over, &mut uses).await;
                    if uses.0.len() >= MAX_COUNTED_BUNDLES {
                        uses.flush(&self.engine.database).await;
                    }
                }
                Some((user, message)) = self.ready_messages.recv() => self.send_to_user(user, message).await,
                _ = count.tick(), if !uses.0.is_empty() => uses.flush(&self.engine.database).await,
            }
        }
        timeout(USAGE_FLUSH_INTERVAL, uses.flush(&self.engine.database)).await.ok();
    }

    async fn store(
        &self,
        DeferredWrite { user, compiled, point, hits, misses }: DeferredWrite,
        uses: &mut BundleUsage,
    ) {
        uses.add(hits, misses);
        if compiled.is_empty() {
            return;
        }
        if let Err(error) = bundles::store(&self.engine.database, user, &compiled, &point, false).await {
            tracing::warn!(error = ?error, "could not store what an assembly compiled");
        }
    }

    async fn send_to_user(&self, user: UserId, message: ServerMessage) {
        let to = self.roster.connections_of(&[user]);
        if to.is_empty() {
            return;
        }
        let delivery = Delivery { key: None, message: Encodable::new(message), to };
        if self.hub.fan_out(vec![delivery]).await.is_err() {
            tracing::debug!("nobody is left to tell");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundle_ready_payloads_are_parsed_and_malformed_ones_rejected() {
        let id = Uuid::new_v4();
        let Some(ServerMessage::BundleReady { bundle_type, bundle_id, version }) =
            parse_ready(&format!("topic:{id}:7"))
        else {
            panic!("that is news");
        };
        assert_eq!((&*bundle_type, bundle_id, version), ("topic", id, 7));
        for nonsense in ["", "topic", "topic:x:7", &format!("topic:{id}:x")] {
            assert!(parse_ready(nonsense).is_none(), "{nonsense}");
        }
    }
}
