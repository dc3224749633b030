//! Typing states, as the caller: row-level security decides who may type and who may see it.

use jiff::Timestamp;

use crate::{
    auth::Principal,
    model::{ConversationKey, UserId},
    pg::{Connection, Database, PgError},
};

/// Starts or refreshes the caller's typing.
///
/// # Errors
///
/// [`PgError::PermissionDenied`] if the caller does not participate in the conversation or it does not exist.
pub async fn start(
    database: &Database,
    caller: &Principal,
    conversation: &ConversationKey,
) -> Result<(), PgError> {
    database
        .write_as(
            caller,
            include_str!("../../../sql/typing/start.sql"),
            &[&conversation.as_str(), &conversation.is_number()],
        )
        .await?;
    Ok(())
}

/// Ends the caller's typing; `false` if the caller does not participate in the conversation or it does not exist.
///
/// # Errors
///
/// If the database does not answer.
pub async fn stop(
    database: &Database,
    caller: &Principal,
    conversation: &ConversationKey,
) -> Result<bool, PgError> {
    let rows = database
        .write_as(caller, include_str!("../../../sql/typing/stop.sql"), &[&conversation.as_str()])
        .await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Users typing in a conversation and their last refresh, as far as the caller may see them. `None` if the caller does
/// not participate in the conversation or it does not exist.
///
/// # Errors
///
/// If the database does not answer.
pub async fn list(
    database: &Database,
    caller: &Principal,
    conversation: &ConversationKey,
) -> Result<Option<Vec<(UserId, Timestamp)>>, PgError> {
    let rows = database
        .query_as(caller, include_str!("../../../sql/typing/list.sql"), &[&conversation.as_str()])
        .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let typing = rows.iter().filter_map(|row| Some((row.get::<_, Option<UserId>>(0)?, row.get(1))));
    Ok(Some(typing.collect()))
}

/// Ends typing that was not refreshed. Returns the milliseconds until the next expiry, `None` if nobody is typing.
///
/// # Errors
///
/// If the database does not answer.
pub async fn expire(client: &Connection) -> Result<Option<f64>, PgError> {
    let statement = include_str!("../../../sql/typing/expire.sql");
    Ok(client.query_one(statement, &[]).await?.get(0))
}
