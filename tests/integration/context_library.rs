//! Routes for what is known about a user: lists with pages and filters, changes, search, summaries, switches, forgetting.

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::harness::{TestDatabase, TestServer, User, service_user};
use uuid::Uuid;

async fn start(db: &TestDatabase) -> Arc<TestServer> {
    db.start_server_with(|settings| {
        settings.set("LLM_PROVIDER", "echo");
        settings.set("CHAT_REQUESTS_PER_MINUTE", "0");
        settings.set("MANAGE_REQUESTS_PER_MINUTE", "0");
    })
    .await
}

/// Each resource with a body to create it, a change, and what is malformed; without a body, the row is seeded.
fn resources() -> Vec<(&'static str, Option<Value>, Value, Value)> {
    vec![
        (
            "memories",
            Some(json!({"content": "Is a pilot.", "category": "identity", "importance": 0.9})),
            json!({"content": "Is a captain.", "isPinned": true}),
            json!({"content": "", "importance": 2}),
        ),
        (
            "instructions",
            Some(json!({"content": "Be brief."})),
            json!({"priority": 3}),
            json!({"content": ""}),
        ),
        ("personas", Some(json!({"name": "Pilot"})), json!({"description": "Knows."}), json!({"name": ""})),
        (
            "notebooks",
            Some(json!({"title": "Harbour"})),
            json!({"title": "Port"}),
            json!({"title": "x".repeat(256)}),
        ),
        (
            "units",
            Some(json!({"content": "The tide turns at six."})),
            json!({"quality": 0.9}),
            json!({"quality": -1}),
        ),
        ("topics", None, json!({"label": "Tides", "aliases": ["ebb"]}), json!({"label": ""})),
        ("entities", None, json!({"relationship": "friend"}), json!({"importance": 7})),
    ]
}

#[testkit::test]
async fn each_resource_is_created_listed_changed_and_deleted_by_its_owner_only(db: Arc<TestDatabase>) {
    let node = start(&db).await;
    let (user, stranger) = (User::new(), User::new());
    db.execute(
        "insert into rollcall.topic_profiles (user_id, slug, label) values ($u, 'tide', 'Tide');
         insert into rollcall.entity_profiles (user_id, slug, name) values ($u, 'mara', 'Mara')",
        &[("u", user.id)],
    )
    .await;
    for (name, body, change, malformed) in resources() {
        let path = format!("/api/v1/{name}");
        if let Some(body) = body {
            let made = node.post(&user, &path, body.clone()).await.expect_status(201);
            for (field, value) in body.as_object().expect("fields") {
                let same = match value.as_f64() {
                    Some(number) => (made[field].as_f64().expect("a number") - number).abs() < 1e-6,
                    None => made[field] == *value,
                };
                assert!(same, "{name}.{field}: {made}");
            }
            node.post(&user, &path, malformed.clone()).await.expect_error(400, "INVALID_REQUEST");
        }
        let listed = node.get(&user, &path).await.expect_status(200);
        assert_eq!(
            (listed["data"].as_array().map(Vec::len), &listed["nextCursor"]),
            (Some(1), &Value::Null),
            "{name}"
        );
        let one = format!("{path}/{}", listed["data"][0]["id"].as_str().expect("an id"));
        let changed = node.patch(&user, &one, change.clone()).await.expect_status(200);
        let mut expected = listed["data"][0].clone();
        for (field, value) in change.as_object().expect("fields") {
            expected[field] = value.clone();
        }
        for field in ["updatedAt", "quality"] {
            if !expected[field].is_null() {
                expected[field] = changed[field].clone();
            }
        }
        assert_eq!(changed, expected, "{name}: fields that are absent stay");
        node.patch(&user, &one, malformed).await.expect_error(400, "INVALID_REQUEST");
        // Strangers see nothing, and cannot tell an existing row from a missing one.
        assert_eq!(node.get(&stranger, &path).await.expect_status(200)["data"], json!([]), "{name}");
        node.patch(&stranger, &one, change.clone()).await.expect_error(404, "NOT_FOUND");
        node.delete(&stranger, &one).await.expect_error(404, "NOT_FOUND");
        node.get(&stranger, &format!("{path}?userId={}", user.id)).await.expect_error(403, "FORBIDDEN");
        let by_service = node.get(&service_user(), &format!("{path}?userId={}", user.id)).await;
        assert_eq!(by_service.expect_status(200)["data"].as_array().map(Vec::len), Some(1), "{name}");
        node.delete(&user, &one).await.expect_status(200);
        node.delete(&user, &one).await.expect_error(404, "NOT_FOUND");
        for query in ["limit=0", "limit=201", "cursor=x", "cursor=1_2", "cursor=99999999999999999999_x"] {
            node.get(&user, &format!("{path}?{query}")).await.expect_error(400, "INVALID_REQUEST");
        }
    }
}

