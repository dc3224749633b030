//! Routes for broadcasts over HTTP: a batch of messages, or one message whose payload is the body.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::channel_auth::{
    ChannelAuth, FieldErrors, RealtimeError, RealtimeErrorText, RealtimeFieldErrors, RealtimeMessage,
    with_rate_headers,
};
use crate::{
    auth::Principal,
    channels::{BroadcastPayload, Published},
    http::{
        HttpState, Path, Query,
        alias::Alias,
        body::{self, BodyLimit},
    },
    model::Topic,
    protocol::phoenix::UserPayload,
    session::channels::Services,
};

/// Maximum body size in bytes.
const MAX_BODY_BYTES: usize = 8_000_000;

const BATCH_WITHOUT_PREFIX: Alias = Alias {
    of: "/realtime/v1/api/broadcast",
    path: "/api/broadcast",
    operation_id: "broadcastWithoutPrefix",
    description: "Same as `/realtime/v1/api/broadcast`, without the prefix of the gateway.",
};
const SINGLE_WITHOUT_PREFIX: Alias = Alias {
    of: "/realtime/v1/api/broadcast/{topic}/events/{event}",
    path: "/api/broadcast/{topic}/events/{event}",
    operation_id: "broadcastOneWithoutPrefix",
    description: "Same as the route under `/realtime/v1`, without the prefix of the gateway.",
};

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    let router = BATCH_WITHOUT_PREFIX.add_to(OpenApiRouter::default().routes(routes!(batch)), post(batch));
    let router = SINGLE_WITHOUT_PREFIX.add_to(router.routes(routes!(single)), post(single));
    router.layer(BodyLimit(MAX_BODY_BYTES).layer())
}

/// Messages to broadcast to channels.
// Describes the body only: its errors have the form of Supabase Realtime, see `parse_batch`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body")]
struct BroadcastBatch {
    /// The messages. All are accepted, or none.
    messages: Vec<BroadcastMessage>,
}

/// A message to broadcast.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body")]
struct BroadcastMessage {
    /// Name of the channel, without `realtime:`.
    topic: String,
    /// Name of the event.
    event: String,
    /// Payload of the message, forwarded unchanged.
    #[schema(value_type = Object, additional_properties = true)]
    payload: Value,
    /// Whether the private channel of that name is meant; public by default.
    private: Option<bool>,
    /// ID of the message; receivers find it in `meta.id`.
    id: Option<String>,
}

/// Broadcasts several messages to channels.
///
/// Delivers to the sockets that are in the channels now. Private messages require the right to insert by the policies on
/// `realtime.messages`; without it they are dropped, and the response is 202 too.
#[utoipa::path(
    post, path = "/realtime/v1/api/broadcast", operation_id = "broadcast", tag = "Realtime",
    request_body(content = BroadcastBatch, description = "The body has at most 8,000,000 bytes.", example = json!({
        "messages": [{ "topic": "harbour", "event": "tide", "payload": { "metres": 3.2 } }],
    })),
    responses(
        (status = 202, description = "The messages were accepted."),
        (status = 401, description = "The token or key is missing or invalid.", body = RealtimeMessage,
            example = json!({ "message": "Unauthorized" })),
        (status = 422, description = "At least one message is invalid; the errors are listed by position.",
            body = RealtimeFieldErrors,
            example = json!({ "errors": { "messages": [{}, { "payload": ["can't be blank"] }] } })),
        (status = 429, description = "The message rate of the node is exceeded.", body = RealtimeMessage,
            example = json!({ "message": "You have exceeded your rate limit" })),
    ),
)]
async fn batch(
    State(services): State<Arc<Services>>,
    caller: Result<ChannelAuth, RealtimeError>,
    request: Request,
) -> Response {
    let sending = async {
        let ChannelAuth(principal) = caller?;
        let body = body::read(request).await.map_err(RealtimeError::Body)?;
        let max_payload_bytes = services.limits.limits().payload_bytes().unwrap_or(usize::MAX);
        send_batch(&services, &principal, parse_batch(&body, max_payload_bytes)?).await
    };
    let response =
        sending.await.map_or_else(RealtimeError::into_response, |()| StatusCode::ACCEPTED.into_response());
    with_rate_headers(response, &services.limits)
}

