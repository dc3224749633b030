//! Warming up: presence says what will be wanted, and what is not fresh of that is compiled before it is.
//!
//! The queue lies in the database and is shared by all nodes; an entry is taken with `SKIP LOCKED`, tried again with
//! backoff, and after its last attempt stays among the dead letters, with its error.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use rand::Rng;
use serde::{Deserialize, Serialize};
use tokio::{
    select,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    assemble::ChatMessage,
    bundle::{BundleType, CompiledBundle, Readiness, Subject, WantedBundle},
    compile::{self, SourceMessage},
    engine::{ContextEngine, ContextError},
    predict::{self, Signals},
    provider::{CompletionRequest, Provider},
    store::bundles::{self, QueuedAction},
};
use crate::{
    auth::Principal,
    model::UserId,
    pg::{Database, PgError},
};

/// Entries taken at once, and users served at a time.
const CLAIM_BATCH_SIZE: i32 = 32;
const USER_CONCURRENCY: usize = 3;
/// The queue is looked at at least so often: entries that wait for another attempt ring no bell.
const POLL_INTERVAL: Duration = Duration::from_secs(3);
/// How often an entry is tried, and the pauses between: doubling, with jitter.
const MAX_ATTEMPTS: i32 = 5;
const FIRST_RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(120);
/// How long the entries of one user may take.
const USER_TIMEOUT: Duration = Duration::from_secs(120);
/// Predictions that are built in one round trip.
const PREDICTION_BATCH_SIZE: usize = 3;
/// The messages of a conversation that a model sums up, and the tokens of its summary.
const MAX_SUMMARY_MESSAGES: usize = 60;
const MAX_SUMMARY_TOKENS: u32 = 600;
/// Counter: warm-ups and recompilations, by `what` and `outcome`.
const ACTIONS_TOTAL: &str = "rollcall_context_actions_total";

/// How a user's bundles stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BundleCounts {
    /// Fresh ones of topics.
    pub fresh_topic_bundles: i64,
    /// Fresh ones of entities.
    pub fresh_entity_bundles: i64,
    /// Fresh ones of conversations.
    pub fresh_conversation_bundles: i64,
    /// Those that are not.
    pub dirty_bundles: i64,
    /// Fresh ones of all types.
    pub total_fresh_bundles: i64,
}

