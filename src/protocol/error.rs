//! Errors sent to WebSocket clients.

use std::borrow::Cow;

use serde::Serialize;

/// Machine-readable error codes. They are stable. `docs/errors.md` lists them with cause and cure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    InvalidRequest,
    InvalidReference,
    Unauthorized,
    InvalidToken,
    TokenExpired,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    DuplicatePresence,
    TooManyDevices,
    PayloadTooLarge,
    UnsupportedMediaType,
    Unprocessable,
    UpgradeRequired,
    RateLimited,
    InternalError,
    PolicyError,
    LegacyEngineError,
    ServiceUnavailable,
    DatabaseConnectionError,
    ContextEngineError,
    VisibilityFailed,
}

/// What the reference says about one code.
struct Row {
    name: &'static str,
    /// HTTP status; `None` for codes that only sockets send.
    status: Option<u16>,
    cause: &'static str,
    cure: &'static str,
}

impl ErrorCode {
    /// All codes, in the order of their HTTP status.
    pub const ALL: [Self; 23] = [
        Self::InvalidRequest,
        Self::InvalidReference,
        Self::Unauthorized,
        Self::InvalidToken,
        Self::TokenExpired,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::DuplicatePresence,
        Self::TooManyDevices,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::Unprocessable,
        Self::UpgradeRequired,
        Self::RateLimited,
        Self::InternalError,
        Self::PolicyError,
        Self::LegacyEngineError,
        Self::ServiceUnavailable,
        Self::DatabaseConnectionError,
        Self::ContextEngineError,
        Self::VisibilityFailed,
    ];

    /// Codes that sockets send.
    pub const ON_SOCKETS: [Self; 13] = [
        Self::InvalidRequest,
        Self::InvalidReference,
        Self::Unauthorized,
        Self::InvalidToken,
        Self::TokenExpired,
        Self::Forbidden,
        Self::NotFound,
        Self::TooManyDevices,
        Self::Unprocessable,
        Self::RateLimited,
        Self::InternalError,
        Self::ServiceUnavailable,
        Self::VisibilityFailed,
    ];

    const fn row(self) -> Row {
        let (name, status, cause, cure) = match self {
            Self::InvalidRequest => (
                "INVALID_REQUEST",
                Some(400),
                "A parameter or field is missing or malformed, or the JSON is invalid.",
                "Correct the fields that `details` names, and send the request again.",
            ),
            Self::InvalidReference => (
                "INVALID_REFERENCE",
                Some(400),
                "The request refers to a conversation, topic or entity that does not exist.",
                "Create the resource first, or correct its ID.",
            ),
            Self::Unauthorized => (
                "UNAUTHORIZED",
                Some(401),
                "The request has no token, or its token names no user.",
                "Send `Authorization: Bearer <JWT>` with the token of a user.",
            ),
            Self::InvalidToken => (
                "INVALID_TOKEN",
                Some(401),
                "The token is malformed, expired, or signed with another key.",
                "Get a new token. If it is new, compare `JWT_SECRET` or `JWKS_URL` with the issuer; `rollcall token` creates a valid one.",
            ),
            Self::TokenExpired => (
                "TOKEN_EXPIRED",
                None,
                "The token of an open socket expired. The server closes the socket with code 4401.",
                "Send a new token with a message `auth` before the current one expires.",
            ),
            Self::Forbidden => (
                "FORBIDDEN",
                Some(403),
                "The caller may not act for that user, or a row-level security policy denies the request.",
                "Act for the user of the token, or use a token with role `service_role` or an admin permission. Otherwise check the policies.",
            ),
            Self::NotFound => (
                "NOT_FOUND",
                Some(404),
                "The resource or route does not exist, or the caller may not see it. The response does not tell which.",
                "Check path and ID. `rollcall.explain_visibility` tells an operator why a user is not visible.",
            ),
            Self::MethodNotAllowed => (
                "METHOD_NOT_ALLOWED",
                Some(405),
                "The path does not have this method.",
                "Use one of the methods in the header `Allow`.",
            ),
            Self::Conflict => (
                "CONFLICT",
                Some(409),
                "The request conflicts with a concurrent one or with the current state.",
                "Follow the message: try again later, or use another idempotency key.",
            ),
            Self::DuplicatePresence => (
                "DUPLICATE_PRESENCE",
                Some(409),
                "Another request created the same device at the same time.",
                "Send the request again.",
            ),
            Self::TooManyDevices => (
                "TOO_MANY_DEVICES",
                Some(409),
                "The device is new, and the user has as many devices as allowed, all of them online. Otherwise the device that has been offline for the longest time is replaced.",
                "Sign a device off, or use the ID of an existing one. An operator can change the quota: `update rollcall.quotas set maximum = 200 where key = 'devices'`.",
            ),
            Self::PayloadTooLarge => (
                "PAYLOAD_TOO_LARGE",
                Some(413),
                "The body exceeds the maximum size of the route.",
                "Send less data in one request; the message names the maximum.",
            ),
            Self::UnsupportedMediaType => (
                "UNSUPPORTED_MEDIA_TYPE",
                Some(415),
                "The content type of the body is not JSON.",
                "Send the header `Content-Type: application/json`.",
            ),
            Self::Unprocessable => (
                "UNPROCESSABLE",
                Some(422),
                "A value is well-formed but not one of the allowed values.",
                "Use one of the values that `details` lists.",
            ),
            Self::UpgradeRequired => (
                "UPGRADE_REQUIRED",
                Some(426),
                "The path is a WebSocket, and the request is not a WebSocket handshake.",
                "Open the path with a WebSocket client. Proxies must forward `Upgrade` and `Connection`.",
            ),
            Self::RateLimited => (
                "RATE_LIMITED",
                Some(429),
                "A rate limit of the user is exceeded.",
                "Wait for the seconds in `Retry-After`, on sockets for `retry_after_ms`. An operator can change the limits.",
            ),
            Self::InternalError => (
                "INTERNAL_ERROR",
                Some(500),
                "The server failed. The cause is in its log and is not sent.",
                "Look for the `x-request-id` of the response in the log, or report it to the operator.",
            ),
            Self::PolicyError => (
                "POLICY_ERROR",
                Some(500),
                "A row-level security policy of the application raised an error.",
                "An operator finds table, policy, role, SQLSTATE and message in the log, and with `rollcall doctor`.",
            ),
            Self::LegacyEngineError => (
                "LEGACY_ENGINE_ERROR",
                Some(500),
                "Both context engines failed to assemble a prompt.",
                "Look for the `x-request-id` of the response in the log; `GET /api/v1/context/health` shows the engines.",
            ),
            Self::ServiceUnavailable => (
                "SERVICE_UNAVAILABLE",
                Some(503),
                "A dependency is unavailable: the database, the signing keys, or a model provider.",
                "Try again after the seconds in `Retry-After`. `GET /api/v1/system/health` names the dependency.",
            ),
            Self::DatabaseConnectionError => (
                "DATABASE_CONNECTION_ERROR",
                Some(503),
                "The server has no connection to PostgreSQL.",
                "Try again after the seconds in `Retry-After`. An operator finds the cause with `rollcall doctor`.",
            ),
            Self::ContextEngineError => (
                "CONTEXT_ENGINE_ERROR",
                Some(503),
                "The dynamic context engine failed, and falling back to the simple one is disabled.",
                "Try again later, or allow the fallback (`CONTEXT_FALLBACK`).",
            ),
            Self::VisibilityFailed => (
                "VISIBILITY_FAILED",
                None,
                "A row-level security policy raised an error for this viewer. The server tries again.",
                "Correct the policy. `rollcall.explain_visibility` names it and its error.",
            ),
        };
        Row { name, status, cause, cure }
    }

