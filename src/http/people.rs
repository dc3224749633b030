//! Looking at others in the shapes of sources C, D and E.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    extract::{FromRequestParts, Request, State},
    response::IntoResponse,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    ApiError, Authenticated, HttpState, Json, Path, Query,
    ids::{parse_user_ids, user_ids_from_body},
};
use crate::{
    model::{UserId, milliseconds},
    presence::PresenceService,
    protocol::presence::PresenceJson,
};

/// `/api/presence/batch`, `/api/presence/last-seen` and `/{user_id}`.
pub fn routes() -> Router<HttpState> {
    Router::new()
        .route("/api/presence/batch", post(batch))
        .route("/api/presence/last-seen", get(last_seen))
        .route("/{user_id}", get(card).fallback(user_path_fallback))
}

async fn batch(
    State(presence): State<Arc<PresenceService>>,
    Authenticated(caller): Authenticated,
    Json(body): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    let users = user_ids_from_body(&body, &["user_ids", "userIds"], 1)?;
    let listed = presence.list(&caller, Some(&users)).await?;
    let shown: BTreeMap<UserId, PresenceJson<'_>> = listed
        .iter()
        .map(|one| {
            (one.face.presence.user_id, PresenceJson::from(&*one.face.presence).with_typing(one.is_typing))
        })
        .collect();
    Ok(Json(json!({ "presences": shown })))
}

#[derive(Deserialize)]
struct LastSeenQuery {
    user_ids: Option<String>,
}

#[derive(Serialize)]
struct LastSeen {
    user_id: UserId,
    #[serde(serialize_with = "milliseconds::option")]
    last_seen: Option<jiff::Timestamp>,
}

/// Of those named, or of everybody related to the caller. `null` where it is not shared.
async fn last_seen(
    State(presence): State<Arc<PresenceService>>,
    Authenticated(caller): Authenticated,
    Query(query): Query<LastSeenQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let named = query.user_ids.as_deref().map(parse_user_ids).transpose()?;
    if named.is_none() {
        caller.require_user()?;
    }
    let listed = presence.list(&caller, named.as_deref()).await?;
    let seen = listed.iter().map(|one| &one.face.presence);
    let seen: Vec<_> = seen.map(|one| LastSeen { user_id: one.user_id, last_seen: one.last_seen }).collect();
    Ok(Json(seen))
}

/// A path that is no UUID is a route that does not exist, whoever asks.
fn parse_user_path(text: &str) -> Result<UserId, ApiError> {
    text.parse().map_err(|_| ApiError::NotFound)
}

async fn card(
    State(state): State<HttpState>,
    Path(user): Path<String>,
    request: Request,
) -> Result<impl IntoResponse, ApiError> {
    let user = parse_user_path(&user)?;
    let (mut parts, _) = request.into_parts();
    let Authenticated(caller) = Authenticated::from_request_parts(&mut parts, &state).await?;
    let card = state.presence.summary(&caller, user).await?;
    Ok(Json(card.ok_or(ApiError::NotFound)?))
}

async fn user_path_fallback(Path(user): Path<String>) -> ApiError {
    parse_user_path(&user).map_or_else(|missing| missing, |_| ApiError::MethodNotAllowed)
}
