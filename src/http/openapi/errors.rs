//! Error responses: statuses, codes and examples.

use serde_json::{Value, json};

use crate::protocol::ErrorCode;

/// A status with its error codes.
#[derive(Debug)]
pub(super) struct ErrorResponse {
    pub status: u16,
    /// Name of the response component.
    pub name: &'static str,
    pub codes: &'static [ErrorCode],
    pub description: &'static str,
    /// Message of the example.
    pub message: &'static str,
}

const RETRY: &str = "Retry-After";

/// Error responses of all routes except the upgrade to sockets.
pub(super) static ERRORS: [ErrorResponse; 12] = [
    ErrorResponse {
        status: 400,
        name: "InvalidRequest",
        codes: &[ErrorCode::InvalidRequest, ErrorCode::InvalidReference],
        description: "A parameter or field is missing or malformed, the JSON is invalid, or the request refers to something that does not exist. `details` names the fields.",
        message: "user_id: must be a UUID",
    },
    ErrorResponse {
        status: 401,
        name: "Unauthorized",
        codes: &[ErrorCode::Unauthorized, ErrorCode::InvalidToken],
        description: "The token is missing (`UNAUTHORIZED`), or malformed, expired or signed with another key (`INVALID_TOKEN`).",
        message: "the token has expired",
    },
    ErrorResponse {
        status: 403,
        name: "Forbidden",
        codes: &[ErrorCode::Forbidden],
        description: "The caller may not act for that user, or a row-level security policy denies the request.",
        message: "you cannot act for another user; use a token with role service_role or an admin permission",
    },
    ErrorResponse {
        status: 404,
        name: "NotFound",
        codes: &[ErrorCode::NotFound],
        description: "The resource does not exist or is not visible to the caller. The response does not tell which.",
        message: "not found",
    },
    ErrorResponse {
        status: 405,
        name: "MethodNotAllowed",
        codes: &[ErrorCode::MethodNotAllowed],
        description: "The path does not have this method.",
        message: "method not allowed; see the Allow header",
    },
    ErrorResponse {
        status: 409,
        name: "Conflict",
        codes: &[ErrorCode::Conflict, ErrorCode::DuplicatePresence, ErrorCode::TooManyDevices],
        description: "The request conflicts with a concurrent one or with the current state.",
        message: "the contact is being removed; try again",
    },
    ErrorResponse {
        status: 413,
        name: "PayloadTooLarge",
        codes: &[ErrorCode::PayloadTooLarge],
        description: "The body exceeds the maximum size of the route.",
        message: "the body exceeds the maximum of 65536 bytes",
    },
    ErrorResponse {
        status: 415,
        name: "UnsupportedMediaType",
        codes: &[ErrorCode::UnsupportedMediaType],
        description: "The content type of the body is not JSON.",
        message: "Content-Type: must be application/json",
    },
    ErrorResponse {
        status: 422,
        name: "Unprocessable",
        codes: &[ErrorCode::Unprocessable],
        description: "A value is well-formed but not one of the allowed values. `details` names the fields.",
        message: "status: must be one of online, away, busy, dnd, invisible, offline (got \"idle\")",
    },
    ErrorResponse {
        status: 429,
        name: "RateLimited",
        codes: &[ErrorCode::RateLimited],
        description: "The rate limit is exceeded. `Retry-After` gives the seconds to wait.",
        message: "rate limit exceeded; retry after 6 s",
    },
    ErrorResponse {
        status: 500,
        name: "InternalError",
        codes: &[ErrorCode::InternalError, ErrorCode::PolicyError, ErrorCode::LegacyEngineError],
        description: "The server failed. The log contains the cause under the `x-request-id` of the response.",
        message: "internal server error; include x-request-id when you report it",
    },
    ErrorResponse {
        status: 503,
        name: "ServiceUnavailable",
        codes: &[
            ErrorCode::ServiceUnavailable,
            ErrorCode::DatabaseConnectionError,
            ErrorCode::ContextEngineError,
        ],
        description: "A dependency of the route is unavailable. `Retry-After` gives the seconds to wait.",
        message: "the database is unavailable; try again later",
    },
];

