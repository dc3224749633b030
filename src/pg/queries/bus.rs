//! The outbox through which nodes tell each other what rooms say.

use deadpool_postgres::GenericClient;

use crate::{model::NodeId, pg::PgError};

/// Tells the other nodes something, at most once.
///
/// # Errors
///
/// When the database does not answer; then nobody knows whether they were told.
pub async fn post(client: &impl GenericClient, node: NodeId, payload: &[u8]) -> Result<(), PgError> {
    let statement = client.prepare_cached(include_str!("../../../sql/channels/bus/post.sql")).await?;
    client.execute(&statement, &[&node, &payload]).await?;
    Ok(())
}

/// What stands at these ids, in their order; what has been emptied is left out.
///
/// # Errors
///
/// When the database does not answer.
pub async fn read(client: &impl GenericClient, slots: &[i16], ids: &[i64]) -> Result<Vec<Vec<u8>>, PgError> {
    let statement = client.prepare_cached(include_str!("../../../sql/channels/bus/read.sql")).await?;
    Ok(client.query(&statement, &[&slots, &ids]).await?.iter().map(|row| row.get("payload")).collect())
}

/// Says a word to all nodes.
///
/// # Errors
///
/// When the database does not answer.
pub async fn call(client: &impl GenericClient, word: &str) -> Result<(), PgError> {
    client.query(include_str!("../../../sql/channels/bus/call.sql"), &[&word]).await?;
    Ok(())
}

/// Empties what is old. False when it was not the time for it.
///
/// # Errors
///
/// When the database does not answer.
pub async fn tidy(client: &impl GenericClient) -> Result<bool, PgError> {
    Ok(client.query_one(include_str!("../../../sql/channels/bus/tidy.sql"), &[]).await?.get(0))
}
