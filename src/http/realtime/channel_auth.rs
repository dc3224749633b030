//! Authentication and errors of the channel routes, with the texts and envelope of Supabase Realtime.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    auth::Principal,
    channels::{NodeLimits, authorization::AuthorizationError, history::NotStored},
    http::ApiError,
    session::channels::Services,
};

/// Headers hidden from policies: credentials, and headers that differ with every request and would make each
/// request a new cache key.
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

/// A caller with a valid channel token.
pub(super) struct ChannelAuth(pub Arc<Principal>);

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
        Ok(Self(Arc::new(token.with_headers(policy_headers(&parts.headers)))))
    }
}

/// The token in `Authorization: Bearer` (case-insensitive), otherwise in `apikey`.
fn token_from_headers(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| {
        let (scheme, token) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    token.or_else(|| headers.get("apikey")?.to_str().ok())
}

fn policy_headers(headers: &HeaderMap) -> Arc<str> {
    let visible = headers.iter().filter(|(name, _)| !HIDDEN_HEADERS.contains(&name.as_str()));
    let visible = visible.map(|(name, value)| {
        (name.as_str().to_owned(), Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned()))
    });
    Value::Object(visible.collect::<Map<_, _>>()).to_string().into()
}

/// A message in the words of Supabase Realtime.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RealtimeMessage {
    /// Text as clients of Supabase Realtime know it.
    message: String,
}

impl RealtimeMessage {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// An error in the words of Supabase Realtime.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RealtimeErrorText {
    /// Text as clients of Supabase Realtime know it.
    error: String,
}

impl RealtimeErrorText {
    pub(super) fn new(error: impl Into<String>) -> Self {
        Self { error: error.into() }
    }
}

/// Validation errors of a request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RealtimeFieldErrors {
    /// Lists of errors by field; for a batch, the errors of each message by position.
    #[schema(value_type = Object)]
    pub(super) errors: BTreeMap<&'static str, FieldErrors>,
}

/// Errors of one field.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum FieldErrors {
    Texts([&'static str; 1]),
    /// Errors of each message of a batch, by position. Valid messages have none.
    Messages(Vec<BTreeMap<&'static str, [&'static str; 1]>>),
}

impl RealtimeFieldErrors {
    /// The errors of one field.
    pub(super) fn new(field: &'static str, errors: FieldErrors) -> Self {
        Self { errors: BTreeMap::from([(field, errors)]) }
    }

    /// One error of one field.
    pub(super) fn text(field: &'static str, error: &'static str) -> Self {
        Self::new(field, FieldErrors::Texts([error]))
    }
}

/// Rejection of a request: errors by field, or a message if the policies could not be checked.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the two forms")]
pub(super) enum RealtimeRejection {
    /// Errors by field of the request.
    Fields(RealtimeFieldErrors),
    /// Reason why the policies could not be checked.
    Message(RealtimeMessage),
}

/// Error of a channel route.
#[derive(Debug)]
pub(super) enum RealtimeError {
    /// The token is missing or invalid.
    Unauthorized,
    InvalidJson,
    /// The content type is neither JSON nor binary.
    UnsupportedContentType,
    /// Validation errors by field.
    InvalidFields(RealtimeFieldErrors),
    /// The policies deny the request or cannot be checked.
    Authorization(AuthorizationError),
    /// The node's message rate is exceeded.
    RateLimited(&'static str),
    /// The body could not be read or is too large.
    Body(ApiError),
    /// A message to a channel with a history of rows could not be stored.
    NotStored(NotStored),
    ShuttingDown,
}

impl From<NotStored> for RealtimeError {
    fn from(error: NotStored) -> Self {
        Self::NotStored(error)
    }
}

impl IntoResponse for RealtimeError {
    fn into_response(self) -> Response {
        let respond = |status: StatusCode, message: &str| {
            (status, axum::Json(RealtimeMessage::new(message))).into_response()
        };
        match self {
            Self::Unauthorized => respond(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::InvalidJson => ApiError::bad_request("the body is not valid JSON").into_response(),
            Self::UnsupportedContentType => {
                const TEXT: &str = "Unsupported Media Type. Use application/json or application/octet-stream";
                let body = axum::Json(RealtimeErrorText::new(TEXT));
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, body).into_response()
            }
            Self::InvalidFields(errors) => {
                (StatusCode::UNPROCESSABLE_ENTITY, axum::Json(errors)).into_response()
            }
            Self::Authorization(error) => {
                let (status, message) = error.http_status();
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
                respond(status, message)
            }
            Self::RateLimited(message) => respond(StatusCode::TOO_MANY_REQUESTS, message),
            Self::Body(error) => error.into_response(),
            Self::NotStored(error) => {
                respond(StatusCode::SERVICE_UNAVAILABLE, &format!("UnableToStoreMessage: {error}"))
            }
            Self::ShuttingDown => ApiError::unavailable("the server is shutting down").into_response(),
        }
    }
}

/// Adds the rate headers: messages per second, on average.
pub(super) fn with_rate_headers(mut response: Response, limits: &NodeLimits) -> Response {
    let limit = limits.limits().events_per_second.map_or(i32::MAX.unsigned_abs(), std::num::NonZeroU32::get);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of a float saturates"
    )]
    let rolling = limits.events_per_second().ceil() as u32;
    let remaining = limit.saturating_sub(rolling);
    for (name, value) in
        [("x-rate-rolling", rolling), ("x-rate-limit", limit), ("x-rate-limit-remaining", remaining)]
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
        for (pairs, expected) in [
            (&[("authorization", "bearer  abc"), ("apikey", "key")][..], Some("abc")),
            (&[("authorization", "Basic abc"), ("apikey", "key")], Some("key")),
            (&[("apikey", "key")], Some("key")),
            (&[], None),
        ] {
            assert_eq!(token_from_headers(&headers(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn policy_headers_exclude_credentials() {
        let visible = policy_headers(&headers(&[("authorization", "a"), ("apikey", "k"), ("x-a", "1")]));
        assert_eq!(&*visible, r#"{"x-a":"1"}"#);
    }
}
