//! Conversations and who takes part: the minimum for typing and chat.

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

/// Begins a conversation with these participants.
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
    Ok(rows.first().map(Conversation::from).expect("its creator sees a conversation"))
}

/// Adds a participant. `None` where the caller sees no such conversation.
///
/// # Errors
///
/// [`PgError::Denied`] for whoever may not; otherwise as [`Database::query_as`].
pub async fn add_participant(
    database: &Database,
    caller: &Principal,
    id: ConversationId,
    user: UserId,
) -> Result<Option<Conversation>, PgError> {
    let tx = database.begin_as(caller).await?;
    // Looked at first, so that whoever does not see it cannot tell "not allowed" from "not there".
    if tx.query(LIST, &[&Some(id)]).await?.is_empty() {
        return Ok(None);
    }
    tx.query(ADD, &[&id, &vec![user]]).await?;
    let rows = tx.query(LIST, &[&Some(id)]).await?;
    tx.commit().await?;
    Ok(rows.first().map(Conversation::from))
}

/// What came of removing somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovalOutcome {
    /// Removed.
    Removed,
    /// The caller sees that participant, and may not remove it.
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
    let rows = database.query_as(caller, statement, &[&id, &user]).await?;
    let row = rows.first().expect("the statement returns one row");
    Ok(match (row.get("removed"), row.get("visible")) {
        (true, _) => RemovalOutcome::Removed,
        (false, true) => RemovalOutcome::Forbidden,
        (false, false) => RemovalOutcome::NotFound,
    })
}
