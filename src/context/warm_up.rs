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
    bundle::{BundleType, Compiled, Readiness, Subject, Wanted},
    compile::{self, SourceMessage},
    engine::{ContextEngine, ContextError},
    predict::{self, Signals},
    provider::{Provider, Request},
};
use crate::{
    auth::Caller,
    model::UserId,
    pg::{
        Database, PgError,
        queries::bundles::{self, Action},
    },
};

/// Entries taken at once, and users served at a time.
const AT_ONCE: i32 = 32;
const USERS_AT_A_TIME: usize = 3;
/// The queue is looked at at least so often: entries that wait for another attempt ring no bell.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How often an entry is tried, and the pauses between: doubling, with jitter.
const ATTEMPTS: i32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(120);
/// How long the entries of one user may take.
const USER_LIMIT: Duration = Duration::from_secs(120);
/// Predictions that are built in one round trip.
const PREDICTIONS_AT_A_TIME: usize = 3;
/// The messages of a conversation that a model sums up, and the tokens of its summary.
const SUMMED_MESSAGES: usize = 60;
const SUMMARY_TOKENS: u32 = 600;
/// Counter: warm-ups and recompilations, by `what` and `outcome`.
const ACTIONS: &str = "rollcall_context_actions_total";

/// How a user's bundles stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Warmed {
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
    ) -> Result<Option<Warmed>, ContextError> {
        let caller = Caller::vouched_for(user);
        let Some(local_time) = bundles::local_time(&self.database, &caller, device).await? else {
            return Ok(None);
        };
        let hour = local_time.as_deref().and_then(predict::local_hour);
        let signals: Option<Signals> = bundles::signals(&self.database, &caller, device, hour).await?;
        let Some(signals) = signals else { return Ok(None) };
        let predictions = predict::predict(&signals);
        let mut touched = Vec::new();
        touched.extend(self.build(&caller, user, &[Subject::IDENTITY, Subject::PREFERENCES], force).await?);
        let wanted: Vec<Subject> = predict::worth_building(&predictions).collect();
        for some in wanted.chunks(PREDICTIONS_AT_A_TIME) {
            touched.extend(self.build(&caller, user, some, force).await?);
        }
        let of = |bundle_type: BundleType| -> Vec<Uuid> {
            let all = predictions.iter().filter(|it| it.subject.bundle_type == bundle_type);
            all.filter_map(|it| it.subject.about).collect()
        };
        let (topics, entities) = (of(BundleType::Topic), of(BundleType::Entity));
        bundles::note_predictions(&self.database, user, &signals.device_id, &topics, &entities).await?;
        Ok(Some(bundles::counts(&self.database, &caller).await?))
    }

    /// Compiles those of some bundles that are not fresh, and stores them. Returns their subjects.
    async fn build(
        &self,
        caller: &Caller,
        user: UserId,
        subjects: &[Subject],
        force: bool,
    ) -> Result<Vec<Subject>, ContextError> {
        let wanted = bundles::wanted(&self.database, caller, subjects, force).await?;
        let mut compiled: Vec<Compiled> = Vec::new();
        for bundle in wanted.bundles.iter().filter(|bundle| bundle.reason != Readiness::Fresh) {
            compiled.push(self.compile(bundle).await?);
        }
        if !compiled.is_empty() {
            bundles::keep(&self.database, user, &compiled, &wanted.point, true).await?;
        }
        Ok(compiled.into_iter().map(|bundle| bundle.subject).collect())
    }

    /// Compiles a bundle; a long conversation in a model's words where there is a model and it answers.
    async fn compile(&self, wanted: &Wanted) -> Result<Compiled, ContextError> {
        let mut arc = None;
        if wanted.subject.bundle_type == BundleType::Conversation
            && !wanted.sources.is_null()
            && let Some(model) = self.settings.providers.model()
            && let Some(messages) = compile::long_conversation(&wanted.sources)?
        {
            arc = sum_up(model, &messages).await;
        }
        Ok(compile::compile(wanted.subject, &wanted.sources, arc.as_deref())?)
    }

    /// Takes work from the queue until stopped.
    pub async fn run_workers(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let look = LOOK_EVERY.mul_f64(rand::rng().random_range(0.5..1.0));
            select! {
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = sleep(look) => {}
            }
            loop {
                let worked = select! {
                    () = stop.cancelled() => return,
                    worked = self.work() => worked,
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
    async fn work(&self) -> Result<bool, PgError> {
        let settled = bundles::settle(&self.database).await?;
        let actions = bundles::take(&self.database, AT_ONCE).await?;
        if actions.is_empty() {
            return Ok(settled > 0);
        }
        let mut by_user: BTreeMap<UserId, Vec<Action>> = BTreeMap::new();
        for action in actions {
            by_user.entry(action.user).or_default().push(action);
        }
        stream::iter(by_user)
            .for_each_concurrent(USERS_AT_A_TIME, |(user, actions)| self.serve(user, actions))
            .await;
        Ok(true)
    }

    async fn serve(&self, user: UserId, actions: Vec<Action>) {
        let (warm_ups, recompilations): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| action.subject.is_none());
        if !warm_ups.is_empty() {
            let warmed = in_time(Box::pin(self.warm_up(user, None, false))).await;
            self.settle_accounts("warm_up", &warm_ups, warmed.map(drop)).await;
        }
        if !recompilations.is_empty() {
            let subjects: HashSet<Subject> =
                recompilations.iter().filter_map(|action| action.subject).collect();
            let subjects: Vec<Subject> = subjects.into_iter().collect();
            let caller = Caller::vouched_for(user);
            let built = in_time(Box::pin(self.build(&caller, user, &subjects, false))).await;
            self.settle_accounts("compile", &recompilations, built.map(drop)).await;
        }
    }

    /// Ends entries, or puts them back. What the database does not take now stays under way, and is taken back later.
    async fn settle_accounts(
        &self,
        what: &'static str,
        actions: &[Action],
        outcome: Result<(), ContextError>,
    ) {
        let word = if outcome.is_ok() { "done" } else { "failed" };
        metrics::counter!(ACTIONS, "what" => what, "outcome" => word).increment(actions.len() as u64);
        let accounts = async {
            match &outcome {
                Ok(()) => {
                    let ids: Vec<i64> = actions.iter().map(|action| action.id).collect();
                    bundles::complete(&self.database, &ids).await?;
                }
                Err(error) => {
                    tracing::warn!(error = ?error, what, "background work of the context engine failed");
                    for action in actions {
                        fail(&self.database, action, error).await?;
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

async fn fail(database: &Database, action: &Action, error: &ContextError) -> Result<(), PgError> {
    let doubled = 2_u32.saturating_pow(action.attempts.clamp(1, 16).unsigned_abs() - 1);
    let pause = FIRST_PAUSE.saturating_mul(doubled).min(LAST_PAUSE);
    let pause = pause.mul_f64(rand::rng().random_range(0.5..1.0));
    // The user may read the entry: no SQL, no addresses.
    bundles::fail(database, action.id, &error.to_string(), pause, ATTEMPTS).await
}

async fn in_time<T>(work: impl Future<Output = Result<T, ContextError>>) -> Result<T, ContextError> {
    timeout(USER_LIMIT, work)
        .await
        .unwrap_or_else(|_| Err(PgError::Unavailable("the work took too long".into()).into()))
}

/// A model's words for a long conversation; `None` where it does not answer, which costs nothing but its words.
async fn sum_up(model: &Provider, messages: &[SourceMessage]) -> Option<String> {
    const TASK: &str = "Sum up the conversation for an assistant that is to go on with it. Answer in Markdown with \
        these headings and at most five short bullets each, leaving out empty ones: ### What happened, ### Open \
        questions, ### Decisions, ### Current focus. State only what was said.";
    let recent = &messages[messages.len().saturating_sub(SUMMED_MESSAGES)..];
    let said = recent.iter().fold(String::new(), |said, message| {
        let cut: String = message.content.chars().take(1_000).collect();
        said + compile::speaker(message) + ": " + &cut + "\n\n"
    });
    let message = |role: &str, content: String| ChatMessage { role: role.into(), content };
    let request = Request {
        messages: vec![message("system", TASK.into()), message("user", said)],
        model: None,
        max_tokens: Some(SUMMARY_TOKENS),
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
