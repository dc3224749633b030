//! Conversations and their participants, as far as typing and chat need them.

use tokio_postgres::Row;

use crate::{
    auth::Principal,
    model::{Conversation, ConversationId, UserId},
    pg::{Database, PgError},
};

impl From<&Row> for Conversation {
    fn from(row: &Row) -> Self {
        Self {
            id: row.get("id"),
            title: row.get("title"),
            created_by: row.get("created_by"),
            created_at: row.get("created_at"),
            participant_ids: row.get("participant_ids"),
        }
    }
}

const LIST: &str = include_str!("../../../sql/conversations/list.sql");
const ADD: &str = include_str!("../../../sql/conversations/add.sql");

/// The caller's conversations, newest first.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn list(database: &Database, caller: &Principal) -> Result<Vec<Conversation>, PgError> {
    let rows = database.query_as(caller, LIST, &[&None::<ConversationId>]).await?;
    Ok(rows.iter().map(Conversation::from).collect())
}

/// Creates a conversation with these participants.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn create(
    database: &Database,
    caller: &Principal,
    title: Option<&str>,
    participants: &[UserId],
) -> Result<Conversation, PgError> {
    let tx = database.begin_as(caller).await?;
    let created = tx.query(include_str!("../../../sql/conversations/create.sql"), &[&title]).await?;
    let id: ConversationId = created.first().expect("an insert without a conflict returns its row").get("id");
    tx.query(ADD, &[&id, &participants]).await?;
    let rows = tx.query(LIST, &[&Some(id)]).await?;
    tx.commit().await?;
    Ok(rows.first().map(Conversation::from).expect("the creator sees the conversation"))
}

/// Adds a participant. `None` if the caller does not see such a conversation.
///
/// # Errors
///
/// [`PgError::PermissionDenied`] if the caller may not add participants; otherwise as [`Database::query_as`].
pub async fn add_participant(
    database: &Database,
    caller: &Principal,
    id: ConversationId,
    user: UserId,
) -> Result<Option<Conversation>, PgError> {
    let tx = database.begin_as(caller).await?;
    // Checked first, so that a caller who does not see the conversation cannot distinguish "forbidden" from "not
    // found".
    if tx.query(LIST, &[&Some(id)]).await?.is_empty() {
        return Ok(None);
    }
    tx.query(ADD, &[&id, &vec![user]]).await?;
    let rows = tx.query(LIST, &[&Some(id)]).await?;
    tx.commit().await?;
    Ok(rows.first().map(Conversation::from))
}

/// Result of removing a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovalOutcome {
    /// The participant was removed.
    Removed,
    /// The caller sees the participant but may not remove it.
    Forbidden,
    /// The caller sees no such participant.
    NotFound,
}

/// Removes a participant.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn remove_participant(
    database: &Database,
    caller: &Principal,
    id: ConversationId,
    user: UserId,
) -> Result<RemovalOutcome, PgError> {
    let statement = include_str!("../../../sql/conversations/remove.sql");
    let rows = database.write_as(caller, statement, &[&id, &user]).await?;
    let row = rows.first().expect("the statement returns one row");
    Ok(match (row.get("removed"), row.get("visible")) {
        (true, _) => RemovalOutcome::Removed,
        (false, true) => RemovalOutcome::Forbidden,
        (false, false) => RemovalOutcome::NotFound,
    })
}
