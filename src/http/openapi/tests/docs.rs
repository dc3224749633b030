//! `docs/reference/rest.md` and `docs/reference/sockets.md`, generated from the descriptions, and the frames and routes
//! that other pages of `docs/` show.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use serde_json::{Value, json};
use testkit::pages::{assert_current, cell, files, root};

use super::{described, document, is_phoenix, server_messages, violations};
use crate::{
    http::openapi::{asyncapi, socket_document},
    hub::CloseCode,
    protocol::{Dialect, Encode, Frame, phoenix::Push},
};

const REST: &str = "docs/reference/rest.md";
const SOCKETS: &str = "docs/reference/sockets.md";
const REST_INTRODUCTION: &str = "\
# REST API

<!-- Generated from the API description. Change the descriptions of the routes in src/http, then run:
     UPDATE_DOCS=1 cargo test --lib openapi::tests::docs -->

A server describes the same routes in `/openapi.json`, and shows them with request forms at `/docs`.

- **Authentication.** Send `Authorization: Bearer <JWT>`, or an API key in the header `apikey`. The token names the user \
in `sub` (UUID). *Access* below says which routes need no token, and which need more than a user's token.
- **Bodies** are JSON (`Content-Type: application/json`). Field names may be written in snake case or in camel case; \
unknown fields are ignored.
- **Errors** have one envelope; [Errors](../errors.md) lists codes, causes and cures. *Errors* below lists the statuses \
that a route can answer.
- **Rate limits** are per user. Limited routes send `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` \
(seconds); a 429 also has `Retry-After`.
- **Times** are RFC 3339 in UTC with three fractional digits.
";
const SOCKETS_INTRODUCTION: &str = "\
# Sockets

<!-- Generated from the description of the sockets. Change src/http/openapi/asyncapi.rs or channels.rs, then run:
     UPDATE_DOCS=1 cargo test --lib openapi::tests::docs -->

All messages of every socket. Frames of the server are what its encoder writes, frames of clients are accepted by its \
decoder. The rules behind them are in the protocols: [presence](../protocol/presence.md), \
[context](../protocol/context.md), [realtime](../protocol/realtime.md). A server describes the same messages in \
`/asyncapi.json`.
";

#[test]
fn rest_page_is_current() {
    assert_current(REST, &rest_page(), "--lib openapi::tests::docs");
}

#[test]
fn sockets_page_is_current() {
    assert_current(SOCKETS, &sockets_page(), "--lib openapi::tests::docs");
}

fn text<'a>(part: &'a Value, field: &str) -> &'a str {
    part[field].as_str().unwrap_or_default()
}

/// The text on one line, for a cell of a table.
fn anchor(title: &str) -> String {
    let kept = title
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .collect::<String>();
    kept.replace(' ', "-")
}

/// The type of a schema in words; named types lead to their section.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return format!("[{name}](#{}-type)", anchor(name));
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    for options in ["anyOf", "oneOf", "allOf"] {
        if let Some(options) = schema[options].as_array() {
            return options.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        Value::String(one) => vec![one.as_str()],
        _ => vec!["any value"],
    };
    let words = types.iter().map(|one| match *one {
        "array" => format!("list of {}", kind(&schema["items"])),
        "null" => "null".to_owned(),
        other => {
            schema["format"].as_str().map_or_else(|| other.to_owned(), |format| format!("{other} ({format})"))
        }
    });
    words.collect::<Vec<_>>().join(" or ")
}

fn field_rows(page: &mut String, at: &str, schema: &Value) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let required = schema["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
        let parts = field["oneOf"].as_array().into_iter().flatten();
        let about = [field]
            .into_iter()
            .chain(parts)
            .map(|part| text(part, "description"))
            .find(|text| !text.is_empty());
        let (name, presence) = (format!("{at}{name}"), if required { "always" } else { "optional" });
        let _ = writeln!(
            page,
            "| `{name}` | {} | {presence} | {} |",
            kind(field),
            cell(about.unwrap_or_default())
        );
        field_rows(page, &format!("{name}."), field);
        if field["items"].get("properties").is_some() {
            field_rows(page, &format!("{name}[]."), &field["items"]);
        }
    }
}

