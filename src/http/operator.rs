//! Routes for the service role: nodes, and the explanation of visibility.

use axum::{extract::State, response::IntoResponse};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{ApiError, Authenticated, HttpState, Json, Query};
use crate::{
    auth::Principal,
    model::{NodeState, UserId, VisibilityExplanation},
    pg::{Database, queries::operator},
};

/// Routes `/api/v1/system/nodes` and `/api/v1/system/explain`.
pub fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(nodes)).routes(routes!(explain))
}

pub(super) fn require_service_role(caller: &Principal) -> Result<(), ApiError> {
    if caller.is_service() {
        Ok(())
    } else {
        Err(ApiError::forbidden("this route requires role service_role"))
    }
}

/// Returns the nodes that serve this database.
#[utoipa::path(
    get, path = "/api/v1/system/nodes", operation_id = "nodes", tag = "System",
    responses((status = 200, description = "The nodes, oldest first.", body = Vec<NodeState>, example = json!([{
        "id": "0b7f2f0e-0000-4000-8000-000000000000", "started_at": "2026-11-21T12:00:00.000Z",
        "renewed_at": "2026-11-21T12:00:00.000Z", "lease_expires_at": "2026-11-21T12:00:00.000Z",
        "alive": true, "devices": 3,
    }]))),
    extensions(("x-access" = json!("service"))),
)]
async fn nodes(
    State(database): State<Database>,
    Authenticated(caller): Authenticated,
) -> Result<impl IntoResponse, ApiError> {
    require_service_role(&caller)?;
    Ok(Json(operator::nodes(&database, &caller).await?))
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
    Authenticated(caller): Authenticated,
    Query(ExplainQuery { viewer, subject }): Query<ExplainQuery>,
) -> Result<impl IntoResponse, ApiError> {
    require_service_role(&caller)?;
    Ok(Json(operator::explain_visibility(&database, &caller, viewer, subject).await?))
}
