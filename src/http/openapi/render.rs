//! Operations to an OpenAPI 3.1 document.

use serde_json::{Map, Value, json};
use utoipa::PartialSchema;

use super::{
    complete,
    errors::{self, ERRORS, UPGRADE_REQUIRED},
};
use crate::protocol::FieldError;

const ABOUT: &str = "Presence, realtime channels and AI context over PostgreSQL. Row-level security in PostgreSQL decides \
what each caller sees: users and resources that the caller may not see are absent from lists and answered with 404.\n\n\
Authenticate with `Authorization: Bearer <JWT>`, or with an API key in the header `apikey`. Every error response has the \
same envelope, and every response has the header `x-request-id`. Field names in requests may be written in camelCase too. \
Unknown fields are ignored.\n\nThe sockets are described in [`/asyncapi.json`](asyncapi.json).";

/// The tags, in the order of the documentation.
const TAGS: [(&str, &str); 12] = [
    ("Presence", "Status and devices of the caller."),
    ("People", "Presence of other users."),
    ("Sharing", "Privacy settings, visibility list, export and erasure."),
    ("Relations", "Contacts and blocks of the caller."),
    ("Conversations", "Conversations and typing in them."),
    ("Context", "The context engine: bundles, roll-ups and chat."),
    ("Memory", "What is known about a user, and search."),
    ("OpenAI-compatible API", "Chat completions and models in the format of OpenAI's API."),
    ("Sockets", "Socket handshakes; the messages are described in `/asyncapi.json`."),
    ("Realtime", "Broadcast and presence of channels over HTTP, compatible with Supabase Realtime."),
    ("System", "Health, metrics and operation of the server."),
    ("Console", "Pages of the web console."),
];

/// The whole document: `described` by `utoipa`, completed.
pub(super) fn document(mut described: Value) -> Value {
    let mut paths = described["paths"].take();
    for operation in paths.as_object_mut().into_iter().flat_map(|paths| paths.values_mut()) {
        for operation in operation.as_object_mut().into_iter().flat_map(|methods| methods.values_mut()) {
            if let Some(operation) = operation.as_object_mut() {
                complete::complete_operation(operation);
            }
        }
    }
    let mut schemas = described["components"]["schemas"].take();
    schemas["FieldError"] = serde_json::to_value(FieldError::schema()).expect("a schema serializes");
    schemas["Error"] = errors::envelope();
    schemas["ErrorCode"] = errors::code_schema();
    let errors = ERRORS.iter().chain([&UPGRADE_REQUIRED]);
    let responses: Map<_, _> = errors.map(|error| (error.name.to_owned(), error.response())).collect();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Rollcall",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Presence, realtime and context over PostgreSQL",
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "The server that serves this description." }],
        "tags": TAGS.iter().map(|(name, about)| json!({ "name": name, "description": about })).collect::<Value>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "headers": headers(),
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "A JWT signed with HS256 and the secret of the server, or with RS256, ES256 or EdDSA and \
                                    a key of its JWKS. Claims: `sub` (UUID of the user), `role` (`anon`, `authenticated` \
                                    or `service_role`) and `exp`.",
                },
                "apikey": {
                    "type": "apiKey", "in": "header", "name": "apikey",
                    "description": "A JWT or an API key of the server. Used if the request has no header `Authorization`.",
                },
            },
        },
    });
    complete::complete_schemas(&mut document);
    document
}

fn headers() -> Value {
    let number = |about: &str| json!({ "description": about, "schema": { "type": "integer", "minimum": 0 } });
    json!({
        "RequestId": {
            "description": "ID of the request: the one that the client sent, or a new one. The log contains it.",
            "required": true,
            "schema": { "type": "string", "minLength": 1, "maxLength": 64 },
        },
        "RetryAfter": number("Seconds to wait before the next request."),
        "RateLimitLimit": number("Maximum number of requests in a burst."),
        "RateLimitRemaining": number("Number of requests that are allowed now."),
        "RateLimitReset": number("Seconds until the whole burst is allowed again."),
    })
}
