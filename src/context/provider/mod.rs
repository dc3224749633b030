//! LLM providers: any HTTP API compatible with OpenAI's, and `echo` for development.

mod circuit_breaker;
mod echo;
mod embedder;
mod error;
mod openai;
mod sse;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::BoxStream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use embedder::{Embedder, EmbedderConfig};
pub use error::ProviderError;
pub use openai::OpenAi;

use super::message::ChatMessage;
use crate::{model::Secret, telemetry::metric};

/// What a call to a model is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// A user waits for the answer.
    #[default]
    Chat,
    /// Summary of a conversation, in the background.
    Summary,
    /// Names of topics and entities, in the background.
    RollUp,
    /// Facts in messages, in the background.
    Memory,
}

impl Purpose {
    /// Name in metrics and usage records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Summary => "summary",
            Self::RollUp => "roll_up",
            Self::Memory => "memory",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct CompletionRequest {
    pub purpose: Purpose,
    /// System prompt, history and the client's messages, in this order.
    pub messages: Vec<ChatMessage>,
    /// Model name; `None` means the provider's default.
    pub model: Option<String>,
    /// Maximum tokens of the answer.
    pub max_tokens: Option<u32>,
    /// Sampling temperature, 0 to 2.
    pub temperature: Option<f32>,
    /// Further fields of OpenAI's API, sent as they are.
    pub options: Map<String, Value>,
}

/// Token usage of a call, as the provider reports it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    #[serde(default)]
    pub prompt_tokens: u64,
    #[serde(default)]
    pub completion_tokens: u64,
    #[serde(default)]
    pub total_tokens: u64,
}

/// A complete answer. The text, the tool calls and the reason are those of the first choice.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Completion {
    /// Text; empty if the answer consists of tool calls.
    pub content: String,
    pub tool_calls: Vec<Value>,
    /// Why the answer ends: `stop`, `length`, `tool_calls`, `content_filter`.
    pub finish_reason: Option<String>,
    pub model: String,
    /// Token usage, if the provider reports it.
    pub usage: Option<Usage>,
    /// The whole response in OpenAI's format.
    pub raw: Value,
}

/// A part of a streamed answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CompletionChunk {
    /// The next part of the text of the first choice.
    pub text: String,
    /// Parts of tool calls of the first choice; parts with the same `index` belong together.
    pub tool_calls: Vec<Value>,
    pub finish_reason: Option<String>,
    /// Model that answers, if the chunk names it.
    pub model: Option<String>,
    pub usage: Option<Usage>,
    /// The whole chunk in OpenAI's format.
    pub raw: Value,
}

impl CompletionChunk {
    /// Reads a chunk in OpenAI's format.
    fn from_raw(raw: Value) -> Self {
        let text_of = |value: &Value| value.as_str().map(str::to_owned);
        let is_first = |choice: &&Value| choice["index"].as_u64().unwrap_or(0) == 0;
        let choice = raw["choices"].as_array().and_then(|choices| choices.iter().find(is_first));
        let delta = choice.map_or(&Value::Null, |choice| &choice["delta"]);
        Self {
            text: text_of(&delta["content"]).unwrap_or_default(),
            tool_calls: delta["tool_calls"].as_array().cloned().unwrap_or_default(),
            finish_reason: choice.and_then(|choice| text_of(&choice["finish_reason"])),
            model: text_of(&raw["model"]).filter(|model| !model.is_empty()),
            usage: Usage::from_raw(&raw["usage"]),
            raw,
        }
    }
}

impl Usage {
    fn from_raw(usage: &Value) -> Option<Self> {
        usage.is_object().then(|| Self::deserialize(usage).ok()).flatten()
    }
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

    /// Model that answers if a request names none.
    #[must_use]
    pub fn default_model(&self) -> &str {
        match self {
            Self::OpenAi(provider) => provider.default_model(),
            Self::Echo => echo::MODEL,
        }
    }

    /// Requests the complete answer. Retryable errors are retried first.
    pub async fn complete(&self, request: &CompletionRequest) -> Result<Completion, ProviderError> {
        let result = match self {
            Self::OpenAi(provider) => provider.complete(request).await,
            Self::Echo => Ok(echo::complete(request)),
        };
        self.count_call(request.purpose, result.as_ref().err());
        if let Ok(Completion { usage: Some(usage), .. }) = &result {
            self.count_tokens(request.purpose, *usage);
        }
        result
    }

