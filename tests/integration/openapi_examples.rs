//! The served OpenAPI description compared with the server's behavior.

#[path = "../../src/http/openapi/tests/conforms.rs"]
mod conforms;

use std::sync::Arc;

use reqwest::{Method, header::CONTENT_TYPE};
use rollcall::http::openapi::{ExampleUser, Operation, ParamIn, document, operations};
use serde_json::{Value, json};
use testkit::harness::{TestDatabase, TestServer, User, mint_token, service_user, unix_time_in};
use uuid::Uuid;

fn demo_user(number: u8) -> User {
    let id: Uuid = format!("a0000000-0000-4000-8000-{number:012}").parse().expect("an id");
    let token = mint_token(&json!({ "sub": id, "role": "authenticated", "exp": unix_time_in(3_600) }));
    User { id, token }
}

#[testkit::test]
async fn every_documented_example_gets_its_documented_response(db: Arc<TestDatabase>) {
    db.execute(include_str!("../../supabase/seed.sql"), &[]).await;
    // A separate process, because only that counts metrics.
    let node = db.start_server_process().await;
    let mut carried_out = 0;
    for operation in operations().iter().filter(|operation| operation.is_example) {
        run_operation(&node, operation).await;
        carried_out += 1;
    }
    assert!(carried_out > 30, "{carried_out}");
}

async fn run_operation(node: &TestServer, operation: &Operation) {
    let user = match operation.example_user {
        ExampleUser::Alice => demo_user(1),
        ExampleUser::Bob => demo_user(2),
        ExampleUser::Frank => demo_user(6),
        ExampleUser::Service => service_user(),
    };
    let mut path = operation.path.to_owned();
    let mut query = Vec::new();
    for parameter in &operation.parameters {
        let Some(example) = parameter.example.as_ref().and_then(Value::as_str) else { continue };
        match parameter.location {
            ParamIn::Path => path = path.replace(&format!("{{{}}}", parameter.name), example),
            ParamIn::Query => query.push(format!("{}={example}", parameter.name)),
            ParamIn::Header => panic!("headers have no examples"),
        }
    }
    let method: Method = operation.method.as_str().parse().expect("a method");
    // Query strings in examples contain only IDs and commas and need no escaping.
    let path = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
    let mut request = node.request(method, &path).bearer_auth(&user.token);
    if let Some(body) = operation.example_body() {
        request = request.json(body);
    }
    let response = request.send().await.expect("a response");

    let name = operation.id;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.text().await.expect("a body");
    let expected = &operation.responses[0];
    assert_eq!(status, expected.status, "{name}: {body}");
    assert!(headers.contains_key("x-request-id"), "{name}");
    let verb = operation.method.as_str().to_ascii_lowercase();
    let described = &document()["paths"][operation.path][&verb]["responses"][status.to_string()];
    for (header, reference) in described["headers"].as_object().expect("headers") {
        let pointer =
            reference["$ref"].as_str().and_then(|text| text.strip_prefix('#')).expect("a reference");
        let always = document().pointer(pointer).expect("leads somewhere")["required"] == true;
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
        let wrong = conforms::violations(document(), &content["schema"], &value);
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
