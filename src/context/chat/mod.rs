//! Chat turns: assemble the prompt, save the question, call the model, save the answer.
//!
//! The question is saved before the model is called. The answer is saved exactly once: an interrupted answer as partial,
//! and an answer without text is removed. Without a conversation, nothing is saved.

mod answer;
mod options;
mod stream;
mod turn;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use answer::{Answer, ContextStats, Engine, Metadata};
pub use options::provider_options;
pub use stream::{ChatEvent, ChatEvents};

use self::{
    answer::PreparedPrompt,
    turn::{Turn, tokens_of},
};
use super::{
    assemble::{Prompt, PromptOptions, PromptTooLong},
    budget,
    engine::{ContextEngine, ContextError},
    message::ChatMessage,
    provider::{CompletionRequest, Provider, ProviderError, UnknownProvider},
    simple::SimplePrompt,
    store::{
        bundles::ReadError,
        turns::{self, BeginOutcome},
    },
    tokens,
};
use crate::{
    auth::Principal,
    lifecycle::ErrorChain,
    model::{ConversationId, UserId},
    pg::PgError,
};

/// Tokens of the context beside the client's messages, if the request sets no maximum and the messages are long.
const MIN_CONTEXT_TOKENS: usize = 2_000;
/// Text of a question that consists of attachments only.
const ATTACHMENT: &str = "[attachment]";

#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// `None`: the prompt has the user's context only, and nothing is saved.
    pub conversation: Option<ConversationId>,
    /// Messages of the client in order. All of them reach the model unchanged. The last one of the user is the question.
    pub messages: Vec<ChatMessage>,
    /// Idempotency key of the request.
    pub idempotency_key: Option<String>,
    /// Provider name; `None` means the default and its fallbacks.
    pub provider: Option<String>,
    /// Model name; `None` means the provider's default.
    pub model: Option<String>,
    /// Maximum tokens of the answer.
    pub max_tokens: Option<u32>,
    /// Sampling temperature, 0 to 2.
    pub temperature: Option<f32>,
    /// Further fields for the provider; see [`provider_options`].
    pub options: Map<String, Value>,
    /// Whether the conversation's stored messages are part of the prompt.
    pub include_history: bool,
    /// Whether the dynamic engine assembles the prompt.
    pub use_dynamic: bool,
    /// Maximum tokens of the prompt. `None`: the default, or more if the messages are longer.
    pub context_tokens: Option<usize>,
    /// Maximum of `context_tokens` for the caller.
    pub max_context_tokens: usize,
}

impl ChatRequest {
    /// Text that is saved as the question and searched for: the last message of the user.
    fn question(&self) -> String {
        let last = self.messages.iter().rev().find(|message| message.role() == "user");
        let Some(last) = last.or(self.messages.last()) else { return String::new() };
        let text = last.text();
        if text.trim().is_empty() && last.has_attachments() { ATTACHMENT.into() } else { text.into_owned() }
    }

