//! Route `POST /api/v1/ai/chat`: answers JSON, or server-sent events with `stream: true`.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{
        IntoResponse, Response, Sse,
        sse::{self, KeepAlive},
    },
};
use futures_util::{Stream, StreamExt, stream};
use garde::Validate;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    super::{
        ApiError, Authenticated, FieldError, HttpState, Json, ValidJson, ids::always_true,
        on_behalf_of::OnBehalfOf,
    },
    context_user::authorize_and_count,
};
use crate::{
    auth::Principal,
    context::{
        chat::{
            Answer, ChatEvent, ChatEvents, ChatRequest, ContextStats, Engine, Metadata, Outcome,
            provider_options,
        },
        message::ChatMessage,
    },
    limits::LimitClass,
    model::{ConversationId, UserId, milliseconds},
};

const USE_DYNAMIC_HEADER: HeaderName = HeaderName::from_static("x-use-dynamic-context");
const IDEMPOTENCY_KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Allowed values of `maxContextTokens`.
const CONTEXT_TOKENS_RANGE: std::ops::RangeInclusive<usize> = 500..=200_000;
/// Interval of keep-alive comments on a stream.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Maximum length of an idempotency key in bytes; equals the constraint `messages_idempotency_key_length`.
const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;
/// Maximum number of messages in a request, and bytes of the text of one message.
const MAX_MESSAGES: usize = 500;
const MAX_MESSAGE_BYTES: usize = 1_000_000;
const MAX_PROVIDER_CHARS: usize = 64;
const MAX_MODEL_CHARS: usize = 200;
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// A chat request. Further parameters of OpenAI's API, such as `tools`, are passed to the provider.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
pub(in crate::http) struct ChatBody {
    /// Messages in the format of OpenAI's API: 1 to 500. The last one with role `user` is the question.
    #[schema(min_items = 1, max_items = 500)]
    messages: Vec<ChatMessage>,
    /// ID of the conversation (UUID). Question and answer are saved in it.
    conversation_id: ConversationId,
    /// ID of the user, by default the caller. Another user requires role `service_role` or permission `context:admin`.
    user_id: Option<UserId>,
    /// Name of a configured provider: at most 64 characters.
    #[schema(max_length = 64)]
    provider: Option<String>,
    /// Model of the provider: at most 200 characters. The operator may limit the models of a role.
    #[schema(min_length = 1, max_length = 200)]
    model: Option<String>,
    /// Maximum tokens of the answer. The operator may set a lower maximum.
    #[schema(minimum = 1)]
    max_tokens: Option<u32>,
    /// Temperature of the model, from 0 to 2.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f32>,
    /// Whether the answer is streamed as server-sent events.
    stream: Option<bool>,
    /// Whether the prompt contains stored messages of the conversation, by default `true`.
    include_history: Option<bool>,
    /// Whether the dynamic engine assembles the prompt; it overrides the header `x-use-dynamic-context`.
    use_dynamic_context: Option<bool>,
    /// Maximum tokens of the prompt, from 500; by default 12,000.
    #[schema(minimum = 500)]
    max_context_tokens: Option<usize>,
    /// Key of the request: a repeat with the same key gets the stored answer. It overrides the header `Idempotency-Key`.
    #[schema(min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
    // Fields for the provider.
    #[serde(flatten)]
    #[schema(ignore)]
    others: Map<String, Value>,
}

/// Parameters that both chat APIs validate alike.
pub(in crate::http) struct ChatParameters<'a> {
    pub(in crate::http) messages: &'a [ChatMessage],
    pub(in crate::http) model: Option<&'a str>,
    pub(in crate::http) max_tokens: Option<u32>,
    pub(in crate::http) temperature: Option<f32>,
    pub(in crate::http) context_tokens: Option<usize>,
}

/// Names of the parameters in the API.
pub(in crate::http) struct ParameterNames {
    pub(in crate::http) max_tokens: &'static str,
    pub(in crate::http) context_tokens: &'static str,
}

const NAMES: ParameterNames = ParameterNames { max_tokens: "maxTokens", context_tokens: "maxContextTokens" };

