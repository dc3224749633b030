//! What the client of a chat sends reaches the model, and what the model answers reaches the client.

use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::{Value, json};
use testkit::{
    fake_llm::{FakeLlm, LlmBehavior},
    harness::{TestDatabase, TestServer, User, service_user},
};
use uuid::Uuid;

const CHAT_PATH: &str = "/api/v1/ai/chat";

async fn server_with(
    db: &TestDatabase,
    model: &FakeLlm,
    change: impl FnOnce(&mut rollcall::config::Settings),
) -> Arc<TestServer> {
    let url = model.url();
    db.start_server_with(|settings| {
        settings.set("LLM_BASE_URL", url);
        settings.set("LLM_MODEL", "default-model");
        settings.set("LLM_TIMEOUT", "1s");
        settings.set("CHAT_REQUESTS_PER_MINUTE", "0");
        settings.set("CONTEXT_REQUESTS_PER_MINUTE", "0");
        change(settings);
    })
    .await
}

async fn create_conversation(node: &TestServer, user: &User) -> Uuid {
    let made = node.post(user, "/api/conversations", json!({"participant_ids": []})).await.expect_status(201);
    made["id"].as_str().expect("an id").parse().expect("a UUID")
}

fn chat_body(conversation: Uuid, message: &str) -> Value {
    json!({"conversationId": conversation, "messages": [{"role": "user", "content": message}]})
}

