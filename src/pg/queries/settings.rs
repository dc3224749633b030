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

/// Updates the caller's settings. Settings that `update` does not name are kept, or reset to their default with
/// `reset`.
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
        .write_as(
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

/// The users on the caller's visibility list, in order of entry.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn visibility_list(database: &Database, caller: &Principal) -> Result<Vec<UserId>, PgError> {
    let rows = database.query_as(caller, include_str!("../../../sql/visibility/list.sql"), &[]).await?;
    Ok(rows.iter().map(|row| row.get("viewer_id")).collect())
}

/// Replaces the caller's visibility list with `users`.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn replace_visibility_list(
    database: &Database,
    caller: &Principal,
    users: &[UserId],
) -> Result<(), PgError> {
    database.write_as(caller, include_str!("../../../sql/visibility/replace.sql"), &[&users]).await?;
    Ok(())
}

/// Adds a user to the caller's visibility list; `false` if the user was on it.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn add_to_visibility_list(
    database: &Database,
    caller: &Principal,
    user: UserId,
) -> Result<bool, PgError> {
    let rows = database.write_as(caller, include_str!("../../../sql/visibility/add.sql"), &[&user]).await?;
    Ok(!rows.is_empty())
}

/// Removes a user from the caller's visibility list; `false` if the user was not on it.
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
        database.write_as(caller, include_str!("../../../sql/visibility/remove.sql"), &[&user]).await?;
    Ok(!rows.is_empty())
}
