//! Semantic retrieval: with pgvector where it is available, by words otherwise.
//!
//! `tests/run meaning` runs these tests against a PostgreSQL with pgvector; the usual run may have none.

use std::sync::Arc;

use serde_json::Value;
use testkit::{
    cluster::connect,
    fake_llm::{EmbeddingBehavior, FakeLlm},
    harness::{TestDatabase, TestServer, User},
};
use uuid::Uuid;

/// Returns whether pgvector is available, and creates the extension as an operator would.
async fn has_pgvector(db: &TestDatabase) -> bool {
    let admin = connect(&db.admin_url()).await;
    const AVAILABLE: &str = "select exists (select from pg_available_extensions where name = 'vector')";
    let available = admin.query_one(AVAILABLE, &[]).await.expect("answers").get(0);
    if available {
        admin.batch_execute("create extension vector with schema public").await.expect("can be created");
    }
    available
}

async fn server_with_embeddings(db: &TestDatabase, model: &FakeLlm) -> Arc<TestServer> {
    let url = model.url();
    db.start_server_with(|settings| {
        settings.set("EMBEDDINGS_BASE_URL", url);
        settings.set("EMBEDDINGS_DIMENSIONS", "4");
        settings.set("LLM_TIMEOUT", "1s");
        settings.set("CONTEXT_REQUESTS_PER_MINUTE", "0");
    })
    .await
}

/// Creates a user with a conversation, two units and a memory; none contains the word "car".
async fn seed_user(db: &TestDatabase) -> (User, Uuid) {
    let (user, conversation) = (User::new(), Uuid::new_v4());
    db
        .execute(
            "insert into rollcall.conversations (id, created_by) values ($c, $u);
             insert into rollcall.conversation_participants (conversation_id, user_id) values ($c, $u);
             insert into rollcall.atomic_chat_units (id, user_id, content) values ($c, $u, 'The automobile needs new tyres.');
             insert into rollcall.atomic_chat_units (user_id, content) values ($u, 'Bake the loaf for an hour.');
             insert into rollcall.memories (user_id, content) values ($u, 'Owns an old vehicle.')",
            &[("u", user.id), ("c", conversation)],
        )
        .await;
    (user, conversation)
}

/// Returns what is retrieved for a message in addition to the bundles.
async fn retrieved_context(node: &TestServer, user: &User, conversation: Uuid, message: &str) -> String {
    let path = format!("/api/v1/ai/context/{conversation}?message={}", message.replace(' ', "+"));
    let shown: Value = node.get(user, &path).await.expect_status(200);
    let layers = shown["data"]["layers"].as_array().expect("layers").iter();
    let found = layers.filter(|layer| layer["layer"] == "L5").flat_map(|layer| layer["sections"].as_array());
    found.flatten().map(|section| section["content"].as_str().unwrap_or_default().to_owned()).collect()
}

const ALL_HAVE_VECTORS: &str =
    "select count(*) filter (where vector is null) = 0 and count(*) > 0 from rollcall_internal.vectors";

#[testkit::test]
async fn retrieval_uses_vectors_with_pgvector_and_words_without(db: Arc<TestDatabase>) {
    let can_compare = has_pgvector(&db).await;
    let model = FakeLlm::start().await;
    let (user, conversation) = seed_user(&db).await;
    let node = server_with_embeddings(&db, &model).await;
    let by_word = retrieved_context(&node, &user, conversation, "automobile tyres").await;
    assert_eq!(by_word.matches("automobile").count(), 1, "{by_word}");
    if !can_compare {
        let nothing = retrieved_context(&node, &user, conversation, "my car").await;
        assert_eq!(nothing, "", "only words are used");
        assert!(
            db.query_row("select to_regclass('rollcall_internal.vectors') is null", &[])
                .await
                .get::<_, bool>(0)
        );
        return;
    }

    db.wait_until(
        "the vector table exists",
        "select to_regclass('rollcall_internal.vectors') is not null",
        &[],
    )
    .await;
    db.wait_until("all have a vector", ALL_HAVE_VECTORS, &[]).await;
    let by_meaning = retrieved_context(&node, &user, conversation, "my car").await;
    assert!(by_meaning.contains("automobile") && by_meaning.contains("vehicle"), "{by_meaning}");
    assert!(!by_meaning.contains("loaf"), "{by_meaning}");
    let both = retrieved_context(&node, &user, conversation, "automobile tyres").await;
    assert_eq!(
        (both.matches("automobile").count(), both.contains("vehicle")),
        (1, true),
        "by rank, once: {both}"
    );

    // Other users do not find it.
    let (stranger, elsewhere) = (User::new(), Uuid::new_v4());
    db.execute(
        "insert into rollcall.conversations (id, created_by) values ($c, $u);
             insert into rollcall.conversation_participants (conversation_id, user_id) values ($c, $u)",
        &[("u", stranger.id), ("c", elsewhere)],
    )
    .await;
    assert_eq!(retrieved_context(&node, &stranger, elsewhere, "my car").await, "");

    // A changed text is found by its new content, and a deleted one is not found, regardless of who changes it.
    db.execute(
        "update rollcall.atomic_chat_units set content = 'Feed the sourdough daily.' where id = $c;
             delete from rollcall.memories where user_id = $u",
        &[("u", user.id), ("c", conversation)],
    )
    .await;
    assert_eq!(retrieved_context(&node, &user, conversation, "my car").await, "");
    db.wait_until("all have a vector", ALL_HAVE_VECTORS, &[]).await;
    let bread = retrieved_context(&node, &user, conversation, "bread").await;
    assert!(bread.contains("sourdough") && bread.contains("loaf"), "{bread}");
    let left = db.query_row("select count(*), max(version) from rollcall_internal.vectors", &[]).await;
    assert_eq!((left.get::<_, i64>(0), left.get::<_, i64>(1)), (2, 2));
}

#[testkit::test]
async fn retrieval_falls_back_to_words_when_the_embeddings_api_fails(db: Arc<TestDatabase>) {
    let can_compare = has_pgvector(&db).await;
    let model = FakeLlm::start().await;
    let (user, conversation) = seed_user(&db).await;
    for behavior in [EmbeddingBehavior::WrongLength, EmbeddingBehavior::Unavailable] {
        model.set_embedding_behavior(behavior);
        let node = server_with_embeddings(&db, &model).await;
        if can_compare {
            let tried = "select exists (select from rollcall_internal.vectors where attempts > 0)";
            db.wait_until(
                "vectors are requested",
                "select to_regclass('rollcall_internal.vectors') is not null",
                &[],
            )
            .await;
            db.wait_until("it was tried", tried, &[]).await;
            let none = db
                .query_row("select count(*) from rollcall_internal.vectors where vector is not null", &[])
                .await;
            assert_eq!(none.get::<_, i64>(0), 0, "{behavior:?}: no vector is stored");
        }
        assert_eq!(retrieved_context(&node, &user, conversation, "my car").await, "", "{behavior:?}");
        assert!(
            retrieved_context(&node, &user, conversation, "automobile tyres").await.contains("automobile"),
            "{behavior:?}"
        );
    }
}
