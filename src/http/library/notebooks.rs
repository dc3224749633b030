//! Routes for notebooks.

use axum::{extract::State, response::Response};
use garde::Validate;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    super::{ApiError, HttpState, Path, Query, ValidJson, field_errors::given, ids::Success},
    LibraryCaller, Page, PageQuery, Stored, UserQuery,
};
use crate::model::milliseconds;

/// Returns the routes under `/api/v1/notebooks`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(list, create)).routes(routes!(update, remove))
}

/// A notebook: a namespace for memories and units.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Notebook {
    /// ID of the notebook (UUID).
    id: Uuid,
    /// Title of the notebook: 1 to 255 characters.
    title: String,
    /// Time at which the notebook was stored.
    #[serde(serialize_with = "milliseconds::serialize")]
    created_at: Timestamp,
}

impl Stored for Notebook {
    const LIST: &'static str = include_str!("../../../sql/library/list_notebooks.sql");
    const CREATE: &'static str = include_str!("../../../sql/library/create_notebook.sql");
    const UPDATE: &'static str = include_str!("../../../sql/library/update_notebook.sql");
    const DELETE: &'static str = include_str!("../../../sql/library/delete_notebook.sql");
}

/// Returns the caller's notebooks, newest first.
///
/// Notebooks are namespaces, such as projects: memories, units and conversations may belong to one.
#[utoipa::path(
    get, path = "/api/v1/notebooks", operation_id = "listNotebooks", tag = "Memory", params(UserQuery, PageQuery),
    responses((status = 200, description = "One page of notebooks.", body = Page<Notebook>, example = json!({
        "data": [{"id": "d0000000-0000-4000-8000-000000000004", "title": "Harbour", "createdAt": "2026-11-21T12:00:00.000Z"}], "nextCursor": null,
    }))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn list(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Query(page): Query<PageQuery>,
) -> Result<Response, ApiError> {
    super::list::<Notebook>(&state, caller, &page, &()).await
}

/// A notebook to store. Absent fields have their defaults.
#[derive(Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
struct NewNotebook {
    /// Title of the notebook: 1 to 255 characters.
    #[garde(length(chars, min = 1, max = 255))]
    #[schema(min_length = 1, max_length = 255)]
    title: String,
}

/// Stores a notebook of the caller.
#[utoipa::path(
    post, path = "/api/v1/notebooks", operation_id = "createNotebook", tag = "Memory", params(UserQuery),
    request_body(content = NewNotebook, example = json!({"title": "Harbour"})),
    responses((status = 201, description = "The notebook was stored.", body = Notebook, example = json!({"id": "d0000000-0000-4000-8000-000000000004", "title": "Harbour", "createdAt": "2026-11-21T12:00:00.000Z"}))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn create(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    ValidJson(body): ValidJson<NewNotebook>,
) -> Result<Response, ApiError> {
    super::create::<Notebook>(&state, caller, &body).await
}

/// Changes of a notebook. Absent fields stay.
#[derive(Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
struct NotebookChanges {
    /// Title of the notebook: 1 to 255 characters.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(chars, min = 1, max = 255)))]
    #[schema(nullable = false, min_length = 1, max_length = 255)]
    title: Option<String>,
}

/// Changes a notebook of the caller.
#[utoipa::path(
    patch, path = "/api/v1/notebooks/{id}", operation_id = "updateNotebook", tag = "Memory",
    params(("id" = Uuid, Path, description = "ID of the notebook (UUID).", example = "d0000000-0000-4000-8000-000000000004"), UserQuery),
    request_body(content = NotebookChanges, example = json!({"title": "Harbour"})),
    responses((status = 200, description = "The notebook after the change.", body = Notebook, example = json!({"id": "d0000000-0000-4000-8000-000000000004", "title": "Harbour", "createdAt": "2026-11-21T12:00:00.000Z"}))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn update(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Path(id): Path<Uuid>,
    ValidJson(body): ValidJson<NotebookChanges>,
) -> Result<Response, ApiError> {
    super::update::<Notebook>(&state, caller, id, &body).await
}

/// Deletes a notebook of the caller.
#[utoipa::path(
    delete, path = "/api/v1/notebooks/{id}", operation_id = "deleteNotebook", tag = "Memory",
    params(("id" = Uuid, Path, description = "ID of the notebook (UUID).", example = "d0000000-0000-4000-8000-000000000004"), UserQuery),
    responses((status = 200, description = "The notebook was deleted.", body = Success, example = json!({ "success": true }))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn remove(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Path(id): Path<Uuid>,
) -> Result<Response, ApiError> {
    super::remove::<Notebook>(&state, caller, id).await
}
