//! The outbox through which nodes tell each other what rooms say.

use crate::{
    model::NodeId,
    pg::{Connection, PgError},
};

/// Tells the other nodes something, at most once.
///
/// # Errors
///
/// When the database does not answer; then nobody knows whether they were told.
pub async fn post(client: &Connection, node: NodeId, payload: &[u8]) -> Result<(), PgError> {
    let statement = include_str!("../../../sql/channels/bus/post.sql");
    client.query(statement, &[&node, &payload]).await?;
    Ok(())
}

/// What stands at these ids, in their order; what has been emptied is left out.
///
/// # Errors
///
/// When the database does not answer.
pub async fn read(client: &Connection, slots: &[i16], ids: &[i64]) -> Result<Vec<Vec<u8>>, PgError> {
    let statement = include_str!("../../../sql/channels/bus/read.sql");
    Ok(client.query(statement, &[&slots, &ids]).await?.iter().map(|row| row.get("payload")).collect())
}

/// Says a word to all nodes.
///
/// # Errors
///
/// When the database does not answer.
pub async fn notify(client: &Connection, word: &str) -> Result<(), PgError> {
    client.query(include_str!("../../../sql/channels/bus/call.sql"), &[&word]).await?;
    Ok(())
}

/// Empties what is old. False when it was not the time for it.
///
/// # Errors
///
/// When the database does not answer.
pub async fn purge(client: &Connection) -> Result<bool, PgError> {
    Ok(client.query_one(include_str!("../../../sql/channels/bus/tidy.sql"), &[]).await?.get(0))
}
