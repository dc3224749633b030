//! Queries for operators: server nodes, and explanations of visibility.

use serde_json::Value;

use crate::{
    auth::Principal,
    model::{Face, NodeState, UserId, VisibilityExplanation},
    pg::{Database, PgError},
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
