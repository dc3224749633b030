//! Route that returns the presence state of a channel on all nodes, as in a `presence_state` message.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::channel_auth::{
    ChannelAuth, RealtimeError, RealtimeFieldErrors, RealtimeMessage, RealtimeRejection,
};
use crate::{
    auth::Principal,
    channels::{authorization::AuthorizationError, presence::Occupancy},
    http::{ApiError, HttpState, Json, Path, Query},
    model::Topic,
    session::channels::Services,
};

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    // Served only with the gateway's prefix: `/api/presence` is another API.
    OpenApiRouter::default().routes(routes!(presence_state)).routes(routes!(occupancy))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PresenceQuery {
    /// Whether the private channel of that name is meant.
    #[param(inline, value_type = Option<PrivateFlag>, nullable = false)]
    private: Option<String>,
}

/// Whether a channel is private.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the values of `PresenceQuery::private`")]
enum PrivateFlag {
    True,
    False,
}

/// Presence state of a channel.
#[derive(Serialize, ToSchema)]
struct ChannelPresence<'a> {
    /// Name of the channel, without `realtime:`.
    topic: &'a str,
    /// Whether the channel is private.
    private: bool,
    /// Tracked payloads by key: `{key: {metas: [{phx_ref, …}]}}`.
    #[schema(value_type = Object, additional_properties = true)]
    presence: &'a RawValue,
}

/// Returns the presence state of a channel on all nodes.
///
/// The same state as in a `presence_state` message. A private channel requires the right to read its presence by the
/// policies on `realtime.messages`.
#[utoipa::path(
    get, path = "/realtime/v1/api/presence/{topic}", operation_id = "channelPresence", tag = "Realtime",
    params(
        ("topic" = String, Path, description = "Name of the channel, without `realtime:`.", example = "harbour"),
        PresenceQuery,
    ),
    responses(
        (status = 200, description = "Tracked payloads by key.", body = ChannelPresence<'static>, example = json!({
            "topic": "harbour", "private": false,
            "presence": { "alice": { "metas": [{ "phx_ref": "GKV5bJ4-BTFw1gBC", "status": "online" }] } },
        })),
        (status = 401, description = "The token or key is missing or invalid.", body = RealtimeMessage,
            example = json!({ "message": "Unauthorized" })),
        (status = 403, description = "The policies deny the caller the private channel.", body = RealtimeMessage,
            example = json!({ "message": "Unauthorized" })),
        (status = 422, description = "`private` is invalid, or the policies could not be checked.",
            body = RealtimeRejection, example = json!({ "errors": { "private": ["is invalid"] } })),
        (status = 429, description = "Too many requests check the policies.", body = RealtimeMessage,
            example = json!({ "message": "Connection pool exhausted" })),
    ),
)]
async fn presence_state(
    State(services): State<Arc<Services>>,
    ChannelAuth(principal): ChannelAuth,
    Path(topic): Path<String>,
    Query(query): Query<PresenceQuery>,
) -> Result<Response, RealtimeError> {
    let channel = readable_topic(&services, &principal, topic, &query).await?;
    // The tracked payloads are copied as received.
    let state = services.presence.encoded_state(&channel);
    let presence = serde_json::from_slice(&state).map_err(|error| {
        RealtimeError::Body(ApiError::Internal(anyhow::Error::new(error).context("encoded presence state")))
    })?;
    let private = channel.private;
    Ok(Json(ChannelPresence { topic: &channel.name, private, presence }).into_response())
}

/// The topic, if the caller may read its presence.
async fn readable_topic(
    services: &Services,
    principal: &Arc<Principal>,
    topic: String,
    query: &PresenceQuery,
) -> Result<Topic, RealtimeError> {
    let private = match query.private.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            return Err(RealtimeError::InvalidFields(RealtimeFieldErrors::text("private", "is invalid")));
        }
    };
    let channel = Topic { name: topic.into(), private };
    let rights =
        services.authorizer.read_rights(principal, &channel).await.map_err(RealtimeError::Authorization)?;
    if !rights.presence {
        return Err(RealtimeError::Authorization(AuthorizationError::Unauthorized));
    }
    Ok(channel)
}

/// How many are present in a channel.
#[derive(Serialize, ToSchema)]
struct ChannelOccupancy<'a> {
    /// Name of the channel, without `realtime:`.
    topic: &'a str,
    /// Whether the channel is private.
    private: bool,
    /// Number of presence keys: of users, if each tracks under a key of its own.
    keys: usize,
    /// Number of tracked payloads: of devices and tabs.
    metas: usize,
}

/// Returns how many are present in a channel, without who.
///
/// Counts what the channel tracks on all nodes. A private channel requires the right to read its presence by the policies
/// on `realtime.messages`.
#[utoipa::path(
    get, path = "/realtime/v1/api/occupancy/{topic}", operation_id = "channelOccupancy", tag = "Realtime",
    params(
        ("topic" = String, Path, description = "Name of the channel, without `realtime:`.", example = "harbour"),
        PresenceQuery,
    ),
    responses(
        (status = 200, description = "Numbers of keys and of tracked payloads.", body = ChannelOccupancy<'static>,
            example = json!({ "topic": "harbour", "private": false, "keys": 2, "metas": 3 })),
        (status = 401, description = "The token or key is missing or invalid.", body = RealtimeMessage,
            example = json!({ "message": "Unauthorized" })),
        (status = 403, description = "The policies deny the caller the private channel.", body = RealtimeMessage,
            example = json!({ "message": "Unauthorized" })),
        (status = 422, description = "`private` is invalid, or the policies could not be checked.",
            body = RealtimeRejection, example = json!({ "errors": { "private": ["is invalid"] } })),
        (status = 429, description = "Too many requests check the policies.", body = RealtimeMessage,
            example = json!({ "message": "Connection pool exhausted" })),
    ),
)]
async fn occupancy(
    State(services): State<Arc<Services>>,
    ChannelAuth(principal): ChannelAuth,
    Path(topic): Path<String>,
    Query(query): Query<PresenceQuery>,
) -> Result<Response, RealtimeError> {
    let channel = readable_topic(&services, &principal, topic, &query).await?;
    let Occupancy { keys, metas } = services.presence.occupancy(&channel);
    let answer = ChannelOccupancy { topic: &channel.name, private: channel.private, keys, metas };
    Ok(Json(answer).into_response())
}
