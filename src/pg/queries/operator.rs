//! Queries for operators: server nodes, explanations of visibility, actions and their audit log, and messages between
//! nodes.

use serde_json::Value;
use uuid::Uuid;

use crate::{
    auth::Principal,
    model::{AuditEntry, ConnectionName, DeviceId, Face, NodeId, NodeState, UserId, VisibilityExplanation},
    pg::{CallerTx, Connection, Database, PgError},
};

/// Server nodes on this database, oldest first.
pub async fn nodes(database: &Database, caller: &Principal) -> Result<Vec<NodeState>, PgError> {
    let rows = database.query_as(caller, include_str!("../../../sql/operator/nodes.sql"), &[]).await?;
    let node = |row: &tokio_postgres::Row| NodeState {
        id: row.get("id"),
        started_at: row.get("started_at"),
        renewed_at: row.get("renewed_at"),
        lease_expires_at: row.get("lease_expires_at"),
        alive: row.get("alive"),
        devices: row.get("devices"),
        version: None,
        uptime_seconds: None,
        connections: None,
    };
    Ok(rows.iter().map(node).collect())
}

/// Explains what `viewer` sees of `subject`, one row per policy decision.
pub async fn explain_visibility(
    database: &Database,
    caller: &Principal,
    viewer: UserId,
    subject: UserId,
) -> Result<Vec<VisibilityExplanation>, PgError> {
    let statement = include_str!("../../../sql/operator/explain.sql");
    let rows = database.query_as(caller, statement, &[&viewer, &subject]).await?;
    let sighting = |row: &tokio_postgres::Row| VisibilityExplanation {
        visible: row.get("visible"),
        face: row.get::<_, Option<Face>>("face"),
        decided_by: row.get("decided_by"),
        policy: row.get("policy"),
        evidence: row.get::<_, Option<Value>>("evidence"),
        reason: row.get("reason"),
    };
    Ok(rows.iter().map(sighting).collect())
}

/// A request to a node, or an answer.
pub struct NodeMessage {
    pub request: Uuid,
    /// `None` for a request of SQL.
    pub sender: Option<NodeId>,
    pub is_answer: bool,
    pub body: String,
}

/// Sends a request or an answer; without a recipient to all other nodes.
///
/// # Errors
/// The database does not respond.
pub async fn post_to_nodes(
    client: &Connection,
    request: Uuid,
    sender: NodeId,
    recipient: Option<NodeId>,
    is_answer: bool,
    body: &str,
) -> Result<(), PgError> {
    let statement = include_str!("../../../sql/operator/post_to_nodes.sql");
    client.write(statement, &[&request, &sender, &recipient, &is_answer, &body]).await?;
    Ok(())
}

/// Requests and answers with these IDs that are for `node`.
///
/// # Errors
/// The database does not respond.
pub async fn read_node_messages(
    client: &Connection,
    ids: &[i64],
    node: NodeId,
) -> Result<Vec<NodeMessage>, PgError> {
    let statement = include_str!("../../../sql/operator/read_node_messages.sql");
    let rows = client.query(statement, &[&ids, &node]).await?;
    let message = |row: &tokio_postgres::Row| NodeMessage {
        request: row.get("request"),
        sender: row.get("sender"),
        is_answer: row.get("is_answer"),
        body: row.get("body"),
    };
    Ok(rows.iter().map(message).collect())
}

/// An action of an operator: its transaction also writes the audit log.
pub struct OperatorAction<'a> {
    pub database: &'a Database,
    pub caller: &'a Principal,
    /// `x-request-id` of the HTTP request.
    pub request_id: &'a str,
}

impl OperatorAction<'_> {
    async fn begin(&self) -> Result<CallerTx, PgError> {
        let tx = self.database.begin_as(self.caller).await?;
        tx.query(include_str!("../../../sql/operator/set_request_id.sql"), &[&self.request_id]).await?;
        Ok(tx)
    }

    /// Closes the sockets of a user, or of one device. Returns how many devices were connected.
    ///
    /// # Errors
    /// The statement fails, or the database does not respond.
    pub async fn disconnect(
        &self,
        user: UserId,
        device: Option<&DeviceId>,
        reason: &str,
    ) -> Result<i64, PgError> {
        let tx = self.begin().await?;
        let statement = include_str!("../../../sql/operator/disconnect.sql");
        let rows = tx.query(statement, &[&user, &reason, &device.map(DeviceId::as_str)]).await?;
        tx.commit().await?;
        Ok(rows.first().map_or(0, |row| row.get("devices")))
    }

    /// Sends the request to close a connection to its node, which answers `asking`. Returns whether the node lives.
    ///
    /// # Errors
    /// The statement fails, or the database does not respond.
    pub async fn disconnect_connection(
        &self,
        connection: &ConnectionName,
        reason: &str,
        request: Uuid,
        asking: NodeId,
    ) -> Result<bool, PgError> {
        let tx = self.begin().await?;
        let statement = include_str!("../../../sql/operator/disconnect_connection.sql");
        let rows = tx.query(statement, &[&connection.to_string(), &reason, &request, &asking]).await?;
        tx.commit().await?;
        Ok(rows.first().is_some_and(|row| row.get("is_alive")))
    }

    /// Sends a broadcast.
    ///
    /// # Errors
    /// The statement fails, or the database does not respond.
    pub async fn publish(
        &self,
        (topic, is_private): (&str, bool),
        event: &str,
        payload: &str,
        reason: Option<&str>,
    ) -> Result<(), PgError> {
        let tx = self.begin().await?;
        let statement = include_str!("../../../sql/operator/publish.sql");
        tx.query(statement, &[&topic, &event, &payload, &is_private, &reason]).await?;
        tx.commit().await
    }

    /// Records that the operator watches a connection.
    ///
    /// # Errors
    /// The statement fails, or the database does not respond.
    pub async fn record_watch(&self, connection: &ConnectionName, payloads: bool) -> Result<(), PgError> {
        let tx = self.begin().await?;
        let statement = include_str!("../../../sql/operator/record_watch.sql");
        tx.query(statement, &[&connection.to_string(), &payloads]).await?;
        tx.commit().await
    }
}

/// Rows of the audit log, newest first.
///
/// # Errors
/// The statement fails, or the database does not respond.
pub async fn audit(
    database: &Database,
    caller: &Principal,
    before: Option<i64>,
    (action, user): (Option<&str>, Option<UserId>),
    limit: i32,
) -> Result<Vec<AuditEntry>, PgError> {
    let statement = include_str!("../../../sql/operator/audit.sql");
    let rows = database.query_as(caller, statement, &[&before, &action, &user, &limit]).await?;
    let entry = |row: &tokio_postgres::Row| AuditEntry {
        id: row.get("id"),
        at: row.get("at"),
        actor: row.get("actor"),
        role: row.get("role"),
        login: row.get("login"),
        action: row.get("action"),
        user_id: row.get("user_id"),
        target: row.get("target"),
        reason: row.get("reason"),
        request_id: row.get("request_id"),
    };
    Ok(rows.iter().map(entry).collect())
}
