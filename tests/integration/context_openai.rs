//! The OpenAI-compatible API with the official SDK, and what the SDK does not show.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};
use testkit::{
    fake_llm::{FakeLlm, LlmBehavior},
    harness::{TestDatabase, TestServer, User},
};
use uuid::Uuid;

const PATH: &str = "/v1/chat/completions";

async fn start(db: &TestDatabase, model: &FakeLlm) -> Arc<TestServer> {
    let url = model.url();
    db.start_server_with(|settings| {
        settings.set("LLM_BASE_URL", url);
        settings.set("LLM_MODEL", "default-model");
        settings.set("LLM_TIMEOUT", "2s");
        settings.set("CHAT_REQUESTS_PER_MINUTE", "0");
        // Summaries of the conversation would take answers that are meant for the SDK.
        settings.set("CONTEXT_LLM_PROVIDER", "none");
    })
    .await
}

#[testkit::test]
async fn the_official_sdk_runs_unmodified(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = start(&db, &model).await;
    let user = User::new();
    let made =
        node.post(&user, "/api/conversations", json!({"participant_ids": []})).await.expect_status(201);
    let conversation: Uuid = made["id"].as_str().expect("an id").parse().expect("a UUID");
    // In the order of the calls of the script.
    model.enqueue([
        LlmBehavior::AnswersWith("Hello."),
        LlmBehavior::Answers { words: 4 },
        LlmBehavior::Answers { words: 2 },
        LlmBehavior::CallsTool,
        LlmBehavior::CallsTool,
        LlmBehavior::AnswersWith("It rains."),
        LlmBehavior::Rejects("temperature is too high"),
    ]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = tokio::process::Command::new("node")
        .arg(root.join("tests/clients/openai.mjs"))
        .env("OPENAI_MODULE", root.join("target/tools/openai/node_modules/openai/index.mjs"))
        .env("OPENAI_BASE_URL", format!("http://{}/v1", node.address))
        .env("OPENAI_API_KEY", &user.token)
        .env("CONVERSATION_ID", conversation.to_string())
        .output()
        .await
        .expect("node runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{errors}", String::from_utf8_lossy(&output.stdout));
    let saved = "select count(*) from rollcall.messages where conversation_id = $1 and state = 'complete'
        and role = 'assistant'";
    let count: i64 = db.query_row(saved, &[&conversation]).await.get(0);
    assert_eq!(count, 6);
    let request = &model.requests()[3];
    assert_eq!(request["tools"][0]["function"]["name"], "weather");
    assert_eq!(request["metadata"], Value::Null, "the conversation is not for the provider");
}

#[testkit::test]
async fn without_a_conversation_the_user_is_known_and_nothing_is_saved(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = start(&db, &model).await;
    let user = User::new();
    db.execute(
        "insert into rollcall.memories (user_id, content, category, importance)
           values ($u, 'Is a glazier.', 'identity', 0.9)",
        &[("u", user.id)],
    )
    .await;
    let body = json!({"model": "default-model", "messages": [{"role": "user", "content": "What do I do?"}]});
    let response = node.post(&user, PATH, body).await.expect_status(200);
    assert_eq!(response["object"], "chat.completion");
    let system = model.requests()[0]["messages"][0]["content"].as_str().expect("text").to_owned();
    assert!(system.contains("Is a glazier."), "{system}");
    let count: i64 = db.query_row("select count(*) from rollcall.messages", &[]).await.get(0);
    assert_eq!(count, 0);
}

#[testkit::test]
async fn errors_have_the_format_of_openai(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = start(&db, &model).await;
    let user = User::new();
    let message = json!([{"role": "user", "content": "Hi"}]);
    let cases = [
        (json!({}), 400, "messages"),
        (json!({"model": "m", "messages": message, "foo": 1}), 400, "foo"),
        (json!({"model": "m", "messages": [{"role": "robot", "content": "x"}]}), 400, "messages[0].role"),
        (
            json!({"model": "m", "messages": message, "metadata": {"conversation_id": "x"}}),
            400,
            "metadata.conversation_id",
        ),
        (json!({"model": "m", "messages": message, "max_tokens": 0}), 400, "max_tokens"),
    ];
    for (body, status, param) in cases {
        let response = node.post(&user, PATH, body).await;
        assert_eq!(response.status.as_u16(), status, "{:#}", response.body);
        let error = &response.body["error"];
        assert_eq!(
            (&error["param"], &error["type"]),
            (&json!(param), &json!("invalid_request_error")),
            "{error:#}"
        );
        assert!(error["message"].is_string() && error["code"].is_string(), "{error:#}");
    }
    model.enqueue([LlmBehavior::RateLimitedFor(120)]);
    let response = node.post(&user, PATH, json!({"model": "default-model", "messages": message})).await;
    assert_eq!((response.status.as_u16(), response.header("retry-after")), (503, Some("120")));
    assert_eq!(response.body["error"]["type"], "server_error");
    let stranger = User { id: user.id, token: "x.y.z".into() };
    let response = node.post(&stranger, PATH, json!({})).await;
    assert_eq!(response.status.as_u16(), 401);
    assert_eq!(response.body["error"]["code"], "invalid_api_key");
}
