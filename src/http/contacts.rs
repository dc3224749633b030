//! Routes for contacts and blocks.

use axum::{extract::State, http::StatusCode, response::IntoResponse};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    ApiError, HttpState, Json, Path, ValidJson,
    ids::{Success, UserIdBody, reject_self},
    on_behalf_of::{OnBehalfOf, RateLimitedWrite, UserIdQuery},
};
use crate::{
    model::{Block, Contact, UserId},
    pg::{
        Database,
        queries::{
            contacts::{self, ContactRequest},
            relations::{self, Relation},
        },
    },
};

/// Routes `/api/contacts` and `/api/blocks`.
pub fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default()
        .routes(routes!(list, send_request))
        .routes(routes!(remove))
        .routes(routes!(accept))
        .routes(routes!(list_blocks, block))
        .routes(routes!(unblock))
}

/// Rejects a request that manages a relation which a table of the application provides.
pub(super) async fn require_built_in(database: &Database, relation: Relation) -> Result<(), ApiError> {
    let Some(table) = relations::own_table(database, relation).await? else { return Ok(()) };
    let name = relation.name();
    Err(ApiError::Conflict(
        format!("{name}: the table {table} of this application provides them; change its rows instead")
            .into(),
    ))
}

/// Returns the caller's contacts and contact requests.
#[utoipa::path(
    get, path = "/api/contacts", operation_id = "contacts", tag = "Relations", params(UserIdQuery),
    responses((status = 200, description = "Contacts and requests of both directions, oldest first.",
        body = Vec<Contact>, example = json!([{
            "user_id": "a0000000-0000-4000-8000-000000000006", "status": "accepted",
            "created_at": "2026-11-20T09:00:00.000Z", "accepted_at": "2026-11-20T10:00:00.000Z",
        }]))),
    extensions(("x-errors" = json!([409]))),
)]
async fn list(
    State(database): State<Database>,
    OnBehalfOf { caller, .. }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Contacts).await?;
    Ok(Json(contacts::list(&database, &caller).await?))
}

/// Sends a contact request.
///
/// A request to a user who already sent one accepts it. A repeated request changes nothing.
#[utoipa::path(
    post, path = "/api/contacts", operation_id = "askForContact", tag = "Relations", params(UserIdQuery),
    request_body(content = UserIdBody, example = json!({ "user_id": "a0000000-0000-4000-8000-000000000004" })),
    responses(
        (status = 201, description = "The request was sent.", body = Contact, example = json!({
        "user_id": "a0000000-0000-4000-8000-000000000004", "status": "pending_out",
        "created_at": "2026-11-20T09:00:00.000Z", "accepted_at": null,
    })),
        (status = 200, description = "The request existed, or this request accepted one.", body = Contact,
            example = json!({
        "user_id": "a0000000-0000-4000-8000-000000000004", "status": "accepted",
        "created_at": "2026-11-20T09:00:00.000Z", "accepted_at": "2026-11-20T10:00:00.000Z",
    })),
    ),
    extensions(("x-errors" = json!([409])), ("x-rate-limit" = json!("manage"))),
)]
async fn send_request(
    State(database): State<Database>,
    RateLimitedWrite { caller, user, allowance }: RateLimitedWrite,
    ValidJson(UserIdBody { user_id: other }): ValidJson<UserIdBody>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Contacts).await?;
    reject_self(user, other, "user_id")?;
    let outcome = contacts::request(&database, &caller, other).await?;
    let (status, contact) =
        match outcome.ok_or(ApiError::Conflict("the contact is being removed; try again".into()))? {
            ContactRequest::Created(contact) => (StatusCode::CREATED, contact),
            ContactRequest::Existing(contact) => (StatusCode::OK, contact),
        };
    Ok((status, allowance, Json(contact)))
}

