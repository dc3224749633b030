//! Who is present in channels, as rows: what a node writes, and what the others read of it.

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::{
    model::{NodeId, UserId},
    pg::{Connection, PgError},
};

/// A row of `rollcall.presence`, of a node that is known from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceRow {
    /// The channel's number on its node.
    pub channel: i64,
    /// The room's name.
    pub topic: String,
    /// Whether policies guard the room.
    pub private: bool,
    /// The key.
    pub key: String,
    /// The name of this state, as on the wire.
    pub phx_ref: String,
    /// What is tracked, as JSON text.
    pub payload: String,
    /// Whose token the channel holds.
    pub user: Option<UserId>,
    /// When it was tracked first.
    pub joined: Timestamp,
}

/// A row to be written.
#[derive(Debug, Clone)]
pub struct NewPresenceRow<'a> {
    /// The channel's number.
    pub channel: i64,
    /// The room's name.
    pub topic: &'a str,
    /// Whether policies guard the room.
    pub private: bool,
    /// The key.
    pub key: &'a str,
    /// The name of this state, as on the wire.
    pub phx_ref: String,
    /// What is tracked, as JSON text.
    pub payload: String,
    /// Whose token the channel holds.
    pub user: Option<UserId>,
    /// When it was tracked first.
    pub joined: Timestamp,
    /// When it took this state.
    pub updated: Timestamp,
}

/// A node that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    /// Its id.
    pub node: NodeId,
    /// Names its rows if they are complete; changes when they were written anew.
    pub generation: Option<String>,
}

/// Writes a batch of a node's channels, each at most once: `gone` track nothing any more. With `tell` the other nodes
/// hear of it.
///
/// # Errors
///
/// When the database does not answer, or refuses a row; then nothing was written.
pub async fn write(
    client: &Connection,
    node: NodeId,
    gone: &[i64],
    rows: &[NewPresenceRow<'_>],
    tell: bool,
) -> Result<(), PgError> {
    let statement = include_str!("../../../sql/channels/presence/write.sql");
    let channels: Vec<i64> = rows.iter().map(|row| row.channel).collect();
    let topics: Vec<&str> = rows.iter().map(|row| row.topic).collect();
    let private: Vec<bool> = rows.iter().map(|row| row.private).collect();
    let keys: Vec<&str> = rows.iter().map(|row| row.key).collect();
    let refs: Vec<&str> = rows.iter().map(|row| &*row.phx_ref).collect();
    let payloads: Vec<&str> = rows.iter().map(|row| &*row.payload).collect();
    let users: Vec<Option<UserId>> = rows.iter().map(|row| row.user).collect();
    let joined: Vec<Timestamp> = rows.iter().map(|row| row.joined).collect();
    let updated: Vec<Timestamp> = rows.iter().map(|row| row.updated).collect();
    client
        .query(
            statement,
            &[
                &node, &gone, &channels, &topics, &private, &keys, &refs, &payloads, &users, &joined,
                &updated, &tell,
            ],
        )
        .await?;
    Ok(())
}

/// Ends a complete rewrite of a node's rows; `channels` are all that track something. False when rows or the node's
/// lease were lost meanwhile, so that it has to begin anew.
///
/// # Errors
///
/// When the database does not answer.
pub async fn complete_rewrite(client: &Connection, node: NodeId, channels: &[i64]) -> Result<bool, PgError> {
    let statement = include_str!("../../../sql/channels/presence/complete.sql");
    Ok(client.query_one(statement, &[&node, &channels]).await?.get(0))
}

/// A node takes its leave: nobody of it is present any more.
///
/// # Errors
///
/// When the database does not answer.
pub async fn remove_node(client: &Connection, node: NodeId) -> Result<(), PgError> {
    client.query(include_str!("../../../sql/channels/presence/leave.sql"), &[&node]).await?;
    Ok(())
}

/// Every node that lives.
///
/// # Errors
///
/// When the database does not answer.
pub async fn live_nodes(client: &Connection) -> Result<Vec<LiveNode>, PgError> {
    let statement = include_str!("../../../sql/channels/presence/nodes.sql");
    let rows = client.query(statement, &[]).await?;
    let living = rows.iter().map(|row| LiveNode { node: row.get("id"), generation: row.get("generation") });
    Ok(living.collect())
}

/// Waits for writes that have begun and may not tell whoever asks.
///
/// # Errors
///
/// When the database does not answer, or one of them takes too long.
pub async fn wait_for_writers(client: &Connection) -> Result<(), PgError> {
    client.query(include_str!("../../../sql/channels/presence/await_writers.sql"), &[]).await?;
    Ok(())
}

/// Everybody present on a node.
///
/// # Errors
///
/// When the database does not answer.
pub async fn read_node(client: &Connection, node: NodeId) -> Result<Vec<PresenceRow>, PgError> {
    let statement = include_str!("../../../sql/channels/presence/read_node.sql");
    query_rows(client, statement, &[&node]).await
}

/// What some channels of a node track; those without a row track nothing.
///
/// # Errors
///
/// When the database does not answer.
pub async fn read_channels(
    client: &Connection,
    node: NodeId,
    channels: &[i64],
) -> Result<Vec<PresenceRow>, PgError> {
    let statement = include_str!("../../../sql/channels/presence/read_channels.sql");
    query_rows(client, statement, &[&node, &channels]).await
}

async fn query_rows(
    client: &Connection,
    statement: &str,
    params: &[&(dyn postgres_types::ToSql + Sync)],
) -> Result<Vec<PresenceRow>, PgError> {
    Ok(client.query(statement, params).await?.iter().map(parse_row).collect())
}

fn parse_row(row: &Row) -> PresenceRow {
    PresenceRow {
        channel: row.get("channel"),
        topic: row.get("topic"),
        private: row.get("private"),
        key: row.get("key"),
        phx_ref: row.get("phx_ref"),
        payload: row.get("payload"),
        user: row.get("user_id"),
        joined: row.get("joined_at"),
    }
}
