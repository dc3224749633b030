//! Routes for personas.

use axum::{extract::State, response::Response};
use garde::Validate;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    super::{
        ApiError, HttpState, Path, Query, ValidJson,
        field_errors::{given, nullable},
        ids::Success,
    },
    LibraryCaller, Page, PageQuery, Stored, UserQuery,
};
use crate::model::milliseconds;

/// Returns the routes under `/api/v1/personas`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(list, create)).routes(routes!(update, remove))
}

/// A persona of the application.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Persona {
    /// ID of the persona (UUID).
    id: Uuid,
    /// Name of the persona: 1 to 255 characters.
    name: String,
    /// Description of the persona: at most 10,000 characters.
    #[schema(required)]
    description: Option<String>,
    /// Time at which the persona was stored.
    #[serde(serialize_with = "milliseconds::serialize")]
    created_at: Timestamp,
}

impl Stored for Persona {
    const LIST: &'static str = include_str!("../../../sql/library/list_personas.sql");
    const CREATE: &'static str = include_str!("../../../sql/library/create_persona.sql");
    const UPDATE: &'static str = include_str!("../../../sql/library/update_persona.sql");
    const DELETE: &'static str = include_str!("../../../sql/library/delete_persona.sql");
}

/// Returns the caller's personas, newest first.
///
/// Personas are those of the application, as far as signals name one.
#[utoipa::path(
    get, path = "/api/v1/personas", operation_id = "listPersonas", tag = "Memory", params(UserQuery, PageQuery),
    responses((status = 200, description = "One page of personas.", body = Page<Persona>, example = json!({
        "data": [{"id": "d0000000-0000-4000-8000-000000000003", "name": "Pilot", "description": "Knows the harbour.", "createdAt": "2026-11-21T12:00:00.000Z"}], "nextCursor": null,
    }))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn list(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Query(page): Query<PageQuery>,
) -> Result<Response, ApiError> {
    super::list::<Persona>(&state, caller, &page, &()).await
}

/// A persona to store. Absent fields have their defaults.
#[derive(Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
struct NewPersona {
    /// Name of the persona: 1 to 255 characters.
    #[garde(length(chars, min = 1, max = 255))]
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// Description of the persona: at most 10,000 characters.
    #[garde(inner(length(chars, max = 10_000)))]
    #[schema(max_length = 10_000)]
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

/// Stores a persona of the caller.
#[utoipa::path(
    post, path = "/api/v1/personas", operation_id = "createPersona", tag = "Memory", params(UserQuery),
    request_body(content = NewPersona, example = json!({"name": "Pilot", "description": "Knows the harbour."})),
    responses((status = 201, description = "The persona was stored.", body = Persona, example = json!({"id": "d0000000-0000-4000-8000-000000000003", "name": "Pilot", "description": "Knows the harbour.", "createdAt": "2026-11-21T12:00:00.000Z"}))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn create(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    ValidJson(body): ValidJson<NewPersona>,
) -> Result<Response, ApiError> {
    super::create::<Persona>(&state, caller, &body).await
}

/// Changes of a persona. Absent fields stay.
#[derive(Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
struct PersonaChanges {
    /// Name of the persona: 1 to 255 characters.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(chars, min = 1, max = 255)))]
    #[schema(nullable = false, min_length = 1, max_length = 255)]
    name: Option<String>,
    /// Description of the persona: at most 10,000 characters.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    #[garde(inner(inner(length(chars, max = 10_000))))]
    #[schema(value_type = Option<String>, max_length = 10_000)]
    description: Option<Option<String>>,
}

/// Changes a persona of the caller.
#[utoipa::path(
    patch, path = "/api/v1/personas/{id}", operation_id = "updatePersona", tag = "Memory",
    params(("id" = Uuid, Path, description = "ID of the persona (UUID).", example = "d0000000-0000-4000-8000-000000000003"), UserQuery),
    request_body(content = PersonaChanges, example = json!({"name": "Pilot"})),
    responses((status = 200, description = "The persona after the change.", body = Persona, example = json!({"id": "d0000000-0000-4000-8000-000000000003", "name": "Pilot", "description": "Knows the harbour.", "createdAt": "2026-11-21T12:00:00.000Z"}))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn update(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Path(id): Path<Uuid>,
    ValidJson(body): ValidJson<PersonaChanges>,
) -> Result<Response, ApiError> {
    super::update::<Persona>(&state, caller, id, &body).await
}

/// Deletes a persona of the caller.
#[utoipa::path(
    delete, path = "/api/v1/personas/{id}", operation_id = "deletePersona", tag = "Memory",
    params(("id" = Uuid, Path, description = "ID of the persona (UUID).", example = "d0000000-0000-4000-8000-000000000003"), UserQuery),
    responses((status = 200, description = "The persona was deleted.", body = Success, example = json!({ "success": true }))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn remove(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Path(id): Path<Uuid>,
) -> Result<Response, ApiError> {
    super::remove::<Persona>(&state, caller, id).await
}
