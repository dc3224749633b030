//! Settings of the context engine, of chat and of embeddings.

use std::{collections::HashMap, time::Duration};

use clap::ArgAction;

use super::{
    background::Prices,
    chat_limits::ChatLimits,
    provider::{BackgroundModel, EmbedderConfig, Endpoint, Providers},
};
use crate::{
    auth::Role,
    model::Secret,
    settings::{ParseResult, Problem, boolean, comma_separated, duration_within, http_url, small_count},
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
    /// What the server remembers of chats: model (units, and facts that the model of background calls finds), words (units
    /// only) or off
    #[arg(
        id = "context-memory",
        long = "context-memory",
        env = "CONTEXT_MEMORY",
        default_value = "model",
        value_parser = learning
    )]
    pub learning: Learning,
    /// Prices per million tokens in usage records: model=prompt/completion, comma-separated. Default: no cost
    #[arg(id = "llm-prices", long = "llm-prices", env = "LLM_PRICES", default_value = "", value_parser = Prices::parse)]
    pub prices: Prices,
    /// Comma-separated models that users may request; role=model limits one role. Default: any
    #[arg(long, env = "CHAT_MODELS", value_parser = models_by_role)]
    chat_models: Option<HashMap<Role, Vec<String>>>,
    /// Maximum tokens of an answer for users; role=number, comma-separated, limits single roles. Default: 16384
    #[arg(long, env = "CHAT_MAX_TOKENS", value_parser = tokens_by_role)]
    chat_max_tokens: Option<HashMap<Role, u32>>,
    /// Maximum tokens of a prompt for users; role=number, comma-separated, limits single roles. Default: 200000
    #[arg(long, env = "CHAT_MAX_CONTEXT_TOKENS", value_parser = tokens_by_role)]
    chat_max_context_tokens: Option<HashMap<Role, u32>>,
    /// Maximum tokens of all calls to models for a user per day (UTC), background calls included; role=number,
    /// comma-separated, limits single roles. Default: no limit
    #[arg(long, env = "CHAT_TOKENS_PER_DAY", value_parser = tokens_by_role)]
    chat_tokens_per_day: Option<HashMap<Role, u32>>,
}

impl ContextSettings {
    /// Models and tokens that the roles may ask for.
    #[must_use]
    pub fn chat_limits(&self) -> ChatLimits {
        ChatLimits {
            models: self.chat_models.clone().unwrap_or_default(),
            answer_tokens: self.chat_max_tokens.clone().unwrap_or_default(),
            prompt_tokens: self.chat_max_context_tokens.clone().unwrap_or_default(),
            daily_tokens: self.chat_tokens_per_day.clone().unwrap_or_default(),
        }
    }
}

/// Parses `value,role=value,…`. A value without a role applies to `anon` and `authenticated`.
fn by_role<T: Clone>(
    text: &str,
    parse: impl Fn(&str) -> ParseResult<T>,
) -> ParseResult<HashMap<Role, Vec<T>>> {
    let mut values: HashMap<Role, Vec<T>> = HashMap::new();
    for entry in comma_separated(text) {
        let role =
            entry.split_once('=').and_then(|(role, value)| Some((role.trim().parse().ok()?, value.trim())));
        let (roles, value) = match role {
            Some((role, value)) => (vec![role], value),
            None => (vec![Role::Anon, Role::Authenticated], entry),
        };
        let value = parse(value)?;
        for role in roles {
            values.entry(role).or_default().push(value.clone());
        }
    }
    Ok(values)
}

fn models_by_role(text: &str) -> ParseResult<HashMap<Role, Vec<String>>> {
    by_role(text, |model| Ok(model.to_owned()))
}

fn tokens_by_role(text: &str) -> ParseResult<HashMap<Role, u32>> {
    let number = |text: &str| {
        let number = text.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| {
            let roles = "anon, authenticated or service_role";
            format!("must be a positive number, or role=number for {roles} (got \"{text}\")")
        })
    };
    let values = by_role(text, number)?;
    // The last entry of a role counts.
    Ok(values.into_iter().filter_map(|(role, values)| Some((role, *values.last()?))).collect())
}

