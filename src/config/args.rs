//! Command line: subcommands, and every setting as a flag and an environment variable.
//!
//! Settings are text here; [`super::validate`] converts them to typed values. Errors therefore name the
//! environment variable even for a flag, and an empty variable counts as unset.

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

/// Lines have at most 81 characters, so that terminals do not wrap them.
const HELP: &str = "\
First steps:
  rollcall serve --seed            start with an embedded PostgreSQL and demo
                                   data; console at http://127.0.0.1:4000
  set -a; . .rollcall/env; set +a  load its URL and keys for curl, psql, clients
  rollcall token --sub <user id>   print a token for Authorization or the console

With an existing database:
  export DATABASE_URL=postgres://… JWT_SECRET=…
  rollcall doctor                  check the database and print fixes
  rollcall migrate                 apply migrations; serve does this too
  rollcall serve --host 0.0.0.0 --log-format json

Every flag can also be set by its environment variable or in .env:
--port 5000 is PORT=5000. A running server serves its API description at
/docs and /openapi.json, and that of its sockets at /asyncapi.json.";
const SERVE_HELP: &str = "\
Examples:
  rollcall serve --seed            embedded PostgreSQL and demo data
  rollcall serve --host 0.0.0.0 --log-format json
  rollcall serve --otlp-endpoint http://127.0.0.1:4318

Stop it with Ctrl-C or SIGTERM: readiness fails, sockets are closed with a
reconnect delay, and running requests finish. A second signal stops the
server immediately.";
const MIGRATE_HELP: &str = "\
Examples:
  rollcall migrate                 migrate the embedded PostgreSQL
  rollcall migrate --database-url postgres://owner@db.example.com/app";
const TOKEN_HELP: &str = "\
Examples:
  rollcall token --sub a0000000-0000-4000-8000-000000000001
  rollcall token --role service_role --ttl 15m
  rollcall token --sub <user id> --claim 'permissions=[\"presence:admin\"]'";
const DOCTOR_HELP: &str = "\
Examples:
  rollcall doctor                  print findings and the SQL that fixes them
  rollcall doctor --json | jq .    print findings as JSON

The exit status is 0 when all checks pass, otherwise 1.";
const COMPLETIONS_HELP: &str = "\
Examples:
  rollcall completions bash > ~/.local/share/bash-completion/completions/rollcall
  rollcall completions zsh > \"${fpath[1]}/_rollcall\"
  rollcall completions fish > ~/.config/fish/completions/rollcall.fish";

/// Presence, realtime and context over PostgreSQL.
#[derive(Parser)]
#[command(
    name = "rollcall",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = HELP
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub settings: Settings,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the server; without DATABASE_URL it starts an embedded PostgreSQL in the data directory
    #[command(after_help = SERVE_HELP)]
    Serve(ServeArgs),
    /// Apply pending database migrations
    #[command(after_help = MIGRATE_HELP)]
    Migrate(MigrateArgs),
    /// Print a token for a user, signed with JWT_SECRET
    #[command(after_help = TOKEN_HELP)]
    Token(TokenArgs),
    /// Check the database and print findings with fixes
    #[command(after_help = DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// Print a shell completion script
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(CompletionsArgs),
}

#[derive(Args)]
pub struct ServeArgs {
    /// Load the demo data, once
    #[arg(long)]
    pub seed: bool,
}

#[derive(Args)]
pub struct MigrateArgs {
    /// Load the demo data, once
    #[arg(long)]
    pub seed: bool,
}

#[derive(Args)]
pub struct TokenArgs {
    /// User ID (UUID); optional for anon and service_role
    #[arg(long)]
    pub sub: Option<uuid::Uuid>,
    /// Role: anon, authenticated or service_role
    #[arg(long, default_value = "authenticated")]
    pub role: String,
    /// Lifetime: seconds, or with a unit: 90s, 15m, 1h, 30d
    #[arg(long, default_value = "1h")]
    pub ttl: String,
    /// Additional claim; the value is parsed as JSON if possible, otherwise it is text
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    pub claims: Vec<String>,
}

