//! Error responses: statuses, codes and examples.

use serde_json::{Value, json};

/// A status with its error codes.
#[derive(Debug)]
pub(super) struct ErrorResponse {
    pub status: u16,
    /// Name of the response component.
    pub name: &'static str,
    pub codes: &'static [&'static str],
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
        codes: &["INVALID_REQUEST", "INVALID_REFERENCE"],
        description: "A parameter or field is missing or malformed, the JSON is invalid, or the request refers to something that does not exist. `details` names the fields.",
        message: "user_id: must be a UUID",
    },
    ErrorResponse {
        status: 401,
        name: "Unauthorized",
        codes: &["UNAUTHORIZED", "INVALID_TOKEN"],
        description: "The token is missing (`UNAUTHORIZED`), or malformed, expired or signed with another key (`INVALID_TOKEN`).",
        message: "the token has expired",
    },
    ErrorResponse {
        status: 403,
        name: "Forbidden",
        codes: &["FORBIDDEN"],
        description: "The caller may not act for that user, or a row-level security policy denies the request.",
        message: "you cannot act for another user; use a token with role service_role or an admin permission",
    },
    ErrorResponse {
        status: 404,
        name: "NotFound",
        codes: &["NOT_FOUND"],
        description: "The resource does not exist or is not visible to the caller. The response does not tell which.",
        message: "not found",
    },
    ErrorResponse {
        status: 405,
        name: "MethodNotAllowed",
        codes: &["METHOD_NOT_ALLOWED"],
        description: "The path does not have this method.",
        message: "method not allowed; see the Allow header",
    },
    ErrorResponse {
        status: 409,
        name: "Conflict",
        codes: &["CONFLICT", "DUPLICATE_PRESENCE"],
        description: "The request conflicts with a concurrent one or with the current state.",
        message: "the contact is being removed; try again",
    },
    ErrorResponse {
        status: 413,
        name: "PayloadTooLarge",
        codes: &["PAYLOAD_TOO_LARGE"],
        description: "The body exceeds the maximum size of the route.",
        message: "the body exceeds the maximum of 65536 bytes",
    },
    ErrorResponse {
        status: 415,
        name: "UnsupportedMediaType",
        codes: &["UNSUPPORTED_MEDIA_TYPE"],
        description: "The content type of the body is not JSON.",
        message: "Content-Type: must be application/json",
    },
    ErrorResponse {
        status: 422,
        name: "Unprocessable",
        codes: &["UNPROCESSABLE"],
        description: "A value is well-formed but not one of the allowed values. `details` names the fields.",
        message: "status: must be one of online, away, busy, dnd, invisible, offline (got \"idle\")",
    },
    ErrorResponse {
        status: 429,
        name: "RateLimited",
        codes: &["RATE_LIMITED"],
        description: "The rate limit is exceeded. `Retry-After` gives the seconds to wait.",
        message: "rate limit exceeded; retry after 6 s",
    },
    ErrorResponse {
        status: 500,
        name: "InternalError",
        codes: &["INTERNAL_ERROR", "LEGACY_ENGINE_ERROR"],
        description: "The server failed. The log contains the cause under the `x-request-id` of the response.",
        message: "internal server error; include x-request-id when you report it",
    },
    ErrorResponse {
        status: 503,
        name: "ServiceUnavailable",
        codes: &["SERVICE_UNAVAILABLE", "DATABASE_CONNECTION_ERROR", "CONTEXT_ENGINE_ERROR"],
        description: "A dependency of the route is unavailable. `Retry-After` gives the seconds to wait.",
        message: "the database is unavailable; try again later",
    },
];

/// Response of the socket routes to a request without a WebSocket handshake.
pub(super) static UPGRADE_REQUIRED: ErrorResponse = ErrorResponse {
    status: 426,
    name: "UpgradeRequired",
    codes: &["UPGRADE_REQUIRED"],
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

/// The schema of the error envelope.
pub(super) fn envelope() -> Value {
    let codes: Vec<_> = ERRORS.iter().chain([&UPGRADE_REQUIRED]).flat_map(|error| error.codes).collect();
    json!({
        "type": "object",
        "description": "Envelope of every error response.",
        "required": ["success", "error", "message", "statusCode"],
        "additionalProperties": false,
        "properties": {
            "success": { "const": false, "description": "Always `false` in an error." },
            "error": { "type": "string", "description": "Stable code of the error, for programs.", "enum": codes },
            "message": {
                "type": "string",
                "description": "English text for people. It contains no SQL, paths or secrets.",
            },
            "statusCode": { "type": "integer", "description": "HTTP status of the response." },
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
    pub fn response(&self) -> Value {
        let mut headers = json!({ "x-request-id": { "$ref": "#/components/headers/RequestId" } });
        if matches!(self.status, 429 | 503) {
            headers[RETRY] = json!({ "$ref": "#/components/headers/RetryAfter" });
        }
        if self.status == 429 {
            for name in ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"] {
                headers[name] = json!({ "$ref": format!("#/components/headers/{}", name.replace('-', "")) });
            }
        }
        let code = match self.codes {
            [one] => json!({ "const": one }),
            several => json!({ "enum": several }),
        };
        let mut example = json!({
            "success": false, "error": self.codes[0], "message": self.message, "statusCode": self.status,
        });
        if let Some((field, message)) =
            self.message.split_once(": ").filter(|_| matches!(self.status, 400 | 422))
        {
            example["details"] = json!([{ "field": field, "message": message }]);
        }
        json!({
            "description": self.description,
            "headers": headers,
            "content": { "application/json": {
                "schema": { "allOf": [
                    { "$ref": "#/components/schemas/Error" },
                    { "properties": { "error": code, "statusCode": { "const": self.status } } },
                ] },
                "example": example,
            } },
        })
    }
}
