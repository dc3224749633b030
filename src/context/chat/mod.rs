//! Chat turns: assemble the prompt, save the question, call the model, save the answer.
//!
//! The question is saved before the model is called. The answer is saved exactly once: an interrupted answer as partial,
//! and an answer without text is removed.

mod answer;
mod stream;
mod turn;

use std::{sync::Arc, time::Instant};

pub use answer::{Answer, ContextStats, Engine, Metadata};
pub use stream::{ChatEvent, ChatEvents};

use self::{answer::PreparedPrompt, turn::Turn};
use super::{
    assemble::{ChatMessage, Prompt, PromptOptions},
    budget,
    engine::{ContextEngine, ContextError},
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

#[derive(Debug, Clone)]
pub struct ChatRequest {
    pub conversation: ConversationId,
    pub message: String,
    /// Earlier messages as the client sent them; used if the conversation's history is empty or excluded.
    pub client_history: Vec<ChatMessage>,
    /// Idempotency key of the request.
    pub idempotency_key: Option<String>,
    /// Provider name; `None` means the default.
    pub provider: Option<String>,
    /// Model name; `None` means the provider's default.
    pub model: Option<String>,
    /// Maximum tokens of the answer.
    pub max_tokens: Option<u32>,
    /// Sampling temperature, 0 to 2.
    pub temperature: Option<f32>,
    /// Whether the conversation's stored messages are part of the prompt.
    pub include_history: bool,
    /// Whether the dynamic engine assembles the prompt.
    pub use_dynamic: bool,
    /// Maximum tokens of the prompt.
    pub context_tokens: Option<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The conversation does not exist, or the caller cannot see it or write to it.
    #[error("the conversation does not exist, or the caller cannot use it")]
    ConversationNotFound,
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
    Answered(T, Metadata),
    /// The stored answer to an earlier request with the same idempotency key.
    Replayed(Box<Answer>, Metadata),
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
        let (turn, provider, request) = match self.begin_turn(caller, user, request).await? {
            TurnStart::New { turn, provider, request } => (turn, provider, request),
            TurnStart::Replay(answer, metadata) => return Ok(Outcome::Replayed(answer, metadata)),
        };
        let mut turn = *turn;
        let completion = tokio::select! {
            completion = provider.complete(&request) => completion?,
            () = self.cancel_turns.cancelled() => return Err(ProviderError::InvalidResponse("the server is stopping".into()).into()),
        };
        turn.append(&completion.content);
        turn.set_model(completion.model);
        if let Some(usage) = completion.usage {
            turn.set_usage(usage);
        }
        let metadata = turn.metadata();
        let answer = turn.complete().await.map_err(|error| ChatError::Save(error.into()))?;
        Ok(Outcome::Answered(Box::new(answer), metadata))
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
        let (turn, provider, request) = match self.begin_turn(caller, user, request).await? {
            TurnStart::New { turn, provider, request } => (turn, provider, request),
            TurnStart::Replay(answer, metadata) => return Ok(Outcome::Replayed(answer, metadata)),
        };
        let chunks = provider.stream(&request).await?;
        let metadata = turn.metadata();
        Ok(Outcome::Answered(stream::spawn(self, *turn, chunks), metadata))
    }

    async fn begin_turn(
        self: &Arc<Self>,
        caller: &Principal,
        user: UserId,
        request: ChatRequest,
    ) -> Result<TurnStart, ChatError> {
        let provider = self.providers.get(request.provider.as_deref())?.cloned();
        let started = Instant::now();
        let prepared = self.prepare_prompt(caller, user, &request, started).await;
        if matches!(prepared, Err(ChatError::ConversationNotFound)) {
            return Err(ChatError::ConversationNotFound);
        }
        // The question is saved even if assembling the prompt failed.
        let message_tokens = i32::try_from(tokens::count(&request.message)).unwrap_or(i32::MAX);
        let outcome = turns::begin(
            &self.database,
            caller,
            request.conversation,
            &request.message,
            message_tokens,
            request.idempotency_key.as_deref(),
        );
        let outcome = match outcome.await {
            Ok(outcome) => outcome,
            // A caller that may read but not write sees the conversation as missing.
            Err(ReadError::Database(PgError::PermissionDenied(_) | PgError::ForeignKeyViolation(_))) => {
                return Err(ChatError::ConversationNotFound);
            }
            Err(error) => {
                prepared?;
                return Err(ChatError::Save(error));
            }
        };
        let answer_id = match outcome {
            BeginOutcome::Busy => return Err(ChatError::InProgress),
            BeginOutcome::Mismatch => return Err(ChatError::IdempotencyKeyReused),
            BeginOutcome::Replay { answer_id, content, metadata, partial } => {
                let prepared = prepared?;
                let answer = Answer {
                    content,
                    model: metadata["model"].as_str().unwrap_or_default().to_owned(),
                    usage: serde_json::from_value(metadata["usage"].clone()).unwrap_or_default(),
                    engine: if metadata["engine"] == "legacy" { Engine::Simple } else { Engine::Dynamic },
                    context_stats: prepared.stats,
                    message_id: answer_id,
                    replayed: true,
                    partial,
                };
                return Ok(TurnStart::Replay(Box::new(answer), prepared.metadata));
            }
            BeginOutcome::New { answer_id, .. } => answer_id,
        };
        // From here on, dropping the turn saves or removes the answer, also when this function returns an error.
        let mut turn = Turn::new(self, answer_id);
        let prepared = prepared?;
        let provider = provider.ok_or(ChatError::NoProviderConfigured)?;
        let PreparedPrompt { messages, .. } = &prepared;
        let request = CompletionRequest {
            messages: messages.clone(),
            model: request.model,
            max_tokens: request.max_tokens,
            temperature: request.temperature,
        };
        turn.set_prompt(prepared, provider.name());
        Ok(TurnStart::New { turn: Box::new(turn), provider, request })
    }

    async fn prepare_prompt(
        &self,
        caller: &Principal,
        user: UserId,
        request: &ChatRequest,
        started: Instant,
    ) -> Result<PreparedPrompt, ChatError> {
        let options = PromptOptions {
            message: &request.message,
            max_tokens: request.context_tokens.unwrap_or(budget::DEFAULT_TOKENS),
            with_history: request.include_history,
        };
        let mut fell_back = false;
        if request.use_dynamic {
            match self.assemble(caller, user, request.conversation, options).await {
                Ok(prompt) => return Ok(dynamic_prompt(prompt, request, options, started)),
                Err(ContextError::NotFound) => return Err(ChatError::ConversationNotFound),
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
            Err(error) => Err(ChatError::SimpleEngine(error)),
        }
    }
}

enum TurnStart {
    New { turn: Box<Turn>, provider: Provider, request: CompletionRequest },
    Replay(Box<Answer>, Metadata),
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
    let metadata = Metadata {
        assembly_time_ms: milliseconds(started),
        cache_hit_rate: prompt.hit_rate(),
        bundles_used: prompt.used,
    };
    let room = options.max_tokens.saturating_sub(stats.tokens);
    let messages = chat_messages(prompt.system, prompt.history, request, room);
    PreparedPrompt { messages, engine: Engine::Dynamic, stats, metadata }
}

fn simple_prompt(
    prompt: SimplePrompt,
    request: &ChatRequest,
    options: PromptOptions<'_>,
    started: Instant,
    fell_back: bool,
) -> PreparedPrompt {
    let stats = ContextStats {
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
    let metadata = Metadata { assembly_time_ms: milliseconds(started), cache_hit_rate: 0.0, bundles_used: 0 };
    let room = options.max_tokens.saturating_sub(prompt.tokens);
    let messages = chat_messages(prompt.system, prompt.history, request, room);
    PreparedPrompt { messages, engine: Engine::Simple, stats, metadata }
}

/// Combines system prompt, history and message. If the conversation has no history, the client's earlier messages are
/// used as far as they fit into `room` tokens.
fn chat_messages(
    system: String,
    history: Vec<ChatMessage>,
    request: &ChatRequest,
    mut room: usize,
) -> Vec<ChatMessage> {
    let mut messages = Vec::new();
    if !system.is_empty() {
        messages.push(ChatMessage { role: "system".into(), content: system });
    }
    if history.is_empty() {
        let fitting = request.client_history.iter().rev().take_while(|message| {
            let cost = tokens::count(&message.content) + tokens::MESSAGE_OVERHEAD;
            let fits = cost <= room;
            room = room.saturating_sub(cost);
            fits
        });
        let mut fitting: Vec<_> = fitting.cloned().collect();
        fitting.reverse();
        messages.extend(fitting);
    }
    messages.extend(history);
    messages.push(ChatMessage { role: "user".into(), content: request.message.clone() });
    messages
}

fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 100_000.0).round() / 100.0
}