#[testkit::test]
async fn pages_have_each_row_once_and_filters_select(db: Arc<TestDatabase>) {
    let node = start(&db).await;
    let user = User::new();
    db.execute(
        "insert into rollcall.notebooks (id, user_id, title) values ($u, $u, 'n');
         insert into rollcall.memories (user_id, content, category, is_active, notebook_id, created_at)
           select $u, 'Memory ' || n, case when n % 2 = 0 then 'preference' else 'general' end, n <> 3,
             case when n <= 4 then $u::uuid end, '2026-01-01'::timestamptz + n / 2 * interval '1 day'
           from generate_series(1, 25) n",
        &[("u", user.id)],
    )
    .await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = node.get(&user, &format!("/api/v1/memories?limit=7{cursor}")).await.expect_status(200);
        seen.extend(page["data"].as_array().expect("a list").iter().map(|it| it["content"].clone()));
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let mut distinct: Vec<String> = seen.iter().map(Value::to_string).collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!((seen.len(), distinct.len()), (25, 25));
    for (query, count) in [
        ("category=preference", 12),
        ("active=false", 1),
        (&format!("notebookId={}", user.id), 4),
        ("from=2026-01-12T00:00:00Z", 4),
        ("until=2026-01-02T00:00:00Z", 1),
        ("from=2026-01-02T00:00:00Z&until=2026-01-03T00:00:00Z&category=general", 1),
    ] {
        let page = node.get(&user, &format!("/api/v1/memories?{query}")).await.expect_status(200);
        assert_eq!(page["data"].as_array().map(Vec::len), Some(count), "{query}: {page}");
    }
    node.get(&user, "/api/v1/memories?from=yesterday").await.expect_error(400, "INVALID_REQUEST");
    // Another user's notebook cannot be used.
    let other = User::new();
    let body = json!({"content": "Mine.", "notebookId": user.id});
    let refused = node.post(&other, "/api/v1/memories", body).await;
    refused.expect_error(403, "FORBIDDEN");
}

