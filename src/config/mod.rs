//! Raw environment and flags to a validated [`Config`].
//!
//! [`args`] is what the process was given, as text; [`validate`] turns it into typed values and collects
//! everything that is wrong, so that one failed start names all of it. Nothing else reads the environment.

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
use crate::context::provider::{EmbedderConfig, Endpoint};

pub use crate::model::Secret;
pub use crate::telemetry::{LogConfig, LogFormat, TracesConfig};
pub use args::{
    Cli, Command, CompletionsArgs, DoctorArgs, MigrateArgs, ServeArgs, Settings, TokenArgs, completions,
};
pub use error::{ConfigError, Problem};
pub use parse::duration as parse_duration;
pub use unknown_variables::check_process_environment;
pub use validate::read_dotenv;

/// Everything that the operator decides, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the server listens.
    pub listen: Listen,
    /// Directory of the server's own PostgreSQL and of generated keys. Need not exist yet.
    pub data_dir: PathBuf,
    /// Which PostgreSQL to use.
    pub database: DatabaseConfig,
    /// Whom to believe.
    pub auth: AuthConfig,
    /// Whose identity headers to believe.
    pub gateway: GatewayConfig,
    /// What the context engine may do, and with which models.
    pub context: ContextConfig,
    /// Which browsers may call.
    pub cors: CorsConfig,
    /// How much is too much.
    pub limits: Limits,
    /// Public channels cannot be joined.
    pub private_channels_only: bool,
    /// What persistent replication slots are called; none: temporary ones.
    pub slot_name: Option<String>,
    /// Bytes of write-ahead log that changes may hold back.
    pub max_wal_bytes: u64,
    /// How long is too long.
    pub timeouts: Timeouts,
    /// Parts that the hub is split into.
    pub hub_shards: usize,
    /// NATS server that carries broadcasts between nodes; PostgreSQL does if there is none.
    pub nats_url: Option<Secret>,
    /// What to log, and how.
    pub log: LogConfig,
    /// Where traces go, if anywhere.
    pub traces: Option<TracesConfig>,
}

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// An address or a host name.
    pub host: String,
    /// 0 takes any free port.
    pub port: u16,
    /// A second port, whose `/` is the context socket.
    pub ws_port: Option<u16>,
}

impl Listen {
    /// The server's URL as seen from this machine: an address that means "all of them" is no address to call.
    pub fn local_url(&self, port: u16) -> String {
        match self.host.as_str() {
            "0.0.0.0" | "::" | "" => format!("http://127.0.0.1:{port}"),
            host if host.contains(':') => format!("http://[{host}]:{port}"),
            host => format!("http://{host}:{port}"),
        }
    }
}

/// Which PostgreSQL to use.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `None`: the server starts one of its own in the data directory.
    pub url: Option<Secret>,
    /// The same database without a pooler between, for LISTEN and replication; `url` serves if there is none.
    pub direct_url: Option<Secret>,
    /// Connections in the pool.
    pub pool_size: usize,
}

/// Whom to believe.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Secret of HS256 tokens. `None` with the server's own PostgreSQL: one is generated into the data directory.
    pub jwt_secret: Option<Secret>,
    /// Where the public keys of RS256, ES256 and EdDSA tokens are.
    pub jwks_url: Option<String>,
    /// Issuer that tokens must name.
    pub issuer: Option<String>,
    /// Audience that tokens must name.
    pub audience: Option<String>,
    /// Opaque keys and the roles that they stand for.
    pub api_keys: HashMap<Secret, Role>,
}

/// Whose identity headers to believe.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Whether `X-User-ID` and `X-Device-ID` of trusted peers identify the caller.
    pub trust_headers: bool,
    /// The peers that are trusted; loopback unless set.
    pub networks: Vec<IpNet>,
}

/// What the context engine may do, and with which models.
#[derive(Debug, Clone)]
pub struct ContextConfig {
    /// The models' APIs; the first answers where a request names none.
    pub providers: Vec<Endpoint>,
    /// Whether `echo` answers: for development.
    pub echo: bool,
    /// The API that finds by meaning.
    pub embeddings: Option<EmbedderConfig>,
    /// Whether the dynamic engine assembles unless a request says otherwise.
    pub use_dynamic: bool,
    /// Whether the simple engine answers when that fails.
    pub fallback: bool,
    /// Between roll-ups of everybody's new units.
    pub roll_up_interval: Option<Duration>,
}

/// Which browsers may call.
#[derive(Debug, Clone)]
pub struct CorsConfig {
    /// The origins.
    pub origins: AllowedOrigins,
    /// Whether browsers may send cookies. Never true together with [`CorsOrigin::Any`].
    pub credentials: bool,
}

/// The origins that browsers may call from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// `*`.
    Any,
    /// These, each as the browser sends it: scheme, host and, if not the scheme's own, port.
    List(Vec<String>),
}

/// How much is too much. `None` stands for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Presence status updates a minute and user.
    pub presence_updates_per_minute: Option<NonZeroU32>,
    /// Context requests a minute and user.
    pub context_requests_per_minute: Option<NonZeroU32>,
    /// Chat requests a minute and user.
    pub chat_requests_per_minute: Option<NonZeroU32>,
    /// Changes of settings, contacts and the like a minute and user.
    pub manage_requests_per_minute: Option<NonZeroU32>,
    /// Channel sockets open at once on this node.
    pub max_connections: Option<NonZeroU32>,
    /// Channel messages a second on this node, sent and delivered.
    pub max_events_per_second: Option<NonZeroU32>,
    /// Channel messages a second that one socket sends.
    pub max_client_events_per_second: Option<NonZeroU32>,
    /// Bytes a second that one socket sends in its channels.
    pub max_client_bytes_per_second: Option<NonZeroU32>,
    /// Presence pushes a second on this node.
    pub max_presence_events_per_second: Option<NonZeroU32>,
    /// Channel joins a second.
    pub max_joins_per_second: Option<NonZeroU32>,
    /// Channels on one socket.
    pub max_channels_per_client: Option<NonZeroU32>,
    /// Size of a broadcast's payload in kB (1,000 bytes).
    pub max_payload_kb: Option<NonZeroU32>,
    /// Presence pushes of one channel within [`presence_window`](Limits::presence_window).
    pub presence_calls: Option<NonZeroU32>,
    /// That window.
    pub presence_window: Duration,
}

/// How long is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// A device without activity for so long is away.
    pub idle_after: Duration,
    /// A closed socket's device is offline after so long; zero means at once.
    pub disconnect_grace: Duration,
    /// A node that was not heard of for so long counts as dead.
    pub node_lease: Duration,
}
