//! `POST /v1/chat/completions`.

use axum::{
    extract::{FromRequest, FromRequestParts, Request, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    super::{
        ApiError, Authenticated, FieldError, HttpState, Json,
        context::{chat, context_user::authorize_and_count},
        on_behalf_of::OnBehalfOf,
    },
    error::{ErrorBody, StreamError, error_response},
};
use crate::{
    auth::Principal,
    context::{
        chat::{Answer, ChatEvent, ChatEvents, ChatRequest, Outcome, provider_options},
        message::ChatMessage,
    },
    limits::LimitClass,
    model::{ConversationId, UserId},
};

/// A request in the format of OpenAI's API. Further parameters, such as `tools`, are passed to the provider.
#[derive(Deserialize, ToSchema)]
pub(in crate::http) struct CompletionBody {
    /// Messages of the chat: 1 to 500.
    #[schema(required = true, nullable = false, min_items = 1, max_items = 500)]
    messages: Option<Vec<ChatMessage>>,
    /// Model that writes the answer, or `provider/model`. `GET /v1/models` lists them.
    #[schema(required = true, nullable = false, min_length = 1, max_length = 200)]
    model: Option<String>,
    /// Maximum tokens of the answer. The operator may set a lower maximum.
    #[schema(minimum = 1)]
    max_tokens: Option<u32>,
    /// Maximum tokens of the answer, with the tokens of reasoning.
    #[schema(minimum = 1)]
    max_completion_tokens: Option<u32>,
    /// Temperature of the model, from 0 to 2.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f32>,
    /// Whether the answer is streamed as server-sent events.
    stream: Option<bool>,
    /// Options of a streamed answer.
    stream_options: Option<StreamOptions>,
    /// Strings by name. The server reads `conversation_id`, `user_id`, `include_history` and `max_context_tokens`;
    /// the others are passed to the provider.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    // Fields for the provider.
    #[serde(flatten)]
    #[schema(ignore)]
    others: Map<String, Value>,
}

/// Options of a streamed answer.
#[derive(Deserialize, ToSchema, Default)]
#[schema(as = CompletionStreamOptions)]
struct StreamOptions {
    /// Whether the last chunk contains the token usage.
    include_usage: Option<bool>,
}

/// Entries of `metadata` that this server reads. Values are strings, as OpenAI's API demands.
#[derive(Default)]
struct ContextOptions {
    conversation_id: Option<ConversationId>,
    user_id: Option<UserId>,
    include_history: Option<bool>,
    max_context_tokens: Option<usize>,
}

const NAMES: chat::ParameterNames =
    chat::ParameterNames { max_tokens: "max_tokens", context_tokens: "metadata.max_context_tokens" };

/// Creates a chat completion with the context of the user.
///
/// Request, response, stream chunks and errors have the format of OpenAI's API. `metadata.conversation_id` names the
/// conversation; without it the prompt contains the context of the user only, and nothing is saved.
#[utoipa::path(
    post, path = "/v1/chat/completions", operation_id = "createChatCompletion", tag = "OpenAI-compatible API",
    request_body(content = CompletionBody, description = "The body has at most 1 MiB.", example = json!({
        "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": "Hello" }],
    })),
    responses(
        (status = 400, description = "The request is invalid; `param` names the field.", body = ErrorBody,
            example = json!({ "error": {
                "message": "temperature: must be from 0 to 2", "type": "invalid_request_error", "param": "temperature",
                "code": "invalid_request",
            } })),
        (status = 200, description = "The completion; with `stream` its chunks as server-sent events, and `[DONE]`.",
        content((Object = "application/json", example = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1_790_000_000, "model": "gpt-4o-mini",
            "choices": [{
                "index": 0, "message": { "role": "assistant", "content": "Hello." }, "finish_reason": "stop",
            }],
            "usage": { "prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12 },
        })), (String = "text/event-stream"))),
    ),
    extensions(
        ("x-errors" = json!([409])), ("x-error-format" = json!("openai")), ("x-rate-limit" = json!("chat")),
    ),
)]
pub(super) async fn create(State(state): State<HttpState>, request: Request) -> Response {
    answer(&state, request).await.unwrap_or_else(error_response)
}