#[testkit::test]
async fn all_messages_and_fields_reach_the_model(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = server_with(&db, &model, |_| {}).await;
    let user = User::new();
    let conversation = create_conversation(&node, &user).await;
    node.post(&user, CHAT_PATH, chat_body(conversation, "First question")).await.expect_status(200);
    let sent = json!([
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "name": "ada", "content": [{"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
        {"role": "user", "content": "And now?"},
        {"role": "system", "content": "Answer in rhymes."},
    ]);
    let fields = json!({"tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        "tool_choice": "auto", "response_format": {"type": "json_object"}, "stop": ["END"], "top_p": 0.25, "seed": 7,
        "logprobs": true});
    let mut body =
        json!({"conversationId": conversation, "messages": sent, "maxTokens": 50, "temperature": 0.5});
    for (name, value) in fields.as_object().expect("an object") {
        body[name] = value.clone();
    }
    node.post(&user, CHAT_PATH, body).await.expect_status(200);
    let request = model.requests()[1].clone();
    for (name, value) in fields.as_object().expect("an object") {
        assert_eq!(&request[name], value, "{name}");
    }
    assert_eq!((&request["max_tokens"], &request["temperature"]), (&json!(50), &json!(0.5)));
    let received = request["messages"].as_array().expect("messages");
    let sent = sent.as_array().expect("messages");
    assert_eq!(received[0]["role"], "system");
    assert!(received[0]["content"].as_str().expect("text").starts_with("## "), "{received:#?}");
    assert_eq!(received[1], sent[0], "the client's instructions follow the assembled ones");
    assert_eq!(received[2]["content"], "First question", "then the stored history");
    assert_eq!(received[4..], sent[1..], "then the rest, unchanged and in order");
}

#[testkit::test]
async fn unknown_and_missing_fields_are_named_at_once(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = server_with(&db, &model, |_| {}).await;
    let user = User::new();
    let fields = |response: &Value| -> Vec<String> {
        let details = response["details"].as_array().expect("details");
        details.iter().map(|detail| detail["field"].as_str().expect("a field").to_owned()).collect()
    };
    let response = node.post(&user, CHAT_PATH, json!({})).await;
    assert_eq!(response.status, 400);
    assert_eq!(fields(&response.body), ["messages", "conversationId"]);
    let conversation = create_conversation(&node, &user).await;
    let mut body = chat_body(conversation, "Hi");
    body["activePersonaId"] = json!("x");
    body["temperature"] = json!(9);
    body["n"] = json!(2);
    let response = node.post(&user, CHAT_PATH, body).await;
    assert_eq!(response.status, 400);
    let mut named = fields(&response.body);
    named.sort();
    assert_eq!(named, ["activePersonaId", "temperature"], "{:#}", response.body);
    assert!(model.requests().is_empty());
    let mut body = chat_body(conversation, "Hi");
    body["stop"] = json!("x");
    model.enqueue([LlmBehavior::Rejects("stop is too long")]);
    let response = node.post(&user, CHAT_PATH, body).await;
    assert!(
        response.body["message"].as_str().expect("text").contains("stop is too long"),
        "{:#}",
        response.body
    );
    response.expect_error(400, "INVALID_REQUEST");
}

async fn stream_events(node: &TestServer, user: &User, body: Value) -> Vec<Value> {
    let request = reqwest::Client::new().post(format!("http://{}{CHAT_PATH}", node.address));
    let response = request.bearer_auth(&user.token).json(&body).send().await.expect("a response");
    let mut stream = response.bytes_stream();
    let mut text = String::new();
    while let Some(bytes) = stream.next().await {
        text += &String::from_utf8_lossy(&bytes.expect("bytes"));
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

#[testkit::test]
async fn tool_calls_and_finish_reasons_are_returned_and_saved(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = server_with(&db, &model, |_| {}).await;
    let user = User::new();
    let conversation = create_conversation(&node, &user).await;
    let call = json!([{"id": "call_1", "type": "function",
        "function": {"name": "weather", "arguments": "{\"city\":\"Quito\"}"}}]);
    for (stream, key) in [(false, "one"), (true, "two")] {
        model.enqueue([LlmBehavior::CallsTool]);
        let mut body = chat_body(conversation, &format!("Weather {key}?"));
        body["idempotencyKey"] = json!(key);
        body["stream"] = json!(stream);
        for replayed in [false, true] {
            let data = if stream {
                let events = stream_events(&node, &user, body.clone()).await;
                assert!(events.iter().any(|event| event["type"] == "delta" && event["toolCalls"].is_array()));
                events.last().expect("an event").clone()
            } else {
                node.post(&user, CHAT_PATH, body.clone()).await.expect_status(200)["data"].clone()
            };
            assert_eq!((&data["toolCalls"], &data["content"]), (&call, &json!("")), "{data:#}");
            assert_eq!(data["finishReason"], "tool_calls");
            assert_eq!(data["replayed"] == true, replayed, "{data:#}");
        }
    }
    model.enqueue([LlmBehavior::StopsAtLength]);
    let cut = node.post(&user, CHAT_PATH, chat_body(conversation, "Tell me")).await.expect_status(200);
    assert_eq!(cut["data"]["finishReason"], "length");
}

async fn remember(db: &TestDatabase, user: &User) {
    db.execute(
        "insert into rollcall.memories (user_id, content, category, importance)
           values ($u, 'Is a glazier.', 'identity', 0.9), ($u, 'Likes brevity.', 'preference', 0.9)",
        &[("u", user.id)],
    )
    .await;
}

#[testkit::test]
async fn statistics_name_the_bundles(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = server_with(&db, &model, |_| {}).await;
    let user = User::new();
    remember(&db, &user).await;
    let conversation = create_conversation(&node, &user).await;
    let response = node.post(&user, CHAT_PATH, chat_body(conversation, "Hi")).await.expect_status(200);
    let names = json!(["identity_core", "global_prefs"]);
    for stats in [&response["metadata"], &response["data"]["contextStats"]] {
        assert_eq!(stats["bundlesUsed"], names, "{response:#}");
        assert!(stats["assemblyTimeMs"].as_f64().expect("a time") > 0.0 && stats["cacheHitRate"].is_number());
    }
}

#[testkit::test]
async fn identity_stays_in_the_prompt_under_a_long_message(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = server_with(&db, &model, |_| {}).await;
    let user = User::new();
    remember(&db, &user).await;
    let conversation = create_conversation(&node, &user).await;
    let long = "word ".repeat(30_000);
    node.post(&user, CHAT_PATH, chat_body(conversation, &long)).await.expect_status(200);
    let system = model.requests()[0]["messages"][0]["content"].as_str().expect("text").to_owned();
    assert!(system.contains("Is a glazier.") && system.contains("Likes brevity."), "{system}");
    for max in [1_000, 29_000] {
        let mut body = chat_body(conversation, &long);
        body["maxContextTokens"] = json!(max);
        let response = node.post(&user, CHAT_PATH, body).await;
        assert!(response.body["message"].as_str().expect("text").contains("tokens"), "{:#}", response.body);
        response.expect_error(400, "INVALID_REQUEST");
    }
    assert_eq!(model.requests().len(), 1, "no request that exceeds its maximum is sent");
}

#[testkit::test]
async fn a_retried_question_is_in_the_prompt_once(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = server_with(&db, &model, |_| {}).await;
    let user = User::new();
    let conversation = create_conversation(&node, &user).await;
    model.enqueue([LlmBehavior::InvalidBody, LlmBehavior::InvalidBody]);
    for _ in 0..2 {
        node.post(&user, CHAT_PATH, chat_body(conversation, "Where is the harbour?"))
            .await
            .expect_error(503, "SERVICE_UNAVAILABLE");
    }
    node.post(&user, CHAT_PATH, chat_body(conversation, "Where is the harbour?")).await.expect_status(200);
    let last = model.requests().last().expect("a request").to_string();
    assert_eq!(last.matches("Where is the harbour?").count(), 1, "{last}");
}

#[testkit::test]
async fn roles_are_limited_to_their_models_and_tokens(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = server_with(&db, &model, |settings| {
        settings.set("CHAT_MODELS", "small,service_role=large");
        settings.set("CHAT_MAX_TOKENS", "100");
        settings.set("CHAT_MAX_CONTEXT_TOKENS", "4000");
    })
    .await;
    let user = User::new();
    let conversation = create_conversation(&node, &user).await;
    let with = |name: &str, value: Value| {
        let mut body = chat_body(conversation, "Hi");
        body[name] = value;
        body["userId"] = json!(user.id);
        body
    };
    for (name, value) in
        [("model", json!("large")), ("maxTokens", json!(101)), ("maxContextTokens", json!(4_001))]
    {
        let response = node.post(&user, CHAT_PATH, with(name, value)).await;
        assert_eq!(response.body["details"][0]["field"], name, "{:#}", response.body);
        response.expect_error(400, "INVALID_REQUEST");
    }
    for (name, value) in
        [("model", json!("small")), ("model", json!("default-model")), ("maxTokens", json!(100))]
    {
        node.post(&user, CHAT_PATH, with(name, value)).await.expect_status(200);
    }
    node.post(&service_user(), CHAT_PATH, with("model", json!("large"))).await.expect_status(200);
    node.post(&service_user(), CHAT_PATH, with("model", json!("other")))
        .await
        .expect_error(400, "INVALID_REQUEST");
}

#[testkit::test]
async fn a_failing_provider_is_replaced_by_its_fallback(db: Arc<TestDatabase>) {
    let (first, second) = (FakeLlm::start().await, FakeLlm::start().await);
    let further = json!([{"name": "second", "baseUrl": second.url(), "model": "other-model", "apiKey": "k"}]);
    let node = server_with(&db, &first, |settings| {
        settings.set("LLM_PROVIDERS", further.to_string());
        settings.set("LLM_FALLBACKS", "second");
    })
    .await;
    let user = User::new();
    let conversation = create_conversation(&node, &user).await;
    first.enqueue([LlmBehavior::Status(500); 3]);
    node.post(&user, CHAT_PATH, chat_body(conversation, "Hi")).await.expect_status(200);
    assert_eq!(second.requests()[0]["model"], "other-model");
    first.clear_queue();
    first.enqueue([LlmBehavior::Rejects("no"), LlmBehavior::NeverAnswers]);
    node.post(&user, CHAT_PATH, chat_body(conversation, "Hm")).await.expect_error(400, "INVALID_REQUEST");
    let mut body = chat_body(conversation, "Ho");
    body["stream"] = json!(true);
    let events = stream_events(&node, &user, body).await;
    assert_eq!(events.last().expect("an event")["type"], "done");
    assert_eq!(second.requests().len(), 2);
}

#[testkit::test]
async fn the_retry_after_of_the_provider_is_passed_on(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = server_with(&db, &model, |_| {}).await;
    let user = User::new();
    let conversation = create_conversation(&node, &user).await;
    for (seconds, expected) in [(120, "120"), (80_000, "3600")] {
        model.enqueue([LlmBehavior::RateLimitedFor(seconds)]);
        let response = node.post(&user, CHAT_PATH, chat_body(conversation, "Hi")).await;
        assert_eq!(response.header("retry-after"), Some(expected));
        response.expect_error(503, "SERVICE_UNAVAILABLE");
    }
    model.enqueue([LlmBehavior::NeverAnswers]);
    let mut body = chat_body(conversation, "Slow");
    body["idempotencyKey"] = json!("slow");
    let (one, two) =
        tokio::join!(node.post(&user, CHAT_PATH, body.clone()), node.post(&user, CHAT_PATH, body.clone()));
    let busy = [one, two].into_iter().find(|response| response.status == 409).expect("one of two is refused");
    assert!(busy.header("retry-after").is_some());
    busy.expect_error(409, "CONFLICT");
}

#[testkit::test]
async fn background_calls_can_be_disabled(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let background = FakeLlm::start().await;
    let further = json!([{"name": "cheap", "baseUrl": background.url(), "model": "cheap-model"}]);
    let user = User::new();
    db.execute(
        "insert into rollcall.atomic_chat_units (user_id, content)
           select $u, 'The greenhouse heating failed again, part ' || n from generate_series(1, 3) n",
        &[("u", user.id)],
    )
    .await;
    let path = format!("/api/v1/context/rollup/{}", user.id);
    let node = server_with(&db, &model, |settings| settings.set("CONTEXT_LLM_PROVIDER", "none")).await;
    node.post(&user, &path, json!({"force": true})).await.expect_status(200);
    assert!(model.requests().is_empty());
    db.execute(
        "insert into rollcall.atomic_chat_units (user_id, content) values ($u, 'The heating works again.')",
        &[("u", user.id)],
    )
    .await;
    let node = server_with(&db, &model, |settings| {
        settings.set("LLM_PROVIDERS", further.to_string());
        settings.set("CONTEXT_LLM_PROVIDER", "cheap");
        settings.set("CONTEXT_LLM_MODEL", "cheapest");
    })
    .await;
    node.post(&user, &path, json!({"force": true})).await.expect_status(200);
    assert!(model.requests().is_empty());
    assert_eq!(background.requests()[0]["model"], "cheapest");
}
