//! Vectors of units and memories, where the database has pgvector. All of it is the server's.

use uuid::Uuid;

use crate::pg::{Database, PgError};

/// A text that wants a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingText {
    kind: String,
    id: Uuid,
    version: i64,
    /// What it says.
    pub content: String,
}

/// Makes what vectors need; false where the database has no pgvector.
///
/// # Errors
///
/// When the database does not answer.
pub async fn prepare_storage(database: &Database, model: &str, dimensions: i32) -> Result<bool, PgError> {
    let client = database.server_connection().await?;
    let statement = include_str!("../../../sql/context/prepare_vectors.sql");
    Ok(client.query_one(statement, &[&model, &dimensions]).await?.get(0))
}

/// Takes texts that want a vector.
///
/// # Errors
///
/// When the database does not answer.
pub async fn claim_texts(database: &Database, most: i32) -> Result<Vec<PendingText>, PgError> {
    let client = database.server_connection().await?;
    let rows = client.query(include_str!("../../../sql/context/take_texts.sql"), &[&most]).await?;
    let texts = rows.iter().map(|row| PendingText {
        kind: row.get("kind"),
        id: row.get("id"),
        version: row.get("version"),
        content: row.get("content"),
    });
    Ok(texts.collect())
}

/// Stores the vectors of texts that are still what they were.
///
/// # Errors
///
/// When the database does not take them.
pub async fn store_vectors(
    database: &Database,
    texts: &[PendingText],
    vectors: &[String],
) -> Result<(), PgError> {
    let client = database.server_connection().await?;
    let kinds: Vec<&str> = texts.iter().map(|text| text.kind.as_str()).collect();
    let ids: Vec<Uuid> = texts.iter().map(|text| text.id).collect();
    let versions: Vec<i64> = texts.iter().map(|text| text.version).collect();
    let statement = include_str!("../../../sql/context/store_vectors.sql");
    client.query(statement, &[&kinds, &ids, &versions, &vectors]).await?;
    Ok(())
}