#[testkit::test]
async fn search_messages_summary_and_switches(db: Arc<TestDatabase>) {
    let node = start(&db).await;
    let (user, stranger) = (User::new(), User::new());
    let made = node
        .post(&user, "/api/conversations", json!({"participant_ids": [], "title": "Port"}))
        .await
        .expect_status(201);
    let conversation = made["id"].as_str().expect("an id").to_owned();
    let notebook =
        node.post(&user, "/api/v1/notebooks", json!({"title": "Port"})).await.expect_status(201)["id"]
            .clone();
    let setting = json!({"conversationId": conversation, "learns": true, "notebookId": notebook});
    assert_eq!(node.put(&user, "/api/v1/memory/settings", setting.clone()).await.expect_status(200), setting);
    let body = json!({"conversationId": conversation, "messages": [{"role": "user", "content": "Our tugboat sinks slowly."}]});
    node.post(&user, "/api/v1/ai/chat", body).await.expect_status(200);
    db.wait_until(
        "the message is learned",
        "select exists (select from rollcall.atomic_chat_units where user_id = $u)",
        &[("u", user.id)],
    )
    .await;
    node.post(&user, "/api/v1/memories", json!({"content": "Owns a tugboat."})).await.expect_status(201);

    let hits = async |query: &str| -> Vec<String> {
        let found = node.get(&user, &format!("/api/v1/search?{query}")).await.expect_status(200);
        found["data"]
            .as_array()
            .expect("hits")
            .iter()
            .map(|hit| hit["content"].as_str().expect("text").to_owned())
            .collect()
    };
    let mut both = hits("q=tugboat").await;
    both.sort();
    assert_eq!(both, ["Our tugboat sinks slowly.", "Owns a tugboat."]);
    let notebook = notebook.as_str().expect("an id");
    let (unit, memory) = (["Our tugboat sinks slowly."], ["Owns a tugboat."]);
    assert_eq!(hits("q=tugboat&kind=memory").await, memory);
    assert_eq!(hits(&format!("q=tugboat&notebookId={notebook}")).await, unit);
    assert_eq!(hits(&format!("q=tugboat&conversationId={conversation}")).await, unit);
    assert_eq!(hits("q=tugboat&limit=1").await.len(), 1);
    assert!(hits("q=tugboat&until=2026-01-01T00:00:00Z").await.is_empty());
    assert_eq!(node.get(&stranger, "/api/v1/search?q=tugboat").await.expect_status(200)["data"], json!([]));
    for query in ["", "q=", "q=x&kind=other", "q=x&limit=0"] {
        let answer = node.get(&user, &format!("/api/v1/search?{query}")).await;
        assert!([400, 422].contains(&answer.status.as_u16()), "{query}");
    }

    let messages = format!("/api/v1/conversations/{conversation}/messages");
    let listed = node.get(&user, &messages).await.expect_status(200);
    let roles: Vec<&str> =
        listed["data"].as_array().expect("a list").iter().filter_map(|it| it["role"].as_str()).collect();
    assert_eq!(roles, ["assistant", "user"]);
    let first = node.get(&user, &format!("{messages}?limit=1")).await.expect_status(200);
    let next = first["nextCursor"].as_str().expect("a cursor");
    let second = node.get(&user, &format!("{messages}?limit=1&cursor={next}")).await.expect_status(200);
    assert_eq!((&first["data"][0], &second["data"][0]), (&listed["data"][0], &listed["data"][1]));
    node.get(&stranger, &messages).await.expect_error(404, "NOT_FOUND");
    let summary = format!("/api/v1/conversations/{conversation}/summary");
    let text = node.get(&user, &summary).await.expect_status(200)["summary"].to_string();
    assert!(text.contains("Port") && text.contains("tugboat"), "{text}");
    node.get(&stranger, &summary).await.expect_error(404, "NOT_FOUND");
    node.get(&user, &format!("/api/v1/conversations/{}/summary", Uuid::new_v4()))
        .await
        .expect_error(404, "NOT_FOUND");

    // Deleting the message forgets its units; forgetting everything keeps the messages.
    let question = listed["data"][1]["id"].as_str().expect("an id");
    node.delete(&stranger, &format!("/api/v1/messages/{question}")).await.expect_error(404, "NOT_FOUND");
    node.delete(&user, &format!("/api/v1/messages/{question}")).await.expect_status(200);
    assert_eq!(hits("q=tugboat").await, memory);
    let forgotten = node.delete(&user, "/api/v1/memory").await.expect_status(200);
    assert_eq!(forgotten, json!({"memories": 1, "units": 0}));
    let off = json!({"learns": false});
    node.put(&user, "/api/v1/memory/settings", off).await.expect_status(200);
    let settings = node.get(&user, "/api/v1/memory/settings").await.expect_status(200);
    assert_eq!(settings["data"][0], json!({"conversationId": null, "learns": false, "notebookId": null}));
    let foreign = json!({"conversationId": conversation, "learns": false});
    node.put(&stranger, "/api/v1/memory/settings", foreign).await.expect_error(403, "FORBIDDEN");
    db.wait_until(
        "the call is recorded",
        "select exists (select from rollcall.model_usage where user_id = $u)",
        &[("u", user.id)],
    )
    .await;
    let usage = node.get(&user, "/api/v1/usage").await.expect_status(200);
    assert_eq!((&usage["data"][0]["purpose"], &usage["data"][0]["calls"]), (&json!("chat"), &json!(1)));
}
