//! The descriptions against the code.

mod conforms;
mod docs;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{Router, routing::get};
use serde_json::{Value, json};

use self::conforms::violations;
use super::asyncapi;
use super::{
    errors::{ERRORS, UPGRADE_REQUIRED},
    socket_document,
};
use crate::{
    app::openapi_document as document,
    http::{ApiError, FieldError},
    hub::CloseCode,
    model::{DeviceContext, DeviceId, Presence, Reach, Status, TypingState, UserId},
    protocol::{
        Dialect, Encode, ErrorCode, Frame, Framing, ServerMessage, StatePosition, Welcome, WireError,
        phoenix::Push,
    },
};

/// The routes that a router has. It tells nobody but whoever prints it for debugging, so that is what is read: for
/// each path the methods that have a handler.
fn routes_of(router: &impl std::fmt::Debug) -> BTreeSet<(String, &'static str)> {
    let printed = format!("{router:?}");
    let (endpoints, rest) = printed.split_once("node: Node { paths: {").expect("axum prints its paths");
    let (paths, _) =
        rest.split_once('}').map(|_| rest.split_once("} }").expect("the list ends")).expect("a list");
    let paths: BTreeMap<&str, &str> = paths
        .split("RouteId(")
        .filter_map(|entry| {
            let (id, path) = entry.split_once("): \"")?;
            Some((id, path.split_once('"')?.0))
        })
        .collect();
    let mut routes = BTreeSet::new();
    for endpoint in endpoints.split("RouteId(").skip(1) {
        let Some((id, handlers)) = endpoint.split_once(')') else { continue };
        for (field, method) in
            [("get", "GET"), ("post", "POST"), ("put", "PUT"), ("patch", "PATCH"), ("delete", "DELETE")]
        {
            let has = [format!(" {field}: BoxedHandler"), format!(" {field}: Route")];
            if has.iter().any(|text| handlers.contains(text)) {
                routes.insert((paths[id].to_owned(), method));
            }
        }
    }
    routes
}

#[test]
fn routes_are_read_from_the_router() {
    let router: Router<()> = Router::new()
        .route("/a/{id}", get(async || "").post(async || ""))
        .route("/b", axum::routing::delete(async || "").fallback(async || ""));
    let expected = [("/a/{id}", "GET"), ("/a/{id}", "POST"), ("/b", "DELETE")];
    assert_eq!(routes_of(&router), expected.map(|(path, method)| (path.to_owned(), method)).into());
}

/// The operations of the document: path, method, operation.
fn described(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("methods").iter();
        methods.map(move |(method, operation)| (path.clone(), method.to_uppercase(), operation))
    });
    operations.collect()
}

/// Whether a schema, or one that it refers to, lists the allowed values of a field.
fn has_enum(document: &Value, schema: &Value, seen: &mut BTreeSet<String>) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().any(|(name, value)| match (name.as_str(), value.as_str()) {
            ("enum", _) => true,
            ("example" | "examples" | "description", _) => false,
            ("$ref", Some(path)) => {
                let target = document.pointer(path.trim_start_matches('#'));
                seen.insert(path.to_owned()) && target.is_some_and(|target| has_enum(document, target, seen))
            }
            _ => has_enum(document, value, seen),
        }),
        Value::Array(items) => items.iter().any(|item| has_enum(document, item, seen)),
        _ => false,
    }
}

/// A value that is not one of the allowed ones is answered with 422.
#[test]
fn operations_whose_bodies_have_enums_describe_422() {
    let document = document();
    let with_enums: Vec<_> = described(&document)
        .into_iter()
        .filter(|(_, _, operation)| {
            has_enum(&document, &operation["requestBody"]["content"], &mut BTreeSet::new())
        })
        .collect();
    assert!(with_enums.iter().any(|(path, ..)| path == "/api/v1/system/webhooks"));
    let missing: Vec<_> = with_enums
        .iter()
        .filter(|(_, _, operation)| operation["responses"].get("422").is_none())
        .map(|(path, method, _)| format!("{method} {path}"))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_route_is_described() {
    let document = document();
    let described: BTreeSet<_> =
        described(&document).into_iter().map(|(path, method, _)| (path, method)).collect();
    let routed = routes_of(&crate::app::router(crate::model::Modules::ALL));
    let routed: BTreeSet<_> = routed.into_iter().map(|(path, method)| (path, method.to_owned())).collect();
    let list = |routes: &mut dyn Iterator<Item = &(String, String)>| {
        routes.map(|(path, method)| format!("\n    {method} {path}")).collect::<String>()
    };
    let undescribed = list(&mut routed.difference(&described));
    assert!(undescribed.is_empty(), "the API description lacks these routes:{undescribed}");
    let unrouted = list(&mut described.difference(&routed));
    assert!(unrouted.is_empty(), "these routes are described, but no router has them:{unrouted}");
}

#[test]
fn operations_are_complete() {
    let document = document();
    let tags: BTreeSet<_> =
        document["tags"].as_array().expect("a list").iter().map(|tag| tag["name"].to_string()).collect();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in described(&document) {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no ID"));
        assert!(ids.insert(id.to_owned()), "{id} is used twice");
        assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{id}");
        assert!(tags.contains(&operation["tags"][0].to_string()), "{id}: {} is not a tag", operation["tags"]);
        let responses = operation["responses"].as_object().expect("responses");
        assert!(responses.keys().any(|status| status.as_str() < "400"), "{id} has no successful response");
        assert_ne!(operation["security"], Value::Null, "{id}");
        for name in operation.as_object().expect("an object").keys() {
            assert!(!name.starts_with("x-"), "{id}: {name} is for the server only");
        }
        let in_path: BTreeSet<_> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let described: BTreeSet<_> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "path")
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        assert_eq!(in_path, described, "{path}");
    }
}

