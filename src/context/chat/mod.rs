//! One turn of a chat: assemble, save the question, ask the model, save the answer.
//!
//! The question is saved before a model is asked, and the answer exactly once, whatever becomes of the request: an
//! answer that breaks off is saved as such, and one that never began leaves the question alone.

mod stream;
mod turn;

use std::{sync::Arc, time::Instant};

use serde::Serialize;
use serde_json::Value;

pub use stream::{ChatEvent, ChatEvents};

use self::turn::Turn;
use super::{
    assemble::{ChatMessage, Prompt, PromptOptions},
    budget,
    engine::{ContextEngine, ContextError},
    provider::{CompletionRequest, Provider, ProviderError, UnknownProvider, Usage},
    simple::SimplePrompt,
    store::{
        bundles::ReadError,
        turns::{self, BeginOutcome},
    },
    tokens,
};
use crate::{
    auth::Principal,
    model::{ConversationId, UserId},
    pg::PgError,
};

/// What a client asks.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// Where.
    pub conversation: ConversationId,
    /// What was typed: the last of the user's messages.
    pub message: String,
    /// What the client says was said before; counts where the conversation has nothing, or is not to be read.
    pub client_history: Vec<ChatMessage>,
    /// The client's name of this request.
    pub idempotency_key: Option<String>,
    /// Which provider.
    pub provider: Option<String>,
    /// Which model of it.
    pub model: Option<String>,
    /// The most tokens of the answer.
    pub max_tokens: Option<u32>,
    /// From 0, sober, to 2.
    pub temperature: Option<f32>,
    /// Whether the conversation's messages are to be read.
    pub include_history: bool,
    /// Whether the dynamic engine is to assemble.
    pub use_dynamic: bool,
    /// The tokens of the whole prompt.
    pub context_tokens: Option<usize>,
}

