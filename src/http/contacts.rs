//! Contacts and blocks: the minimum to manage who may see whom.

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
    acting::{Acting, Managing},
    ids::{done, someone_else, user_id_in},
};
use crate::{
    model::UserId,
    pg::{
        Database,
        queries::contacts::{self, Asked},
    },
};

/// `/api/contacts` and `/api/blocks`.
pub fn routes() -> Router<HttpState> {
    Router::new()
        .route("/api/contacts", get(list).post(ask))
        .route("/api/contacts/{user_id}", delete(remove))
        .route("/api/contacts/{user_id}/accept", post(accept))
        .route("/api/blocks", get(blocks).post(block))
        .route("/api/blocks/{user_id}", delete(unblock))
}

async fn list(
    State(database): State<Database>,
    Acting { caller, .. }: Acting,
) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(contacts::list(&database, &caller).await?))
}

/// 201 for a new request; asking somebody who has asked before accepts, and asking again changes nothing.
async fn ask(
    State(database): State<Database>,
    Managing { caller, user, allowance }: Managing,
    Json(body): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    let other = user_id_in(&body)?;
    someone_else(user, other, "user_id")?;
    let asked = contacts::ask(&database, &caller, other).await?;
    let (status, contact) = match asked.ok_or(ApiError::Conflict("the contact is being ended".into()))? {
        Asked::New(contact) => (StatusCode::CREATED, contact),
        Asked::Known(contact) => (StatusCode::OK, contact),
    };
    Ok((status, allowance, Json(contact)))
}

async fn accept(
    State(database): State<Database>,
    Managing { caller, allowance, .. }: Managing,
    Path(other): Path<UserId>,
) -> Result<impl IntoResponse, ApiError> {
    let contact = contacts::accept(&database, &caller, other).await?.ok_or(ApiError::NotFound)?;
    Ok((allowance, Json(contact)))
}

async fn remove(
    State(database): State<Database>,
    Managing { caller, allowance, .. }: Managing,
    Path(other): Path<UserId>,
) -> Result<impl IntoResponse, ApiError> {
    let was_there = contacts::remove(&database, &caller, other).await?;
    if was_there { Ok((allowance, done())) } else { Err(ApiError::NotFound) }
}

async fn blocks(
    State(database): State<Database>,
    Acting { caller, .. }: Acting,
) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(contacts::blocks(&database, &caller).await?))
}

async fn block(
    State(database): State<Database>,
    Managing { caller, user, allowance }: Managing,
    Json(body): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    let other = user_id_in(&body)?;
    someone_else(user, other, "user_id")?;
    let is_new = contacts::block(&database, &caller, other).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, allowance, done()))
}

async fn unblock(
    State(database): State<Database>,
    Managing { caller, allowance, .. }: Managing,
    Path(other): Path<UserId>,
) -> Result<impl IntoResponse, ApiError> {
    let was_there = contacts::unblock(&database, &caller, other).await?;
    if was_there { Ok((allowance, done())) } else { Err(ApiError::NotFound) }
}
