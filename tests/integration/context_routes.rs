//! Routes of the context engine: signals, warm-ups, roll-ups, invalidation, health and prompt preview.

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::{
    client::open_socket,
    harness::{TestDatabase, TestServer, User, service_user},
};
use uuid::Uuid;

fn route(name: &str, user: &User) -> String {
    format!("/api/v1/context/{name}/{}", user.id)
}

/// Creates a user with a conversation, a topic, units, memories and messages.
async fn seed_user(db: &TestDatabase) -> (User, Uuid, Uuid) {
    let (user, conversation, topic) = (User::new(), Uuid::new_v4(), Uuid::new_v4());
    db
        .execute(
            "insert into rollcall.conversations (id, title, created_by) values ($c, 'Bread', $u);
             insert into rollcall.conversation_participants (conversation_id, user_id) values ($c, $u);
             insert into rollcall.messages (conversation_id, user_id, content) values ($c, $u, 'How long does sourdough rise?');
             insert into rollcall.memories (user_id, content, category, importance) values ($u, 'Is a baker.', 'identity', 0.9);
             insert into rollcall.custom_instructions (user_id, content) values ($u, 'Answer briefly.');
             insert into rollcall.topic_profiles (id, user_id, slug, label, importance, last_engaged_at)
               values ($t, $u, 'sourdough', 'sourdough', 0.9, now());
             insert into rollcall.topic_conversations (topic_id, conversation_id, user_id, relevance) values ($t, $c, $u, 0.8);
             insert into rollcall.atomic_chat_units (id, user_id, conversation_id, content) values ($t, $u, $c, 'Sourdough rises overnight at ten degrees.');
             insert into rollcall.topic_units (topic_id, unit_id, user_id, relevance) values ($t, $t, $u, 0.9)",
            &[("u", user.id), ("c", conversation), ("t", topic)],
        )
        .await;
    (user, conversation, topic)
}

async fn add_device(db: &TestDatabase, user: &User, conversation: Uuid) {
    let device =
        "insert into rollcall.presence_devices (user_id, device_id, active_conversation_id, local_time)
        values ($u, 'web', $c, '14:30')";
    db.execute(device, &[("u", user.id), ("c", conversation)]).await;
}

#[testkit::test]
async fn presence_signals_warm_up_and_notify_the_user_sockets(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    // Another node may do the work; the socket is notified all the same.
    db.start_server().await;
    let (user, conversation, _) = seed_user(&db).await;
    let path = format!("/api/v1/context/ws?token={}&device_id=web", user.token);
    let mut socket = open_socket(node.address, &path, &[]).await.expect("opens");
    socket.keeps_bundle_events = true;
    let body = json!({"deviceId": "phone", "localTime": "2026-01-02T14:30:00+02:00", "activeConversationId": conversation,
        "lastNavigationPath": "/chat/1"});
    let first = node.post(&user, &route("presence", &user), body.clone()).await.expect_status(200);
    assert_eq!((&first["success"], &first["message"]), (&json!(true), &json!("Presence updated")));
    let again = node.post(&user, &route("presence", &user), body).await.expect_status(200);
    assert_eq!(first["data"]["sessionId"], again["data"]["sessionId"]);

    let mut ready = Vec::new();
    while ready.len() < 4 {
        let news = socket.find_message("a bundle is ready", |frame| frame["type"] == "bundle_ready").await;
        ready.push(news["data"]["bundleType"].as_str().expect("a type").to_owned());
    }
    ready.sort_unstable();
    ready.dedup();
    assert_eq!(ready, ["conversation", "global_prefs", "identity_core", "topic"]);
    let predicted =
        "select cardinality(predicted_topic_ids) = 1 and navigation_history -> 0 ->> 'path' = '/chat/1'
        from rollcall.presence_devices where user_id = $u and device_id = 'phone'";
    db.wait_until("the prediction is stored", predicted, &[("u", user.id)]).await;

    // A changed source makes its bundle ready again.
    db.execute("insert into rollcall.memories (user_id, content, category, importance) values ($u, 'Has an oven.', 'identity', 0.9)", &[("u", user.id)]).await;
    socket
        .find_message("identity again", |frame| {
            frame["type"] == "bundle_ready" && frame["data"]["bundleType"] == "identity_core"
        })
        .await;
    let content = db
        .query_row(
            "select content from rollcall.context_bundles where user_id = $1 and bundle_type = 'identity_core'",
            &[&user.id],
        )
        .await;
    assert!(content.get::<_, &str>(0).contains("Has an oven."));
}

