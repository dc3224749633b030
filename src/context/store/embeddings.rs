//! Embeddings of units and memories; requires pgvector. All statements run as the server.

use std::time::Duration;

use uuid::Uuid;

use crate::pg::{Connection, Database, PgError};

/// Timeout of creating indexes for embeddings.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(600);

/// A text without a current embedding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingText {
    kind: String,
    id: Uuid,
    version: i64,
    pub content: String,
}

/// Creates columns and indexes for the model's embeddings. False if the database has no pgvector.
pub async fn prepare_storage(database: &Database, model: &str, dimensions: i32) -> Result<bool, PgError> {
    let statement = include_str!("../../../sql/context/prepare_vectors.sql");
    let prepare = |client: Connection| async move {
        Ok(client.query_one(statement, &[&model, &dimensions]).await?.get(0))
    };
    database.within(PREPARE_TIMEOUT, prepare).await
}

/// Claims up to `limit` texts without an embedding.
pub async fn claim_texts(database: &Database, limit: i32) -> Result<Vec<PendingText>, PgError> {
    let client = database.server_connection().await?;
    let rows = client.query(include_str!("../../../sql/context/take_texts.sql"), &[&limit]).await?;
    let texts = rows.iter().map(|row| PendingText {
        kind: row.get("kind"),
        id: row.get("id"),
        version: row.get("version"),
        content: row.get("content"),
    });
    Ok(texts.collect())
}

/// Stores embeddings; skips texts that changed since they were claimed.
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
