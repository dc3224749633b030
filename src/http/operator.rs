//! What only the operator may ask: which servers there are, and why somebody sees somebody.

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use serde::Deserialize;

use super::{ApiError, Authenticated, HttpState, Json, Query};
use crate::{
    auth::Caller,
    model::UserId,
    pg::{Database, queries::operator},
};

/// `/api/v1/system/nodes` and `/api/v1/system/explain`.
pub fn routes() -> Router<HttpState> {
    Router::new().route("/api/v1/system/nodes", get(nodes)).route("/api/v1/system/explain", get(explain))
}

fn for_service(caller: &Caller) -> Result<(), ApiError> {
    if caller.is_service() { Ok(()) } else { Err(ApiError::forbidden("this is for the service role")) }
}

async fn nodes(
    State(database): State<Database>,
    Authenticated(caller): Authenticated,
) -> Result<impl IntoResponse, ApiError> {
    for_service(&caller)?;
    Ok(Json(operator::nodes(&database, &caller).await?))
}

#[derive(Deserialize)]
struct Asked {
    viewer: UserId,
    subject: UserId,
}

async fn explain(
    State(database): State<Database>,
    Authenticated(caller): Authenticated,
    Query(Asked { viewer, subject }): Query<Asked>,
) -> Result<impl IntoResponse, ApiError> {
    for_service(&caller)?;
    Ok(Json(operator::explain(&database, &caller, viewer, subject).await?))
}