/// Validates parameters against their ranges and the limits of the caller's role.
pub(in crate::http) fn check_parameters(
    state: &HttpState,
    caller: &Principal,
    parameters: &ChatParameters<'_>,
    names: &ParameterNames,
    errors: &mut Vec<FieldError>,
) {
    let mut refuse = |field: &str, message: String| errors.push(FieldError::new(field.to_owned(), message));
    let ChatParameters { messages, model, max_tokens, temperature, context_tokens } = *parameters;
    if !(1..=MAX_MESSAGES).contains(&messages.len()) {
        refuse("messages", format!("must have from 1 to {MAX_MESSAGES} entries"));
    }
    for (at, message) in messages.iter().enumerate() {
        if let Some(error) = content_error(message) {
            refuse(&format!("messages[{at}].content"), error);
        }
    }
    let limits = state.context.chat_limits();
    if let Some(model) = model {
        if !(1..=MAX_MODEL_CHARS).contains(&model.chars().count()) {
            refuse("model", format!("must have 1 to {MAX_MODEL_CHARS} characters"));
        } else if !limits.allows_model(&caller.role, model) && !is_default_model(state, model) {
            refuse("model", format!("the model {model:?} is not allowed for the role {}", caller.role));
        }
    }
    let most = limits.answer_tokens_of(&caller.role);
    if max_tokens.is_some_and(|tokens| !(1..=most).contains(&tokens)) {
        refuse(names.max_tokens, format!("must be from 1 to {most}"));
    }
    if temperature.is_some_and(|temperature| !(0.0..=2.0).contains(&temperature)) {
        refuse("temperature", "must be from 0 to 2".into());
    }
    let most = limits.prompt_tokens_of(&caller.role).min(*CONTEXT_TOKENS_RANGE.end());
    if context_tokens.is_some_and(|tokens| !(*CONTEXT_TOKENS_RANGE.start()..=most).contains(&tokens)) {
        refuse(names.context_tokens, format!("must be from {} to {most}", CONTEXT_TOKENS_RANGE.start()));
    }
}

fn is_default_model(state: &HttpState, model: &str) -> bool {
    state.context.providers().all().any(|provider| provider.default_model() == model)
}

fn content_error(message: &ChatMessage) -> Option<String> {
    let has_calls = message.get("tool_calls").is_some() || message.get("function_call").is_some();
    match message.content() {
        Value::String(_) | Value::Array(_) if message.text().len() > MAX_MESSAGE_BYTES => {
            Some(format!("must have at most {MAX_MESSAGE_BYTES} bytes"))
        }
        Value::String(_) | Value::Array(_) => None,
        Value::Null if message.role() == "assistant" && has_calls || message.get("refusal").is_some() => None,
        Value::Null => Some("is required".into()),
        _ => Some("must be a string or a list of parts".into()),
    }
}

/// The first message with an unknown role, as an error.
pub(in crate::http) fn check_roles(messages: &[ChatMessage]) -> Result<(), ApiError> {
    match messages.iter().position(|message| !ROLES.contains(&message.role())) {
        None => Ok(()),
        Some(at) if messages[at].role().is_empty() => {
            Err(ApiError::invalid(format!("messages[{at}].role"), "is required"))
        }
        Some(at) => Err(ApiError::unprocessable(
            format!("messages[{at}].role"),
            format!("must be one of {} (got {:?})", ROLES.join(", "), messages[at].role()),
        )),
    }
}

/// Checks the range of `maxContextTokens`.
pub(super) fn check_context_tokens(wanted: Option<usize>) -> Result<Option<usize>, ApiError> {
    match wanted {
        Some(tokens) if !CONTEXT_TOKENS_RANGE.contains(&tokens) => Err(ApiError::invalid(
            "maxContextTokens",
            format!("must be from {} to {}", CONTEXT_TOKENS_RANGE.start(), CONTEXT_TOKENS_RANGE.end()),
        )),
        wanted => Ok(wanted),
    }
}

/// Response to a chat request without streaming.
#[derive(Serialize, ToSchema)]
struct ChatEnvelope {
    /// Always `true` in this response.
    #[schema(schema_with = always_true)]
    success: bool,
    /// Metrics of the assembly of the prompt.
    metadata: Metadata,
    /// The answer of the model.
    data: Box<Answer>,
    /// Time of the response.
    #[serde(serialize_with = "milliseconds::serialize")]
    timestamp: Timestamp,
}

/// An event of a streamed answer, as JSON in the `data` of a server-sent event. The last `data` is `[DONE]`.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = ChatEvent)]
enum StreamEvent {
    /// First event: how the prompt was assembled.
    Context {
        /// Engine that assembled the prompt.
        engine: Engine,
        /// Composition of the prompt.
        #[serde(rename = "contextStats")]
        stats: Option<ContextStats>,
        /// Metrics of the assembly of the prompt.
        metadata: Metadata,
        /// ID of the message with the answer.
        #[serde(rename = "messageId")]
        message_id: uuid::Uuid,
    },
    /// Next part of the answer.
    Delta {
        /// Text of this part.
        #[serde(skip_serializing_if = "String::is_empty")]
        #[schema(required = false)]
        content: String,
        /// Parts of tool calls, as the provider sends them.
        #[serde(rename = "toolCalls", skip_serializing_if = "Vec::is_empty")]
        #[schema(value_type = Vec<Object>, required = false)]
        tool_calls: Vec<Value>,
    },
    /// The whole answer, after it was saved.
    Done(Box<Answer>),
    /// The answer was interrupted. What was received is saved as partial.
    Error {
        /// Stable code of the error, for programs.
        error: &'static str,
        /// English text for people.
        message: String,
    },
}

