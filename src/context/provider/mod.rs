//! Models over HTTP: any API that speaks as OpenAI's does, by name, base URL and key; and `echo` for development.

mod circuit_breaker;
mod echo;
mod embedder;
mod error;
mod openai;
mod sse;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

pub use embedder::{Embedder, EmbedderConfig};
pub use error::ProviderError;
pub use openai::OpenAi;

use super::assemble::ChatMessage;
use crate::model::Secret;

/// What a model is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// System, history and message.
    pub messages: Vec<ChatMessage>,
    /// Which model; the provider's own without.
    pub model: Option<String>,
    /// The most tokens of the answer.
    pub max_tokens: Option<u32>,
    /// From 0, sober, to 2.
    pub temperature: Option<f32>,
}

/// The tokens that were paid for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the prompt.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Of the answer.
    #[serde(default)]
    pub completion_tokens: u64,
    /// Of both.
    #[serde(default)]
    pub total_tokens: u64,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// What the model says.
    pub content: String,
    /// Which model it was.
    pub model: String,
    /// What it cost, where the provider says.
    pub usage: Option<Usage>,
}

/// A part of an answer that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompletionChunk {
    /// More of the text.
    Text(String),
    /// Which model it is.
    Model(String),
    /// What it cost.
    Usage(Usage),
}

/// An answer that is being written. Dropped, the call to the provider ends.
pub type CompletionStream = BoxStream<'static, Result<CompletionChunk, ProviderError>>;

/// How to reach a provider.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its name in requests.
    pub name: String,
    /// Up to and without `/chat/completions`.
    pub base_url: String,
    /// The key, where it wants one.
    pub api_key: Option<Secret>,
    /// The model, unless a request names one.
    pub model: String,
    /// How long it may be silent.
    pub timeout: Duration,
}

impl Endpoint {
    /// Base URL and model of a provider that is known by name.
    #[must_use]
    pub fn preset(name: &str) -> Option<(&'static str, &'static str)> {
        match name {
            "openai" => Some(("https://api.openai.com/v1", "gpt-4o-mini")),
            "zai" => Some(("https://api.z.ai/api/paas/v4", "glm-4.6")),
            "ollama" => Some(("http://127.0.0.1:11434/v1", "llama3.2")),
            _ => None,
        }
    }
}

/// One provider.
#[derive(Clone)]
pub enum Provider {
    /// Over HTTP.
    OpenAi(Arc<OpenAi>),
    /// Answers with a digest of the context.
    Echo,
}

impl Provider {
    /// Its name in requests.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::OpenAi(provider) => provider.name(),
            Self::Echo => "echo",
        }
    }

    /// Whether it is a model, and not an echo.
    #[must_use]
    pub const fn is_model(&self) -> bool {
        matches!(self, Self::OpenAi(_))
    }

    /// The whole answer at once.
    ///
    /// # Errors
    /// See [`ProviderError`]; what may pass has been tried again.
    pub async fn complete(&self, request: &CompletionRequest) -> Result<Completion, ProviderError> {
        match self {
            Self::OpenAi(provider) => provider.complete(request).await,
            Self::Echo => Ok(echo::complete(request)),
        }
    }

    /// The answer as it is written. What may pass is tried again until the first byte, not after it.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn stream(&self, request: &CompletionRequest) -> Result<CompletionStream, ProviderError> {
        match self {
            Self::OpenAi(provider) => provider.stream(request).await,
            Self::Echo => Ok(echo::stream(request)),
        }
    }
}

/// The providers that there are.
#[derive(Clone, Default)]
pub struct Providers {
    by_name: BTreeMap<String, Provider>,
    default: Option<String>,
}

/// There is no provider of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no such provider; there are: {there_are}")]
pub struct UnknownProvider {
    there_are: String,
}

impl Providers {
    /// Those that are configured; the first answers where a request names none.
    #[must_use]
    pub fn new(endpoints: &[Endpoint], echo: bool) -> Self {
        let remote =
            endpoints.iter().cloned().map(|endpoint| Provider::OpenAi(Arc::new(OpenAi::new(endpoint))));
        let all: Vec<_> = remote.chain(echo.then_some(Provider::Echo)).collect();
        let default = all.first().map(|provider| provider.name().to_owned());
        Self {
            by_name: all.into_iter().map(|provider| (provider.name().to_owned(), provider)).collect(),
            default,
        }
    }

    /// The one of this name, or without a name the default; the inner `None` where none is configured.
    ///
    /// # Errors
    /// For a name that there is not.
    pub fn get(&self, name: Option<&str>) -> Result<Option<&Provider>, UnknownProvider> {
        match name {
            None => Ok(self.default.as_ref().and_then(|name| self.by_name.get(name))),
            Some(_) if self.by_name.is_empty() => Ok(None),
            Some(name) => self.by_name.get(name).map(Some).ok_or_else(|| UnknownProvider {
                there_are: self.by_name.keys().cloned().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// A model to sum up with, if there is one.
    #[must_use]
    pub fn default_model(&self) -> Option<&Provider> {
        self.get(None).ok().flatten().filter(|provider| provider.is_model())
    }
}
