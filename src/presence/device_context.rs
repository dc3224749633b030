//! Context signals of devices: noted as the user, read for the user's own sockets.

use std::time::Duration;

use postgres_types::Json;
use tokio_postgres::Row;

use crate::{
    auth::Principal,
    model::{DeviceContext, DeviceId, UserId},
    pg::{Connection, Database, PgError},
    protocol::ContextUpdate,
};

/// One state of the signals of one of a user's devices, as a notification names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContextVersion {
    /// Whose device.
    pub user_id: UserId,
    /// Which state, of whichever device.
    pub version: i64,
}

/// Notes what `user` does on a device, as the caller.
///
/// # Errors
///
/// What row-level security or the database raises.
pub async fn store(
    database: &Database,
    caller: &Principal,
    user: UserId,
    update: &ContextUpdate,
) -> Result<(), PgError> {
    let device = update.device_id.as_str();
    database
        .query_as(caller, include_str!("../../sql/context/note.sql"), &[&user, &device, &Json(update)])
        .await?;
    Ok(())
}

/// The states that are still the latest of their devices, older ones first.
///
/// # Errors
///
/// When the database does not answer.
pub async fn latest(client: &Connection, heard: &[ContextVersion]) -> Result<Vec<DeviceContext>, PgError> {
    let (users, versions): (Vec<_>, Vec<_>) =
        heard.iter().map(|heard| (heard.user_id, heard.version)).unzip();
    let statement = include_str!("../../sql/context/read.sql");
    Ok(client.query(statement, &[&users, &versions]).await?.iter().filter_map(device_context).collect())
}

/// What changed within the last `age` on any device of these users, older changes first.
///
/// # Errors
///
/// When the database does not answer.
pub async fn recent(
    client: &Connection,
    users: &[UserId],
    age: Duration,
) -> Result<Vec<DeviceContext>, PgError> {
    let statement = include_str!("../../sql/context/recent.sql");
    Ok(client
        .query(statement, &[&users, &age.as_secs_f64()])
        .await?
        .iter()
        .filter_map(device_context)
        .collect())
}

/// `None` for a device id with control characters, which SQL can write but no client can name.
fn device_context(row: &Row) -> Option<DeviceContext> {
    Some(DeviceContext {
        user_id: row.get("user_id"),
        device_id: DeviceId::try_from(row.get::<_, &str>("device_id")).ok()?,
        active_conversation_id: row.get("active_conversation_id"),
        visible_conversation_ids: row.get("visible_conversation_ids"),
        active_notebook_id: row.get("active_notebook_id"),
        active_persona_id: row.get("active_persona_id"),
        last_navigation_path: row.get("last_navigation_path"),
        local_time: row.get("local_time"),
        updated_at: row.get("context_updated_at"),
    })
}