impl StreamEvent {
    fn new(event: ChatEvent) -> Option<Self> {
        Some(match event {
            ChatEvent::Context { engine, stats, message_id } => {
                let metadata = stats.as_ref().map(|stats| stats.metadata.clone()).unwrap_or_default();
                Self::Context { engine, stats, metadata, message_id }
            }
            ChatEvent::Chunk(chunk) if chunk.text.is_empty() && chunk.tool_calls.is_empty() => return None,
            ChatEvent::Chunk(chunk) => Self::Delta { content: chunk.text, tool_calls: chunk.tool_calls },
            ChatEvent::Done(answer) => Self::Done(answer),
            ChatEvent::Error { error, message } => Self::Error { error, message },
        })
    }
}

/// Asks a model, with the context of the user.
///
/// Question and answer are saved in the conversation. With `stream`, the answer is server-sent events: `context`, `delta`,
/// then `done` or `error`, and `[DONE]`.
#[utoipa::path(
    post, path = "/api/v1/ai/chat", operation_id = "chat", tag = "Context",
    params(
        ("x-use-dynamic-context" = Option<bool>, Header,
            description = "Whether the dynamic engine assembles the prompt, unless the body says so."),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
            description = "Key of the request, unless the body has `idempotencyKey`."),
    ),
    request_body(content = ChatBody, description = "The body has at most 1 MiB.", example = json!({
        "conversationId": "c0000000-0000-4000-8000-000000000001", "messages": [{ "role": "user", "content": "Hello" }],
    })),
    responses((status = 200, description = "The answer, whole or as events.", content(
        (ChatEnvelope = "application/json", example = json!({
            "success": true, "timestamp": "2026-11-21T12:00:00.000Z",
            "data": {
                "content": "Hello, Alice.", "model": "echo", "engine": "dynamic",
                "usage": { "totalTokens": 12, "promptTokens": 8, "completionTokens": 4 },
                "contextStats": {
                    "assemblyTimeMs": 1.5, "cacheHitRate": 1.0, "bundlesUsed": [],
                    "tokens": 8, "maxTokens": 12_000, "historyMessages": 0, "bundlesWanted": 0, "bundlesReady": 0,
                    "bundlesCompiled": 0, "topics": [], "entities": [], "layers": { "L0": 8 },
                },
                "messageId": "d0000000-0000-4000-8000-000000000001",
            },
            "metadata": { "assemblyTimeMs": 1.5, "cacheHitRate": 1.0, "bundlesUsed": [] },
        })),
        (StreamEvent = "text/event-stream"),
    ))),
    extensions(("x-errors" = json!([409, 422])), ("x-rate-limit" = json!("chat"))),
)]
pub(super) async fn chat(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    ValidJson(body): ValidJson<ChatBody>,
) -> Result<Response, ApiError> {
    let stream = body.stream.unwrap_or(false);
    let user_id = body.user_id;
    let request = chat_request(&state, &caller, &headers, body)?;
    let (OnBehalfOf { caller, user }, allowance) =
        authorize_and_count(&state, caller, user_id, LimitClass::Chat)?;
    let engine = &state.context;
    if stream {
        return Ok(match engine.chat_stream(&caller, user, request).await? {
            Outcome::Answered(events) => (allowance, sse_response(stream_events(events))).into_response(),
            Outcome::Replayed(answer) => {
                (allowance, sse_response(stream::iter(replay_events(*answer)))).into_response()
            }
        });
    }
    let (Outcome::Answered(answer) | Outcome::Replayed(answer)) = engine.chat(&caller, user, request).await?;
    let metadata = answer.context_stats.metadata.clone();
    let body = ChatEnvelope { success: true, metadata, data: answer, timestamp: state.clock.now() };
    Ok((allowance, Json(body)).into_response())
}

