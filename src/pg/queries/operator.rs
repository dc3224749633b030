//! What the operator asks: which servers there are, and why somebody sees somebody.

use serde_json::Value;

use crate::{
    auth::Caller,
    model::{Face, NodeState, Sighting, UserId},
    pg::{Database, PgError},
};

/// The servers on this database, the oldest first.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn nodes(database: &Database, caller: &Caller) -> Result<Vec<NodeState>, PgError> {
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

/// What a viewer sees of a subject, and why.
///
/// # Errors
///
/// As [`Database::query_as`].
pub async fn explain(
    database: &Database,
    caller: &Caller,
    viewer: UserId,
    subject: UserId,
) -> Result<Vec<Sighting>, PgError> {
    let statement = include_str!("../../../sql/operator/explain.sql");
    let rows = database.query_as(caller, statement, &[&viewer, &subject]).await?;
    let sighting = |row: &tokio_postgres::Row| Sighting {
        visible: row.get("visible"),
        face: row.get::<_, Option<Face>>("face"),
        decided_by: row.get("decided_by"),
        policy: row.get("policy"),
        evidence: row.get::<_, Option<Value>>("evidence"),
        reason: row.get("reason"),
    };
    Ok(rows.iter().map(sighting).collect())
}
