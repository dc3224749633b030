//! Operations to an OpenAPI 3.1 document.

use serde_json::{Map, Value, json};

use super::{
    errors::{self, ERRORS, UPGRADE_REQUIRED},
    operation::{Access, Operation, ParamIn, Parameter, ResponseSpec},
    types::field_error,
};
use crate::{
    http::body::BodyLimit,
    limits::{LimitClass, LimitSettings},
};

/// Schema components by their names.
type Components = Map<String, Value>;

const ABOUT: &str = "Presence, realtime channels and AI context over PostgreSQL. Row-level security in PostgreSQL decides \
what each caller sees: users and resources that the caller may not see are absent from lists and answered with 404.\n\n\
Authenticate with `Authorization: Bearer <JWT>`, or with an API key in the header `apikey`. Every error response has the \
same envelope, and every response has the header `x-request-id`. Field names in requests may be written in camelCase too. \
Unknown fields are ignored.\n\nThe sockets are described in [`/asyncapi.json`](asyncapi.json).";

/// The tags, in the order of the documentation.
const TAGS: [(&str, &str); 11] = [
    ("Presence", "Status and devices of the caller."),
    ("People", "Presence of other users."),
    ("Sharing", "Privacy settings, visibility list, export and erasure."),
    ("Relations", "Contacts and blocks of the caller."),
    ("Conversations", "Conversations and typing in them."),
    ("Context", "The context engine: bundles, roll-ups and chat."),
    ("OpenAI-compatible API", "Chat completions and models in the format of OpenAI's API."),
    ("Sockets", "Socket handshakes; the messages are described in `/asyncapi.json`."),
    ("Realtime", "Broadcast and presence of channels over HTTP, compatible with Supabase Realtime."),
    ("System", "Health, metrics and operation of the server."),
    ("Console", "Pages of the web console."),
];

pub(super) fn document(operations: &[Operation]) -> Value {
    let (mut schemas, mut paths) = (Components::new(), Map::new());
    for operation in operations {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_ascii_lowercase()] = rendered(operation, &mut schemas);
    }
    field_error().schema(&mut schemas);
    schemas.insert("Error".to_owned(), errors::envelope());
    let faults = ERRORS.iter().chain([&UPGRADE_REQUIRED]);
    let responses: Map<_, _> = faults.map(|fault| (fault.name.to_owned(), fault.response())).collect();
    json!({
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
    })
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

fn rendered(operation: &Operation, components: &mut Components) -> Value {
    let mut rendered = json!({
        "tags": [operation.tag],
        "operationId": operation.id,
        "summary": operation.summary,
        "description": description(operation),
        "security": security(operation.access),
        "responses": responses(operation, components),
    });
    if !operation.parameters.is_empty() {
        rendered["parameters"] =
            operation.parameters.iter().map(|one| parameter(one, components)).collect::<Value>();
    }
    if let Some(body) = &operation.body {
        rendered["requestBody"] = json!({
            "required": true,
            "description": format!("The body has at most {} bytes.", BodyLimit::default().0),
            "content": { "application/json": { "schema": body.shape.schema(components), "example": body.example } },
        });
    }
    rendered
}

fn description(operation: &Operation) -> String {
    let who = match operation.access {
        Access::Open | Access::Token => None,
        Access::Operator => Some("Requires role `service_role` or permission `presence:admin`.".to_owned()),
        Access::Service => Some("The token must have role `service_role`.".to_owned()),
    };
    let limit = operation.limit.map(|class| {
        let settings = LimitSettings::default();
        let (limit, setting) = match class {
            LimitClass::PresenceUpdate => {
                (settings.presence_updates_per_minute, "PRESENCE_UPDATES_PER_MINUTE")
            }
            LimitClass::Context => (settings.context_requests_per_minute, "CONTEXT_REQUESTS_PER_MINUTE"),
            LimitClass::Chat => (settings.chat_requests_per_minute, "CHAT_REQUESTS_PER_MINUTE"),
            LimitClass::Manage => (settings.manage_requests_per_minute, "MANAGE_REQUESTS_PER_MINUTE"),
        };
        let limit = limit.map_or(0, std::num::NonZeroU32::get);
        format!("Rate limit: {limit} requests per minute and user, burst {limit} (`{setting}`).")
    });
    let parts = [Some(operation.description.to_string()), who, limit];
    let parts: Vec<_> = parts.into_iter().flatten().filter(|text| !text.is_empty()).collect();
    if parts.is_empty() { operation.summary.to_owned() } else { parts.join("\n\n") }
}

fn security(access: Access) -> Value {
    match access {
        Access::Open => json!([]),
        Access::Token | Access::Operator | Access::Service => json!([{ "token": [] }, { "apikey": [] }]),
    }
}

fn parameter(parameter: &Parameter, components: &mut Components) -> Value {
    let place = match parameter.location {
        ParamIn::Path => "path",
        ParamIn::Query => "query",
        ParamIn::Header => "header",
    };
    let mut rendered = json!({
        "name": parameter.name,
        "in": place,
        "required": parameter.required,
        "description": parameter.description,
        "schema": parameter.shape.schema(components),
    });
    if let Some(example) = &parameter.example {
        rendered["example"] = example.clone();
    }
    rendered
}

fn responses(operation: &Operation, components: &mut Components) -> Value {
    let mut responses = Map::new();
    for ResponseSpec { status, description, body, example } in &operation.responses {
        let mut headers = json!({ "x-request-id": { "$ref": "#/components/headers/RequestId" } });
        if operation.limit.is_some() {
            for name in ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"] {
                headers[name] = json!({ "$ref": format!("#/components/headers/{}", name.replace('-', "")) });
            }
        }
        let mut response = json!({ "description": description, "headers": headers });
        if let Some((media_type, shape)) = body {
            let mut content = json!({ "schema": shape.schema(components) });
            if let Some(example) = example {
                content["example"] = example.clone();
            }
            // The same status in another form.
            if let Some(other) = responses.get_mut(&status.to_string()) {
                other["content"][media_type] = content;
                continue;
            }
            response["content"] = json!({ *media_type: content });
        }
        responses.insert(status.to_string(), response);
    }
    for status in operation.error_statuses() {
        // A status that a good answer has, as the report of a server that is not well, is described there.
        let reference =
            json!({ "$ref": format!("#/components/responses/{}", errors::for_status(status).name) });
        responses.entry(status.to_string()).or_insert(reference);
    }
    Value::Object(responses)
}
