//! Who asks and broadcasts over HTTP, and how what is wrong is answered: in the original's words, which have an envelope of
//! their own.

use std::sync::Arc;

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use crate::{
    channels::{ChannelPrincipal, NodeLimits, authorization::AuthorizationError},
    http::ApiError,
    session::channels::Services,
};

/// Headers that policies do not get to see: credentials, and what differs with every request, which would make every
/// request another caller.
const HIDDEN_HEADERS: [&str; 10] = [
    "authorization",
    "apikey",
    "x-api-key",
    "cookie",
    "connection",
    "content-length",
    "content-type",
    "traceparent",
    "tracestate",
    "x-request-id",
];

/// Somebody whose token is believed.
pub(super) struct ChannelAuth(pub Arc<ChannelPrincipal>);

impl<S> FromRequestParts<S> for ChannelAuth
where
    S: Send + Sync,
    Arc<Services>: FromRef<S>,
{
    type Rejection = RealtimeError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let services = Arc::<Services>::from_ref(state);
        let token = token_from_headers(&parts.headers).ok_or(RealtimeError::Unauthorized)?;
        let token =
            services.verifier.verify_channel_token(token).await.map_err(|_| RealtimeError::Unauthorized)?;
        Ok(Self(Arc::new(ChannelPrincipal::new(&token, policy_headers(&parts.headers)))))
    }
}

/// `Authorization: Bearer` in whatever case, or else the key alone.
fn token_from_headers(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| {
        let (scheme, token) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    token.or_else(|| headers.get("apikey")?.to_str().ok())
}

fn policy_headers(headers: &HeaderMap) -> Arc<str> {
    let seen = headers.iter().filter(|(name, _)| !HIDDEN_HEADERS.contains(&name.as_str()));
    let seen = seen.map(|(name, value)| {
        (name.as_str().to_owned(), Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned()))
    });
    Value::Object(seen.collect::<Map<_, _>>()).to_string().into()
}

/// Why nothing is broadcast or told.
#[derive(Debug)]
pub(super) enum RealtimeError {
    /// No token, or none that is believed.
    Unauthorized,
    /// The body is no JSON.
    InvalidJson,
    /// Another content type than the two.
    UnsupportedContentType,
    /// The errors, by field.
    InvalidFields(Value),
    /// Policies say no, or cannot be asked.
    Authorization(AuthorizationError),
    /// The node has too many messages.
    RateLimited(&'static str),
    /// The body could not be read, or is too long.
    Body(ApiError),
    /// The server stops.
    ShuttingDown,
}

impl IntoResponse for RealtimeError {
    fn into_response(self) -> Response {
        let said = |status: StatusCode, body: Value| (status, axum::Json(body)).into_response();
        match self {
            Self::Unauthorized => said(StatusCode::UNAUTHORIZED, json!({"message": "Unauthorized"})),
            Self::InvalidJson => ApiError::bad_request("the body is not valid JSON").into_response(),
            Self::UnsupportedContentType => said(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                json!({"error": "Unsupported Media Type. Use application/json or application/octet-stream"}),
            ),
            Self::InvalidFields(errors) => {
                said(StatusCode::UNPROCESSABLE_ENTITY, json!({ "errors": errors }))
            }
            Self::Authorization(error) => {
                let (status, message) = error.http_status();
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
                said(status, json!({ "message": message }))
            }
            Self::RateLimited(message) => said(StatusCode::TOO_MANY_REQUESTS, json!({ "message": message })),
            Self::Body(error) => error.into_response(),
            Self::ShuttingDown => ApiError::unavailable("the server is shutting down").into_response(),
        }
    }
}

/// Says in headers how much is left: messages a second, on average.
pub(super) fn with_rate_headers(mut response: Response, limits: &NodeLimits) -> Response {
    let limit = limits.limits().events_per_second.map_or(i32::MAX.unsigned_abs(), std::num::NonZeroU32::get);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of a float saturates"
    )]
    let rolling = limits.events_per_second().ceil() as u32;
    let left = limit.saturating_sub(rolling);
    for (name, value) in
        [("x-rate-rolling", rolling), ("x-rate-limit", limit), ("x-rate-limit-remaining", left)]
    {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn bearer_token_takes_precedence_over_the_key() {
        for (given, expected) in [
            (&[("authorization", "bearer  abc"), ("apikey", "key")][..], Some("abc")),
            (&[("authorization", "Basic abc"), ("apikey", "key")], Some("key")),
            (&[("apikey", "key")], Some("key")),
            (&[], None),
        ] {
            assert_eq!(token_from_headers(&headers(given)), expected, "{given:?}");
        }
    }

    #[test]
    fn policy_headers_exclude_credentials() {
        let seen = policy_headers(&headers(&[("authorization", "a"), ("apikey", "k"), ("x-a", "1")]));
        assert_eq!(&*seen, r#"{"x-a":"1"}"#);
    }
}