#[derive(Args)]
pub struct DoctorArgs {
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct CompletionsArgs {
    /// Shell to generate the script for
    pub shell: clap_complete::Shell,
}

/// All settings as text. Not `Debug`, because some of them are secrets.
#[derive(Args, Default)]
pub struct Settings {
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, env = "HOST", help_heading = "Server")]
    pub host: Option<String>,
    /// Port to listen on; 0 selects a free port [default: 4000]
    #[arg(long, env = "PORT", help_heading = "Server")]
    pub port: Option<String>,
    /// Second port, which serves the context socket at / [default: none]
    #[arg(long, env = "WS_PORT", help_heading = "Server")]
    pub ws_port: Option<String>,
    /// Directory of the embedded PostgreSQL and generated keys [default: .rollcall]
    #[arg(long, env = "ROLLCALL_DATA_DIR", help_heading = "Server")]
    pub data_dir: Option<PathBuf>,
    /// Number of hub shards, one task each [default: one per core]
    #[arg(long, env = "HUB_SHARDS", help_heading = "Server")]
    pub hub_shards: Option<String>,
    /// Alias of HUB_SHARDS
    #[arg(long, env = "SHARDS", help_heading = "Server", hide = true)]
    pub shards: Option<String>,
    /// NATS server that carries broadcasts between nodes [default: none, PostgreSQL carries them]
    #[arg(long, env = "NATS_URL", help_heading = "Server")]
    pub nats_url: Option<String>,
    /// Log filter in the syntax of tracing's EnvFilter [default: info for rollcall, warn for other crates]
    #[arg(long, env = "RUST_LOG", help_heading = "Server")]
    pub log: Option<String>,
    /// Log format: pretty or json [default: pretty]
    #[arg(long, env = "LOG_FORMAT", help_heading = "Server")]
    pub log_format: Option<String>,

    /// URL of a trace collector (OTLP over HTTP), such as http://127.0.0.1:4318 [default: none]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", help_heading = "Traces")]
    pub otlp_endpoint: Option<String>,
    /// Headers sent to the collector: name=value,name=value [default: none]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", help_heading = "Traces")]
    pub otlp_headers: Option<String>,
    /// Service name in traces [default: rollcall]
    #[arg(long, env = "OTEL_SERVICE_NAME", help_heading = "Traces")]
    pub service_name: Option<String>,
    /// Share of traces to keep, from 0 to 1, when the caller has not decided [default: 1]
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", help_heading = "Traces")]
    pub trace_ratio: Option<String>,

    /// PostgreSQL URL [default: none, an embedded PostgreSQL is started]
    #[arg(long, env = "DATABASE_URL", help_heading = "Database")]
    pub database_url: Option<String>,
    /// URL of the same database without a pooler, for LISTEN and replication [default: DATABASE_URL]
    #[arg(long, env = "DATABASE_DIRECT_URL", help_heading = "Database")]
    pub database_direct_url: Option<String>,
    /// Maximum connections in the pool [default: 8]
    #[arg(long, env = "DATABASE_POOL_SIZE", help_heading = "Database")]
    pub database_pool_size: Option<String>,

    /// Secret of HS256 tokens, at least 32 characters [default: generated for the embedded PostgreSQL]
    #[arg(long, env = "JWT_SECRET", help_heading = "Identity")]
    pub jwt_secret: Option<String>,
    /// Alias of JWT_SECRET
    #[arg(long, env = "SUPABASE_JWT_SECRET", help_heading = "Identity", hide = true)]
    pub supabase_jwt_secret: Option<String>,
    /// URL of the JSON Web Key Set for RS256, ES256 and EdDSA tokens [default: none]
    #[arg(long, env = "JWKS_URL", help_heading = "Identity")]
    pub jwks_url: Option<String>,
    /// Required issuer (iss) of tokens [default: not checked]
    #[arg(long, env = "JWT_ISSUER", help_heading = "Identity")]
    pub jwt_issuer: Option<String>,
    /// Required audience (aud) of tokens [default: not checked]
    #[arg(long, env = "JWT_AUDIENCE", help_heading = "Identity")]
    pub jwt_audience: Option<String>,
    /// Opaque API keys and their roles: key:role,key:role [default: none]
    #[arg(long, env = "API_KEYS", help_heading = "Identity")]
    pub api_keys: Option<String>,
    /// Accept X-User-ID and X-Device-ID from trusted gateways: true or false [default: false]
    #[arg(long, env = "TRUST_GATEWAY_HEADERS", help_heading = "Identity")]
    pub trust_gateway_headers: Option<String>,
    /// Networks of trusted gateways [default: 127.0.0.0/8,::1/128]
    #[arg(long, env = "TRUSTED_GATEWAYS", help_heading = "Identity")]
    pub trusted_gateways: Option<String>,

    /// Comma-separated origins that browsers may call from, or * [default: *]
    #[arg(long, env = "CORS_ORIGINS", help_heading = "Browsers")]
    pub cors_origins: Option<String>,
    /// Alias of CORS_ORIGINS
    #[arg(long, env = "CORS_ORIGIN", help_heading = "Browsers", hide = true)]
    pub cors_origin: Option<String>,
    /// Allow browsers to send credentials: true or false [default: false]
    #[arg(long, env = "CORS_CREDENTIALS", help_heading = "Browsers")]
    pub cors_credentials: Option<String>,

    /// Model provider for chat: openai, zai, ollama, echo (development only), or any name with LLM_BASE_URL
    /// [default: none]
    #[arg(long, env = "LLM_PROVIDER", help_heading = "Context and chat")]
    pub llm_provider: Option<String>,
    /// Base URL of the provider's API, such as https://api.example.com/v1 [default: set by the provider]
    #[arg(long, env = "LLM_BASE_URL", help_heading = "Context and chat")]
    pub llm_base_url: Option<String>,
    /// API key of the provider [default: none]
    #[arg(long, env = "LLM_API_KEY", help_heading = "Context and chat")]
    pub llm_api_key: Option<String>,
    /// Model, unless a request names one [default: set by the provider]
    #[arg(long, env = "LLM_MODEL", help_heading = "Context and chat")]
    pub llm_model: Option<String>,
    /// Maximum time without data from the provider [default: 60]
    #[arg(long, env = "LLM_TIMEOUT", help_heading = "Context and chat")]
    pub llm_timeout: Option<String>,
    /// Further providers as JSON: [{"name", "baseUrl", "model", "apiKey"}] [default: none]
    #[arg(long, env = "LLM_PROVIDERS", help_heading = "Context and chat")]
    pub llm_providers: Option<String>,
    /// Comma-separated providers that answer in this order if the default one fails [default: none]
    #[arg(long, env = "LLM_FALLBACKS", help_heading = "Context and chat")]
    pub llm_fallbacks: Option<String>,
    /// Provider of background calls (summaries, names of topics and entities); none disables them
    /// [default: the default provider]
    #[arg(long, env = "CONTEXT_LLM_PROVIDER", help_heading = "Context and chat")]
    pub context_llm_provider: Option<String>,
    /// Model of background calls [default: the provider's]
    #[arg(long, env = "CONTEXT_LLM_MODEL", help_heading = "Context and chat")]
    pub context_llm_model: Option<String>,
    /// Comma-separated models that users may request; role=model limits one role [default: any]
    #[arg(long, env = "CHAT_MODELS", help_heading = "Context and chat")]
    pub chat_models: Option<String>,
    /// Maximum tokens of an answer for users; role=number, comma-separated, limits single roles [default: 16384]
    #[arg(long, env = "CHAT_MAX_TOKENS", help_heading = "Context and chat")]
    pub chat_max_tokens: Option<String>,
    /// Maximum tokens of a prompt for users; role=number, comma-separated, limits single roles [default: 200000]
    #[arg(long, env = "CHAT_MAX_CONTEXT_TOKENS", help_heading = "Context and chat")]
    pub chat_max_context_tokens: Option<String>,
    /// API key of the additional provider openai [default: none]
    #[arg(long, env = "OPENAI_API_KEY", help_heading = "Context and chat")]
    pub openai_api_key: Option<String>,
    /// API key of the additional provider zai [default: none]
    #[arg(long, env = "ZAI_API_KEY", help_heading = "Context and chat")]
    pub zai_api_key: Option<String>,
    /// Base URL of an embeddings API, such as https://api.example.com/v1, for semantic retrieval with pgvector
    /// [default: none]
    #[arg(long, env = "EMBEDDINGS_BASE_URL", help_heading = "Context and chat")]
    pub embeddings_base_url: Option<String>,
    /// API key of the embeddings API [default: none]
    #[arg(long, env = "EMBEDDINGS_API_KEY", help_heading = "Context and chat")]
    pub embeddings_api_key: Option<String>,
    /// Embeddings model [default: text-embedding-3-small]
    #[arg(long, env = "EMBEDDINGS_MODEL", help_heading = "Context and chat")]
    pub embeddings_model: Option<String>,
    /// Dimensions of the embeddings [default: 1536]
    #[arg(long, env = "EMBEDDINGS_DIMENSIONS", help_heading = "Context and chat")]
    pub embeddings_dimensions: Option<String>,
    /// Use the dynamic context engine unless a request says otherwise: true or false [default: true]
    #[arg(long, env = "USE_DYNAMIC_CONTEXT", help_heading = "Context and chat")]
    pub use_dynamic_context: Option<String>,
    /// Use the simple context engine when the dynamic one fails: true or false [default: true]
    #[arg(long, env = "CONTEXT_FALLBACK", help_heading = "Context and chat")]
    pub context_fallback: Option<String>,
    /// Interval between roll-ups of new units; 0 disables them [default: 5m]
    #[arg(long, env = "CONTEXT_ROLLUP_EVERY", help_heading = "Context and chat")]
    pub context_rollup_every: Option<String>,

    /// Status updates per minute and user [default: 10]
    #[arg(long, env = "PRESENCE_UPDATES_PER_MINUTE", help_heading = "Limits (0 disables)")]
    pub presence_updates_per_minute: Option<String>,
    /// Context requests per minute and user [default: 30]
    #[arg(long, env = "CONTEXT_REQUESTS_PER_MINUTE", help_heading = "Limits (0 disables)")]
    pub context_requests_per_minute: Option<String>,
    /// Chat requests per minute and user [default: 20]
    #[arg(long, env = "CHAT_REQUESTS_PER_MINUTE", help_heading = "Limits (0 disables)")]
    pub chat_requests_per_minute: Option<String>,
    /// Writes to settings, contacts and similar resources per minute and user [default: 120]
    #[arg(long, env = "MANAGE_REQUESTS_PER_MINUTE", help_heading = "Limits (0 disables)")]
    pub manage_requests_per_minute: Option<String>,
    /// Reject joins of public channels: true or false [default: false]
    #[arg(long, env = "REALTIME_PRIVATE_ONLY", help_heading = "Channels")]
    pub realtime_private_only: Option<String>,
    /// Name of a persistent replication slot, which keeps changes across reconnects [default: none, a temporary slot]
    #[arg(long, env = "REALTIME_SLOT_NAME", help_heading = "Channels")]
    pub realtime_slot_name: Option<String>,
    /// Alias of REALTIME_SLOT_NAME
    #[arg(long, env = "REALTIME_SLOT", help_heading = "Channels", hide = true)]
    pub realtime_slot: Option<String>,
    /// Maximum write-ahead log in MB that a slot may retain; beyond it, changes are skipped [default: 1024]
    #[arg(long, env = "REALTIME_MAX_WAL_MB", help_heading = "Channels")]
    pub realtime_max_wal_mb: Option<String>,
    /// Open channel sockets on this node [default: 20000]
    #[arg(long, env = "REALTIME_MAX_CONNECTIONS", help_heading = "Limits (0 disables)")]
    pub realtime_max_connections: Option<String>,
    /// Channel messages per second on this node, sent and delivered [default: 0]
    #[arg(long, env = "REALTIME_MAX_EVENTS_PER_SECOND", help_heading = "Limits (0 disables)")]
    pub realtime_max_events_per_second: Option<String>,
    /// Channel messages per second sent by one socket [default: 20000]
    #[arg(long, env = "REALTIME_MAX_CLIENT_EVENTS_PER_SECOND", help_heading = "Limits (0 disables)")]
    pub realtime_max_client_events_per_second: Option<String>,
    /// Bytes per second sent by one socket in its channels [default: 20000000]
    #[arg(long, env = "REALTIME_MAX_CLIENT_BYTES_PER_SECOND", help_heading = "Limits (0 disables)")]
    pub realtime_max_client_bytes_per_second: Option<String>,
    /// Presence pushes per second on this node [default: 0]
    #[arg(long, env = "REALTIME_MAX_PRESENCE_EVENTS_PER_SECOND", help_heading = "Limits (0 disables)")]
    pub realtime_max_presence_events_per_second: Option<String>,
    /// Channel joins per second on this node [default: 10000]
    #[arg(long, env = "REALTIME_MAX_JOINS_PER_SECOND", help_heading = "Limits (0 disables)")]
    pub realtime_max_joins_per_second: Option<String>,
    /// Channels per socket [default: 100]
    #[arg(long, env = "REALTIME_MAX_CHANNELS_PER_CLIENT", help_heading = "Limits (0 disables)")]
    pub realtime_max_channels_per_client: Option<String>,
    /// Maximum size of a broadcast payload in kB (1000 bytes) [default: 3000]
    #[arg(long, env = "REALTIME_MAX_PAYLOAD_KB", help_heading = "Limits (0 disables)")]
    pub realtime_max_payload_kb: Option<String>,
    /// Presence pushes per channel within the window [default: 5]
    #[arg(long, env = "REALTIME_PRESENCE_CALLS", help_heading = "Limits (0 disables)")]
    pub realtime_presence_calls: Option<String>,
    /// Window of REALTIME_PRESENCE_CALLS in milliseconds [default: 30000]
    #[arg(long, env = "REALTIME_PRESENCE_WINDOW_MS", help_heading = "Limits (0 disables)")]
    pub realtime_presence_window_ms: Option<String>,

    /// Time without activity after which a device is away [default: 300]
    #[arg(long, env = "IDLE_AFTER", help_heading = "Timeouts (seconds, or with a unit: 500ms, 90s, 5m)")]
    pub idle_after: Option<String>,
    /// Time between the close of a socket and offline for its device [default: 5]
    #[arg(
        long,
        env = "DISCONNECT_GRACE",
        help_heading = "Timeouts (seconds, or with a unit: 500ms, 90s, 5m)"
    )]
    pub disconnect_grace: Option<String>,
    /// Validity of a node's lease; a node that does not renew it counts as dead [default: 10]
    #[arg(long, env = "NODE_LEASE", help_heading = "Timeouts (seconds, or with a unit: 500ms, 90s, 5m)")]
    pub node_lease: Option<String>,
}

