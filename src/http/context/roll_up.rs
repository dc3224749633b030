//! Route that rolls up a user's units into profiles.

use axum::{extract::State, response::IntoResponse};
use serde::Deserialize;

use super::{
    super::{ApiError, HttpState, Json, extract::parse_json},
    SuccessEnvelope,
    context_user::ContextUser,
};
use crate::context::roll_up::{DEFAULT_LIMIT, MAX_LIMIT};

#[derive(Deserialize, Default)]
#[serde(default)]
struct RollUpBody {
    limit: Option<i32>,
    force: bool,
}

pub(super) async fn roll_up(
    State(state): State<HttpState>,
    ContextUser { user, allowance, .. }: ContextUser,
    body: bytes::Bytes,
) -> Result<impl IntoResponse, ApiError> {
    // All fields and the body itself are optional.
    let RollUpBody { limit, force } =
        if body.is_empty() { RollUpBody::default() } else { parse_json(&body)? };
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::invalid("limit", format!("must be from 1 to {MAX_LIMIT}")));
    }
    let applied = state.context.roll_up(user, limit, force).await?;
    Ok((allowance, Json(SuccessEnvelope::new(Some("Roll-up done"), applied))))
}