    fn max_tokens_of_prompt(&self) -> usize {
        let default = budget::DEFAULT_TOKENS.max(tokens_of(&self.messages) + MIN_CONTEXT_TOKENS);
        self.context_tokens.unwrap_or(default).min(self.max_context_tokens)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The conversation does not exist, or the caller cannot see it or write to it.
    #[error("the conversation does not exist, or the caller cannot use it")]
    ConversationNotFound,
    /// The messages exceed the maximum tokens of the prompt.
    #[error(transparent)]
    TooLong(#[from] PromptTooLong),
    /// The requested provider is not configured.
    #[error(transparent)]
    UnknownProvider(#[from] UnknownProvider),
    #[error("no model provider is configured; set LLM_PROVIDER, or LLM_BASE_URL and LLM_MODEL")]
    NoProviderConfigured,
    /// A request with the same idempotency key is in progress.
    #[error("a request with this idempotency key is in progress")]
    InProgress,
    /// The idempotency key was used for another message.
    #[error("the idempotency key was used for another message")]
    IdempotencyKeyReused,
    /// The dynamic engine failed and the fallback is disabled.
    #[error("the dynamic context engine failed")]
    DynamicEngine(#[source] ContextError),
    /// The user's tokens of this day are used up.
    #[error("the budget of {budget} tokens of this day is used up")]
    BudgetExhausted { budget: u32, retry_after: Duration },
    #[error("both context engines failed")]
    SimpleEngine(#[source] ContextError),
    /// Question or answer could not be saved.
    #[error(transparent)]
    Save(ReadError),
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

/// Result of a chat request.
pub enum Outcome<T> {
    Answered(T),
    /// The stored answer to an earlier request with the same idempotency key.
    Replayed(Box<Answer>),
}

impl ContextEngine {
    /// Runs a turn and waits for the complete answer. Dropping the future cancels the call to the provider; the question
    /// stays saved.
    pub async fn chat(
        self: &Arc<Self>,
        caller: &Principal,
        user: UserId,
        request: ChatRequest,
    ) -> Result<Outcome<Box<Answer>>, ChatError> {
        let (mut turn, providers, request) = match self.begin_turn(caller, user, request).await? {
            TurnStart::New { turn, providers, request } => (*turn, providers, request),
            TurnStart::Replay(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let result = tokio::select! {
            result = ask(&providers, request, async |provider, request| provider.complete(request).await) => result,
            () = self.cancel_turns.cancelled() => Err(ProviderError::Stopping),
        };
        match result {
            Ok((completion, provider)) => {
                turn.set_provider(&provider);
                turn.set_completion(completion);
                let answer = turn.complete().await.map_err(|error| ChatError::Save(error.into()))?;
                Ok(Outcome::Answered(Box::new(answer)))
            }
            Err(error) => {
                turn.fail(&error);
                Err(error.into())
            }
        }
    }

    /// Runs a turn and streams the answer. The provider's stream is read at the client's pace; if the client disconnects,
    /// the call is cancelled.
    ///
    /// # Errors
    ///
    /// See [`ChatError`]. Errors after the first event become an event.
    pub async fn chat_stream(
        self: &Arc<Self>,
        caller: &Principal,
        user: UserId,
        request: ChatRequest,
    ) -> Result<Outcome<ChatEvents>, ChatError> {
        let (mut turn, providers, request) = match self.begin_turn(caller, user, request).await? {
            TurnStart::New { turn, providers, request } => (*turn, providers, request),
            TurnStart::Replay(answer) => return Ok(Outcome::Replayed(answer)),
        };
        match ask(&providers, request, async |provider, request| provider.stream(request).await).await {
            Ok((chunks, provider)) => {
                turn.set_provider(&provider);
                Ok(Outcome::Answered(stream::spawn(self, turn, chunks)))
            }
            Err(error) => {
                turn.fail(&error);
                Err(error.into())
            }
        }
    }

    async fn begin_turn(
        self: &Arc<Self>,
        caller: &Principal,
        user: UserId,
        request: ChatRequest,
    ) -> Result<TurnStart, ChatError> {
        let providers = self.providers.chain(request.provider.as_deref())?;
        let budget = self.exhausted_budget(&caller.role, user).await;
        if let Some(budget) = budget.map_err(|error| ChatError::Save(error.into()))? {
            return Err(ChatError::BudgetExhausted { budget, retry_after: until_midnight(Timestamp::now()) });
        }
        let question = request.question();
        let prepared = match self.prepare_prompt(caller, user, &request, &question).await {
            Err(error @ (ChatError::ConversationNotFound | ChatError::TooLong(_))) => return Err(error),
            prepared => prepared,
        };
        let answer_id = match request.conversation {
            None => None,
            Some(conversation) => {
                // The question is saved even if assembling the prompt failed.
                let message_tokens = i32::try_from(tokens::count(&question)).unwrap_or(i32::MAX);
                let key = request.idempotency_key.as_deref();
                let outcome =
                    turns::begin(&self.database, caller, conversation, &question, message_tokens, key).await;
                match outcome {
                    Ok(BeginOutcome::New { answer_id, .. }) => {
                        self.wake_learning.notify_one();
                        Some(answer_id)
                    }
                    Ok(BeginOutcome::Busy) => return Err(ChatError::InProgress),
                    Ok(BeginOutcome::Mismatch) => return Err(ChatError::IdempotencyKeyReused),
                    Ok(BeginOutcome::Replay { answer_id, content, metadata, partial }) => {
                        let answer = stored_answer(prepared?, answer_id, content, &metadata, partial);
                        return Ok(TurnStart::Replay(Box::new(answer)));
                    }
                    // A caller that may read but not write sees the conversation as missing.
                    Err(ReadError::Database(
                        PgError::PermissionDenied(_) | PgError::ForeignKeyViolation(_),
                    )) => {
                        return Err(ChatError::ConversationNotFound);
                    }
                    Err(error) => {
                        prepared?;
                        return Err(ChatError::Save(error));
                    }
                }
            }
        };
        // From here on, dropping the turn saves or removes the answer, also when this function returns an error.
        let mut turn = Turn::new(self, user, answer_id);
        let prepared = prepared?;
        if providers.is_empty() {
            return Err(ChatError::NoProviderConfigured);
        }
        let request = CompletionRequest {
            messages: prepared.messages.clone(),
            model: request.model,
            max_tokens: request.max_tokens,
            temperature: request.temperature,
            options: request.options,
            ..CompletionRequest::default()
        };
        turn.set_prompt(prepared);
        Ok(TurnStart::New { turn: Box::new(turn), providers, request })
    }

    async fn prepare_prompt(
        &self,
        caller: &Principal,
        user: UserId,
        request: &ChatRequest,
        question: &str,
    ) -> Result<PreparedPrompt, ChatError> {
        let started = Instant::now();
        let options = PromptOptions {
            message: question,
            client_messages: &request.messages,
            max_tokens: request.max_tokens_of_prompt(),
            with_history: request.include_history,
        };
        let mut fell_back = false;
        if request.use_dynamic {
            match self.assemble(caller, user, request.conversation, options).await {
                Ok(prompt) => return Ok(dynamic_prompt(prompt, request, options, started)),
                Err(ContextError::NotFound) => return Err(ChatError::ConversationNotFound),
                Err(ContextError::TooLong(error)) => return Err(error.into()),
                Err(error) if !self.falls_back() => return Err(ChatError::DynamicEngine(error)),
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "dynamic context engine failed, using the simple engine");
                    fell_back = true;
                }
            }
        }
        match self.assemble_simple(caller, request.conversation, options).await {
            Ok(prompt) => Ok(simple_prompt(prompt, request, options, started, fell_back)),
            Err(ContextError::NotFound) => Err(ChatError::ConversationNotFound),
            Err(ContextError::TooLong(error)) => Err(error.into()),
            Err(error) => Err(ChatError::SimpleEngine(error)),
        }
    }
}

/// Time until the next day in UTC.
fn until_midnight(now: Timestamp) -> Duration {
    const DAY: i64 = 24 * 3_600;
    Duration::from_secs((DAY - now.as_second().rem_euclid(DAY)).unsigned_abs())
}

enum TurnStart {
    New { turn: Box<Turn>, providers: Vec<Provider>, request: CompletionRequest },
    Replay(Box<Answer>),
}

fn stored_answer(
    prepared: PreparedPrompt,
    answer_id: uuid::Uuid,
    content: String,
    metadata: &Value,
    partial: bool,
) -> Answer {
    Answer {
        content,
        tool_calls: metadata["tool_calls"].as_array().cloned().unwrap_or_default(),
        finish_reason: metadata["finish_reason"].as_str().map(str::to_owned),
        model: metadata["model"].as_str().unwrap_or_default().to_owned(),
        usage: serde_json::from_value(metadata["usage"].clone()).unwrap_or_default(),
        engine: if metadata["engine"] == "legacy" { Engine::Simple } else { Engine::Dynamic },
        context_stats: prepared.stats,
        message_id: answer_id,
        replayed: true,
        partial,
        raw: Value::Null,
    }
}

/// Asks the providers in order until one answers, or begins to answer; returns its name too.
async fn ask<T>(
    providers: &[Provider],
    mut request: CompletionRequest,
    call: impl AsyncFn(&Provider, &CompletionRequest) -> Result<T, ProviderError>,
) -> Result<(T, String), ProviderError> {
    let mut rest = providers.iter();
    let mut provider = rest.next().expect("a provider is configured");
    loop {
        match call(provider, &request).await {
            Ok(answer) => return Ok((answer, provider.name().to_owned())),
            Err(error) => provider = next_provider(&mut rest, provider, &mut request, error)?,
        }
    }
}

/// The provider to ask after a failure. The request's model exists at the first provider only.
fn next_provider<'a>(
    rest: &mut std::slice::Iter<'a, Provider>,
    failed: &Provider,
    request: &mut CompletionRequest,
    error: ProviderError,
) -> Result<&'a Provider, ProviderError> {
    let unknown_model =
        request.model.is_some() && matches!(error, ProviderError::Rejected { status: 404, .. });
    if !error.allows_fallback() || unknown_model {
        return Err(error);
    }
    let Some(next) = rest.next() else { return Err(error) };
    tracing::warn!(provider = failed.name(), fallback = next.name(), error = %ErrorChain(&error), "model provider failed");
    request.model = None;
    Ok(next)
}

fn dynamic_prompt(
    prompt: Prompt,
    request: &ChatRequest,
    options: PromptOptions<'_>,
    started: Instant,
) -> PreparedPrompt {
    let names_of = |kind: &str| -> Vec<String> {
        prompt.detected.iter().filter(|it| it.kind == kind).map(|it| it.name.clone()).collect()
    };
    let mut layers = std::collections::BTreeMap::new();
    for section in &prompt.sections {
        *layers.entry(section.layer.to_string()).or_default() += section.tokens;
    }
    let stats = ContextStats {
        metadata: Metadata {
            assembly_time_ms: milliseconds(started),
            cache_hit_rate: prompt.hit_rate(),
            bundles_used: prompt.used.clone(),
        },
        tokens: prompt.tokens(),
        max_tokens: options.max_tokens,
        history_messages: prompt.history.len(),
        bundles_wanted: prompt.wanted,
        bundles_ready: prompt.ready,
        bundles_compiled: prompt.wanted - prompt.ready,
        topics: names_of("topic"),
        entities: names_of("entity"),
        layers,
        fell_back: false,
    };
    let messages = prompt_messages(prompt.system, prompt.history, &request.messages);
    PreparedPrompt { messages, engine: Engine::Dynamic, stats }
}

fn simple_prompt(
    prompt: SimplePrompt,
    request: &ChatRequest,
    options: PromptOptions<'_>,
    started: Instant,
    fell_back: bool,
) -> PreparedPrompt {
    let stats = ContextStats {
        metadata: Metadata { assembly_time_ms: milliseconds(started), ..Metadata::default() },
        tokens: prompt.tokens,
        max_tokens: options.max_tokens,
        history_messages: prompt.history.len(),
        bundles_wanted: 0,
        bundles_ready: 0,
        bundles_compiled: 0,
        topics: Vec::new(),
        entities: Vec::new(),
        layers: std::collections::BTreeMap::new(),
        fell_back,
    };
    let messages = prompt_messages(prompt.system, prompt.history, &request.messages);
    PreparedPrompt { messages, engine: Engine::Simple, stats }
}

/// The assembled system message, the client's system messages before its first other message, the stored history, and
/// the rest of the client's messages. The client's messages stay in order and unchanged.
fn prompt_messages(system: String, history: Vec<ChatMessage>, client: &[ChatMessage]) -> Vec<ChatMessage> {
    let is_system = |message: &ChatMessage| matches!(message.role(), "system" | "developer");
    let leading = client.iter().position(|message| !is_system(message)).unwrap_or(client.len());
    let assembled = (!system.is_empty()).then(|| ChatMessage::new("system", system));
    let (instructions, rest) = client.split_at(leading);
    let instructions = instructions.iter().cloned();
    assembled.into_iter().chain(instructions).chain(history).chain(rest.iter().cloned()).collect()
}

fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 100_000.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_the_client_follows_the_assembled_one_in_order() {
        let message = |role: &str, text: &str| ChatMessage::new(role, text);
        let client = [
            message("system", "Be a pirate."),
            message("user", "a"),
            message("system", "Now rhyme."),
            message("user", "b"),
            message("system", "Briefly."),
        ];
        let history = vec![message("user", "old"), message("assistant", "reply")];
        let all = prompt_messages("## About This User".into(), history, &client);
        let texts: Vec<_> = all.iter().map(|message| message.text().into_owned()).collect();
        let expected =
            ["## About This User", "Be a pirate.", "old", "reply", "a", "Now rhyme.", "b", "Briefly."];
        assert_eq!(texts, expected);
    }
}
