//! Turns of a chat: the question as the caller, the answer as the server.

use postgres_types::Json;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::bundles::ReadError;
use crate::{
    auth::Principal,
    model::ConversationId,
    pg::{Database, PgError},
};

/// What came of beginning a turn.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BeginOutcome {
    /// The question is saved and waits for its answer.
    New {
        /// The question's row.
        question_id: Uuid,
        /// The answer's row.
        answer_id: Uuid,
    },
    /// It was answered before.
    Replay {
        /// The answer's row.
        answer_id: Uuid,
        /// The answer.
        content: String,
        /// What was kept beside it.
        metadata: Value,
        /// Whether it broke off.
        partial: bool,
    },
    /// It is being answered.
    Busy,
    /// The same key with another question.
    Mismatch,
}

/// Saves a question once and opens its answer.
///
/// # Errors
///
/// [`PgError::Denied`] for whoever takes no part in the conversation; otherwise as [`Database::query_as`].
pub async fn begin(
    database: &Database,
    caller: &Principal,
    conversation: ConversationId,
    content: &str,
    tokens: i32,
    key: Option<&str>,
) -> Result<BeginOutcome, ReadError> {
    let statement = include_str!("../../../sql/context/begin_turn.sql");
    let rows = database.query_as(caller, statement, &[&conversation, &content, &tokens, &key]).await?;
    let found: Value = rows.first().expect("the statement returns one row").get("found");
    Ok(serde_json::from_value(found)?)
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerStatus {
    /// As a whole.
    Complete,
    /// In the middle.
    Partial,
    /// Without a word.
    Failed,
}

impl AnswerStatus {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Failed => "failed",
        }
    }
}

/// Ends an answer; false where somebody else has.
///
/// # Errors
///
/// When the database does not answer.
pub async fn end(
    database: &Database,
    answer: Uuid,
    ending: AnswerStatus,
    content: &str,
    tokens: i32,
    metadata: &Value,
) -> Result<bool, PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/end_turn.sql");
    let rows =
        client.query_one(statement, &[&answer, &ending.as_str(), &content, &tokens, &Json(metadata)]).await?;
    Ok(rows.get(0))
}

/// Says that an answer is still being written.
///
/// # Errors
///
/// When the database does not answer.
pub async fn touch(database: &Database, answer: Uuid) -> Result<(), PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/touch_turn.sql");
    client.query(statement, &[&answer]).await?;
    Ok(())
}
