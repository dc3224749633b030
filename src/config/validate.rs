//! Converts [`Settings`] to a [`Config`] and collects all problems.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::Settings;
use super::error::{ConfigError, Problem};
use super::parse::{self, ParseResult};
use super::{
    AllowedOrigins, AuthConfig, Config, ContextConfig, CorsConfig, DatabaseConfig, GatewayConfig, Limits,
    Listen, LogConfig, LogFormat, Secret, Timeouts, TracesConfig,
};
use crate::auth::Role;
use crate::context::{
    chat_limits::ChatLimits,
    provider::{BackgroundModel, EmbedderConfig, Endpoint},
};
use crate::pg::Connector;

/// Minimum length of `JWT_SECRET` in bytes: RFC 7518, section 3.2, requires a key as long as the hash (256
/// bits).
const MIN_JWT_SECRET_BYTES: usize = 32;
/// Maximum of `IDLE_AFTER` and of `CONTEXT_ROLLUP_EVERY`.
const MAX_IDLE: Duration = Duration::from_secs(24 * 3_600);
/// Maximum of `DISCONNECT_GRACE` and `NODE_LEASE`: a dead device must be offline within 30 s.
const MAX_GRACE: Duration = Duration::from_secs(30);
/// Maximum of `LLM_TIMEOUT`.
const MAX_LLM_TIMEOUT: Duration = Duration::from_secs(600);
/// Minimum of `NODE_LEASE` and `LLM_TIMEOUT`: with a shorter lease, a slow database makes live nodes look dead.
const MIN_LEASE: Duration = Duration::from_secs(1);

/// Loads `.env` of the working directory into the process's environment; variables that are already set are
/// kept. Call it before any thread starts and before the command line is parsed.
///
/// # Errors
/// Names the line that is not of the form `NAME=value`.
pub fn read_dotenv() -> Result<(), ConfigError> {
    match dotenvy::from_path(Path::new(".env")) {
        Ok(()) => Ok(()),
        Err(error) if error.not_found() => Ok(()),
        Err(dotenvy::Error::LineParse(line, _)) => {
            // The rest of the line may be a secret.
            let name = line.split(['=', ' ']).next().unwrap_or_default();
            let message = format!("line `{name}…`: must have the form NAME=value");
            Err(ConfigError::from(Problem::new(".env", message)))
        }
        Err(error) => Err(ConfigError::from(Problem::new(".env", format!("cannot be read: {error}")))),
    }
}

impl Config {
    /// Validates the settings and converts them to typed values.
    ///
    /// # Errors
    /// Every malformed or inconsistent setting, with the reason.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let mut reader = SettingsReader::default();
        let config = Self {
            listen: listen(settings, &mut reader),
            data_dir: settings
                .data_dir
                .clone()
                .filter(|path| !path.as_os_str().is_empty())
                .unwrap_or_else(|| PathBuf::from(".rollcall")),
            database: database(settings, &mut reader),
            auth: auth(settings, &mut reader),
            gateway: gateway(settings, &mut reader),
            context: context(settings, &mut reader),
            cors: cors(settings, &mut reader),
            limits: limits(settings, &mut reader),
            private_channels_only: reader.read(
                "REALTIME_PRIVATE_ONLY",
                &settings.realtime_private_only,
                false,
                parse::boolean,
            ),
            slot_name: reader.optional_with_alias(
                ("REALTIME_SLOT_NAME", &settings.realtime_slot_name),
                ("REALTIME_SLOT", &settings.realtime_slot),
                parse::slot_name,
            ),
            max_wal_bytes: reader.read("REALTIME_MAX_WAL_MB", &settings.realtime_max_wal_mb, 1_024, |text| {
                parse::count(text, 1..=1_048_576)
            }) as u64
                * 1_048_576,
            timeouts: timeouts(settings, &mut reader),
            hub_shards: reader
                .optional_with_alias(
                    ("HUB_SHARDS", &settings.hub_shards),
                    ("SHARDS", &settings.shards),
                    |text| parse::count(text, 1..=1_024),
                )
                .unwrap_or_else(core_count),
            nats_url: reader
                .optional("NATS_URL", &settings.nats_url, |text| parse::url(text, &["nats", "tls"]))
                .map(Secret::new),
            log: log(settings, &mut reader),
            traces: traces(settings, &mut reader),
        };
        ConfigError::from_problems(reader.problems)?;
        Ok(config)
    }
}

