//! Chat turns: the question is written as the caller, the answer as the server.

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

/// Result of [`begin`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BeginOutcome {
    /// The question is saved and has no answer yet.
    New {
        /// Message ID of the question.
        question_id: Uuid,
        /// Message ID of the answer.
        answer_id: Uuid,
    },
    /// This idempotency key already has an answer.
    Replay {
        /// Message ID of the answer.
        answer_id: Uuid,
        content: String,
        /// Stored metadata of the answer: model, usage, engine.
        metadata: Value,
        /// Whether the answer is incomplete.
        partial: bool,
    },
    /// The answer is in progress.
    Busy,
    /// The idempotency key was used with another question.
    Mismatch,
}

/// Saves a question once and creates the row of its answer.
///
/// # Errors
///
/// [`PgError::PermissionDenied`] if the caller is not a participant of the conversation.
pub async fn begin(
    database: &Database,
    caller: &Principal,
    conversation: ConversationId,
    content: &str,
    tokens: i32,
    key: Option<&str>,
) -> Result<BeginOutcome, ReadError> {
    let statement = include_str!("../../../sql/context/begin_turn.sql");
    let rows = database.write_as(caller, statement, &[&conversation, &content, &tokens, &key]).await?;
    let json: Value = rows.first().expect("the statement returns one row").get("found");
    Ok(serde_json::from_value(json)?)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerStatus {
    Complete,
    /// Interrupted after some text.
    Partial,
    /// Ended without any text.
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

/// Stores the final state of an answer. False if it was already ended.
pub async fn end(
    database: &Database,
    answer: Uuid,
    status: AnswerStatus,
    content: &str,
    tokens: i32,
    metadata: &Value,
) -> Result<bool, PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/end_turn.sql");
    let rows =
        client.write_one(statement, &[&answer, &status.as_str(), &content, &tokens, &Json(metadata)]).await?;
    Ok(rows.get(0))
}

/// Extends the time until an answer in progress counts as abandoned.
pub async fn touch(database: &Database, answer: Uuid) -> Result<(), PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/touch_turn.sql");
    client.query(statement, &[&answer]).await?;
    Ok(())
}
