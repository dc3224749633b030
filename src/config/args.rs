//! The command line: subcommands, and every setting as a flag and an environment variable.
//!
//! Settings arrive here as text; [`super::validate`] makes typed values of them. So each message can name
//! the environment variable, whichever way the value came, and an empty variable counts as not set.

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

/// Lines of about eighty characters, which no terminal wraps.
const HELP: &str = "\
First steps:
  rollcall serve --seed            its own PostgreSQL and demo data:
                                   open http://127.0.0.1:4000 and look around
  set -a; . .rollcall/env; set +a  its URL and keys, for curl, psql and clients
  rollcall token --sub <user id>   a token, for Authorization or the console

With a database of your own:
  export DATABASE_URL=postgres://… JWT_SECRET=…
  rollcall doctor                  what is wrong with it, and how to mend it
  rollcall migrate                 its schema up to date; serve does so, too
  rollcall serve --host 0.0.0.0 --log-format json

Every flag is an environment variable as well, and a line in .env:
--port 5000 is PORT=5000. A server describes its API at /docs and
/openapi.json, and its sockets at /asyncapi.json.";
const SERVE_HELP: &str = "\
Examples:
  rollcall serve --seed            its own PostgreSQL, and demo data
  rollcall serve --host 0.0.0.0 --log-format json
  rollcall serve --otlp-endpoint http://127.0.0.1:4318

Stop it with Ctrl-C or SIGTERM: readiness turns false, sockets are told when
to come back, requests under way are answered. A second signal stops at once.";
const MIGRATE_HELP: &str = "\
Examples:
  rollcall migrate                 of the server's own PostgreSQL
  rollcall migrate --database-url postgres://owner@db.example.com/app";
const TOKEN_HELP: &str = "\
Examples:
  rollcall token --sub a0000000-0000-4000-8000-000000000001
  rollcall token --role service_role --ttl 15m
  rollcall token --sub <user id> --claim 'permissions=[\"presence:admin\"]'";
const DOCTOR_HELP: &str = "\
Examples:
  rollcall doctor                  what is wrong, and the SQL that mends it
  rollcall doctor --json | jq .    the same for programs

The exit status says whether anything is wrong.";
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
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// The settings, as given.
    #[command(flatten)]
    pub settings: Settings,
}

/// The subcommands.
#[derive(Subcommand)]
pub enum Command {
    /// Run the server; without DATABASE_URL it starts a PostgreSQL of its own in the data directory
    #[command(after_help = SERVE_HELP)]
    Serve(ServeArgs),
    /// Bring the database's schema up to date and say what was applied
    #[command(after_help = MIGRATE_HELP)]
    Migrate(MigrateArgs),
    /// Print a token for a user, signed with JWT_SECRET
    #[command(after_help = TOKEN_HELP)]
    Token(TokenArgs),
    /// Say what is wrong with the database and how to mend it
    #[command(after_help = DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// Print completions for a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(CompletionsArgs),
}

/// Arguments of `rollcall serve`.
#[derive(Args)]
pub struct ServeArgs {
    /// Load the demo data once
    #[arg(long)]
    pub seed: bool,
}

/// Arguments of `rollcall migrate`.
#[derive(Args)]
pub struct MigrateArgs {
    /// Load the demo data once
    #[arg(long)]
    pub seed: bool,
}

/// Arguments of `rollcall token`.
#[derive(Args)]
pub struct TokenArgs {
    /// The user's id (UUID); may be left out for anon and service_role
    #[arg(long)]
    pub sub: Option<uuid::Uuid>,
    /// anon, authenticated or service_role
    #[arg(long, default_value = "authenticated")]
    pub role: String,
    /// How long it is valid: seconds, or with a unit: 90s, 15m, 1h, 30d
    #[arg(long, default_value = "1h")]
    pub ttl: String,
    /// A further claim; the value is JSON if it parses as such, else text
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    pub claims: Vec<String>,
}

/// Arguments of `rollcall doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `rollcall completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// For which shell
    pub shell: clap_complete::Shell,
}

