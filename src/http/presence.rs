//! Routes for presence status, heartbeats and typing.

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRef, State},
    response::IntoResponse,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    ApiError, Authenticated, DeviceHeader, GatewayPolicy, Json, Path, Query, ids::parse_user_ids,
    on_behalf_of::OnBehalfOf,
};
use crate::{
    auth::{Principal, Verifier},
    clock::Clock,
    model::{ConversationKey, Presence, UserId},
    presence::{PresenceService, devices::HEARTBEAT_INTERVAL},
    protocol::{
        Fields,
        presence::{ParsedDeviceId, PresenceJson, status_update},
    },
};

/// Routes under `/api/presence` and the typing routes.
pub fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Arc<PresenceService>: FromRef<S>,
    Arc<Verifier>: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
    Arc<dyn Clock>: FromRef<S>,
{
    Router::new()
        .route("/api/presence/status", post(set_status).get(own_status))
        .route("/api/presence/users", get(list_users))
        .route("/api/presence/users/{user_id}", get(get_user))
        .route("/api/presence/heartbeat", post(heartbeat))
        .route("/api/conversations/{conversation_id}/typing", post(set_typing).get(list_typing))
}

async fn set_status(
    State(presence): State<Arc<PresenceService>>,
    Authenticated(caller): Authenticated,
    DeviceHeader(device): DeviceHeader,
    Json(body): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    let mut update = status_update(&body, "")?;
    let OnBehalfOf { user, .. } = user_from_body(caller, &body)?;
    let device = update.device_id.take().or(device);
    let (own, allowance) = presence.set_status(user, device, update).await?;
    Ok((allowance, Json(PresenceJson::from(&*own)).into_response()))
}

/// The user in the body; the caller if there is none.
fn user_from_body(caller: Principal, body: &Map<String, Value>) -> Result<OnBehalfOf, ApiError> {
    let mut fields = Fields::new(body, "");
    let requested = fields.optional::<UserId>(&["user_id", "userId"]);
    OnBehalfOf::new(caller, fields.finish_plain(Some(requested))?)
}

async fn own_status(
    State(presence): State<Arc<PresenceService>>,
    OnBehalfOf { caller, user }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    let own = presence.list(&caller, Some(&[user])).await?;
    // A user without a presence row is `offline`.
    let offline = || Arc::new(Presence::hidden(user));
    let own = own.first().map_or_else(offline, |own| own.face.presence.clone());
    Ok(Json(PresenceJson::from(&*own)).into_response())
}

#[derive(Deserialize)]
struct UsersQuery {
    user_ids: Option<String>,
}

async fn list_users(
    State(presence): State<Arc<PresenceService>>,
    Authenticated(caller): Authenticated,
    Query(query): Query<UsersQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let requested = query.user_ids.as_deref().map(parse_user_ids).transpose()?;
    if requested.is_none() {
        caller.require_user()?;
    }
    let presences = presence.list(&caller, requested.as_deref()).await?;
    let shown: Vec<_> = presences
        .iter()
        .map(|one| PresenceJson::from(&*one.face.presence).with_typing(one.is_typing))
        .collect();
    Ok(Json(shown).into_response())
}

async fn get_user(
    State(presence): State<Arc<PresenceService>>,
    Authenticated(caller): Authenticated,
    Path(user): Path<UserId>,
) -> Result<impl IntoResponse, ApiError> {
    let presences = presence.list(&caller, Some(&[user])).await?;
    let one = presences.first().ok_or(ApiError::NotFound)?;
    Ok(Json(PresenceJson::from(&*one.face.presence).with_typing(one.is_typing)).into_response())
}

async fn heartbeat(
    State(presence): State<Arc<PresenceService>>,
    State(clock): State<Arc<dyn Clock>>,
    Authenticated(caller): Authenticated,
    DeviceHeader(device): DeviceHeader,
    Json(body): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    let OnBehalfOf { user, .. } = user_from_body(caller, &body)?;
    let mut fields = Fields::new(&body, "");
    let requested = fields.optional::<ParsedDeviceId>(&["device_id", "deviceId"]).map(|device| device.0);
    let active = fields.optional_bool(&["active"]);
    let (requested, active) = fields.finish_plain(Some((requested, active)))?;
    presence.heartbeat(user, requested.or(device), active.unwrap_or(false)).await?;
    Ok(Json(json!({
        "success": true,
        "server_time": clock.now().to_string(),
        "next_heartbeat_ms": u64::try_from(HEARTBEAT_INTERVAL.as_millis()).unwrap_or(u64::MAX),
    })))
}

async fn set_typing(
    State(presence): State<Arc<PresenceService>>,
    Authenticated(caller): Authenticated,
    Path(conversation): Path<ConversationKey>,
    Json(body): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    caller.require_user()?;
    let mut fields = Fields::new(&body, "");
    let is_typing = fields.required_bool(&["is_typing", "isTyping"]);
    let is_typing = fields.finish_plain(is_typing)?;
    presence.set_typing(&caller, &conversation, is_typing).await?;
    Ok(Json(json!({ "success": true })))
}

async fn list_typing(
    State(presence): State<Arc<PresenceService>>,
    Authenticated(caller): Authenticated,
    Path(conversation): Path<ConversationKey>,
) -> Result<impl IntoResponse, ApiError> {
    caller.require_user()?;
    let typing = presence.typing(&caller, &conversation).await?;
    let typing =
        typing.into_iter().map(|(user, at)| json!({ "user_id": user, "updated_at": format!("{at:.3}") }));
    Ok(Json(typing.collect::<Value>()))
}
