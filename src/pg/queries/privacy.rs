//! What is kept on the caller's presence: out as JSON, or gone.

use serde_json::Value;

use crate::{
    auth::Principal,
    pg::{Database, PgError},
};

/// Everything that is kept on the caller's presence: rows by table.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn export(database: &Database, caller: &Principal) -> Result<Value, PgError> {
    let rows = database.query_as(caller, include_str!("../../../sql/privacy/export.sql"), &[]).await?;
    Ok(rows.first().map(|row| row.get("data")).unwrap_or_default())
}

/// Erases it and closes the caller's sockets; returns how many rows went, by table.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn erase(database: &Database, caller: &Principal) -> Result<Value, PgError> {
    let rows = database.query_as(caller, include_str!("../../../sql/privacy/forget.sql"), &[]).await?;
    Ok(rows.first().map(|row| row.get("erased")).unwrap_or_default())
}
