//! Rows of what is known about a user, as JSON. Every statement runs as the caller.

use jiff::Timestamp;
use postgres_types::{Json, ToSql};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use super::bundles::ReadError;
use crate::{
    auth::Principal,
    pg::{Database, PgError},
};

/// A row with its position in the list.
#[derive(Debug, Clone)]
pub struct Row<T> {
    pub item: T,
    pub at: Timestamp,
    pub id: Uuid,
}

fn decode<T: DeserializeOwned>(row: &tokio_postgres::Row) -> Result<T, ReadError> {
    Ok(serde_json::from_value(row.get::<_, Value>("found"))?)
}

/// Reads up to `limit` rows after a position.
pub async fn list<T: DeserializeOwned>(
    database: &Database,
    caller: &Principal,
    statement: &str,
    after: Option<(Timestamp, Uuid)>,
    limit: i32,
    filters: &(impl Serialize + Sync),
) -> Result<Vec<Row<T>>, ReadError> {
    let (at, id) = after.unzip();
    let filters = Json(serde_json::to_value(filters)?);
    let rows = database.query_as(caller, statement, &[&at, &id, &limit, &filters]).await?;
    rows.iter().map(|row| Ok(Row { item: decode(row)?, at: row.get("at"), id: row.get("id") })).collect()
}

/// Reads the rows of a statement without positions.
pub async fn read<T: DeserializeOwned>(
    database: &Database,
    caller: &Principal,
    statement: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<T>, ReadError> {
    database.query_as(caller, statement, params).await?.iter().map(decode).collect()
}

/// Stores a row and returns it.
pub async fn create<T: DeserializeOwned>(
    database: &Database,
    caller: &Principal,
    statement: &str,
    body: &(impl Serialize + Sync),
) -> Result<T, ReadError> {
    let rows = database.write_as(caller, statement, &[&Json(serde_json::to_value(body)?)]).await?;
    decode(rows.first().expect("an insert without a conflict returns its row"))
}

/// Changes a row and returns it. `None` if the caller has no such row.
pub async fn update<T: DeserializeOwned>(
    database: &Database,
    caller: &Principal,
    statement: &str,
    id: Uuid,
    body: &(impl Serialize + Sync),
) -> Result<Option<T>, ReadError> {
    let rows = database.write_as(caller, statement, &[&id, &Json(serde_json::to_value(body)?)]).await?;
    rows.first().map(decode).transpose()
}

/// Deletes a row. False if the caller has no such row.
pub async fn delete(
    database: &Database,
    caller: &Principal,
    statement: &str,
    id: Uuid,
) -> Result<bool, PgError> {
    Ok(!database.write_as(caller, statement, &[&id]).await?.is_empty())
}
