//! Connection strings as libpq, its tools and vendors write them: URLs and `key=value` lists. What has no meaning for
//! this server is ignored with a reason; what would weaken the connection is an error.

use std::{path::PathBuf, str::FromStr};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use super::password_file::find_password;

/// Where PostgreSQL puts its socket on most systems; used without a host, as libpq does.
const DEFAULT_SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Parameters that the driver understands.
const DRIVER: [&str; 17] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
];

/// Parameters without effect here, and why.
const IGNORED: [(&[&str], &str); 7] = [
    (&["pgbouncer", "pool_mode", "supa"], "for a pooler, set DATABASE_DIRECT_URL to the database itself"),
    (
        &["connection_limit", "pool_timeout", "pool_size", "max_connections", "min_connections"],
        "DATABASE_POOL_SIZE limits the connections",
    ),
    (&["schema", "currentSchema", "search_path"], "the search_path is that of the role"),
    (
        &["statement_cache_size", "statement_cache_mode", "prepared_statements", "prepareThreshold"],
        "statements are prepared where the connection allows it",
    ),
    (
        &["client_encoding", "fallback_application_name", "replication", "requirepeer", "binary_parameters"],
        "the server sets this itself",
    ),
    (&["gssencmode", "krbsrvname", "gsslib", "gssdelegation"], "GSSAPI is not supported"),
    (
        &["sslcompression", "sslsni", "ssl_min_protocol_version", "uselibpqcompat", "sslcertmode"],
        "TLS 1.2 and later are used, without compression",
    ),
];

/// How the certificate of the database is verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Verification {
    /// Not at all, as libpq does for `prefer` and `require`.
    #[default]
    None,
    /// Against the root certificates of the system.
    System,
    /// Against the root certificates in a PEM file.
    File(PathBuf),
}

/// A parsed connection string.
#[derive(Debug, Clone)]
pub(super) struct ConnectionString {
    pub config: Config,
    pub verification: Verification,
    /// Certificate and key of the client, in PEM files.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Parameters that have no effect, with the reason.
    pub ignored: Vec<String>,
}

/// Why a connection string was refused. Does not repeat its value, which holds a password.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConnectionString {
    #[error("{0}")]
    Driver(String),
    #[error("{0} is not a known parameter; for TLS use sslmode, sslrootcert, sslcert and sslkey")]
    UnknownTlsParameter(String),
    #[error("{0}={1} is not supported")]
    Unsupported(&'static str, String),
    #[error("{0} is not supported; write the parameters of the service into the connection string")]
    Service(String),
    #[error("passfile cannot be used: {0}")]
    PasswordFile(std::io::Error),
    #[error("sslcert and sslkey must be set together")]
    IncompleteClientCertificate,
    #[error("a quote is not closed, or a parameter has no value")]
    Syntax,
}

impl FromStr for ConnectionString {
    type Err = InvalidConnectionString;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let (base, parameters) = if is_url {
            let (base, query) = text.split_once('?').unwrap_or((text, ""));
            (base, parse_query(query)?)
        } else {
            ("", parse_list(text)?)
        };
        let mut tls = TlsParameters::default();
        let (mut driver, mut ignored) = (Vec::new(), Vec::new());
        let mut password_file = None;
        for (name, value) in parameters {
            if tls.take(&name, &value)? {
                continue;
            }
            if DRIVER.contains(&&*name) || name == "user" {
                driver.push((name, value));
            } else if name == "passfile" {
                password_file = Some(PathBuf::from(value));
            } else if name == "service" || name == "servicefile" {
                return Err(InvalidConnectionString::Service(name));
            } else if let Some((_, reason)) = IGNORED.iter().find(|(names, _)| names.contains(&&*name)) {
                if name == "gssencmode" && value == "require" {
                    return Err(InvalidConnectionString::Unsupported("gssencmode", value));
                }
                ignored.push(format!("{name}: {reason}"));
            } else if name.starts_with("ssl") {
                return Err(InvalidConnectionString::UnknownTlsParameter(name));
            } else {
                ignored.push(format!("{name}: not a parameter of PostgreSQL connections"));
            }
        }
        let mut config = parse_with_driver(base, is_url, &driver)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            let exists = |directory: &&&str| std::path::Path::new(directory).is_dir();
            match DEFAULT_SOCKET_DIRECTORIES.iter().find(exists) {
                Some(directory) => config.host_path(directory),
                None => config.host("localhost"),
            };
        }
        if config.get_password().is_none() {
            let password = match (password_file, default_password_file()) {
                (Some(file), _) => {
                    find_password(&file, &config).map_err(InvalidConnectionString::PasswordFile)?
                }
                // As in libpq, a default file that cannot be used is no error.
                (None, Some(file)) => find_password(&file, &config).unwrap_or_else(|error| {
                    ignored.push(format!("~/.pgpass: {error}"));
                    None
                }),
                (None, None) => None,
            };
            if let Some(password) = password {
                config.password(password);
            }
        }
        config.ssl_mode(tls.mode);
        // As in libpq, a local socket is never encrypted.
        if !config.get_hosts().is_empty()
            && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)))
        {
            config.ssl_mode(SslMode::Disable);
        }
        let client_certificate = match (tls.certificate, tls.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(InvalidConnectionString::IncompleteClientCertificate),
        };
        let verification = match (tls.verify, tls.root_certificate) {
            (true, Some(file)) => Verification::File(file),
            (true, None) => Verification::System,
            // As in libpq, `require` verifies where root certificates are named.
            (false, Some(file)) if tls.mode == SslMode::Require => Verification::File(file),
            (false, _) => Verification::None,
        };
        Ok(Self { config, verification, client_certificate, ignored })
    }
}

