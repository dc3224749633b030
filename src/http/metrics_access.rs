//! Access to the metrics, which count all users, also those that a caller may not see.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, FromRef, FromRequestParts},
    http::{Version, header, request::Parts},
};
use ipnet::IpNet;

use super::{
    ApiError,
    forwarded::is_forwarded,
    identity::{GatewayPolicy, authenticate, networks},
};
use crate::{
    auth::{AuthError, Verifier},
    settings::{ParseResult, defaults},
};

/// Who may read the metrics on the main port without a token.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct MetricsPolicy {
    /// Comma-separated networks that may read /metrics on the main port without a token; none for no network. Requests through a proxy and from web pages need a token of the service role
    #[arg(
        id = "metrics-networks",
        long = "metrics-networks",
        env = "METRICS_NETWORKS",
        default_value = "127.0.0.0/8,::1/128",
        value_parser = networks_or_none
    )]
    pub networks: Networks,
}

/// Networks. An alias, because clap takes a field of type `Vec` for several arguments.
type Networks = Vec<IpNet>;

/// Parses a comma-separated list of networks, or `none`.
fn networks_or_none(text: &str) -> ParseResult<Networks> {
    if text.trim() == "none" { Ok(Vec::new()) } else { networks(text) }
}

impl Default for MetricsPolicy {
    /// Only loopback needs no token.
    fn default() -> Self {
        defaults()
    }
}

impl MetricsPolicy {
    /// Whether the request comes from a program in one of the networks, and not through a proxy or from a web page.
    ///
    /// nginx adds no header by default, but forwards in HTTP/1.0, which no scraper uses.
    fn needs_no_token(&self, parts: &Parts) -> bool {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let is_page = parts.headers.contains_key(header::ORIGIN)
            || parts.headers.get("sec-fetch-site").is_some_and(|site| site != "none");
        // On a dual-stack socket, 127.0.0.1 appears as ::ffff:127.0.0.1.
        let address = peer.map(|ConnectInfo(peer)| peer.ip().to_canonical());
        address.is_some_and(|address| self.networks.iter().any(|network| network.contains(&address)))
            && parts.version >= Version::HTTP_11
            && !is_page
            && !is_forwarded(&parts.headers)
    }
}

/// A caller that may read the metrics: the service role, or a program in one of the networks without a token.
#[derive(Debug, Clone, Copy)]
pub struct MetricsReader;

impl<S> FromRequestParts<S> for MetricsReader
where
    S: Send + Sync,
    Arc<Verifier>: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
    Arc<MetricsPolicy>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let (verifier, gateway) = (Arc::<Verifier>::from_ref(state), Arc::<GatewayPolicy>::from_ref(state));
        match authenticate(parts, &verifier, &gateway, None).await {
            Ok(caller) if caller.is_service() => Ok(Self),
            // Also in the networks: a gateway forwards the token of its client.
            Ok(_) => {
                Err(ApiError::forbidden("metrics require role service_role or a network of METRICS_NETWORKS"))
            }
            Err(ApiError::Auth(AuthError::Missing))
                if Arc::<MetricsPolicy>::from_ref(state).needs_no_token(parts) =>
            {
                Ok(Self)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn needs_no_token(policy: &MetricsPolicy, peer: &str, version: Version, name: &str, value: &str) -> bool {
        let peer: SocketAddr = peer.parse().expect("an address");
        let request =
            Request::get("/metrics").version(version).header(name, value).extension(ConnectInfo(peer));
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        policy.needs_no_token(&parts)
    }

    #[test]
    fn only_programs_in_the_networks_need_no_token() {
        let accepted = |peer, name, value| {
            needs_no_token(&MetricsPolicy::default(), peer, Version::HTTP_11, name, value)
        };
        for peer in ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(accepted(peer, "host", "rollcall:4000"), "{peer}");
        }
        assert!(accepted("127.0.0.1:1", "sec-fetch-site", "none"));
        for peer in ["10.0.0.1:1", "[::ffff:10.0.0.1]:1", "[2001:db8::1]:1"] {
            assert!(!accepted(peer, "host", "rollcall:4000"), "{peer}");
        }
        for (name, value) in [
            ("forwarded", "for=192.0.2.1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "192.0.2.1"),
            ("via", "1.1 proxy"),
            ("cf-connecting-ip", "192.0.2.1"),
            ("origin", "https://elsewhere.example"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-origin"),
        ] {
            assert!(!accepted("127.0.0.1:1", name, value), "{name}");
        }
        let policy = MetricsPolicy::default();
        assert!(!needs_no_token(&policy, "127.0.0.1:1", Version::HTTP_10, "host", "127.0.0.1:4000"));
    }

    #[test]
    fn networks_are_configured() {
        let accepted = |text: &str, peer| {
            let policy = MetricsPolicy { networks: networks_or_none(text).expect("networks") };
            needs_no_token(&policy, peer, Version::HTTP_11, "host", "rollcall:4000")
        };
        assert!(accepted("10.0.0.0/8, 192.0.2.7", "10.3.2.1:1"));
        assert!(accepted("10.0.0.0/8, 192.0.2.7", "192.0.2.7:1"));
        assert!(!accepted("10.0.0.0/8", "127.0.0.1:1"));
        assert!(!accepted("none", "127.0.0.1:1"));
        assert!(networks_or_none("none,10.0.0.0/8").is_err());
    }
}
