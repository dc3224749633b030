//! Statements of webhooks: what the server does by itself, and what operators ask for.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    auth::Principal,
    model::{NodeId, Secret},
    pg::{Connection, Database, PgError},
};

/// What a call of [`publish`] found.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    /// Whether events are recorded now.
    pub recording: bool,
    /// Number of new events.
    pub count: u64,
}

/// Moves recorded events to readers and webhooks. With `compare`, members of all channels are compared with what
/// events told.
pub async fn publish(client: &Connection, compare: bool) -> Result<Published, PgError> {
    let row = client.write_one(include_str!("../../../sql/webhooks/publish.sql"), &[&compare]).await?;
    let count: i64 = row.get("count");
    Ok(Published { recording: row.get("recording"), count: count.unsigned_abs() })
}

/// A leased webhook and the events to send.
#[derive(Debug)]
pub struct Batch {
    pub webhook: Uuid,
    pub url: String,
    pub secrets: Vec<Secret>,
    /// The same for each attempt.
    pub message_id: String,
    /// The events as a JSON list.
    pub events: String,
    /// Counted from 1.
    pub attempt: i32,
    /// Number that identifies the lease.
    pub lease: i64,
}

/// Leases at most `max` webhooks that have something to deliver to `node`.
pub async fn claim(
    client: &Connection,
    node: NodeId,
    lease: Duration,
    max: usize,
) -> Result<Vec<Batch>, PgError> {
    let statement = include_str!("../../../sql/webhooks/claim.sql");
    let max = i32::try_from(max).unwrap_or(i32::MAX);
    let rows = client.write(statement, &[&node, &lease.as_secs_f64(), &max]).await?;
    let batch = |row: &Row| Batch {
        webhook: row.get("webhook_id"),
        url: row.get("url"),
        secrets: row.get::<_, Vec<String>>("secrets").into_iter().map(Secret::new).collect(),
        message_id: row.get("message_id"),
        events: row.get("events"),
        attempt: row.get("attempt"),
        lease: row.get("lease"),
    };
    Ok(rows.iter().map(batch).collect())
}

/// The outcome of a delivery.
#[derive(Debug)]
pub struct Finished {
    pub webhook: Uuid,
    pub lease: i64,
    /// `delivered`, `failed` or `gone`.
    pub outcome: &'static str,
    pub status: Option<i32>,
    pub error: Option<String>,
    /// Time until the next attempt.
    pub delay: Duration,
    pub max_attempts: i32,
}

/// Records the outcome of a delivery. `false` if the lease was lost meanwhile.
pub async fn finish(client: &Connection, finished: &Finished) -> Result<bool, PgError> {
    let Finished { webhook, lease, outcome, status, error, delay, max_attempts } = finished;
    let statement = include_str!("../../../sql/webhooks/finish.sql");
    let params: [&(dyn postgres_types::ToSql + Sync); 7] =
        [webhook, lease, outcome, status, error, &delay.as_secs_f64(), max_attempts];
    Ok(client.write_one(statement, &params).await?.get(0))
}

/// The longest time for which an event waits for a webhook, in seconds, and the number of dead letters.
pub async fn totals(client: &Connection) -> Result<(f64, i64), PgError> {
    let row = client.query_one(include_str!("../../../sql/webhooks/totals.sql"), &[]).await?;
    Ok((row.get("lag_seconds"), row.get("dead_letters")))
}

/// Runs a statement as the caller that returns one JSON value a row.
async fn read_json<T: DeserializeOwned>(
    database: &Database,
    caller: &Principal,
    statement: &str,
    params: &[&(dyn postgres_types::ToSql + Sync)],
) -> Result<Vec<T>, PgError> {
    let rows = database.write_as(caller, statement, params).await?;
    let parse = |row: &Row| {
        serde_json::from_value(row.get::<_, Value>(0)).map_err(|error| PgError::Unavailable(Box::new(error)))
    };
    rows.iter().map(parse).collect()
}

/// All webhooks with their state.
pub async fn list<T: DeserializeOwned>(database: &Database, caller: &Principal) -> Result<Vec<T>, PgError> {
    read_json(database, caller, include_str!("../../../sql/webhooks/list.sql"), &[]).await
}

/// Creates a webhook from a JSON object.
pub async fn create<T: DeserializeOwned>(
    database: &Database,
    caller: &Principal,
    webhook: &Value,
) -> Result<Option<T>, PgError> {
    let statement = include_str!("../../../sql/webhooks/create.sql");
    Ok(read_json(database, caller, statement, &[webhook]).await?.pop())
}

/// Changes a webhook by a JSON object. `None` if there is none.
pub async fn update<T: DeserializeOwned>(
    database: &Database,
    caller: &Principal,
    id: Uuid,
    changes: &Value,
) -> Result<Option<T>, PgError> {
    let statement = include_str!("../../../sql/webhooks/update.sql");
    Ok(read_json(database, caller, statement, &[&id, changes]).await?.pop())
}

/// Deletes a webhook with its dead letters. `false` if there is none.
pub async fn delete(database: &Database, caller: &Principal, id: Uuid) -> Result<bool, PgError> {
    let rows = database.write_as(caller, include_str!("../../../sql/webhooks/delete.sql"), &[&id]).await?;
    Ok(!rows.is_empty())
}

/// Dead letters of a webhook, oldest event first, behind a cursor. `None` if there is no such webhook.
pub async fn dead_letters<T: DeserializeOwned>(
    database: &Database,
    caller: &Principal,
    id: Uuid,
    after: i64,
    limit: i64,
) -> Result<Option<T>, PgError> {
    let statement = include_str!("../../../sql/webhooks/dead_letters.sql");
    Ok(read_json(database, caller, statement, &[&id, &after, &limit]).await?.pop())
}

/// Sends dead letters again: those with the IDs, or all. Returns how many; `None` if there is no such webhook.
pub async fn resend(
    database: &Database,
    caller: &Principal,
    id: Uuid,
    letters: Option<&[Uuid]>,
) -> Result<Option<i64>, PgError> {
    let statement = include_str!("../../../sql/webhooks/resend.sql");
    let rows = database.write_as(caller, statement, &[&id, &letters]).await?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// Where a webhook is, and what signs its requests. `None` if there is none.
pub async fn target(
    database: &Database,
    caller: &Principal,
    id: Uuid,
) -> Result<Option<(String, Vec<Secret>)>, PgError> {
    let rows = database.query_as(caller, include_str!("../../../sql/webhooks/target.sql"), &[&id]).await?;
    Ok(rows.first().map(|row| {
        let secrets: Vec<String> = row.get("secrets");
        (row.get("url"), secrets.into_iter().map(Secret::new).collect())
    }))
}
