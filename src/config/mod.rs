//! Configuration: converts the command line and the environment to a validated [`Config`].
//!
//! Each domain declares its settings in a struct, with flags, variables, defaults and parsers; see
//! [`crate::settings`]. [`Config`] flattens these structs. This module reads `.env`, the command line and the
//! environment, applies [`ALIASES`], collects all problems, so that one failed start reports every one, and checks
//! rules between settings. No other module reads the environment.

mod args;
mod container;
mod database_variables;
#[cfg(test)]
mod docs;
mod error;
mod texts;
mod unknown_variables;

use std::path::{Path, PathBuf};

use clap::{Args, FromArgMatches};

use crate::{
    auth::VerifierSettings,
    channels::ChannelSettings,
    context::ContextSettings,
    http::{
        GatewayPolicy, MetricsPolicy,
        middleware::{CorsOrigins, CorsSettings},
    },
    hub::HubSettings,
    lifecycle::ErrorChain,
    limits::LimitSettings,
    operator::OperatorSettings,
    pg::{Connector, DatabaseSettings},
    presence::{devices::DeviceTimeouts, visibility::ResumeSettings},
    settings::{ParseResult, Problem, port},
    transport::AcceptSettings,
    webhooks::WebhookSettings,
};

pub use crate::model::Secret;
pub use crate::settings::duration as parse_duration;
pub use crate::telemetry::{LogConfig, LogFormat, TracesConfig};
pub use args::{Cli, Command, CompletionsArgs, DoctorArgs, MigrateArgs, ServeArgs, TokenArgs, completions};
pub use error::ConfigError;
pub use texts::Settings;
pub use unknown_variables::{check_process_environment, notice_of_dotenv};

/// Other names of variables. An alias counts when the setting itself is unset.
const ALIASES: [(&str, &str); 6] = [
    ("SHARDS", "HUB_SHARDS"),
    ("SUPABASE_JWT_SECRET", "JWT_SECRET"),
    ("API_JWT_SECRET", "JWT_SECRET"),
    ("API_JWT_JWKS", "JWKS"),
    ("CORS_ORIGIN", "CORS_ORIGINS"),
    ("REALTIME_SLOT", "REALTIME_SLOT_NAME"),
];

/// Validated configuration of the server.
#[derive(Debug, Clone, Args)]
pub struct Config {
    #[command(flatten)]
    pub listen: Listen,
    #[command(flatten)]
    pub accept: AcceptSettings,
    #[command(flatten)]
    pub metrics: MetricsPolicy,
    /// Directory of the embedded PostgreSQL and of generated keys; it need not exist
    #[arg(long, env = "ROLLCALL_DATA_DIR", default_value = ".rollcall", help_heading = "Server")]
    pub data_dir: PathBuf,
    #[command(flatten)]
    pub operator: OperatorSettings,
    #[command(flatten)]
    pub hub: HubSettings,
    #[command(flatten)]
    pub log: LogConfig,
    #[command(flatten)]
    pub traces: TracesConfig,
    #[command(flatten)]
    pub database: DatabaseSettings,
    #[command(flatten)]
    pub auth: VerifierSettings,
    #[command(flatten)]
    pub gateway: GatewayPolicy,
    #[command(flatten)]
    pub cors: CorsSettings,
    #[command(flatten)]
    pub context: ContextSettings,
    #[command(flatten)]
    pub channels: ChannelSettings,
    #[command(flatten)]
    pub limits: LimitSettings,
    #[command(flatten)]
    pub timeouts: DeviceTimeouts,
    #[command(flatten)]
    pub resume: ResumeSettings,
    #[command(flatten)]
    pub webhooks: WebhookSettings,
    /// Line of the log about variables without effect.
    #[arg(skip)]
    pub notice: Option<String>,
    /// Variable of Supabase's Realtime that is set.
    #[arg(skip)]
    supabase_variable: Option<&'static str>,
}

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Server")]
pub struct Listen {
    /// IP address or host name to listen on
    #[arg(long, env = "HOST", default_value = "127.0.0.1", value_parser = host)]
    pub host: String,
    /// Port to listen on; 0 selects a free port
    #[arg(long, env = "PORT", default_value = "4000", value_parser = port)]
    pub port: u16,
    /// Second port, which serves the context socket at /. Default: no second port
    #[arg(long, env = "WS_PORT", value_parser = port)]
    pub ws_port: Option<u16>,
    /// Port of /metrics, /livez, /readyz and /version, without a login and with a socket limit of its own; 0 selects a free port. Default: no admin port
    #[arg(long, env = "ADMIN_PORT", value_parser = port)]
    pub admin_port: Option<u16>,
    /// IP address or host name that ADMIN_PORT listens on
    #[arg(long, env = "ADMIN_HOST", default_value = "127.0.0.1", value_parser = host)]
    pub admin_host: String,
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

fn host(text: &str) -> ParseResult<String> {
    let is_valid = text.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]%_".contains(c));
    if !is_valid {
        return Err(format!("must be an IP address or a host name (got \"{text}\")"));
    }
    // URLs write IPv6 addresses as `[::1]`; sockets need them without brackets.
    Ok(text.trim_start_matches('[').trim_end_matches(']').to_owned())
}

