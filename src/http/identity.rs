//! Extractors for the identity of the caller: token, trusted gateway and device.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, FromRef, FromRequestParts},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts},
};
use clap::ArgAction;
use ipnet::IpNet;

use super::{ApiError, extract::is_json};
use crate::{
    auth::{AuthError, Principal, Verifier},
    model::{DeviceId, UserId},
    settings::{ParseResult, boolean, comma_separated, defaults},
};

/// Supabase clients send the project's key in this header and the user's token in `Authorization`.
const API_KEY_HEADER: HeaderName = HeaderName::from_static("apikey");
const USER_ID_HEADER: HeaderName = HeaderName::from_static("x-user-id");
const DEVICE_ID_HEADER: HeaderName = HeaderName::from_static("x-device-id");
/// Host that the browser sent, where a gateway replaces `Host`.
const FORWARDED_HOST_HEADER: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Policy for identity headers of a gateway in front of the server.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Identity")]
pub struct GatewayPolicy {
    /// Accept X-User-ID and X-Device-ID from trusted gateways
    #[arg(
        id = "trust-gateway-headers",
        long = "trust-gateway-headers",
        env = "TRUST_GATEWAY_HEADERS",
        default_value = "false",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub trust: bool,
    /// Comma-separated networks of trusted gateways. The address of the direct peer counts, not a forwarding header
    #[arg(
        id = "trusted-gateways",
        long = "trusted-gateways",
        env = "TRUSTED_GATEWAYS",
        default_value = "127.0.0.0/8,::1/128",
        value_parser = networks
    )]
    pub networks: Networks,
    /// Origins whose pages may use the identity of a gateway, besides the server's own: those of `CORS_ORIGINS`.
    #[arg(skip)]
    pub origins: Vec<HeaderValue>,
}

/// Networks. An alias, because clap takes a field of type `Vec` for several arguments.
type Networks = Vec<IpNet>;

/// Parses a comma-separated list of networks in CIDR form or single addresses.
pub(super) fn networks(text: &str) -> ParseResult<Networks> {
    let network = |item: &str| {
        item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
            format!("must be networks in CIDR notation such as 10.0.0.0/8 or ::1/128 (got \"{item}\")")
        })
    };
    comma_separated(text).map(network).collect()
}

impl Default for GatewayPolicy {
    /// Trusts no gateway; the networks are loopback.
    fn default() -> Self {
        defaults()
    }
}

impl GatewayPolicy {
    /// Whether identity headers of `peer` are accepted.
    #[must_use]
    pub fn is_trusted_peer(&self, peer: SocketAddr) -> bool {
        // On a dual-stack socket, 127.0.0.1 appears as ::ffff:127.0.0.1.
        let address = peer.ip().to_canonical();
        self.trust && self.networks.iter().any(|network| network.contains(&address))
    }

    /// The user named by a trusted gateway, if any.
    fn gateway_user(&self, parts: &Parts) -> Result<Option<UserId>, ApiError> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        if !peer.is_some_and(|ConnectInfo(peer)| self.is_trusted_peer(*peer)) {
            return Ok(None);
        }
        let Some(value) = single_header(&parts.headers, &USER_ID_HEADER)
            // With two values, the client sent one and the gateway appended its own instead of replacing it.
            .map_err(|()| ApiError::invalid("X-User-ID", "must be given once"))?
        else {
            return Ok(None);
        };
        let id = value.to_str().ok().and_then(|text| text.trim().parse().ok());
        let id = id.ok_or_else(|| ApiError::invalid("X-User-ID", "must be a UUID"))?;
        self.check_origin(parts)?;
        Ok(Some(id))
    }

    /// Rejects requests of foreign pages. A gateway may identify users by cookies, which browsers add to a WebSocket
    /// handshake, to a stream of events and to a POST without JSON from any page. Other requests are governed by CORS.
    fn check_origin(&self, parts: &Parts) -> Result<(), ApiError> {
        let headers = &parts.headers;
        let is_events = headers.get(header::ACCEPT).is_some_and(|accept| accept == "text/event-stream");
        let is_socket = headers.contains_key(header::UPGRADE) || parts.method == Method::CONNECT || is_events;
        let is_form = parts.method == Method::POST
            && !is_json(headers)
            && !headers.contains_key(header::AUTHORIZATION)
            && !headers.contains_key(API_KEY_HEADER);
        if !is_socket && !is_form {
            return Ok(());
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        // Only browsers send the header.
        let Some(origin) = origins.next() else { return Ok(()) };
        if origins.next().is_none() && (self.origins.contains(origin) || is_own_origin(origin, parts)) {
            return Ok(());
        }
        Err(ApiError::forbidden(
            "Origin: must be the origin of this server or one of CORS_ORIGINS, because a gateway identifies the user",
        ))
    }
}

