//! Chats: each message is saved once, whatever happens to client, model and engines.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use serde_json::{Value, json};
use testkit::{
    fake_llm::{FakeLlm, LlmBehavior},
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT, service_user},
};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

const CHAT_PATH: &str = "/api/v1/ai/chat";

async fn server_with_llm(db: &TestDatabase, model: &FakeLlm) -> Arc<TestServer> {
    let url = model.url();
    db.start_server_with(|settings| {
        settings.set("LLM_BASE_URL", url);
        settings.set("LLM_MODEL", "default-model");
        settings.set("LLM_TIMEOUT", "1s");
        settings.set("CHAT_REQUESTS_PER_MINUTE", "0");
    })
    .await
}

async fn server_with_simple_engine(db: &TestDatabase) -> Arc<TestServer> {
    db.start_server_with(|settings| settings.set("LLM_PROVIDER", "echo")).await
}

async fn create_conversation(node: &TestServer, user: &User) -> Uuid {
    let made = node.post(user, "/api/conversations", json!({"participant_ids": []})).await.expect_status(201);
    made["id"].as_str().expect("an id").parse().expect("a UUID")
}

fn chat_body(conversation: Uuid, message: &str) -> Value {
    json!({"conversationId": conversation, "messages": [{"role": "user", "content": message}]})
}

