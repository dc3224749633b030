//! Texts as vectors of numbers, by an API that speaks as OpenAI's does.

use std::fmt::Write as _;

use super::{Endpoint, OpenAi, ProviderError};

/// How to reach an embeddings API.
#[derive(Debug, Clone)]
pub struct EmbedderConfig {
    /// Up to and without `/embeddings`, with its model.
    pub endpoint: Endpoint,
    /// The numbers of its vectors.
    pub dimensions: u16,
}

/// The characters of a text that are embedded.
const MAX_TEXT_CHARS: usize = 8_000;

/// An embeddings API.
pub struct Embedder {
    api: OpenAi,
    model: String,
    dimensions: u16,
}

impl Embedder {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(settings: &EmbedderConfig) -> Self {
        let model = settings.endpoint.model.clone();
        Self { api: OpenAi::new(settings.endpoint.clone()), model, dimensions: settings.dimensions }
    }

    /// Its model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The numbers of its vectors.
    #[must_use]
    pub const fn dimensions(&self) -> u16 {
        self.dimensions
    }

    /// A vector for each text, as pgvector reads it.
    ///
    /// # Errors
    /// See [`ProviderError`]; a vector of another length, or of what is no number, is none.
    pub async fn embed(&self, texts: &[&str]) -> Result<Vec<String>, ProviderError> {
        let cut: Vec<&str> = texts.iter().map(|text| truncate(text)).collect();
        let vectors = self.api.embed(&cut).await?;
        vectors.iter().map(|vector| self.format_vector(vector)).collect()
    }

    fn format_vector(&self, vector: &[f32]) -> Result<String, ProviderError> {
        if vector.len() != usize::from(self.dimensions) {
            let said = format!("it has {} numbers instead of {}", vector.len(), self.dimensions);
            return Err(ProviderError::InvalidResponse(said));
        }
        // Nothing is alike to a vector without a direction.
        if vector.iter().any(|number| !number.is_finite()) || vector.iter().all(|number| *number == 0.0) {
            return Err(ProviderError::InvalidResponse("it is no vector".into()));
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