async fn send_batch(
    services: &Services,
    principal: &Arc<Principal>,
    messages: Vec<Message>,
) -> Result<(), RealtimeError> {
    let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
    if services.limits.exceeds_node_event_rate(0) {
        return Err(RealtimeError::RateLimited("You have exceeded your rate limit"));
    }
    if services.limits.exceeds_node_event_rate(count) {
        return Err(RealtimeError::RateLimited(
            "Too many messages to broadcast, please reduce the batch size",
        ));
    }
    services.limits.count_pushes(count);
    let (private, public): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| message.topic.private);
    let mut published = Vec::new();
    for Message { topic, payload } in public {
        published.push(publish(services, &topic, BroadcastPayload::Json(payload)).await?);
    }
    // Private messages are grouped by topic, in order of first appearance.
    let mut topics: Vec<(Topic, Vec<Box<str>>)> = Vec::new();
    for Message { topic, payload } in private {
        match topics.iter_mut().find(|(existing, _)| *existing == topic) {
            Some((_, payloads)) => payloads.push(payload),
            None => topics.push((topic, vec![payload])),
        }
    }
    for (topic, payloads) in topics {
        // Unauthorized messages are dropped silently, as in Supabase Realtime.
        if !services.authorizer.write_rights(principal, &topic).await.is_ok_and(|rights| rights.broadcast) {
            continue;
        }
        for payload in payloads {
            published.push(publish(services, &topic, BroadcastPayload::Json(payload)).await?);
        }
    }
    for published in published {
        published.wait().await?;
    }
    Ok(())
}

async fn publish(
    services: &Services,
    topic: &Topic,
    payload: BroadcastPayload,
) -> Result<Published, RealtimeError> {
    services.broadcaster.publish(topic, payload).await.map_err(|_| RealtimeError::ShuttingDown)
}

/// A validated message of a batch.
#[derive(Debug, PartialEq)]
struct Message {
    topic: Topic,
    payload: Box<str>,
}

/// Parses and validates a batch; the error lists the problems of each message.
fn parse_batch(body: &[u8], max_payload_bytes: usize) -> Result<Vec<Message>, RealtimeError> {
    let invalid = |error| RealtimeError::InvalidFields(RealtimeFieldErrors::text("messages", error));
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice::<&RawValue>(body)
        .map_err(|_| RealtimeError::InvalidJson)
        .and_then(|raw| serde_json::from_str(raw.get()).map_err(|_| invalid("can't be blank")))?;
    let Some(list) = fields.get("messages").filter(|list| list.get() != "null") else {
        return Err(invalid("can't be blank"));
    };
    let list: Vec<BTreeMap<String, &RawValue>> =
        serde_json::from_str(list.get()).map_err(|_| invalid("is invalid"))?;
    if list.is_empty() {
        return Err(invalid("can't be blank"));
    }
    let parsed: Vec<Result<Message, MessageErrors>> =
        list.iter().map(|fields| parse_message(fields, max_payload_bytes)).collect();
    if parsed.iter().any(Result::is_err) {
        let errors = parsed.into_iter().map(|result| result.err().unwrap_or_default());
        let errors = FieldErrors::Messages(errors.collect());
        return Err(RealtimeError::InvalidFields(RealtimeFieldErrors::new("messages", errors)));
    }
    Ok(parsed.into_iter().filter_map(Result::ok).collect())
}

/// Status of the answer to a batch, as far as its content decides.
pub(in crate::http) fn batch_status(body: &[u8], max_payload_bytes: usize) -> StatusCode {
    parse_batch(body, max_payload_bytes)
        .map_or_else(|error| error.into_response().status(), |_| StatusCode::ACCEPTED)
}

/// Errors of one message, by field.
type MessageErrors = BTreeMap<&'static str, [&'static str; 1]>;