#[testkit::test]
async fn presence_signals_need_a_device_and_a_time(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    for (body, field) in [
        (json!({"localTime": "14:30"}), "deviceId"),
        (json!({"deviceId": "web"}), "localTime"),
        (json!({"deviceId": "web", "localTime": null}), "localTime"),
        (json!({"deviceId": "web", "localTime": "noon"}), "localTime"),
        (json!({"deviceId": "web", "localTime": "14:30", "activeConversationId": 7}), "activeConversationId"),
    ] {
        let response = node.post(&user, &route("presence", &user), body.clone()).await;
        assert_eq!(response.body["details"][0]["field"], field, "{body}: {:#}", response.body);
        response.expect_error(400, "INVALID_REQUEST");
    }
}

#[testkit::test]
async fn a_warm_up_responds_when_finished(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, conversation, _) = seed_user(&db).await;
    node.post(&user, &route("warmup", &user), json!({})).await.expect_error(404, "NOT_FOUND");
    add_device(&db, &user, conversation).await;
    let warmed =
        node.post(&user, &route("warmup", &user), json!({"deviceId": "web"})).await.expect_status(200);
    let expected = json!({"freshTopicBundles": 1, "freshEntityBundles": 0, "freshConversationBundles": 1, "dirtyBundles": 0,
        "totalFreshBundles": 4});
    assert_eq!(warmed["data"], expected);
    let version = || db.query_row("select max(version) from rollcall.context_bundles", &[]);
    let before: i64 = version().await.get(0);
    node.post(&user, &route("warmup", &user), json!({"force": true})).await.expect_status(200);
    assert!(version().await.get::<_, i64>(0) > before, "forced, all are compiled again");
    node.post(&user, &route("warmup", &user), json!({"deviceId": "other"}))
        .await
        .expect_error(404, "NOT_FOUND");
    node.post(&user, &route("warmup", &user), json!({"deviceId": ""}))
        .await
        .expect_error(400, "INVALID_REQUEST");
}

#[testkit::test]
async fn a_roll_up_creates_profiles_and_runs_one_at_a_time(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    db
        .execute(
            "insert into rollcall.atomic_chat_units (user_id, content, created_at)
             select $u, case when n % 2 = 0 then 'The greenhouse heating failed again, Mara Lind said.' else 'I asked Mara Lind about the greenhouse heating.' end,
               date_trunc('day', now()) - n * interval '1 hour' -- all on one day, as days are groups of units
             from generate_series(1, 12) n",
            &[("u", user.id)],
        )
        .await;
    db.execute("insert into rollcall_internal.roll_ups (user_id, lease, lease_expires_at) values ($u, $u, now() + interval '1 minute')", &[("u", user.id)]).await;
    node.post(&user, &route("rollup", &user), json!({})).await.expect_error(409, "CONFLICT");
    let done = node
        .post(&user, &route("rollup", &user), json!({"force": true, "limit": 10}))
        .await
        .expect_status(200);
    let data = &done["data"];
    assert_eq!(data["acusProcessed"], json!(10));
    assert!(
        data["topicsCreated"].as_i64().expect("a count") >= 1
            && data["entitiesCreated"].as_i64().expect("a count") >= 1,
        "{data:#}"
    );
    let topic = db.query_row("select unit_count, label, streak_days from rollcall.topic_profiles where user_id = $1 order by unit_count desc limit 1", &[&user.id]).await;
    assert_eq!(
        topic.get::<_, i32>(0),
        12,
        "units that are not processed yet count too: {}",
        topic.get::<_, &str>(1)
    );
    let entity = db
        .query_row(
            "select name, entity_type::text, mention_count from rollcall.entity_profiles where user_id = $1",
            &[&user.id],
        )
        .await;
    assert_eq!(
        (entity.get::<_, &str>(0), entity.get::<_, &str>(1), entity.get::<_, i32>(2)),
        ("Mara Lind", "person", 12)
    );
    let rest = node.post(&user, &route("rollup", &user), json!({})).await.expect_status(200);
    assert_eq!((&rest["data"]["acusProcessed"], &rest["data"]["topicsCreated"]), (&json!(2), &json!(0)));
    for limit in [0, 501] {
        node.post(&user, &route("rollup", &user), json!({"limit": limit}))
            .await
            .expect_error(400, "INVALID_REQUEST");
    }
}

