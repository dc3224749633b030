//! Routes for memories.

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

/// Returns the routes under `/api/v1/memories`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(list, create)).routes(routes!(update, remove))
}

/// A memory of a user.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Memory {
    /// ID of the memory (UUID).
    id: Uuid,
    /// Text of the memory: 1 to 10,000 characters.
    content: String,
    /// Category: `biography`, `identity` and `role` describe the user, `preference` what they like; at most 64
    /// characters.
    category: String,
    /// Importance of the memory from 0 to 1.
    importance: f32,
    /// Whether the memory is used in prompts.
    is_active: bool,
    /// Whether the memory is in every prompt and never superseded.
    is_pinned: bool,
    /// ID of the notebook that the memory belongs to (UUID); `null` without one.
    #[schema(required)]
    notebook_id: Option<Uuid>,
    /// Whether the server learned it from a message.
    is_learned: bool,
    /// ID of the conversation that it was learned in (UUID).
    #[schema(required)]
    conversation_id: Option<Uuid>,
    /// ID of the message that it was learned from (UUID).
    #[schema(required)]
    message_id: Option<Uuid>,
    /// Time since which the memory is valid.
    #[serde(serialize_with = "milliseconds::serialize")]
    valid_from: Timestamp,
    /// Time at which a newer memory superseded it.
    #[schema(required)]
    #[serde(serialize_with = "milliseconds::option")]
    valid_until: Option<Timestamp>,
    /// ID of the memory that superseded it (UUID).
    #[schema(required)]
    superseded_by: Option<Uuid>,
    /// Time at which the memory was stored.
    #[serde(serialize_with = "milliseconds::serialize")]
    created_at: Timestamp,
    /// Time of the last change of the row.
    #[serde(serialize_with = "milliseconds::serialize")]
    updated_at: Timestamp,
}

impl Stored for Memory {
    const LIST: &'static str = include_str!("../../../sql/library/list_memories.sql");
    const CREATE: &'static str = include_str!("../../../sql/library/create_memory.sql");
    const UPDATE: &'static str = include_str!("../../../sql/library/update_memory.sql");
    const DELETE: &'static str = include_str!("../../../sql/library/delete_memory.sql");
}

/// Filters of a list of memories.
#[derive(Serialize, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct Filters {
    /// Only active memories, or only inactive ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    active: Option<bool>,
    /// Only memories of this category.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false, max_length = 64)]
    category: Option<String>,
    /// Only memories of this notebook (UUID).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    notebook_id: Option<Uuid>,
    /// Only memories from this conversation (UUID).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    conversation_id: Option<Uuid>,
    /// Only memories that were stored at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    from: Option<Timestamp>,
    /// Only memories that were stored before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(nullable = false)]
    until: Option<Timestamp>,
}

/// Returns the caller's memories, newest first.
///
/// Memories are facts about the user: written by the user or the application, or learned from messages.
#[utoipa::path(
    get, path = "/api/v1/memories", operation_id = "listMemories", tag = "Memory", params(UserQuery, PageQuery, Filters),
    responses((status = 200, description = "One page of memories.", body = Page<Memory>, example = json!({
        "data": [{"id": "d0000000-0000-4000-8000-000000000001", "content": "Is a harbour pilot.", "category": "identity", "importance": 0.5, "isActive": true, "isPinned": false, "notebookId": null, "isLearned": false, "conversationId": null, "messageId": null, "validFrom": "2026-11-21T12:00:00.000Z", "validUntil": null, "supersededBy": null, "createdAt": "2026-11-21T12:00:00.000Z", "updatedAt": "2026-11-21T12:00:00.000Z"}], "nextCursor": null,
    }))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn list(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Query(page): Query<PageQuery>,
    Query(filters): Query<Filters>,
) -> Result<Response, ApiError> {
    super::list::<Memory>(&state, caller, &page, &filters).await
}

/// A memory to store. Absent fields have their defaults.
#[derive(Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
struct NewMemory {
    /// Text of the memory: 1 to 10,000 characters.
    #[garde(length(chars, min = 1, max = 10_000))]
    #[schema(min_length = 1, max_length = 10_000)]
    content: String,
    /// Category: `biography`, `identity` and `role` describe the user, `preference` what they like; at most 64
    /// characters.
    #[garde(inner(length(chars, min = 1, max = 64)))]
    #[schema(nullable = false, min_length = 1, max_length = 64)]
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    /// Importance of the memory from 0 to 1.
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schema(nullable = false, minimum = 0.0, maximum = 1.0)]
    #[serde(skip_serializing_if = "Option::is_none")]
    importance: Option<f32>,
    /// Whether the memory is used in prompts.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    is_active: Option<bool>,
    /// Whether the memory is in every prompt and never superseded.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    is_pinned: Option<bool>,
    /// ID of the notebook that the memory belongs to (UUID); `null` without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    notebook_id: Option<Uuid>,
}

