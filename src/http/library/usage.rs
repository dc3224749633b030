//! Route for the usage of models.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    super::{ApiError, HttpState, Json},
    LibraryCaller, UserQuery,
};
use crate::context::store::library;

/// Returns the usage route.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(usage))
}

/// Calls of one day to one model for one purpose.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DailyUsage {
    /// Day in UTC, such as 2026-11-21.
    #[schema(value_type = String)]
    day: Date,
    /// Purpose of the calls: `chat`, `summary`, `roll_up` or `memory`.
    purpose: String,
    /// Model that was called.
    model: String,
    /// Number of the calls.
    calls: i64,
    /// Tokens of all prompts together.
    prompt_tokens: i64,
    /// Tokens of all answers together.
    completion_tokens: i64,
    /// Cost by the prices of the server; `null` without a price.
    #[schema(required)]
    cost: Option<f64>,
}

/// Usage of models by day.
#[derive(Serialize, ToSchema)]
struct Usage {
    /// Usage by day, purpose and model, newest first.
    data: Vec<DailyUsage>,
}

/// Returns the calls to models that were made for the caller, of the last 31 days.
#[utoipa::path(
    get, path = "/api/v1/usage", operation_id = "usage", tag = "Memory", params(UserQuery),
    responses((status = 200, description = "The usage, at most 1,000 rows.", body = Usage, example = json!({
        "data": [{
            "day": "2026-11-21", "purpose": "chat", "model": "gpt-4o-mini", "calls": 2, "promptTokens": 640,
            "completionTokens": 40, "cost": 0.00012,
        }],
    }))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn usage(
    State(state): State<HttpState>,
    LibraryCaller { caller, allowance, .. }: LibraryCaller,
) -> Result<Response, ApiError> {
    const READ: &str = include_str!("../../../sql/library/usage.sql");
    let data = library::read(&state.database, &caller, READ, &[]).await?;
    Ok((allowance, Json(Usage { data })).into_response())
}