/// Every setting, as text. Not `Debug`, because some of them are secrets.
#[derive(Args, Default)]
pub struct Settings {
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, env = "HOST", help_heading = "Server")]
    pub host: Option<String>,
    /// Port to listen on; 0 takes any free one [default: 4000]
    #[arg(long, env = "PORT", help_heading = "Server")]
    pub port: Option<String>,
    /// Second port, whose / is the context socket [default: none]
    #[arg(long, env = "WS_PORT", help_heading = "Server")]
    pub ws_port: Option<String>,
    /// Where the server keeps its own PostgreSQL and generated keys [default: .rollcall]
    #[arg(long, env = "ROLLCALL_DATA_DIR", help_heading = "Server")]
    pub data_dir: Option<PathBuf>,
    /// Parts that the hub is split into [default: one per core]
    #[arg(long, env = "SHARDS", help_heading = "Server")]
    pub shards: Option<String>,
    /// NATS server that carries broadcasts between nodes [default: none, PostgreSQL does]
    #[arg(long, env = "NATS_URL", help_heading = "Server")]
    pub nats_url: Option<String>,
    /// What to log, as in tracing's EnvFilter [default: info for rollcall, warn for the rest]
    #[arg(long, env = "RUST_LOG", help_heading = "Server")]
    pub log: Option<String>,
    /// pretty or json [default: pretty]
    #[arg(long, env = "LOG_FORMAT", help_heading = "Server")]
    pub log_format: Option<String>,

    /// Collector of traces, by OTLP over HTTP, as http://127.0.0.1:4318 [default: none]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", help_heading = "Traces")]
    pub otlp_endpoint: Option<String>,
    /// Headers for the collector: name=value,name=value [default: none]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", help_heading = "Traces")]
    pub otlp_headers: Option<String>,
    /// What the server calls itself in traces [default: rollcall]
    #[arg(long, env = "OTEL_SERVICE_NAME", help_heading = "Traces")]
    pub service_name: Option<String>,
    /// Share of traces to keep, 0 to 1, where the caller has not decided [default: 1]
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", help_heading = "Traces")]
    pub trace_ratio: Option<String>,

    /// PostgreSQL to use [default: none, the server starts one of its own]
    #[arg(long, env = "DATABASE_URL", help_heading = "Database")]
    pub database_url: Option<String>,
    /// The same database without a pooler between, for LISTEN and replication [default: DATABASE_URL]
    #[arg(long, env = "DATABASE_DIRECT_URL", help_heading = "Database")]
    pub database_direct_url: Option<String>,
    /// Connections in the pool [default: 8]
    #[arg(long, env = "DATABASE_POOL_SIZE", help_heading = "Database")]
    pub database_pool_size: Option<String>,

    /// Secret of HS256 tokens, 32 characters or more [default: generated with the server's own PostgreSQL]
    #[arg(long, env = "JWT_SECRET", help_heading = "Identity")]
    pub jwt_secret: Option<String>,
    /// Another name of JWT_SECRET
    #[arg(long, env = "SUPABASE_JWT_SECRET", help_heading = "Identity", hide = true)]
    pub supabase_jwt_secret: Option<String>,
    /// Where the public keys of RS256, ES256 and EdDSA tokens are [default: none]
    #[arg(long, env = "JWKS_URL", help_heading = "Identity")]
    pub jwks_url: Option<String>,
    /// Issuer that tokens must name [default: not checked]
    #[arg(long, env = "JWT_ISSUER", help_heading = "Identity")]
    pub jwt_issuer: Option<String>,
    /// Audience that tokens must name [default: not checked]
    #[arg(long, env = "JWT_AUDIENCE", help_heading = "Identity")]
    pub jwt_audience: Option<String>,
    /// Opaque keys and their roles: key:role,key:role [default: none]
    #[arg(long, env = "API_KEYS", help_heading = "Identity")]
    pub api_keys: Option<String>,
    /// Believe X-User-ID and X-Device-ID of trusted gateways: true or false [default: false]
    #[arg(long, env = "TRUST_GATEWAY_HEADERS", help_heading = "Identity")]
    pub trust_gateway_headers: Option<String>,
    /// Networks of trusted gateways [default: 127.0.0.0/8,::1/128]
    #[arg(long, env = "TRUSTED_GATEWAYS", help_heading = "Identity")]
    pub trusted_gateways: Option<String>,

    /// Origins that browsers may call from, or * [default: *]
    #[arg(long, env = "CORS_ORIGIN", help_heading = "Browsers")]
    pub cors_origin: Option<String>,
    /// Let browsers send cookies: true or false [default: false]
    #[arg(long, env = "CORS_CREDENTIALS", help_heading = "Browsers")]
    pub cors_credentials: Option<String>,

    /// Which provider answers chats: openai, zai, ollama, echo (development only), or any name with LLM_BASE_URL
    /// [default: none]
    #[arg(long, env = "LLM_PROVIDER", help_heading = "Context and chat")]
    pub llm_provider: Option<String>,
    /// Its API, as https://api.example.com/v1 [default: the provider's own]
    #[arg(long, env = "LLM_BASE_URL", help_heading = "Context and chat")]
    pub llm_base_url: Option<String>,
    /// Its key [default: none]
    #[arg(long, env = "LLM_API_KEY", help_heading = "Context and chat")]
    pub llm_api_key: Option<String>,
    /// The model, unless a request names one [default: the provider's own]
    #[arg(long, env = "LLM_MODEL", help_heading = "Context and chat")]
    pub llm_model: Option<String>,
    /// How long the provider may be silent [default: 60]
    #[arg(long, env = "LLM_TIMEOUT", help_heading = "Context and chat")]
    pub llm_timeout: Option<String>,
    /// Key of a second provider, openai [default: none]
    #[arg(long, env = "OPENAI_API_KEY", help_heading = "Context and chat")]
    pub openai_api_key: Option<String>,
    /// Key of a second provider, zai [default: none]
    #[arg(long, env = "ZAI_API_KEY", help_heading = "Context and chat")]
    pub zai_api_key: Option<String>,
    /// An embeddings API, as https://api.example.com/v1, to find by meaning where the database has pgvector
    /// [default: none]
    #[arg(long, env = "EMBEDDINGS_BASE_URL", help_heading = "Context and chat")]
    pub embeddings_base_url: Option<String>,
    /// Its key [default: none]
    #[arg(long, env = "EMBEDDINGS_API_KEY", help_heading = "Context and chat")]
    pub embeddings_api_key: Option<String>,
    /// Its model [default: text-embedding-3-small]
    #[arg(long, env = "EMBEDDINGS_MODEL", help_heading = "Context and chat")]
    pub embeddings_model: Option<String>,
    /// The numbers of the model's vectors [default: 1536]
    #[arg(long, env = "EMBEDDINGS_DIMENSIONS", help_heading = "Context and chat")]
    pub embeddings_dimensions: Option<String>,
    /// Assemble with bundles and retrieval unless a request says otherwise: true or false [default: true]
    #[arg(long, env = "USE_DYNAMIC_CONTEXT", help_heading = "Context and chat")]
    pub use_dynamic_context: Option<String>,
    /// Let the simple engine answer when that fails: true or false [default: true]
    #[arg(long, env = "CONTEXT_FALLBACK", help_heading = "Context and chat")]
    pub context_fallback: Option<String>,
    /// Between roll-ups of everybody's new units; 0 for none [default: 5m]
    #[arg(long, env = "CONTEXT_ROLLUP_EVERY", help_heading = "Context and chat")]
    pub context_rollup_every: Option<String>,

    /// Status updates a minute and user [default: 10]
    #[arg(long, env = "PRESENCE_UPDATES_PER_MINUTE", help_heading = "Limits (0: none)")]
    pub presence_updates_per_minute: Option<String>,
    /// Context requests a minute and user [default: 30]
    #[arg(long, env = "CONTEXT_REQUESTS_PER_MINUTE", help_heading = "Limits (0: none)")]
    pub context_requests_per_minute: Option<String>,
    /// Chat requests a minute and user [default: 20]
    #[arg(long, env = "CHAT_REQUESTS_PER_MINUTE", help_heading = "Limits (0: none)")]
    pub chat_requests_per_minute: Option<String>,
    /// Changes of settings, contacts and the like a minute and user [default: 120]
    #[arg(long, env = "MANAGE_REQUESTS_PER_MINUTE", help_heading = "Limits (0: none)")]
    pub manage_requests_per_minute: Option<String>,
    /// Refuse joins of public channels: true or false [default: false]
    #[arg(long, env = "REALTIME_PRIVATE_ONLY", help_heading = "Channels")]
    pub realtime_private_only: Option<String>,
    /// Name of a persistent replication slot, which loses no changes while PostgreSQL is away [default: none, a temporary one]
    #[arg(long, env = "REALTIME_SLOT", help_heading = "Channels")]
    pub realtime_slot: Option<String>,
    /// Write-ahead log that changes may hold back, in MB; over it the stream skips to the present [default: 1024]
    #[arg(long, env = "REALTIME_MAX_WAL_MB", help_heading = "Channels")]
    pub realtime_max_wal_mb: Option<String>,
    /// Channel sockets open at once [default: 20000]
    #[arg(long, env = "REALTIME_MAX_CONNECTIONS", help_heading = "Limits (0: none)")]
    pub realtime_max_connections: Option<String>,
    /// Channel messages a second on this node, sent and delivered [default: 0]
    #[arg(long, env = "REALTIME_MAX_EVENTS_PER_SECOND", help_heading = "Limits (0: none)")]
    pub realtime_max_events_per_second: Option<String>,
    /// Channel messages a second that one socket sends [default: 20000]
    #[arg(long, env = "REALTIME_MAX_CLIENT_EVENTS_PER_SECOND", help_heading = "Limits (0: none)")]
    pub realtime_max_client_events_per_second: Option<String>,
    /// Bytes a second that one socket sends in its channels [default: 20000000]
    #[arg(long, env = "REALTIME_MAX_CLIENT_BYTES_PER_SECOND", help_heading = "Limits (0: none)")]
    pub realtime_max_client_bytes_per_second: Option<String>,
    /// Presence pushes a second on this node [default: 0]
    #[arg(long, env = "REALTIME_MAX_PRESENCE_EVENTS_PER_SECOND", help_heading = "Limits (0: none)")]
    pub realtime_max_presence_events_per_second: Option<String>,
    /// Channel joins a second [default: 10000]
    #[arg(long, env = "REALTIME_MAX_JOINS_PER_SECOND", help_heading = "Limits (0: none)")]
    pub realtime_max_joins_per_second: Option<String>,
    /// Channels on one socket [default: 100]
    #[arg(long, env = "REALTIME_MAX_CHANNELS_PER_CLIENT", help_heading = "Limits (0: none)")]
    pub realtime_max_channels_per_client: Option<String>,
    /// Size of a broadcast in kB (1000 bytes) [default: 3000]
    #[arg(long, env = "REALTIME_MAX_PAYLOAD_KB", help_heading = "Limits (0: none)")]
    pub realtime_max_payload_kb: Option<String>,
    /// Presence pushes of one channel in a window [default: 5]
    #[arg(long, env = "REALTIME_PRESENCE_CALLS", help_heading = "Limits (0: none)")]
    pub realtime_presence_calls: Option<String>,
    /// That window in milliseconds [default: 30000]
    #[arg(long, env = "REALTIME_PRESENCE_WINDOW_MS", help_heading = "Limits (0: none)")]
    pub realtime_presence_window_ms: Option<String>,

    /// A device without activity for so long is away [default: 300]
    #[arg(long, env = "IDLE_AFTER", help_heading = "Times (seconds, or with a unit: 500ms, 90s, 5m)")]
    pub idle_after: Option<String>,
    /// A closed socket's device is offline after so long [default: 5]
    #[arg(long, env = "DISCONNECT_GRACE", help_heading = "Times (seconds, or with a unit: 500ms, 90s, 5m)")]
    pub disconnect_grace: Option<String>,
    /// A server not heard of for so long counts as dead [default: 10]
    #[arg(long, env = "NODE_LEASE", help_heading = "Times (seconds, or with a unit: 500ms, 90s, 5m)")]
    pub node_lease: Option<String>,
}

