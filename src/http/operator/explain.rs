//! The explanation of visibility.

use axum::{extract::State, response::IntoResponse};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    super::{ApiError, HttpState, Json, Query},
    Operator,
};
use crate::{
    model::{UserId, VisibilityExplanation},
    pg::{Database, queries::operator},
};

/// Returns the route `/api/v1/system/explain`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(explain))
}

/// The users that an explanation is about.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ExplainQuery {
    /// ID of the user who looks (UUID).
    #[param(example = "a0000000-0000-4000-8000-000000000001")]
    viewer: UserId,
    /// ID of the user who is looked at (UUID).
    #[param(example = "a0000000-0000-4000-8000-000000000006")]
    subject: UserId,
}

/// Explains why a user sees another user, or does not.
#[utoipa::path(
    get, path = "/api/v1/system/explain", operation_id = "explain", tag = "System", params(ExplainQuery),
    responses((status = 200, description = "One entry for each form of the user; one entry if nothing is visible.",
        body = Vec<VisibilityExplanation>, example = json!([{
            "visible": true, "face": "trusted", "decided_by": "list", "policy": null, "evidence": {},
            "reason": "on the list",
        }]))),
    extensions(("x-access" = json!("service"))),
)]
async fn explain(
    State(database): State<Database>,
    Operator { caller, .. }: Operator,
    Query(ExplainQuery { viewer, subject }): Query<ExplainQuery>,
) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(operator::explain_visibility(&database, &caller, viewer, subject).await?))
}
