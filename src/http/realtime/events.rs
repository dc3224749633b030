//! Channel events without a WebSocket: a join whose messages are sent as server-sent events.

use std::sync::Arc;

use axum::{
    extract::{Query, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    channel_auth::RealtimeErrorText,
    handshake::{HandshakeError, policy_headers},
};
use crate::{
    channels::history::SincePosition,
    http::{ApiError, HttpState},
    model::Topic,
    protocol::{Dialect, phoenix::TOPIC_PREFIX},
    session::{
        channels::{ChannelsSession, Services, SocketPrincipal},
        event_stream::OneChannel,
    },
    transport::respond_with_events,
};

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(channel_events))
}

/// The channel to join.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Topic of the channel, without `realtime:`.
    #[param(min_length = 1)]
    topic: String,
    /// Token or key; required unless the header `x-api-key`, `apikey` or `Authorization` has it.
    #[param(nullable = false)]
    apikey: Option<String>,
    /// Token of the user, if `apikey` is the key of the project. The header `Authorization` may have it too.
    #[param(nullable = false)]
    access_token: Option<String>,
    /// Whether the channel is private.
    #[param(nullable = false)]
    private: Option<bool>,
    /// Further settings of the join, as JSON, for example
    /// `{"broadcast":{"self":true},"postgres_changes":[{"event":"*","schema":"public","table":"messages"}]}`.
    #[param(nullable = false)]
    config: Option<String>,
    /// ID of the last event, for clients that cannot send the header `Last-Event-ID`, which takes precedence.
    #[param(nullable = false)]
    last_event_id: Option<String>,
}

/// The `replay` of a join after the last event. `None` if nothing is kept of the channel.
fn replay_after(services: &Services, topic: &Topic, last_event_id: &str) -> Option<Value> {
    let rule = services.history.rule(topic)?;
    Some(match SincePosition::parse(last_event_id) {
        Some(SincePosition(since)) => json!({ "since": since, "limit": rule.count }),
        None => json!({ "after": last_event_id }),
    })
}

/// Streams the events of a channel as server-sent events.
///
/// Joins the channel with the same policies and limits as a socket. The first event is named `open`. Then the messages of
/// serializer 1.0.0 follow without a name, `phx_reply` to the join first. When the channel is refused or closed, the
/// stream ends with an event named `close`. After a reconnect the channel is joined again. In a channel with a history,
/// events have IDs, and the broadcasts after `Last-Event-ID` follow the reply to the join.
#[utoipa::path(
    get, path = "/realtime/v1/sse", operation_id = "channelEvents", tag = "Realtime",
    params(
        EventsQuery,
        ("Last-Event-ID" = Option<String>, Header,
            description = "ID of the last event, as browsers send it. In a channel with a history, the broadcasts after it \
                are replayed."),
    ),
    responses(
        (status = 200, description = "A stream of events that ends with the channel, or when the client disconnects.",
            content((String = "text/event-stream"))),
        (status = 400, description = "`topic` is missing, or `config` is not a JSON object.", body = RealtimeErrorText,
            example = json!({ "error": "config must be a JSON object" })),
        (status = 401, description = "The key is missing or invalid.", body = RealtimeErrorText,
            example = json!({ "error": "API key is missing" })),
        (status = 429, description = "The node has too many sockets or joins.", body = RealtimeErrorText,
            example = json!({ "error": "Too many connected users" })),
        (status = 431, description = "A header value is too long."),
    ),
)]
async fn channel_events(
    State(services): State<Arc<Services>>,
    query: Result<Query<EventsQuery>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<Response, Response> {
    let bad_request = |text: &'static str| {
        (StatusCode::BAD_REQUEST, axum::Json(RealtimeErrorText::new(text))).into_response()
    };
    let Query(query) = query.map_err(|_| bad_request("topic is required; private must be true or false"))?;
    let (mut parts, _) = request.into_parts();
    let headers = policy_headers(&parts.headers).map_err(IntoResponse::into_response)?;
    let header = |name: &str| parts.headers.get(name)?.to_str().ok().map(str::to_owned);
    let bearer = header(header::AUTHORIZATION.as_str()).and_then(|value| {
        let (scheme, token) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let token = query.access_token.or(bearer);
    let key = header("x-api-key").or_else(|| header("apikey")).or(query.apikey).or_else(|| token.clone());
    let key = key.ok_or_else(|| HandshakeError::MissingApiKey.into_response())?;
    let mut config: Map<String, Value> = match query.config.as_deref().map(serde_json::from_str) {
        Some(Ok(config)) => config,
        Some(Err(_)) => return Err(bad_request("config must be a JSON object")),
        None => Map::new(),
    };
    if let Some(private) = query.private {
        config.insert("private".to_owned(), private.into());
    }
    let last_event_id = header("last-event-id").or(query.last_event_id);
    let name = Topic { name: query.topic.as_str().into(), private: false };
    if let Some(replay) = last_event_id.and_then(|id| replay_after(&services, &name, &id))
        && let Some(broadcast) = config.entry("broadcast").or_insert_with(|| json!({})).as_object_mut()
    {
        broadcast.insert("replay".to_owned(), replay);
    }
    let mut payload = json!({ "config": config });
    if let Some(token) = token {
        payload["access_token"] = token.into();
    }
    let topic = format!("{TOPIC_PREFIX}{}", query.topic);
    let join =
        json!({ "topic": topic, "event": "phx_join", "payload": payload, "ref": "1", "join_ref": "1" });

    let verified = services.verifier.verify_channel_token(&key).await;
    let verified = verified.map_err(|error| HandshakeError::from(error).into_response())?;
    let permit = services.limits.acquire_connection();
    let permit = permit.ok_or_else(|| HandshakeError::TooManyConnections.into_response())?;
    if services.limits.join_rate_exceeded() {
        return Err(HandshakeError::TooManyJoins.into_response());
    }
    let principal = SocketPrincipal::new(verified.with_headers(headers), &key);
    let hub = services.hub.clone();
    let session =
        OneChannel::new(ChannelsSession::new(services, principal, permit), hub.clone(), join.to_string());
    respond_with_events(&mut parts, &hub, Dialect::ChannelEvents.into(), session)
        .map_err(|error| ApiError::unavailable(error.to_string()).into_response())
}
