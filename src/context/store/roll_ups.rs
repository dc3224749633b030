//! Roll-ups: the lease and what is written are the server's; what is read of a user is read as that user.

use postgres_types::Json;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use super::bundles::ReadError;
use crate::{
    auth::Principal,
    context::roll_up::{Occurrence, Occurrences, RollUpResult},
    model::UserId,
    pg::{Database, PgError},
};

/// Takes the lease of a user's roll-up; `None` where somebody has it and `force` is not given.
///
/// # Errors
///
/// When the database does not answer.
pub async fn acquire_lease(database: &Database, user: UserId, force: bool) -> Result<Option<Uuid>, PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/begin_roll_up.sql");
    Ok(client.query_one(statement, &[&user, &force]).await?.get(0))
}

/// Gives the lease back.
///
/// # Errors
///
/// When the database does not answer.
pub async fn release_lease(database: &Database, user: UserId, lease: Uuid) -> Result<(), PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/end_roll_up.sql");
    client.query(statement, &[&user, &lease]).await?;
    Ok(())
}

/// Users with units that no roll-up has taken in.
///
/// # Errors
///
/// When the database does not answer.
pub async fn users_due(database: &Database, most: i32) -> Result<Vec<UserId>, PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/roll_ups_due.sql");
    Ok(client.query(statement, &[&most]).await?.iter().map(|row| row.get(0)).collect())
}

/// What a roll-up of the caller works on.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn load_sources<T: DeserializeOwned>(
    database: &Database,
    caller: &Principal,
    limit: i32,
) -> Result<T, ReadError> {
    let statement = include_str!("../../../sql/context/roll_up_sources.sql");
    let rows = database.query_as(caller, statement, &[&limit]).await?;
    let found: Value = rows.first().expect("the statement returns one row").get("found");
    Ok(serde_json::from_value(found)?)
}

/// Where phrases stand among the caller's units.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn find_phrases(
    database: &Database,
    caller: &Principal,
    phrases: &[&str],
    most: i32,
) -> Result<Occurrences, PgError> {
    let rows = database
        .query_as(caller, include_str!("../../../sql/context/phrases.sql"), &[&phrases, &most])
        .await?;
    let count = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
    let occurrence = |row: &tokio_postgres::Row| Occurrence {
        unit_ids: row.get("unit_ids"),
        units: count(row.get("units")),
        groups: count(row.get("groups")),
    };
    Ok(rows.iter().map(|row| (row.get("phrase"), occurrence(row))).collect())
}

/// What a roll-up changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollUpSummary {
    /// New topics.
    pub topics_created: i64,
    /// Topics that got more.
    pub topics_updated: i64,
    /// New entities.
    pub entities_created: i64,
    /// Entities that got more.
    pub entities_updated: i64,
    /// Units that were taken in.
    pub acus_processed: i64,
}

/// Writes what a roll-up found; `None` where its lease is lost.
///
/// # Errors
///
/// When the database does not take it.
pub async fn store(
    database: &Database,
    user: UserId,
    lease: Uuid,
    found: &RollUpResult,
) -> Result<Option<RollUpSummary>, ReadError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/apply_roll_up.sql");
    let row = client.query_one(statement, &[&user, &lease, &Json(found)]).await?;
    let applied: Option<Value> = row.get("found");
    Ok(applied.map(serde_json::from_value).transpose()?)
}