/// Parses settings and collects their problems.
#[derive(Default)]
struct SettingsReader {
    problems: Vec<Problem>,
}

impl SettingsReader {
    /// The parsed value; `None` when the setting is unset, empty or invalid.
    fn optional<T>(
        &mut self,
        variable: &str,
        text: &Option<String>,
        parse: impl FnOnce(&str) -> ParseResult<T>,
    ) -> Option<T> {
        let text = text.as_deref().map(str::trim).filter(|text| !text.is_empty())?;
        parse(text).map_err(|message| self.add_problem(variable, message)).ok()
    }

    /// Like [`optional`](Self::optional) for a setting with an alias. The alias counts when the setting is unset.
    fn optional_with_alias<T>(
        &mut self,
        (variable, text): (&str, &Option<String>),
        (alias, alias_text): (&str, &Option<String>),
        parse: impl Fn(&str) -> ParseResult<T>,
    ) -> Option<T> {
        self.optional(variable, text, &parse).or_else(|| self.optional(alias, alias_text, &parse))
    }

    fn read<T>(
        &mut self,
        variable: &str,
        text: &Option<String>,
        default: T,
        parse: impl FnOnce(&str) -> ParseResult<T>,
    ) -> T {
        self.optional(variable, text, parse).unwrap_or(default)
    }

    fn limit(&mut self, variable: &str, text: &Option<String>, default: u32) -> Option<NonZeroU32> {
        self.read(variable, text, NonZeroU32::new(default), parse::limit)
    }

    fn text(&mut self, variable: &str, text: &Option<String>) -> Option<String> {
        self.optional(variable, text, |text| Ok(text.to_owned()))
    }

    fn add_problem(&mut self, variable: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(variable, message));
    }
}

fn core_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn listen(settings: &Settings, reader: &mut SettingsReader) -> Listen {
    let listen = Listen {
        host: reader.read("HOST", &settings.host, "127.0.0.1".to_owned(), parse::host),
        port: reader.read("PORT", &settings.port, 4_000, parse::port),
        ws_port: reader.optional("WS_PORT", &settings.ws_port, parse::port),
    };
    if listen.port != 0 && listen.ws_port == Some(listen.port) {
        reader.add_problem(
            "WS_PORT",
            "must differ from PORT, which serves the context socket at /api/v1/context/ws",
        );
    }
    listen
}

fn database(settings: &Settings, reader: &mut SettingsReader) -> DatabaseConfig {
    let url = reader.optional("DATABASE_URL", &settings.database_url, database_url);
    let direct_url = reader.optional("DATABASE_DIRECT_URL", &settings.database_direct_url, database_url);
    if url.is_none() && direct_url.is_some() && reader.problems.iter().all(|p| p.variable != "DATABASE_URL") {
        reader.add_problem("DATABASE_DIRECT_URL", "requires DATABASE_URL");
    }
    let pool_size = reader
        .read("DATABASE_POOL_SIZE", &settings.database_pool_size, 8, |text| parse::count(text, 1..=1_000));
    DatabaseConfig { url, direct_url, pool_size }
}

