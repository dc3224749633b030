//! The served OpenAPI description compared with the server's behavior.

#[path = "../../src/http/openapi/tests/conforms.rs"]
mod conforms;

use std::sync::Arc;

use reqwest::{Method, header::CONTENT_TYPE};
use rollcall::app::openapi_document;
use serde_json::{Value, json};
use testkit::harness::{TestDatabase, TestServer, User, mint_token, service_user, unix_time_in};
use uuid::Uuid;

fn demo_user(number: u8) -> User {
    let id: Uuid = format!("a0000000-0000-4000-8000-{number:012}").parse().expect("an id");
    let token = mint_token(&json!({ "sub": id, "role": "authenticated", "exp": unix_time_in(3_600) }));
    User { id, token }
}

/// Operations whose example is not sent: sockets and streams have no single response, the demo data has no model, and only pages
/// of a demo server may read its tokens.
const WITHOUT_EXAMPLE: [&str; 12] = [
    "presenceSocket",
    "devicesSocket",
    "contextSocket",
    "channelsSocket",
    "channelsSocketWithoutPrefix",
    "presenceEvents",
    "channelEvents",
    "watchConnection",
    "chat",
    "createChatCompletion",
    "demo",
    "demoLink",
];

/// The webhook of the examples, which the demo data lacks.
pub(crate) const WEBHOOK: &str = "insert into rollcall.webhooks (id, url, enabled)
    values ('d0000000-0000-4000-8000-000000000001', 'https://receiver.invalid/', false)";

/// The demo user whose token sends an example.
fn example_user(id: &str) -> User {
    match id {
        "acceptContact" => demo_user(2),
        // The erasure leaves nothing for other examples of the same user.
        "forgetMe" => demo_user(6),
        "pushToSockets" | "nodes" | "explain" | "metrics" | "metricsWithToken" | "listConnections"
        | "listChannels" | "listSubscriptions" | "history" | "listAudit" | "disconnect" | "publish"
        | "resendDeadLetters" => service_user(),
        id if id.to_ascii_lowercase().contains("webhook") => service_user(),
        _ => demo_user(1),
    }
}

#[testkit::test]
async fn every_documented_example_gets_its_documented_response(db: Arc<TestDatabase>) {
    db.execute(include_str!("../../supabase/seed.sql"), &[]).await;
    db.execute(WEBHOOK, &[]).await;
    // A separate process, because only that counts metrics.
    let node = db.start_server_process().await;
    run_examples(&node, &[]).await;
}

/// Sends the example of every operation but these, and checks the response. The database has the demo data.
pub(crate) async fn run_examples(node: &TestServer, skipped: &[&str]) {
    let document = openapi_document();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            let id = operation["operationId"].as_str().expect("an ID");
            if !WITHOUT_EXAMPLE.contains(&id) && !skipped.contains(&id) {
                // Deletions come last: they remove what other examples create.
                let order =
                    ["get", "post", "put", "patch", "delete"].iter().position(|known| known == method);
                operations.push((order.expect("a known method") == 4, path, order, method, operation));
            }
        }
    }
    operations.sort_by_key(|(is_deletion, path, order, ..)| (*is_deletion, (*path).clone(), *order));
    assert!(operations.len() > 30, "{}", operations.len());
    for (_, path, _, method, operation) in operations {
        run_operation(node, &document, path, method, operation).await;
    }
}

async fn run_operation(node: &TestServer, document: &Value, path: &str, method: &str, operation: &Value) {
    let name = operation["operationId"].as_str().expect("an ID");
    let mut url = path.to_owned();
    let mut query = Vec::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let Some(example) = parameter["example"].as_str() else { continue };
        let parameter_name = parameter["name"].as_str().expect("a name");
        match parameter["in"].as_str() {
            Some("path") => url = url.replace(&format!("{{{parameter_name}}}"), example),
            Some("query") => query.push(format!("{parameter_name}={example}")),
            _ => panic!("{name}: headers have no examples"),
        }
    }
    let verb: Method = method.to_uppercase().parse().expect("a method");
    // Query strings in examples contain only IDs and commas and need no escaping.
    let url = if query.is_empty() { url } else { format!("{url}?{}", query.join("&")) };
    let mut request = node.request(verb, &url).bearer_auth(&example_user(name).token);
    if let Some(body) = operation.pointer("/requestBody/content/application~1json/example") {
        request = request.json(body);
    }
    let response = request.send().await.expect("a response");

    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.text().await.expect("a body");
    let responses = operation["responses"].as_object().expect("responses");
    let successes: Vec<_> = responses.keys().filter(|status| status.as_str() < "300").cloned().collect();
    assert!(successes.contains(&status.to_string()), "{name}: {status} {body}");
    // A request that creates something answers 201 the first time.
    assert!(status == 201 || !successes.contains(&"201".to_owned()), "{name}: {status} {body}");
    assert!(headers.contains_key("x-request-id"), "{name}");
    let described = &responses[&status.to_string()];
    for (header, reference) in described["headers"].as_object().expect("headers") {
        let pointer =
            reference["$ref"].as_str().and_then(|text| text.strip_prefix('#')).expect("a reference");
        let always = document.pointer(pointer).expect("exists")["required"] == true;
        assert!(!always || headers.contains_key(header.as_str()), "{name}: {header}");
    }
    let Some((media_type, content)) = described["content"].as_object().and_then(|all| all.iter().next())
    else {
        assert_eq!(body, "", "{name}");
        return;
    };
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).expect("a type");
    assert!(given.starts_with(media_type), "{name}: {given}");
    if media_type == "application/json" {
        let value: Value = serde_json::from_str(&body).expect("is JSON");
        let wrong = conforms::violations(document, &content["schema"], &value);
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    }
}

#[testkit::test]
async fn api_descriptions_are_served(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for (path, version) in [("/openapi.json", "openapi"), ("/asyncapi.json", "asyncapi")] {
        let response = node.request(Method::GET, path).send().await.expect("a response");
        assert_eq!(response.status(), 200);
        let body: Value = response.json().await.expect("is JSON");
        assert!(body[version].as_str().is_some_and(|version| version.starts_with('3')), "{path}");
    }
}