async fn answer(state: &HttpState, request: Request) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let Authenticated(caller) = Authenticated::from_request_parts(&mut parts, state).await?;
    let headers = parts.headers.clone();
    let Json(body) = Json::<CompletionBody>::from_request(Request::from_parts(parts, body), state).await?;
    let stream = body.stream.unwrap_or(false);
    let include_usage =
        body.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false);
    let (request, user_id) = chat_request(state, &caller, &headers, body)?;
    let (OnBehalfOf { caller, user }, allowance) =
        authorize_and_count(state, caller, user_id, LimitClass::Chat)?;
    let created = state.clock.now().as_second();
    if stream {
        return Ok(match state.context.chat_stream(&caller, user, request).await? {
            Outcome::Answered(events) => {
                (allowance, chat::sse_response(chunks(events, created, include_usage))).into_response()
            }
            Outcome::Replayed(answer) => {
                let chunks = replayed_chunks(&answer, created, include_usage)?;
                (allowance, chat::sse_response(stream::iter(chunks))).into_response()
            }
        });
    }
    let (Outcome::Answered(answer) | Outcome::Replayed(answer)) =
        state.context.chat(&caller, user, request).await?;
    Ok((allowance, axum::Json(completion(*answer, created)?)).into_response())
}

/// Validates and converts the body. All faulty fields are reported at once.
fn chat_request(
    state: &HttpState,
    caller: &Principal,
    headers: &HeaderMap,
    body: CompletionBody,
) -> Result<(ChatRequest, Option<UserId>), ApiError> {
    let missing = [("messages", body.messages.is_none()), ("model", body.model.is_none())];
    let mut errors: Vec<FieldError> = missing
        .into_iter()
        .filter(|(_, missing)| *missing)
        .map(|(field, _)| FieldError::new(field, "is required"))
        .collect();
    let mut options = provider_options(body.others).unwrap_or_else(|unknown| {
        errors.extend(unknown.into_iter().map(|field| FieldError::new(field, "is not supported")));
        Map::new()
    });
    let (context, metadata) = context_options(body.metadata.unwrap_or_default(), &mut errors);
    if !metadata.is_empty() {
        options.insert("metadata".into(), metadata.into());
    }
    if let Some(tokens) = body.max_completion_tokens {
        options.insert("max_completion_tokens".into(), tokens.into());
    }
    let messages = body.messages.unwrap_or_default();
    let (provider, model) = split_model(state, body.model.as_deref().unwrap_or_default());
    if errors.is_empty() {
        let parameters = chat::ChatParameters {
            messages: &messages,
            model: model.as_deref(),
            max_tokens: body.max_tokens.or(body.max_completion_tokens),
            temperature: body.temperature,
            context_tokens: context.max_context_tokens,
        };
        chat::check_parameters(state, caller, &parameters, &NAMES, &mut errors);
        if errors.is_empty() {
            chat::check_roles(&messages)?;
        }
        if context.conversation_id.is_some() && !messages.is_empty() {
            chat::check_question(&messages, &mut errors);
        }
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid_fields(errors));
    }
    let request = ChatRequest {
        conversation: context.conversation_id,
        messages,
        idempotency_key: chat::idempotency_key(headers)?,
        provider,
        model,
        max_tokens: body.max_tokens,
        temperature: body.temperature,
        options,
        include_history: context.include_history.unwrap_or(true),
        use_dynamic: chat::dynamic_by_header(state, headers)?,
        context_tokens: context.max_context_tokens,
        max_context_tokens: state.context.chat_limits().prompt_tokens_of(&caller.role),
    };
    Ok((request, context.user_id))
}

/// Splits `provider/model`. The prefix counts only if a provider has that name. The default model of the default provider
/// means that provider with its fallbacks.
fn split_model(state: &HttpState, model: &str) -> (Option<String>, Option<String>) {
    let mut providers = state.context.providers().all();
    if let Some((name, rest)) = model.split_once('/')
        && let Some(provider) = state.context.providers().all().find(|provider| provider.name() == name)
    {
        let model = (rest != provider.default_model()).then(|| rest.to_owned());
        return (Some(name.to_owned()), model);
    }
    let is_default = providers.next().is_some_and(|provider| provider.default_model() == model);
    (None, (!is_default).then(|| model.to_owned()))
}