/// Validates and converts the body. All faulty fields are reported at once.
fn chat_request(
    state: &HttpState,
    caller: &Principal,
    headers: &HeaderMap,
    body: ChatBody,
) -> Result<ChatRequest, ApiError> {
    let mut errors: Vec<FieldError> = Vec::new();
    let messages = body.messages;
    let options = provider_options(body.others).unwrap_or_else(|unknown| {
        errors.extend(unknown.into_iter().map(|field| FieldError::new(field, "is not supported")));
        Map::new()
    });
    if options.get("n").is_some_and(|n| *n != 1) {
        errors
            .push(FieldError::new("n".to_owned(), "must be 1; use /v1/chat/completions for several answers"));
    }
    if body.provider.as_ref().is_some_and(|provider| provider.chars().count() > MAX_PROVIDER_CHARS) {
        errors.push(FieldError::new(
            "provider".to_owned(),
            format!("must have at most {MAX_PROVIDER_CHARS} characters"),
        ));
    }
    let key_fits = |key: &String| (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len());
    if body.idempotency_key.as_ref().is_some_and(|key| !key_fits(key)) {
        let message = format!("must have 1 to {MAX_IDEMPOTENCY_KEY_BYTES} bytes");
        errors.push(FieldError::new("idempotencyKey".to_owned(), message));
    }
    let parameters = ChatParameters {
        messages: &messages,
        model: body.model.as_deref(),
        max_tokens: body.max_tokens,
        temperature: body.temperature,
        context_tokens: body.max_context_tokens,
    };
    check_parameters(state, caller, &parameters, &NAMES, &mut errors);
    if errors.is_empty() {
        check_roles(&messages)?;
    }
    if !messages.is_empty() {
        check_question(&messages, &mut errors);
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid_fields(errors));
    }
    let dynamic = match body.use_dynamic_context {
        Some(dynamic) => dynamic,
        None => dynamic_by_header(state, headers)?,
    };
    let key = match body.idempotency_key {
        Some(key) => Some(key),
        None => idempotency_key(headers)?,
    };
    Ok(ChatRequest {
        conversation: Some(body.conversation_id),
        messages,
        idempotency_key: key,
        provider: body.provider,
        model: body.model,
        max_tokens: body.max_tokens,
        temperature: body.temperature,
        options,
        include_history: body.include_history.unwrap_or(true),
        use_dynamic: dynamic,
        context_tokens: body.max_context_tokens,
        max_context_tokens: state.context.chat_limits().prompt_tokens_of(&caller.role),
    })
}

/// A conversation stores the question, so there must be one.
pub(in crate::http) fn check_question(messages: &[ChatMessage], errors: &mut Vec<FieldError>) {
    match messages.iter().rposition(|message| message.role() == "user") {
        None => errors.push(FieldError::new("messages".to_owned(), "must contain a message with role user")),
        Some(at) if messages[at].text().trim().is_empty() && !messages[at].has_attachments() => {
            errors.push(FieldError::new(format!("messages[{at}].content"), "must not be empty"));
        }
        Some(_) => {}
    }
}

/// The header `x-use-dynamic-context`, or the default.
pub(in crate::http) fn dynamic_by_header(state: &HttpState, headers: &HeaderMap) -> Result<bool, ApiError> {
    let Some(value) = headers.get(USE_DYNAMIC_HEADER) else { return Ok(state.context.uses_dynamic()) };
    match value.to_str().map(str::trim) {
        Ok("true" | "1") => Ok(true),
        Ok("false" | "0") => Ok(false),
        _ => Err(ApiError::invalid("x-use-dynamic-context", "must be true or false")),
    }
}

pub(in crate::http) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY_HEADER) else { return Ok(None) };
    let key =
        value.to_str().ok().map(str::trim).filter(|key| (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len()));
    let key = key.ok_or_else(|| {
        ApiError::invalid("Idempotency-Key", format!("must have 1 to {MAX_IDEMPOTENCY_KEY_BYTES} characters"))
    })?;
    Ok(Some(key.to_owned()))
}

fn stream_events(events: ChatEvents) -> impl Stream<Item = StreamEvent> + Send {
    let events = stream::unfold(events, |mut events| async move { Some((events.recv().await?, events)) });
    events.filter_map(async |event| StreamEvent::new(event))
}

/// Events that replay a stored answer.
fn replay_events(answer: Answer) -> [StreamEvent; 3] {
    let context = StreamEvent::Context {
        engine: answer.engine,
        metadata: answer.context_stats.metadata.clone(),
        stats: Some(answer.context_stats.clone()),
        message_id: answer.message_id,
    };
    let delta = StreamEvent::Delta { content: answer.content.clone(), tool_calls: answer.tool_calls.clone() };
    [context, delta, StreamEvent::Done(Box::new(answer))]
}

/// Sends each event in one `data:` line, and `[DONE]` at the end.
pub(in crate::http) fn sse_response<T: Serialize>(
    events: impl Stream<Item = T> + Send + 'static,
) -> impl IntoResponse {
    let data = events.map(|event| sse::Event::default().json_data(event));
    let events = data.chain(stream::iter([Ok(sse::Event::default().data("[DONE]"))]));
    // Keeps proxies from buffering the stream.
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL)))
}