impl Cli {
    /// Parses the process's arguments and environment. Prints help or the error and exits, as clap does.
    pub fn from_process() -> Self {
        let matches = command().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// The clap command. Settings may stand before or after the subcommand, and help does not show values of the
/// environment.
pub(super) fn command() -> clap::Command {
    Cli::command().mut_args(|arg| arg.global(true).hide_env_values(true))
}

/// Completion script for a shell.
pub fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "rollcall", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Names of the environment variables that are settings.
pub(super) fn known_variables() -> Vec<String> {
    command()
        .get_arguments()
        .filter_map(|arg| arg.get_env())
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_definition_is_valid() {
        command().debug_assert();
    }

    #[test]
    fn help_examples_parse() {
        let rendered = command().render_help().to_string();
        assert!(rendered.contains("First steps:"), "{rendered}");
        let mut count = 0;
        for subcommand in command().get_subcommands() {
            let help = subcommand.clone().render_help().to_string();
            let examples = help.lines().filter_map(|line| line.trim().strip_prefix("rollcall "));
            for example in examples {
                // The example ends where the shell syntax or the explanation begins.
                let command_line =
                    example.split(" > ").next().unwrap_or_default().split("   ").next().unwrap_or_default();
                let command_line = command_line.split(" | ").next().unwrap_or_default();
                let command_line = command_line.replace("<user id>", "a0000000-0000-4000-8000-000000000001");
                let line = std::iter::once("rollcall").chain(command_line.split_whitespace());
                assert!(command().try_get_matches_from(line).is_ok(), "{example}");
                count += 1;
            }
        }
        assert!(count >= 10, "{count}");
        for text in [HELP, SERVE_HELP, MIGRATE_HELP, TOKEN_HELP, DOCTOR_HELP, COMPLETIONS_HELP] {
            assert!(text.lines().all(|line| line.chars().count() < 82), "{text}");
        }
    }

    #[test]
    fn completions_cover_every_shell() {
        use clap::ValueEnum;
        for shell in clap_complete::Shell::value_variants() {
            let script = completions(*shell);
            for text in ["serve", "doctor", "completions", "database-url"] {
                assert!(script.contains(text), "{shell} lacks {text}");
            }
        }
    }

    #[test]
    fn settings_may_follow_the_subcommand() {
        let matches = command().try_get_matches_from(["rollcall", "serve", "--port", "4100"]).unwrap();
        let cli = Cli::from_arg_matches(&matches).unwrap();
        assert_eq!(cli.settings.port.as_deref(), Some("4100"));
        assert!(matches!(cli.command, Command::Serve(ServeArgs { seed: false })));
    }
}
