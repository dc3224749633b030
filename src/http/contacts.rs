//! Routes for contacts and blocks.

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::IntoResponse,
    routing::{delete, get, post},
};
use serde_json::{Map, Value};

use super::{
    ApiError, HttpState, Json, Path,
    ids::{reject_self, success, user_id_from_body},
    on_behalf_of::{OnBehalfOf, RateLimitedWrite},
};
use crate::{
    model::UserId,
    pg::{
        Database,
        queries::{
            contacts::{self, ContactRequest},
            relations::{self, Relation},
        },
    },
};

/// Routes `/api/contacts` and `/api/blocks`.
pub fn routes() -> Router<HttpState> {
    Router::new()
        .route("/api/contacts", get(list).post(send_request))
        .route("/api/contacts/{user_id}", delete(remove))
        .route("/api/contacts/{user_id}/accept", post(accept))
        .route("/api/blocks", get(list_blocks).post(block))
        .route("/api/blocks/{user_id}", delete(unblock))
}

/// Rejects a request that manages a relation which a table of the application provides.
pub(super) async fn require_built_in(database: &Database, relation: Relation) -> Result<(), ApiError> {
    let Some(table) = relations::own_table(database, relation).await? else { return Ok(()) };
    let name = relation.name();
    Err(ApiError::Conflict(
        format!("{name}: the table {table} of this application provides them; change its rows instead of calling this route")
            .into(),
    ))
}

async fn list(
    State(database): State<Database>,
    OnBehalfOf { caller, .. }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Contacts).await?;
    Ok(Json(contacts::list(&database, &caller).await?))
}

/// Answers 201 for a new request. A request to a user who already sent one accepts it; a repeated request
/// changes nothing.
async fn send_request(
    State(database): State<Database>,
    RateLimitedWrite { caller, user, allowance }: RateLimitedWrite,
    Json(body): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Contacts).await?;
    let other = user_id_from_body(&body)?;
    reject_self(user, other, "user_id")?;
    let outcome = contacts::request(&database, &caller, other).await?;
    let (status, contact) =
        match outcome.ok_or(ApiError::Conflict("the contact is being removed; try again".into()))? {
            ContactRequest::Created(contact) => (StatusCode::CREATED, contact),
            ContactRequest::Existing(contact) => (StatusCode::OK, contact),
        };
    Ok((status, allowance, Json(contact)))
}

async fn accept(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Path(other): Path<UserId>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Contacts).await?;
    let contact = contacts::accept(&database, &caller, other).await?.ok_or(ApiError::NotFound)?;
    Ok((allowance, Json(contact)))
}

async fn remove(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Path(other): Path<UserId>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Contacts).await?;
    let existed = contacts::remove(&database, &caller, other).await?;
    if existed { Ok((allowance, success())) } else { Err(ApiError::NotFound) }
}

async fn list_blocks(
    State(database): State<Database>,
    OnBehalfOf { caller, .. }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Blocks).await?;
    Ok(Json(contacts::blocks(&database, &caller).await?))
}

async fn block(
    State(database): State<Database>,
    RateLimitedWrite { caller, user, allowance }: RateLimitedWrite,
    Json(body): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Blocks).await?;
    let other = user_id_from_body(&body)?;
    reject_self(user, other, "user_id")?;
    let is_new = contacts::block(&database, &caller, other).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, allowance, success()))
}

async fn unblock(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Path(other): Path<UserId>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Blocks).await?;
    let existed = contacts::unblock(&database, &caller, other).await?;
    if existed { Ok((allowance, success())) } else { Err(ApiError::NotFound) }
}