fn fields(page: &mut String, schema: &Value) {
    if schema.get("properties").is_some() {
        page.push_str("| field | type | presence | meaning |\n| --- | --- | --- | --- |\n");
        field_rows(page, "", schema);
        page.push('\n');
    }
}

fn code_block(page: &mut String, value: &Value) {
    let _ = write!(page, "```json\n{}\n```\n\n", serde_json::to_string_pretty(value).expect("serializes"));
}

/// Headings of a description become parts of the section of their route.
fn below(description: &str, level: &str) -> String {
    description
        .lines()
        .map(|line| if line.starts_with('#') { format!("{level}{line}") } else { line.to_owned() })
        .collect::<Vec<_>>()
        .join("\n")
}

fn rest_page() -> String {
    let document = document();
    let mut page = REST_INTRODUCTION.to_owned();
    let operations = described(&document);
    for tag in document["tags"].as_array().expect("tags") {
        let name = text(tag, "name");
        let _ = write!(page, "\n## {name}\n\n{}\n\n", text(tag, "description"));
        for (path, method, operation) in &operations {
            if operation["tags"][0] == name {
                rest_operation(&mut page, path, method, operation);
            }
        }
    }
    with_types(page, &document)
}

/// The page with its last section, the named types of the description.
fn with_types(mut page: String, document: &Value) -> String {
    page.push_str("## Types\n\n");
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        let _ = write!(page, "### {name} (type)\n\n{}\n\n", text(schema, "description"));
        if schema.get("properties").is_some() {
            fields(&mut page, schema);
        } else {
            let _ = write!(page, "Type: {}\n\n", kind(schema));
        }
    }
    page.trim_end().to_owned() + "\n"
}

fn rest_operation(page: &mut String, path: &str, method: &str, operation: &Value) {
    let (summary, description) = (text(operation, "summary"), text(operation, "description"));
    let _ = write!(page, "### {method} {path}\n\n{summary}\n\n");
    if description != summary {
        let _ = write!(page, "{}\n\n", below(description, "###"));
    }
    let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
    let _ = write!(page, "Access: {}\n\n", if is_open { "no token" } else { "token or API key" });
    if let Some(parameters) = operation["parameters"].as_array().filter(|list| !list.is_empty()) {
        page.push_str("| parameter | in | type | presence | meaning |\n| --- | --- | --- | --- | --- |\n");
        for parameter in parameters {
            let presence = if parameter["required"] == true { "always" } else { "optional" };
            let (name, place) = (text(parameter, "name"), text(parameter, "in"));
            let (kind, about) = (kind(&parameter["schema"]), cell(text(parameter, "description")));
            let _ = writeln!(page, "| `{name}` | {place} | {kind} | {presence} | {about} |");
        }
        page.push('\n');
    }
    let body = &operation["requestBody"]["content"];
    for (media, content) in body.as_object().into_iter().flatten() {
        let _ = write!(page, "Body (`{media}`): {}\n\n", kind(&content["schema"]));
        if let Some(example) = content.get("example").filter(|_| media == "application/json") {
            code_block(page, example);
        }
    }
    let mut errors = Vec::new();
    for (status, response) in operation["responses"].as_object().expect("responses") {
        if status.as_str() >= "400" && response.get("$ref").is_some() {
            errors.push(format!("[{status}](../errors.md#codes)"));
            continue;
        }
        let _ = write!(page, "Response {status}: {}\n\n", text(response, "description"));
        for (media, content) in response["content"].as_object().into_iter().flatten() {
            let schema = &content["schema"];
            if schema.get("$ref").is_some() || schema["items"].get("$ref").is_some() {
                let _ = write!(page, "Type (`{media}`): {}\n\n", kind(schema));
            }
            if let Some(example) =
                content.get("example").filter(|example| media == "application/json" && **example != json!({}))
            {
                code_block(page, example);
            }
        }
    }
    if !errors.is_empty() {
        let _ = write!(page, "Errors: {}\n\n", errors.join(", "));
    }
}