/// Parses a database URL. Errors do not repeat the value, which holds a password.
fn database_url(text: &str) -> ParseResult<Secret> {
    parse::url(text, &["postgres", "postgresql"]).or_else(|error| {
        // A URL without a host means a local socket: postgresql:///name?host=/run/postgresql.
        if text.starts_with("postgresql:///") || text.starts_with("postgres:///") {
            Ok(text.to_owned())
        } else {
            Err(error)
        }
    })?;
    match Connector::new(text) {
        Ok(_) => Ok(Secret::new(text)),
        Err(error) => Err(format!("must be a valid PostgreSQL URL: {}", root_cause(&error))),
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}

fn auth(settings: &Settings, reader: &mut SettingsReader) -> AuthConfig {
    let jwt_secret = reader.optional_with_alias(
        ("JWT_SECRET", &settings.jwt_secret),
        ("SUPABASE_JWT_SECRET", &settings.supabase_jwt_secret),
        jwt_secret,
    );
    AuthConfig {
        jwt_secret,
        jwks_url: reader
            .optional("JWKS_URL", &settings.jwks_url, |text| parse::url(text, &["https", "http"])),
        issuer: reader.text("JWT_ISSUER", &settings.jwt_issuer),
        audience: reader.text("JWT_AUDIENCE", &settings.jwt_audience),
        api_keys: reader.read("API_KEYS", &settings.api_keys, HashMap::new(), api_keys),
    }
}

fn jwt_secret(text: &str) -> ParseResult<Secret> {
    if text.len() < MIN_JWT_SECRET_BYTES {
        return Err(format!(
            "must have at least {MIN_JWT_SECRET_BYTES} characters (got {}); generate one with `openssl rand -hex 32`",
            text.len()
        ));
    }
    Ok(Secret::new(text))
}

/// Parses `key:role,key:role`. A key may hold colons, a role does not. Errors number the entries instead of
/// showing the keys.
fn api_keys(text: &str) -> ParseResult<HashMap<Secret, Role>> {
    let mut keys = HashMap::new();
    for (index, entry) in parse::comma_separated(text).enumerate() {
        let number = index + 1;
        let (key, role) = entry
            .rsplit_once(':')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("entry {number}: must have the form key:role"))?;
        let role: Role = role
            .parse()
            .map_err(|_| format!("entry {number}: role must be one of anon, authenticated, service_role"))?;
        if keys.insert(Secret::new(key), role).is_some() {
            return Err(format!("entry {number}: duplicate key"));
        }
    }
    Ok(keys)
}

fn gateway(settings: &Settings, reader: &mut SettingsReader) -> GatewayConfig {
    let loopback = || vec![ipnet::Ipv4Net::new_assert([127, 0, 0, 0].into(), 8).into(), loopback_v6()];
    GatewayConfig {
        trust_headers: reader.read(
            "TRUST_GATEWAY_HEADERS",
            &settings.trust_gateway_headers,
            false,
            parse::boolean,
        ),
        networks: reader
            .optional("TRUSTED_GATEWAYS", &settings.trusted_gateways, parse::networks)
            .unwrap_or_else(loopback),
    }
}

fn loopback_v6() -> ipnet::IpNet {
    ipnet::IpNet::from(std::net::IpAddr::V6(std::net::Ipv6Addr::LOCALHOST))
}

