//! Broadcasts from the database: rows of `realtime.messages`.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::value::RawValue;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::pg::{Connection, PgError};

/// A row of `realtime.messages`, whatever somebody has written there.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// Its id.
    pub id: Uuid,
    /// The channel without `realtime:`.
    pub topic: String,
    /// The event's name.
    pub event: Option<String>,
    /// Whether it is for the private channel of that name.
    pub private: Option<bool>,
    /// When it was inserted, by the database's clock.
    pub inserted_at: Timestamp,
    /// JSON as PostgreSQL writes it.
    pub payload: Option<Box<RawValue>>,
    /// Bytes.
    pub binary_payload: Option<Bytes>,
    /// Its payload is larger than was asked for, and left out.
    pub too_large: bool,
}

/// Reads rows by their ids and in their order, as many as fit into `budget` bytes and at least one. The answer has an
/// entry for each id that was read, from the first on; nothing for a row that is gone.
///
/// # Errors
///
/// When the database does not answer.
pub async fn read(
    client: &Connection,
    ids: &[Uuid],
    largest: usize,
    budget: usize,
) -> Result<Vec<Option<StoredMessage>>, PgError> {
    let statement = include_str!("../../../sql/messages/read.sql");
    let rows = client.query(statement, &[&ids, &to_i64(largest), &to_i64(budget)]).await?;
    let mut read = Vec::with_capacity(rows.len());
    for row in &rows {
        // Two rows of one id, which only somebody who writes ids by hand can make, are one entry.
        let place: i64 = row.get("place");
        if usize::try_from(place).is_ok_and(|place| place > read.len()) {
            read.push(row.get::<_, Option<Uuid>>("id").map(|id| parse_row(row, id)));
        }
    }
    Ok(read)
}

/// The ids of the rows of the last so much time, oldest first; the newest `most` of them.
///
/// # Errors
///
/// When the database does not answer.
pub async fn recent_ids(client: &Connection, last: Duration, most: usize) -> Result<Vec<Uuid>, PgError> {
    let statement = include_str!("../../../sql/messages/missed.sql");
    let rows = client.query(statement, &[&last.as_secs_f64(), &to_i64(most)]).await?;
    Ok(rows.iter().map(|row| row.get("id")).collect())
}

/// Which broadcasts of a private room are wanted again.
#[derive(Debug, Clone, Copy)]
pub struct ReplayQuery<'a> {
    /// The channel without `realtime:`.
    pub topic: &'a str,
    /// From when on.
    pub since: Timestamp,
    /// The newest so many of them.
    pub limit: usize,
    /// The largest payload in bytes that is read.
    pub max_payload_bytes: usize,
    /// In which time rows may have been committed that the node has not heard of, and how many of those there may be.
    pub recent: (Duration, usize),
}

/// What was there in one snapshot.
#[derive(Debug, Clone, Default)]
pub struct ReplayRows {
    /// What was wanted, oldest first.
    pub replayed: Vec<StoredMessage>,
    /// Which others were there already, of the recent ones.
    pub other_ids: Vec<Uuid>,
}

/// The newest broadcasts of a private room since a moment.
///
/// # Errors
///
/// When the database does not answer.
pub async fn replay(client: &Connection, of: ReplayQuery<'_>) -> Result<ReplayRows, PgError> {
    let statement = include_str!("../../../sql/messages/replay.sql");
    let ReplayQuery { topic, since, limit, max_payload_bytes: largest, recent: (time, most) } = of;
    let rows = client
        .query(
            statement,
            &[&topic, &since, &to_i64(limit), &to_i64(largest), &time.as_secs_f64(), &to_i64(most)],
        )
        .await?;
    let mut replay = ReplayRows::default();
    for row in &rows {
        let id = row.get("id");
        if row.get("is_told") {
            replay.replayed.push(parse_row(row, id));
        } else {
            replay.other_ids.push(id);
        }
    }
    Ok(replay)
}

/// How many partitions were made and dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionChanges {
    /// Made.
    pub created: i32,
    /// Dropped.
    pub dropped: i32,
}

/// Makes the partitions that are needed and drops those past their time.
///
/// # Errors
///
/// When the database does not answer, or somebody holds the table for seconds.
pub async fn maintain_partitions(client: &Connection) -> Result<PartitionChanges, PgError> {
    let row = client.query_one(include_str!("../../../sql/messages/keep_partitions.sql"), &[]).await?;
    Ok(PartitionChanges { created: row.get("created"), dropped: row.get("dropped") })
}

/// Sees to it that nodes are told of new rows; false where that is not ours to do.
///
/// # Errors
///
/// When the database does not answer.
pub async fn enable_notifications(client: &Connection) -> Result<bool, PgError> {
    Ok(client.query_one(include_str!("../../../sql/messages/hear.sql"), &[]).await?.get(0))
}

fn parse_row(row: &Row, id: Uuid) -> StoredMessage {
    StoredMessage {
        id,
        topic: row.get("topic"),
        event: row.get("event"),
        private: row.get("private"),
        inserted_at: row.get("inserted_at"),
        payload: row.get::<_, Option<String>>("payload").and_then(|text| RawValue::from_string(text).ok()),
        binary_payload: row.get::<_, Option<Vec<u8>>>("binary_payload").map(Bytes::from),
        too_large: row.get("too_large"),
    }
}

fn to_i64(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
