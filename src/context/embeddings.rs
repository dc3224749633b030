//! Finding by meaning, where an embeddings API is configured and the database has pgvector; else words decide alone.
//!
//! Units and memories get their vectors in the background; a message gets one when its prompt is assembled, if the API
//! answers in time. What has no vector is found by its words.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use rand::Rng;
use tokio::{
    select,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    engine::ContextEngine,
    provider::Embedder,
    store::embeddings::{self, PendingText},
};
use crate::pg::PgError;

/// How long a prompt waits for its message's vector.
const QUERY_EMBEDDING_TIMEOUT: Duration = Duration::from_millis(500);
/// Between looks for texts without a vector, and for pgvector where it is missing.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
const PGVECTOR_CHECK_INTERVAL: Duration = Duration::from_secs(300);
/// Texts that are taken at once, that go into one request, and requests at a time.
const CLAIM_BATCH_SIZE: i32 = 128;
const REQUEST_BATCH_SIZE: usize = 16;
const REQUEST_CONCURRENCY: usize = 4;
/// Counter: texts that were to get a vector, by `outcome`.
const EMBEDDINGS_TOTAL: &str = "rollcall_context_embeddings_total";

impl ContextEngine {
    /// A message's vector; `None` where there is nothing to compare it with, or no answer in time.
    pub(super) async fn embed_query(&self, message: &str) -> Option<String> {
        let embedder = self.settings.embedder.as_ref().filter(|_| self.pgvector.is_ready())?;
        match timeout(QUERY_EMBEDDING_TIMEOUT, embedder.embed(&[message])).await {
            Ok(Ok(vectors)) => vectors.into_iter().next(),
            Ok(Err(error)) => {
                tracing::info!(error = %error, "no vector of a message; its words decide");
                None
            }
            Err(_) => {
                tracing::info!("no vector of a message in time; its words decide");
                None
            }
        }
    }

    /// Gives units and memories their vectors, until stopped.
    pub async fn run_embedding_worker(self: Arc<Self>, stop: CancellationToken) {
        let Some(embedder) = self.settings.embedder.clone() else { return stop.cancelled().await };
        loop {
            let pause = select! {
                () = stop.cancelled() => return,
                pause = self.embed_pending_texts(&embedder) => pause,
            };
            let pause = pause.unwrap_or_else(|error| {
                tracing::warn!(error = ?error, "could not look for texts without a vector");
                POLL_INTERVAL
            });
            select! {
                () = stop.cancelled() => return,
                () = sleep(pause.mul_f64(rand::rng().random_range(0.75..1.25))) => {}
            }
        }
    }

    /// One look. Returns how long to wait for the next.
    async fn embed_pending_texts(&self, embedder: &Embedder) -> Result<Duration, PgError> {
        if !self.pgvector.is_ready() {
            if !embeddings::prepare_storage(
                &self.database,
                embedder.model(),
                i32::from(embedder.dimensions()),
            )
            .await?
            {
                tracing::warn!(
                    "embeddings are configured, and the database has no pgvector: words decide alone"
                );
                return Ok(PGVECTOR_CHECK_INTERVAL);
            }
            self.pgvector.set_ready();
        }
        let texts = embeddings::claim_texts(&self.database, CLAIM_BATCH_SIZE).await?;
        if texts.is_empty() {
            return Ok(POLL_INTERVAL);
        }
        stream::iter(texts.chunks(REQUEST_BATCH_SIZE))
            .for_each_concurrent(REQUEST_CONCURRENCY, |some| self.embed_batch(embedder, some))
            .await;
        Ok(Duration::ZERO)
    }

    /// What fails here is taken again later.
    async fn embed_batch(&self, embedder: &Embedder, texts: &[PendingText]) {
        let contents: Vec<&str> = texts.iter().map(|text| text.content.as_str()).collect();
        let outcome = match embedder.embed(&contents).await {
            Err(error) => {
                tracing::info!(error = %error, "some texts have no vector yet");
                "failed"
            }
            Ok(found) => match embeddings::store_vectors(&self.database, texts, &found).await {
                Ok(()) => "done",
                Err(error) => {
                    tracing::warn!(error = ?error, "could not store vectors");
                    "failed"
                }
            },
        };
        metrics::counter!(EMBEDDINGS_TOTAL, "outcome" => outcome).increment(texts.len() as u64);
    }
}

/// Whether the database can compare vectors.
#[derive(Debug, Default)]
pub(super) struct PgvectorState(std::sync::atomic::AtomicBool);

impl PgvectorState {
    fn is_ready(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Acquire)
    }

    fn set_ready(&self) {
        self.0.store(true, std::sync::atomic::Ordering::Release);
    }
}