/// Whether `origin` has the host and port of the request.
fn is_own_origin(origin: &HeaderValue, parts: &Parts) -> bool {
    let Some((_, authority)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else {
        return false;
    };
    let headers = &parts.headers;
    let hosts = [single_header(headers, &header::HOST), single_header(headers, &FORWARDED_HOST_HEADER)];
    let mut hosts = hosts.into_iter().filter_map(|host| host.ok()??.to_str().ok());
    // HTTP/2 has the host in the URI.
    let uri = parts.uri.authority().map(axum::http::uri::Authority::as_str);
    !authority.is_empty()
        && (hosts.any(|host| host.eq_ignore_ascii_case(authority))
            || uri.is_some_and(|host| host.eq_ignore_ascii_case(authority)))
}

/// An authenticated caller: by a trusted gateway's header, `Authorization: Bearer`, or the `apikey` header,
/// in this order.
#[derive(Debug, Clone)]
pub struct Authenticated(pub Principal);

impl<S> FromRequestParts<S> for Authenticated
where
    S: Send + Sync,
    Arc<Verifier>: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let (verifier, gateway) = (Arc::<Verifier>::from_ref(state), Arc::<GatewayPolicy>::from_ref(state));
        authenticate(parts, &verifier, &gateway, None).await.map(Self)
    }
}

/// Authenticates a request. `query_token` is the token in a socket's query string; it is used last.
///
/// # Errors
/// [`ApiError::Auth`] when credentials are missing or invalid; [`ApiError::InvalidRequest`] for a malformed
/// header of a trusted gateway.
pub async fn authenticate(
    parts: &Parts,
    verifier: &Verifier,
    gateway: &GatewayPolicy,
    query_token: Option<&str>,
) -> Result<Principal, ApiError> {
    if let Some(user) = gateway.gateway_user(parts)? {
        return Ok(Principal::for_user(user));
    }
    let token = match token_from_headers(&parts.headers)? {
        Some(token) => token,
        None => query_token.ok_or(AuthError::Missing)?,
    };
    Ok(verifier.verify(token).await?)
}

/// The token in the headers, if any.
fn token_from_headers(headers: &HeaderMap) -> Result<Option<&str>, AuthError> {
    const REPEATED: AuthError = AuthError::Malformed("the header is repeated");
    const NOT_TEXT: AuthError = AuthError::Malformed("the header is not ASCII text");
    if let Some(value) = single_header(headers, &header::AUTHORIZATION).map_err(|()| REPEATED)? {
        let (scheme, token) =
            value.to_str().map_err(|_| NOT_TEXT)?.trim().split_once(' ').unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(AuthError::Malformed("Authorization must have the form Bearer <token>"));
        }
        return Ok(Some(token.trim()));
    }
    match single_header(headers, &API_KEY_HEADER).map_err(|()| REPEATED)? {
        Some(value) => Ok(Some(value.to_str().map_err(|_| NOT_TEXT)?.trim())),
        None => Ok(None),
    }
}

/// The only value of a header; an error if there are several, because another component might use a different
/// one.
fn single_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(()),
    }
}

/// The device in `X-Device-ID`, if any. It does not identify the user.
#[derive(Debug, Clone)]
pub struct DeviceHeader(pub Option<DeviceId>);

impl<S: Send + Sync> FromRequestParts<S> for DeviceHeader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let invalid = |message: String| ApiError::invalid("X-Device-ID", message);
        let value = single_header(&parts.headers, &DEVICE_ID_HEADER);
        let Some(value) = value.map_err(|()| invalid("must be given once".into()))? else {
            return Ok(Self(None));
        };
        let text =
            std::str::from_utf8(value.as_bytes()).map_err(|_| invalid("must be valid UTF-8".into()))?;
        let device = DeviceId::try_from(text).map_err(|error| invalid(error.to_string()))?;
        Ok(Self(Some(device)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_address_is_a_network() {
        assert_eq!(networks("10.0.0.0/8, ::1").unwrap().len(), 2);
        assert!(networks("10.0.0.0/33").is_err());
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    }

    #[test]
    fn tokens_are_read_from_supported_headers() {
        for (pairs, expected) in [
            (&[("authorization", "Bearer abc")][..], Some("abc")),
            (&[("authorization", "bearer  abc ")], Some("abc")),
            (&[("authorization", "BEARER abc"), ("apikey", "key")], Some("abc")),
            (&[("apikey", "key")], Some("key")),
            (&[], None),
        ] {
            assert_eq!(token_from_headers(&headers(pairs)).expect("is fine"), expected, "{pairs:?}");
        }
        for pairs in [
            &[("authorization", "Basic abc")][..],
            &[("authorization", "abc")],
            &[("authorization", "Bearer")],
            &[("authorization", "")],
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
        ] {
            assert!(matches!(token_from_headers(&headers(pairs)), Err(AuthError::Malformed(_))), "{pairs:?}");
        }
    }

    #[test]
    fn only_trusted_networks_may_set_the_user() {
        let policy = GatewayPolicy { trust: true, ..GatewayPolicy::default() };
        for (peer, expected) in [
            ("127.0.0.1:1", true),
            ("127.8.8.8:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
        ] {
            let peer = peer.parse().expect("is an address");
            assert_eq!(policy.is_trusted_peer(peer), expected, "{peer}");
            assert!(!GatewayPolicy::default().is_trusted_peer(peer));
        }
    }
}