fn sockets_page() -> String {
    let document = socket_document();
    let mut page = SOCKETS_INTRODUCTION.to_owned();
    for channel in asyncapi::channels() {
        let _ = write!(
            page,
            "\n## {}\n\nPath: `{}`\n\n{}\n\n",
            channel.title, channel.address, channel.description
        );
        for (direction, title, messages) in
            [("client", "Client", &channel.client), ("server", "Server", &channel.server)]
        {
            for message in messages {
                let _ = write!(
                    page,
                    "### {title}: {} ({})\n\n{}\n\n",
                    message.kind, channel.name, message.description
                );
                let schema = &document["components"]["messages"]
                    [format!("{}.{direction}.{}", channel.name, message.kind)];
                fields(&mut page, &schema["payload"]);
                let frames = match &message.example {
                    Some(example) => vec![frame_text(example)],
                    None => encoded(channel.name, message.kind),
                };
                if !frames.is_empty() {
                    let _ = write!(page, "```json\n{}\n```\n\n", frames.join("\n"));
                }
            }
        }
    }
    page.push_str("## Close codes\n\n| code | reason | reconnect | meaning |\n| --- | --- | --- | --- |\n");
    for code in CloseCode::ALL {
        let reconnect = if code.reconnect() { "yes, after a pause" } else { "no" };
        let _ =
            writeln!(page, "| {} | {} | {reconnect} | {} |", code.number(), code.reason(), code.meaning());
    }
    page.push('\n');
    with_types(page, document)
}

/// The frame with its type first, as a person would write it. Values sort the fields of an object.
fn frame_text(frame: &Value) -> String {
    match (&frame["type"], frame.as_object()) {
        (Value::String(kind), Some(fields)) => {
            let rest = fields.iter().filter(|(name, _)| *name != "type");
            let rest: String = rest.map(|(name, value)| format!(",{}:{value}", json!(name))).collect();
            format!("{{\"type\":{}{rest}}}", json!(kind))
        }
        _ => frame.to_string(),
    }
}

/// Frames of one kind that the encoder of a dialect writes.
fn encoded(dialect: &str, kind: &str) -> Vec<String> {
    let Some(dialect) = Dialect::ALL.into_iter().find(|one| one.as_str() == dialect && !is_phoenix(*one))
    else {
        return Vec::new();
    };
    let mut frames = Vec::new();
    for message in server_messages() {
        let mut out = Vec::new();
        if message.encode_into(dialect, &mut out).is_none() {
            continue;
        }
        let text = String::from_utf8(out).expect("is text");
        frames.extend(
            text.lines()
                .filter(|line| serde_json::from_str::<Value>(line).is_ok_and(|frame| frame["type"] == kind))
                .map(str::to_owned),
        );
    }
    frames
}

/// The pages of docs/, and the README, with their text.
fn pages() -> Vec<(String, String)> {
    let paths = [root("README.md")].into_iter().chain(files("docs", "md"));
    paths.map(|path| (path.display().to_string(), fs::read_to_string(&path).expect("a text"))).collect()
}

/// The JSON blocks of a page, each with the headings above it.
fn json_blocks(page: &str) -> Vec<(String, String, Vec<Value>)> {
    let (mut section, mut heading) = (String::new(), String::new());
    let mut blocks = Vec::new();
    for (at, part) in page.split("\n```").enumerate() {
        if at % 2 == 0 {
            for line in part.lines() {
                if let Some(title) = line.strip_prefix("## ") {
                    title.clone_into(&mut section);
                    title.clone_into(&mut heading);
                } else if let Some(title) = line.strip_prefix("### ") {
                    title.clone_into(&mut heading);
                }
            }
        } else if let Some(text) = part.strip_prefix("json\n") {
            let values =
                serde_json::Deserializer::from_str(text).into_iter::<Value>().collect::<Result<_, _>>();
            blocks.push((
                section.clone(),
                heading.clone(),
                values.unwrap_or_else(|error| panic!("{heading}: {error}: {text}")),
            ));
        }
    }
    blocks
}