/// Every summary and description in the document, with its path. Operations without more to say repeat their summary.
fn texts<'a>(at: &str, part: &'a Value, found: &mut Vec<(String, &'a str)>) {
    match part {
        Value::Object(fields) => {
            for (name, value) in fields {
                let at = format!("{at}/{name}");
                match value {
                    Value::String(text) if name == "description" => found.push((at, text)),
                    // Examples are not descriptions, and a property may be called `description`.
                    _ if name == "example" => {}
                    value => texts(&at, value, found),
                }
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| texts(&format!("{at}/{index}"), item, found));
        }
        _ => {}
    }
}

#[test]
fn descriptions_have_at_least_four_words() {
    let document = document();
    let mut found = Vec::new();
    texts("", &document, &mut found);
    assert!(found.len() > 300, "{}", found.len());
    texts("sockets:", socket_document(), &mut found);
    let short: Vec<_> = found.into_iter().filter(|(_, text)| text.split_whitespace().count() < 4).collect();
    assert!(short.is_empty(), "{short:#?}");
    let mut undescribed = Vec::new();
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        if schema.get("description").is_none() {
            undescribed.push(name.clone());
        }
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            // A nullable reference is described in its part.
            let parts = property["oneOf"].as_array().into_iter().flatten();
            if !parts.chain([property]).any(|part| part.get("description").is_some()) {
                undescribed.push(format!("{name}.{field}"));
            }
        }
    }
    assert!(undescribed.is_empty(), "{undescribed:?}");
}

#[test]
fn every_field_of_a_socket_message_is_described() {
    fn look(at: &str, schema: &Value, undescribed: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{at}.{name}");
            if field.get("description").is_none() {
                undescribed.push(at.clone());
            }
            look(&at, field, undescribed);
        }
    }
    let mut undescribed = Vec::new();
    for (name, message) in socket_document()["components"]["messages"].as_object().expect("messages") {
        look(name, &message["payload"], &mut undescribed);
    }
    assert!(undescribed.is_empty(), "{undescribed:?}");
}

#[test]
fn every_close_code_is_described() {
    let described = socket_document()["x-close-codes"].as_array().expect("a list");
    let text = socket_document()["info"]["description"].as_str().expect("a text");
    for code in CloseCode::ALL {
        let entry = described.iter().find(|entry| entry["code"] == code.number());
        let entry = entry.unwrap_or_else(|| panic!("{} is not described", code.number()));
        assert_eq!(entry["reconnect"], code.reconnect(), "{}", code.number());
        assert!(text.contains(&format!("| {} |", code.number())), "{}", code.number());
    }
}

#[test]
fn errors_have_one_schema_with_all_codes() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["Error"]["properties"]["error"]["$ref"], "#/components/schemas/ErrorCode");
    let codes: Vec<_> = schemas["ErrorCode"]["enum"].as_array().expect("a list").iter().collect();
    for code in ErrorCode::ALL.into_iter().filter(|code| code.status().is_some()) {
        assert!(codes.contains(&&json!(code.as_str())), "{code:?}");
        assert!(
            ERRORS.iter().chain([&UPGRADE_REQUIRED]).any(|error| error.codes.contains(&code)),
            "{code:?}"
        );
    }
    for (name, response) in document["components"]["responses"].as_object().expect("responses") {
        let schema = &response["content"]["application/json"]["schema"];
        assert_eq!(*schema, json!({ "$ref": "#/components/schemas/Error" }), "{name}");
    }
}