/// Reads the entries of `metadata` for this server; returns the others, which are for the provider.
fn context_options(
    mut metadata: Map<String, Value>,
    errors: &mut Vec<FieldError>,
) -> (ContextOptions, Map<String, Value>) {
    fn read<T: std::str::FromStr>(
        metadata: &mut Map<String, Value>,
        name: &str,
        expected: &str,
        errors: &mut Vec<FieldError>,
    ) -> Option<T> {
        let value = metadata.remove(name).filter(|value| !value.is_null())?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let parsed = text.parse().ok();
        if parsed.is_none() {
            errors.push(FieldError::new(format!("metadata.{name}"), format!("must be {expected}")));
        }
        parsed
    }
    let options = ContextOptions {
        conversation_id: read(&mut metadata, "conversation_id", "the ID of a conversation", errors),
        user_id: read(&mut metadata, "user_id", "a UUID", errors),
        include_history: read(&mut metadata, "include_history", "true or false", errors),
        max_context_tokens: read(&mut metadata, "max_context_tokens", "a number", errors),
    };
    (options, metadata)
}

fn completion_id(message: uuid::Uuid) -> String {
    format!("chatcmpl-{}", message.simple())
}

/// A message of the assistant.
#[derive(Serialize)]
struct AssistantMessage {
    role: &'static str,
    /// `null` if the message consists of tool calls.
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
}

impl AssistantMessage {
    fn new(content: String, tool_calls: Vec<Value>) -> Self {
        let content = (!content.is_empty() || tool_calls.is_empty()).then_some(content);
        Self { role: "assistant", content, refusal: None, tool_calls }
    }
}

/// The only choice of a completion that is built from a stored answer.
#[derive(Serialize)]
struct StoredChoice {
    index: usize,
    message: AssistantMessage,
    finish_reason: String,
    logprobs: Option<Value>,
}