fn context(settings: &Settings, reader: &mut SettingsReader) -> ContextConfig {
    let timeout = reader.read("LLM_TIMEOUT", &settings.llm_timeout, Duration::from_secs(60), |text| {
        parse::duration_within(text, MIN_LEASE..=MAX_LLM_TIMEOUT)
    });
    let base_url =
        reader.optional("LLM_BASE_URL", &settings.llm_base_url, |text| parse::url(text, &["https", "http"]));
    let api_key = reader.text("LLM_API_KEY", &settings.llm_api_key).map(Secret::new);
    let model = reader.text("LLM_MODEL", &settings.llm_model);
    let provider = reader.text("LLM_PROVIDER", &settings.llm_provider);
    let echo = provider.as_deref() == Some("echo");
    // A base URL without a name defines a provider too.
    let name = provider.or_else(|| base_url.as_ref().map(|_| "custom".to_owned())).filter(|_| !echo);
    let mut providers = Vec::new();
    if let Some(name) = name {
        let preset = Endpoint::preset(&name);
        let base_url = base_url.or_else(|| preset.map(|(url, _)| url.to_owned()));
        let model = model.or_else(|| preset.map(|(_, model)| model.to_owned()));
        match (base_url, model) {
            (Some(base_url), Some(model)) => {
                providers.push(Endpoint { name, base_url, api_key, model, timeout })
            }
            (None, _) => reader.add_problem(
                "LLM_PROVIDER",
                format!(
                    "must be one of openai, zai, ollama, echo (got \"{name}\"), unless LLM_BASE_URL is set"
                ),
            ),
            (_, None) => reader.add_problem("LLM_MODEL", "is required for a custom provider"),
        }
    }
    for (name, variable, key) in [
        ("openai", "OPENAI_API_KEY", &settings.openai_api_key),
        ("zai", "ZAI_API_KEY", &settings.zai_api_key),
    ] {
        let key = reader.text(variable, key).map(Secret::new);
        if let (Some(key), Some((base_url, model))) = (key, Endpoint::preset(name))
            && providers.iter().all(|provider| provider.name != name)
        {
            let (name, base_url, model) = (name.to_owned(), base_url.to_owned(), model.to_owned());
            providers.push(Endpoint { name, base_url, api_key: Some(key), model, timeout });
        }
    }
    providers.extend(further_providers(settings, reader, timeout));
    let known = |name: &str| providers.iter().any(|provider| provider.name == name) || echo && name == "echo";
    let names = || providers.iter().map(|provider| provider.name.as_str()).collect::<Vec<_>>().join(", ");
    let fallback_providers = reader.text("LLM_FALLBACKS", &settings.llm_fallbacks).unwrap_or_default();
    let fallback_providers: Vec<String> =
        parse::comma_separated(&fallback_providers).map(str::to_owned).collect();
    if let Some(unknown) = fallback_providers.iter().find(|name| !known(name)) {
        reader.add_problem("LLM_FALLBACKS", format!("must be among {} (got \"{unknown}\")", names()));
    }
    let model = reader.text("CONTEXT_LLM_MODEL", &settings.context_llm_model);
    let background = match reader.text("CONTEXT_LLM_PROVIDER", &settings.context_llm_provider) {
        Some(name) if name == "none" => BackgroundModel::Disabled,
        Some(name) if !known(&name) => {
            reader.add_problem(
                "CONTEXT_LLM_PROVIDER",
                format!("must be none or one of {} (got \"{name}\")", names()),
            );
            BackgroundModel::Disabled
        }
        None if model.is_none() => BackgroundModel::Default,
        provider => BackgroundModel::Use { provider, model },
    };
    let chat_limits = ChatLimits {
        models: reader
            .optional("CHAT_MODELS", &settings.chat_models, |text| {
                by_role(text, |model| Ok(model.to_owned()))
            })
            .unwrap_or_default(),
        answer_tokens: reader
            .optional("CHAT_MAX_TOKENS", &settings.chat_max_tokens, tokens_by_role)
            .unwrap_or_default(),
        prompt_tokens: reader
            .optional("CHAT_MAX_CONTEXT_TOKENS", &settings.chat_max_context_tokens, tokens_by_role)
            .unwrap_or_default(),
    };
    ContextConfig {
        providers,
        echo,
        fallback_providers,
        background,
        chat_limits,
        embeddings: embeddings(settings, reader, timeout),
        use_dynamic: reader.read("USE_DYNAMIC_CONTEXT", &settings.use_dynamic_context, true, parse::boolean),
        fallback: reader.read("CONTEXT_FALLBACK", &settings.context_fallback, true, parse::boolean),
        roll_up_interval: Some(reader.read(
            "CONTEXT_ROLLUP_EVERY",
            &settings.context_rollup_every,
            Duration::from_secs(300),
            |text| parse::duration_within(text, Duration::ZERO..=MAX_IDLE),
        ))
        .filter(|interval| !interval.is_zero()),
    }
}