fn parse_message(
    fields: &BTreeMap<String, &RawValue>,
    max_payload_bytes: usize,
) -> Result<Message, MessageErrors> {
    let mut errors = MessageErrors::new();
    let field = |name: &str| fields.get(name).map(|raw| raw.get()).filter(|raw| *raw != "null");
    let mut add_error = |name: &'static str, what: &'static str| {
        errors.insert(name, [what]);
    };
    let mut text = |name: &'static str| match field(name).map(serde_json::from_str::<String>) {
        Some(Ok(text)) if !text.trim().is_empty() => text,
        Some(Err(_)) => {
            add_error(name, "is invalid");
            String::new()
        }
        Some(Ok(_)) | None => {
            add_error(name, "can't be blank");
            String::new()
        }
    };
    let (topic, event) = (text("topic"), text("event"));
    let payload = match field("payload") {
        None => {
            add_error("payload", "can't be blank");
            ""
        }
        Some(payload) if !payload.starts_with('{') => {
            add_error("payload", "is invalid");
            ""
        }
        Some(payload) if payload.len() > max_payload_bytes => {
            add_error("payload", "Payload size exceeds tenant limit");
            ""
        }
        Some(payload) => payload,
    };
    let private = field("private").map_or(Ok(false), serde_json::from_str::<bool>);
    if private.is_err() {
        add_error("private", "is invalid");
    }
    let id = field("id").map(serde_json::from_str::<String>).transpose();
    if id.is_err() {
        add_error("id", "is invalid");
    }
    let (Ok(private), Ok(id), true) = (private, id, errors.is_empty()) else {
        return Err(errors);
    };
    let event = Value::from(event);
    let meta = id.map(|id| format!(r#","meta":{{"id":{}}}"#, Value::from(id))).unwrap_or_default();
    let payload = format!(r#"{{"type":"broadcast","event":{event},"payload":{payload}{meta}}}"#);
    Ok(Message { topic: Topic { name: topic.into(), private }, payload: payload.into() })
}

/// Query parameters of a single broadcast.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct BroadcastQuery {
    /// Whether the private channel of that name is meant.
    #[param(value_type = Option<bool>, nullable = false)]
    private: Option<String>,
}

/// Broadcasts one message to a channel.
///
/// The body is the payload: a JSON object (another value arrives as `_json`), or bytes as `application/octet-stream`,
/// which only sockets with serializer 2.0.0 receive.
#[utoipa::path(
    post, path = "/realtime/v1/api/broadcast/{topic}/events/{event}", operation_id = "broadcastOne", tag = "Realtime",
    params(
        ("topic" = String, Path, description = "Name of the channel, without `realtime:`.", example = "harbour"),
        ("event" = String, Path, description = "Name of the event.", example = "tide"),
        BroadcastQuery,
    ),
    request_body(content = BTreeMap<String, Value>, description = "The body has at most 8,000,000 bytes.", example = json!({ "metres": 3.2 })),
    responses(
        (status = 202, description = "The message was accepted."),
        (status = 401, description = "The token or key is missing or invalid.", body = RealtimeMessage,
            example = json!({ "message": "Unauthorized" })),
        (status = 403, description = "The policies deny the caller the private channel.", body = RealtimeMessage,
            example = json!({ "message": "Unauthorized" })),
        (status = 415, description = "The content type is neither JSON nor binary.", body = RealtimeErrorText,
            example = json!({
                "error": "Unsupported Media Type. Use application/json or application/octet-stream",
            })),
        (status = 422, description = "The payload is too large, or the policies could not be checked.",
            body = BTreeMap<String, Value>, example = json!({ "errors": { "payload": ["Payload size exceeds tenant limit"] } })),
        (status = 429, description = "The message rate of the node is exceeded.", body = RealtimeMessage,
            example = json!({ "message": "You have exceeded your rate limit" })),
    ),
)]
async fn single(
    State(services): State<Arc<Services>>,
    caller: Result<ChannelAuth, RealtimeError>,
    Path((topic, event)): Path<(String, String)>,
    Query(query): Query<BroadcastQuery>,
    request: Request,
) -> Response {
    let private = query.private.is_some_and(|value| value == "true" || value == "1");
    let topic = Topic { name: topic.into(), private };
    let sending = async {
        let ChannelAuth(principal) = caller?;
        send_one(&services, &principal, &topic, event.into(), request).await
    };
    let response =
        sending.await.map_or_else(RealtimeError::into_response, |()| StatusCode::ACCEPTED.into_response());
    with_rate_headers(response, &services.limits)
}

