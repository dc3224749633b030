//! From units to profiles, on demand.

use axum::{extract::State, response::IntoResponse};
use serde::Deserialize;

use super::{
    super::{ApiError, HttpState, Json, extract::parse_json},
    Done,
    about::About,
};
use crate::context::roll_up::{DEFAULT_LIMIT, MOST_LIMIT};

#[derive(Deserialize, Default)]
#[serde(default)]
struct RollUp {
    limit: Option<i32>,
    force: bool,
}

pub(super) async fn roll_up(
    State(state): State<HttpState>,
    About { user, allowance, .. }: About,
    body: bytes::Bytes,
) -> Result<impl IntoResponse, ApiError> {
    // Everything in it may be left out, and so may the whole.
    let RollUp { limit, force } = if body.is_empty() { RollUp::default() } else { parse_json(&body)? };
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST_LIMIT).contains(&limit) {
        return Err(ApiError::invalid("limit", format!("must be from 1 to {MOST_LIMIT}")));
    }
    let applied = state.context.roll_up(user, limit, force).await?;
    Ok((allowance, Json(Done::with(Some("Roll-up done"), applied))))
}
