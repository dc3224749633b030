//! Errors of HTTP routes and their common JSON envelope.
//!
//! | family | variants |
//! | --- | --- |
//! | the request is invalid | `InvalidRequest`, `Unprocessable`, `InvalidReference`, `PayloadTooLarge`, `UnsupportedMediaType`, `MethodNotAllowed` |
//! | the caller is not allowed to, or not now | `Auth`, `Forbidden`, `NotFound`, `RateLimited` |
//! | the request conflicts with another | `Conflict`, `DuplicatePresence`, `TooManyDevices` |
//! | the server failed | `Internal`, `PolicyFailed`, `ServiceUnavailable`, `DatabaseUnavailable`, `ContextEngine`, `SimpleEngine` |
//!
//! Errors of the last family keep their cause; it is logged when the response is built and never sent to the
//! client.

use std::{borrow::Cow, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::limits::RateLimitExceeded;
pub use crate::protocol::FieldError;
use crate::{
    auth::AuthError,
    context::store::bundles::ReadError,
    context::{ContextError, chat::ChatError, provider::ProviderError, roll_up::RollUpError},
    lifecycle::ErrorChain,
    pg::PgError,
    presence::{PresenceError, WriteError},
    protocol::{ErrorCode, WireError, summary},
    transport::UpgradeRejected,
};

/// Range of `Retry-After` in seconds for 503 responses. The value is random, so that clients do not retry at
/// the same time.
const RETRY_AFTER_SECONDS: std::ops::RangeInclusive<u64> = 1..=5;
/// `Retry-After` while a request with the same idempotency key is in progress.
const IN_PROGRESS_RETRY_SECONDS: u64 = 2;
/// Maximum of a provider's `Retry-After` that is passed on.
const MAX_PROVIDER_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// Characters of a provider's error message that are passed on.
const MAX_REJECTION_CHARS: usize = 300;

/// An error response. `Display` is the `message` for the client.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: a parameter or field is missing or malformed.
    #[error("{message}")]
    InvalidRequest {
        message: Cow<'static, str>,
        /// The invalid fields; empty when the error is not about fields.
        details: Vec<FieldError>,
    },
    /// 422: a value is well-formed but not one of the allowed values.
    #[error("{message}")]
    Unprocessable { message: Cow<'static, str>, details: Vec<FieldError> },
    /// 401, or 503 when the signing keys cannot be fetched.
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error("{0}")]
    Forbidden(Cow<'static, str>),
    /// 404: the resource does not exist or is not visible to the caller. Has no fields, so that the two cases
    /// look the same.
    #[error("not found")]
    NotFound,
    /// 404: the route belongs to a module that the database lacks.
    #[error(
        "the module {0} is not installed in this database; run `rollcall migrate --modules {0}` and restart the server"
    )]
    NotInstalled(&'static str),
    #[error("method not allowed; see the Allow header")]
    MethodNotAllowed,
    /// 426, or 400 when the handshake is malformed: the route is a WebSocket.
    #[error(transparent)]
    UpgradeRejected(#[from] UpgradeRejected),
    /// 409: the request conflicts with another one or with the current state.
    #[error("{0}")]
    Conflict(Cow<'static, str>),
    /// 409: the same request is in progress; try again later.
    #[error("{0}")]
    InProgress(&'static str),
    /// 503: the model provider is unreachable, overloaded or too slow.
    #[error("the model provider is unavailable; try again later")]
    ProviderUnavailable {
        /// Time after which the provider accepts requests again, if it says so.
        retry_after: Option<Duration>,
        source: anyhow::Error,
    },
    /// 409: a unique violation on (user, device) that an upsert could not resolve.
    #[error("the presence of this device was changed concurrently; try again")]
    DuplicatePresence,
    /// 409: the device is new, and the user has as many devices as allowed, all of them online.
    #[error("too many devices: sign a device off, or use the ID of an existing one")]
    TooManyDevices,
    /// 400: the request refers to something that does not exist.
    #[error("{0}")]
    InvalidReference(Cow<'static, str>),
    #[error("the body exceeds the maximum of {limit} bytes")]
    PayloadTooLarge {
        /// Maximum body size of the route in bytes.
        limit: usize,
    },
    #[error("Content-Type: must be application/json")]
    UnsupportedMediaType,
    #[error(transparent)]
    RateLimited(#[from] RateLimitExceeded),
    /// 500: any other error.
    #[error("internal server error; include x-request-id when you report it")]
    Internal(#[from] anyhow::Error),
    /// 500: a policy of the application raised an error.
    #[error(
        "a row-level security policy raised an error; an operator finds its name in the log by x-request-id"
    )]
    PolicyFailed(#[source] anyhow::Error),
    /// 503: a dependency of the route is unreachable or too slow.
    #[error("{message}")]
    ServiceUnavailable {
        message: Cow<'static, str>,
        /// Cause to log, if there is more than the message.
        source: Option<anyhow::Error>,
    },
    /// 503: PostgreSQL is unreachable.
    #[error("the database is unavailable; try again later")]
    DatabaseUnavailable { source: anyhow::Error },
    /// 503: the dynamic context engine failed and the fallback is disabled.
    #[error("the context engine failed; try again later")]
    ContextEngine { source: anyhow::Error },
    /// 500: both context engines failed.
    #[error("both context engines failed; try again later")]
    SimpleEngine { source: anyhow::Error },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorEnvelope<'a> {
    success: bool,
    error: ErrorCode,
    message: String,
    status_code: u16,
    #[serde(rename = "doc_url")]
    doc_url: String,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    details: &'a [FieldError],
}

impl ApiError {
    /// 400 that is not about a field.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidRequest { message: message.into(), details: Vec::new() }
    }

    /// 400 for one field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid_fields(vec![FieldError::new(field.into(), message.into())])
    }

    /// 400 for several fields.
    #[must_use]
    pub fn invalid_fields(details: Vec<FieldError>) -> Self {
        Self::InvalidRequest { message: summary(&details), details }
    }

    /// 422: the field is well-formed, but its value is not one of the allowed values.
    pub fn unprocessable(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::unprocessable_fields(vec![FieldError::new(field.into(), message.into())])
    }

    /// 422 for several fields.
    #[must_use]
    pub fn unprocessable_fields(details: Vec<FieldError>) -> Self {
        Self::Unprocessable { message: summary(&details), details }
    }

    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Forbidden(message.into())
    }

    /// 503 without a cause to log.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::ServiceUnavailable { message: message.into(), source: None }
    }

    /// The stable error code and the HTTP status.
    #[must_use]
    pub const fn code_and_status(&self) -> (ErrorCode, StatusCode) {
        match self {
            Self::InvalidRequest { .. } => (ErrorCode::InvalidRequest, StatusCode::BAD_REQUEST),
            Self::Unprocessable { .. } => (ErrorCode::Unprocessable, StatusCode::UNPROCESSABLE_ENTITY),
            Self::Auth(AuthError::Missing | AuthError::UserRequired) => {
                (ErrorCode::Unauthorized, StatusCode::UNAUTHORIZED)
            }
            Self::Auth(AuthError::KeysUnavailable(_))
            | Self::ServiceUnavailable { .. }
            | Self::ProviderUnavailable { .. } => {
                (ErrorCode::ServiceUnavailable, StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Auth(_) => (ErrorCode::InvalidToken, StatusCode::UNAUTHORIZED),
            Self::Forbidden(_) => (ErrorCode::Forbidden, StatusCode::FORBIDDEN),
            Self::NotFound | Self::NotInstalled(_) => (ErrorCode::NotFound, StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => (ErrorCode::MethodNotAllowed, StatusCode::METHOD_NOT_ALLOWED),
            Self::UpgradeRejected(rejected) => {
                let status = rejected.status();
                let code = match status {
                    StatusCode::UPGRADE_REQUIRED => ErrorCode::UpgradeRequired,
                    StatusCode::SERVICE_UNAVAILABLE => ErrorCode::ServiceUnavailable,
                    StatusCode::METHOD_NOT_ALLOWED => ErrorCode::MethodNotAllowed,
                    _ => ErrorCode::InvalidRequest,
                };
                (code, status)
            }
            Self::Conflict(_) | Self::InProgress(_) => (ErrorCode::Conflict, StatusCode::CONFLICT),
            Self::DuplicatePresence => (ErrorCode::DuplicatePresence, StatusCode::CONFLICT),
            Self::TooManyDevices => (ErrorCode::TooManyDevices, StatusCode::CONFLICT),
            Self::InvalidReference(_) => (ErrorCode::InvalidReference, StatusCode::BAD_REQUEST),
            Self::PayloadTooLarge { .. } => (ErrorCode::PayloadTooLarge, StatusCode::PAYLOAD_TOO_LARGE),
            Self::UnsupportedMediaType => {
                (ErrorCode::UnsupportedMediaType, StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            Self::RateLimited(_) => (ErrorCode::RateLimited, StatusCode::TOO_MANY_REQUESTS),
            Self::Internal(_) => (ErrorCode::InternalError, StatusCode::INTERNAL_SERVER_ERROR),
            Self::PolicyFailed(_) => (ErrorCode::PolicyError, StatusCode::INTERNAL_SERVER_ERROR),
            Self::DatabaseUnavailable { .. } => {
                (ErrorCode::DatabaseConnectionError, StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::ContextEngine { .. } => (ErrorCode::ContextEngineError, StatusCode::SERVICE_UNAVAILABLE),
            Self::SimpleEngine { .. } => (ErrorCode::LegacyEngineError, StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// The stable error code, for sockets, which have no status.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code_and_status().0.as_str()
    }

    pub(super) fn details(&self) -> &[FieldError] {
        match self {
            Self::InvalidRequest { details, .. } | Self::Unprocessable { details, .. } => details,
            _ => &[],
        }
    }

    /// Logs the cause in the span of the request, which carries its ID.
    fn log(&self) {
        let error = self as &dyn std::error::Error;
        match self {
            Self::Internal(source) | Self::PolicyFailed(source) | Self::SimpleEngine { source } => {
                tracing::error!(error = %ErrorChain(&**source), code = self.code(), "request failed");
            }
            Self::DatabaseUnavailable { source }
            | Self::ContextEngine { source }
            | Self::ProviderUnavailable { source, .. }
            | Self::ServiceUnavailable { source: Some(source), .. } => {
                tracing::warn!(
                    error = %ErrorChain(&**source),
                    code = self.code(),
                    "request failed: dependency unavailable"
                );
            }
            // Fetch errors of the keys are logged by the task that fetches them.
            _ => tracing::debug!(error, code = self.code(), "request rejected"),
        }
    }
}

impl From<garde::Report> for ApiError {
    fn from(report: garde::Report) -> Self {
        let details =
            report.iter().map(|(path, error)| FieldError::new(path.to_string(), error.message().to_owned()));
        Self::invalid_fields(details.collect())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let (error, status) = self.code_and_status();
        let envelope = ErrorEnvelope {
            success: false,
            error,
            message: self.to_string(),
            status_code: status.as_u16(),
            doc_url: error.doc_url(),
            details: self.details(),
        };
        let mut response = (status, axum::Json(envelope)).into_response();
        let headers = response.headers_mut();
        match &self {
            Self::RateLimited(limited) => limited.write_headers(headers),
            Self::UpgradeRejected(rejected) => headers.extend(rejected.headers()),
            Self::Auth(AuthError::Missing | AuthError::UserRequired) => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::Auth(error) if !error.is_transient() => {
                let challenge = HeaderValue::from_static(r#"Bearer error="invalid_token""#);
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            Self::InProgress(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(IN_PROGRESS_RETRY_SECONDS));
            }
            Self::ProviderUnavailable { retry_after: Some(delay), .. } => {
                let seconds = delay.min(&MAX_PROVIDER_RETRY_AFTER).as_secs_f64().ceil().max(1.0) as u64;
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            _ if status == StatusCode::SERVICE_UNAVAILABLE => {
                let seconds = rand::random_range(RETRY_AFTER_SECONDS);
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            _ => {}
        }
        response
    }
}

impl From<PgError> for ApiError {
    fn from(error: PgError) -> Self {
        match error {
            PgError::Unavailable(_) | PgError::Conflict(_) | PgError::LockTimeout(_) => {
                Self::DatabaseUnavailable { source: error.into() }
            }
            PgError::StatementTimeout(_) => Self::ServiceUnavailable {
                message: "the database did not respond in time; try again later".into(),
                source: Some(error.into()),
            },
            PgError::PermissionDenied(_) => Self::forbidden("row-level security policies deny this request"),
            PgError::ForeignKeyViolation(_) => {
                Self::InvalidReference("the request refers to a resource that does not exist".into())
            }
            PgError::UniqueViolation(_) => Self::DuplicatePresence,
            // The routes validate their own rules first; this is a constraint that the operator added.
            PgError::CheckViolation(_) => Self::bad_request("a value violates a constraint of the database"),
            PgError::TooManyDevices(_) => Self::TooManyDevices,
            PgError::RateLimited(_) => match error.rate_limit().and_then(RateLimitExceeded::from_database) {
                Some(limited) => limited.into(),
                None => Self::Internal(error.into()),
            },
            PgError::PolicyFailed { .. } => Self::PolicyFailed(error.into()),
            PgError::Failed(_) => Self::Internal(error.into()),
        }
    }
}

impl From<PresenceError> for ApiError {
    fn from(error: PresenceError) -> Self {
        match error {
            PresenceError::Limited(limited) => limited.into(),
            PresenceError::NotFound => Self::NotFound,
            PresenceError::InvalidConversation(expected) => Self::invalid("conversation_id", expected),
            PresenceError::Read(error) => error.into(),
            PresenceError::Write(error @ (WriteError::Unavailable | WriteError::Stopping)) => {
                Self::DatabaseUnavailable { source: error.into() }
            }
            PresenceError::Write(WriteError::TooManyDevices) => Self::TooManyDevices,
            PresenceError::Write(error @ WriteError::Rejected) => Self::Internal(error.into()),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Database(error) => error.into(),
            ReadError::Decode(_) => Self::Internal(error.into()),
        }
    }
}

impl From<ContextError> for ApiError {
    fn from(error: ContextError) -> Self {
        match error {
            ContextError::NotFound => Self::NotFound,
            ContextError::Read(error) => error.into(),
            ContextError::Sources(_) => Self::Internal(error.into()),
            ContextError::TooLong(error) => Self::invalid("maxContextTokens", error.to_string()),
        }
    }
}

impl From<RollUpError> for ApiError {
    fn from(error: RollUpError) -> Self {
        match error {
            RollUpError::AlreadyRunning => {
                Self::Conflict("a roll-up of this user is already running; try again later".into())
            }
            RollUpError::Context(error) => error.into(),
        }
    }
}

impl From<ChatError> for ApiError {
    fn from(error: ChatError) -> Self {
        match error {
            ChatError::ConversationNotFound => {
                Self::InvalidReference("conversationId: must be an existing conversation".into())
            }
            ChatError::UnknownProvider(unknown) => Self::invalid("provider", unknown.to_string()),
            ChatError::NoProviderConfigured => Self::unavailable(
                "no model provider is configured; set LLM_PROVIDER, or LLM_BASE_URL and LLM_MODEL",
            ),
            ChatError::InProgress => {
                Self::InProgress("a request with this idempotency key is in progress; try again later")
            }
            ChatError::IdempotencyKeyReused => {
                Self::unprocessable("idempotencyKey", "was already used for another message; use a new key")
            }
            // The database is the cause, not the engine.
            ChatError::DynamicEngine(ContextError::Read(ReadError::Database(
                error @ PgError::Unavailable(_),
            )))
            | ChatError::SimpleEngine(ContextError::Read(ReadError::Database(
                error @ PgError::Unavailable(_),
            ))) => error.into(),
            ChatError::DynamicEngine(source) => Self::ContextEngine { source: source.into() },
            ChatError::SimpleEngine(source) => Self::SimpleEngine { source: source.into() },
            ChatError::BudgetExhausted { budget, retry_after } => {
                RateLimitExceeded::of_budget(budget, retry_after).into()
            }
            ChatError::Save(error) => error.into(),
            ChatError::TooLong(error) => Self::invalid("messages", error.to_string()),
            ChatError::Provider(error @ ProviderError::Rejected { status: 400 | 404 | 413 | 422, .. }) => {
                tracing::info!(error = %ErrorChain(&error), "model provider rejected a request");
                let ProviderError::Rejected { body, .. } = &error else { unreachable!("matched above") };
                Self::bad_request(match rejection_message(body) {
                    Some(message) => format!("the model provider rejected the request: {message}").into(),
                    None => {
                        Cow::Borrowed("the model provider rejected the request; check model and parameters")
                    }
                })
            }
            ChatError::Provider(error) => {
                Self::ProviderUnavailable { retry_after: error.retry_after(), source: error.into() }
            }
        }
    }
}

/// Message in the error of a provider, if it has OpenAI's format.
fn rejection_message(body: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(body["error"]["message"].as_str()?.chars().take(MAX_REJECTION_CHARS).collect())
}

impl From<WireError> for ApiError {
    fn from(WireError { code, message, details, .. }: WireError) -> Self {
        match code {
            ErrorCode::Unprocessable => Self::Unprocessable { message, details },
            _ => Self::InvalidRequest { message, details },
        }
    }
}