/// A completion in OpenAI's format. `rest` holds what the provider answered.
#[derive(Serialize)]
struct Completion {
    id: String,
    object: &'static str,
    created: i64,
    model: String,
    choices: Value,
    usage: Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The provider's response with this server's ID, or a response that is built from a stored answer.
fn completion(answer: Answer, created: i64) -> Result<Completion, ApiError> {
    let id = completion_id(answer.message_id);
    let mut rest = match answer.raw {
        Value::Object(raw) => raw,
        _ => Map::new(),
    };
    for name in ["id", "object", "created", "model"] {
        rest.remove(name);
    }
    let mut choices = match rest.remove("choices") {
        Some(choices) => choices,
        None => to_json(&[StoredChoice {
            index: 0,
            message: AssistantMessage::new(answer.content, answer.tool_calls),
            finish_reason: answer.finish_reason.unwrap_or_else(|| "stop".to_owned()),
            logprobs: None,
        }])?,
    };
    for (at, choice) in choices.as_array_mut().into_iter().flatten().enumerate() {
        let Some(choice) = choice.as_object_mut() else { continue };
        choice.entry("index").or_insert(at.into());
        choice.entry("finish_reason").or_insert("stop".into());
    }
    let usage = match rest.remove("usage").filter(Value::is_object) {
        Some(usage) => usage,
        None => to_json(&answer.usage)?,
    };
    Ok(Completion { id, object: "chat.completion", created, model: answer.model, choices, usage, rest })
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Value, ApiError> {
    serde_json::to_value(value).map_err(|error| ApiError::Internal(error.into()))
}

/// State of a stream of chunks.
struct Chunks {
    events: ChatEvents,
    id: String,
    created: i64,
    model: String,
    include_usage: bool,
    role_sent: bool,
    usage_sent: bool,
}

/// One event of a stream.
#[derive(Serialize)]
#[serde(untagged)]
enum StreamItem {
    Chunk(Chunk),
    Error(StreamError),
}

/// A chunk in OpenAI's format. `rest` holds what the provider sent.
#[derive(Serialize)]
struct Chunk {
    id: String,
    object: &'static str,
    created: i64,
    model: String,
    choices: Vec<Value>,
    /// `Some(None)` is `null`: the client asked for the usage, and a later chunk contains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Value>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Chunks in OpenAI's format. The usage is the last chunk, and only if the client asked for it.
fn chunks(events: ChatEvents, created: i64, include_usage: bool) -> impl Stream<Item = StreamItem> + Send {
    let chunks = Chunks {
        events,
        id: String::new(),
        created,
        model: String::new(),
        include_usage,
        role_sent: false,
        usage_sent: false,
    };
    let lists = stream::unfold(chunks, |mut chunks| async move {
        let event = chunks.events.recv().await?;
        Some((stream::iter(chunks.convert(event)), chunks))
    });
    lists.flatten()
}

impl Chunks {
    fn convert(&mut self, event: ChatEvent) -> Option<StreamItem> {
        match event {
            ChatEvent::Context { message_id, .. } => {
                self.id = completion_id(message_id);
                None
            }
            ChatEvent::Chunk(chunk) => {
                if let Some(model) = chunk.model {
                    self.model = model;
                }
                self.chunk(chunk.raw).map(StreamItem::Chunk)
            }
            ChatEvent::Done(answer) => {
                let usage = (self.include_usage && !self.usage_sent).then(|| to_json(&answer.usage).ok())?;
                Some(StreamItem::Chunk(self.identified(Vec::new(), usage, Map::new())))
            }
            ChatEvent::Error { message, .. } => Some(StreamItem::Error(StreamError::new(message))),
        }
    }

    fn chunk(&mut self, raw: Value) -> Option<Chunk> {
        let Value::Object(mut rest) = raw else { return None };
        let mut choices = match rest.remove("choices") {
            Some(Value::Array(choices)) => choices,
            _ => Vec::new(),
        };
        // A provider may send the usage alone or with the last choice.
        let usage = rest.remove("usage").filter(|usage| self.include_usage && usage.is_object());
        if choices.is_empty() && usage.is_none() {
            return None;
        }
        self.usage_sent |= usage.is_some();
        let first = (!self.role_sent).then_some("assistant");
        self.role_sent |= !choices.is_empty();
        for choice in &mut choices {
            let Some(choice) = choice.as_object_mut() else { continue };
            choice.entry("index").or_insert(0.into());
            choice.entry("finish_reason").or_insert(Value::Null);
            let delta = choice.entry("delta").or_insert_with(|| Map::new().into());
            if let (Some(role), Some(delta)) = (first, delta.as_object_mut()) {
                delta.entry("role").or_insert(role.into());
            }
        }
        Some(self.identified(choices, usage, rest))
    }

    fn identified(&self, choices: Vec<Value>, usage: Option<Value>, mut rest: Map<String, Value>) -> Chunk {
        for name in ["id", "object", "created", "model"] {
            rest.remove(name);
        }
        Chunk {
            id: self.id.clone(),
            object: "chat.completion.chunk",
            created: self.created,
            model: self.model.clone(),
            choices,
            usage: self.include_usage.then_some(usage),
            rest,
        }
    }
}

/// The delta of a replayed answer.
#[derive(Serialize)]
struct ReplayedDelta {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
}

/// A choice of a replayed answer. The last one has an empty delta.
#[derive(Serialize)]
struct ReplayedChoice {
    index: usize,
    delta: Value,
    finish_reason: Option<String>,
}

/// Chunks that replay a stored answer.
fn replayed_chunks(answer: &Answer, created: i64, include_usage: bool) -> Result<Vec<Chunk>, ApiError> {
    let chunk = |choices: Vec<Value>, usage: Option<Value>| Chunk {
        id: completion_id(answer.message_id),
        object: "chat.completion.chunk",
        created,
        model: answer.model.clone(),
        choices,
        usage: usage.map(Some),
        rest: Map::new(),
    };
    let choice = |delta: Value, finish_reason: Option<String>| {
        Ok::<_, ApiError>(vec![to_json(&ReplayedChoice { index: 0, delta, finish_reason })?])
    };
    let calls = answer.tool_calls.iter().enumerate().map(|(at, call)| {
        let mut call = call.clone();
        call["index"] = at.into();
        call
    });
    let delta =
        ReplayedDelta { role: "assistant", content: answer.content.clone(), tool_calls: calls.collect() };
    let reason = answer.finish_reason.clone().unwrap_or_else(|| "stop".to_owned());
    let mut chunks = vec![
        chunk(choice(to_json(&delta)?, None)?, None),
        chunk(choice(Map::new().into(), Some(reason))?, None),
    ];
    if include_usage {
        chunks.push(chunk(Vec::new(), Some(to_json(&answer.usage)?)));
    }
    Ok(chunks)
}
