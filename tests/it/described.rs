//! The description that the server gives of itself, against what it does.

#[path = "../../src/http/openapi/tests/conforms.rs"]
mod conforms;

use std::sync::Arc;

use reqwest::{Method, header::CONTENT_TYPE};
use rollcall::http::openapi::{Operation, Place, Somebody, document, operations};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Case, cases,
    world::{Node, User, World, in_seconds, mint, service},
};

/// The tests of this theme.
pub fn cases() -> Vec<Case> {
    cases![every_documented_example_gets_its_documented_answer, the_descriptions_are_served]
}

fn demo(number: u8) -> User {
    let id: Uuid = format!("a0000000-0000-4000-8000-{number:012}").parse().expect("an id");
    let token = mint(&json!({ "sub": id, "role": "authenticated", "exp": in_seconds(3_600) }));
    User { id, token }
}

async fn every_documented_example_gets_its_documented_answer(world: Arc<World>) {
    world.run(include_str!("../../supabase/seed.sql"), &[]).await;
    // A process of its own: only that counts metrics.
    let node = world.process().await;
    let mut carried_out = 0;
    for operation in operations().iter().filter(|operation| operation.is_example) {
        carry_out(&node, operation).await;
        carried_out += 1;
    }
    assert!(carried_out > 30, "{carried_out}");
}

async fn carry_out(node: &Node, operation: &Operation) {
    let user = match operation.example_by {
        Somebody::Alice => demo(1),
        Somebody::Bob => demo(2),
        Somebody::Frank => demo(6),
        Somebody::Service => service(),
    };
    let mut path = operation.path.to_owned();
    let mut query = Vec::new();
    for parameter in &operation.parameters {
        let Some(example) = parameter.example.as_ref().and_then(Value::as_str) else { continue };
        match parameter.place {
            Place::Path => path = path.replace(&format!("{{{}}}", parameter.name), example),
            Place::Query => query.push(format!("{}={example}", parameter.name)),
            Place::Header => panic!("headers have no examples"),
        }
    }
    let method: Method = operation.verb.as_str().parse().expect("a method");
    // Examples in query strings are ids and commas: nothing to escape.
    let path = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
    let mut request = node.request(method, &path).bearer_auth(&user.token);
    if let Some(body) = operation.example_body() {
        request = request.json(body);
    }
    let response = request.send().await.expect("an answer");

    let name = operation.id;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.text().await.expect("a body");
    let expected = &operation.answers[0];
    assert_eq!(status, expected.status, "{name}: {body}");
    assert!(headers.contains_key("x-request-id"), "{name}");
    let verb = operation.verb.as_str().to_ascii_lowercase();
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
        let wrong = conforms::complaints(document(), &content["schema"], &value);
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    }
}

async fn the_descriptions_are_served(world: Arc<World>) {
    let node = world.node().await;
    for (path, version) in [("/openapi.json", "openapi"), ("/asyncapi.json", "asyncapi")] {
        let answer = node.request(Method::GET, path).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let body: Value = answer.json().await.expect("is JSON");
        assert!(body[version].as_str().is_some_and(|version| version.starts_with('3')), "{path}");
    }
}