/// Returns role, state, content and token count of a conversation's messages.
async fn saved_messages(db: &TestDatabase, conversation: Uuid) -> Vec<(String, String, String, Option<i32>)> {
    const SAVED: &str = "select role::text, state::text, content, token_count from rollcall.messages
        where conversation_id = $1 order by message_index";
    let rows = db.sql.query(SAVED, &[&conversation]).await;
    rows.expect("messages").iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

async fn message_states(db: &TestDatabase, conversation: Uuid) -> Vec<String> {
    saved_messages(db, conversation)
        .await
        .into_iter()
        .map(|(role, state, ..)| format!("{role} {state}"))
        .collect()
}

async fn wait_for_states(db: &TestDatabase, conversation: Uuid, expected: &[&str]) {
    let started = Instant::now();
    while message_states(db, conversation).await != expected {
        assert!(started.elapsed() < WAIT_TIMEOUT, "{:?}", saved_messages(db, conversation).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[testkit::test]
async fn a_chat_is_answered_and_saved_once(db: Arc<TestDatabase>) {
    let node = server_with_simple_engine(&db).await;
    let user = User::new();
    let conversation = create_conversation(&node, &user).await;
    db.execute("insert into rollcall.memories (user_id, content, category, importance) values ($u, 'Is a glazier.', 'identity', 0.9)", &[("u", user.id)]).await;
    let mut body = chat_body(conversation, "How do I cut glass?");
    body["userId"] = json!(user.id);
    let response = node.post(&user, CHAT_PATH, body).await.expect_status(200);
    let data = &response["data"];
    assert_eq!((&data["engine"], &data["model"]), (&json!("dynamic"), &json!("echo")));
    let answer_text = data["content"].as_str().expect("text");
    assert!(
        answer_text.contains("How do I cut glass?") && answer_text.contains("About This User"),
        "{answer_text}"
    );
    let usage = &data["usage"];
    let sum = usage["promptTokens"].as_u64().expect("a count")
        + usage["completionTokens"].as_u64().expect("a count");
    assert_eq!(usage["totalTokens"], json!(sum));
    assert!(response["metadata"]["assemblyTimeMs"].as_f64().expect("a time") > 0.0);
    // No bundle exists yet.
    assert_eq!(response["metadata"]["cacheHitRate"], json!(0.0));
    assert_eq!(data["contextStats"]["bundlesWanted"], json!(3));

    let rows = saved_messages(&db, conversation).await;
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].0.as_str(), rows[0].2.as_str()), ("user", "How do I cut glass?"));
    assert_eq!(
        (rows[1].0.as_str(), rows[1].1.as_str(), rows[1].2.as_str()),
        ("assistant", "complete", answer_text)
    );
    assert!(rows.iter().all(|row| row.3.is_some_and(|tokens| tokens > 0)));
    let moved = "select last_message_at is not null from rollcall.conversations where id = $c";
    db.wait_until("the conversation was updated", moved, &[("c", conversation)]).await;

    // Identity and preferences are stored now; the conversation has changed since.
    db.wait_until(
        "stored",
        "select count(*) >= 2 from rollcall.context_bundles where user_id = $u and not dirty",
        &[("u", user.id)],
    )
    .await;
    let again = node
        .post(&user, CHAT_PATH, chat_body(conversation, "And how do I polish it?"))
        .await
        .expect_status(200);
    assert!(again["metadata"]["cacheHitRate"].as_f64().expect("a rate") >= 0.6, "{again:#}");
    assert_eq!(again["data"]["contextStats"]["historyMessages"], json!(2));
}

#[testkit::test]
async fn an_idempotency_key_answers_once_and_rejects_another_message(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = server_with_llm(&db, &model).await;
    let user = User::new();
    let conversation = create_conversation(&node, &user).await;
    let body = |message: &str| {
        let mut body = chat_body(conversation, message);
        body["idempotencyKey"] = json!("one");
        body
    };
    let first = node.post(&user, CHAT_PATH, body("Hello")).await.expect_status(200);
    let second = node.post(&user, CHAT_PATH, body("Hello")).await.expect_status(200);
    assert_eq!(first["data"]["content"], second["data"]["content"]);
    assert_eq!(
        (&first["data"]["messageId"], &second["data"]["replayed"]),
        (&second["data"]["messageId"], &json!(true))
    );
    assert_eq!(second["data"]["usage"]["totalTokens"], json!(18));
    node.post(&user, CHAT_PATH, body("Something else")).await.expect_error(422, "UNPROCESSABLE");
    assert_eq!(model.requests().len(), 1);
    assert_eq!(saved_messages(&db, conversation).await.len(), 2);

    // Concurrent requests: one is answered, the others get a conflict.
    model.enqueue([LlmBehavior::Answers { words: 3 }; 1]);
    let racing = |_| {
        let mut body = chat_body(conversation, "Race");
        body["idempotencyKey"] = json!("race");
        node.post(&user, CHAT_PATH, body)
    };
    let responses = futures_util::future::join_all((0..6).map(racing)).await;
    assert!(responses.iter().all(|response| [200, 409].contains(&response.status.as_u16())));
    assert!(responses.iter().any(|response| response.status == 200));
    assert_eq!(model.requests().len(), 2);
    assert_eq!(
        message_states(&db, conversation).await,
        ["user complete", "assistant complete", "user complete", "assistant complete"]
    );
}

#[testkit::test]
async fn the_simple_engine_answers_on_request_and_as_fallback(db: Arc<TestDatabase>) {
    let node = server_with_simple_engine(&db).await;
    let user = User::new();
    let conversation = create_conversation(&node, &user).await;
    let mut body = chat_body(conversation, "Hi there");
    body["useDynamicContext"] = json!(false);
    assert_eq!(
        node.post(&user, CHAT_PATH, body.clone()).await.expect_status(200)["data"]["engine"],
        "legacy"
    );
    let by_header = |value: &'static str, body: Value| {
        let request = reqwest::Client::new().post(format!("http://{}{CHAT_PATH}", node.address));
        let request = request.bearer_auth(&user.token).header("x-use-dynamic-context", value);
        testkit::client::send(request.json(&body))
    };
    assert_eq!(
        by_header("false", chat_body(conversation, "Hi")).await.expect_status(200)["data"]["engine"],
        "legacy"
    );
    body["useDynamicContext"] = json!(true);
    assert_eq!(
        by_header("false", body).await.expect_status(200)["data"]["engine"],
        "dynamic",
        "the body is stronger"
    );
    by_header("perhaps", chat_body(conversation, "Hi")).await.expect_error(400, "INVALID_REQUEST");

    db.execute("alter function rollcall.detect rename to detect_no_more", &[]).await;
    let response =
        node.post(&user, CHAT_PATH, chat_body(conversation, "Still there?")).await.expect_status(200);
    assert_eq!(
        (&response["data"]["engine"], &response["data"]["contextStats"]["fellBack"]),
        (&json!("legacy"), &json!(true))
    );
    let strict = db
        .start_server_with(|settings| {
            settings.set("LLM_PROVIDER", "echo");
            settings.set("CONTEXT_FALLBACK", "false");
        })
        .await;
    strict
        .post(&user, CHAT_PATH, chat_body(conversation, "Hm"))
        .await
        .expect_error(503, "CONTEXT_ENGINE_ERROR");
}

