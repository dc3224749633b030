//! Embeddings by an API compatible with OpenAI's.

use std::fmt::Write as _;

use super::{Endpoint, OpenAi, ProviderError};

/// Configuration of an embeddings API.
#[derive(Debug, Clone)]
pub struct EmbedderConfig {
    /// Base URL without `/embeddings`, key and model.
    pub endpoint: Endpoint,
    /// Length of the vectors.
    pub dimensions: u16,
}

/// Longer texts are cut before they are embedded.
const MAX_TEXT_CHARS: usize = 8_000;

/// Client of an embeddings API.
pub struct Embedder {
    api: OpenAi,
    model: String,
    dimensions: u16,
}

impl Embedder {
    /// Creates a client without opening a connection.
    #[must_use]
    pub fn new(settings: &EmbedderConfig) -> Self {
        let model = settings.endpoint.model.clone();
        Self { api: OpenAi::new(settings.endpoint.clone()), model, dimensions: settings.dimensions }
    }

    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Length of the vectors.
    #[must_use]
    pub const fn dimensions(&self) -> u16 {
        self.dimensions
    }

    /// Returns a vector for each text, in pgvector's text format.
    ///
    /// # Errors
    /// See [`ProviderError`]. A vector of another length, with non-finite numbers or of zeros is an invalid response.
    pub async fn embed(&self, texts: &[&str]) -> Result<Vec<String>, ProviderError> {
        let truncated: Vec<&str> = texts.iter().map(|text| truncate(text)).collect();
        let vectors = self.api.embed(&truncated).await?;
        vectors.iter().map(|vector| self.format_vector(vector)).collect()
    }

    fn format_vector(&self, vector: &[f32]) -> Result<String, ProviderError> {
        if vector.len() != usize::from(self.dimensions) {
            let message = format!("embedding has {} dimensions, expected {}", vector.len(), self.dimensions);
            return Err(ProviderError::InvalidResponse(message));
        }
        // Cosine similarity is undefined for a zero vector.
        if vector.iter().any(|number| !number.is_finite()) || vector.iter().all(|number| *number == 0.0) {
            return Err(ProviderError::InvalidResponse("embedding is zero or not finite".into()));
        }
        let mut text = "[".to_owned();
        for (at, number) in vector.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let _ = write!(text, "{comma}{number}");
        }
        text.push(']');
        Ok(text)
    }
}

fn truncate(text: &str) -> &str {
    text.char_indices().nth(MAX_TEXT_CHARS).map_or(text, |(end, _)| &text[..end])
}
