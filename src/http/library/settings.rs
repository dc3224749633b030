//! Routes for what the server learns from the caller's messages, and for forgetting it.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    super::{ApiError, HttpState, Json, ValidJson},
    LibraryCaller, UserQuery,
};
use crate::{context::store::library, model::ConversationId};

/// Returns the routes under `/api/v1/memory`.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(list, set)).routes(routes!(forget))
}

/// Whether the server learns from messages, in one conversation or in all.
#[derive(Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase")]
#[garde(allow_unvalidated)]
struct MemorySetting {
    /// ID of the conversation (UUID); `null` for all conversations.
    #[schema(required = false)]
    conversation_id: Option<ConversationId>,
    /// Whether the server learns from the messages of the user there.
    learns: bool,
    /// ID of the notebook that what is learned there belongs to (UUID).
    #[schema(required = false)]
    notebook_id: Option<Uuid>,
}

/// Settings of a user's memory.
#[derive(Serialize, ToSchema)]
struct MemorySettings {
    /// Settings that differ from the default: for all conversations first.
    data: Vec<MemorySetting>,
}

/// Returns where the server learns from the caller's messages.
///
/// Without a setting, it learns from all.
#[utoipa::path(
    get, path = "/api/v1/memory/settings", operation_id = "memorySettings", tag = "Memory", params(UserQuery),
    responses((status = 200, description = "The settings, at most 1,000.", body = MemorySettings, example = json!({
        "data": [{ "conversationId": null, "learns": true, "notebookId": null }],
    }))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn list(
    State(state): State<HttpState>,
    LibraryCaller { caller, allowance, .. }: LibraryCaller,
) -> Result<Response, ApiError> {
    const LIST: &str = include_str!("../../../sql/library/memory_settings.sql");
    let data = library::read(&state.database, &caller, LIST, &[]).await?;
    Ok((allowance, Json(MemorySettings { data })).into_response())
}

/// Sets whether the server learns from the caller's messages.
#[utoipa::path(
    put, path = "/api/v1/memory/settings", operation_id = "setMemory", tag = "Memory", params(UserQuery),
    request_body(content = MemorySetting, example = json!({
        "conversationId": "c0000000-0000-4000-8000-000000000001", "learns": false,
    })),
    responses((status = 200, description = "The setting as it is stored.", body = MemorySetting, example = json!({
        "conversationId": "c0000000-0000-4000-8000-000000000001", "learns": false, "notebookId": null,
    }))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn set(
    State(state): State<HttpState>,
    LibraryCaller { caller, allowance, .. }: LibraryCaller,
    ValidJson(body): ValidJson<MemorySetting>,
) -> Result<Response, ApiError> {
    const SET: &str = include_str!("../../../sql/library/set_memory.sql");
    let stored: MemorySetting = library::create(&state.database, &caller, SET, &body).await?;
    Ok((allowance, Json(stored)).into_response())
}

/// Numbers of what was forgotten.
#[derive(Serialize, Deserialize, ToSchema)]
struct Forgotten {
    /// Number of deleted memories.
    memories: i64,
    /// Number of deleted units that were learned from messages.
    units: i64,
}

/// Forgets all memories of the caller and everything that was learned.
///
/// Messages remain, and are not learned from again. `DELETE /api/presence/me` erases everything about a user.
#[utoipa::path(
    delete, path = "/api/v1/memory", operation_id = "forgetMemory", tag = "Memory", params(UserQuery),
    responses((status = 200, description = "The memories were deleted.", body = Forgotten,
        example = json!({ "memories": 1, "units": 1 }))),
    extensions(("x-rate-limit" = json!("manage"))),
)]
async fn forget(
    State(state): State<HttpState>,
    LibraryCaller { caller, allowance, .. }: LibraryCaller,
) -> Result<Response, ApiError> {
    const FORGET: &str = include_str!("../../../sql/library/forget_memory.sql");
    let forgotten: Forgotten = library::create(&state.database, &caller, FORGET, &()).await?;
    Ok((allowance, Json(forgotten)).into_response())
}