/// Parses `value,role=value,…`. A value without a role applies to `anon` and `authenticated`.
fn by_role<T: Clone>(
    text: &str,
    parse: impl Fn(&str) -> ParseResult<T>,
) -> ParseResult<HashMap<Role, Vec<T>>> {
    let mut values: HashMap<Role, Vec<T>> = HashMap::new();
    for entry in parse::comma_separated(text) {
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

fn tokens_by_role(text: &str) -> ParseResult<HashMap<Role, u32>> {
    let number = |text: &str| {
        let number = text.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| format!("must be a positive number, or role=number for anon, authenticated or service_role (got \"{text}\")"))
    };
    let values = by_role(text, number)?;
    // The last entry of a role counts.
    Ok(values.into_iter().filter_map(|(role, values)| Some((role, *values.last()?))).collect())
}

/// Providers in `LLM_PROVIDERS`.
fn further_providers(settings: &Settings, reader: &mut SettingsReader, timeout: Duration) -> Vec<Endpoint> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Entry {
        name: String,
        base_url: String,
        model: String,
        api_key: Option<String>,
    }
    let parse = |text: &str| -> ParseResult<Vec<Endpoint>> {
        // The parser's message could quote a key.
        let entries: Vec<Entry> = serde_json::from_str(text).map_err(|_| {
            "must be a JSON list of {\"name\", \"baseUrl\", \"model\", \"apiKey\"}".to_owned()
        })?;
        let endpoint = |entry: Entry| {
            Ok(Endpoint {
                base_url: parse::url(&entry.base_url, &["https", "http"])?,
                name: entry.name,
                api_key: entry.api_key.map(Secret::new),
                model: entry.model,
                timeout,
            })
        };
        entries.into_iter().map(endpoint).collect()
    };
    reader.optional("LLM_PROVIDERS", &settings.llm_providers, parse).unwrap_or_default()
}

fn embeddings(settings: &Settings, reader: &mut SettingsReader, timeout: Duration) -> Option<EmbedderConfig> {
    let base_url = reader.optional("EMBEDDINGS_BASE_URL", &settings.embeddings_base_url, |text| {
        parse::url(text, &["https", "http"])
    });
    let api_key = reader.text("EMBEDDINGS_API_KEY", &settings.embeddings_api_key).map(Secret::new);
    let model = reader.text("EMBEDDINGS_MODEL", &settings.embeddings_model);
    let dimensions =
        reader.read("EMBEDDINGS_DIMENSIONS", &settings.embeddings_dimensions, 1_536_u16, |text| {
            // The maximum of pgvector.
            let number: Option<u16> = text.parse().ok();
            number
                .filter(|number| (1..=16_000).contains(number))
                .ok_or_else(|| format!("must be a whole number from 1 to 16000 (got \"{text}\")"))
        });
    let model = model.unwrap_or_else(|| "text-embedding-3-small".to_owned());
    let name = "embeddings".to_owned();
    base_url.map(|base_url| EmbedderConfig {
        endpoint: Endpoint { name, base_url, api_key, model, timeout },
        dimensions,
    })
}

fn cors(settings: &Settings, reader: &mut SettingsReader) -> CorsConfig {
    let origins = reader
        .optional_with_alias(
            ("CORS_ORIGINS", &settings.cors_origins),
            ("CORS_ORIGIN", &settings.cors_origin),
            allowed_origins,
        )
        .unwrap_or(AllowedOrigins::Any);
    let credentials = reader.read("CORS_CREDENTIALS", &settings.cors_credentials, false, parse::boolean);
    if credentials && origins == AllowedOrigins::Any {
        reader.add_problem(
            "CORS_CREDENTIALS",
            "requires CORS_ORIGINS to list origins, because browsers reject * with credentials",
        );
    }
    CorsConfig { origins, credentials }
}