/// Twelve units about one topic and one person, of which the last is `age` old; rolled up.
async fn seed_history(db: &TestDatabase, node: &TestServer, age: &str) -> User {
    let user = User::new();
    let sql = format!(
        "insert into rollcall.atomic_chat_units (user_id, content, created_at)
         select $u, case when n % 2 = 0 then 'The greenhouse heating failed again, Mara Lind said.' else 'I asked Mara Lind about the greenhouse heating.' end,
           now() - n * interval '1 minute' - interval '{age}'
         from generate_series(1, 12) n"
    );
    db.execute(&sql, &[("u", user.id)]).await;
    node.post(&user, &route("rollup", &user), json!({})).await.expect_status(200);
    user
}

/// What was talked about recently, or always at this hour, is compiled before it is asked for; other subjects are not.
#[testkit::test]
async fn subjects_that_a_history_predicts_are_compiled_ahead(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    // Age of the last unit, whether the device's hour is the usual one; the bundles compiled ahead.
    for (age, at_usual_hour, topics, entities) in [
        ("1 minute", false, true, true),
        ("47 hours", false, true, true),
        ("60 hours", false, false, true),
        ("30 days", false, false, false),
        ("30 days", true, true, false),
    ] {
        let case = format!("{age}, usual hour: {at_usual_hour}");
        let user = seed_history(&db, &node, age).await;
        let hour: Option<i32> = db
            .query_row("select max(peak_hour) from rollcall.topic_profiles where user_id = $1", &[&user.id])
            .await
            .get(0);
        let hour = hour.expect("there is a topic");
        let hour = if at_usual_hour { hour } else { (hour + 12) % 24 };
        let body = json!({"deviceId": "web", "localTime": format!("{hour:02}:30")});
        node.post(&user, &route("presence", &user), body).await.expect_status(200);
        let counts = node
            .post(&user, &route("warmup", &user), json!({"deviceId": "web"}))
            .await
            .expect_status(200)["data"]
            .clone();
        assert_eq!(counts["freshTopicBundles"].as_i64() > Some(0), topics, "{case}: {counts:#}");
        assert_eq!(counts["freshEntityBundles"].as_i64() > Some(0), entities, "{case}: {counts:#}");
        // The device's row holds what was predicted.
        let predicted = "select cardinality(predicted_topic_ids) > 0, cardinality(predicted_entity_ids) > 0
            from rollcall.presence_devices where user_id = $1";
        let row = db.query_row(predicted, &[&user.id]).await;
        assert_eq!((row.get::<_, bool>(0), row.get::<_, bool>(1)), (topics, entities), "{case}");
    }
}

#[testkit::test]
async fn invalidation_lists_valid_event_types(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, conversation, topic) = seed_user(&db).await;
    add_device(&db, &user, conversation).await;
    node.post(&user, &route("warmup", &user), json!({})).await.expect_status(200);
    let misses = || {
        db.query_row("select coalesce(sum(miss_count), 0)::bigint from rollcall.context_bundles where bundle_type = 'topic'", &[])
    };
    let before: i64 = misses().await.get(0);
    let body = json!({"eventType": "topic_updated", "relatedIds": {"topicId": topic}});
    let done = node.post(&user, &route("invalidate", &user), body).await.expect_status(200);
    assert_eq!(done, json!({"success": true, "message": "Invalidation queued"}));
    // Warm-up counts its uses in the background; a bundle that this locks is marked later.
    let marked = format!(
        "select sum(miss_count) = {} from rollcall.context_bundles where bundle_type = 'topic'",
        before + 1
    );
    db.wait_until("the topic is marked", &marked, &[]).await;
    let body = json!({"eventType": "topic_updated", "relatedIds": {"topicId": Uuid::new_v4()}});
    node.post(&user, &route("invalidate", &user), body).await.expect_status(200);
    assert_eq!(misses().await.get::<_, i64>(0), before + 1, "another topic");

    let refused = node.post(&user, &route("invalidate", &user), json!({"eventType": "everything"})).await;
    assert_eq!((refused.status.as_u16(), &refused.body["error"]), (400, &json!("INVALID_REQUEST")));
    assert_eq!(refused.body["validTypes"].as_array().map(Vec::len), Some(14));
    node.post(&user, &route("invalidate", &user), json!({})).await.expect_error(400, "INVALID_REQUEST");
}