#[testkit::test]
async fn the_user_message_is_saved_on_every_failure(db: Arc<TestDatabase>) {
    let user = User::new();
    let bare = db.start_server().await;
    let one = create_conversation(&bare, &user).await;
    bare.post(&user, CHAT_PATH, chat_body(one, "Anybody?")).await.expect_error(503, "SERVICE_UNAVAILABLE");
    wait_for_states(&db, one, &["user complete"]).await;

    let node = server_with_simple_engine(&db).await;
    db.execute(
        "alter function rollcall.detect rename to detect_no_more;
             alter function rollcall.assemble_simple rename to assemble_no_more",
        &[],
    )
    .await;
    let two = create_conversation(&node, &user).await;
    node.post(&user, CHAT_PATH, chat_body(two, "Anybody?")).await.expect_error(500, "LEGACY_ENGINE_ERROR");
    wait_for_states(&db, two, &["user complete"]).await;
}

/// Returns all events of a stream.
async fn stream_events(node: &TestServer, user: &User, body: Value) -> Vec<Value> {
    let request = reqwest::Client::new().post(format!("http://{}{CHAT_PATH}", node.address));
    let response = request.bearer_auth(&user.token).json(&body).send().await.expect("a response");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.expect("the whole stream");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data))).collect()
}

fn streaming_body(conversation: Uuid, message: &str) -> Value {
    let mut body = chat_body(conversation, message);
    body["stream"] = json!(true);
    body
}

fn text_of(events: &[Value]) -> String {
    let deltas = events.iter().filter(|event| event["type"] == "delta");
    deltas.map(|event| event["content"].as_str().expect("text")).collect()
}

#[testkit::test]
async fn a_stream_arrives_in_chunks_and_is_saved(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = server_with_llm(&db, &model).await;
    let user = User::new();
    let conversation = create_conversation(&node, &user).await;
    model.enqueue([LlmBehavior::Answers { words: 20 }]);
    let mut body = streaming_body(conversation, "Tell me");
    body["idempotencyKey"] = json!("k");
    let received = stream_events(&node, &user, body.clone()).await;
    assert_eq!((&received[0]["type"], &received[0]["engine"]), (&json!("context"), &json!("dynamic")));
    assert_eq!(received.iter().filter(|event| event["type"] == "delta").count(), 20);
    let done = &received[received.len() - 2];
    assert_eq!((&done["type"], &done["usage"]["totalTokens"]), (&json!("done"), &json!(18)));
    assert_eq!(done["content"].as_str(), Some(text_of(&received).as_str()));
    assert_eq!(received.last(), Some(&json!("[DONE]")));
    assert_eq!(saved_messages(&db, conversation).await[1].2, text_of(&received));
    let request = &model.requests()[0];
    assert_eq!((&request["model"], &request["stream"]), (&json!("default-model"), &json!(true)));

    let again = stream_events(&node, &user, body).await;
    assert_eq!(text_of(&again), text_of(&received), "a repeated request gets the same answer");
    assert_eq!(model.requests().len(), 1);
}

