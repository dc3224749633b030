//! LLM providers: any HTTP API compatible with OpenAI's, and `echo` for development.

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

#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// System prompt, history and the user's message, in this order.
    pub messages: Vec<ChatMessage>,
    /// Model name; `None` means the provider's default.
    pub model: Option<String>,
    /// Maximum tokens of the answer.
    pub max_tokens: Option<u32>,
    /// Sampling temperature, 0 to 2.
    pub temperature: Option<f32>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    #[serde(default)]
    pub prompt_tokens: u64,
    #[serde(default)]
    pub completion_tokens: u64,
    #[serde(default)]
    pub total_tokens: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    pub content: String,
    pub model: String,
    /// Token usage, if the provider reports it.
    pub usage: Option<Usage>,
}

/// A part of a streamed answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompletionChunk {
    /// The next part of the text.
    Text(String),
    /// The model that answers.
    Model(String),
    Usage(Usage),
}

/// A streamed answer. Dropping it cancels the request to the provider.
pub type CompletionStream = BoxStream<'static, Result<CompletionChunk, ProviderError>>;

/// Configuration of a provider.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Name that requests use.
    pub name: String,
    /// URL without `/chat/completions`.
    pub base_url: String,
    /// Bearer token, if the API needs one.
    pub api_key: Option<Secret>,
    pub model: String,
    /// Maximum time without data from the provider.
    pub timeout: Duration,
}

impl Endpoint {
    /// Base URL and default model of a well-known provider.
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

#[derive(Clone)]
pub enum Provider {
    /// An API compatible with OpenAI's.
    OpenAi(Arc<OpenAi>),
    /// Answers with a summary of the prompt; for development.
    Echo,
}

impl Provider {
    /// Name that requests use.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::OpenAi(provider) => provider.name(),
            Self::Echo => "echo",
        }
    }

    /// Whether this is a real model and not `echo`.
    #[must_use]
    pub const fn is_model(&self) -> bool {
        matches!(self, Self::OpenAi(_))
    }

    /// Requests the complete answer. Retryable errors are retried first.
    pub async fn complete(&self, request: &CompletionRequest) -> Result<Completion, ProviderError> {
        match self {
            Self::OpenAi(provider) => provider.complete(request).await,
            Self::Echo => Ok(echo::complete(request)),
        }
    }

    /// Requests a streamed answer. Retryable errors are retried until the first byte arrives.
    pub async fn stream(&self, request: &CompletionRequest) -> Result<CompletionStream, ProviderError> {
        match self {
            Self::OpenAi(provider) => provider.stream(request).await,
            Self::Echo => Ok(echo::stream(request)),
        }
    }
}

#[derive(Clone, Default)]
pub struct Providers {
    by_name: BTreeMap<String, Provider>,
    default: Option<String>,
}

/// A request names a provider that is not configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {configured}")]
pub struct UnknownProvider {
    configured: String,
}

impl Providers {
    /// The first endpoint is the default; `echo` adds the echo provider.
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

    /// The provider of this name, or the default one. `None` if no provider is configured.
    pub fn get(&self, name: Option<&str>) -> Result<Option<&Provider>, UnknownProvider> {
        match name {
            None => Ok(self.default.as_ref().and_then(|name| self.by_name.get(name))),
            Some(_) if self.by_name.is_empty() => Ok(None),
            Some(name) => self.by_name.get(name).map(Some).ok_or_else(|| UnknownProvider {
                configured: self.by_name.keys().cloned().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// The default provider, unless it is `echo`.
    #[must_use]
    pub fn default_model(&self) -> Option<&Provider> {
        self.get(None).ok().flatten().filter(|provider| provider.is_model())
    }
}
