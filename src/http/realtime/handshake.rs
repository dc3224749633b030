//! Handshake of channel sockets. Errors are HTTP responses with the texts of Supabase Realtime.

use std::{borrow::Cow, sync::Arc};

use axum::{
    extract::{Query, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::channel_auth::RealtimeErrorText;
use crate::{
    auth::ChannelTokenError,
    http::{HttpState, alias::Alias},
    protocol::Dialect,
    session::channels::{ChannelsSession, Services, SocketPrincipal},
    transport::{Upgrade, UpgradeRejected},
};

/// Maximum length in bytes of a header value that policies may see.
const MAX_HEADER_BYTES: usize = 4_096;

const WITHOUT_PREFIX: Alias = Alias {
    of: "/realtime/v1/websocket",
    path: "/socket/websocket",
    operation_id: "channelsSocketWithoutPrefix",
    description: "Same as `/realtime/v1/websocket`, without the prefix of the gateway.",
};

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    WITHOUT_PREFIX.add_to(OpenApiRouter::default().routes(routes!(upgrade)), get(upgrade))
}

/// Query parameters of the handshake.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct HandshakeQuery {
    /// Token or key; required unless the header `x-api-key` has it.
    #[param(nullable = false)]
    apikey: Option<String>,
    /// Serializer version: `1.0.0` (the default) for objects, `2.0.0` for arrays and binary frames.
    #[param(nullable = false)]
    vsn: Option<String>,
}

/// Why the handshake failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error(transparent)]
    Upgrade(#[from] UpgradeRejected),
    #[error("unsupported serializer version; use 1.0.0 or 2.0.0")]
    UnsupportedVersion,
    #[error("API key is missing")]
    MissingApiKey,
    #[error(transparent)]
    InvalidToken(#[from] ChannelTokenError),
    #[error("Too many connected users")]
    TooManyConnections,
    #[error("Too many joins per second")]
    TooManyJoins,
    #[error("a header value exceeds {MAX_HEADER_BYTES} bytes")]
    HeaderTooLong,
}

impl IntoResponse for HandshakeError {
    fn into_response(self) -> Response {
        let respond = |status: StatusCode, text: Cow<'static, str>| {
            (status, axum::Json(RealtimeErrorText::new(text))).into_response()
        };
        match self {
            // For a plain GET, Supabase Realtime answers 400.
            Self::Upgrade(UpgradeRejected::NotUpgrade) => {
                respond(StatusCode::BAD_REQUEST, self.to_string().into())
            }
            Self::Upgrade(rejected) => {
                let mut response = respond(rejected.status(), rejected.to_string().into());
                response.headers_mut().extend(rejected.headers());
                response
            }
            Self::UnsupportedVersion => StatusCode::FORBIDDEN.into_response(),
            Self::MissingApiKey => respond(StatusCode::UNAUTHORIZED, self.to_string().into()),
            Self::InvalidToken(error) => respond(StatusCode::UNAUTHORIZED, error.handshake_message()),
            Self::TooManyConnections | Self::TooManyJoins => {
                respond(StatusCode::TOO_MANY_REQUESTS, self.to_string().into())
            }
            Self::HeaderTooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response(),
        }
    }
}

/// Opens a socket for channels: broadcast, presence and database changes.
///
/// Phoenix channels as Supabase Realtime has them, for `supabase-js` and the other official clients.
#[utoipa::path(
    get, path = "/realtime/v1/websocket", operation_id = "channelsSocket", tag = "Realtime", params(HandshakeQuery),
    responses(
        (status = 101, description = "The connection is a WebSocket from here on."),
        (status = 400, description = "The request is not a WebSocket handshake.", body = RealtimeErrorText,
            example = json!({ "error": "not a WebSocket handshake" })),
        (status = 401, description = "The key is missing or invalid.", body = RealtimeErrorText,
            example = json!({ "error": "API key is missing" })),
        (status = 403, description = "The serializer version is not supported."),
        (status = 429, description = "The node has too many sockets or joins.", body = RealtimeErrorText,
            example = json!({ "error": "Too many connected users" })),
        (status = 431, description = "A header value is too long."),
    ),
)]
async fn upgrade(
    State(services): State<Arc<Services>>,
    Query(query): Query<HandshakeQuery>,
    request: Request,
) -> Result<Response, HandshakeError> {
    let (mut parts, _) = request.into_parts();
    let upgrade = Upgrade::from_parts(&mut parts)?;
    let dialect = dialect_for_version(query.vsn.as_deref()).ok_or(HandshakeError::UnsupportedVersion)?;
    let headers = policy_headers(&parts.headers)?;
    let key = match parts.headers.get("x-api-key") {
        Some(key) => String::from_utf8_lossy(key.as_bytes()),
        None => query.apikey.as_deref().ok_or(HandshakeError::MissingApiKey)?.into(),
    };
    let token = services.verifier.verify_channel_token(&key).await?;
    let permit = services.limits.acquire_connection().ok_or(HandshakeError::TooManyConnections)?;
    if services.limits.join_rate_exceeded() {
        return Err(HandshakeError::TooManyJoins);
    }
    let socket_principal = SocketPrincipal::new(token.with_headers(headers), &key);
    let hub = services.hub.clone();
    Ok(upgrade.accept(&hub, dialect.into(), ChannelsSession::new(services, socket_principal, permit)))
}

/// The dialect for a serializer version; without one, version 1.
fn dialect_for_version(version: Option<&str>) -> Option<Dialect> {
    let matches_family = |version: &str, family: &str| {
        let patch = version.strip_prefix(family);
        patch.is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
    };
    match version {
        None => Some(Dialect::PhoenixV1),
        Some(version) if matches_family(version, "1.0.") => Some(Dialect::PhoenixV1),
        Some(version) if matches_family(version, "2.0.") => Some(Dialect::PhoenixV2),
        Some(_) => None,
    }
}

/// Headers for policies as a JSON object: those that begin with `x-`, except the API key.
pub(super) fn policy_headers(headers: &HeaderMap) -> Result<Arc<str>, HandshakeError> {
    let mut visible = Map::new();
    for (name, value) in headers {
        if value.len() > MAX_HEADER_BYTES {
            return Err(HandshakeError::HeaderTooLong);
        }
        if name.as_str().starts_with("x-") && name != "x-api-key" {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            visible.insert(name.as_str().to_owned(), Value::String(value));
        }
    }
    Ok(Value::Object(visible).to_string().into())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn supported_versions_select_a_dialect() {
        assert_eq!(dialect_for_version(None), Some(Dialect::PhoenixV1));
        assert_eq!(dialect_for_version(Some("1.0.0")), Some(Dialect::PhoenixV1));
        assert_eq!(dialect_for_version(Some("2.0.0")), Some(Dialect::PhoenixV2));
        for version in ["3.0.0", "abc", "", "2.0", "2.0.", "2.1.0", "2.0.x"] {
            assert_eq!(dialect_for_version(Some(version)), None, "{version}");
        }
    }

    #[test]
    fn policy_headers_exclude_the_api_key() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-region", "eu \"1\""), ("x-api-key", "secret"), ("cookie", "c")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        assert_eq!(&*policy_headers(&headers).expect("is valid"), r#"{"x-region":"eu \"1\""}"#);
        headers.insert("cookie", HeaderValue::from_bytes(&[b'x'; 4_097]).expect("a value"));
        assert!(matches!(policy_headers(&headers), Err(HandshakeError::HeaderTooLong)));
    }
}