#[test]
fn examples_match_their_schema() {
    let document = &document();
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            let answers = operation["responses"].as_object().expect("responses").values();
            let bodies = answers.chain([&operation["requestBody"]]);
            for content in bodies.map(|body| &body["content"]["application/json"]) {
                if let Some(example) = content.get("example") {
                    let wrong = violations(document, &content["schema"], example);
                    assert!(wrong.is_empty(), "{method} {path}: {wrong:#?}");
                    seen += 1;
                }
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if let Some(example) = parameter.get("example") {
                    let wrong = violations(document, &parameter["schema"], example);
                    assert!(wrong.is_empty(), "{method} {path}: {parameter}: {wrong:#?}");
                }
            }
        }
    }
    assert!(seen > 40, "{seen}");
    for response in document["components"]["responses"].as_object().expect("responses").values() {
        let content = &response["content"]["application/json"];
        let wrong = violations(document, &content["schema"], &content["example"]);
        assert!(wrong.is_empty(), "{response:#}: {wrong:#?}");
    }
}

#[test]
fn references_resolve() {
    fn look(document: &Value, part: &Value) {
        match part {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let pointer = reference.strip_prefix('#').expect("into the document");
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                fields.values().for_each(|value| look(document, value));
            }
            Value::Array(items) => items.iter().for_each(|value| look(document, value)),
            _ => {}
        }
    }
    let document = document();
    look(&document, &document);
    look(socket_document(), socket_document());
}

#[test]
fn error_statuses_are_documented() {
    let field = || vec![FieldError::new("a", "b")];
    let cause = || anyhow::anyhow!("x");
    for error in [
        ApiError::InvalidRequest { message: "".into(), details: field() },
        ApiError::Unprocessable { message: "".into(), details: field() },
        ApiError::Auth(crate::auth::AuthError::Missing),
        ApiError::Auth(crate::auth::AuthError::Malformed("x")),
        ApiError::forbidden("x"),
        ApiError::NotFound,
        ApiError::MethodNotAllowed,
        ApiError::Conflict("x".into()),
        ApiError::DuplicatePresence,
        ApiError::TooManyDevices,
        ApiError::InvalidReference("x".into()),
        ApiError::PayloadTooLarge { limit: 1 },
        ApiError::UnsupportedMediaType,
        ApiError::Internal(cause()),
        ApiError::unavailable("x"),
        ApiError::DatabaseUnavailable { source: cause() },
        ApiError::ContextEngine { source: cause() },
        ApiError::SimpleEngine { source: cause() },
    ] {
        let (code, status) = error.code_and_status();
        let fault = ERRORS.iter().find(|fault| fault.status == status.as_u16());
        assert!(fault.is_some_and(|fault| fault.codes.contains(&code)), "{code:?} with {status}");
    }
}

/// Presence over WebSockets. Server-sent events have the messages of their WebSocket.
fn described_dialects() -> impl Iterator<Item = Dialect> {
    let is_socket = |dialect: &Dialect| dialect.framing() == Framing::WebSocket;
    Dialect::ALL.into_iter().filter(is_socket).filter(|dialect| !is_phoenix(*dialect))
}