/// Neither a use of a bundle nor its compilation hides that a user invalidated it.
#[testkit::test]
async fn bundles_in_use_are_invalidated(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, conversation, topic) = seed_user(&db).await;
    add_device(&db, &user, conversation).await;
    node.post(&user, &route("warmup", &user), json!({})).await.expect_status(200);
    let fresh =
        "select rollcall_internal.is_fresh(b) from rollcall.context_bundles b where b.topic_id = $topic";
    let is_fresh = async || -> bool { db.query_row(&fresh.replace("$topic", "$1"), &[&topic]).await.get(0) };
    db.wait_until("the topic is compiled", fresh, &[("topic", topic)]).await;
    let mut writer = db.connect().await;
    let transaction = writer.transaction().await.expect("a transaction");
    let lock = "select from rollcall.context_bundles where topic_id = $1 for no key update";
    transaction.execute(lock, &[&topic]).await.expect("a lock");
    let body = json!({"eventType": "topic_updated", "relatedIds": {"topicId": topic}});
    node.post(&user, &route("invalidate", &user), body).await.expect_status(200);
    assert!(!is_fresh().await, "a locked bundle");
    // A compilation that began before stores its result now.
    let store = "update rollcall.context_bundles set compiled_at = clock_timestamp(), version = version + 1,
        dirty = false where topic_id = $1";
    transaction.execute(store, &[&topic]).await.expect("an update");
    transaction.commit().await.expect("a commit");
    assert!(!is_fresh().await, "a bundle that was being compiled");
    db.wait_until("the topic is compiled again", fresh, &[("topic", topic)]).await;
}

#[testkit::test]
async fn health_reports_which_engine_is_available(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, ..) = seed_user(&db).await;
    let health = |user: &User| {
        let user = user.clone();
        let node = node.clone();
        async move { node.get(&user, "/api/v1/context/health").await }
    };
    let well = health(&user).await.expect_status(200);
    assert_eq!(
        (&well["status"], &well["newEngineAvailable"], &well["topicProfiles"]),
        (&json!("healthy"), &json!(true), &json!(1))
    );
    assert_eq!(health(&User::new()).await.expect_status(200)["topicProfiles"], json!(0), "one's own");
    assert_eq!(health(&service_user()).await.expect_status(200)["topicProfiles"], json!(1), "of all users");
    db.execute("alter function rollcall.context_counts rename to no_counts", &[]).await;
    let ill = health(&user).await.expect_status(206);
    assert_eq!(
        (&ill["status"], &ill["newEngineAvailable"], &ill["oldEngineAvailable"]),
        (&json!("degraded"), &json!(false), &json!(true))
    );
    db.execute("alter table rollcall.memories rename to no_memories", &[]).await;
    assert_eq!(health(&user).await.expect_status(503)["status"], "down");
}

