//! Rows of `rollcall.presence`, which a node writes and the other nodes read.

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::{
    model::{NodeId, UserId},
    pg::{Connection, PgError},
};

/// A row of `rollcall.presence` of a known node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceRow {
    /// Channel ID on its node.
    pub channel: i64,
    /// Topic without `realtime:`.
    pub topic: String,
    /// Whether the topic is private.
    pub private: bool,
    pub key: String,
    /// Ref of this version of the meta.
    pub phx_ref: String,
    /// Tracked object as JSON text.
    pub payload: String,
    /// User of the channel's token.
    pub user: Option<UserId>,
    /// Time of the first track.
    pub joined: Timestamp,
}

/// A row to write.
#[derive(Debug, Clone)]
pub struct NewPresenceRow<'a> {
    /// Channel ID on this node.
    pub channel: i64,
    /// Topic without `realtime:`.
    pub topic: &'a str,
    /// Whether the topic is private.
    pub private: bool,
    pub key: &'a str,
    /// Ref of this version of the meta.
    pub phx_ref: String,
    /// Tracked object as JSON text.
    pub payload: String,
    /// User of the channel's token.
    pub user: Option<UserId>,
    /// Time of the first track.
    pub joined: Timestamp,
    /// Time of this version.
    pub updated: Timestamp,
}

/// A node with a valid lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    pub node: NodeId,
    /// Identifies the node's rows, if they are complete. Changes when they are rewritten.
    pub generation: Option<String>,
}

/// Writes a batch of a node's channels. `removed` are those that track nothing. Each channel occurs at most
/// once. `notify` sends a notification to the other nodes.
///
/// # Errors
///
/// The database does not respond, or rejects a row. Nothing was written then.
pub async fn write(
    client: &Connection,
    node: NodeId,
    removed: &[i64],
    rows: &[NewPresenceRow<'_>],
    notify: bool,
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
        .write(
            statement,
            &[
                &node, &removed, &channels, &topics, &private, &keys, &refs, &payloads, &users, &joined,
                &updated, &notify,
            ],
        )
        .await?;
    Ok(())
}

/// Completes a rewrite of a node's rows; `channels` are all that track something. Returns false if rows or
/// the node's lease were lost meanwhile: the rewrite has to start again.
///
/// # Errors
///
/// The database does not respond.
pub async fn complete_rewrite(client: &Connection, node: NodeId, channels: &[i64]) -> Result<bool, PgError> {
    let statement = include_str!("../../../sql/channels/presence/complete.sql");
    Ok(client.write_one(statement, &[&node, &channels]).await?.get(0))
}

/// Removes the presence of a node that shuts down.
///
/// # Errors
///
/// The database does not respond.
pub async fn remove_node(client: &Connection, node: NodeId) -> Result<(), PgError> {
    client.write(include_str!("../../../sql/channels/presence/leave.sql"), &[&node]).await?;
    Ok(())
}

/// Reads the nodes with a valid lease.
///
/// # Errors
///
/// The database does not respond.
pub async fn live_nodes(client: &Connection) -> Result<Vec<LiveNode>, PgError> {
    let statement = include_str!("../../../sql/channels/presence/nodes.sql");
    let rows = client.query(statement, &[]).await?;
    let live = rows.iter().map(|row| LiveNode { node: row.get("id"), generation: row.get("generation") });
    Ok(live.collect())
}

/// Waits for running writes, whose notifications the caller may have missed.
///
/// # Errors
///
/// The database does not respond, or a write takes too long.
pub async fn wait_for_writers(client: &Connection) -> Result<(), PgError> {
    client.query(include_str!("../../../sql/channels/presence/await_writers.sql"), &[]).await?;
    Ok(())
}

/// Reads all rows of a node.
///
/// # Errors
///
/// The database does not respond.
pub async fn read_node(client: &Connection, node: NodeId) -> Result<Vec<PresenceRow>, PgError> {
    let statement = include_str!("../../../sql/channels/presence/read_node.sql");
    query_rows(client, statement, &[&node]).await
}

/// Reads the rows of some channels of a node. Channels without a row track nothing.
///
/// # Errors
///
/// The database does not respond.
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
