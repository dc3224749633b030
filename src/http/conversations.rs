//! Routes for conversations and their participants.

use std::collections::BTreeSet;

use axum::{extract::State, http::StatusCode, response::IntoResponse};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    ApiError, HttpState, Json, Path, ValidJson,
    contacts::require_built_in,
    ids::{MAX_IDS, Success},
    on_behalf_of::{OnBehalfOf, RateLimitedWrite, UserIdQuery},
};
use crate::{
    model::{Conversation, ConversationId, UserId, sanitize},
    pg::{
        Database,
        queries::{
            conversations::{self, RemovalOutcome},
            relations::Relation,
        },
    },
};

/// Maximum length of a title in characters; the database has the same limit.
const MAX_TITLE_CHARS: usize = 255;

/// Returns the routes under `/api/conversations`.
pub fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::default().routes(routes!(list, create)).routes(routes!(add, remove))
}

/// Returns the caller's conversations.
#[utoipa::path(
    get, path = "/api/conversations", operation_id = "conversations", tag = "Conversations", params(UserIdQuery),
    responses((status = 200, description = "Conversations of the caller, newest first.", body = Vec<Conversation>,
        example = json!([{
            "id": "c0000000-0000-4000-8000-000000000001", "title": "Harbour",
            "created_by": "a0000000-0000-4000-8000-000000000001", "created_at": "2026-11-20T09:00:00.000Z",
            "participant_ids": ["a0000000-0000-4000-8000-000000000001", "a0000000-0000-4000-8000-000000000002"],
        }]))),
    extensions(("x-errors" = json!([409]))),
)]
async fn list(
    State(database): State<Database>,
    OnBehalfOf { caller, .. }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Participants).await?;
    Ok(Json(conversations::list(&database, &caller).await?))
}

/// Title and participants of a new conversation.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct ConversationBody {
    /// Title of the conversation: at most 255 characters after trimming.
    #[garde(inner(custom(max_title_chars)))]
    #[schema(extensions(("x-max-length-after-trimming" = json!(255))))]
    title: Option<String>,
    /// IDs of the other participants: at most 1,000.
    #[serde(alias = "participantIds")]
    #[garde(length(max = MAX_IDS))]
    #[schema(max_items = 1_000)]
    participant_ids: Vec<UserId>,
}

// garde defines the signature.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "garde passes the context by reference")]
fn max_title_chars(title: &str, _: &()) -> garde::Result {
    if sanitize(title).chars().count() <= MAX_TITLE_CHARS {
        Ok(())
    } else {
        Err(garde::Error::new(format!("must have at most {MAX_TITLE_CHARS} characters")))
    }
}

/// Creates a conversation.
///
/// The creator becomes a participant.
#[utoipa::path(
    post, path = "/api/conversations", operation_id = "beginConversation", tag = "Conversations",
    params(UserIdQuery),
    request_body(content = ConversationBody, example = json!({
        "title": "Harbour", "participant_ids": ["a0000000-0000-4000-8000-000000000002"],
    })),
    responses((status = 201, description = "The conversation was created.", body = Conversation, example = json!({
        "id": "c0000000-0000-4000-8000-000000000001", "title": "Harbour",
        "created_by": "a0000000-0000-4000-8000-000000000001", "created_at": "2026-11-20T09:00:00.000Z",
        "participant_ids": ["a0000000-0000-4000-8000-000000000001", "a0000000-0000-4000-8000-000000000002"],
    }))),
    extensions(("x-errors" = json!([409])), ("x-rate-limit" = json!("manage"))),
)]
async fn create(
    State(database): State<Database>,
    RateLimitedWrite { caller, user, allowance }: RateLimitedWrite,
    ValidJson(body): ValidJson<ConversationBody>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Participants).await?;
    let title = body.title.as_deref().map(sanitize).filter(|title| !title.is_empty());
    let participants: Vec<UserId> =
        BTreeSet::from_iter(body.participant_ids.into_iter().chain([user])).into_iter().collect();
    let conversation = conversations::create(&database, &caller, title.as_deref(), &participants).await?;
    Ok((StatusCode::CREATED, allowance, Json(conversation)))
}

#[derive(Deserialize)]
struct ParticipantPath {
    id: ConversationId,
    user_id: UserId,
}

/// Adds a participant to a conversation.
#[utoipa::path(
    post, path = "/api/conversations/{id}/participants/{user_id}", operation_id = "addParticipant",
    tag = "Conversations",
    params(
        ("id" = ConversationId, Path, description = "ID of the conversation (UUID).", example = "c0000000-0000-4000-8000-000000000001"),
        ("user_id" = UserId, Path, description = "ID of the participant (UUID).", example = "a0000000-0000-4000-8000-000000000003"),
        UserIdQuery,
    ),
    responses((status = 200, description = "The conversation with the participant.", body = Conversation, example = json!({
        "id": "c0000000-0000-4000-8000-000000000001", "title": "Harbour",
        "created_by": "a0000000-0000-4000-8000-000000000001", "created_at": "2026-11-20T09:00:00.000Z",
        "participant_ids": ["a0000000-0000-4000-8000-000000000001", "a0000000-0000-4000-8000-000000000002"],
    }))),
    extensions(("x-errors" = json!([404, 409])), ("x-rate-limit" = json!("manage"))),
)]
async fn add(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Path(ParticipantPath { id, user_id }): Path<ParticipantPath>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Participants).await?;
    let conversation = conversations::add_participant(&database, &caller, id, user_id).await?;
    Ok((allowance, Json(conversation.ok_or(ApiError::NotFound)?)))
}

/// Removes a participant from a conversation, or leaves it.
///
/// Only the creator of a conversation may remove other participants.
#[utoipa::path(
    delete, path = "/api/conversations/{id}/participants/{user_id}", operation_id = "removeParticipant",
    tag = "Conversations",
    params(
        ("id" = ConversationId, Path, description = "ID of the conversation (UUID).", example = "c0000000-0000-4000-8000-000000000001"),
        ("user_id" = UserId, Path, description = "ID of the participant (UUID).", example = "a0000000-0000-4000-8000-000000000003"),
        UserIdQuery,
    ),
    responses((status = 200, description = "The participant was removed.", body = Success,
        example = json!({ "success": true }))),
    extensions(("x-errors" = json!([404, 409])), ("x-rate-limit" = json!("manage"))),
)]
async fn remove(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Path(ParticipantPath { id, user_id }): Path<ParticipantPath>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Participants).await?;
    match conversations::remove_participant(&database, &caller, id, user_id).await? {
        RemovalOutcome::Removed => Ok((allowance, Success::response())),
        RemovalOutcome::Forbidden => {
            Err(ApiError::forbidden("only the creator of a conversation may remove other participants"))
        }
        RemovalOutcome::NotFound => Err(ApiError::NotFound),
    }
}
