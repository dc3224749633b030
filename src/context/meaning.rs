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

use super::{engine::ContextEngine, provider::Embedder};
use crate::pg::{
    PgError,
    queries::vectors::{self, Text},
};

/// How long a prompt waits for its message's vector.
const IN_TIME: Duration = Duration::from_millis(500);
/// Between looks for texts without a vector, and for pgvector where it is missing.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const LOOK_FOR_PGVECTOR_EVERY: Duration = Duration::from_secs(300);
/// Texts that are taken at once, that go into one request, and requests at a time.
const AT_ONCE: i32 = 128;
const A_REQUEST: usize = 16;
const REQUESTS_AT_A_TIME: usize = 4;
/// Counter: texts that were to get a vector, by `outcome`.
const TEXTS: &str = "rollcall_context_embeddings_total";

impl ContextEngine {
    /// A message's vector; `None` where there is nothing to compare it with, or no answer in time.
    pub(super) async fn vector_of(&self, message: &str) -> Option<String> {
        let embedder = self.settings.embedder.as_ref().filter(|_| self.meaning.is_ready())?;
        match timeout(IN_TIME, embedder.embed(&[message])).await {
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
    pub async fn run_meaning(self: Arc<Self>, stop: CancellationToken) {
        let Some(embedder) = self.settings.embedder.clone() else { return stop.cancelled().await };
        loop {
            let pause = select! {
                () = stop.cancelled() => return,
                pause = self.give_meaning(&embedder) => pause,
            };
            let pause = pause.unwrap_or_else(|error| {
                tracing::warn!(error = ?error, "could not look for texts without a vector");
                LOOK_EVERY
            });
            select! {
                () = stop.cancelled() => return,
                () = sleep(pause.mul_f64(rand::rng().random_range(0.75..1.25))) => {}
            }
        }
    }

    /// One look. Returns how long to wait for the next.
    async fn give_meaning(&self, embedder: &Embedder) -> Result<Duration, PgError> {
        if !self.meaning.is_ready() {
            if !vectors::prepare(&self.database, embedder.model(), i32::from(embedder.dimensions())).await? {
                tracing::warn!(
                    "embeddings are configured, and the database has no pgvector: words decide alone"
                );
                return Ok(LOOK_FOR_PGVECTOR_EVERY);
            }
            self.meaning.get_ready();
        }
        let texts = vectors::take(&self.database, AT_ONCE).await?;
        if texts.is_empty() {
            return Ok(LOOK_EVERY);
        }
        stream::iter(texts.chunks(A_REQUEST))
            .for_each_concurrent(REQUESTS_AT_A_TIME, |some| self.embed(embedder, some))
            .await;
        Ok(Duration::ZERO)
    }

    /// What fails here is taken again later.
    async fn embed(&self, embedder: &Embedder, texts: &[Text]) {
        let contents: Vec<&str> = texts.iter().map(|text| text.content.as_str()).collect();
        let outcome = match embedder.embed(&contents).await {
            Err(error) => {
                tracing::info!(error = %error, "some texts have no vector yet");
                "failed"
            }
            Ok(found) => match vectors::store(&self.database, texts, &found).await {
                Ok(()) => "done",
                Err(error) => {
                    tracing::warn!(error = ?error, "could not store vectors");
                    "failed"
                }
            },
        };
        metrics::counter!(TEXTS, "outcome" => outcome).increment(texts.len() as u64);
    }
}

/// Whether the database can compare vectors.
#[derive(Debug, Default)]
pub(super) struct Meaning(std::sync::atomic::AtomicBool);

impl Meaning {
    fn is_ready(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Acquire)
    }

    fn get_ready(&self) {
        self.0.store(true, std::sync::atomic::Ordering::Release);
    }
}
