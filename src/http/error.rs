//! Everything an HTTP route can answer instead of what was asked for, and the one envelope it is answered in.
//!
//! | family | variants |
//! | --- | --- |
//! | the request is wrong | `InvalidRequest`, `Unprocessable`, `InvalidReference`, `PayloadTooLarge`, `UnsupportedMediaType`, `MethodNotAllowed` |
//! | the caller may not, or not now | `Auth`, `Forbidden`, `NotFound`, `RateLimited` |
//! | somebody else was first | `Conflict`, `DuplicatePresence` |
//! | the server cannot | `Internal`, `ServiceUnavailable`, `DatabaseUnavailable`, `ContextEngine`, `LegacyEngine` |
//!
//! The last family keeps its cause, logs it when it becomes a response, and tells nobody.

use std::borrow::Cow;

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
    pg::PgError,
    presence::{PresenceError, WriteError},
    protocol::{ErrorCode, WireError},
    transport::UpgradeRejected,
};

/// How long a client should wait before it comes back to a server that could not serve it, in seconds: at random
/// in this range, so that those who were turned away together do not come back together.
const RETRY_AFTER_SECONDS: std::ops::RangeInclusive<u64> = 1..=5;

/// An error answer. Its `Display` is the `message` that the client reads.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: missing or malformed.
    #[error("{message}")]
    InvalidRequest {
        /// For a person.
        message: Cow<'static, str>,
        /// Which fields, where it is about fields.
        details: Vec<FieldError>,
    },
    /// 422: well-formed, but a value outside its set.
    #[error("{message}")]
    Unprocessable {
        /// For a person.
        message: Cow<'static, str>,
        /// Which fields.
        details: Vec<FieldError>,
    },
    /// 401, or 503 where the signing keys are out of reach.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// 403.
    #[error("{0}")]
    Forbidden(Cow<'static, str>),
    /// 404: not there, or not visible to the caller. Carries nothing, so that the two cannot be told apart.
    #[error("not found")]
    NotFound,
    /// 405.
    #[error("this method is not supported here")]
    MethodNotAllowed,
    /// 426, or 400 where the handshake is malformed: the route is a WebSocket.
    #[error(transparent)]
    UpgradeRejected(#[from] UpgradeRejected),
    /// 409: it is being done already.
    #[error("{0}")]
    Conflict(Cow<'static, str>),
    /// 409: a unique violation on (user, device) that an upsert could not settle.
    #[error("this device's presence was changed at the same time, try again")]
    DuplicatePresence,
    /// 400: something that the request refers to does not exist.
    #[error("{0}")]
    InvalidReference(Cow<'static, str>),
    /// 413.
    #[error("the body is longer than {limit} bytes")]
    PayloadTooLarge {
        /// The longest body that the route takes, in bytes.
        limit: usize,
    },
    /// 415.
    #[error("the body must be JSON, with Content-Type: application/json")]
    UnsupportedMediaType,
    /// 429.
    #[error(transparent)]
    RateLimited(#[from] RateLimitExceeded),
    /// 500: anything else.
    #[error("something went wrong on our side")]
    Internal(#[from] anyhow::Error),
    /// 503: something that the route depends on is out of reach, or too slow.
    #[error("{message}")]
    ServiceUnavailable {
        /// For a person.
        message: Cow<'static, str>,
        /// The cause, where there is more to log than the message.
        source: Option<anyhow::Error>,
    },
    /// 503: no connection to Postgres.
    #[error("the database is out of reach, try again soon")]
    DatabaseUnavailable {
        /// The cause.
        source: anyhow::Error,
    },
    /// 503: the dynamic context engine failed, and falling back is switched off.
    #[error("the context engine failed")]
    ContextEngine {
        /// The cause.
        source: anyhow::Error,
    },
    /// 500: both context engines failed.
    #[error("both context engines failed")]
    SimpleEngine {
        /// The cause.
        source: anyhow::Error,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorEnvelope<'a> {
    success: bool,
    error: &'static str,
    message: String,
    status_code: u16,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    details: &'a [FieldError],
}

impl ApiError {
    /// 400 without a field to blame.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidRequest { message: message.into(), details: Vec::new() }
    }

    /// 400 because of one field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid_fields(vec![FieldError::new(field.into(), message.into())])
    }

    /// 400 because of several fields.
    #[must_use]
    pub fn invalid_fields(details: Vec<FieldError>) -> Self {
        Self::InvalidRequest { message: summary(&details), details }
    }

    /// 422: the field is well-formed, but its value is outside its set.
    pub fn unprocessable(field: impl Into<String>, message: impl Into<String>) -> Self {
        let details = vec![FieldError::new(field.into(), message.into())];
        Self::Unprocessable { message: summary(&details), details }
    }

    /// 403.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Forbidden(message.into())
    }

    /// 503 with nothing to log beyond the message.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::ServiceUnavailable { message: message.into(), source: None }
    }

    /// The stable code and the status: the contract's table.
    #[must_use]
    pub const fn code_and_status(&self) -> (&'static str, StatusCode) {
        match self {
            Self::InvalidRequest { .. } => ("INVALID_REQUEST", StatusCode::BAD_REQUEST),
            Self::Unprocessable { .. } => ("UNPROCESSABLE", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Auth(AuthError::Missing | AuthError::UserRequired) => {
                ("UNAUTHORIZED", StatusCode::UNAUTHORIZED)
            }
            Self::Auth(AuthError::KeysUnavailable(_)) | Self::ServiceUnavailable { .. } => {
                ("SERVICE_UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Auth(_) => ("INVALID_TOKEN", StatusCode::UNAUTHORIZED),
            Self::Forbidden(_) => ("FORBIDDEN", StatusCode::FORBIDDEN),
            Self::NotFound => ("NOT_FOUND", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => ("METHOD_NOT_ALLOWED", StatusCode::METHOD_NOT_ALLOWED),
            Self::UpgradeRejected(rejected) => {
                let status = rejected.status();
                let code = match status {
                    StatusCode::UPGRADE_REQUIRED => "UPGRADE_REQUIRED",
                    StatusCode::SERVICE_UNAVAILABLE => "SERVICE_UNAVAILABLE",
                    StatusCode::METHOD_NOT_ALLOWED => "METHOD_NOT_ALLOWED",
                    _ => "INVALID_REQUEST",
                };
                (code, status)
            }
            Self::Conflict(_) => ("CONFLICT", StatusCode::CONFLICT),
            Self::DuplicatePresence => ("DUPLICATE_PRESENCE", StatusCode::CONFLICT),
            Self::InvalidReference(_) => ("INVALID_REFERENCE", StatusCode::BAD_REQUEST),
            Self::PayloadTooLarge { .. } => ("PAYLOAD_TOO_LARGE", StatusCode::PAYLOAD_TOO_LARGE),
            Self::UnsupportedMediaType => ("UNSUPPORTED_MEDIA_TYPE", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::RateLimited(_) => ("RATE_LIMITED", StatusCode::TOO_MANY_REQUESTS),
            Self::Internal(_) => ("INTERNAL_ERROR", StatusCode::INTERNAL_SERVER_ERROR),
            Self::DatabaseUnavailable { .. } => {
                ("DATABASE_CONNECTION_ERROR", StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::ContextEngine { .. } => ("CONTEXT_ENGINE_ERROR", StatusCode::SERVICE_UNAVAILABLE),
            Self::SimpleEngine { .. } => ("LEGACY_ENGINE_ERROR", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// The stable code alone, for sockets, which have no status.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code_and_status().0
    }

    fn details(&self) -> &[FieldError] {
        match self {
            Self::InvalidRequest { details, .. } | Self::Unprocessable { details, .. } => details,
            _ => &[],
        }
    }

    /// Writes the cause to the log, in the span of the request, which carries its id.
    fn log(&self) {
        let error = self as &dyn std::error::Error;
        match self {
            Self::Internal(source) | Self::SimpleEngine { source } => {
                tracing::error!(error = format!("{source:#}"), code = self.code(), "a request failed");
            }
            Self::DatabaseUnavailable { source }
            | Self::ContextEngine { source }
            | Self::ServiceUnavailable { source: Some(source), .. } => {
                tracing::warn!(
                    error = format!("{source:#}"),
                    code = self.code(),
                    "a request was turned away"
                );
            }
            // Logged once by the task that fetches the keys.
            _ => tracing::debug!(error, code = self.code(), "a request was refused"),
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

/// One sentence over the details, for clients that show nothing else.
fn summary(details: &[FieldError]) -> Cow<'static, str> {
    match details {
        [FieldError { field, message }] if field.is_empty() => message.clone(),
        [FieldError { field, message }] => format!("{field}: {message}").into(),
        _ => "several fields are not valid".into(),
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
                message: "the database took too long".into(),
                source: Some(error.into()),
            },
            PgError::PermissionDenied(_) => Self::forbidden("the database's policies do not allow this"),
            PgError::ForeignKeyViolation(_) => {
                Self::InvalidReference("something that the request refers to does not exist".into())
            }
            PgError::UniqueViolation(_) => Self::DuplicatePresence,
            // What the routes know of is refused before, with the field; this is a rule that the operator has added.
            PgError::CheckViolation(_) => Self::bad_request("the database does not take one of the values"),
            PgError::Failed(_) => Self::Internal(error.into()),
        }
    }
}

impl From<PresenceError> for ApiError {
    fn from(error: PresenceError) -> Self {
        match error {
            PresenceError::Limited(limited) => limited.into(),
            PresenceError::NotFound => Self::NotFound,
            PresenceError::Read(error) => error.into(),
            PresenceError::Write(error @ (WriteError::Unavailable | WriteError::Stopping)) => {
                Self::DatabaseUnavailable { source: error.into() }
            }
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
        }
    }
}

impl From<RollUpError> for ApiError {
    fn from(error: RollUpError) -> Self {
        match error {
            RollUpError::AlreadyRunning => Self::Conflict("a roll-up of this user is running".into()),
            RollUpError::Context(error) => error.into(),
        }
    }
}

impl From<ChatError> for ApiError {
    fn from(error: ChatError) -> Self {
        match error {
            ChatError::ConversationNotFound => {
                Self::InvalidReference("conversationId: there is no such conversation".into())
            }
            ChatError::UnknownProvider(unknown) => Self::invalid("provider", unknown.to_string()),
            ChatError::NoProviderConfigured => {
                Self::unavailable("no model is configured: set LLM_PROVIDER, or LLM_BASE_URL and LLM_MODEL")
            }
            ChatError::InProgress => Self::Conflict("this request is being answered already".into()),
            ChatError::IdempotencyKeyReused => {
                Self::unprocessable("idempotencyKey", "was used for another message")
            }
            // Without the database there is no engine to blame.
            ChatError::DynamicEngine(ContextError::Read(ReadError::Database(
                error @ PgError::Unavailable(_),
            )))
            | ChatError::SimpleEngine(ContextError::Read(ReadError::Database(
                error @ PgError::Unavailable(_),
            ))) => error.into(),
            ChatError::DynamicEngine(source) => Self::ContextEngine { source: source.into() },
            ChatError::SimpleEngine(source) => Self::SimpleEngine { source: source.into() },
            ChatError::Save(error) => error.into(),
            ChatError::Provider(error @ ProviderError::Rejected { status: 400 | 404 | 413 | 422, .. }) => {
                tracing::info!(error = %error, "a model refused a request");
                Self::bad_request(
                    "the model's provider does not take this request; see model, maxTokens and temperature",
                )
            }
            ChatError::Provider(error) => Self::ServiceUnavailable {
                message: "the model does not answer, try again soon".into(),
                source: Some(error.into()),
            },
        }
    }
}

impl From<WireError> for ApiError {
    fn from(WireError { code, message, details, .. }: WireError) -> Self {
        match code {
            ErrorCode::Unprocessable => Self::Unprocessable { message, details },
            _ => Self::InvalidRequest { message, details },
        }
    }
}