#[testkit::test]
async fn a_broken_stream_is_saved_as_partial(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = server_with_llm(&db, &model).await;
    let user = User::new();
    let conversation = create_conversation(&node, &user).await;
    model.enqueue([LlmBehavior::BreaksOff { after: 4 }]);
    let received = stream_events(&node, &user, streaming_body(conversation, "Tell me")).await;
    assert_eq!(text_of(&received), "word0 word1 word2 word3 ");
    let error = &received[received.len() - 2];
    assert_eq!((&error["type"], &error["error"]), (&json!("error"), &json!("SERVICE_UNAVAILABLE")));
    wait_for_states(&db, conversation, &["user complete", "assistant partial"]).await;
    assert_eq!(saved_messages(&db, conversation).await[1].2, "word0 word1 word2 word3 ");
}

#[testkit::test]
async fn a_disconnect_ends_the_call_and_keeps_the_partial_text(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = server_with_llm(&db, &model).await;
    let user = User::new();
    let conversation = create_conversation(&node, &user).await;
    model.enqueue([LlmBehavior::Endless { every_ms: 20 }]);
    let request = reqwest::Client::new().post(format!("http://{}{CHAT_PATH}", node.address));
    let response = request
        .bearer_auth(&user.token)
        .json(&streaming_body(conversation, "Go on"))
        .send()
        .await
        .expect("a response");
    let mut stream = response.bytes_stream();
    let mut received = String::new();
    while received.matches("\"delta\"").count() < 3 {
        let bytes =
            timeout(WAIT_TIMEOUT, stream.next()).await.expect("in time").expect("more").expect("bytes");
        received += &String::from_utf8_lossy(&bytes);
    }
    assert_eq!(model.open_streams(), 1);
    drop(stream);
    let started = Instant::now();
    while model.open_streams() > 0 {
        assert!(started.elapsed() < WAIT_TIMEOUT, "the call to the model is still open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    wait_for_states(&db, conversation, &["user complete", "assistant partial"]).await;
    assert!(saved_messages(&db, conversation).await[1].2.starts_with("word0 word1 word2 "));
}

#[testkit::test]
async fn transient_errors_are_retried_then_return_503(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = server_with_llm(&db, &model).await;
    let user = User::new();
    let one = create_conversation(&node, &user).await;
    model.enqueue([LlmBehavior::RateLimited, LlmBehavior::Status(502), LlmBehavior::Answers { words: 2 }]);
    let response = node.post(&user, CHAT_PATH, chat_body(one, "Patience")).await.expect_status(200);
    assert_eq!(
        (&response["data"]["content"], &response["data"]["model"]),
        (&json!("word0 word1"), &json!("model-of-our-own"))
    );
    assert_eq!(model.requests().len(), 3);

    let two = create_conversation(&node, &user).await;
    for behavior in [LlmBehavior::NeverAnswers, LlmBehavior::InvalidBody] {
        model.enqueue([behavior]);
        let response = node.post(&user, CHAT_PATH, chat_body(two, "Hello?")).await;
        assert!(response.header("retry-after").is_some());
        response.expect_error(503, "SERVICE_UNAVAILABLE");
    }
    wait_for_states(&db, two, &["user complete", "user complete"]).await;
    // A fault of the request, which does not count as a provider failure.
    model.enqueue([LlmBehavior::Status(400)]);
    node.post(&user, CHAT_PATH, chat_body(two, "Odd")).await.expect_error(400, "INVALID_REQUEST");
}

#[testkit::test]
async fn repeated_provider_failures_open_the_circuit_breaker(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = server_with_llm(&db, &model).await;
    let user = User::new();
    let conversation = create_conversation(&node, &user).await;
    model.enqueue([LlmBehavior::Status(500); 6]);
    for _ in 0..3 {
        node.post(&user, CHAT_PATH, chat_body(conversation, "Hello?"))
            .await
            .expect_error(503, "SERVICE_UNAVAILABLE");
    }
    let request_count = model.requests().len();
    assert_eq!(request_count, 5, "five consecutive failures open the circuit breaker");
    node.post(&user, CHAT_PATH, chat_body(conversation, "Hello?"))
        .await
        .expect_error(503, "SERVICE_UNAVAILABLE");
    assert_eq!(model.requests().len(), request_count);
}

#[testkit::test]
async fn chats_check_the_caller_and_name_invalid_fields(db: Arc<TestDatabase>) {
    let node = server_with_simple_engine(&db).await;
    let [user, other] = [User::new(), User::new()];
    let conversation = create_conversation(&node, &user).await;
    let with = |name: &str, value: Value| {
        let mut body = chat_body(conversation, "Hi");
        body[name] = value;
        body
    };
    node.post(&user, CHAT_PATH, with("userId", json!(other.id))).await.expect_error(403, "FORBIDDEN");
    node.post(&other, CHAT_PATH, chat_body(conversation, "Hi")).await.expect_error(400, "INVALID_REFERENCE");
    node.post(&user, CHAT_PATH, chat_body(Uuid::new_v4(), "Hi")).await.expect_error(400, "INVALID_REFERENCE");
    node.post(&service_user(), CHAT_PATH, with("userId", json!(user.id))).await.expect_status(200);
    for (name, value, status) in [
        ("messages", json!([]), 400),
        ("messages", json!([{"role": "assistant", "content": "x"}]), 400),
        ("messages", json!([{"role": "user", "content": "  "}]), 400),
        ("messages", json!([{"role": "robot", "content": "x"}]), 422),
        ("temperature", json!(3), 400),
        ("maxTokens", json!(0), 400),
        ("maxContextTokens", json!(10), 400),
        ("provider", json!("nobody"), 400),
        ("conversationId", json!("x"), 400),
        ("idempotencyKey", json!(""), 400),
    ] {
        let response = node.post(&user, CHAT_PATH, with(name, value.clone())).await;
        assert_eq!(response.status.as_u16(), status, "{name}: {value}: {:#}", response.body);
        assert!(
            response.body["details"][0]["field"].as_str().expect("a field").starts_with(name),
            "{:#}",
            response.body
        );
    }
    let rows = saved_messages(&db, conversation).await;
    assert_eq!(rows.len(), 2, "rejected requests save nothing");
}

#[testkit::test]
async fn chats_are_rate_limited_and_accept_a_megabyte(db: Arc<TestDatabase>) {
    let node = db
        .start_server_with(|settings| {
            settings.set("LLM_PROVIDER", "echo");
            settings.set("CHAT_REQUESTS_PER_MINUTE", "2");
        })
        .await;
    let user = User::new();
    let conversation = create_conversation(&node, &user).await;
    let long = "word ".repeat(60_000);
    node.post(&user, CHAT_PATH, chat_body(conversation, &long)).await.expect_status(200);
    node.post(&user, CHAT_PATH, chat_body(conversation, &"x".repeat(1_100_000)))
        .await
        .expect_error(413, "PAYLOAD_TOO_LARGE");
    node.post(&user, CHAT_PATH, chat_body(conversation, "two")).await.expect_status(200);
    let refused = node.post(&user, CHAT_PATH, chat_body(conversation, "three")).await;
    assert!(refused.header("retry-after").is_some() && refused.header("ratelimit-limit") == Some("2"));
    refused.expect_error(429, "RATE_LIMITED");
}

#[testkit::test]
async fn only_the_server_writes_assistant_messages(db: Arc<TestDatabase>) {
    let user = User::new();
    db.execute(
        "insert into rollcall.conversations (id, created_by) values ($u, $u);
             insert into rollcall.conversation_participants (conversation_id, user_id) values ($u, $u)",
        &[("u", user.id)],
    )
    .await;
    let sql = db.connect().await;
    let claims = json!({"sub": user.id, "role": "authenticated"}).to_string();
    sql.execute(
        "select set_config('role', 'authenticated', false), set_config('request.jwt.claims', $1, false)",
        &[&claims],
    )
    .await
    .expect("acts");
    let say = |role: &str| {
        format!(
            "insert into rollcall.messages (conversation_id, user_id, role, content) values ('{0}', '{0}', '{role}', 'x')",
            user.id
        )
    };
    sql.batch_execute(&say("user")).await.expect("users may write their own messages");
    let refused = sql.batch_execute(&say("assistant")).await.expect_err("not a model's");
    assert_eq!(refused.code().map(|code| code.code().to_owned()), Some("42501".into()));
}
