//! Route `POST /api/v1/ai/chat`: answers JSON, or server-sent events with `stream: true`.

use std::{convert::Infallible, time::Duration};

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
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::{ApiError, Authenticated, FieldError, HttpState, Json, on_behalf_of::OnBehalfOf},
    context_user::authorize_and_count,
};
use crate::{
    context::{
        assemble::ChatMessage,
        chat::{Answer, ChatEvent, ChatEvents, ChatRequest, Metadata, Outcome},
    },
    limits::LimitClass,
    model::{ConversationId, UserId},
};

const USE_DYNAMIC_HEADER: HeaderName = HeaderName::from_static("x-use-dynamic-context");
const IDEMPOTENCY_KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Allowed values of `maxContextTokens`.
const CONTEXT_TOKENS_RANGE: std::ops::RangeInclusive<usize> = 500..=200_000;
/// Interval of keep-alive comments on a stream.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Maximum length of an idempotency key in bytes; equals the constraint `messages_idempotency_key_length`.
const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

#[derive(Deserialize, Validate)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChatBody {
    #[garde(length(min = 1, max = 500), dive)]
    messages: Vec<ChatBodyMessage>,
    #[garde(skip)]
    conversation_id: ConversationId,
    #[garde(skip)]
    user_id: Option<UserId>,
    #[garde(inner(length(max = 64)))]
    provider: Option<String>,
    #[garde(inner(length(min = 1, max = 200)))]
    model: Option<String>,
    #[garde(inner(range(min = 1, max = 200_000)))]
    max_tokens: Option<u32>,
    #[garde(inner(range(min = 0.0, max = 2.0)))]
    temperature: Option<f32>,
    #[garde(skip)]
    stream: Option<bool>,
    #[garde(skip)]
    include_history: Option<bool>,
    #[garde(skip)]
    use_dynamic_context: Option<bool>,
    #[garde(skip)]
    max_context_tokens: Option<usize>,
    #[garde(inner(length(bytes, min = 1, max = MAX_IDEMPOTENCY_KEY_BYTES)))]
    idempotency_key: Option<String>,
}

#[derive(Deserialize, Validate)]
struct ChatBodyMessage {
    #[garde(skip)]
    role: Role,
    #[garde(length(bytes, max = 1_000_000))]
    content: String,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Role {
    User,
    Assistant,
    System,
}

impl Role {
    const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
        }
    }
}

/// Converts validation errors: field names become camelCase, as clients write them.
fn camel_case_errors(report: &garde::Report) -> ApiError {
    let camel = |path: String| {
        let mut parts = path.split('_');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |all, part| {
            let (head, tail) = part.split_at(part.chars().next().map_or(0, char::len_utf8));
            all + &head.to_uppercase() + tail
        })
    };
    let details = report
        .iter()
        .map(|(path, error)| FieldError::new(camel(path.to_string()), error.message().to_owned()));
    ApiError::invalid_fields(details.collect())
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

pub(super) async fn chat(
    State(state): State<HttpState>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    Json(body): Json<ChatBody>,
) -> Result<Response, ApiError> {
    body.validate().map_err(|report| camel_case_errors(&report))?;
    let (OnBehalfOf { caller, user }, allowance) =
        authorize_and_count(&state, caller, body.user_id, LimitClass::Chat)?;
    let stream = body.stream.unwrap_or(false);
    let request = chat_request(&state, &headers, body)?;
    let engine = &state.context;
    if stream {
        return Ok(match engine.chat_stream(&caller, user, request).await? {
            Outcome::Answered(events, _) => (allowance, sse_response(event_values(events))).into_response(),
            Outcome::Replayed(answer, metadata) => {
                (allowance, sse_response(stream::iter(replay_events(*answer, metadata)))).into_response()
            }
        });
    }
    let (Outcome::Answered(answer, metadata) | Outcome::Replayed(answer, metadata)) =
        engine.chat(&caller, user, request).await?;
    let body = json!({
        "success": true, "data": answer, "metadata": metadata, "timestamp": state.clock.now(),
    });
    Ok((allowance, Json(body)).into_response())
}

/// Converts the body. The last user message is the new one; the messages before it are the client's history.
fn chat_request(state: &HttpState, headers: &HeaderMap, body: ChatBody) -> Result<ChatRequest, ApiError> {
    let dynamic = match (body.use_dynamic_context, headers.get(USE_DYNAMIC_HEADER)) {
        (Some(dynamic), _) => dynamic,
        (None, Some(value)) => match value.to_str().map(str::trim) {
            Ok("true" | "1") => true,
            Ok("false" | "0") => false,
            _ => return Err(ApiError::invalid("x-use-dynamic-context", "must be true or false")),
        },
        (None, None) => state.context.uses_dynamic(),
    };
    let context_tokens = check_context_tokens(body.max_context_tokens)?;
    let last = body.messages.iter().rposition(|message| message.role == Role::User);
    let last = last.ok_or_else(|| ApiError::invalid("messages", "must contain a message with role user"))?;
    let mut messages = body.messages;
    let message = messages.swap_remove(last).content;
    messages.truncate(last);
    if message.trim().is_empty() {
        return Err(ApiError::invalid(format!("messages[{last}].content"), "must not be empty"));
    }
    let key = match body.idempotency_key {
        Some(key) => Some(key),
        None => idempotency_key(headers)?,
    };
    let history = messages.into_iter();
    Ok(ChatRequest {
        conversation: body.conversation_id,
        message,
        client_history: history
            .map(|message| ChatMessage { role: message.role.as_str().into(), content: message.content })
            .collect(),
        idempotency_key: key,
        provider: body.provider,
        model: body.model,
        max_tokens: body.max_tokens,
        temperature: body.temperature,
        include_history: body.include_history.unwrap_or(true),
        use_dynamic: dynamic,
        context_tokens,
    })
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY_HEADER) else { return Ok(None) };
    let key =
        value.to_str().ok().map(str::trim).filter(|key| (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len()));
    let key = key.ok_or_else(|| {
        ApiError::invalid("Idempotency-Key", format!("must have 1 to {MAX_IDEMPOTENCY_KEY_BYTES} characters"))
    })?;
    Ok(Some(key.to_owned()))
}

fn event_values(events: ChatEvents) -> impl Stream<Item = Value> + Send {
    stream::unfold(events, |mut events| async move {
        let event: ChatEvent = events.recv().await?;
        Some((json!(event), events))
    })
}

/// Events that replay a stored answer.
fn replay_events(answer: Answer, metadata: Metadata) -> [Value; 3] {
    let context = ChatEvent::Context {
        engine: answer.engine,
        stats: Some(answer.context_stats.clone()),
        metadata,
        message_id: answer.message_id,
    };
    let delta = ChatEvent::Delta { content: answer.content.clone() };
    [json!(context), json!(delta), json!(ChatEvent::Done(Box::new(answer)))]
}

/// Sends each event in one `data:` line, and `[DONE]` at the end.
fn sse_response(events: impl Stream<Item = Value> + Send + 'static) -> impl IntoResponse {
    let data = events.map(|event| event.to_string()).chain(stream::iter(["[DONE]".to_owned()]));
    let events = data.map(|data| Ok::<_, Infallible>(sse::Event::default().data(data)));
    // Keeps proxies from buffering the stream.
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL)))
}
