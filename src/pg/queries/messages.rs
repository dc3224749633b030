//! Broadcasts from the database: rows of `realtime.messages`.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::value::RawValue;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::pg::{Connection, PgError};

/// A row of `realtime.messages`, not validated.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    pub id: Uuid,
    /// Topic without `realtime:`.
    pub topic: String,
    pub event: Option<String>,
    /// Whether it is for the private topic of that name.
    pub private: Option<bool>,
    /// Time of the insert, by the database's clock.
    pub inserted_at: Timestamp,
    /// JSON payload as formatted by PostgreSQL.
    pub payload: Option<Box<RawValue>>,
    pub binary_payload: Option<Bytes>,
    /// The payload exceeds the maximum and was not read.
    pub too_large: bool,
}

/// Result of [`read`].
#[derive(Debug, Clone)]
pub struct ReadMessages {
    /// An entry for each ID that was read, from the first on; `None` if the row no longer exists.
    pub messages: Vec<Option<StoredMessage>>,
    /// A revocation that was committed before may not have been notified yet.
    pub is_unordered: bool,
}

/// Reads rows by ID, in this order: as many as fit into `budget` bytes, and at least one.
///
/// # Errors
///
/// The database does not respond.
pub async fn read(
    client: &Connection,
    ids: &[Uuid],
    max_payload_bytes: usize,
    budget: usize,
) -> Result<ReadMessages, PgError> {
    let statement = include_str!("../../../sql/messages/read.sql");
    let rows = client.query(statement, &[&ids, &to_i64(max_payload_bytes), &to_i64(budget)]).await?;
    let mut read = Vec::with_capacity(rows.len());
    for row in &rows {
        // Rows with the same ID (possible only if IDs are set explicitly) are one entry.
        let position: i64 = row.get("place");
        if usize::try_from(position).is_ok_and(|position| position > read.len()) {
            read.push(row.get::<_, Option<Uuid>>("id").map(|id| parse_row(row, id)));
        }
    }
    Ok(ReadMessages { messages: read, is_unordered: rows.iter().any(|row| row.get("is_unordered")) })
}

/// Reads the IDs of the newest `max` rows inserted within `window`, oldest first.
///
/// # Errors
///
/// The database does not respond.
pub async fn recent_ids(client: &Connection, window: Duration, max: usize) -> Result<Vec<Uuid>, PgError> {
    let statement = include_str!("../../../sql/messages/missed.sql");
    let rows = client.query(statement, &[&window.as_secs_f64(), &to_i64(max)]).await?;
    Ok(rows.iter().map(|row| row.get("id")).collect())
}

/// Which broadcasts of a private topic to replay.
#[derive(Debug, Clone, Copy)]
pub struct ReplayQuery<'a> {
    /// Topic without `realtime:`.
    pub topic: &'a str,
    /// Time of the oldest broadcast to replay.
    pub since: Timestamp,
    /// Maximum number of broadcasts; the newest are taken.
    pub limit: usize,
    /// Maximum payload size in bytes.
    pub max_payload_bytes: usize,
    /// Window in which rows may be committed that the node has not been notified of, and their maximum
    /// number.
    pub recent: (Duration, usize),
}

/// Rows of one snapshot.
#[derive(Debug, Clone, Default)]
pub struct ReplayRows {
    /// The broadcasts to replay, oldest first.
    pub replayed: Vec<StoredMessage>,
    /// IDs of the other recent rows of the snapshot.
    pub other_ids: Vec<Uuid>,
}

