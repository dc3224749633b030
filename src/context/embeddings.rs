//! Semantic search with an embeddings API and pgvector. Without either, only full-text search is used.
//!
//! Units and memories get embeddings in the background. A message gets one when its prompt is assembled, if the API
//! answers in time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::{
    select,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    provider::Embedder,
    store::embeddings::{self, PendingText},
};
use crate::backoff::jittered;
use crate::lifecycle::ErrorChain;
use crate::pg::{Database, PgError};
use crate::telemetry::metric;

/// Maximum wait of an assembly for the embedding of its message.
const QUERY_EMBEDDING_TIMEOUT: Duration = Duration::from_millis(500);
/// Intervals between polls for texts without an embedding, and between checks for a missing pgvector.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
const PGVECTOR_CHECK_INTERVAL: Duration = Duration::from_secs(300);
/// Texts claimed at once, texts per request, and concurrent requests.
const CLAIM_BATCH_SIZE: i32 = 128;
const REQUEST_BATCH_SIZE: usize = 16;
const REQUEST_CONCURRENCY: usize = 4;

/// Client of the embeddings API together with the storage of its vectors.
pub(super) struct SemanticSearch {
    database: Database,
    embedder: Option<Arc<Embedder>>,
    /// Whether pgvector is available and the storage for embeddings exists.
    is_ready: AtomicBool,
}

impl SemanticSearch {
    /// Without an embedder, semantic search is disabled.
    pub(super) const fn new(database: Database, embedder: Option<Arc<Embedder>>) -> Self {
        Self { database, embedder, is_ready: AtomicBool::new(false) }
    }

    /// Embedding of a message. `None` without pgvector, after an error or after the timeout.
    pub(super) async fn embed_query(&self, message: &str) -> Option<String> {
        let embedder = self.embedder.as_ref().filter(|_| self.is_ready.load(Ordering::Acquire))?;
        match timeout(QUERY_EMBEDDING_TIMEOUT, embedder.embed(&[message])).await {
            Ok(Ok(vectors)) => vectors.into_iter().next(),
            Ok(Err(error)) => {
                tracing::info!(error = %ErrorChain(&error), "message embedding failed, using full-text search only");
                None
            }
            Err(_) => {
                tracing::info!("message embedding timed out, using full-text search only");
                None
            }
        }
    }

    /// Embeds units and memories until `stop` is cancelled.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let Some(embedder) = self.embedder.clone() else { return stop.cancelled().await };
        loop {
            let delay = select! {
                () = stop.cancelled() => return,
                delay = self.embed_pending_texts(&embedder) => delay,
            };
            let delay = delay.unwrap_or_else(|error| {
                tracing::warn!(error = %ErrorChain(&error), "claiming texts to embed failed");
                POLL_INTERVAL
            });
            select! {
                () = stop.cancelled() => return,
                () = sleep(jittered(delay, 0.75..1.25)) => {}
            }
        }
    }

    /// Processes one batch; returns the delay before the next.
    async fn embed_pending_texts(&self, embedder: &Embedder) -> Result<Duration, PgError> {
        if !self.is_ready.load(Ordering::Acquire) {
            if !embeddings::prepare_storage(
                &self.database,
                embedder.model(),
                i32::from(embedder.dimensions()),
            )
            .await?
            {
                tracing::warn!(
                    "embeddings are configured but the database has no pgvector, using full-text search only"
                );
                return Ok(PGVECTOR_CHECK_INTERVAL);
            }
            self.is_ready.store(true, Ordering::Release);
        }
        let texts = embeddings::claim_texts(&self.database, CLAIM_BATCH_SIZE).await?;
        if texts.is_empty() {
            return Ok(POLL_INTERVAL);
        }
        stream::iter(texts.chunks(REQUEST_BATCH_SIZE))
            .for_each_concurrent(REQUEST_CONCURRENCY, |batch| self.embed_batch(embedder, batch))
            .await;
        Ok(Duration::ZERO)
    }

    /// Embeds and stores one batch. Failed texts are claimed again later.
    async fn embed_batch(&self, embedder: &Embedder, texts: &[PendingText]) {
        let contents: Vec<&str> = texts.iter().map(|text| text.content.as_str()).collect();
        let outcome = match embedder.embed(&contents).await {
            Err(error) => {
                tracing::info!(error = %ErrorChain(&error), "embedding texts failed, retrying later");
                "failed"
            }
            Ok(embeddings) => match embeddings::store_vectors(&self.database, texts, &embeddings).await {
                Ok(()) => "done",
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "storing embeddings failed");
                    "failed"
                }
            },
        };
        metrics::counter!(metric::CONTEXT_EMBEDDINGS, "outcome" => outcome).increment(texts.len() as u64);
    }
}
