//! Export and erasure of the caller's presence data.

use serde_json::Value;

use crate::{
    auth::Principal,
    pg::{Database, PgError},
};

/// All stored presence data of the caller: rows by table.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn export(database: &Database, caller: &Principal) -> Result<Value, PgError> {
    let rows = database.query_as(caller, include_str!("../../../sql/privacy/export.sql"), &[]).await?;
    Ok(rows.first().map(|row| row.get("data")).unwrap_or_default())
}

/// Erases the data and closes the caller's sockets. Returns the number of erased rows by table.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn erase(database: &Database, caller: &Principal) -> Result<Value, PgError> {
    let rows = database.write_as(caller, include_str!("../../../sql/privacy/forget.sql"), &[]).await?;
    Ok(rows.first().map(|row| row.get("erased")).unwrap_or_default())
}