fn allowed_origins(text: &str) -> ParseResult<AllowedOrigins> {
    if text == "*" {
        return Ok(AllowedOrigins::Any);
    }
    let origins = parse::comma_separated(text).map(|item| {
        // Browsers send origins without a trailing slash, but users often write one.
        let item = item.strip_suffix('/').unwrap_or(item);
        let host = item.split_once("://").map(|(_, host)| host).unwrap_or_default();
        if host.is_empty() || host.contains(['/', '*', '?', '#']) || !item.is_ascii() {
            return Err(format!("must be * or origins such as https://example.org (got \"{item}\")"));
        }
        Ok(item.to_ascii_lowercase())
    });
    Ok(AllowedOrigins::List(origins.collect::<ParseResult<_>>()?))
}

fn limits(settings: &Settings, reader: &mut SettingsReader) -> Limits {
    let s = settings;
    Limits {
        presence_updates_per_minute: reader.limit(
            "PRESENCE_UPDATES_PER_MINUTE",
            &s.presence_updates_per_minute,
            10,
        ),
        context_requests_per_minute: reader.limit(
            "CONTEXT_REQUESTS_PER_MINUTE",
            &s.context_requests_per_minute,
            30,
        ),
        chat_requests_per_minute: reader.limit("CHAT_REQUESTS_PER_MINUTE", &s.chat_requests_per_minute, 20),
        manage_requests_per_minute: reader.limit(
            "MANAGE_REQUESTS_PER_MINUTE",
            &s.manage_requests_per_minute,
            120,
        ),
        max_connections: reader.limit("REALTIME_MAX_CONNECTIONS", &s.realtime_max_connections, 20_000),
        max_events_per_second: reader.limit(
            "REALTIME_MAX_EVENTS_PER_SECOND",
            &s.realtime_max_events_per_second,
            0,
        ),
        max_client_events_per_second: reader.limit(
            "REALTIME_MAX_CLIENT_EVENTS_PER_SECOND",
            &s.realtime_max_client_events_per_second,
            20_000,
        ),
        max_client_bytes_per_second: reader.limit(
            "REALTIME_MAX_CLIENT_BYTES_PER_SECOND",
            &s.realtime_max_client_bytes_per_second,
            20_000_000,
        ),
        max_presence_events_per_second: reader.limit(
            "REALTIME_MAX_PRESENCE_EVENTS_PER_SECOND",
            &s.realtime_max_presence_events_per_second,
            0,
        ),
        max_joins_per_second: reader.limit(
            "REALTIME_MAX_JOINS_PER_SECOND",
            &s.realtime_max_joins_per_second,
            10_000,
        ),
        max_channels_per_client: reader.limit(
            "REALTIME_MAX_CHANNELS_PER_CLIENT",
            &s.realtime_max_channels_per_client,
            100,
        ),
        max_payload_kb: reader.limit("REALTIME_MAX_PAYLOAD_KB", &s.realtime_max_payload_kb, 3_000),
        presence_calls: reader.limit("REALTIME_PRESENCE_CALLS", &s.realtime_presence_calls, 5),
        presence_window: reader.read(
            "REALTIME_PRESENCE_WINDOW_MS",
            &s.realtime_presence_window_ms,
            Duration::from_secs(30),
            |text| parse::count(text, 1..=3_600_000).map(|ms| Duration::from_millis(ms as u64)),
        ),
    }
}

fn timeouts(settings: &Settings, reader: &mut SettingsReader) -> Timeouts {
    let mut time = |variable, text: &Option<String>, default, range| {
        reader.read(variable, text, Duration::from_secs(default), |text| parse::duration_within(text, range))
    };
    Timeouts {
        idle_after: time("IDLE_AFTER", &settings.idle_after, 300, Duration::from_millis(1)..=MAX_IDLE),
        disconnect_grace: time("DISCONNECT_GRACE", &settings.disconnect_grace, 5, Duration::ZERO..=MAX_GRACE),
        node_lease: time("NODE_LEASE", &settings.node_lease, 10, MIN_LEASE..=MAX_GRACE),
    }
}

