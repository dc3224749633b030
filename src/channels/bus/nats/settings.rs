//! Settings of NATS. The names are those of the `nats` command line.

use std::{path::PathBuf, str::FromStr};

use async_nats::ServerAddr;
use percent_encoding::percent_decode_str;

use crate::{
    model::Secret,
    settings::{ParseResult, comma_separated},
};

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "NATS")]
pub struct NatsSettings {
    /// URLs of the NATS servers through which nodes exchange broadcasts, nats:// or tls://, comma-separated if they are a
    /// cluster; with user:password@ or token@ if needed. Default: broadcasts go through PostgreSQL
    #[arg(id = "nats-url", long = "nats-url", env = "NATS_URL", value_parser = servers)]
    pub servers: Option<NatsServers>,
    /// User of NATS. Default: that of NATS_URL
    #[arg(id = "nats-user", long = "nats-user", env = "NATS_USER")]
    pub user: Option<String>,
    /// Password of NATS_USER. Default: that of NATS_URL
    #[arg(id = "nats-password", long = "nats-password", env = "NATS_PASSWORD", value_parser = secret)]
    pub password: Option<Secret>,
    /// Token of NATS. Default: that of NATS_URL
    #[arg(id = "nats-token", long = "nats-token", env = "NATS_TOKEN", value_parser = secret)]
    pub token: Option<Secret>,
    /// File with JWT and key, as `nsc` writes it (.creds). Default: no such credentials
    #[arg(id = "nats-creds", long = "nats-creds", env = "NATS_CREDS")]
    pub credentials: Option<PathBuf>,
    /// File with the seed of an NKey. Default: no such key
    #[arg(id = "nats-nkey", long = "nats-nkey", env = "NATS_NKEY")]
    pub nkey: Option<PathBuf>,
    /// PEM file with the certificates that NATS is verified with. Default: the certificates of the system
    #[arg(id = "nats-ca", long = "nats-ca", env = "NATS_CA")]
    pub ca: Option<PathBuf>,
    /// PEM file with the certificate that this server shows NATS; requires NATS_KEY. Default: no certificate
    #[arg(id = "nats-cert", long = "nats-cert", env = "NATS_CERT")]
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key of NATS_CERT. Default: no key
    #[arg(id = "nats-key", long = "nats-key", env = "NATS_KEY")]
    pub key: Option<PathBuf>,
    /// First part of the subjects of this installation. Copies of a database that share a NATS must differ in it
    #[arg(
        id = "nats-subject-prefix",
        long = "nats-subject-prefix",
        env = "NATS_SUBJECT_PREFIX",
        default_value = "rollcall",
        value_parser = subject_prefix
    )]
    pub subject_prefix: String,
}

/// What authenticates a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UrlCredentials {
    Password(String, Secret),
    Token(Secret),
}

/// The servers of a cluster. Addresses hold no credentials, because the client logs them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsServers {
    pub(super) addresses: Vec<ServerAddr>,
    /// Those of the first URL that has some.
    pub(super) credentials: Option<UrlCredentials>,
}

impl FromStr for NatsServers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        servers(text)
    }
}

/// Errors do not repeat the value, which may hold credentials.
fn servers(text: &str) -> ParseResult<NatsServers> {
    const EXPECTED: &str = "must be a comma-separated list of URLs such as nats://host:4222 or tls://host";
    let (mut addresses, mut credentials) = (Vec::new(), None);
    for item in comma_separated(text) {
        let item = if item.contains("://") { item.to_owned() } else { format!("nats://{item}") };
        let (scheme, rest) = item.split_once("://").ok_or(EXPECTED)?;
        let rest = rest.trim_end_matches('/');
        let (userinfo, host) = rest.rsplit_once('@').map_or((None, rest), |(info, host)| (Some(info), host));
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]_%".contains(c);
        if !["nats", "tls"].contains(&scheme) || host.is_empty() || !host.chars().all(is_host) {
            return Err(EXPECTED.to_owned());
        }
        let address = format!("{scheme}://{host}").parse().map_err(|_| EXPECTED)?;
        addresses.push(address);
        credentials = credentials.or(userinfo.filter(|info| !info.is_empty()).map(url_credentials));
    }
    if addresses.is_empty() { Err(EXPECTED.to_owned()) } else { Ok(NatsServers { addresses, credentials }) }
}

fn url_credentials(userinfo: &str) -> UrlCredentials {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    match userinfo.split_once(':') {
        Some((user, password)) => UrlCredentials::Password(decode(user), Secret::new(decode(password))),
        None => UrlCredentials::Token(Secret::new(decode(userinfo))),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the form of a parser")]
fn secret(text: &str) -> ParseResult<Secret> {
    Ok(Secret::new(text))
}

fn subject_prefix(text: &str) -> ParseResult<String> {
    let is_token = |token: &str| {
        !token.is_empty() && token.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    if text.len() > 64 || !text.split('.').all(is_token) {
        return Err(format!(
            "must be at most 64 letters, digits, -, _ and dots between them (got \"{text}\")"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_urls_is_a_cluster_and_its_addresses_hold_no_credentials() {
        let list = servers("nats://us%40er:p%3Aw@one:4333, tls://two/,three").unwrap();
        let texts: Vec<&str> = list.addresses.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(texts, ["nats://one:4333", "tls://two", "nats://three"]);
        assert_eq!(list.credentials, Some(UrlCredentials::Password("us@er".to_owned(), Secret::new("p:w"))));
        let token = servers("nats://tok@[::1]:4222").unwrap();
        assert_eq!(token.credentials, Some(UrlCredentials::Token(Secret::new("tok"))));
        assert_eq!(servers("127.0.0.1").unwrap().credentials, None);
    }

    #[test]
    fn malformed_urls_are_refused_without_repeating_them() {
        for bad in
            ["", " , ", "http://u:hunter2@host", "nats://", "nats://u:hunter2@", "nats://a/b", "nats://a:x"]
        {
            let error = servers(bad).unwrap_err();
            assert!(error.starts_with("must be") && !error.contains("hunter2"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_prefix_is_a_literal_subject() {
        assert_eq!(subject_prefix("acme.rollcall-1"), Ok("acme.rollcall-1".to_owned()));
        for bad in ["", ".", "a.", ".a", "a..b", "a.*", ">", "a b", "ä", &"a".repeat(65)] {
            assert!(subject_prefix(bad).is_err(), "{bad}");
        }
    }
}
