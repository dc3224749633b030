//! Errors sent to WebSocket clients.

use std::borrow::Cow;

use serde::Serialize;

/// Machine-readable error codes of the sockets. They are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// Parameters are missing or malformed, or the JSON is invalid.
    InvalidRequest,
    /// A value is well-formed but not one of the allowed values.
    Unprocessable,
    /// No token was sent.
    Unauthorized,
    /// The token is invalid.
    InvalidToken,
    /// The token of an open socket expired.
    TokenExpired,
    /// The caller lacks permission.
    Forbidden,
    /// The object does not exist or is not visible to the caller.
    NotFound,
    /// The request refers to a conversation, topic or entity that does not exist.
    InvalidReference,
    /// A rate limit was exceeded; `retry_after_ms` is set.
    RateLimited,
    /// An internal error. Its cause is logged and not sent.
    InternalError,
    /// The database is unavailable.
    ServiceUnavailable,
    /// A row-level security policy raised an error for this viewer.
    VisibilityFailed,
}

impl ErrorCode {
    pub const ALL: [Self; 12] = [
        Self::InvalidRequest,
        Self::Unprocessable,
        Self::Unauthorized,
        Self::InvalidToken,
        Self::TokenExpired,
        Self::Forbidden,
        Self::NotFound,
        Self::InvalidReference,
        Self::RateLimited,
        Self::InternalError,
        Self::ServiceUnavailable,
        Self::VisibilityFailed,
    ];

    /// The code as sent to clients.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::Unprocessable => "UNPROCESSABLE",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::InvalidToken => "INVALID_TOKEN",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::InvalidReference => "INVALID_REFERENCE",
            Self::RateLimited => "RATE_LIMITED",
            Self::InternalError => "INTERNAL_ERROR",
            Self::ServiceUnavailable => "SERVICE_UNAVAILABLE",
            Self::VisibilityFailed => "VISIBILITY_FAILED",
        }
    }
}

/// An error in one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Path of the field from the root of the body, for example `data.status`; empty for the whole body.
    #[schema(value_type = String)]
    pub field: Cow<'static, str>,
    /// English text that says what is wrong.
    #[schema(value_type = String)]
    pub message: Cow<'static, str>,
}

impl FieldError {
    pub fn new(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// An error to send to a client. Each dialect encodes it in its own frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct WireError {
    pub code: ErrorCode,
    /// English text without SQL, paths or secrets.
    pub message: Cow<'static, str>,
    /// Milliseconds after which the client may retry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The invalid fields; empty if the error is not about fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<FieldError>,
}

impl WireError {
    /// An error without details.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None, details: Vec::new() }
    }

    /// An error about one field. The message names the field.
    pub fn field(code: ErrorCode, error: FieldError) -> Self {
        Self::fields(code, vec![error])
    }

    /// An error about several fields. The message names the first.
    pub fn fields(code: ErrorCode, details: Vec<FieldError>) -> Self {
        let message = match details.first() {
            Some(first) => format!("{}: {}", first.field, first.message).into(),
            None => "The message is not valid.".into(),
        };
        Self { code, message, retry_after_ms: None, details }
    }

    /// The error for an exceeded message rate.
    #[must_use]
    pub fn rate_limited(retry_after_ms: u64) -> Self {
        let message = format!("Message rate limit exceeded. Retry after {retry_after_ms} ms.");
        Self { retry_after_ms: Some(retry_after_ms), ..Self::new(ErrorCode::RateLimited, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_serialize_as_their_wire_names() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).expect("codes serialize"), code.as_str());
        }
    }

    #[test]
    fn the_message_names_the_first_field() {
        let error =
            WireError::field(ErrorCode::InvalidRequest, FieldError::new("data.status", "is required"));
        assert_eq!(error.message, "data.status: is required");
    }
}
