//! The WebSocket handshake of RFC 6455 section 4.2: turns an HTTP request into a connection.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version,
        header::{
            CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
            SEC_WEBSOCKET_VERSION, UPGRADE,
        },
        request::Parts,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::upgrade::OnUpgrade;
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade::downcast};
use sha1::{Digest, Sha1};
use tokio::{net::TcpStream, time::timeout};

use super::{Session, admission::Ticket, read_loop::run_connection, socket_options, stall::TimedStream};
use crate::{
    hub::{CloseReason, Connection, ConnectionOptions, Hub, Link, Permit, Socket},
    lifecycle::ErrorChain,
    protocol::Dialect,
};

/// Timeout for the 101 response to reach the socket.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
/// The GUID that RFC 6455 section 1.3 appends to the key.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The request is not a WebSocket handshake that this server accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeRejected {
    /// The method is not GET.
    #[error("a WebSocket handshake must use method GET")]
    Method,
    /// `Connection: upgrade` or `Upgrade: websocket` is missing.
    #[error("this endpoint is a WebSocket; send the headers Connection: Upgrade and Upgrade: websocket")]
    NotUpgrade,
    /// The version is not 13.
    #[error("Sec-WebSocket-Version must be 13")]
    Version,
    /// `Sec-WebSocket-Key` is missing or not 16 bytes in base64.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64")]
    Key,
    /// The connection cannot be upgraded: HTTP/1.0, HTTP/2, or a test without a socket.
    #[error("this connection cannot be upgraded; use HTTP/1.1")]
    NotUpgradable,
    /// The server is stopping.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl UpgradeRejected {
    /// The HTTP status of the error response.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key | Self::NotUpgradable => StatusCode::BAD_REQUEST,
            Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Headers of the error response that name what the server expects.
    pub fn headers(self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let headers: &[(HeaderName, &'static str)] = match self {
            Self::NotUpgrade => &[(UPGRADE, "websocket"), (CONNECTION, "upgrade")],
            Self::Version => {
                &[(UPGRADE, "websocket"), (CONNECTION, "upgrade"), (SEC_WEBSOCKET_VERSION, "13")]
            }
            Self::Method | Self::Key | Self::NotUpgradable | Self::ShuttingDown => &[],
        };
        headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
    }
}

/// A validated handshake before the response. The caller can still authenticate the client or reject it with an HTTP
/// response.
#[derive(Debug)]
pub struct Upgrade {
    accept: HeaderValue,
    on_upgrade: OnUpgrade,
    peer: SocketAddr,
    permit: Option<Permit>,
    ticket: Option<Ticket>,
    protocols: Vec<String>,
    protocol: Option<HeaderValue>,
}

