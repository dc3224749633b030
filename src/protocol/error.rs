//! What a client is told when something is wrong.

use std::borrow::Cow;

use serde::Serialize;

/// The stable codes of the contract that can appear on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// Missing or malformed parameters, JSON that does not parse.
    InvalidRequest,
    /// Well-formed, but a value outside its set.
    Unprocessable,
    /// No token.
    Unauthorized,
    /// A bad token.
    InvalidToken,
    /// The token of an open socket has run out.
    TokenExpired,
    /// Not allowed.
    Forbidden,
    /// Not there, or not visible to the caller.
    NotFound,
    /// A conversation, topic or entity that is referred to does not exist.
    InvalidReference,
    /// More than the limit allows; comes with `retry_after_ms`.
    RateLimited,
    /// Anything else; logged with its cause, told without it.
    InternalError,
    /// The database is out of reach.
    ServiceUnavailable,
    /// The policies that decide whom this viewer sees raise an error for this viewer.
    VisibilityFailed,
}

impl ErrorCode {
    /// Every code.
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

    /// The code on the wire.
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

/// One field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field, by its path from the message's root: `data.status`.
    pub field: Cow<'static, str>,
    /// What is wrong, for a person.
    pub message: Cow<'static, str>,
}

impl FieldError {
    /// A complaint about one field.
    pub fn new(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// An error frame in the making: what dialects say of an error, each in its own frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct WireError {
    /// For programs.
    pub code: ErrorCode,
    /// For a person; never SQL, paths or secrets.
    pub message: Cow<'static, str>,
    /// Milliseconds after which trying again makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Which fields are wrong; empty unless the message was read and refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<FieldError>,
}

impl WireError {
    /// An error without details.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None, details: Vec::new() }
    }

    /// An error about one field, which the message names too.
    pub fn field(code: ErrorCode, error: FieldError) -> Self {
        Self::fields(code, vec![error])
    }

    /// An error about some fields; the message speaks of the first.
    pub fn fields(code: ErrorCode, details: Vec<FieldError>) -> Self {
        let message = match details.first() {
            Some(first) => format!("{}: {}", first.field, first.message).into(),
            None => "The message is not valid.".into(),
        };
        Self { code, message, retry_after_ms: None, details }
    }

    /// Too much in too short a time.
    #[must_use]
    pub fn rate_limited(retry_after_ms: u64) -> Self {
        let message = "Too many messages; slow down.";
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