/// Loads `.env` of the working directory into the process's environment; variables that are already set are
/// kept. Call it before any thread starts and before the command line is parsed. Returns the names in the file.
///
/// # Errors
/// Names the line that is not of the form `NAME=value`.
pub fn read_dotenv() -> Result<Vec<String>, ConfigError> {
    let path = Path::new(".env");
    match dotenvy::from_path(path) {
        Ok(()) => {
            let lines = dotenvy::from_path_iter(path).into_iter().flatten();
            Ok(lines.filter_map(|line| Some(line.ok()?.0)).collect())
        }
        Err(error) if error.not_found() => Ok(Vec::new()),
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
    /// Parses the settings and checks the rules between them.
    ///
    /// # Errors
    /// Every malformed or inconsistent setting, with the reason.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let texts::Checked { arguments, invalid, mut problems } = settings.check();
        let definition = crate::settings::definition::<Self>();
        let mut config = definition
            .try_get_matches_from(arguments)
            .and_then(|matches| Self::from_arg_matches(&matches))
            .map_err(|error| Problem::new("settings", texts::reason(&error)))?;
        let variables = settings.non_empty();
        if variables.contains_key("DATABASE_URL")
            && let Some(url) = &mut config.database.url
        {
            let completed = database_variables::completed(url.expose(), &variables);
            if let Err(error) = Connector::new(&completed) {
                problems.push(Problem::new(
                    "PG*",
                    format!("cannot complete DATABASE_URL: {}", ErrorChain(&error)),
                ));
            }
            *url = Secret::new(completed);
        }
        config.notice = database_variables::notice(&variables);
        config.supabase_variable = database_variables::marker(&variables);
        // A rule about a malformed setting would only repeat its problem.
        let violations = config.violated_rules().into_iter();
        let is_known = |others: &[&str]| !others.iter().any(|other| invalid.iter().any(|name| name == other));
        problems.extend(violations.filter(|(others, _)| is_known(others)).map(|(_, problem)| problem));
        ConfigError::from_problems(problems)?;
        Ok(config)
    }

    /// Why no embedded PostgreSQL may be started: its data would be lost with a container, or a database was meant.
    pub fn embedded_refusal(&self) -> Option<String> {
        // A URL that leads here is that of the embedded PostgreSQL itself.
        if self.database.url.is_some() {
            return None;
        }
        let reason = match (self.database.embedded, self.supabase_variable) {
            (Some(true), _) => return None,
            (Some(false), _) => "EMBEDDED_DATABASE is false".to_owned(),
            (None, Some(variable)) => format!("{variable} is set"),
            (None, None) => format!("this is a container ({})", container::evidence()?),
        };
        Some(format!("DATABASE_URL: must be set, because {reason}"))
    }

    /// Violated rules between settings, each with the variables that it reads besides that of the problem.
    fn violated_rules(&self) -> Vec<(&'static [&'static str], Problem)> {
        let mut violated: Vec<(&[&str], Problem)> = Vec::new();
        if self.listen.port != 0 && self.listen.ws_port == Some(self.listen.port) {
            let message = "must differ from PORT, which serves the context socket at /api/v1/context/ws";
            violated.push((&["PORT"], Problem::new("WS_PORT", message)));
        }
        for (name, other) in [("PORT", Some(self.listen.port)), ("WS_PORT", self.listen.ws_port)] {
            if self.listen.admin_port.is_some_and(|port| port != 0 && Some(port) == other) {
                let message = format!("must differ from {name}, which clients reach");
                violated.push((&["PORT", "WS_PORT"], Problem::new("ADMIN_PORT", message)));
            }
        }
        if self.database.url.is_none() && self.database.direct_url.is_some() {
            violated.push((&["DATABASE_URL"], Problem::new("DATABASE_DIRECT_URL", "requires DATABASE_URL")));
        }
        if self.cors.credentials && self.cors.origins == CorsOrigins::Any {
            let message = "requires CORS_ORIGINS to list origins, because browsers reject * with credentials";
            violated.push((&["CORS_ORIGINS"], Problem::new("CORS_CREDENTIALS", message)));
        }
        let nats = &self.channels.nats;
        for (name, file, other, other_file) in [
            ("NATS_CERT", &nats.certificate, "NATS_KEY", &nats.key),
            ("NATS_KEY", &nats.key, "NATS_CERT", &nats.certificate),
        ] {
            if file.is_some() && other_file.is_none() {
                violated.push((&[], Problem::new(name, format!("requires {other}"))));
            }
        }
        if let Err(problem) = self.context.models.providers() {
            violated.push((&["LLM_BASE_URL"], problem));
        }
        violated
    }
}

#[cfg(test)]
mod tests;
