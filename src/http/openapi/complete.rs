//! Completes the operations that `utoipa` describes with what follows from them: security, error responses, and
//! headers of responses.
//!
//! An operation states the rest in extensions, which are not part of the served document:
//!
//! | extension | value |
//! | --- | --- |
//! | `x-access` | `open` (no token), `operator` or `service`; by default any token |
//! | `x-errors` | statuses of errors beyond those that follow from access, parameters, body and limit |
//! | `x-error-format` | `openai` if errors have the format of OpenAI's API |
//! | `x-optional-body` | `true` if the body may be absent |
//! | `x-rate-limit` | the limit that requests count against: `presence`, `heartbeat`, `typing`, `manage`, `context` or `chat` |

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::errors;
use crate::{http::body::BodyLimit, limits::LimitSettings};

/// Completes one operation in place.
pub(super) fn complete_operation(operation: &mut Map<String, Value>) {
    let access = operation.remove("x-access");
    let access = access.as_ref().and_then(Value::as_str).unwrap_or("token");
    let limit = operation.remove("x-rate-limit");
    let limit = limit.as_ref().and_then(Value::as_str).map(describe_limit);
    let extra = operation.remove("x-errors").unwrap_or_default();
    let is_openai = operation.remove("x-error-format").is_some_and(|format| format == "openai");
    let is_body_required = operation.remove("x-optional-body").is_none();
    let statuses = error_statuses(operation, access, limit.is_some(), &extra);

    let security = if access == "open" { json!([]) } else { json!([{ "token": [] }, { "apikey": [] }]) };
    operation.insert("security".to_owned(), security);
    let required = match access {
        "operator" => Some("Requires role `service_role` or permission `presence:admin`.".to_owned()),
        "service" => Some("The token must have role `service_role`.".to_owned()),
        _ => None,
    };
    let own = operation.get("description").and_then(Value::as_str).map(str::to_owned);
    let text: Vec<_> =
        [own, required, limit.clone()].into_iter().flatten().filter(|text| !text.is_empty()).collect();
    let text = if text.is_empty() { summary(operation) } else { text.join("\n\n") };
    operation.insert("description".to_owned(), text.into());
    if let Some(body) = operation.get_mut("requestBody") {
        body["required"] = json!(is_body_required);
        if body.get("description").is_none() {
            body["description"] = json!(format!("The body has at most {} bytes.", BodyLimit::default().0));
        }
    }

    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        not_null(&mut parameter["schema"]);
    }

    let Some(Value::Object(responses)) = operation.get_mut("responses") else { return };
    for response in responses.values_mut() {
        if let Some(schema) = response.pointer_mut("/content/text~1event-stream/schema") {
            *schema = event_schema(schema.take());
        }
        let mut headers = json!({ "x-request-id": { "$ref": "#/components/headers/RequestId" } });
        if limit.is_some() {
            for name in ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"] {
                headers[name] = json!({ "$ref": format!("#/components/headers/{}", name.replace('-', "")) });
            }
        }
        response["headers"] = headers;
    }
    for status in statuses {
        let error = errors::for_status(status);
        let response = if is_openai {
            let schema = json!({ "$ref": "#/components/schemas/OpenAiError" });
            json!({ "description": error.description, "content": { "application/json": { "schema": schema } } })
        } else {
            json!({ "$ref": format!("#/components/responses/{}", error.name) })
        };
        responses.entry(status.to_string()).or_insert(response);
    }
}

/// The schema of a server-sent event. `content` is that of its data: text, or the value that the text is as JSON, in
/// streams that end with `[DONE]`.
fn event_schema(content: Value) -> Value {
    let mut data = json!({ "type": "string", "description": "The text in the lines `data` of the event." });
    if content.get("type").is_none_or(|of| of != "string") {
        data["anyOf"] = json!([
            { "contentMediaType": "application/json", "contentSchema": content },
            { "const": "[DONE]" },
        ]);
    }
    json!({ "type": "object", "required": ["data"], "properties": { "data": data } })
}

/// States for generators of clients that objects without described properties may have any.
pub(super) fn complete_schemas(part: &mut Value) {
    match part {
        Value::Object(fields) => {
            let is_schema = |name: &str| fields.contains_key(name);
            if fields.get("type").is_some_and(|of| *of == "object" || *of == json!(["object", "null"]))
                && !is_schema("properties")
                && !is_schema("additionalProperties")
            {
                fields.insert("additionalProperties".to_owned(), json!(true));
            }
            for (_, value) in fields.iter_mut().filter(|(name, _)| *name != "example" && *name != "examples")
            {
                complete_schemas(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(complete_schemas),
        _ => {}
    }
}

/// Removes `null` from the schema of an optional parameter: headers and query strings have no `null`.
fn not_null(schema: &mut Value) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|of| of != "null");
        if let [one] = &mut types[..] {
            schema["type"] = one.take();
        }
    }
    let Some(Value::Array(parts)) = schema.get_mut("oneOf") else { return };
    parts.retain(|part| *part != json!({ "type": "null" }));
    if let [one] = &mut parts[..] {
        *schema = one.take();
    }
}

fn summary(operation: &Map<String, Value>) -> String {
    operation.get("summary").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn describe_limit(class: &str) -> String {
    let settings = LimitSettings::default();
    let (limit, setting) = match class {
        "presence" => (settings.presence_updates_per_minute, "PRESENCE_UPDATES_PER_MINUTE"),
        "heartbeat" => (settings.heartbeats_per_minute, "HEARTBEATS_PER_MINUTE"),
        "typing" => (settings.typing_updates_per_minute, "TYPING_UPDATES_PER_MINUTE"),
        "manage" => (settings.manage_requests_per_minute, "MANAGE_REQUESTS_PER_MINUTE"),
        "context" => (settings.context_requests_per_minute, "CONTEXT_REQUESTS_PER_MINUTE"),
        "chat" => (settings.chat_requests_per_minute, "CHAT_REQUESTS_PER_MINUTE"),
        other => panic!("{other} is not a class of limits"),
    };
    let limit = limit.map_or(0, std::num::NonZeroU32::get);
    format!("Rate limit: {limit} requests per minute and user, burst {limit} (`{setting}`).")
}

/// Every status of an error that the operation may answer.
fn error_statuses(
    operation: &Map<String, Value>,
    access: &str,
    limited: bool,
    extra: &Value,
) -> BTreeSet<u16> {
    let extra = extra.as_array().into_iter().flatten().filter_map(Value::as_u64);
    let mut statuses: BTreeSet<u16> = extra.filter_map(|status| u16::try_from(status).ok()).collect();
    if access != "open" {
        // Row-level security may forbid anything; the signing keys and the database may be unreachable.
        statuses.extend([401, 403, 500, 503]);
    }
    let is_plain_path =
        |parameter: &Value| parameter["in"] == "path" && parameter["schema"] == json!({ "type": "string" });
    let parameters = operation.get("parameters").and_then(Value::as_array);
    if parameters.is_some_and(|list| !list.iter().all(is_plain_path)) {
        statuses.insert(400);
    }
    if operation.contains_key("requestBody") {
        statuses.extend([400, 413, 415]);
    }
    if limited {
        statuses.insert(429);
    }
    statuses
}
