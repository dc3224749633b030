//! Routes for messages of conversations and for their summary.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    super::{ApiError, HttpState, Json, Path, Query, ids::Success},
    LibraryCaller, Page, PageQuery, UserQuery,
};
use crate::{
    context::store::library,
    model::{ConversationId, UserId, milliseconds},
};

/// Returns the routes for messages and summaries.
pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(remove)).routes(routes!(summarize))
}

/// A message in a conversation.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StoredMessage)]
struct Message {
    /// ID of the message (UUID).
    id: Uuid,
    /// ID of the conversation (UUID).
    conversation_id: ConversationId,
    /// ID of the author (UUID); of a model's message, the user that asked.
    user_id: UserId,
    /// Author of the message: `user`, `assistant` or `system`.
    role: String,
    /// Text of the message.
    content: String,
    /// State of the message: `complete`, or `partial` if the answer was interrupted.
    state: String,
    /// ID of the message that it answers (UUID).
    #[schema(required)]
    reply_to: Option<Uuid>,
    /// Time at which the message was stored.
    #[serde(serialize_with = "milliseconds::serialize")]
    created_at: Timestamp,
}

/// Returns messages of a conversation, newest first.
#[utoipa::path(
    get, path = "/api/v1/conversations/{conversation_id}/messages", operation_id = "listMessages", tag = "Memory",
    params(("conversation_id" = ConversationId, Path, description = "ID of the conversation (UUID).",
        example = "c0000000-0000-4000-8000-000000000001"), UserQuery, PageQuery),
    responses((status = 200, description = "One page of messages.", body = Page<Message>, example = json!({
        "data": [{
            "id": "d0000000-0000-4000-8000-000000000008", "conversationId": "c0000000-0000-4000-8000-000000000001",
            "userId": "a0000000-0000-4000-8000-000000000001", "role": "user", "content": "When does the tide turn?",
            "state": "complete", "replyTo": null, "createdAt": "2026-11-21T12:00:00.000Z",
        }],
        "nextCursor": null,
    }))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn list(
    State(state): State<HttpState>,
    LibraryCaller { caller, allowance, .. }: LibraryCaller,
    Path(conversation): Path<ConversationId>,
    Query(page): Query<PageQuery>,
) -> Result<Response, ApiError> {
    const FIND: &str = include_str!("../../../sql/library/find_conversation.sql");
    const LIST: &str = include_str!("../../../sql/library/list_messages.sql");
    let (limit, after) = (page.limit()?, page.after()?);
    let rows =
        library::list::<Message>(&state.database, &caller, LIST, after, limit + 1, &conversation).await?;
    if rows.is_empty()
        && library::read::<Uuid>(&state.database, &caller, FIND, &[&conversation]).await?.is_empty()
    {
        return Err(ApiError::NotFound);
    }
    Ok((allowance, Json(super::page_of(rows, limit))).into_response())
}

/// Deletes a message of the caller, or a model's answer to the caller.
///
/// The units that were learned from it are deleted too.
#[utoipa::path(
    delete, path = "/api/v1/messages/{id}", operation_id = "deleteMessage", tag = "Memory",
    params(("id" = Uuid, Path, description = "ID of the message (UUID).", example = "d0000000-0000-4000-8000-000000000008"),
        UserQuery),
    responses((status = 200, description = "The message was deleted.", body = Success, example = json!({ "success": true }))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn remove(
    State(state): State<HttpState>,
    LibraryCaller { caller, allowance, .. }: LibraryCaller,
    Path(id): Path<Uuid>,
) -> Result<Response, ApiError> {
    const DELETE: &str = include_str!("../../../sql/library/delete_message.sql");
    if library::delete(&state.database, &caller, DELETE, id).await? {
        Ok((allowance, Success::response()).into_response())
    } else {
        Err(ApiError::NotFound)
    }
}

/// Summary of a conversation.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Summary {
    /// ID of the conversation (UUID).
    conversation_id: ConversationId,
    /// Summary as Markdown, by a model or of the most important sentences; empty without messages.
    summary: String,
}

/// Returns the summary of a conversation.
#[utoipa::path(
    get, path = "/api/v1/conversations/{conversation_id}/summary", operation_id = "conversationSummary", tag = "Memory",
    params(("conversation_id" = ConversationId, Path, description = "ID of the conversation (UUID).",
        example = "c0000000-0000-4000-8000-000000000001"), UserQuery),
    responses((status = 200, description = "The summary of the conversation.", body = Summary, example = json!({
        "conversationId": "c0000000-0000-4000-8000-000000000001",
        "summary": "## Current Conversation\n\"Harbour\", begun on 2026-11-21, 1 messages.",
    }))),
    extensions(("x-errors" = json!([404])), ("x-rate-limit" = json!("manage"))),
)]
async fn summarize(
    State(state): State<HttpState>,
    LibraryCaller { caller, user, allowance }: LibraryCaller,
    Path(conversation_id): Path<ConversationId>,
) -> Result<Response, ApiError> {
    let summary = state.context.summary(&caller, user, conversation_id).await?.ok_or(ApiError::NotFound)?;
    Ok((allowance, Json(Summary { conversation_id, summary })).into_response())
}
