//! Settings of the context engine, of chat and of embeddings.

use std::time::Duration;

use clap::ArgAction;

use super::provider::{EmbedderConfig, Endpoint};
use crate::{
    model::Secret,
    settings::{ParseResult, Problem, boolean, duration_within, http_url, small_count},
};

/// Bounds of the time without data from a provider.
const MIN_PROVIDER_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_PROVIDER_TIMEOUT: Duration = Duration::from_secs(600);
/// Maximum interval between roll-ups.
const MAX_ROLL_UP_INTERVAL: Duration = Duration::from_secs(24 * 3_600);
/// Maximum number of dimensions that pgvector stores.
const MAX_DIMENSIONS: u64 = 16_000;

/// Configuration of the context engine.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Context and chat")]
pub struct ContextSettings {
    #[command(flatten)]
    pub models: ModelSettings,
    /// Use the dynamic context engine unless a request says otherwise
    #[arg(
        id = "use-dynamic-context",
        long = "use-dynamic-context",
        env = "USE_DYNAMIC_CONTEXT",
        default_value = "true",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub use_dynamic: bool,
    /// Use the simple context engine when the dynamic one fails
    #[arg(
        id = "context-fallback",
        long = "context-fallback",
        env = "CONTEXT_FALLBACK",
        default_value = "true",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub fall_back_to_simple: bool,
    /// Interval between roll-ups of new units; 0 disables them
    #[arg(
        id = "context-rollup-every",
        long = "context-rollup-every",
        env = "CONTEXT_ROLLUP_EVERY",
        default_value = "5m",
        value_parser = roll_up_interval
    )]
    pub roll_up_interval: Interval,
}

/// An interval that 0 disables. An alias, because clap takes a field of type `Option` for a setting without a default.
type Interval = Option<Duration>;

fn roll_up_interval(text: &str) -> ParseResult<Interval> {
    duration_within(Duration::ZERO..=MAX_ROLL_UP_INTERVAL)(text).map(|it| Some(it).filter(|it| !it.is_zero()))
}

/// Model providers and the embeddings API.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Context and chat")]
pub struct ModelSettings {
    /// Model provider for chat: openai, zai, ollama, echo (development only), or any name with LLM_BASE_URL. Default: no
    /// chat
    #[arg(id = "llm-provider", long = "llm-provider", env = "LLM_PROVIDER")]
    provider: Option<String>,
    /// Base URL of the provider's API, such as https://api.example.com/v1. Default: set by the provider
    #[arg(id = "llm-base-url", long = "llm-base-url", env = "LLM_BASE_URL", value_parser = http_url)]
    base_url: Option<String>,
    /// API key of the provider
    #[arg(id = "llm-api-key", long = "llm-api-key", env = "LLM_API_KEY")]
    api_key: Option<Secret>,
    /// Model, unless a request names one. Default: set by the provider
    #[arg(id = "llm-model", long = "llm-model", env = "LLM_MODEL")]
    model: Option<String>,
    /// Maximum time without data from a provider
    #[arg(
        id = "llm-timeout",
        long = "llm-timeout",
        env = "LLM_TIMEOUT",
        default_value = "60s",
        value_parser = duration_within(MIN_PROVIDER_TIMEOUT..=MAX_PROVIDER_TIMEOUT)
    )]
    timeout: Duration,
    /// API key of the additional provider openai
    #[arg(long, env = "OPENAI_API_KEY")]
    openai_api_key: Option<Secret>,
    /// API key of the additional provider zai
    #[arg(long, env = "ZAI_API_KEY")]
    zai_api_key: Option<Secret>,
    /// Base URL of an embeddings API, such as https://api.example.com/v1, for semantic retrieval with pgvector. Default:
    /// retrieval by words
    #[arg(long, env = "EMBEDDINGS_BASE_URL", value_parser = http_url)]
    embeddings_base_url: Option<String>,
    /// API key of the embeddings API
    #[arg(long, env = "EMBEDDINGS_API_KEY")]
    embeddings_api_key: Option<Secret>,
    /// Embeddings model
    #[arg(long, env = "EMBEDDINGS_MODEL", default_value = "text-embedding-3-small")]
    embeddings_model: String,
    /// Dimensions of the embeddings
    #[arg(
        long,
        env = "EMBEDDINGS_DIMENSIONS",
        default_value = "1536",
        value_parser = small_count::<u16>(1..=MAX_DIMENSIONS)
    )]
    embeddings_dimensions: u16,
}

impl ModelSettings {
    /// Whether the `echo` provider is enabled, for development.
    #[must_use]
    pub fn echo(&self) -> bool {
        self.provider.as_deref() == Some("echo")
    }

    /// Configured model APIs; the first is the default.
    ///
    /// # Errors
    /// When the base URL or the model of the provider is unknown.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>, Problem> {
        let mut endpoints: Vec<_> = self.main_endpoint()?.into_iter().collect();
        for (name, key) in [("openai", &self.openai_api_key), ("zai", &self.zai_api_key)] {
            if let (Some(key), Some((base_url, model))) = (key, Endpoint::preset(name))
                && endpoints.iter().all(|endpoint| endpoint.name != name)
            {
                endpoints.push(self.endpoint(name, base_url, Some(key), model));
            }
        }
        Ok(endpoints)
    }

    fn main_endpoint(&self) -> Result<Option<Endpoint>, Problem> {
        let name = match (self.provider.as_deref(), &self.base_url) {
            (Some("echo"), _) | (None, None) => return Ok(None),
            (Some(name), _) => name,
            // A base URL without a name defines a provider too.
            (None, Some(_)) => "custom",
        };
        let preset = Endpoint::preset(name);
        let base_url = self.base_url.as_deref().or(preset.map(|(url, _)| url)).ok_or_else(|| {
            let known = "must be one of openai, zai, ollama, echo";
            Problem::new("LLM_PROVIDER", format!("{known} (got \"{name}\"), unless LLM_BASE_URL is set"))
        })?;
        let model = self.model.as_deref().or(preset.map(|(_, model)| model));
        let model = model.ok_or_else(|| Problem::new("LLM_MODEL", "is required for a custom provider"))?;
        Ok(Some(self.endpoint(name, base_url, self.api_key.as_ref(), model)))
    }

    fn endpoint(&self, name: &str, base_url: &str, api_key: Option<&Secret>, model: &str) -> Endpoint {
        Endpoint {
            name: name.to_owned(),
            base_url: base_url.to_owned(),
            api_key: api_key.cloned(),
            model: model.to_owned(),
            timeout: self.timeout,
        }
    }

    /// Embeddings API for semantic retrieval; `None` disables it.
    #[must_use]
    pub fn embedder(&self) -> Option<EmbedderConfig> {
        let (key, model) = (self.embeddings_api_key.as_ref(), &self.embeddings_model);
        Some(EmbedderConfig {
            endpoint: self.endpoint("embeddings", self.embeddings_base_url.as_deref()?, key, model),
            dimensions: self.embeddings_dimensions,
        })
    }
}