impl Cli {
    /// Reads the process's arguments and environment; prints help or the error and exits where clap would.
    pub fn from_process() -> Self {
        let matches = command().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// The command line as clap knows it: settings may stand before or after the subcommand, and help never shows
/// what the environment holds.
pub(super) fn command() -> clap::Command {
    Cli::command().mut_args(|arg| arg.global(true).hide_env_values(true))
}

/// The completions of a shell.
pub fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "rollcall", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The environment variables that are settings.
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
        let mut seen = 0;
        for subcommand in command().get_subcommands() {
            let help = subcommand.clone().render_help().to_string();
            let examples = help.lines().filter_map(|line| line.trim().strip_prefix("rollcall "));
            for example in examples {
                // Up to where the shell or the explanation begins.
                let words =
                    example.split(" > ").next().unwrap_or_default().split("   ").next().unwrap_or_default();
                let words = words.split(" | ").next().unwrap_or_default();
                let words = words.replace("<user id>", "a0000000-0000-4000-8000-000000000001");
                let line = std::iter::once("rollcall").chain(words.split_whitespace());
                assert!(command().try_get_matches_from(line).is_ok(), "{example}");
                seen += 1;
            }
        }
        assert!(seen >= 10, "{seen}");
        for text in [HELP, SERVE_HELP, MIGRATE_HELP, TOKEN_HELP, DOCTOR_HELP, COMPLETIONS_HELP] {
            assert!(text.lines().all(|line| line.chars().count() < 82), "{text}");
        }
    }

    #[test]
    fn completions_cover_every_shell() {
        use clap::ValueEnum;
        for shell in clap_complete::Shell::value_variants() {
            let script = completions(*shell);
            for word in ["serve", "doctor", "completions", "database-url"] {
                assert!(script.contains(word), "{shell} lacks {word}");
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