    /// The code as sent to clients.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().name
    }

    /// The HTTP status of responses with this code; `None` if only sockets send it. A handshake may have another one.
    #[must_use]
    pub const fn status(self) -> Option<u16> {
        self.row().status
    }

    /// When the server sends the code.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        self.row().cause
    }

    /// What the client or the operator can do.
    #[must_use]
    pub const fn cure(self) -> &'static str {
        self.row().cure
    }

    /// Reference to the code's entry on the page of errors that the server serves.
    #[must_use]
    pub fn doc_url(self) -> String {
        format!("/docs/errors#{}", self.as_str())
    }
}

/// Message about a field that occurs twice in an object.
pub const GIVEN_TWICE: &str = "must not be given twice, also not under another spelling";

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

/// Maximum number of fields in [`summary`], and maximum bytes of those after the first.
const MAX_SUMMARIZED: usize = 5;
const MAX_SUMMARY_BYTES: usize = 300;

/// One line that names the fields, for clients that do not show the details.
pub fn summary(details: &[FieldError]) -> Cow<'static, str> {
    if let [FieldError { field, message }] = details
        && field.is_empty()
    {
        return message.clone();
    }
    let mut text = String::new();
    for (at, FieldError { field, message }) in details.iter().enumerate() {
        let is_full = at == MAX_SUMMARIZED || text.len() + field.len() + message.len() > MAX_SUMMARY_BYTES;
        if at > 0 && is_full {
            text += &format!("; and {} more in details", details.len() - at);
            break;
        }
        let separator = if at > 0 { "; " } else { "" };
        text += &format!("{separator}{field}: {message}");
    }
    text.into()
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

    /// An error about several fields.
    pub fn fields(code: ErrorCode, details: Vec<FieldError>) -> Self {
        let message = summary(&details);
        let message = if message.is_empty() { "The message is not valid.".into() } else { message };
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
            assert!(code.status().is_some() || ErrorCode::ON_SOCKETS.contains(&code));
        }
    }

    #[test]
    fn the_message_names_the_fields() {
        let error =
            WireError::field(ErrorCode::InvalidRequest, FieldError::new("data.status", "is required"));
        assert_eq!(error.message, "data.status: is required");
        let missing = |name: &'static str| FieldError::new(name, "is required");
        assert_eq!(summary(&[missing("a"), missing("b")]), "a: is required; b: is required");
        let many = ["a", "b", "c", "d", "e", "f", "g"].map(missing);
        assert!(summary(&many).ends_with("e: is required; and 2 more in details"), "{}", summary(&many));
        let long = [missing("a"), FieldError::new("b", "x".repeat(400)), missing("c")];
        assert_eq!(summary(&long), "a: is required; and 2 more in details");
        assert_eq!(summary(&[FieldError::new("", "must be an object")]), "must be an object");
    }
}