/// What the server learns from messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learning {
    Off,
    /// Statements of users, without a model.
    Words,
    /// Statements, and facts that a model finds.
    Model,
}

fn learning(text: &str) -> ParseResult<Learning> {
    match text {
        "off" => Ok(Learning::Off),
        "words" => Ok(Learning::Words),
        "model" => Ok(Learning::Model),
        _ => Err(format!("must be one of model, words, off (got \"{text}\")")),
    }
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
    /// Further providers as JSON: [{"name", "baseUrl", "model", "apiKey"}]. Default: none
    #[arg(long, env = "LLM_PROVIDERS", value_parser = further_providers)]
    llm_providers: Option<FurtherProviders>,
    /// Comma-separated providers that answer in this order if the default one fails. Default: none
    #[arg(long, env = "LLM_FALLBACKS")]
    llm_fallbacks: Option<String>,
    /// Provider of background calls (summaries, names of topics and entities); none disables them. Default: the default
    /// provider
    #[arg(long, env = "CONTEXT_LLM_PROVIDER")]
    context_llm_provider: Option<String>,
    /// Model of background calls. Default: the provider's
    #[arg(long, env = "CONTEXT_LLM_MODEL")]
    context_llm_model: Option<String>,
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
    /// Name of the embeddings model
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

/// Providers in `LLM_PROVIDERS`. Not a list, because clap takes a `Vec` for a repeated flag.
#[derive(Debug, Clone)]
struct FurtherProviders(Vec<FurtherProvider>);

#[derive(Debug, Clone)]
struct FurtherProvider {
    name: String,
    base_url: String,
    model: String,
    api_key: Option<Secret>,
}

fn further_providers(text: &str) -> ParseResult<FurtherProviders> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Entry {
        name: String,
        base_url: String,
        model: String,
        api_key: Option<String>,
    }
    // The parser's message could quote a key.
    let entries: Vec<Entry> = serde_json::from_str(text)
        .map_err(|_| "must be a JSON list of {\"name\", \"baseUrl\", \"model\", \"apiKey\"}".to_owned())?;
    let provider = |Entry { name, base_url, model, api_key }| {
        Ok(FurtherProvider { name, base_url: http_url(&base_url)?, model, api_key: api_key.map(Secret::new) })
    };
    Ok(FurtherProviders(entries.into_iter().map(provider).collect::<ParseResult<_>>()?))
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
        let further = self.llm_providers.iter().flat_map(|FurtherProviders(further)| further);
        endpoints
            .extend(further.map(|it| self.endpoint(&it.name, &it.base_url, it.api_key.as_ref(), &it.model)));
        Ok(endpoints)
    }

    /// The providers with their fallbacks and the model of background calls.
    ///
    /// # Errors
    /// As for [`endpoints`](Self::endpoints), and when a setting names a provider that is not configured.
    pub fn providers(&self) -> Result<Providers, Problem> {
        let endpoints = self.endpoints()?;
        let check = |variable: &str, name: &str| {
            let known =
                endpoints.iter().any(|endpoint| endpoint.name == name) || self.echo() && name == "echo";
            let names =
                || endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect::<Vec<_>>().join(", ");
            let message = || format!("must name configured providers: {} (got \"{name}\")", names());
            if known { Ok(()) } else { Err(Problem::new(variable.to_owned(), message())) }
        };
        let fallbacks = self.llm_fallbacks.as_deref().unwrap_or_default();
        let fallbacks: Vec<String> = comma_separated(fallbacks).map(str::to_owned).collect();
        fallbacks.iter().try_for_each(|name| check("LLM_FALLBACKS", name))?;
        let background = match (&self.context_llm_provider, &self.context_llm_model) {
            (Some(name), _) if name == "none" => BackgroundModel::Disabled,
            (None, None) => BackgroundModel::Default,
            (provider, model) => {
                provider.iter().try_for_each(|name| check("CONTEXT_LLM_PROVIDER", name))?;
                BackgroundModel::Use { provider: provider.clone(), model: model.clone() }
            }
        };
        let providers = Providers::new(&endpoints, self.echo());
        Ok(providers.with_fallbacks(fallbacks).with_background_model(background))
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
