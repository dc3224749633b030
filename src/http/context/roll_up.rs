//! Route that rolls up a user's units into profiles.

use axum::{extract::State, response::IntoResponse};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    super::{ApiError, HttpState, Json, OptionalJson},
    SuccessEnvelope,
    context_user::ContextUser,
};
use crate::{
    context::{
        roll_up::{DEFAULT_LIMIT, MAX_LIMIT},
        store::roll_ups::RollUpSummary,
    },
    model::UserId,
};

/// Options of a roll-up.
#[derive(Deserialize, Validate, ToSchema, Default)]
#[serde(default)]
#[garde(allow_unvalidated)]
pub(super) struct RollUpBody {
    /// Maximum number of units to process, by default 50.
    #[garde(inner(range(min = 1, max = MAX_LIMIT)))]
    #[schema(minimum = 1, maximum = 500)]
    limit: Option<i32>,
    /// Whether a roll-up that is already running is replaced.
    force: bool,
}

/// Rolls up new units into profiles of topics and entities.
///
/// The oldest units come first. At most one roll-up per user runs at a time: another request gets 409, unless it sets
/// `force`.
#[utoipa::path(
    post, path = "/api/v1/context/rollup/{user_id}", operation_id = "rollUp", tag = "Context",
    params(("user_id" = UserId, Path, description = "ID of the user (UUID). Another user than the caller requires role `service_role` or permission `context:admin`.",
        example = "a0000000-0000-4000-8000-000000000001")),
    request_body(content = RollUpBody, example = json!({ "limit": 50 })),
    responses((status = 200, description = "What the roll-up changed.", body = SuccessEnvelope<RollUpSummary>,
        example = json!({
            "success": true, "message": "Roll-up done",
            "data": {
                "topicsCreated": 0, "topicsUpdated": 0, "entitiesCreated": 0, "entitiesUpdated": 0, "acusProcessed": 0,
            },
        }))),
    extensions(("x-errors" = json!([409])), ("x-rate-limit" = json!("context")), ("x-optional-body" = json!(true))),
)]
pub(super) async fn roll_up(
    State(state): State<HttpState>,
    ContextUser { user, allowance, .. }: ContextUser,
    OptionalJson(RollUpBody { limit, force }): OptionalJson<RollUpBody>,
) -> Result<impl IntoResponse, ApiError> {
    let applied = state.context.roll_up(user, limit.unwrap_or(DEFAULT_LIMIT), force).await?;
    Ok((allowance, Json(SuccessEnvelope::new("Roll-up done", applied))))
}