/// Accepts a contact request.
#[utoipa::path(
    post, path = "/api/contacts/{user_id}/accept", operation_id = "acceptContact", tag = "Relations",
    params(("user_id" = UserId, Path, description = "ID of the other user (UUID).", example = "a0000000-0000-4000-8000-000000000005"), UserIdQuery),
    responses((status = 200, description = "The contact was accepted.", body = Contact, example = json!({
        "user_id": "a0000000-0000-4000-8000-000000000005", "status": "accepted",
        "created_at": "2026-11-20T09:00:00.000Z", "accepted_at": "2026-11-20T10:00:00.000Z",
    }))),
    extensions(("x-errors" = json!([404, 409])), ("x-rate-limit" = json!("manage"))),
)]
async fn accept(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Path(other): Path<UserId>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Contacts).await?;
    let contact = contacts::accept(&database, &caller, other).await?.ok_or(ApiError::NotFound)?;
    Ok((allowance, Json(contact)))
}

/// Removes a contact.
///
/// Also declines a contact request, or withdraws one.
#[utoipa::path(
    delete, path = "/api/contacts/{user_id}", operation_id = "removeContact", tag = "Relations",
    params(("user_id" = UserId, Path, description = "ID of the other user (UUID).", example = "a0000000-0000-4000-8000-000000000006"), UserIdQuery),
    responses((status = 200, description = "The contact was removed.", body = Success,
        example = json!({ "success": true }))),
    extensions(("x-errors" = json!([404, 409])), ("x-rate-limit" = json!("manage"))),
)]
async fn remove(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Path(other): Path<UserId>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Contacts).await?;
    let existed = contacts::remove(&database, &caller, other).await?;
    if existed { Ok((allowance, Success::response())) } else { Err(ApiError::NotFound) }
}

/// Returns the users that the caller blocks.
#[utoipa::path(
    get, path = "/api/blocks", operation_id = "blocks", tag = "Relations", params(UserIdQuery),
    responses((status = 200, description = "Blocked users, oldest block first.", body = Vec<Block>,
        example = json!([{ "user_id": "a0000000-0000-4000-8000-000000000005", "created_at": "2026-11-20T09:00:00.000Z" }]))),
    extensions(("x-errors" = json!([409]))),
)]
async fn list_blocks(
    State(database): State<Database>,
    OnBehalfOf { caller, .. }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Blocks).await?;
    Ok(Json(contacts::blocks(&database, &caller).await?))
}

/// Blocks a user.
///
/// From then on neither user sees the other, whatever the other settings allow.
#[utoipa::path(
    post, path = "/api/blocks", operation_id = "block", tag = "Relations", params(UserIdQuery),
    request_body(content = UserIdBody, example = json!({ "user_id": "a0000000-0000-4000-8000-000000000005" })),
    responses(
        (status = 201, description = "The user was blocked.", body = Success,
        example = json!({ "success": true })),
        (status = 200, description = "The user was already blocked.", body = Success,
        example = json!({ "success": true })),
    ),
    extensions(("x-errors" = json!([409])), ("x-rate-limit" = json!("manage"))),
)]
async fn block(
    State(database): State<Database>,
    RateLimitedWrite { caller, user, allowance }: RateLimitedWrite,
    ValidJson(UserIdBody { user_id: other }): ValidJson<UserIdBody>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Blocks).await?;
    reject_self(user, other, "user_id")?;
    let is_new = contacts::block(&database, &caller, other).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, allowance, Success::response()))
}

/// Removes the block of a user.
#[utoipa::path(
    delete, path = "/api/blocks/{user_id}", operation_id = "unblock", tag = "Relations",
    params(("user_id" = UserId, Path, description = "ID of the other user (UUID).", example = "a0000000-0000-4000-8000-000000000005"), UserIdQuery),
    responses((status = 200, description = "The block was removed.", body = Success,
        example = json!({ "success": true }))),
    extensions(("x-errors" = json!([404, 409])), ("x-rate-limit" = json!("manage"))),
)]
async fn unblock(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Path(other): Path<UserId>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Blocks).await?;
    let existed = contacts::unblock(&database, &caller, other).await?;
    if existed { Ok((allowance, Success::response())) } else { Err(ApiError::NotFound) }
}
