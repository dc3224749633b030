//! Context signals of devices: written as the user, read as the server.

use std::time::Duration;

use postgres_types::Json;
use tokio_postgres::Row;

use crate::{
    auth::Principal,
    model::{ContextVersion, DeviceContext, DeviceId, UserId},
    pg::{Connection, Database, PgError},
    protocol::ContextUpdate,
};

/// Stores the context signals of a device of `user`, as the caller.
pub async fn store(
    database: &Database,
    caller: &Principal,
    user: UserId,
    update: &ContextUpdate,
) -> Result<(), PgError> {
    let device = update.device_id.as_str();
    database
        .write_as(caller, include_str!("../../sql/context/note.sql"), &[&user, &device, &Json(update)])
        .await?;
    Ok(())
}

/// Reads those of the given versions that are still current, oldest first.
pub async fn latest(client: &Connection, versions: &[ContextVersion]) -> Result<Vec<DeviceContext>, PgError> {
    let (users, versions): (Vec<_>, Vec<_>) = versions.iter().map(|it| (it.user_id, it.version)).unzip();
    let statement = include_str!("../../sql/context/read.sql");
    Ok(client.query(statement, &[&users, &versions]).await?.iter().filter_map(device_context).collect())
}

/// Reads the contexts of these users' devices that changed within `age`, oldest change first.
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

/// `None` for a device ID with control characters: SQL can store it, but no client can address it.
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