/// Frames of a page that have a type, with the names of the messages that they may be.
fn check_typed_frames(name: &str, dialect_of: impl Fn(&str) -> Vec<&'static str>) -> usize {
    let page = fs::read_to_string(root(name)).expect("a page");
    let document = socket_document();
    let mut compared = 0;
    for (section, heading, values) in json_blocks(&page) {
        for value in values {
            let Some(kind) = value["type"].as_str() else { continue };
            let dialects = dialect_of(&section);
            let mut complaints = Vec::new();
            let is_described = dialects
                .iter()
                .flat_map(|dialect| ["client", "server"].map(|from| (dialect, from)))
                .any(|(dialect, from)| {
                    let message = &document["components"]["messages"][format!("{dialect}.{from}.{kind}")];
                    if message.is_null() {
                        return false;
                    }
                    let wrong = violations(document, &message["payload"], &value);
                    let is_right = wrong.is_empty();
                    complaints.extend(wrong);
                    is_right
                });
            assert!(
                dialects.is_empty() || is_described,
                "{name}, {heading}: {value} is not a message: {complaints:#?}"
            );
            compared += usize::from(!dialects.is_empty());
        }
    }
    compared
}

#[test]
fn frames_of_the_protocol_pages_match_the_description() {
    let compared = check_typed_frames("docs/protocol/presence.md", |section| match section {
        "Dialect /ws" => vec!["devices"],
        "Common messages" | "Errors" => vec!["presence", "devices", "context"],
        _ => vec!["presence"],
    });
    assert!(compared >= 15, "{compared}");
    let compared = check_typed_frames("docs/protocol/context.md", |section| {
        if section == "WebSocket dialect" { vec!["context"] } else { Vec::new() }
    });
    assert!(compared >= 6, "{compared}");
}

/// Frames in arrays are those of serializer 2.0.0: the decoder accepts those of clients, the description has those of
/// the server.
#[test]
fn frames_of_the_realtime_page_match_the_description() {
    let page = fs::read_to_string(root("docs/protocol/realtime.md")).expect("a page");
    let document = socket_document();
    let mut compared = 0;
    for (_, heading, values) in json_blocks(&page) {
        for value in values.iter().filter(|value| value.as_array().is_some_and(|parts| parts.len() == 5)) {
            let event = value[3].as_str().unwrap_or_else(|| panic!("{heading}: {value} has no event"));
            let frame = json!({
                "join_ref": value[0], "ref": value[1], "topic": value[2], "event": event, "payload": value[4],
            });
            let of_client = &document["components"]["messages"][format!("realtime.client.{event}")];
            let of_server = &document["components"]["messages"][format!("realtime.server.{event}")];
            let text = value.to_string();
            let is_push = Push::decode(Dialect::PhoenixV2, Frame::Text(&text)).is_ok();
            let from_client = !of_client.is_null()
                && is_push
                && violations(document, &of_client["payload"], &frame).is_empty();
            let from_server =
                !of_server.is_null() && violations(document, &of_server["payload"], &frame).is_empty();
            assert!(from_client || from_server, "{heading}: {value}");
            compared += 1;
        }
    }
    assert!(compared >= 12, "{compared}");
}

/// Every route that a page names exists, and the reference has every route (it is generated).
#[test]
fn pages_name_existing_routes() {
    let document = document();
    let routes: Vec<(String, String)> =
        described(&document).into_iter().map(|(path, method, _)| (path, method)).collect();
    let matches = |method: &str, path: &str| {
        routes.iter().any(|(known, known_method)| {
            let (known, path): (Vec<_>, Vec<_>) = (known.split('/').collect(), path.split('/').collect());
            known_method == method
                && known.len() == path.len()
                && known.iter().zip(&path).all(|(known, part)| known == part || known.starts_with('{'))
        })
    };
    let mut unknown = BTreeSet::new();
    let mut named = 0;
    for (name, page) in pages() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            for (at, _) in page.match_indices(&format!("`{method} /")) {
                let rest = &page[at + method.len() + 2..];
                let path = rest.split(['`', '?', ' ', '"']).next().unwrap_or_default();
                // Routes of the Edge Function and of Supabase's gateway have other roots.
                let is_ours = ["/api/", "/v1/", "/realtime/", "/metrics", "/livez", "/readyz", "/version"]
                    .iter()
                    .any(|root| path.starts_with(root));
                if is_ours {
                    named += 1;
                    if !matches(method, path) {
                        unknown.insert(format!("{name}: {method} {path}"));
                    }
                }
            }
        }
    }
    assert!(named > 40, "{named}");
    assert!(unknown.is_empty(), "{unknown:#?}");
}