/// Reads the newest broadcasts of a private topic since a time.
///
/// # Errors
///
/// The database does not respond.
pub async fn replay(client: &Connection, query: ReplayQuery<'_>) -> Result<ReplayRows, PgError> {
    let statement = include_str!("../../../sql/messages/replay.sql");
    let ReplayQuery { topic, since, limit, max_payload_bytes, recent: (window, max) } = query;
    let rows = client
        .query(
            statement,
            &[
                &topic,
                &since,
                &to_i64(limit),
                &to_i64(max_payload_bytes),
                &window.as_secs_f64(),
                &to_i64(max),
            ],
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

/// A broadcast to store.
#[derive(Debug, Clone, Copy)]
pub struct NewMessage<'a> {
    pub id: Uuid,
    /// Topic without `realtime:`.
    pub topic: &'a str,
    pub private: bool,
    pub event: &'a str,
    /// The payload, in one of the two forms.
    pub json: Option<&'a str>,
    pub binary: Option<&'a [u8]>,
}

/// Stores broadcasts in their order. With `is_retry`, those that an earlier attempt stored are skipped.
///
/// # Errors
///
/// The database does not respond, or refuses a broadcast: then it stored none.
pub async fn store(client: &Connection, messages: &[NewMessage<'_>], is_retry: bool) -> Result<(), PgError> {
    let ids: Vec<Uuid> = messages.iter().map(|message| message.id).collect();
    let topics: Vec<&str> = messages.iter().map(|message| message.topic).collect();
    let events: Vec<&str> = messages.iter().map(|message| message.event).collect();
    let json: Vec<Option<&str>> = messages.iter().map(|message| message.json).collect();
    let binary: Vec<Option<&[u8]>> = messages.iter().map(|message| message.binary).collect();
    let private: Vec<bool> = messages.iter().map(|message| message.private).collect();
    let statement = include_str!("../../../sql/messages/store.sql");
    client.write(statement, &[&ids, &topics, &events, &json, &binary, &private, &is_retry]).await?;
    Ok(())
}

/// Which broadcasts of a topic with a history to replay.
#[derive(Debug, Clone, Copy)]
pub struct HistoryRowsQuery<'a> {
    /// Topic without `realtime:`.
    pub topic: &'a str,
    pub private: bool,
    /// IDs that the client has, the last one newest; `None` to replay by time.
    pub received: Option<&'a [Uuid]>,
    /// Time of the oldest broadcast to replay, without IDs.
    pub since: Timestamp,
    /// Maximum age and number of kept broadcasts.
    pub kept: (Duration, usize),
    /// Maximum number of broadcasts to replay, and their bytes; the newest are taken.
    pub limit: (usize, usize),
    /// Maximum time between the insert and the commit of a broadcast.
    pub commit_window: Duration,
    /// Maximum payload size in bytes.
    pub max_payload_bytes: usize,
    /// As in [`ReplayQuery`].
    pub recent: (Duration, usize),
}

/// Reads the broadcasts that a client missed, and whether nothing after its position is left out.
///
/// # Errors
///
/// The database does not respond.
pub async fn history(
    client: &Connection,
    query: HistoryRowsQuery<'_>,
) -> Result<(ReplayRows, bool), PgError> {
    let statement = include_str!("../../../sql/messages/history.sql");
    let rows = client
        .query(
            statement,
            &[
                &query.topic,
                &query.private,
                &query.received,
                &query.since,
                &query.kept.0.as_secs_f64(),
                &to_i64(query.kept.1),
                &to_i64(query.limit.0),
                &to_i64(query.limit.1),
                &query.commit_window.as_secs_f64(),
                &to_i64(query.max_payload_bytes),
                &query.recent.0.as_secs_f64(),
                &to_i64(query.recent.1),
            ],
        )
        .await?;
    let (mut replay, mut is_complete) = (ReplayRows::default(), false);
    for row in &rows {
        match row.get::<_, Option<Uuid>>("id") {
            Some(id) if row.get("is_replayed") => replay.replayed.push(parse_row(row, id)),
            Some(id) => replay.other_ids.push(id),
            None => is_complete = row.get("is_complete"),
        }
    }
    Ok((replay, is_complete))
}

/// Number of partitions created and dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionChanges {
    pub created: i32,
    pub dropped: i32,
}

/// Creates the partitions that are needed and drops expired ones.
///
/// # Errors
///
/// The database does not respond, or the table is locked for seconds.
pub async fn maintain_partitions(client: &Connection) -> Result<PartitionChanges, PgError> {
    let row = client.query_one(include_str!("../../../sql/messages/keep_partitions.sql"), &[]).await?;
    Ok(PartitionChanges { created: row.get("created"), dropped: row.get("dropped") })
}

/// Creates the trigger that notifies nodes of new rows, except on Supabase, where the operator creates it.
/// Returns whether it exists.
///
/// # Errors
///
/// The database does not respond.
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
