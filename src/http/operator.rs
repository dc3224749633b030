//! Routes for the service role: nodes, and the explanation of visibility.

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use serde::Deserialize;

use super::{ApiError, Authenticated, HttpState, Json, Query};
use crate::{
    auth::Principal,
    model::UserId,
    pg::{Database, queries::operator},
};

/// Routes `/api/v1/system/nodes` and `/api/v1/system/explain`.
pub fn routes() -> Router<HttpState> {
    Router::new().route("/api/v1/system/nodes", get(nodes)).route("/api/v1/system/explain", get(explain))
}

fn require_service_role(caller: &Principal) -> Result<(), ApiError> {
    if caller.is_service() {
        Ok(())
    } else {
        Err(ApiError::forbidden("this route requires role service_role"))
    }
}

async fn nodes(
    State(database): State<Database>,
    Authenticated(caller): Authenticated,
) -> Result<impl IntoResponse, ApiError> {
    require_service_role(&caller)?;
    Ok(Json(operator::nodes(&database, &caller).await?))
}

#[derive(Deserialize)]
struct ExplainQuery {
    viewer: UserId,
    subject: UserId,
}

async fn explain(
    State(database): State<Database>,
    Authenticated(caller): Authenticated,
    Query(ExplainQuery { viewer, subject }): Query<ExplainQuery>,
) -> Result<impl IntoResponse, ApiError> {
    require_service_role(&caller)?;
    Ok(Json(operator::explain_visibility(&database, &caller, viewer, subject).await?))
}
