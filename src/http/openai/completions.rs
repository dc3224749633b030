//! `POST /v1/chat/completions`.

use axum::{
    extract::{FromRequest, FromRequestParts, Request, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    super::{
        ApiError, Authenticated, FieldError, HttpState, Json,
        context::{chat, context_user::authorize_and_count},
        on_behalf_of::OnBehalfOf,
    },
    error::{error_response, stream_error},
};
use crate::{
    auth::Principal,
    context::{
        chat::{Answer, ChatEvent, ChatEvents, ChatRequest, Outcome, provider_options},
        message::ChatMessage,
        provider::Usage,
    },
    limits::LimitClass,
    model::{ConversationId, UserId},
};

#[derive(Deserialize)]
struct CompletionBody {
    messages: Option<Vec<ChatMessage>>,
    model: Option<String>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    temperature: Option<f32>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    metadata: Option<Map<String, Value>>,
    /// Fields for the provider.
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize, Default)]
struct StreamOptions {
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
                let chunks = replayed_chunks(&answer, created, include_usage);
                (allowance, chat::sse_response(stream::iter(chunks))).into_response()
            }
        });
    }
    let (Outcome::Answered(answer) | Outcome::Replayed(answer)) =
        state.context.chat(&caller, user, request).await?;
    Ok((allowance, axum::Json(completion(*answer, created))).into_response())
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
        max_context_tokens: state.context.chat_limits().prompt_tokens_of(caller.role),
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

/// The provider's response with this server's ID, or a response that is built from a stored answer.
fn completion(answer: Answer, created: i64) -> Value {
    let id = completion_id(answer.message_id);
    let mut response = match answer.raw {
        Value::Object(raw) => raw,
        _ => {
            let mut message = json!({"role": "assistant", "content": answer.content, "refusal": null});
            if !answer.tool_calls.is_empty() {
                message["tool_calls"] = answer.tool_calls.into();
                if answer.content.is_empty() {
                    message["content"] = Value::Null;
                }
            }
            Map::from_iter([(
                "choices".to_owned(),
                json!([{"index": 0, "message": message,
                "finish_reason": answer.finish_reason.as_deref().unwrap_or("stop"), "logprobs": null}]),
            )])
        }
    };
    response.insert("id".into(), id.into());
    response.insert("object".into(), "chat.completion".into());
    response.insert("created".into(), created.into());
    response.insert("model".into(), answer.model.into());
    if !response.get("usage").is_some_and(Value::is_object) {
        response.insert("usage".into(), json!(answer.usage));
    }
    for (at, choice) in
        response.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten().enumerate()
    {
        let Some(choice) = choice.as_object_mut() else { continue };
        choice.entry("index").or_insert(at.into());
        choice.entry("finish_reason").or_insert("stop".into());
    }
    Value::Object(response)
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

/// Chunks in OpenAI's format. The usage is the last chunk, and only if the client asked for it.
fn chunks(events: ChatEvents, created: i64, include_usage: bool) -> impl Stream<Item = Value> + Send {
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
    fn convert(&mut self, event: ChatEvent) -> Option<Value> {
        match event {
            ChatEvent::Context { message_id, .. } => {
                self.id = completion_id(message_id);
                None
            }
            ChatEvent::Chunk(chunk) => {
                if let Some(model) = chunk.model {
                    self.model = model;
                }
                self.chunk(chunk.raw)
            }
            ChatEvent::Done(answer) => {
                (self.include_usage && !self.usage_sent).then(|| self.usage(answer.usage))
            }
            ChatEvent::Error { message, .. } => Some(stream_error(&message)),
        }
    }

    fn chunk(&mut self, raw: Value) -> Option<Value> {
        let Value::Object(mut chunk) = raw else { return None };
        let choices = chunk.get_mut("choices").and_then(Value::as_array_mut);
        let is_empty = choices.as_ref().is_none_or(|choices| choices.is_empty());
        if is_empty {
            // The usage alone. A provider may send it with the last choice instead.
            if !self.include_usage || !chunk.get("usage").is_some_and(Value::is_object) {
                return None;
            }
            self.usage_sent = true;
        } else if chunk.get("usage").is_none_or(|usage| usage.is_null()) || !self.include_usage {
            chunk.remove("usage");
        } else {
            self.usage_sent = true;
        }
        for choice in chunk.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(choice) = choice.as_object_mut() else { continue };
            choice.entry("index").or_insert(0.into());
            choice.entry("finish_reason").or_insert(Value::Null);
            let delta = choice.entry("delta").or_insert_with(|| json!({}));
            if !self.role_sent
                && let Some(delta) = delta.as_object_mut()
            {
                delta.entry("role").or_insert("assistant".into());
            }
        }
        self.role_sent |= !is_empty;
        Some(self.identified(chunk))
    }

    fn usage(&self, usage: Usage) -> Value {
        self.identified(Map::from_iter([
            ("choices".to_owned(), json!([])),
            ("usage".to_owned(), json!(usage)),
        ]))
    }

    fn identified(&self, mut chunk: Map<String, Value>) -> Value {
        chunk.insert("id".into(), self.id.as_str().into());
        chunk.insert("object".into(), "chat.completion.chunk".into());
        chunk.insert("created".into(), self.created.into());
        chunk.insert("model".into(), self.model.as_str().into());
        if self.include_usage {
            chunk.entry("usage").or_insert(Value::Null);
        }
        Value::Object(chunk)
    }
}

/// Chunks that replay a stored answer.
fn replayed_chunks(answer: &Answer, created: i64, include_usage: bool) -> Vec<Value> {
    let chunk = |choices: Value| {
        json!({"id": completion_id(answer.message_id), "object": "chat.completion.chunk", "created": created,
            "model": answer.model, "choices": choices})
    };
    let mut delta = json!({"role": "assistant", "content": answer.content});
    if !answer.tool_calls.is_empty() {
        let calls = answer.tool_calls.iter().enumerate().map(|(at, call)| {
            let mut call = call.clone();
            call["index"] = at.into();
            call
        });
        delta["tool_calls"] = calls.collect();
    }
    let reason = answer.finish_reason.as_deref().unwrap_or("stop");
    let mut chunks = vec![
        chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}])),
        chunk(json!([{"index": 0, "delta": {}, "finish_reason": reason}])),
    ];
    if include_usage {
        let mut last = chunk(json!([]));
        last["usage"] = json!(answer.usage);
        chunks.push(last);
    }
    chunks
}
