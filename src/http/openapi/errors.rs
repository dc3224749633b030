//! The statuses of errors, what they mean, and which codes come with them.

use serde_json::{Value, json};

/// A status with the codes that `error` may hold under it.
#[derive(Debug)]
pub(super) struct ErrorResponse {
    pub status: u16,
    /// The name of its response among the components.
    pub name: &'static str,
    pub codes: &'static [&'static str],
    pub description: &'static str,
    /// What a person may read.
    pub message: &'static str,
}

const RETRY: &str = "Retry-After";

/// Every status of an error.
pub(super) static ERRORS: [ErrorResponse; 12] = [
    ErrorResponse {
        status: 400,
        name: "InvalidRequest",
        codes: &["INVALID_REQUEST", "INVALID_REFERENCE"],
        description: "Missing or malformed parameters, JSON that does not parse, or something that the request refers to \
                      does not exist. `details` names the fields.",
        message: "user_id: is not a UUID",
    },
    ErrorResponse {
        status: 401,
        name: "Unauthorized",
        codes: &["UNAUTHORIZED", "INVALID_TOKEN"],
        description: "No token (`UNAUTHORIZED`), or one that is not believed: malformed, expired, signed by somebody \
                      else (`INVALID_TOKEN`).",
        message: "the token has expired",
    },
    ErrorResponse {
        status: 403,
        name: "Forbidden",
        codes: &["FORBIDDEN"],
        description: "Not allowed: another user's id, or what the database's policies do not let the caller do.",
        message: "that is another user",
    },
    ErrorResponse {
        status: 404,
        name: "NotFound",
        codes: &["NOT_FOUND"],
        description: "Not there, or not visible to the caller: the two cannot be told apart.",
        message: "not found",
    },
    ErrorResponse {
        status: 405,
        name: "MethodNotAllowed",
        codes: &["METHOD_NOT_ALLOWED"],
        description: "The path has no such method.",
        message: "this method is not supported here",
    },
    ErrorResponse {
        status: 409,
        name: "Conflict",
        codes: &["CONFLICT", "DUPLICATE_PRESENCE"],
        description: "It is being done, or was changed, at the same time.",
        message: "the contact is being ended",
    },
    ErrorResponse {
        status: 413,
        name: "PayloadTooLarge",
        codes: &["PAYLOAD_TOO_LARGE"],
        description: "The body is longer than the route takes.",
        message: "the body is longer than 65536 bytes",
    },
    ErrorResponse {
        status: 415,
        name: "UnsupportedMediaType",
        codes: &["UNSUPPORTED_MEDIA_TYPE"],
        description: "The body is not declared to be JSON.",
        message: "the body must be JSON, with Content-Type: application/json",
    },
    ErrorResponse {
        status: 422,
        name: "Unprocessable",
        codes: &["UNPROCESSABLE"],
        description: "Well-formed, but a value outside its set. `details` names the fields.",
        message: "status: must be one of online, away, busy, dnd, invisible, offline",
    },
    ErrorResponse {
        status: 429,
        name: "RateLimited",
        codes: &["RATE_LIMITED"],
        description: "Too often; `Retry-After` says when to come back.",
        message: "too many requests, try again in 6 s",
    },
    ErrorResponse {
        status: 500,
        name: "InternalError",
        codes: &["INTERNAL_ERROR", "LEGACY_ENGINE_ERROR"],
        description: "Something went wrong on the server's side. The log has its cause, by `x-request-id`.",
        message: "something went wrong on our side",
    },
    ErrorResponse {
        status: 503,
        name: "ServiceUnavailable",
        codes: &["SERVICE_UNAVAILABLE", "DATABASE_CONNECTION_ERROR", "CONTEXT_ENGINE_ERROR"],
        description: "Something that the route depends on is out of reach; `Retry-After` says when to come back.",
        message: "the database is out of reach, try again soon",
    },
];

/// What 426 is: an answer of the socket routes to whoever does not ask for a socket.
pub(super) static UPGRADE_REQUIRED: ErrorResponse = ErrorResponse {
    status: 426,
    name: "UpgradeRequired",
    codes: &["UPGRADE_REQUIRED"],
    description: "The path is a WebSocket's.",
    message: "this is a WebSocket, and the request does not ask for one",
};

/// The fault of a status.
pub(super) fn for_status(status: u16) -> &'static ErrorResponse {
    ERRORS
        .iter()
        .chain([&UPGRADE_REQUIRED])
        .find(|fault| fault.status == status)
        .unwrap_or_else(|| panic!("{status} is not among the statuses of errors"))
}

pub(super) fn envelope() -> Value {
    json!({
        "type": "object",
        "description": "What every error of every route looks like.",
        "required": ["success", "error", "message", "statusCode"],
        "additionalProperties": false,
        "properties": {
            "success": { "const": false },
            "error": { "type": "string", "description": "For programs.", "pattern": "^[A-Z_]+$" },
            "message": { "type": "string", "description": "For a person; never SQL, paths or secrets." },
            "statusCode": { "type": "integer", "description": "The status again." },
            "details": {
                "type": "array",
                "description": "Which fields are wrong; only where it is about fields.",
                "items": { "$ref": "#/components/schemas/FieldError" },
            },
        },
    })
}

impl ErrorResponse {
    /// The response among the components.
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