async fn send_one(
    services: &Services,
    principal: &Arc<Principal>,
    topic: &Topic,
    event: Box<str>,
    request: Request,
) -> Result<(), RealtimeError> {
    let is_json = is_json(request.headers()).ok_or(RealtimeError::UnsupportedContentType)?;
    let body = body::read(request).await.map_err(RealtimeError::Body)?;
    if services.limits.exceeds_node_event_rate(1) {
        return Err(RealtimeError::RateLimited("You have exceeded your rate limit"));
    }
    if body.len() > services.limits.limits().payload_bytes().unwrap_or(usize::MAX) {
        return Err(RealtimeError::InvalidFields(RealtimeFieldErrors::text(
            "payload",
            "Payload size exceeds tenant limit",
        )));
    }
    let payload = if is_json { UserPayload::Json(json_object(&body)?) } else { UserPayload::Binary(body) };
    let rights =
        services.authorizer.write_rights(principal, topic).await.map_err(RealtimeError::Authorization)?;
    if !rights.broadcast {
        return Err(RealtimeError::Authorization(
            crate::channels::authorization::AuthorizationError::Unauthorized,
        ));
    }
    services.limits.count_pushes(1);
    let published = publish(services, topic, BroadcastPayload::User { event, payload, meta: None }).await?;
    published.wait().await.map_err(RealtimeError::from)
}

/// Whether the body is JSON (the default without a content type) or binary; `None` for another type.
fn is_json(headers: &HeaderMap) -> Option<bool> {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else {
        return Some(true);
    };
    let content_type = content_type.to_str().ok()?.split(';').next()?.trim();
    match content_type {
        _ if content_type.eq_ignore_ascii_case("application/json") => Some(true),
        _ if content_type.eq_ignore_ascii_case("application/octet-stream") => Some(false),
        _ => None,
    }
}

/// A JSON body as an object: other values are wrapped, and an empty body is an empty object.
fn json_object(body: &[u8]) -> Result<Box<str>, RealtimeError> {
    if body.is_empty() {
        return Ok("{}".into());
    }
    let json = std::str::from_utf8(body).map_err(|_| RealtimeError::InvalidJson)?;
    let raw: &RawValue = serde_json::from_str(json).map_err(|_| RealtimeError::InvalidJson)?;
    Ok(if raw.get().starts_with('{') { json.into() } else { format!(r#"{{"_json":{json}}}"#).into() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(body: &str) -> Value {
        match parse_batch(body.as_bytes(), 30) {
            Err(RealtimeError::InvalidFields(errors)) => json!(errors.errors["messages"]),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn batch_reports_errors_per_message() {
        let bad = r#"{"messages":[{"topic":"a","event":"e","payload":{}},{"topic":"","payload":"x"},{"topic":7,"event":"e",
            "payload":{"long":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},"private":"yes","id":7}]}"#;
        let expected = json!([
            {},
            {"topic": ["can't be blank"], "event": ["can't be blank"], "payload": ["is invalid"]},
            {"topic": ["is invalid"], "payload": ["Payload size exceeds tenant limit"], "private": ["is invalid"],
                "id": ["is invalid"]},
        ]);
        assert_eq!(errors(bad), expected);
        for (body, expected) in [
            ("{}", json!(["can't be blank"])),
            (r#"{"messages":[]}"#, json!(["can't be blank"])),
            (r#"{"messages":null}"#, json!(["can't be blank"])),
            ("[]", json!(["can't be blank"])),
            (r#"{"messages":{}}"#, json!(["is invalid"])),
            (r#"{"messages":[1]}"#, json!(["is invalid"])),
        ] {
            assert_eq!(errors(body), expected, "{body}");
        }
        assert!(matches!(parse_batch(b"{", 30), Err(RealtimeError::InvalidJson)));
    }

    #[test]
    fn batch_preserves_payload_text() {
        let body = r#"{"messages":[{"topic":"a","event":"e\"","payload":{"n": 1.10 },"id":"x"},
            {"topic":"a","event":"e","payload":{},"private":true}]}"#;
        let parsed = parse_batch(body.as_bytes(), 30).expect("is fine");
        let expected = r#"{"type":"broadcast","event":"e\"","payload":{"n": 1.10 },"meta":{"id":"x"}}"#;
        assert_eq!(parsed[0], Message { topic: Topic::public("a"), payload: expected.into() });
        assert_eq!(parsed[1].topic, Topic::private("a"));
    }

    #[test]
    fn payloads_that_are_not_objects_are_wrapped() {
        let parse = |body: &str| json_object(body.as_bytes()).expect("is JSON");
        assert_eq!(&*parse(""), "{}");
        assert_eq!(&*parse(" {\"a\":1.0}\n"), " {\"a\":1.0}\n", "as it came");
        assert_eq!(&*parse("[1]"), r#"{"_json":[1]}"#);
        assert!(matches!(json_object(b"{"), Err(RealtimeError::InvalidJson)));
    }
}