/// Response of the socket routes to a request without a WebSocket handshake.
pub(super) static UPGRADE_REQUIRED: ErrorResponse = ErrorResponse {
    status: 426,
    name: "UpgradeRequired",
    codes: &[ErrorCode::UpgradeRequired],
    description: "The path is a WebSocket, and the request is not a WebSocket handshake.",
    message: "the route is a WebSocket; send a WebSocket handshake",
};

/// The error response with a status.
pub(super) fn for_status(status: u16) -> &'static ErrorResponse {
    ERRORS
        .iter()
        .chain([&UPGRADE_REQUIRED])
        .find(|fault| fault.status == status)
        .unwrap_or_else(|| panic!("{status} is not the status of an error response"))
}

/// Codes of HTTP responses.
fn codes() -> impl Iterator<Item = ErrorCode> {
    ErrorCode::ALL.into_iter().filter(|code| code.status().is_some())
}

/// The schema of error codes, with the meaning of each.
pub(super) fn code_schema() -> Value {
    let meanings = codes().map(|code| format!("- `{}`: {} {}", code.as_str(), code.cause(), code.cure()));
    let meanings = meanings.collect::<Vec<_>>().join("\n");
    json!({
        "type": "string",
        "description": format!("Stable code of an error, for programs.\n\n{meanings}"),
        "enum": codes().map(ErrorCode::as_str).collect::<Vec<_>>(),
    })
}

/// The schema of the error envelope.
pub(super) fn envelope() -> Value {
    json!({
        "type": "object",
        "description": "Envelope of every error response.",
        "required": ["success", "error", "message", "statusCode", "doc_url"],
        "additionalProperties": false,
        "properties": {
            "success": { "type": "boolean", "enum": [false], "description": "Always `false` in an error." },
            "error": { "$ref": "#/components/schemas/ErrorCode", "description": "Stable code of the error, for programs." },
            "message": {
                "type": "string",
                "description": "English text for people. It contains no SQL, paths or secrets.",
            },
            "statusCode": { "type": "integer", "description": "HTTP status of the response." },
            "doc_url": {
                "type": "string", "format": "uri-reference",
                "description": "Page with cause and cure of the error, relative to the server.",
            },
            "details": {
                "type": "array",
                "description": "The invalid fields. Present only if the error is about fields.",
                "items": { "$ref": "#/components/schemas/FieldError" },
            },
        },
    })
}

impl ErrorResponse {
    /// Returns the response component of the document.
    pub(super) fn response(&self) -> Value {
        let mut headers = json!({ "x-request-id": { "$ref": "#/components/headers/RequestId" } });
        if matches!(self.status, 429 | 503) {
            headers[RETRY] = json!({ "$ref": "#/components/headers/RetryAfter" });
        }
        if self.status == 429 {
            for name in ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"] {
                headers[name] = json!({ "$ref": format!("#/components/headers/{}", name.replace('-', "")) });
            }
        }
        let mut example = json!({
            "success": false, "error": self.codes[0], "message": self.message, "statusCode": self.status,
            "doc_url": self.codes[0].doc_url(),
        });
        if let Some((field, message)) =
            self.message.split_once(": ").filter(|_| matches!(self.status, 400 | 422))
        {
            example["details"] = json!([{ "field": field, "message": message }]);
        }
        let codes: Vec<_> = self.codes.iter().map(|code| format!("`{}`", code.as_str())).collect();
        json!({
            "description": format!("{} Codes: {}.", self.description, codes.join(", ")),
            "headers": headers,
            "content": { "application/json": {
                "schema": { "$ref": "#/components/schemas/Error" },
                "example": example,
            } },
        })
    }
}
