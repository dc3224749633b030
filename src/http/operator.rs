//! What only the operator may ask: which servers there are, and why somebody sees somebody.

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use serde::Deserialize;

use super::{ApiError, Authenticated, HttpState, Json, Query};
use crate::{
    auth::Principal,
    model::UserId,
    pg::{Database, queries::operator},
};

/// `/api/v1/system/nodes` and `/api/v1/system/explain`.
pub fn routes() -> Router<HttpState> {
    Router::new().route("/api/v1/system/nodes", get(nodes)).route("/api/v1/system/explain", get(explain))
}

fn require_service_role(caller: &Principal) -> Result<(), ApiError> {
    if caller.is_service() { Ok(()) } else { Err(ApiError::forbidden("this is for the service role")) }
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