#[test]
fn dialects_accept_exactly_the_documented_messages() {
    let channels = asyncapi::channels();
    for dialect in described_dialects() {
        let channel = channels.iter().find(|channel| channel.name == dialect.as_str());
        let channel = channel.unwrap_or_else(|| panic!("{} is not described", dialect.as_str()));
        for frame in &channel.client {
            let example = frame.example.as_ref().expect("clients' messages have examples");
            let text = example.to_string();
            let read = dialect.decode(Frame::Text(&text));
            assert!(read.is_ok(), "{}: {text}: {read:?}", channel.name);
            let schema = &socket_document()["components"]["messages"]
                [format!("{}.client.{}", channel.name, frame.kind)]["payload"];
            assert_eq!(violations(socket_document(), schema, example), [""; 0], "{text}");
        }
        let complaint = dialect.decode(Frame::Text(r#"{"type":"?"}"#)).expect_err("is unknown").message;
        let (_, taken) = complaint.split_once("must be one of ").expect("names the types");
        let taken: BTreeSet<_> = taken.split(", ").collect();
        assert_eq!(taken, channel.client.iter().map(|frame| frame.kind).collect(), "{}", channel.name);
    }
}

fn is_phoenix(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::PhoenixV1 | Dialect::PhoenixV2)
}

#[test]
fn both_serializers_accept_the_documented_messages() {
    let channels = asyncapi::channels();
    let channel = channels.iter().find(|channel| channel.discriminator == "event").expect("is described");
    for frame in &channel.client {
        let example = frame.example.as_ref().expect("clients' messages have examples");
        let array = json!([
            example["join_ref"],
            example["ref"],
            example["topic"],
            example["event"],
            example["payload"]
        ]);
        for (dialect, text) in
            [(Dialect::PhoenixV1, example.to_string()), (Dialect::PhoenixV2, array.to_string())]
        {
            let push =
                Push::decode(dialect, Frame::Text(&text)).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            assert_eq!(push.event, frame.kind, "{text}");
        }
        let schema = &socket_document()["components"]["messages"][format!("realtime.client.{}", frame.kind)]
            ["payload"];
        assert_eq!(violations(socket_document(), schema, example), [""; 0], "{example}");
    }
}

/// One of each message that the server says. The reference of the sockets shows them, so they never differ.
fn server_messages() -> Vec<ServerMessage> {
    let user: UserId = "a0000000-0000-4000-8000-000000000002".parse().expect("is an ID");
    let conversation = uuid::uuid!("c0000000-0000-4000-8000-000000000001");
    let now: jiff::Timestamp = "2026-11-21T12:00:00.000Z".parse().expect("is a time");
    let presence = Presence {
        status: Status::Busy,
        reach: Reach::Online,
        last_seen: Some(now),
        custom_status: Some("writing".into()),
        idle_since: Some(now),
        ..Presence::hidden(user)
    };
    let device: DeviceId = DeviceId::try_from("laptop").expect("is an ID");
    let context = DeviceContext {
        user_id: user,
        device_id: device.clone(),
        active_conversation_id: None,
        visible_conversation_ids: vec![conversation.into()],
        active_notebook_id: None,
        active_persona_id: None,
        last_navigation_path: Some("/notes".into()),
        local_time: None,
        updated_at: now,
    };
    let typing = TypingState {
        user_id: user,
        conversation_id: conversation.to_string().parse().expect("is an ID"),
        is_typing: true,
    };
    let position = "3f0c8b525a0e4b6e9d8b0f8f1f3f9f11.17".parse().expect("is a position");
    let payload = serde_json::value::to_raw_value(&json!({ "order": 17 })).expect("is JSON");
    let event =
        crate::model::CustomEvent { category: crate::model::Category::Custom, event: "paid".into(), payload };
    vec![
        ServerMessage::Connected(Welcome {
            client_id: uuid::uuid!("3f0c8b52-5a0e-4b6e-9d8b-0f8f1f3f9f11"),
            user_id: user,
            device_id: device,
            server_time: now,
            heartbeat_interval: std::time::Duration::from_secs(25),
        }),
        ServerMessage::InitialState {
            presences: vec![Arc::new(presence.clone())],
            position: Some(StatePosition { resumed: false, position }),
        },
        ServerMessage::Position(position),
        ServerMessage::Presence(Arc::new(presence.clone())),
        ServerMessage::Presence(Arc::new(Presence::hidden(user))),
        ServerMessage::Typing(typing),
        ServerMessage::Custom(event),
        ServerMessage::HeartbeatAck { server_time: now },
        ServerMessage::StatusAck(Arc::new(presence)),
        ServerMessage::Pong,
        ServerMessage::ContextSync(Arc::new(context)),
        ServerMessage::BundleReady {
            bundle_type: "topic".into(),
            bundle_id: uuid::uuid!("6f0c0000-0000-4000-8000-000000000001"),
            version: 3,
        },
        ServerMessage::Error(WireError::field(
            ErrorCode::InvalidRequest,
            FieldError::new("type", "is required"),
        )),
        ServerMessage::Error(WireError::rate_limited(5)),
    ]
}

#[test]
fn server_messages_match_the_documentation() {
    let document = socket_document();
    let messages = document["components"]["messages"].as_object().expect("messages");
    for dialect in described_dialects() {
        let mut said = BTreeSet::new();
        for message in server_messages() {
            let mut out = Vec::new();
            if message.encode_into(dialect, &mut out).is_none() {
                continue;
            }
            for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let frame: Value = serde_json::from_slice(line).expect("is JSON");
                let name = format!("{}.server.{}", dialect.as_str(), frame["type"].as_str().expect("a type"));
                let described = messages.get(&name).unwrap_or_else(|| panic!("{name} is not described"));
                assert_eq!(violations(document, &described["payload"], &frame), [""; 0], "{frame}");
                said.insert(name);
            }
        }
        let prefix = format!("{}.server.", dialect.as_str());
        let described = messages.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
        assert_eq!(said, described);
    }
}
