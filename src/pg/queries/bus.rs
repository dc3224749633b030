//! The table through which nodes exchange broadcasts.

use tokio_postgres::Row;

use crate::{
    model::NodeId,
    pg::{Connection, PgError, notification::BusSignal},
};

/// A batch of messages as the table has it.
#[derive(Debug)]
pub struct BusEntry {
    pub id: i64,
    /// The node that sent the batch.
    pub node: NodeId,
    /// Number of the batch on its node, increasing. A batch whose write failed may exist twice.
    pub batch: i64,
    /// The encoded messages of one batch.
    pub payload: Vec<u8>,
}

impl From<&Row> for BusEntry {
    fn from(row: &Row) -> Self {
        Self {
            id: row.get("id"),
            node: row.get("node"),
            batch: row.get("batch"),
            payload: row.get("payload"),
        }
    }
}

/// Inserts an encoded batch and notifies the other nodes.
///
/// # Errors
///
/// The database does not respond; the batch may have been delivered.
pub async fn post(client: &Connection, node: NodeId, batch: i64, payload: &[u8]) -> Result<(), PgError> {
    let statement = include_str!("../../../sql/channels/bus/post.sql");
    client.query(statement, &[&node, &batch, &payload]).await?;
    Ok(())
}

/// Reads entries by ID, in this order. Purged entries are left out.
///
/// # Errors
///
/// The database does not respond.
pub async fn read(client: &Connection, slots: &[i16], ids: &[i64]) -> Result<Vec<BusEntry>, PgError> {
    let statement = include_str!("../../../sql/channels/bus/read.sql");
    Ok(client.query(statement, &[&slots, &ids]).await?.iter().map(BusEntry::from).collect())
}

/// Reads up to 16 entries of other nodes with a higher ID, in the order of their IDs.
///
/// # Errors
///
/// The database does not respond.
pub async fn read_after(client: &Connection, id: i64, own: NodeId) -> Result<Vec<BusEntry>, PgError> {
    let statement = include_str!("../../../sql/channels/bus/read_after.sql");
    Ok(client.query(statement, &[&id, &own]).await?.iter().map(BusEntry::from).collect())
}

/// The ID of the last entry.
///
/// # Errors
///
/// The database does not respond.
pub async fn position(client: &Connection) -> Result<i64, PgError> {
    Ok(client.query_one(include_str!("../../../sql/channels/bus/position.sql"), &[]).await?.get("id"))
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

/// What identifies an installation on a bus that others may use.
pub struct BusIdentity {
    /// A secret that all nodes of the installation know.
    pub key: Vec<u8>,
    pub database: String,
}

/// Reads the identity of this installation.
///
/// # Errors
///
/// The database does not respond.
pub async fn identity(client: &Connection) -> Result<BusIdentity, PgError> {
    let row = client.query_one(include_str!("../../../sql/channels/bus/identity.sql"), &[]).await?;
    Ok(BusIdentity { key: row.try_get("key")?, database: row.try_get("database")? })
}
