//! The relay of notifications: claim, lease, and the notifications that it sends.

use std::time::Duration;

use tokio_postgres::Client;

use crate::{
    model::NodeId,
    pg::{Connection, PgError},
};

/// Result of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    Granted,
    /// Another node is the relay.
    Taken,
    /// The log of this database cannot be read, for this reason.
    Impossible(String),
}

/// Claims the relay for `duration`, or extends the claim.
///
/// # Errors
///
/// If the database does not answer or is read-only.
pub async fn claim(client: &Connection, node: NodeId, duration: Duration) -> Result<Claim, PgError> {
    let statement = include_str!("../../../sql/relay/claim.sql");
    let row = client.write_one(statement, &[&node, &duration.as_secs_f64()]).await?;
    Ok(match (row.get("obstacle"), row.get("is_claimed")) {
        (Some(obstacle), _) => Claim::Impossible(obstacle),
        (None, true) => Claim::Granted,
        (None, false) => Claim::Taken,
    })
}

/// Ends the claim or the lease of a node.
///
/// # Errors
///
/// If the database does not answer.
pub async fn release(client: &Connection, node: NodeId) -> Result<(), PgError> {
    client.write(include_str!("../../../sql/relay/release.sql"), &[&node]).await?;
    Ok(())
}

/// The key of notifications, and the token of messages in the log.
///
/// # Errors
///
/// If the database does not answer.
pub async fn notification_key(client: &Client) -> Result<(Vec<u8>, String), PgError> {
    let row = client.query_one(include_str!("../../../sql/node/notification_key.sql"), &[]).await?;
    Ok((row.try_get("key")?, row.try_get("log_token")?))
}

/// Makes transactions write notifications to the log. Returns false if the claim was lost.
///
/// # Errors
///
/// If the database does not answer.
pub async fn start(client: &Client, node: NodeId, lease: Duration) -> Result<bool, PgError> {
    let statement = include_str!("../../../sql/relay/start.sql");
    Ok(client.query_one(statement, &[&node, &lease.as_secs_f64()]).await?.get(0))
}

/// Sends notifications in this order, once the transactions with these IDs are visible.
///
/// # Errors
///
/// If the database does not answer.
pub async fn send(
    client: &Client,
    channels: &[String],
    payloads: &[String],
    xids: &[i64],
) -> Result<(), PgError> {
    client.query_one(include_str!("../../../sql/relay/send.sql"), &[&channels, &payloads, &xids]).await?;
    Ok(())
}

/// Renews the lease and writes a mark. `read_until`: everything that was committed before was sent, in seconds since
/// 1970. Returns false if another node is the relay.
///
/// # Errors
///
/// If the database does not answer.
pub async fn renew(
    client: &Client,
    node: NodeId,
    lease: Duration,
    read_until: Option<f64>,
) -> Result<bool, PgError> {
    let statement = include_str!("../../../sql/relay/renew.sql");
    Ok(client.query_one(statement, &[&node, &lease.as_secs_f64(), &read_until]).await?.get(0))
}
