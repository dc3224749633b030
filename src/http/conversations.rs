//! Routes for conversations and their participants.

use std::collections::BTreeSet;

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    ApiError, HttpState, Json, Path,
    contacts::require_built_in,
    ids::{MAX_IDS, success},
    on_behalf_of::{OnBehalfOf, RateLimitedWrite},
};
use crate::{
    model::{ConversationId, UserId, sanitize},
    pg::{
        Database,
        queries::{
            conversations::{self, RemovalOutcome},
            relations::Relation,
        },
    },
    protocol::Fields,
};

/// Maximum length of a title in characters; the database has the same limit.
const MAX_TITLE_CHARS: usize = 255;

/// Routes under `/api/conversations`.
pub fn routes() -> Router<HttpState> {
    Router::new()
        .route("/api/conversations", get(list).post(create))
        .route("/api/conversations/{id}/participants/{user_id}", post(add).delete(remove))
}

async fn list(
    State(database): State<Database>,
    OnBehalfOf { caller, .. }: OnBehalfOf,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Participants).await?;
    Ok(Json(conversations::list(&database, &caller).await?))
}

/// The creator becomes a participant.
async fn create(
    State(database): State<Database>,
    RateLimitedWrite { caller, user, allowance }: RateLimitedWrite,
    Json(body): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Participants).await?;
    let mut fields = Fields::new(&body, "");
    let title = fields.nullable_text(&["title"]).flatten();
    let others = fields.required_list::<UserId>(&["participant_ids", "participantIds"], MAX_IDS);
    let others = fields.finish_plain(others)?;
    let title = title.map(sanitize).filter(|title| !title.is_empty());
    if title.as_ref().is_some_and(|title| title.chars().count() > MAX_TITLE_CHARS) {
        return Err(ApiError::invalid("title", format!("must have at most {MAX_TITLE_CHARS} characters")));
    }
    let participants: Vec<UserId> =
        BTreeSet::from_iter(others.into_iter().chain([user])).into_iter().collect();
    let conversation = conversations::create(&database, &caller, title.as_deref(), &participants).await?;
    Ok((StatusCode::CREATED, allowance, Json(conversation)))
}

#[derive(Deserialize)]
struct ParticipantPath {
    id: ConversationId,
    user_id: UserId,
}

async fn add(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Path(ParticipantPath { id, user_id }): Path<ParticipantPath>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Participants).await?;
    let conversation = conversations::add_participant(&database, &caller, id, user_id).await?;
    Ok((allowance, Json(conversation.ok_or(ApiError::NotFound)?)))
}

async fn remove(
    State(database): State<Database>,
    RateLimitedWrite { caller, allowance, .. }: RateLimitedWrite,
    Path(ParticipantPath { id, user_id }): Path<ParticipantPath>,
) -> Result<impl IntoResponse, ApiError> {
    require_built_in(&database, Relation::Participants).await?;
    match conversations::remove_participant(&database, &caller, id, user_id).await? {
        RemovalOutcome::Removed => Ok((allowance, success())),
        RemovalOutcome::Forbidden => {
            Err(ApiError::forbidden("only the creator of a conversation may remove other participants"))
        }
        RemovalOutcome::NotFound => Err(ApiError::NotFound),
    }
}
