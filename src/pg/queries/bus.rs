//! The table through which nodes exchange broadcasts.

use crate::{
    model::NodeId,
    pg::{Connection, PgError, notification::BusSignal},
};

/// Inserts an encoded batch and notifies the other nodes.
///
/// # Errors
///
/// The database does not respond; the batch may have been delivered.
pub async fn post(client: &Connection, node: NodeId, payload: &[u8]) -> Result<(), PgError> {
    let statement = include_str!("../../../sql/channels/bus/post.sql");
    client.query(statement, &[&node, &payload]).await?;
    Ok(())
}

/// Reads entries by ID, in this order. Purged entries are left out.
///
/// # Errors
///
/// The database does not respond.
pub async fn read(client: &Connection, slots: &[i16], ids: &[i64]) -> Result<Vec<Vec<u8>>, PgError> {
    let statement = include_str!("../../../sql/channels/bus/read.sql");
    Ok(client.query(statement, &[&slots, &ids]).await?.iter().map(|row| row.get("payload")).collect())
}

/// Sends a signal to all nodes.
///
/// # Errors
///
/// The database does not respond.
pub async fn notify(client: &Connection, node: NodeId, signal: BusSignal) -> Result<(), PgError> {
    let body = format!("{node} {signal}");
    client.query(include_str!("../../../sql/channels/bus/notify.sql"), &[&body]).await?;
    Ok(())
}

/// Purges old entries. Returns false if it is not due.
///
/// # Errors
///
/// The database does not respond.
pub async fn purge(client: &Connection) -> Result<bool, PgError> {
    Ok(client.query_one(include_str!("../../../sql/channels/bus/tidy.sql"), &[]).await?.get(0))
}