/// Adds the parameters that a connection string lacks, as libpq does with its variables. A string that cannot be parsed
/// stays as it is.
pub fn complete(text: &str, defaults: &[(&str, &str)]) -> String {
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    let (base, query) = text.split_once('?').unwrap_or((text, ""));
    let parameters = if is_url { parse_query(query) } else { parse_list(text) };
    let Ok(parameters) = parameters else { return text.to_owned() };
    let base = if is_url { base } else { "" };
    let Ok(known) = parse_with_driver(base, is_url, &[]) else { return text.to_owned() };
    let named = |name: &str| parameters.iter().any(|(given, _)| given == name);
    let has_host = named("host") || named("hostaddr") || !known.get_hosts().is_empty();
    let is_given = |name: &str| {
        named(name)
            || match name {
                "user" => known.get_user().is_some(),
                "password" => known.get_password().is_some(),
                "dbname" => known.get_dbname().is_some(),
                "host" | "hostaddr" => has_host,
                // The driver adds the default port to each host of a URL.
                "port" => known.get_hosts().len() > 1 || authority_port(base).is_some(),
                _ => false,
            }
    };
    let mut text = text.to_owned();
    for (name, value) in defaults.iter().filter(|(name, _)| !is_given(name)) {
        if !is_url {
            text.push_str(&format!(" {name}={}", quoted(value)));
        } else if *name == "port" && !known.get_hosts().is_empty() {
            let end = base.find("://").map_or(0, |at| at + 3);
            let end = base[end..].find('/').map_or(base.len(), |at| end + at);
            text.insert_str(end, &format!(":{}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        } else {
            let separator = if text.contains('?') { '&' } else { '?' };
            text.push_str(&format!("{separator}{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        }
    }
    text
}

/// The port in the authority of a URL.
fn authority_port(base: &str) -> Option<&str> {
    let (_, rest) = base.split_once("://")?;
    let authority = rest.split('/').next()?;
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    // The colons of an IPv6 address are in brackets.
    hosts.rsplit(']').next()?.split_once(':').map(|(_, port)| port)
}

/// The password file that libpq reads by default, if it exists.
fn default_password_file() -> Option<PathBuf> {
    let file = PathBuf::from(std::env::var_os("HOME")?).join(".pgpass");
    file.is_file().then_some(file)
}

struct TlsParameters {
    mode: SslMode,
    verify: bool,
    root_certificate: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Default for TlsParameters {
    fn default() -> Self {
        Self { mode: SslMode::Prefer, verify: false, root_certificate: None, certificate: None, key: None }
    }
}

impl TlsParameters {
    /// Whether the parameter is one of these.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, InvalidConnectionString> {
        match name {
            "sslmode" => {
                (self.mode, self.verify) = match value {
                    "disable" => (SslMode::Disable, false),
                    "allow" | "prefer" => (SslMode::Prefer, false),
                    "require" => (SslMode::Require, false),
                    "verify-ca" | "verify-full" => (SslMode::Require, true),
                    _ => return Err(InvalidConnectionString::Unsupported("sslmode", value.to_owned())),
                }
            }
            "sslrootcert" if value == "system" => (self.mode, self.verify) = (SslMode::Require, true),
            "sslrootcert" => self.root_certificate = Some(value.into()),
            "sslcert" => self.certificate = Some(value.into()),
            "sslkey" => self.key = Some(value.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn parse_with_driver(
    base: &str,
    is_url: bool,
    parameters: &[(String, String)],
) -> Result<Config, InvalidConnectionString> {
    let parameters = parameters.iter();
    let text = if is_url {
        let encode = |(name, value): &(String, String)| {
            format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))
        };
        format!("{base}?{}", parameters.map(encode).collect::<Vec<_>>().join("&"))
    } else {
        parameters.map(|(name, value)| format!("{name}={}", quoted(value))).collect::<Vec<_>>().join(" ")
    };
    Config::from_str(&text).map_err(driver_error)
}

fn driver_error(error: tokio_postgres::Error) -> InvalidConnectionString {
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    InvalidConnectionString::Driver(cause.unwrap_or_else(|| error.to_string()))
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn parse_query(query: &str) -> Result<Vec<(String, String)>, InvalidConnectionString> {
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(std::borrow::Cow::into_owned).map_err(|_| InvalidConnectionString::Syntax)
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').ok_or(InvalidConnectionString::Syntax)?;
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

/// Parses `name = value` pairs; a value with spaces is in single quotes, and a backslash escapes the next character.
fn parse_list(text: &str) -> Result<Vec<(String, String)>, InvalidConnectionString> {
    let mut parameters = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or(InvalidConnectionString::Syntax)?;
        let name = name.trim();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(InvalidConnectionString::Syntax);
        }
        let after = after.trim_start();
        let (is_quoted, after) = after.strip_prefix('\'').map_or((false, after), |inner| (true, inner));
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next() {
                None if is_quoted => return Err(InvalidConnectionString::Syntax),
                None => break after.len(),
                Some((index, '\'')) if is_quoted => break index + 1,
                Some((index, character)) if !is_quoted && character.is_whitespace() => break index,
                Some((_, '\\')) => {
                    value.push(characters.next().ok_or(InvalidConnectionString::Syntax)?.1);
                }
                Some((_, character)) => value.push(character),
            }
        };
        parameters.push((name.to_owned(), value));
        rest = after[end..].trim_start();
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ConnectionString {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn urls_and_lists_give_the_same_connection() {
        for text in [
            "postgresql://us%20er:p%40ss%2Fw%3F@db.example.org:6543/na%20me?application_name=x%20y",
            "postgres://db.example.org:6543/na%20me?user=us%20er&password=p%40ss/w?&application_name=x y",
            "host=db.example.org port=6543 user='us er' password = p@ss/w? dbname='na me' application_name='x y'",
            r"host=db.example.org  port=6543 user=us\ er password='p@ss/w?' dbname=na\ me application_name='x y'",
        ] {
            let config = parse(text).config;
            assert_eq!(config.get_user(), Some("us er"), "{text}");
            assert_eq!(config.get_password(), Some("p@ss/w?".as_bytes()), "{text}");
            assert_eq!(config.get_dbname(), Some("na me"), "{text}");
            assert_eq!(config.get_application_name(), Some("x y"), "{text}");
            assert_eq!(config.get_hosts(), [Host::Tcp("db.example.org".into())], "{text}");
            assert_eq!(config.get_ports(), [6543], "{text}");
        }
    }

    #[test]
    fn several_hosts_and_ipv6_addresses_are_kept() {
        let config = parse("postgresql://u@[::1]:1,b:2/x?target_session_attrs=read-write").config;
        assert_eq!(config.get_hosts(), [Host::Tcp("::1".into()), Host::Tcp("b".into())]);
        assert_eq!(config.get_ports(), [1, 2]);
        let config = parse("host=a,b port=1,2 user=u").config;
        assert_eq!(config.get_hosts().len(), 2);
    }

    #[test]
    fn local_sockets_are_not_encrypted() {
        for text in [
            "postgresql:///app?host=/run/postgresql&sslmode=verify-full",
            "postgresql://%2Frun%2Fpostgresql/app",
            "host=/run/postgresql dbname=app sslmode=require",
        ] {
            let config = parse(text).config;
            assert_eq!(config.get_hosts(), [Host::Unix("/run/postgresql".into())], "{text}");
            assert_eq!(config.get_ssl_mode(), SslMode::Disable, "{text}");
        }
        assert_eq!(parse("postgresql:///app").config.get_hosts().len(), 1);
        assert_eq!(parse("dbname=app").config.get_ssl_mode(), SslMode::Disable);
    }

    #[test]
    fn tls_modes_are_those_of_libpq() {
        let file = || Verification::File("/ca.pem".into());
        for (parameters, mode, verification) in [
            ("", SslMode::Prefer, Verification::None),
            ("sslmode=disable", SslMode::Disable, Verification::None),
            ("sslmode=allow", SslMode::Prefer, Verification::None),
            ("sslmode=prefer&sslrootcert=/ca.pem", SslMode::Prefer, Verification::None),
            ("sslmode=require", SslMode::Require, Verification::None),
            ("sslmode=require&sslrootcert=/ca.pem", SslMode::Require, file()),
            ("sslrootcert=/ca.pem&sslmode=verify-ca", SslMode::Require, file()),
            ("sslmode=verify-full", SslMode::Require, Verification::System),
            ("sslrootcert=system", SslMode::Require, Verification::System),
        ] {
            let parsed = parse(&format!("postgresql://u@h/d?{parameters}"));
            assert_eq!(
                (parsed.config.get_ssl_mode(), parsed.verification),
                (mode, verification),
                "{parameters}"
            );
        }
        let parsed = parse("host=h user=u sslcert=/c.pem sslkey=/k.pem");
        assert_eq!(parsed.client_certificate, Some(("/c.pem".into(), "/k.pem".into())));
    }

    #[test]
    fn variables_complete_a_connection_string() {
        let variables = [
            ("dbname", "na me"),
            ("host", "h2"),
            ("password", "p&w"),
            ("port", "7"),
            ("sslmode", "require"),
            ("user", "me"),
        ];
        for (text, expected) in [
            ("postgresql://", "h2:7 me p&w na me"),
            ("postgresql:///app", "h2:7 me p&w app"),
            ("postgresql://a", "a:7 me p&w na me"),
            ("postgresql://a/app", "a:7 me p&w app"),
            ("postgresql://u@a:5/app", "a:5 u p&w app"),
            ("postgresql://u:x@a/app?sslmode=disable", "a:7 u x app"),
            ("postgresql://u%40:x@[::1]/app", "::1:7 u@ x app"),
            ("postgresql://u@[::1]:5/app", "::1:5 u p&w app"),
            ("postgresql://u@/app?host=b&port=6", "b:6 u p&w app"),
            ("postgresql://u@a,b/app", "a:5432 u p&w app"),
            ("host=a", "a:7 me p&w na me"),
            ("dbname=app port=9", "h2:9 me p&w app"),
        ] {
            let completed = complete(text, &variables);
            let parsed = parse(&completed);
            let config = parsed.config;
            let Host::Tcp(host) = &config.get_hosts()[0] else { panic!("{completed}") };
            let password = String::from_utf8_lossy(config.get_password().expect("a password"));
            let (user, name) =
                (config.get_user().unwrap_or_default(), config.get_dbname().unwrap_or_default());
            let found = format!("{host}:{} {user} {password} {name}", config.get_ports()[0]);
            assert_eq!(found, expected, "{text}: {completed}");
            let is_disabled = config.get_ssl_mode() == SslMode::Disable;
            assert_eq!(is_disabled, text.contains("disable"), "{text}: {completed}");
        }
        assert_eq!(complete("postgresql://u:p@h:1/d", &variables[..4]), "postgresql://u:p@h:1/d");
        assert_eq!(complete("host", &variables), "host");
    }

    #[test]
    fn parameters_of_tools_are_ignored_with_a_reason() {
        let text = "postgresql://u@h/d?pgbouncer=true&connection_limit=1&schema=public&supa=base-pooler.x\
            &gssencmode=prefer&statement_cache_size=0&vendor=thing";
        let ignored = parse(text).ignored;
        assert_eq!(ignored.len(), 7, "{ignored:?}");
        assert!(ignored.iter().all(|line| line.len() > 20), "{ignored:?}");
    }

    #[test]
    fn what_would_weaken_the_connection_is_refused() {
        for text in [
            "postgresql://u@h/d?sslmod=verify-full",
            "postgresql://u@h/d?sslmode=verify",
            "postgresql://u@h/d?sslcert=/c.pem",
            "postgresql://u@h/d?gssencmode=require",
            "postgresql://u@h/d?passfile=/nonexistent",
            "service=production",
            "postgresql://u@h:port/d",
            "postgresql://u@h/d?sslmode",
            "host=h user='u",
            "host",
            "= x",
        ] {
            assert!(text.parse::<ConnectionString>().is_err(), "{text}");
        }
    }
}
