//! Node leases, the sweep, and properties of policies.

use std::time::Duration;

use crate::{
    model::{Modules, NodeId},
    pg::{Connection, PgError, migrate::modules_of},
};

/// Acquires or renews a lease. `false` if there was none, so that the node must write its connections again.
///
/// # Errors
///
/// If the database does not answer.
pub async fn renew_lease(client: &Connection, node: NodeId, lease: Duration) -> Result<bool, PgError> {
    let statement = include_str!("../../../sql/node/renew_lease.sql");
    Ok(client.write_one(statement, &[&node, &lease.as_secs_f64()]).await?.get(0))
}

/// Releases a lease. The node's devices go offline unless they connect to another node within the grace period.
///
/// # Errors
///
/// If the database does not answer.
pub async fn release_lease(client: &Connection, node: NodeId, grace: Duration) -> Result<(), PgError> {
    client.write(include_str!("../../../sql/node/release_lease.sql"), &[&node, &grace.as_secs_f64()]).await?;
    Ok(())
}

/// Deletes a node in a database without presence.
///
/// # Errors
///
/// If the database does not answer.
pub async fn leave(client: &Connection, node: NodeId) -> Result<(), PgError> {
    client.write(include_str!("../../../sql/node/leave.sql"), &[&node]).await?;
    Ok(())
}

/// Deletes nodes whose lease has expired, in a database without presence.
///
/// # Errors
///
/// If the database does not answer.
pub async fn sweep_nodes(client: &Connection) -> Result<(), PgError> {
    client.write(include_str!("../../../sql/node/sweep_nodes.sql"), &[]).await?;
    Ok(())
}

/// The modules that are installed.
///
/// # Errors
///
/// If the database does not answer.
pub async fn installed_modules(client: &Connection) -> Result<Modules, PgError> {
    let rows = client.query(include_str!("../../../sql/node/modules.sql"), &[]).await?;
    let names = rows.iter().map(|row| row.try_get("name")).collect::<Result<Vec<&str>, _>>()?;
    Ok(modules_of(names))
}

/// Numbers of rows that a sweep ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepResult {
    /// Nodes whose lease had expired.
    pub nodes: i64,
    /// Devices without a live connection or heartbeat.
    pub devices: i64,
    /// Devices that became idle.
    pub idle: i64,
    pub custom_statuses: i64,
    pub typing: i64,
}

/// Ends expired leases, devices, custom statuses and typing states. Does nothing while another node sweeps.
///
/// # Errors
///
/// If the database does not answer.
pub async fn sweep(
    client: &Connection,
    idle_after: Duration,
    silent_after: Duration,
) -> Result<SweepResult, PgError> {
    let statement = include_str!("../../../sql/node/sweep.sql");
    let row = client.write_one(statement, &[&idle_after.as_secs_f64(), &silent_after.as_secs_f64()]).await?;
    Ok(SweepResult {
        nodes: row.get("nodes"),
        devices: row.get("devices"),
        idle: row.get("idle"),
        custom_statuses: row.get("custom_statuses"),
        typing: row.get("typing"),
    })
}

/// Erases the data of some deleted accounts; returns of how many.
///
/// # Errors
///
/// If the database does not answer.
pub async fn erase_deleted_accounts(client: &Connection) -> Result<i64, PgError> {
    Ok(client.write_one(include_str!("../../../sql/node/erase_deleted_accounts.sql"), &[]).await?.get(0))
}

/// Whether an event trigger reports changed policies.
///
/// # Errors
///
/// If the database does not answer.
pub async fn policies_are_watched(client: &Connection) -> Result<bool, PgError> {
    Ok(client.query_one(include_str!("../../../sql/node/policies_are_watched.sql"), &[]).await?.get(0))
}

/// Installs triggers on every table that a policy refers to and that is not watched yet.
///
/// # Errors
///
/// If the database does not answer.
pub async fn watch_sources(client: &Connection) -> Result<(), PgError> {
    client.query(include_str!("../../../sql/node/watch_sources.sql"), &[]).await?;
    Ok(())
}

/// Whether a policy depends on the state of a presence, so that every change needs a lookup.
///
/// # Errors
///
/// If the database does not answer.
pub async fn policies_read_presence_state(client: &Connection) -> Result<bool, PgError> {
    Ok(client.query_one(include_str!("../../../sql/node/policies_read_state.sql"), &[]).await?.get(0))
}
