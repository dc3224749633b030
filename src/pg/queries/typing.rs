//! Typing, as the caller: row-level security says who may type where and who may see it.

use jiff::Timestamp;

use crate::{
    auth::Principal,
    model::{ConversationId, UserId},
    pg::{Connection, Database, PgError},
};

/// The caller types, or types on.
///
/// # Errors
///
/// [`PgError::Denied`] where the caller takes no part in the conversation, or there is none.
pub async fn start(
    database: &Database,
    caller: &Principal,
    conversation: ConversationId,
) -> Result<(), PgError> {
    database.query_as(caller, include_str!("../../../sql/typing/start.sql"), &[&conversation]).await?;
    Ok(())
}

/// The caller has stopped typing; false where the caller takes no part in the conversation, or there is none.
///
/// # Errors
///
/// When the database does not answer.
pub async fn stop(
    database: &Database,
    caller: &Principal,
    conversation: ConversationId,
) -> Result<bool, PgError> {
    let rows =
        database.query_as(caller, include_str!("../../../sql/typing/stop.sql"), &[&conversation]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Who types in a conversation and since when it was told, as far as the caller may see; `None` where the caller
/// takes no part in it, or there is none.
///
/// # Errors
///
/// When the database does not answer.
pub async fn list(
    database: &Database,
    caller: &Principal,
    conversation: ConversationId,
) -> Result<Option<Vec<(UserId, Timestamp)>>, PgError> {
    let rows =
        database.query_as(caller, include_str!("../../../sql/typing/list.sql"), &[&conversation]).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let typing = rows.iter().filter_map(|row| Some((row.get::<_, Option<UserId>>(0)?, row.get(1))));
    Ok(Some(typing.collect()))
}

/// Ends typing that was not refreshed; milliseconds until the next is due, `None` when nobody types.
///
/// # Errors
///
/// When the database does not answer.
pub async fn expire(client: &Connection) -> Result<Option<f64>, PgError> {
    let statement = include_str!("../../../sql/typing/expire.sql");
    Ok(client.query_one(statement, &[]).await?.get(0))
}