impl ContextEngine {
    /// Compiles what the user's presence says will be wanted and is not fresh; with `force` also what is. Answers when
    /// it is done; `None` where the user has no device.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn warm_up(
        &self,
        user: UserId,
        device: Option<&str>,
        force: bool,
    ) -> Result<Option<BundleCounts>, ContextError> {
        let caller = Principal::for_user(user);
        let Some(local_time) = bundles::local_time(&self.database, &caller, device).await? else {
            return Ok(None);
        };
        let hour = local_time.as_deref().and_then(predict::local_hour);
        let signals: Option<Signals> =
            bundles::context_signals(&self.database, &caller, device, hour).await?;
        let Some(signals) = signals else { return Ok(None) };
        let predictions = predict::predict(&signals);
        let mut touched = Vec::new();
        touched.extend(
            self.compile_stale(&caller, user, &[Subject::IDENTITY, Subject::PREFERENCES], force).await?,
        );
        let wanted: Vec<Subject> = predict::likely_subjects(&predictions).collect();
        for some in wanted.chunks(PREDICTION_BATCH_SIZE) {
            touched.extend(self.compile_stale(&caller, user, some, force).await?);
        }
        let of = |bundle_type: BundleType| -> Vec<Uuid> {
            let all = predictions.iter().filter(|it| it.subject.bundle_type == bundle_type);
            all.filter_map(|it| it.subject.ref_id).collect()
        };
        let (topics, entities) = (of(BundleType::Topic), of(BundleType::Entity));
        bundles::store_predictions(&self.database, user, &signals.device_id, &topics, &entities).await?;
        Ok(Some(bundles::counts(&self.database, &caller).await?))
    }

    /// Compiles those of some bundles that are not fresh, and stores them. Returns their subjects.
    async fn compile_stale(
        &self,
        caller: &Principal,
        user: UserId,
        subjects: &[Subject],
        force: bool,
    ) -> Result<Vec<Subject>, ContextError> {
        let wanted = bundles::wanted(&self.database, caller, subjects, force).await?;
        let mut compiled: Vec<CompiledBundle> = Vec::new();
        for bundle in wanted.bundles.iter().filter(|bundle| bundle.reason != Readiness::Fresh) {
            compiled.push(self.compile_bundle(bundle).await?);
        }
        if !compiled.is_empty() {
            bundles::store(&self.database, user, &compiled, &wanted.point, true).await?;
        }
        Ok(compiled.into_iter().map(|bundle| bundle.subject).collect())
    }

    /// Compiles a bundle; a long conversation in a model's words where there is a model and it answers.
    async fn compile_bundle(&self, wanted: &WantedBundle) -> Result<CompiledBundle, ContextError> {
        let mut arc = None;
        if wanted.subject.bundle_type == BundleType::Conversation
            && !wanted.sources.is_null()
            && let Some(model) = self.settings.providers.default_model()
            && let Some(messages) = compile::long_conversation(&wanted.sources)?
        {
            arc = summarize(model, &messages).await;
        }
        Ok(compile::compile(wanted.subject, &wanted.sources, arc.as_deref())?)
    }

    /// Takes work from the queue until stopped.
    pub async fn run_workers(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let look = POLL_INTERVAL.mul_f64(rand::rng().random_range(0.5..1.0));
            select! {
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = sleep(look) => {}
            }
            loop {
                let worked = select! {
                    () = stop.cancelled() => return,
                    worked = self.process_queue() => worked,
                };
                match worked {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        tracing::warn!(error = ?error, "could not take work of the context engine");
                        break;
                    }
                }
            }
        }
    }

    /// Sets left flags, takes what is due and does it. False when nothing was.
    async fn process_queue(&self) -> Result<bool, PgError> {
        let settled = bundles::mark_stale(&self.database).await?;
        let actions = bundles::claim_actions(&self.database, CLAIM_BATCH_SIZE).await?;
        if actions.is_empty() {
            return Ok(settled > 0);
        }
        let mut by_user: BTreeMap<UserId, Vec<QueuedAction>> = BTreeMap::new();
        for action in actions {
            by_user.entry(action.user).or_default().push(action);
        }
        stream::iter(by_user)
            .for_each_concurrent(USER_CONCURRENCY, |(user, actions)| self.process_user(user, actions))
            .await;
        Ok(true)
    }

    async fn process_user(&self, user: UserId, actions: Vec<QueuedAction>) {
        let (warm_ups, recompilations): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| action.subject.is_none());
        if !warm_ups.is_empty() {
            let warmed = with_user_timeout(Box::pin(self.warm_up(user, None, false))).await;
            self.record_outcome("warm_up", &warm_ups, warmed.map(drop)).await;
        }
        if !recompilations.is_empty() {
            let subjects: HashSet<Subject> =
                recompilations.iter().filter_map(|action| action.subject).collect();
            let subjects: Vec<Subject> = subjects.into_iter().collect();
            let caller = Principal::for_user(user);
            let built =
                with_user_timeout(Box::pin(self.compile_stale(&caller, user, &subjects, false))).await;
            self.record_outcome("compile", &recompilations, built.map(drop)).await;
        }
    }

    /// Ends entries, or puts them back. What the database does not take now stays under way, and is taken back later.
    async fn record_outcome(
        &self,
        what: &'static str,
        actions: &[QueuedAction],
        outcome: Result<(), ContextError>,
    ) {
        let word = if outcome.is_ok() { "done" } else { "failed" };
        metrics::counter!(ACTIONS_TOTAL, "what" => what, "outcome" => word).increment(actions.len() as u64);
        let accounts = async {
            match &outcome {
                Ok(()) => {
                    let ids: Vec<i64> = actions.iter().map(|action| action.id).collect();
                    bundles::complete_actions(&self.database, &ids).await?;
                }
                Err(error) => {
                    tracing::warn!(error = ?error, what, "background work of the context engine failed");
                    for action in actions {
                        fail_action(&self.database, action, error).await?;
                    }
                }
            }
            Ok::<_, PgError>(())
        };
        if let Err(error) = accounts.await {
            tracing::warn!(error = ?error, "could not note what became of background work");
        }
    }
}

async fn fail_action(
    database: &Database,
    action: &QueuedAction,
    error: &ContextError,
) -> Result<(), PgError> {
    let doubled = 2_u32.saturating_pow(action.attempts.clamp(1, 16).unsigned_abs() - 1);
    let pause = FIRST_RETRY_DELAY.saturating_mul(doubled).min(MAX_RETRY_DELAY);
    let pause = pause.mul_f64(rand::rng().random_range(0.5..1.0));
    // The user may read the entry: no SQL, no addresses.
    bundles::fail_action(database, action.id, &error.to_string(), pause, MAX_ATTEMPTS).await
}

async fn with_user_timeout<T>(
    work: impl Future<Output = Result<T, ContextError>>,
) -> Result<T, ContextError> {
    timeout(USER_TIMEOUT, work)
        .await
        .unwrap_or_else(|_| Err(PgError::Unavailable("the work took too long".into()).into()))
}

/// A model's words for a long conversation; `None` where it does not answer, which costs nothing but its words.
async fn summarize(model: &Provider, messages: &[SourceMessage]) -> Option<String> {
    const TASK: &str = "Sum up the conversation for an assistant that is to go on with it. Answer in Markdown with \
        these headings and at most five short bullets each, leaving out empty ones: ### What happened, ### Open \
        questions, ### Decisions, ### Current focus. State only what was said.";
    let recent = &messages[messages.len().saturating_sub(MAX_SUMMARY_MESSAGES)..];
    let said = recent.iter().fold(String::new(), |said, message| {
        let cut: String = message.content.chars().take(1_000).collect();
        said + compile::speaker(message) + ": " + &cut + "\n\n"
    });
    let message = |role: &str, content: String| ChatMessage { role: role.into(), content };
    let request = CompletionRequest {
        messages: vec![message("system", TASK.into()), message("user", said)],
        model: None,
        max_tokens: Some(MAX_SUMMARY_TOKENS),
        temperature: Some(0.2),
    };
    match model.complete(&request).await {
        Ok(completion) if !completion.content.trim().is_empty() => Some(completion.content),
        Ok(_) => None,
        Err(error) => {
            tracing::info!(error = %error, "no summary by the model; its sentences are chosen instead");
            None
        }
    }
}
