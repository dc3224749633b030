//! Statements on the caller's devices.

use crate::{
    auth::Principal,
    model::{Device, DeviceId},
    pg::{Database, PgError},
};

/// The caller's devices, the most recent first.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn list(database: &Database, caller: &Principal) -> Result<Vec<Device>, PgError> {
    let rows = database.query_as(caller, include_str!("../../../sql/devices/list.sql"), &[]).await?;
    let device = |row: &tokio_postgres::Row| Device {
        device_id: row.get("device_id"),
        device_name: row.get("device_name"),
        device_type: row.get("device_type"),
        platform: row.get("platform"),
        app_version: row.get("app_version"),
        status: row.get("status"),
        last_heartbeat_at: row.get("last_heartbeat_at"),
        idle_since: row.get("idle_since"),
        session_started_at: row.get("session_started_at"),
        connected: row.get("connected"),
    };
    Ok(rows.iter().map(device).collect())
}

/// Signs off one of the caller's devices; every node closes its sockets. `false` if there is no such device.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn sign_off(database: &Database, caller: &Principal, device: &DeviceId) -> Result<bool, PgError> {
    let statement = include_str!("../../../sql/devices/sign_off.sql");
    let rows = database.write_as(caller, statement, &[&device.as_str()]).await?;
    Ok(rows.first().is_some_and(|row| row.get("found")))
}