#[testkit::test]
async fn prompt_preview_returns_every_layer(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, conversation, _) = seed_user(&db).await;
    let path = format!(
        "/api/v1/ai/context/{conversation}?userId={}&message=Does+sourdough+need+salt%3F&maxContextTokens=4000",
        user.id
    );
    let shown = node.get(&user, &path).await.expect_status(200);
    let layers = shown["data"]["layers"].as_array().expect("layers");
    let numbers: Vec<_> = layers.iter().map(|layer| layer["layer"].as_str().expect("a number")).collect();
    assert_eq!(numbers, ["L0", "L1", "L2", "L3", "L4", "L5", "L6", "L7"]);
    let given: u64 = layers.iter().map(|layer| layer["given"].as_u64().expect("tokens")).sum();
    assert!(given <= 4_000 && shown["data"]["budget"]["used"].as_u64().expect("tokens") <= 4_000);
    let system = shown["data"]["systemPrompt"].as_str().expect("text");
    for part in [
        "## About This User\n- Is a baker.",
        "## Response Guidelines\n- Answer briefly.",
        "## Topic Context: sourdough",
        "## Current Conversation",
    ] {
        assert!(system.contains(part), "{part} is not in\n{system}");
    }
    assert_eq!(shown["data"]["detected"][0]["reason"], "named");
    let reasons = layers.iter().flat_map(|layer| layer["sections"].as_array().expect("sections"));
    assert!(reasons.clone().all(|section| !section["reason"].as_str().expect("a reason").is_empty()));
    assert_eq!(shown["data"]["messages"][0]["content"], "How long does sourdough rise?");

    // The compiled bundle is stored, and its uses are counted.
    let kept =
        "select count(*) = 1 from rollcall.context_bundles where user_id = $u and bundle_type = 'topic'";
    db.wait_until("the bundle is stored", kept, &[("u", user.id)]).await;
    for _ in 0..2 {
        node.get(&user, &path).await.expect_status(200);
    }
    let counted =
        "select hit_count = 2 and use_count = 2 and last_used_at is not null from rollcall.context_bundles
        where user_id = $u and bundle_type = 'topic'";
    db.wait_until("uses are counted", counted, &[("u", user.id)]).await;

    let stranger = User::new();
    node.get(&stranger, &format!("/api/v1/ai/context/{conversation}")).await.expect_error(404, "NOT_FOUND");
    node.get(&user, &format!("/api/v1/ai/context/{}", Uuid::new_v4())).await.expect_error(404, "NOT_FOUND");
    node.get(&stranger, &path).await.expect_error(403, "FORBIDDEN");
    node.get(&user, &format!("/api/v1/ai/context/{conversation}?maxContextTokens=3"))
        .await
        .expect_error(400, "INVALID_REQUEST");
}

#[testkit::test]
async fn context_routes_check_the_owner_and_rate_limit(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("CONTEXT_REQUESTS_PER_MINUTE", "3")).await;
    let [user, other] = [User::new(), User::new()];
    let body = json!({"deviceId": "web", "localTime": "14:30"});
    for name in ["presence", "warmup", "rollup", "invalidate"] {
        node.post(&other, &route(name, &user), json!({})).await.expect_error(403, "FORBIDDEN");
    }
    node.post(&user, "/api/v1/context/presence/nobody", body.clone())
        .await
        .expect_error(400, "INVALID_REQUEST");
    for _ in 0..3 {
        node.post(&user, &route("presence", &user), body.clone()).await.expect_status(200);
    }
    node.post(&user, &route("presence", &user), body.clone()).await.expect_error(429, "RATE_LIMITED");
    node.post(&service_user(), &route("presence", &user), body.clone()).await.expect_status(200);
    let admin = User::with_claims(json!({"permissions": ["context:admin"]}));
    node.post(&admin, &route("presence", &other), body).await.expect_status(200);
}

#[testkit::test]
async fn repeated_failures_become_dead_letters(db: Arc<TestDatabase>) {
    let (user, ..) = seed_user(&db).await;
    db.execute("alter function rollcall.context_signals rename to no_signals", &[]).await;
    let node = db.start_server().await;
    node.post(&user, &route("presence", &user), json!({"deviceId": "web", "localTime": "14:30"}))
        .await
        .expect_status(200);
    // Shortens each wait for the next attempt.
    let hurry = "with due as (update rollcall.system_actions set run_after = now() where status = 'pending' returning 1)
        select exists (select from rollcall.system_actions where status = 'failed' and attempts = 5 and error is not null)
          from (select count(*) from due) d";
    db.wait_until_within(std::time::Duration::from_secs(40), "given up", hurry, &[]).await;
    let health: Value = node.get(&user, "/api/v1/context/health").await.expect_status(200);
    assert_eq!(health["deadLetters"], json!(1));
}