/// Stores a memory of the caller.
#[utoipa::path(
    post, path = "/api/v1/memories", operation_id = "createMemory", tag = "Memory", params(UserQuery),
    request_body(content = NewMemory, example = json!({"content": "Is a harbour pilot."})),
    responses((status = 201, description = "The memory was stored.", body = Memory, example = json!({"id": "d0000000-0000-4000-8000-000000000001", "content": "Is a harbour pilot.", "category": "identity", "importance": 0.5, "isActive": true, "isPinned": false, "notebookId": null, "isLearned": false, "conversationId": null, "messageId": null, "validFrom": "2026-11-21T12:00:00.000Z", "validUntil": null, "supersededBy": null, "createdAt": "2026-11-21T12:00:00.000Z", "updatedAt": "2026-11-21T12:00:00.000Z"}))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn create(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    ValidJson(body): ValidJson<NewMemory>,
) -> Result<Response, ApiError> {
    super::create::<Memory>(&state, caller, &body).await
}

/// Changes of a memory. Absent fields stay.
#[derive(Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
struct MemoryChanges {
    /// Text of the memory: 1 to 10,000 characters.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(chars, min = 1, max = 10_000)))]
    #[schema(nullable = false, min_length = 1, max_length = 10_000)]
    content: Option<String>,
    /// Category: `biography`, `identity` and `role` describe the user, `preference` what they like; at most 64
    /// characters.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(chars, min = 1, max = 64)))]
    #[schema(nullable = false, min_length = 1, max_length = 64)]
    category: Option<String>,
    /// Importance of the memory from 0 to 1.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 0.0, max = 1.0)))]
    #[schema(nullable = false, minimum = 0.0, maximum = 1.0)]
    importance: Option<f32>,
    /// Whether the memory is used in prompts.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    is_active: Option<bool>,
    /// Whether the memory is in every prompt and never superseded.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    is_pinned: Option<bool>,
    /// ID of the notebook that the memory belongs to (UUID); `null` without one.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    notebook_id: Option<Option<Uuid>>,
}

/// Changes a memory of the caller.
#[utoipa::path(
    patch, path = "/api/v1/memories/{id}", operation_id = "updateMemory", tag = "Memory",
    params(("id" = Uuid, Path, description = "ID of the memory (UUID).", example = "d0000000-0000-4000-8000-000000000001"), UserQuery),
    request_body(content = MemoryChanges, example = json!({"content": "Is a harbour pilot."})),
    responses((status = 200, description = "The memory after the change.", body = Memory, example = json!({"id": "d0000000-0000-4000-8000-000000000001", "content": "Is a harbour pilot.", "category": "identity", "importance": 0.5, "isActive": true, "isPinned": false, "notebookId": null, "isLearned": false, "conversationId": null, "messageId": null, "validFrom": "2026-11-21T12:00:00.000Z", "validUntil": null, "supersededBy": null, "createdAt": "2026-11-21T12:00:00.000Z", "updatedAt": "2026-11-21T12:00:00.000Z"}))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn update(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Path(id): Path<Uuid>,
    ValidJson(body): ValidJson<MemoryChanges>,
) -> Result<Response, ApiError> {
    super::update::<Memory>(&state, caller, id, &body).await
}

/// Deletes a memory of the caller.
///
/// The learned units of its message are deleted too, so that it is not found by its words.
#[utoipa::path(
    delete, path = "/api/v1/memories/{id}", operation_id = "deleteMemory", tag = "Memory",
    params(("id" = Uuid, Path, description = "ID of the memory (UUID).", example = "d0000000-0000-4000-8000-000000000001"), UserQuery),
    responses((status = 200, description = "The memory was deleted.", body = Success, example = json!({ "success": true }))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn remove(
    State(state): State<HttpState>,
    caller: LibraryCaller,
    Path(id): Path<Uuid>,
) -> Result<Response, ApiError> {
    super::remove::<Memory>(&state, caller, id).await
}
