//! Routes that read the presence of other users: batch, last seen and the user card.

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

/// Routes `/api/presence/batch`, `/api/presence/last-seen` and `/{user_id}`.
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
    let presences = presence.list(&caller, Some(&users)).await?;
    let shown: BTreeMap<UserId, PresenceJson<'_>> = presences
        .iter()
        .map(|entry| {
            (
                entry.face.presence.user_id,
                PresenceJson::from(&*entry.face.presence).with_typing(entry.is_typing),
            )
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

/// Returns the last activity of the named users, or of all related users. `null` when a user does not share
/// it.
async fn last_seen(
    State(presence): State<Arc<PresenceService>>,
    Authenticated(caller): Authenticated,
    Query(query): Query<LastSeenQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let requested = query.user_ids.as_deref().map(parse_user_ids).transpose()?;
    if requested.is_none() {
        caller.require_user()?;
    }
    let presences = presence.list(&caller, requested.as_deref()).await?;
    let entries = presences.iter().map(|entry| &entry.face.presence);
    let entries: Vec<_> =
        entries.map(|entry| LastSeen { user_id: entry.user_id, last_seen: entry.last_seen }).collect();
    Ok(Json(entries))
}

/// Parses the user ID. A path that is not a UUID is an unknown route, before authentication.
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
