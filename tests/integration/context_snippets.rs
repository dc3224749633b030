//! The examples of docs/context.md run with each SDK, unmodified.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};
use testkit::{
    fake_llm::FakeLlm,
    harness::{TestDatabase, User},
};
use tokio::process::Command;

/// First line of an example, the folder of its packages, the name of its file, and the program that runs it.
const EXAMPLES: [(&str, &str, &str, &str); 4] = [
    ("// npm install openai", "target/tools/openai", "example.mjs", "node"),
    (
        "# pip install openai",
        "target/tools/openai-python",
        "example.py",
        "target/tools/openai-python/bin/python",
    ),
    ("// npm install ai @ai-sdk/openai-compatible zod", "target/tools/ai-sdk", "example.mjs", "node"),
    ("# curl", "target/tools", "example.sh", "bash"),
];

/// The code block that begins with a line.
fn block<'a>(page: &'a str, first_line: &str) -> &'a str {
    let start =
        page.find(&format!("\n{first_line}\n")).unwrap_or_else(|| panic!("no example {first_line:?}")) + 1;
    page[start..].split("\n```").next().expect("a block")
}

#[testkit::test(no_timeout)]
async fn the_examples_of_every_sdk_run_and_remember(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let url = model.url();
    let node = db
        .start_server_with(|settings| {
            settings.set("LLM_BASE_URL", url);
            settings.set("LLM_MODEL", "gpt-4o-mini");
            settings.set("CHAT_REQUESTS_PER_MINUTE", "0");
            settings.set("CONTEXT_LLM_PROVIDER", "none");
        })
        .await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/context.md")).expect("the page");
    let user = User::new();
    for (at, (first_line, folder, file, program)) in EXAMPLES.into_iter().enumerate() {
        let made =
            node.post(&user, "/api/conversations", json!({"participant_ids": []})).await.expect_status(201);
        let conversation = made["id"].as_str().expect("an ID").to_owned();
        // Beside the packages, where Node.js looks for them.
        let path = root.join(folder).join(format!("{}-{at}-{file}", std::process::id()));
        std::fs::write(&path, block(&page, first_line)).expect("written");
        let program = if program.contains('/') { root.join(program) } else { program.into() };
        let output = Command::new(program)
            .arg(&path)
            .env("ROLLCALL_URL", format!("http://{}", node.address))
            .env("TOKEN", &user.token)
            .env("CONVERSATION", &conversation)
            .output()
            .await;
        std::fs::remove_file(&path).expect("removed");
        let output = output.unwrap_or_else(|error| panic!("{first_line}: {error}; see .ci/install --test"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{first_line}: {}{errors}", String::from_utf8_lossy(&output.stdout));
        assert!(!output.stdout.is_empty(), "{first_line}: no answer");
        // The first example tells where the user lives; the others, in conversations of their own, know it.
        let request = model.requests().last().expect("a request").clone();
        let prompt = request["messages"].to_string();
        assert!(prompt.contains("I live in Quito."), "{first_line}: {prompt}");
        assert_eq!(request["metadata"], Value::Null, "the conversation is not for the provider");
        let learned = "select exists (select from rollcall.atomic_chat_units where user_id = $u)
            and not exists (select from rollcall_internal.messages_to_learn where user_id = $u)";
        db.wait_until("the message is learned", learned, &[("u", user.id)]).await;
    }
}