fn log(settings: &Settings, reader: &mut SettingsReader) -> LogConfig {
    LogConfig {
        filter: reader.optional(
            "RUST_LOG",
            &settings.log,
            |text| match tracing_subscriber::EnvFilter::try_new(text) {
                Ok(_) => Ok(text.to_owned()),
                Err(_) => {
                    Err(format!("must be a log filter such as info or rollcall=debug (got \"{text}\")"))
                }
            },
        ),
        format: reader.read("LOG_FORMAT", &settings.log_format, LogFormat::Pretty, |text| match text {
            "pretty" => Ok(LogFormat::Pretty),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("must be pretty or json (got \"{text}\")")),
        }),
    }
}

fn traces(settings: &Settings, reader: &mut SettingsReader) -> Option<TracesConfig> {
    let endpoint = reader.optional("OTEL_EXPORTER_OTLP_ENDPOINT", &settings.otlp_endpoint, |text| {
        parse::url(text, &["http", "https"])
    });
    let headers =
        reader.read("OTEL_EXPORTER_OTLP_HEADERS", &settings.otlp_headers, Vec::new(), parse::headers);
    let service_name =
        reader.text("OTEL_SERVICE_NAME", &settings.service_name).unwrap_or_else(|| "rollcall".to_owned());
    let ratio = reader.read("OTEL_TRACES_SAMPLER_ARG", &settings.trace_ratio, 1.0, parse::ratio);
    endpoint.map(|endpoint| TracesConfig { endpoint, headers, service_name, sample_ratio: ratio })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn problems(settings: &Settings) -> String {
        Config::from_settings(settings).expect_err("is rejected").to_string()
    }

    #[test]
    fn defaults_apply_without_settings() {
        let config = Config::from_settings(&Settings::default()).unwrap();
        assert_eq!(config.listen, Listen { host: "127.0.0.1".into(), port: 4_000, ws_port: None });
        assert_eq!(config.data_dir, Path::new(".rollcall"));
        assert!(config.database.url.is_none() && config.auth.jwt_secret.is_none());
        assert_eq!(config.limits.presence_updates_per_minute, NonZeroU32::new(10));
        assert_eq!(config.timeouts.node_lease, Duration::from_secs(10));
        assert_eq!(config.cors.origins, AllowedOrigins::Any);
        assert!(
            config.gateway.networks.iter().any(|net| net.contains(&std::net::IpAddr::from([127, 0, 0, 9])))
        );
        assert!(config.hub_shards >= 1);
    }

    #[test]
    fn empty_variable_is_unset() {
        let settings = Settings { port: some(""), database_url: some(" "), ..Settings::default() };
        let config = Config::from_settings(&settings).unwrap();
        assert_eq!(config.listen.port, 4_000);
        assert!(config.database.url.is_none());
    }

    #[test]
    fn all_problems_are_reported_together() {
        let settings = Settings {
            port: some("http"),
            node_lease: some("0"),
            presence_updates_per_minute: some("ten"),
            trusted_gateways: some("everyone"),
            log_format: some("xml"),
            ..Settings::default()
        };
        let message = problems(&settings);
        assert_eq!(message.lines().count(), 5, "{message}");
        for name in ["PORT", "NODE_LEASE", "PRESENCE_UPDATES_PER_MINUTE", "TRUSTED_GATEWAYS", "LOG_FORMAT"] {
            assert!(message.lines().any(|line| line.starts_with(&format!("{name}: "))), "{message}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let settings = Settings {
            database_url: some("postgresql://u:hunter2@host:port/db"),
            jwt_secret: some("hunter2"),
            api_keys: some("hunter2:root"),
            ..Settings::default()
        };
        let message = problems(&settings);
        assert_eq!(message.lines().count(), 3, "{message}");
        assert!(!message.contains("hunter2"), "{message}");

        let settings = Settings {
            database_url: some("postgresql://u:hunter2@host/db"),
            jwt_secret: some(&"hunter2".repeat(8)),
            api_keys: some("a:b:hunter2:service_role"),
            ..Settings::default()
        };
        let config = Config::from_settings(&settings).unwrap();
        assert_eq!(config.auth.api_keys.get(&Secret::new("a:b:hunter2")), Some(&Role::ServiceRole));
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn jwt_secret_takes_precedence_over_its_alias() {
        let (secret_text, alias_text) = ("a".repeat(32), "b".repeat(32));
        let mut settings = Settings {
            supabase_jwt_secret: some(&alias_text),
            jwt_secret: some(&secret_text),
            ..Settings::default()
        };
        let secret = |settings: &Settings| Config::from_settings(settings).unwrap().auth.jwt_secret;
        assert_eq!(secret(&settings), Some(Secret::new(secret_text)));
        settings.jwt_secret = None;
        assert_eq!(secret(&settings), Some(Secret::new(alias_text)));
    }

    #[test]
    fn settings_take_precedence_over_their_aliases() {
        let mut settings = Settings {
            shards: some("3"),
            cors_origin: some("https://a.example"),
            realtime_slot: some("old"),
            ..Settings::default()
        };
        let list = |origin: &str| AllowedOrigins::List(vec![origin.to_owned()]);
        let config = Config::from_settings(&settings).unwrap();
        assert_eq!(config.hub_shards, 3);
        assert_eq!(config.cors.origins, list("https://a.example"));
        assert_eq!(config.slot_name.as_deref(), Some("old"));

        settings.hub_shards = some("4");
        settings.cors_origins = some("https://b.example");
        settings.realtime_slot_name = some("new");
        let config = Config::from_settings(&settings).unwrap();
        assert_eq!(config.hub_shards, 4);
        assert_eq!(config.cors.origins, list("https://b.example"));
        assert_eq!(config.slot_name.as_deref(), Some("new"));
    }

    #[test]
    fn providers_are_configured_by_name_or_url() {
        let providers = |settings: &Settings| {
            let context = Config::from_settings(settings).unwrap().context;
            let names = context.providers.into_iter().map(|endpoint| (endpoint.name, endpoint.base_url));
            (names.collect::<Vec<_>>(), context.echo)
        };
        assert_eq!(providers(&Settings::default()), (vec![], false));
        let settings = Settings { llm_provider: some("echo"), ..Settings::default() };
        assert_eq!(providers(&settings), (vec![], true));
        let settings =
            Settings { llm_provider: some("ollama"), zai_api_key: some("key"), ..Settings::default() };
        let (both, _) = providers(&settings);
        assert_eq!(both[0], ("ollama".to_owned(), "http://127.0.0.1:11434/v1".to_owned()));
        assert_eq!(both[1].0, "zai");
        let settings = Settings {
            llm_base_url: some("https://llm.example.org/v1"),
            llm_model: some("m"),
            llm_api_key: some("hunter2"),
            ..Settings::default()
        };
        assert_eq!(providers(&settings).0[0].0, "custom");
        assert!(!format!("{:?}", Config::from_settings(&settings).unwrap()).contains("hunter2"));
        assert!(
            problems(&Settings { llm_provider: some("nobody"), ..Settings::default() })
                .contains("LLM_PROVIDER: ")
        );
        let settings = Settings { llm_base_url: some("https://llm.example.org"), ..Settings::default() };
        assert!(problems(&settings).contains("LLM_MODEL: "));
    }

    #[test]
    fn credentials_require_explicit_origins() {
        let settings = Settings { cors_credentials: some("true"), ..Settings::default() };
        assert!(problems(&settings).starts_with("CORS_CREDENTIALS: "));
        let settings = Settings {
            cors_credentials: some("true"),
            cors_origins: some("https://Example.org/, http://localhost:3000"),
            ..Settings::default()
        };
        let origins = Config::from_settings(&settings).unwrap().cors.origins;
        assert_eq!(
            origins,
            AllowedOrigins::List(vec!["https://example.org".into(), "http://localhost:3000".into()])
        );
    }

    #[test]
    fn unix_socket_url_is_accepted() {
        let settings = Settings {
            database_url: some("postgresql:///app?host=/run/postgresql&sslmode=verify-full"),
            ..Settings::default()
        };
        assert!(Config::from_settings(&settings).unwrap().database.url.is_some());
    }
}
