//! Configuration: converts the environment and flags to a validated [`Config`].
//!
//! [`args`] holds the settings as text. [`validate`] converts them to typed values and collects all problems,
//! so that one failed start reports every one. No other module reads the environment.

mod args;
mod error;
mod parse;
mod unknown_variables;
mod validate;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::auth::Role;
use crate::context::{
    chat_limits::ChatLimits,
    provider::{BackgroundModel, EmbedderConfig, Endpoint},
};

pub use crate::model::Secret;
pub use crate::telemetry::{LogConfig, LogFormat, TracesConfig};
pub use args::{
    Cli, Command, CompletionsArgs, DoctorArgs, MigrateArgs, ServeArgs, Settings, TokenArgs, completions,
};
pub use error::{ConfigError, Problem};
pub use parse::duration as parse_duration;
pub use unknown_variables::check_process_environment;
pub use validate::read_dotenv;

/// Validated configuration of the server.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: Listen,
    /// Directory of the embedded PostgreSQL and of generated keys. It need not exist.
    pub data_dir: PathBuf,
    pub database: DatabaseConfig,
    pub auth: AuthConfig,
    pub gateway: GatewayConfig,
    pub context: ContextConfig,
    pub cors: CorsConfig,
    pub limits: Limits,
    /// Whether joins of public channels are rejected.
    pub private_channels_only: bool,
    /// Name prefix of the persistent replication slots; `None` uses temporary slots.
    pub slot_name: Option<String>,
    /// Maximum write-ahead log, in bytes, that a replication slot may retain.
    pub max_wal_bytes: u64,
    pub timeouts: Timeouts,
    /// Number of hub shards (one task each).
    pub hub_shards: usize,
    /// NATS server that carries broadcasts between nodes; `None` uses PostgreSQL.
    pub nats_url: Option<Secret>,
    pub log: LogConfig,
    /// Trace export; `None` disables it.
    pub traces: Option<TracesConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// IP address or host name.
    pub host: String,
    /// Port; 0 selects a free one.
    pub port: u16,
    /// Second port, which serves the context socket at `/`.
    pub ws_port: Option<u16>,
}

impl Listen {
    /// URL of the server for clients on this machine. A wildcard address is replaced by loopback.
    pub fn local_url(&self, port: u16) -> String {
        match self.host.as_str() {
            "0.0.0.0" | "::" | "" => format!("http://127.0.0.1:{port}"),
            host if host.contains(':') => format!("http://[{host}]:{port}"),
            host => format!("http://{host}:{port}"),
        }
    }
}

#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// Database URL; `None` starts an embedded PostgreSQL in the data directory.
    pub url: Option<Secret>,
    /// URL of the same database without a pooler, for LISTEN and replication; `None` uses `url`.
    pub direct_url: Option<Secret>,
    pub pool_size: usize,
}

#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Secret of HS256 tokens. For the embedded PostgreSQL, `None` generates one in the data directory.
    pub jwt_secret: Option<Secret>,
    /// URL of the JSON Web Key Set for RS256, ES256 and EdDSA tokens.
    pub jwks_url: Option<String>,
    /// Required `iss` of tokens.
    pub issuer: Option<String>,
    /// Required `aud` of tokens.
    pub audience: Option<String>,
    /// Opaque API keys and their roles.
    pub api_keys: HashMap<Secret, Role>,
}

#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Whether `X-User-ID` and `X-Device-ID` of trusted peers identify the caller.
    pub trust_headers: bool,
    /// Networks of trusted peers; loopback by default.
    pub networks: Vec<IpNet>,
}

#[derive(Debug, Clone)]
pub struct ContextConfig {
    /// Configured model APIs; the first is the default.
    pub providers: Vec<Endpoint>,
    /// Whether the `echo` provider is enabled, for development.
    pub echo: bool,
    /// Names of the providers that answer in this order if the default one fails.
    pub fallback_providers: Vec<String>,
    /// Provider and model of background calls.
    pub background: BackgroundModel,
    /// Models and tokens that the roles may ask for.
    pub chat_limits: ChatLimits,
    /// Embeddings API for semantic retrieval.
    pub embeddings: Option<EmbedderConfig>,
    /// Whether the dynamic engine is the default.
    pub use_dynamic: bool,
    /// Whether the simple engine is used when the dynamic engine fails.
    pub fallback: bool,
    /// Interval between roll-ups of new units; `None` disables them.
    pub roll_up_interval: Option<Duration>,
}

#[derive(Debug, Clone)]
pub struct CorsConfig {
    pub origins: AllowedOrigins,
    /// Whether browsers may send credentials. Never true together with [`AllowedOrigins::Any`].
    pub credentials: bool,
}

/// Origins that browsers may call from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// All origins (`*`).
    Any,
    /// Origins as browsers send them: scheme, host and, if it is not the default, port.
    List(Vec<String>),
}

/// Rate and size limits; `None` disables one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Presence status updates per minute and user.
    pub presence_updates_per_minute: Option<NonZeroU32>,
    /// Context requests per minute and user.
    pub context_requests_per_minute: Option<NonZeroU32>,
    /// Chat requests per minute and user.
    pub chat_requests_per_minute: Option<NonZeroU32>,
    /// Writes to settings, contacts and similar resources per minute and user.
    pub manage_requests_per_minute: Option<NonZeroU32>,
    /// Open channel sockets on this node.
    pub max_connections: Option<NonZeroU32>,
    /// Channel messages per second on this node, sent and delivered.
    pub max_events_per_second: Option<NonZeroU32>,
    /// Channel messages per second sent by one socket.
    pub max_client_events_per_second: Option<NonZeroU32>,
    /// Bytes per second sent by one socket in its channels.
    pub max_client_bytes_per_second: Option<NonZeroU32>,
    /// Presence pushes per second on this node.
    pub max_presence_events_per_second: Option<NonZeroU32>,
    /// Channel joins per second on this node.
    pub max_joins_per_second: Option<NonZeroU32>,
    /// Channels per socket.
    pub max_channels_per_client: Option<NonZeroU32>,
    /// Size of a broadcast payload in kB (1,000 bytes).
    pub max_payload_kb: Option<NonZeroU32>,
    /// Presence pushes per channel within [`presence_window`](Limits::presence_window).
    pub presence_calls: Option<NonZeroU32>,
    pub presence_window: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Time without activity after which a device is `away`.
    pub idle_after: Duration,
    /// Time between the close of a socket and `offline` for its device; zero means immediately.
    pub disconnect_grace: Duration,
    /// Validity of a node's lease. A node that does not renew it counts as dead.
    pub node_lease: Duration,
}