/// A turn did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// There is no such conversation, as far as the caller may know.
    #[error("there is no such conversation")]
    ConversationNotFound,
    /// There is no provider of that name.
    #[error(transparent)]
    UnknownProvider(#[from] UnknownProvider),
    /// No provider is configured.
    #[error("no model is configured")]
    NoProviderConfigured,
    /// The same request is being answered at the moment.
    #[error("this request is being answered already")]
    InProgress,
    /// The idempotency key stands for another message.
    #[error("this idempotency key was used for another message")]
    IdempotencyKeyReused,
    /// The dynamic engine failed, and falling back is switched off.
    #[error("the dynamic context engine failed")]
    DynamicEngine(#[source] ContextError),
    /// Both engines failed.
    #[error("both context engines failed")]
    SimpleEngine(#[source] ContextError),
    /// The question could not be saved.
    #[error(transparent)]
    Save(ReadError),
    /// The model did not answer.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

/// Which engine assembled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Bundles, retrieval, budget.
    Dynamic,
    /// The simple one.
    Legacy,
}

/// How a prompt came about.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Milliseconds.
    pub assembly_time_ms: f64,
    /// Bundles that were ready and fresh over bundles wanted.
    pub cache_hit_rate: f64,
    /// Bundles in the prompt.
    pub bundles_used: usize,
}

/// What is in a prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContextStats {
    /// The prompt's tokens.
    pub tokens: usize,
    /// What they may be.
    pub max_tokens: usize,
    /// Messages of the conversation.
    pub history_messages: usize,
    /// Bundles that were wanted.
    pub bundles_wanted: usize,
    /// Those that were ready and fresh.
    pub bundles_ready: usize,
    /// Those that were compiled for this.
    pub bundles_compiled: usize,
    /// The names of topics that the message is about.
    pub topics: Vec<String>,
    /// The names of entities.
    pub entities: Vec<String>,
    /// Tokens by layer.
    pub layers: std::collections::BTreeMap<String, usize>,
    /// Whether the simple engine had to step in.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fell_back: bool,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// What the model says.
    pub content: String,
    /// Which model.
    pub model: String,
    /// What it cost.
    #[serde(serialize_with = "usage_in_camel_case")]
    pub usage: Usage,
    /// Who assembled.
    pub engine: Engine,
    /// What the prompt consisted of.
    pub context_stats: ContextStats,
    /// The answer's row.
    pub message_id: uuid::Uuid,
    /// It was answered before, and this is that answer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
    /// It broke off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

fn usage_in_camel_case<S: serde::Serializer>(usage: &Usage, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Camel {
        total_tokens: u64,
        prompt_tokens: u64,
        completion_tokens: u64,
    }
    let Usage { prompt_tokens, completion_tokens, total_tokens } = *usage;
    Camel { total_tokens, prompt_tokens, completion_tokens }.serialize(serializer)
}

/// A prompt, by whichever engine.
#[derive(Debug, Clone)]
pub(super) struct PreparedPrompt {
    messages: Vec<ChatMessage>,
    engine: Engine,
    stats: ContextStats,
    metadata: Metadata,
}

/// What came of asking.
pub enum Outcome<T> {
    /// The model answers.
    Answered(T, Metadata),
    /// It has answered this request before.
    Replayed(Box<Answer>, Metadata),
}

impl ContextEngine {
    /// Asks and waits for the whole answer. Dropped, the call to the provider ends, and the question stays.
    ///
    /// # Errors
    ///
    /// See [`ChatError`].
    pub async fn chat(
        self: &Arc<Self>,
        caller: &Principal,
        user: UserId,
        asked: ChatRequest,
    ) -> Result<Outcome<Box<Answer>>, ChatError> {
        let (turn, provider, request) = match self.begin_turn(caller, user, asked).await? {
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

    /// Asks and answers piece by piece. The pieces are read from the provider as the client takes them; a client that
    /// goes away ends the call.
    ///
    /// # Errors
    ///
    /// See [`ChatError`]; what goes wrong after the first piece is an event.
    pub async fn chat_stream(
        self: &Arc<Self>,
        caller: &Principal,
        user: UserId,
        asked: ChatRequest,
    ) -> Result<Outcome<ChatEvents>, ChatError> {
        let (turn, provider, request) = match self.begin_turn(caller, user, asked).await? {
            TurnStart::New { turn, provider, request } => (turn, provider, request),
            TurnStart::Replay(answer, metadata) => return Ok(Outcome::Replayed(answer, metadata)),
        };
        let pieces = provider.stream(&request).await?;
        let metadata = turn.metadata();
        Ok(Outcome::Answered(stream::spawn(self, *turn, pieces), metadata))
    }

    async fn begin_turn(
        self: &Arc<Self>,
        caller: &Principal,
        user: UserId,
        asked: ChatRequest,
    ) -> Result<TurnStart, ChatError> {
        let provider = self.settings.providers.get(asked.provider.as_deref())?.cloned();
        let started = Instant::now();
        let prepared = self.prepare_prompt(caller, user, &asked, started).await;
        if matches!(prepared, Err(ChatError::ConversationNotFound)) {
            return Err(ChatError::ConversationNotFound);
        }
        // Whatever became of the prompt, what the user said is saved.
        let message_tokens = i32::try_from(tokens::count(&asked.message)).unwrap_or(i32::MAX);
        let begun = turns::begin(
            &self.database,
            caller,
            asked.conversation,
            &asked.message,
            message_tokens,
            asked.idempotency_key.as_deref(),
        );
        let begun = match begun.await {
            Ok(begun) => begun,
            // Some may read a conversation and not speak in it; to them it is none to chat in.
            Err(ReadError::Database(PgError::PermissionDenied(_) | PgError::ForeignKeyViolation(_))) => {
                return Err(ChatError::ConversationNotFound);
            }
            Err(error) => {
                prepared?;
                return Err(ChatError::Save(error));
            }
        };
        let answer_id = match begun {
            BeginOutcome::Busy => return Err(ChatError::InProgress),
            BeginOutcome::Mismatch => return Err(ChatError::IdempotencyKeyReused),
            BeginOutcome::Replay { answer_id, content, metadata, partial } => {
                let prepared = prepared?;
                let answer = Answer {
                    content,
                    model: metadata["model"].as_str().unwrap_or_default().to_owned(),
                    usage: serde_json::from_value(metadata["usage"].clone()).unwrap_or_default(),
                    engine: if metadata["engine"] == "legacy" { Engine::Legacy } else { Engine::Dynamic },
                    context_stats: prepared.stats,
                    message_id: answer_id,
                    replayed: true,
                    partial,
                };
                return Ok(TurnStart::Replay(Box::new(answer), prepared.metadata));
            }
            BeginOutcome::New { answer_id, .. } => answer_id,
        };
        // From here on the turn's end saves or removes the answer, also when an error leaves this function.
        let mut turn = Turn::new(self, answer_id);
        let prepared = prepared?;
        let provider = provider.ok_or(ChatError::NoProviderConfigured)?;
        let PreparedPrompt { messages, .. } = &prepared;
        let request = CompletionRequest {
            messages: messages.clone(),
            model: asked.model,
            max_tokens: asked.max_tokens,
            temperature: asked.temperature,
        };
        turn.set_prompt(prepared, provider.name());
        Ok(TurnStart::New { turn: Box::new(turn), provider, request })
    }

    async fn prepare_prompt(
        &self,
        caller: &Principal,
        user: UserId,
        asked: &ChatRequest,
        started: Instant,
    ) -> Result<PreparedPrompt, ChatError> {
        let wish = PromptOptions {
            message: &asked.message,
            max_tokens: asked.context_tokens.unwrap_or(budget::DEFAULT_TOKENS),
            with_history: asked.include_history,
        };
        let mut fell_back = false;
        if asked.use_dynamic {
            match self.assemble(caller, user, asked.conversation, wish).await {
                Ok(prompt) => return Ok(dynamic_prompt(prompt, asked, wish, started)),
                Err(ContextError::NotFound) => return Err(ChatError::ConversationNotFound),
                Err(error) if !self.falls_back() => return Err(ChatError::DynamicEngine(error)),
                Err(error) => {
                    tracing::warn!(error = ?error, "the dynamic context engine failed; the simple one answers");
                    fell_back = true;
                }
            }
        }
        match self.assemble_simple(caller, asked.conversation, wish).await {
            Ok(prompt) => Ok(simple_prompt(prompt, asked, wish, started, fell_back)),
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
    asked: &ChatRequest,
    wish: PromptOptions<'_>,
    started: Instant,
) -> PreparedPrompt {
    let of = |kind: &str| -> Vec<String> {
        prompt.detected.iter().filter(|it| it.kind == kind).map(|it| it.name.clone()).collect()
    };
    let mut layers = std::collections::BTreeMap::new();
    for section in &prompt.sections {
        *layers.entry(section.layer.to_string()).or_default() += section.tokens;
    }
    let stats = ContextStats {
        tokens: prompt.tokens(),
        max_tokens: wish.max_tokens,
        history_messages: prompt.history.len(),
        bundles_wanted: prompt.wanted,
        bundles_ready: prompt.ready,
        bundles_compiled: prompt.wanted - prompt.ready,
        topics: of("topic"),
        entities: of("entity"),
        layers,
        fell_back: false,
    };
    let metadata = Metadata {
        assembly_time_ms: milliseconds(started),
        cache_hit_rate: prompt.hit_rate(),
        bundles_used: prompt.used,
    };
    let room = wish.max_tokens.saturating_sub(stats.tokens);
    let messages = chat_messages(prompt.system, prompt.history, asked, room);
    PreparedPrompt { messages, engine: Engine::Dynamic, stats, metadata }
}

fn simple_prompt(
    prompt: SimplePrompt,
    asked: &ChatRequest,
    wish: PromptOptions<'_>,
    started: Instant,
    fell_back: bool,
) -> PreparedPrompt {
    let stats = ContextStats {
        tokens: prompt.tokens,
        max_tokens: wish.max_tokens,
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
    let room = wish.max_tokens.saturating_sub(prompt.tokens);
    let messages = chat_messages(prompt.system, prompt.history, asked, room);
    PreparedPrompt { messages, engine: Engine::Legacy, stats, metadata }
}

/// System, history and message. Where the conversation says nothing, what the client says was said before stands for
/// it, as far as there is room.
fn chat_messages(
    system: String,
    history: Vec<ChatMessage>,
    asked: &ChatRequest,
    mut room: usize,
) -> Vec<ChatMessage> {
    let mut messages = Vec::new();
    if !system.is_empty() {
        messages.push(ChatMessage { role: "system".into(), content: system });
    }
    if history.is_empty() {
        let fitting = asked.client_history.iter().rev().take_while(|message| {
            let cost = tokens::count(&message.content) + 4;
            let fits = cost <= room;
            room = room.saturating_sub(cost);
            fits
        });
        let mut fitting: Vec<_> = fitting.cloned().collect();
        fitting.reverse();
        messages.extend(fitting);
    }
    messages.extend(history);
    messages.push(ChatMessage { role: "user".into(), content: asked.message.clone() });
    messages
}

fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 100_000.0).round() / 100.0
}

/// What is kept beside an answer.
fn answer_metadata(engine: Engine, provider: &str, model: &str, usage: Usage, error: Option<&str>) -> Value {
    serde_json::json!({"engine": engine, "provider": provider, "model": model, "usage": usage, "error": error})
}
