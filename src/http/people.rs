//! Routes that read the presence of other users: batch, last seen and the user card.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{FromRequestParts, Request, State},
    response::IntoResponse,
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use super::{
    ApiError, Authenticated, HttpState, Json, Path, Query, ValidJson,
    ids::{MAX_IDS, parse_user_ids},
    presence::UsersQuery,
};
use crate::{
    model::{PresenceSummary, UserId, milliseconds},
    presence::PresenceService,
    protocol::presence::PresenceJson,
};

/// Routes `/api/presence/batch`, `/api/presence/last-seen` and `/{user_id}`.
pub fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(batch))
        .routes(routes!(last_seen))
        .routes(routes!(card).map(|methods| methods.fallback(user_path_fallback)))
}

/// Users whose presence to return.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct BatchBody {
    /// IDs of the users: 1 to 1,000.
    #[serde(alias = "userIds")]
    #[garde(length(min = 1, max = MAX_IDS))]
    #[schema(min_items = 1, max_items = 1_000)]
    user_ids: Vec<UserId>,
}

/// Presences of users by their ID.
#[derive(Serialize, ToSchema)]
struct BatchAnswer<'a> {
    /// Presences of the visible users, by user ID.
    presences: BTreeMap<UserId, PresenceJson<'a>>,
}

/// Returns the presence of up to 1,000 users.
///
/// As `GET /api/presence/users`, by user ID.
#[utoipa::path(
    post, path = "/api/presence/batch", operation_id = "batch", tag = "People",
    request_body(content = BatchBody, example = json!({ "user_ids": ["a0000000-0000-4000-8000-000000000002"] })),
    responses((status = 200, description = "Presences of the visible users.", body = BatchAnswer<'static>,
        example = json!({ "presences": { "a0000000-0000-4000-8000-000000000002": {
            "user_id": "a0000000-0000-4000-8000-000000000002", "status": "offline",
            "availability": "offline", "last_seen": "2026-11-21T11:40:00.000Z", "is_typing": false,
            "custom_status": "At lunch",
        } } }))),
)]
async fn batch(
    State(presence): State<Arc<PresenceService>>,
    Authenticated(caller): Authenticated,
    ValidJson(BatchBody { user_ids }): ValidJson<BatchBody>,
) -> Result<impl IntoResponse, ApiError> {
    let presences = presence.list(&caller, Some(&user_ids)).await?;
    let presences = presences
        .iter()
        .map(|entry| {
            (
                entry.face.presence.user_id,
                PresenceJson::from(&*entry.face.presence).with_typing(entry.is_typing),
            )
        })
        .collect();
    Ok(Json(BatchAnswer { presences }).into_response())
}

/// Last activity of a user.
#[derive(Serialize, ToSchema)]
struct LastSeen {
    /// ID of the user (UUID).
    user_id: UserId,
    /// Time at which a device was last live; `null` if the user does not share it.
    #[serde(serialize_with = "milliseconds::option")]
    #[schema(required)]
    last_seen: Option<jiff::Timestamp>,
}

/// Returns when users were last seen.
#[utoipa::path(
    get, path = "/api/presence/last-seen", operation_id = "lastSeen", tag = "People", params(UsersQuery),
    responses((status = 200, description = "Last activity of the visible users.", body = Vec<LastSeen>,
        example = json!([{
            "user_id": "a0000000-0000-4000-8000-000000000002", "last_seen": "2026-11-21T11:40:00.000Z",
        }]))),
)]
async fn last_seen(
    State(presence): State<Arc<PresenceService>>,
    Authenticated(caller): Authenticated,
    Query(query): Query<UsersQuery>,
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

/// Returns the presence of one user with the number of devices.
///
/// A path that is not a UUID is answered with 404, also without a token.
#[utoipa::path(
    get, path = "/{user_id}", operation_id = "card", tag = "People",
    params(("user_id" = UserId, Path, description = "ID of the user (UUID).", example = "a0000000-0000-4000-8000-000000000002")),
    responses((status = 200, description = "Presence of the user.", body = PresenceSummary, example = json!({
        "user_id": "a0000000-0000-4000-8000-000000000002", "online_status": "offline", "custom_status": "At lunch",
        "last_seen_at": "2026-11-21T11:40:00.000Z", "devices_online": 0,
    }))),
    extensions(("x-errors" = json!([404]))),
)]
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
