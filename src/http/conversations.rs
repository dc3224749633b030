//! Conversations and who takes part.

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
    acting::{Acting, Managing},
    ids::{MOST_IDS, done},
};
use crate::{
    model::{ConversationId, UserId, neutralise},
    pg::{
        Database,
        queries::conversations::{self, Removal},
    },
    protocol::Fields,
};

/// The longest title, in characters; the database's rule.
const MOST_TITLE_CHARS: usize = 255;

/// `/api/conversations`.
pub fn routes() -> Router<HttpState> {
    Router::new()
        .route("/api/conversations", get(list).post(create))
        .route("/api/conversations/{id}/participants/{user_id}", post(add).delete(remove))
}

async fn list(
    State(database): State<Database>,
    Acting { caller, .. }: Acting,
) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(conversations::list(&database, &caller).await?))
}

/// Whoever begins a conversation takes part in it.
async fn create(
    State(database): State<Database>,
    Managing { caller, user, allowance }: Managing,
    Json(body): Json<Map<String, Value>>,
) -> Result<impl IntoResponse, ApiError> {
    let mut fields = Fields::new(&body, "");
    let title = fields.nullable_text(&["title"]).flatten();
    let others = fields.required_list::<UserId>(&["participant_ids", "participantIds"], MOST_IDS);
    let others = fields.finish_plain(others)?;
    let title = title.map(neutralise).filter(|title| !title.is_empty());
    if title.as_ref().is_some_and(|title| title.chars().count() > MOST_TITLE_CHARS) {
        return Err(ApiError::invalid("title", format!("must have at most {MOST_TITLE_CHARS} characters")));
    }
    let participants: Vec<UserId> =
        BTreeSet::from_iter(others.into_iter().chain([user])).into_iter().collect();
    let conversation = conversations::create(&database, &caller, title.as_deref(), &participants).await?;
    Ok((StatusCode::CREATED, allowance, Json(conversation)))
}

#[derive(Deserialize)]
struct Participant {
    id: ConversationId,
    user_id: UserId,
}

async fn add(
    State(database): State<Database>,
    Managing { caller, allowance, .. }: Managing,
    Path(Participant { id, user_id }): Path<Participant>,
) -> Result<impl IntoResponse, ApiError> {
    let conversation = conversations::add_participant(&database, &caller, id, user_id).await?;
    Ok((allowance, Json(conversation.ok_or(ApiError::NotFound)?)))
}

async fn remove(
    State(database): State<Database>,
    Managing { caller, allowance, .. }: Managing,
    Path(Participant { id, user_id }): Path<Participant>,
) -> Result<impl IntoResponse, ApiError> {
    match conversations::remove_participant(&database, &caller, id, user_id).await? {
        Removal::Done => Ok((allowance, done())),
        Removal::Refused => Err(ApiError::forbidden("only who began the conversation removes others")),
        Removal::NotThere => Err(ApiError::NotFound),
    }
}
