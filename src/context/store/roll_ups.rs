//! Roll-ups. Lease and results are written as the server; the user's data is read as that user.

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

/// Acquires the lease of a user's roll-up. `None` if another node holds it; `force` takes it over.
pub async fn acquire_lease(database: &Database, user: UserId, force: bool) -> Result<Option<Uuid>, PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/begin_roll_up.sql");
    Ok(client.query_one(statement, &[&user, &force]).await?.get(0))
}

pub async fn release_lease(database: &Database, user: UserId, lease: Uuid) -> Result<(), PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/end_roll_up.sql");
    client.query(statement, &[&user, &lease]).await?;
    Ok(())
}

/// Up to `limit` users with units that no roll-up has processed.
pub async fn users_due(database: &Database, limit: i32) -> Result<Vec<UserId>, PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/roll_ups_due.sql");
    Ok(client.query(statement, &[&limit]).await?.iter().map(|row| row.get(0)).collect())
}

/// Reads up to `limit` unprocessed units of the caller, with the caller's topics and entities.
pub async fn load_sources<T: DeserializeOwned>(
    database: &Database,
    caller: &Principal,
    limit: i32,
) -> Result<T, ReadError> {
    let statement = include_str!("../../../sql/context/roll_up_sources.sql");
    let rows = database.query_as(caller, statement, &[&limit]).await?;
    let json: Value = rows.first().expect("the statement returns one row").get("found");
    Ok(serde_json::from_value(json)?)
}

/// Finds the caller's units that contain each phrase; returns at most `max_units` unit IDs per phrase.
pub async fn find_phrases(
    database: &Database,
    caller: &Principal,
    phrases: &[&str],
    max_units: i32,
) -> Result<Occurrences, PgError> {
    let rows = database
        .query_as(caller, include_str!("../../../sql/context/phrases.sql"), &[&phrases, &max_units])
        .await?;
    let count = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
    let occurrence = |row: &tokio_postgres::Row| Occurrence {
        unit_ids: row.get("unit_ids"),
        units: count(row.get("units")),
        groups: count(row.get("groups")),
    };
    Ok(rows.iter().map(|row| (row.get("phrase"), occurrence(row))).collect())
}

/// Counts of what a roll-up changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollUpSummary {
    /// Number of new topics.
    pub topics_created: i64,
    /// Number of existing topics that got new units.
    pub topics_updated: i64,
    /// Number of new entities.
    pub entities_created: i64,
    /// Number of existing entities that got new units.
    pub entities_updated: i64,
    /// Number of processed units ("atomic content units").
    pub acus_processed: i64,
}

/// Stores the result of a roll-up. `None` if its lease was lost.
pub async fn store(
    database: &Database,
    user: UserId,
    lease: Uuid,
    result: &RollUpResult,
) -> Result<Option<RollUpSummary>, ReadError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/apply_roll_up.sql");
    let row = client.query_one(statement, &[&user, &lease, &Json(result)]).await?;
    let json: Option<Value> = row.get("found");
    Ok(json.map(serde_json::from_value).transpose()?)
}
