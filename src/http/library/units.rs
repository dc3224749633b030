//! Routes for units.

use axum::{extract::State, response::Response};
use garde::Validate;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
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

/// Returns the routes under `/api/v1/units`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(list, create)).routes(routes!(update, remove))
}

/// A unit of knowledge: a single statement.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Unit {
    /// ID of the unit (UUID).
    id: Uuid,
    /// Text of the unit: 1 to 20,000 characters.
    content: String,
    /// Type of the unit, such as `statement`; at most 64 characters.
    unit_type: String,
    /// Quality of the unit from 0 to 1.
    quality: f32,
    /// ID of the notebook that the unit belongs to (UUID); `null` without one.
    #[schema(required)]
    notebook_id: Option<Uuid>,
    /// Whether the unit is used in prompts.
    is_active: bool,
    /// Whether the server learned it from a message.
    is_learned: bool,
    /// ID of the conversation that it comes from (UUID).
    #[schema(required)]
    conversation_id: Option<Uuid>,
    /// ID of the message that it comes from (UUID).
    #[schema(required)]
    message_id: Option<Uuid>,
    /// Time of the statement.
    #[serde(serialize_with = "milliseconds::serialize")]
    created_at: Timestamp,
}

impl Stored for Unit {
    const LIST: &'static str = include_str!("../../../sql/library/list_units.sql");
    const CREATE: &'static str = include_str!("../../../sql/library/create_unit.sql");
    const UPDATE: &'static str = include_str!("../../../sql/library/update_unit.sql");
    const DELETE: &'static str = include_str!("../../../sql/library/delete_unit.sql");
}

/// Filters of a list of units.
#[derive(Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct Filters {
    /// Only units of this notebook (UUID).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    notebook_id: Option<Uuid>,
    /// Only units from this conversation (UUID).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    conversation_id: Option<Uuid>,
    /// Only units that were stored at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    from: Option<Timestamp>,
    /// Only units that were stored before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    until: Option<Timestamp>,
}

/// Returns the caller's units, newest first.
///
/// Units are single statements, most of them learned from messages.
#[utoipa::path(
    get, path = "/api/v1/units", operation_id = "listUnits", tag = "Memory", params(UserQuery, PageQuery, Filters),
    responses((status = 200, description = "One page of units.", body = Page<Unit>, example = json!({
        "data": [{"id": "d0000000-0000-4000-8000-000000000005", "content": "The tide turns at six.", "unitType": "statement", "quality": 0.5, "notebookId": null, "isActive": true, "isLearned": false, "conversationId": null, "messageId": null, "createdAt": "2026-11-21T12:00:00.000Z"}], "nextCursor": null,
    }))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn list(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Query(page): Query<PageQuery>,
    Query(filters): Query<Filters>,
) -> Result<Response, ApiError> {
    super::list::<Unit>(&state, caller, &page, &filters).await
}

/// A unit to store. Absent fields have their defaults.
#[derive(Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
struct NewUnit {
    /// Text of the unit: 1 to 20,000 characters.
    #[garde(length(chars, min = 1, max = 20_000))]
    #[schema(min_length = 1, max_length = 20_000)]
    content: String,
    /// Type of the unit, such as `statement`; at most 64 characters.
    #[garde(inner(length(chars, min = 1, max = 64)))]
    #[schema(nullable = false, min_length = 1, max_length = 64)]
    #[serde(skip_serializing_if = "Option::is_none")]
    unit_type: Option<String>,
    /// Quality of the unit from 0 to 1.
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schema(nullable = false, minimum = 0.0, maximum = 1.0)]
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<f32>,
    /// ID of the notebook that the unit belongs to (UUID); `null` without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    notebook_id: Option<Uuid>,
}

/// Stores a unit of the caller.
#[utoipa::path(
    post, path = "/api/v1/units", operation_id = "createUnit", tag = "Memory", params(UserQuery),
    request_body(content = NewUnit, example = json!({"content": "The tide turns at six."})),
    responses((status = 201, description = "The unit was stored.", body = Unit, example = json!({"id": "d0000000-0000-4000-8000-000000000005", "content": "The tide turns at six.", "unitType": "statement", "quality": 0.5, "notebookId": null, "isActive": true, "isLearned": false, "conversationId": null, "messageId": null, "createdAt": "2026-11-21T12:00:00.000Z"}))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn create(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    ValidJson(body): ValidJson<NewUnit>,
) -> Result<Response, ApiError> {
    super::create::<Unit>(&state, caller, &body).await
}

/// Changes of a unit. Absent fields stay.
#[derive(Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
struct UnitChanges {
    /// Text of the unit: 1 to 20,000 characters.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(chars, min = 1, max = 20_000)))]
    #[schema(nullable = false, min_length = 1, max_length = 20_000)]
    content: Option<String>,
    /// Type of the unit, such as `statement`; at most 64 characters.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(chars, min = 1, max = 64)))]
    #[schema(nullable = false, min_length = 1, max_length = 64)]
    unit_type: Option<String>,
    /// Quality of the unit from 0 to 1.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schema(nullable = false, minimum = 0.0, maximum = 1.0)]
    quality: Option<f32>,
    /// ID of the notebook that the unit belongs to (UUID); `null` without one.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    notebook_id: Option<Option<Uuid>>,
}

/// Changes a unit of the caller.
#[utoipa::path(
    patch, path = "/api/v1/units/{id}", operation_id = "updateUnit", tag = "Memory",
    params(("id" = Uuid, Path, description = "ID of the unit (UUID).", example = "d0000000-0000-4000-8000-000000000005"), UserQuery),
    request_body(content = UnitChanges, example = json!({"content": "The tide turns at six."})),
    responses((status = 200, description = "The unit after the change.", body = Unit, example = json!({"id": "d0000000-0000-4000-8000-000000000005", "content": "The tide turns at six.", "unitType": "statement", "quality": 0.5, "notebookId": null, "isActive": true, "isLearned": false, "conversationId": null, "messageId": null, "createdAt": "2026-11-21T12:00:00.000Z"}))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn update(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Path(id): Path<Uuid>,
    ValidJson(body): ValidJson<UnitChanges>,
) -> Result<Response, ApiError> {
    super::update::<Unit>(&state, caller, id, &body).await
}

/// Deletes a unit of the caller.
#[utoipa::path(
    delete, path = "/api/v1/units/{id}", operation_id = "deleteUnit", tag = "Memory",
    params(("id" = Uuid, Path, description = "ID of the unit (UUID).", example = "d0000000-0000-4000-8000-000000000005"), UserQuery),
    responses((status = 200, description = "The unit was deleted.", body = Success, example = json!({ "success": true }))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn remove(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Path(id): Path<Uuid>,
) -> Result<Response, ApiError> {
    super::remove::<Unit>(&state, caller, id).await
}