    /// Requests a streamed answer. Retryable errors are retried until the first byte arrives.
    pub async fn stream(&self, request: &CompletionRequest) -> Result<CompletionStream, ProviderError> {
        let result = match self {
            Self::OpenAi(provider) => provider.stream(request).await,
            Self::Echo => Ok(echo::stream(request)),
        };
        self.count_call(request.purpose, result.as_ref().err());
        let (provider, purpose) = (self.clone(), request.purpose);
        let counted = result?.inspect(move |chunk| {
            if let Ok(CompletionChunk { usage: Some(usage), .. }) = chunk {
                provider.count_tokens(purpose, *usage);
            }
        });
        Ok(counted.boxed())
    }

    fn count_call(&self, purpose: Purpose, error: Option<&ProviderError>) {
        let outcome = if error.is_some() { "failed" } else { "done" };
        let labels = [
            ("purpose", purpose.as_str().to_owned()),
            ("provider", self.name().to_owned()),
            ("outcome", outcome.to_owned()),
        ];
        metrics::counter!(metric::CONTEXT_LLM_CALLS, &labels).increment(1);
    }

    fn count_tokens(&self, purpose: Purpose, usage: Usage) {
        for (kind, tokens) in [("prompt", usage.prompt_tokens), ("completion", usage.completion_tokens)] {
            let labels = [
                ("purpose", purpose.as_str().to_owned()),
                ("provider", self.name().to_owned()),
                ("kind", kind.to_owned()),
            ];
            metrics::counter!(metric::CONTEXT_LLM_TOKENS, &labels).increment(tokens);
        }
    }
}

#[derive(Clone, Default)]
pub struct Providers {
    by_name: BTreeMap<String, Provider>,
    /// Clients of their own, so that failures of background calls open no circuit breaker of chats.
    for_background: BTreeMap<String, Provider>,
    default: Option<String>,
    fallbacks: Vec<String>,
    background: BackgroundModel,
}

/// Provider and model of background calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BackgroundModel {
    /// The default provider with this model, or with its default model.
    #[default]
    Default,
    Disabled,
    /// A provider, and a model if it is not the provider's default.
    Use {
        /// `None` means the default provider.
        provider: Option<String>,
        model: Option<String>,
    },
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
        let all = || -> Vec<(String, Provider)> {
            let remote =
                endpoints.iter().cloned().map(|endpoint| Provider::OpenAi(Arc::new(OpenAi::new(endpoint))));
            let all = remote.chain(echo.then_some(Provider::Echo));
            all.map(|provider| (provider.name().to_owned(), provider)).collect()
        };
        let by_name = all();
        let default = by_name.first().map(|(name, _)| name.clone());
        Self {
            by_name: by_name.into_iter().collect(),
            for_background: all().into_iter().collect(),
            default,
            ..Self::default()
        }
    }

    /// Sets the providers that answer in this order if the default one fails.
    #[must_use]
    pub fn with_fallbacks(self, fallbacks: Vec<String>) -> Self {
        Self { fallbacks, ..self }
    }

    /// Sets the model of background calls.
    #[must_use]
    pub fn with_background_model(self, background: BackgroundModel) -> Self {
        Self { background, ..self }
    }

    /// Configured providers by name; the default one is first.
    pub fn all(&self) -> impl Iterator<Item = &Provider> {
        let is_default = |provider: &&Provider| Some(provider.name()) == self.default.as_deref();
        let others = self.by_name.values().filter(move |provider| !is_default(provider));
        self.by_name.values().filter(is_default).chain(others)
    }

    /// Providers to ask in this order: the named one alone, or the default one and its fallbacks. Empty if no provider is
    /// configured.
    pub fn chain(&self, name: Option<&str>) -> Result<Vec<Provider>, UnknownProvider> {
        let mut chain: Vec<Provider> = self.get(name)?.into_iter().cloned().collect();
        if name.is_none() {
            let others = self.fallbacks.iter().filter(|other| Some(*other) != self.default.as_ref());
            chain.extend(others.filter_map(|other| self.by_name.get(other)).cloned());
        }
        Ok(chain)
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

    /// Provider and model of background calls. `None` if they are disabled or the provider is `echo`.
    #[must_use]
    pub fn background(&self) -> Option<(&Provider, Option<String>)> {
        let (name, model) = match &self.background {
            BackgroundModel::Disabled => return None,
            BackgroundModel::Default => (None, None),
            BackgroundModel::Use { provider, model } => (provider.as_deref(), model.clone()),
        };
        let name = name.or(self.default.as_deref())?;
        let provider = self.for_background.get(name).filter(|provider| provider.is_model())?;
        Some((provider, model))
    }
}