impl Upgrade {
    /// Validates a request. Works once, since it removes the upgrade from the request's extensions.
    ///
    /// # Errors
    /// [`UpgradeRejected`] names what is missing, with the status and headers of the response.
    pub fn from_parts(parts: &mut Parts) -> Result<Self, UpgradeRejected> {
        if parts.method != Method::GET {
            return Err(UpgradeRejected::Method);
        }
        let has = |name, token| has_token(&parts.headers, &name, token);
        if !has(CONNECTION, "upgrade") || !has(UPGRADE, "websocket") {
            return Err(UpgradeRejected::NotUpgrade);
        }
        if parts.headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(UpgradeRejected::Version);
        }
        let accept = parts.headers.get(SEC_WEBSOCKET_KEY).and_then(accept_key).ok_or(UpgradeRejected::Key)?;
        if parts.version != Version::HTTP_11 {
            return Err(UpgradeRejected::NotUpgradable);
        }
        let on_upgrade = parts.extensions.remove::<OnUpgrade>().ok_or(UpgradeRejected::NotUpgradable)?;
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().ok_or(UpgradeRejected::NotUpgradable)?.0;
        let permit = parts.extensions.remove::<Permit>();
        let ticket = parts.extensions.remove::<Ticket>();
        let protocols = tokens(&parts.headers, &SEC_WEBSOCKET_PROTOCOL).map(str::to_owned).collect();
        Ok(Self { accept, on_upgrade, peer, permit, ticket, protocols, protocol: None })
    }

    /// The subprotocols that the client offers, in its order of preference.
    #[must_use]
    pub fn protocols(&self) -> &[String] {
        &self.protocols
    }

    /// Selects one of the offered subprotocols. Ignored if the client did not offer it.
    #[must_use]
    pub fn with_protocol(mut self, protocol: &str) -> Self {
        if self.protocols.iter().any(|offered| offered == protocol) {
            self.protocol = HeaderValue::from_str(protocol).ok();
        }
        self
    }

    /// Responds with 101. After the response is sent, the connection is registered with `hub` and `session` is opened
    /// on it. If the client disconnects before, `session` is dropped.
    #[must_use]
    pub fn accept<S: Session>(self, hub: &Hub, options: ConnectionOptions, session: S) -> Response<Body> {
        let Self { accept, on_upgrade, peer, permit, ticket, protocol, .. } = self;
        // A client of channels sends a join or a heartbeat first. Clients of the other dialects may only listen.
        let awaits_message = matches!(options.dialect, Dialect::PhoenixV1 | Dialect::PhoenixV2);
        let tasks = hub.tasks().clone();
        let hub = hub.clone();
        tasks.spawn(async move {
            match timeout(UPGRADE_TIMEOUT, take_socket(on_upgrade)).await {
                Ok(Ok((stream, early))) => {
                    // A separate task, so that no handshake state stays in the connection's task.
                    match hub.register(Socket { link: Link::Socket(stream), peer, permit }, options) {
                        Ok(registration) => {
                            let silent = ticket.and_then(|ticket| {
                                if awaits_message {
                                    await_first_message(&hub, ticket, registration.connection())
                                } else {
                                    ticket.confirm();
                                    None
                                }
                            });
                            drop(hub.tasks().spawn(run_connection(registration, session, early, silent)))
                        }
                        Err(error) => {
                            tracing::debug!(error = %ErrorChain(&error), "connection not registered")
                        }
                    }
                }
                Ok(Err(error)) => tracing::debug!(error = %ErrorChain(&error), "WebSocket upgrade failed"),
                Err(_elapsed) => tracing::debug!("WebSocket upgrade timed out"),
            }
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(protocol) = protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

/// Closes the socket if the admission asks for it before the first message. The ticket is for the read loop.
fn await_first_message(hub: &Hub, ticket: Ticket, connection: &Arc<Connection>) -> Option<Ticket> {
    let evicted = ticket.await_first_message()?;
    let connection = Arc::downgrade(connection);
    hub.tasks().spawn(async move {
        if evicted.await.is_ok()
            && let Some(connection) = connection.upgrade()
        {
            // Without a close frame: the peer need not respond, and the descriptor is needed now.
            connection.abort(CloseReason::Aborted);
        }
    });
    Some(ticket)
}

/// Why an upgrade did not produce a socket.
#[derive(Debug, thiserror::Error)]
enum UpgradeFailed {
    #[error("the client disconnected")]
    Hyper(#[from] hyper::Error),
    #[error("the connection is not a plain TCP socket")]
    NotTcp,
    #[error("the socket rejected its options")]
    Socket(#[from] std::io::Error),
}

/// Waits for the upgraded socket and the bytes that the client already sent.
async fn take_socket(on_upgrade: OnUpgrade) -> Result<(TcpStream, Vec<u8>), UpgradeFailed> {
    let upgraded = on_upgrade.await?;
    let parts = downcast::<TokioIo<TimedStream>>(upgraded).map_err(|_| UpgradeFailed::NotTcp)?;
    let stream = parts.io.into_inner().into_inner();
    socket_options::configure(&stream)?;
    // Copied, because even an empty `Bytes` of hyper's keeps its 8 KiB buffer alive.
    Ok((stream, parts.read_buf.to_vec()))
}

/// The comma-separated tokens of a header that may occur several times.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, expected: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(expected))
}

fn accept_key(key: &HeaderValue) -> Option<HeaderValue> {
    let is_valid = STANDARD.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == 16);
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(KEY_SUFFIX).finalize();
    let accept = HeaderValue::from_str(&STANDARD.encode(digest)).ok();
    accept.filter(|_| is_valid)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn rejected(change: impl FnOnce(&mut Parts)) -> UpgradeRejected {
        let request = Request::get("/")
            .header(CONNECTION, "keep-alive, Upgrade")
            .header(UPGRADE, "WebSocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .expect("valid request");
        let mut parts = request.into_parts().0;
        change(&mut parts);
        Upgrade::from_parts(&mut parts).expect_err("there is no socket behind this request")
    }

    #[test]
    fn the_rfc_example_key_gives_the_rfc_accept_value() {
        let accept = accept_key(&HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert_eq!(accept, Some(HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    }

    #[test]
    fn each_handshake_requirement_is_checked() {
        assert_eq!(rejected(|parts| parts.method = Method::POST), UpgradeRejected::Method);
        assert_eq!(rejected(|parts| drop(parts.headers.remove(UPGRADE))), UpgradeRejected::NotUpgrade);
        assert_eq!(rejected(|parts| drop(parts.headers.remove(CONNECTION))), UpgradeRejected::NotUpgrade);
        let version = HeaderValue::from_static("8");
        assert_eq!(
            rejected(|parts| drop(parts.headers.insert(SEC_WEBSOCKET_VERSION, version))),
            UpgradeRejected::Version
        );
        let key = HeaderValue::from_static("c2hvcnQ=");
        assert_eq!(
            rejected(|parts| drop(parts.headers.insert(SEC_WEBSOCKET_KEY, key))),
            UpgradeRejected::Key
        );
        assert_eq!(rejected(|_| {}), UpgradeRejected::NotUpgradable);
    }
}
