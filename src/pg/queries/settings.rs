//! The caller's settings and visibility list.

use tokio_postgres::Row;

use crate::{
    auth::Principal,
    model::{Settings, SettingsUpdate, UserId},
    pg::{Database, PgError},
};

/// The caller's settings.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn get(database: &Database, caller: &Principal) -> Result<Settings, PgError> {
    let rows = database.query_as(caller, include_str!("../../../sql/settings/get.sql"), &[]).await?;
    Ok(settings_from_rows(&rows))
}

/// Sets some of the caller's settings; what `update` does not name stays, or with `reset` goes back to its default.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn save(
    database: &Database,
    caller: &Principal,
    update: SettingsUpdate,
    reset: bool,
) -> Result<Settings, PgError> {
    let SettingsUpdate { visibility, show_last_seen, show_activity, show_custom_status, show_typing } =
        update;
    let statement = include_str!("../../../sql/settings/save.sql");
    let rows = database
        .query_as(
            caller,
            statement,
            &[&visibility, &show_last_seen, &show_activity, &show_custom_status, &show_typing, &reset],
        )
        .await?;
    Ok(settings_from_rows(&rows))
}

fn settings_from_rows(rows: &[Row]) -> Settings {
    let row = rows.first().expect("both statements return one row");
    Settings {
        visibility: row.get("visibility"),
        show_last_seen: row.get("show_last_seen"),
        show_activity: row.get("show_activity"),
        show_custom_status: row.get("show_custom_status"),
        show_typing: row.get("show_typing"),
    }
}

/// Who is on the caller's visibility list, in order of entry.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn visibility_list(database: &Database, caller: &Principal) -> Result<Vec<UserId>, PgError> {
    let rows = database.query_as(caller, include_str!("../../../sql/visibility/list.sql"), &[]).await?;
    Ok(rows.iter().map(|row| row.get("viewer_id")).collect())
}

/// Makes `users`, and nobody else, the caller's visibility list.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn replace_visibility_list(
    database: &Database,
    caller: &Principal,
    users: &[UserId],
) -> Result<(), PgError> {
    database.query_as(caller, include_str!("../../../sql/visibility/replace.sql"), &[&users]).await?;
    Ok(())
}

/// Puts a user on the caller's visibility list; false if they were on it.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn add_to_visibility_list(
    database: &Database,
    caller: &Principal,
    user: UserId,
) -> Result<bool, PgError> {
    let rows = database.query_as(caller, include_str!("../../../sql/visibility/add.sql"), &[&user]).await?;
    Ok(!rows.is_empty())
}

/// Takes a user off the caller's visibility list; false if they were not on it.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn remove_from_visibility_list(
    database: &Database,
    caller: &Principal,
    user: UserId,
) -> Result<bool, PgError> {
    let rows =
        database.query_as(caller, include_str!("../../../sql/visibility/remove.sql"), &[&user]).await?;
    Ok(!rows.is_empty())
}
