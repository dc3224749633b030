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

type Components = Map<String, Value>;

const ABOUT: &str = "Who is here, what they are doing, what they will need next. Row-level security in PostgreSQL \
decides what each caller sees; whoever is not visible is absent from lists, and a 404 by id.\n\n\
Identify with `Authorization: Bearer <JWT>`, or an API key in `apikey`. Errors have one shape everywhere, and every \
answer carries `x-request-id`. Names of fields may be written in camelCase in requests, too; fields that a route does \
not know are ignored.\n\nThe sockets are described in [`/asyncapi.json`](asyncapi.json).";

/// The chapters, in order.
const TAGS: [(&str, &str); 11] = [
    ("Presence", "One's own status and devices."),
    ("People", "Looking at others."),
    ("Sharing", "Who may see whom, and what; what is kept, and its erasure."),
    ("Relations", "Contacts and blocks."),
    ("Conversations", "Conversations and typing in them."),
    ("Context", "The context engine: what a model is told, ready before it is asked."),
    ("OpenAI-compatible API", "Chat completions and models in the format of OpenAI's API."),
    ("Sockets", "Where sockets open; what they say is in `/asyncapi.json`."),
    ("Realtime", "Channels: broadcast and presence over HTTP."),
    ("System", "The server itself."),
    ("Console", "The pages."),
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
    let used = |tag: &str| operations.iter().any(|operation| operation.tag == tag);
    let tags = TAGS.iter().filter(|(name, _)| used(name));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Rollcall",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Presence, realtime and context over PostgreSQL",
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "Where this description comes from" }],
        "tags": tags.map(|(name, about)| json!({ "name": name, "description": about })).collect::<Value>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "headers": headers(),
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "HS256 with the server's secret, or RS256, ES256, EdDSA by its JWKS. Claims: `sub` \
                                    (the user's UUID), `role` (`anon`, `authenticated`, `service_role`), `exp`.",
                },
                "apikey": {
                    "type": "apiKey", "in": "header", "name": "apikey",
                    "description": "A JWT or one of the server's opaque keys; counts where there is no `Authorization`.",
                },
            },
        },
    })
}

fn headers() -> Value {
    let number = |about: &str| json!({ "description": about, "schema": { "type": "integer", "minimum": 0 } });
    json!({
        "RequestId": {
            "description": "The request's id, the client's own if it sent one; the log has it too.",
            "required": true,
            "schema": { "type": "string", "minLength": 1, "maxLength": 64 },
        },
        "RetryAfter": number("Seconds after which to come back."),
        "RateLimitLimit": number("How many may come at once."),
        "RateLimitRemaining": number("How many more may come now."),
        "RateLimitReset": number("Seconds until the whole allowance is there again."),
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
            "description": format!("At most {} bytes.", BodyLimit::default().0),
            "content": { "application/json": { "schema": body.shape.schema(components), "example": body.example } },
        });
    }
    rendered
}

fn description(operation: &Operation) -> String {
    let who = match operation.access {
        Access::Open | Access::Token => None,
        Access::Operator => Some("For `service_role` and holders of `presence:admin`.".to_owned()),
        Access::Service => Some("For `service_role`.".to_owned()),
    };
    let limit = operation.limit.map(|class| {
        let settings = LimitSettings::default();
        let (what, limit) = match class {
            LimitClass::PresenceUpdate => ("status updates", settings.presence_updates_per_minute),
            LimitClass::Context => ("context requests", settings.context_requests_per_minute),
            LimitClass::Chat => ("chat requests", settings.chat_requests_per_minute),
            LimitClass::Manage => ("changes of this kind", settings.manage_requests_per_minute),
        };
        let limit = limit.map_or(0, std::num::NonZeroU32::get);
        format!("Limit: {limit} {what} a minute and user unless configured otherwise, as many at once.")
    });
    let said = [Some(operation.description.to_string()), who, limit];
    said.into_iter().flatten().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n\n")
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
