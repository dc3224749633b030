//! Routes for instructions.

use axum::{extract::State, response::Response};
use garde::Validate;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    super::{ApiError, HttpState, Path, Query, ValidJson, field_errors::given, ids::Success},
    LibraryCaller, Page, PageQuery, Stored, UserQuery,
};
use crate::model::milliseconds;

/// Returns the routes under `/api/v1/instructions`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(list, create)).routes(routes!(update, remove))
}

/// An instruction of a user.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Instruction {
    /// ID of the instruction (UUID).
    id: Uuid,
    /// Text of the instruction: 1 to 10,000 characters.
    content: String,
    /// ID of the topic that it applies to (UUID); `null` if it always applies.
    #[schema(required)]
    topic_id: Option<Uuid>,
    /// Instructions with a higher priority come first.
    priority: i32,
    /// Whether the instruction is used in prompts.
    is_active: bool,
    /// Time at which the instruction was stored.
    #[serde(serialize_with = "milliseconds::serialize")]
    created_at: Timestamp,
    /// Time of the last change of the row.
    #[serde(serialize_with = "milliseconds::serialize")]
    updated_at: Timestamp,
}

impl Stored for Instruction {
    const LIST: &'static str = include_str!("../../../sql/library/list_instructions.sql");
    const CREATE: &'static str = include_str!("../../../sql/library/create_instruction.sql");
    const UPDATE: &'static str = include_str!("../../../sql/library/update_instruction.sql");
    const DELETE: &'static str = include_str!("../../../sql/library/delete_instruction.sql");
}

/// Filters of a list of instructions.
#[derive(Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct Filters {
    /// Only active instructions, or only inactive ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    active: Option<bool>,
}

/// Returns the caller's instructions, newest first.
///
/// Instructions say how the user wants to be answered.
#[utoipa::path(
    get, path = "/api/v1/instructions", operation_id = "listInstructions", tag = "Memory", params(UserQuery, PageQuery, Filters),
    responses((status = 200, description = "One page of instructions.", body = Page<Instruction>, example = json!({
        "data": [{"id": "d0000000-0000-4000-8000-000000000002", "content": "Answer briefly.", "topicId": null, "priority": 0, "isActive": true, "createdAt": "2026-11-21T12:00:00.000Z", "updatedAt": "2026-11-21T12:00:00.000Z"}], "nextCursor": null,
    }))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn list(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Query(page): Query<PageQuery>,
    Query(filters): Query<Filters>,
) -> Result<Response, ApiError> {
    super::list::<Instruction>(&state, caller, &page, &filters).await
}

/// An instruction to store. Absent fields have their defaults.
#[derive(Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
struct NewInstruction {
    /// Text of the instruction: 1 to 10,000 characters.
    #[garde(length(chars, min = 1, max = 10_000))]
    #[schema(min_length = 1, max_length = 10_000)]
    content: String,
    /// ID of the topic that it applies to (UUID); `null` if it always applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic_id: Option<Uuid>,
    /// Instructions with a higher priority come first.
    #[garde(inner(range(min = -1_000_000, max = 1_000_000)))]
    #[schema(nullable = false, minimum = -1_000_000, maximum = 1_000_000)]
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i32>,
    /// Whether the instruction is used in prompts.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    is_active: Option<bool>,
}

/// Stores an instruction of the caller.
#[utoipa::path(
    post, path = "/api/v1/instructions", operation_id = "createInstruction", tag = "Memory", params(UserQuery),
    request_body(content = NewInstruction, example = json!({"content": "Answer briefly."})),
    responses((status = 201, description = "The instruction was stored.", body = Instruction, example = json!({"id": "d0000000-0000-4000-8000-000000000002", "content": "Answer briefly.", "topicId": null, "priority": 0, "isActive": true, "createdAt": "2026-11-21T12:00:00.000Z", "updatedAt": "2026-11-21T12:00:00.000Z"}))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn create(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    ValidJson(body): ValidJson<NewInstruction>,
) -> Result<Response, ApiError> {
    super::create::<Instruction>(&state, caller, &body).await
}

/// Changes of an instruction. Absent fields stay.
#[derive(Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
struct InstructionChanges {
    /// Text of the instruction: 1 to 10,000 characters.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(chars, min = 1, max = 10_000)))]
    #[schema(nullable = false, min_length = 1, max_length = 10_000)]
    content: Option<String>,
    /// Instructions with a higher priority come first.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = -1_000_000, max = 1_000_000)))]
    #[schema(nullable = false, minimum = -1_000_000, maximum = 1_000_000)]
    priority: Option<i32>,
    /// Whether the instruction is used in prompts.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    is_active: Option<bool>,
}

/// Changes an instruction of the caller.
#[utoipa::path(
    patch, path = "/api/v1/instructions/{id}", operation_id = "updateInstruction", tag = "Memory",
    params(("id" = Uuid, Path, description = "ID of the instruction (UUID).", example = "d0000000-0000-4000-8000-000000000002"), UserQuery),
    request_body(content = InstructionChanges, example = json!({"content": "Answer briefly."})),
    responses((status = 200, description = "The instruction after the change.", body = Instruction, example = json!({"id": "d0000000-0000-4000-8000-000000000002", "content": "Answer briefly.", "topicId": null, "priority": 0, "isActive": true, "createdAt": "2026-11-21T12:00:00.000Z", "updatedAt": "2026-11-21T12:00:00.000Z"}))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn update(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Path(id): Path<Uuid>,
    ValidJson(body): ValidJson<InstructionChanges>,
) -> Result<Response, ApiError> {
    super::update::<Instruction>(&state, caller, id, &body).await
}

/// Deletes an instruction of the caller.
#[utoipa::path(
    delete, path = "/api/v1/instructions/{id}", operation_id = "deleteInstruction", tag = "Memory",
    params(("id" = Uuid, Path, description = "ID of the instruction (UUID).", example = "d0000000-0000-4000-8000-000000000002"), UserQuery),
    responses((status = 200, description = "The instruction was deleted.", body = Success, example = json!({ "success": true }))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn remove(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Path(id): Path<Uuid>,
) -> Result<Response, ApiError> {
    super::remove::<Instruction>(&state, caller, id).await
}
