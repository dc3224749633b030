//! Leases and the sweep.

use std::time::Duration;

use crate::{
    model::NodeId,
    pg::{Connection, PgError},
};

/// Takes or renews a lease. False when there was none, so that the node must say again which sockets it holds.
///
/// # Errors
///
/// When the database does not answer.
pub async fn renew_lease(client: &Connection, node: NodeId, lease: Duration) -> Result<bool, PgError> {
    let statement = include_str!("../../../sql/node/renew_lease.sql");
    Ok(client.query_one(statement, &[&node, &lease.as_secs_f64()]).await?.get(0))
}

/// Gives a lease up; the node's devices go offline unless they turn up on another node within the grace.
///
/// # Errors
///
/// When the database does not answer.
pub async fn release_lease(client: &Connection, node: NodeId, grace: Duration) -> Result<(), PgError> {
    client.query(include_str!("../../../sql/node/release_lease.sql"), &[&node, &grace.as_secs_f64()]).await?;
    Ok(())
}

/// What a sweep ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepResult {
    /// Nodes whose lease had lapsed.
    pub nodes: i64,
    /// Devices that nobody kept alive.
    pub devices: i64,
    /// Devices that went idle.
    pub idle: i64,
    /// Custom statuses past their time.
    pub custom_statuses: i64,
    /// Typing indicators past their time.
    pub typing: i64,
}

/// Ends what nobody keeps alive. While another node sweeps, does nothing.
///
/// # Errors
///
/// When the database does not answer.
pub async fn sweep(
    client: &Connection,
    idle_after: Duration,
    silent_after: Duration,
) -> Result<SweepResult, PgError> {
    let statement = include_str!("../../../sql/node/sweep.sql");
    let row = client.query_one(statement, &[&idle_after.as_secs_f64(), &silent_after.as_secs_f64()]).await?;
    Ok(SweepResult {
        nodes: row.get("nodes"),
        devices: row.get("devices"),
        idle: row.get("idle"),
        custom_statuses: row.get("custom_statuses"),
        typing: row.get("typing"),
    })
}

/// Whether an event trigger tells of changed policies.
///
/// # Errors
///
/// When the database does not answer.
pub async fn policies_are_watched(client: &Connection) -> Result<bool, PgError> {
    Ok(client.query_one(include_str!("../../../sql/node/policies_are_watched.sql"), &[]).await?.get(0))
}

/// Watches every table that a policy mentions and that is not watched yet.
///
/// # Errors
///
/// When the database does not answer.
pub async fn watch_sources(client: &Connection) -> Result<(), PgError> {
    client.query(include_str!("../../../sql/node/watch_sources.sql"), &[]).await?;
    Ok(())
}

/// Whether a policy looks at the state of a presence, so that every change of it must be asked again.
///
/// # Errors
///
/// When the database does not answer.
pub async fn policies_read_presence_state(client: &Connection) -> Result<bool, PgError> {
    Ok(client.query_one(include_str!("../../../sql/node/policies_read_state.sql"), &[]).await?.get(0))
}
