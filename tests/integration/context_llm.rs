//! Background work with a model, and its fallback when the model fails.

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::{
    fake_llm::{FakeLlm, LlmBehavior},
    harness::{TestDatabase, TestServer, User},
};
use uuid::Uuid;

async fn server_with_llm(db: &TestDatabase, model: &FakeLlm) -> Arc<TestServer> {
    let url = model.url();
    db.start_server_with(|settings| {
        settings.set("LLM_BASE_URL", url);
        settings.set("LLM_MODEL", "default-model");
        settings.set("LLM_TIMEOUT", "1s");
        settings.set("CONTEXT_REQUESTS_PER_MINUTE", "0");
    })
    .await
}

/// Returns the content of the conversation's bundle once it is ready.
async fn conversation_summary(db: &TestDatabase, conversation: Uuid) -> String {
    const READY: &str = "select count(*) = 1 from rollcall.context_bundles b
        where b.conversation_id = $c and rollcall_internal.is_fresh(b)";
    db.wait_until("the bundle is ready", READY, &[("c", conversation)]).await;
    const CONTENT: &str = "select content from rollcall.context_bundles where conversation_id = $1";
    db.query_row(CONTENT, &[&conversation]).await.get(0)
}

#[testkit::test]
async fn the_model_summarizes_long_conversations_with_a_local_fallback(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let (user, conversation) = (User::new(), Uuid::new_v4());
    db
        .execute(
            "insert into rollcall.conversations (id, title, created_by) values ($c, 'The table', $u);
             insert into rollcall.conversation_participants (conversation_id, user_id) values ($c, $u);
             insert into rollcall.presence_devices (user_id, device_id, active_conversation_id, local_time) values ($u, 'web', $c, '14:30');
             insert into rollcall.messages (conversation_id, user_id, content)
               select $c, $u, 'We spoke of the table, part ' || n || '.' from generate_series(1, 7) n;
             insert into rollcall.messages (conversation_id, user_id, content) values
               ($c, $u, 'We decided to build the table from oak.'), ($c, $u, 'Which varnish should we take?')",
            &[("u", user.id), ("c", conversation)],
        )
        .await;
    model.enqueue([LlmBehavior::AnswersWith("### What happened\n- A table is planned.\n\n### Decisions\n- Oak.\n\n### Open questions\n- The varnish."); 4]);
    let node = server_with_llm(&db, &model).await;
    let warm_up = format!("/api/v1/context/warmup/{}", user.id);
    node.post(&user, &warm_up, json!({})).await.expect_status(200);
    let text = conversation_summary(&db, conversation).await;
    assert!(
        text.contains("A table is planned.") && text.contains("### Open questions\n- The varnish."),
        "{text}"
    );
    model.clear_queue();
    let request = model.requests()[0].to_string();
    assert!(
        request.contains("decided to build the table from oak"),
        "the request contains the messages: {request}"
    );

    // Whatever the failure, the bundle is created from the messages and nothing else.
    for behavior in [
        LlmBehavior::Status(429),
        LlmBehavior::InvalidBody,
        LlmBehavior::NeverAnswers,
        LlmBehavior::Status(500),
    ] {
        model.enqueue([behavior; 12]);
        db
            .execute(
                "insert into rollcall.messages (conversation_id, user_id, content) values ($c, $u, 'One more thing.')",
                &[("u", user.id), ("c", conversation)],
            )
            .await;
        let text = conversation_summary(&db, conversation).await;
        for part in [
            "### Decisions\n- We decided to build the table from oak.",
            "### Open questions\n- Which varnish should we take?",
        ] {
            assert!(text.contains(part), "{behavior:?}: {text}");
        }
        assert!(!text.contains("A table is planned."), "{behavior:?}: {text}");
        model.clear_queue();
    }
}

/// Creates a user with ten units on one subject, with two names.
async fn seed_user(db: &TestDatabase) -> User {
    let user = User::new();
    db
        .execute(
            "insert into rollcall.atomic_chat_units (user_id, content, created_at)
             select $u, case when n % 2 = 0 then 'The greenhouse heating failed again at Verdant, said Mara Lind.'
               else 'I asked Mara Lind about the greenhouse heating at Verdant.' end, now() - n * interval '1 hour'
             from generate_series(1, 10) n",
            &[("u", user.id)],
        )
        .await;
    user
}

#[testkit::test]
async fn roll_up_uses_model_hints_only_if_the_text_supports_them(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let node = server_with_llm(&db, &model).await;
    let roll_up = async |user: &User| -> Value {
        let path = format!("/api/v1/context/rollup/{}", user.id);
        node.post(user, &path, json!({})).await.expect_status(200)["data"].clone()
    };
    const ENTITIES: &str = "select coalesce(array_agg(name || ' ' || entity_type order by name), '{}')
        from rollcall.entity_profiles where user_id = $1";
    let hinted = seed_user(&db).await;
    model.enqueue([LlmBehavior::AnswersWith(
        "Here: {\"topics\": [\"greenhouse heating\", \"quantum gravity\"], \"entities\": [
          {\"name\": \"Verdant\", \"type\": \"project\"}, {\"name\": \"Mara Lind\", \"type\": \"person\"},
          {\"name\": \"Napoleon\", \"type\": \"person\"}]}",
    )]);
    assert_eq!(roll_up(&hinted).await["acusProcessed"], json!(10));
    let entities: Vec<String> = db.query_row(ENTITIES, &[&hinted.id]).await.get(0);
    assert_eq!(
        entities,
        ["Mara Lind person", "Verdant project"],
        "the model's type is used; Napoleon is in no unit"
    );
    let made_up =
        "select count(*) filter (where label ~* 'gravity'), count(*) filter (where label ~* 'greenhouse')
        from rollcall.topic_profiles where user_id = $1";
    let topics = db.query_row(made_up, &[&hinted.id]).await;
    assert_eq!((topics.get::<_, i64>(0), topics.get::<_, i64>(1) > 0), (0, true));

    for behavior in [
        LlmBehavior::InvalidBody,
        LlmBehavior::Status(429),
        LlmBehavior::NeverAnswers,
        LlmBehavior::AnswersWith("I would rather not."),
    ] {
        let user = seed_user(&db).await;
        model.enqueue([behavior; 3]);
        let done = roll_up(&user).await;
        assert_eq!(done["acusProcessed"], json!(10), "{behavior:?}: {done}");
        let entities: Vec<String> = db.query_row(ENTITIES, &[&user.id]).await.get(0);
        assert!(entities.iter().any(|name| name.starts_with("Mara Lind ")), "{behavior:?}: {entities:?}");
        model.clear_queue();
    }
}
