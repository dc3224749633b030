//! Freshness of context bundles: no committed change leaves an affected bundle fresh, and no other change marks it
//! stale.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::SinkExt;
use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::Method;
use rollcall::context::{
    bundle::{Readiness, Subject, WantedBundle},
    compile::compile,
};
use serde_json::{Value, json};
use testkit::harness::{TestDatabase, TestServer, User};
use tokio_postgres::Client;
use uuid::Uuid;

const USER_COUNT: usize = 3;
/// Minimum duration of the load, and the maximum on a slow machine.
const MIN_LOAD_TIME: Duration = Duration::from_secs(12);
const MAX_LOAD_TIME: Duration = Duration::from_secs(60);
/// With fewer changes or fresh bundles the test would prove nothing.
const MIN_CHECKS: usize = 100;

/// Three users, each with two topics, an entity and a conversation, and one shared conversation.
struct SeededData {
    users: Vec<Uuid>,
    topics: Vec<Uuid>,
    entities: Vec<Uuid>,
    conversations: Vec<Uuid>,
}

async fn seed_data(db: &TestDatabase) -> SeededData {
    let ids = |count: usize| (0..count).map(|_| Uuid::new_v4()).collect::<Vec<_>>();
    let data = SeededData {
        users: ids(USER_COUNT),
        topics: ids(USER_COUNT * 2),
        entities: ids(USER_COUNT),
        conversations: ids(USER_COUNT + 1),
    };
    for (at, user) in data.users.iter().enumerate() {
        let ids = [
            ("u", *user),
            ("own", data.conversations[at]),
            ("one", data.topics[at * 2]),
            ("two", data.topics[at * 2 + 1]),
            ("e", data.entities[at]),
        ];
        db
            .execute(
                "insert into rollcall.conversations (id, title, created_by) values ($own, 'mine', $u);
                 insert into rollcall.conversation_participants (conversation_id, user_id) values ($own, $u);
                 insert into rollcall.topic_profiles (id, user_id, slug, label) values ($one, $u, 'rust', 'rust'), ($two, $u, 'bread', 'bread');
                 insert into rollcall.entity_profiles (id, user_id, slug, name) values ($e, $u, 'mara', 'Mara')",
                &ids,
            )
            .await;
    }
    let shared = data.conversations[USER_COUNT];
    db.execute(
        "insert into rollcall.conversations (id, title, created_by) values ($c, 'ours', $u)",
        &[("c", shared), ("u", data.users[0])],
    )
    .await;
    for user in &data.users {
        db.execute(
            "insert into rollcall.conversation_participants (conversation_id, user_id) values ($c, $u)",
            &[("c", shared), ("u", *user)],
        )
        .await;
    }
    data
}

impl SeededData {
    /// All bundle subjects of a user.
    fn bundle_subjects(&self, at: usize) -> Value {
        let topic = |n: usize| json!({"type": "topic", "ref": self.topics[at * 2 + n]});
        let conversation = |n: usize| json!({"type": "conversation", "ref": self.conversations[n]});
        json!([{"type": "identity_core"}, {"type": "global_prefs"}, topic(0), topic(1),
            {"type": "entity", "ref": self.entities[at]}, conversation(at), conversation(USER_COUNT)])
    }

    /// Returns a random change as SQL.
    fn random_change(&self, random: &mut StdRng) -> String {
        let at = random.random_range(0..USER_COUNT);
        let user = self.users[at];
        let other = self.users[(at + 1) % USER_COUNT];
        let topic = self.topics[at * 2 + random.random_range(0..2)];
        let entity = self.entities[at];
        let conversation = self.conversations[if random.random_bool(0.5) { at } else { USER_COUNT }];
        let n: u32 = random.random_range(0..1_000_000);
        let word = ["rust", "bread", "nothing"][random.random_range(0..3)];
        let category = ["identity", "preference", "general"][random.random_range(0..3)];
        let importance = [0.3, 0.6, 0.8, 0.9][random.random_range(0..4)];
        let some = |table: &str| {
            format!("(select id from rollcall.{table} where user_id = '{user}' order by random() limit 1)")
        };
        let (memory, unit, instruction, message) =
            (some("memories"), some("atomic_chat_units"), some("custom_instructions"), some("messages"));
        match random.random_range(0..27) {
            0 => format!("insert into rollcall.memories (user_id, content, category, importance) values ('{user}', '{word} {n}', '{category}', {importance})"),
            1 => format!("update rollcall.memories set content = '{word} {n}', importance = {importance} where id = {memory}"),
            2 => format!("update rollcall.memories set is_active = not is_active where id = {memory}"),
            3 => format!("delete from rollcall.memories where id = {memory}"),
            // Moves to another user.
            4 => format!("update rollcall.memories set user_id = '{other}' where id = {memory}"),
            5 => format!("insert into rollcall.custom_instructions (user_id, content, priority) values ('{user}', 'do {n}', {})", n % 5),
            6 => format!("insert into rollcall.custom_instructions (user_id, content, scope, topic_id) values ('{user}', 'do {n}', 'topic', '{topic}')"),
            // From one topic to another or to none.
            7 => format!("update rollcall.custom_instructions set scope = 'topic', topic_id = '{topic}' where id = {instruction}"),
            8 => format!("update rollcall.custom_instructions set scope = 'global', topic_id = null, content = 'always {n}' where id = {instruction}"),
            9 => format!("delete from rollcall.custom_instructions where id = {instruction}"),
            10 => format!("insert into rollcall.messages (conversation_id, user_id, content) values ('{conversation}', '{user}', 'said {n}')"),
            11 => format!("update rollcall.messages set content = 'corrected {n}' where id = {message}"),
            12 => format!("update rollcall.messages set conversation_id = '{conversation}' where id = {message}"),
            13 => format!("delete from rollcall.messages where id = {message}"),
            14 => format!(
                "with u as (insert into rollcall.atomic_chat_units (user_id, content) values ('{user}', 'unit {n}') returning id)
                 insert into rollcall.topic_units (topic_id, unit_id, user_id, relevance) select '{topic}', id, '{user}', 0.{} from u", n % 9 + 1),
            15 => format!(
                "with u as (insert into rollcall.atomic_chat_units (user_id, content) values ('{user}', 'unit {n}') returning id)
                 insert into rollcall.entity_units (entity_id, unit_id, user_id) select '{entity}', id, '{user}' from u"),
            16 => format!("update rollcall.atomic_chat_units set content = 'unit changed {n}' where id = {unit}"),
            17 => format!("update rollcall.atomic_chat_units set state = case state when 'active' then 'archived' else 'active' end::rollcall.unit_state where id = {unit}"),
            // Cascades to its links.
            18 => format!("delete from rollcall.atomic_chat_units where id = {unit}"),
            19 => format!("update rollcall.topic_units set topic_id = '{topic}' where unit_id = {unit} and not exists (select from rollcall.topic_units o where o.topic_id = '{topic}' and o.unit_id = {unit})"),
            20 => format!("update rollcall.topic_profiles set aliases = array['alias {n}', '{word}'], streak_days = {} where id = '{topic}'", n % 9),
            21 => format!("update rollcall.topic_profiles set label = '{word} {}' where id = '{topic}'", n % 3),
            22 => format!("update rollcall.entity_profiles set facts = '[{{\"fact\": \"fact {n}\", \"confidence\": 0.9}}]' where id = '{entity}'"),
            23 => format!("update rollcall.conversations set title = 'title {n}' where id = '{conversation}'"),
            24 => format!(
                "insert into rollcall.topic_conversations (topic_id, conversation_id, user_id, relevance) values ('{topic}', '{conversation}', '{user}', 0.{})
                 on conflict (topic_id, conversation_id) do update set relevance = excluded.relevance", n % 9 + 1),
            // Cascades to instructions, links and the bundle itself.
            25 => format!(
                "delete from rollcall.topic_profiles where id = '{topic}';
                 insert into rollcall.topic_profiles (id, user_id, slug, label) values ('{topic}', '{user}', '{topic}', '{word}')"),
            _ => format!("delete from rollcall.topic_conversations where topic_id = '{topic}' and conversation_id = '{conversation}'"),
        }
    }
}

/// Changes rows by COPY until stopped; returns the number of changes.
async fn run_copy_loop(
    sql: Client,
    data: Arc<SeededData>,
    mut random: StdRng,
    over: Arc<AtomicBool>,
) -> usize {
    let mut changes = 0;
    while !over.load(Ordering::Relaxed) {
        let at = random.random_range(0..USER_COUNT);
        let (user, n): (Uuid, u32) = (data.users[at], random.random());
        let (table, rows) = if random.random_bool(0.5) {
            let row = |word: &str, category: &str| format!("{user}\t{word} copied {n}\t{category}\t0.9\n");
            (
                "memories (user_id, content, category, importance)",
                row("rust", "identity") + &row("bread", "preference"),
            )
        } else {
            let row = |conversation: Uuid| format!("{conversation}\t{user}\tcopied {n}\n");
            (
                "messages (conversation_id, user_id, content)",
                row(data.conversations[at]) + &row(data.conversations[USER_COUNT]),
            )
        };
        let sink = sql.copy_in(&format!("copy rollcall.{table} from stdin")).await.expect("copies");
        let mut sink = Box::pin(sink);
        sink.send(bytes::Bytes::from(rows)).await.expect("takes rows");
        // A conflict with another writer rolls back.
        changes += usize::from(sink.as_mut().finish().await.is_ok());
        tokio::time::sleep(Duration::from_millis(random.random_range(10..60))).await;
    }
    changes
}

/// Makes changes over the API until stopped: chats, and users who leave a conversation and return. Returns the number
/// of changes.
async fn run_api_loop(
    node: Arc<TestServer>,
    data: Arc<SeededData>,
    mut random: StdRng,
    over: Arc<AtomicBool>,
) -> usize {
    let users: Vec<User> = data.users.iter().map(|id| User::with_id(*id)).collect();
    let shared = data.conversations[USER_COUNT];
    let mut changes = 0;
    while !over.load(Ordering::Relaxed) {
        let at = random.random_range(0..USER_COUNT);
        let conversation = data.conversations[if random.random_bool(0.5) { at } else { USER_COUNT }];
        let body = json!({"conversationId": conversation, "messages": [{"role": "user", "content": format!("asked {changes}")}]});
        // A request that loses a deadlock against the SQL writers is repeated.
        let checked = node.post(&users[at], "/api/v1/ai/chat", body).await;
        changes += 2 * usize::from(checked.status.is_success());
        let participant_path = format!("/api/conversations/{shared}/participants/{}", users[1].id);
        let left = node.send_json(Method::DELETE, &users[1], &participant_path, None).await;
        changes += usize::from(left.status.is_success());
        while !node.post(&users[0], &participant_path, json!({})).await.status.is_success() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        changes += 1;
        tokio::time::sleep(Duration::from_millis(random.random_range(10..60))).await;
    }
    changes
}

/// Sets the user for the lifetime of the connection.
async fn impersonate(sql: &Client, user: Uuid) {
    let claims = json!({"sub": user, "role": "authenticated"}).to_string();
    sql.execute(
        "select set_config('role', 'authenticated', false), set_config('request.jwt.claims', $1, false)",
        &[&claims],
    )
    .await
    .expect("acts");
}

/// Wanted bundles and their sources in one statement, and so in one snapshot.
const SELECT_FRESH_AND_COMPILED: &str = "select rollcall.wanted_bundles($1), rollcall.wanted_bundles($1, true), pg_current_snapshot()::text, clock_timestamp()";

/// Compares fresh bundles with their sources; returns the number of fresh ones.
async fn compare_bundles(sql: &Client, subjects: &Value) -> (usize, Vec<Value>) {
    let row = sql.query_one(SELECT_FRESH_AND_COMPILED, &[subjects]).await.expect("answers");
    let (served, sources): (Value, Value) = (row.get(0), row.get(1));
    let mut fresh = 0;
    let mut missing = Vec::new();
    for (served, sources) in
        served.as_array().expect("a list").iter().zip(sources.as_array().expect("a list"))
    {
        let bundle: WantedBundle = serde_json::from_value(served.clone()).expect("of the shape");
        let compiled = compile(bundle.subject, &sources["sources"], None).expect("can be read");
        if bundle.reason == Readiness::Fresh {
            fresh += 1;
            assert_eq!(bundle.content, compiled.content, "a stale {:?} was served as fresh", bundle.subject);
        } else {
            missing.push(json!(compiled));
        }
    }
    (fresh, missing)
}

#[testkit::test]
async fn fresh_bundles_match_their_sources_under_concurrent_changes(db: Arc<TestDatabase>) {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let data = Arc::new(seed_data(&db).await);
    // Two nodes whose workers compile stale bundles.
    let node = db
        .start_server_with(|settings| {
            settings.set("LLM_PROVIDER", "echo");
            settings.set("CHAT_REQUESTS_PER_MINUTE", "0");
            settings.set("MANAGE_REQUESTS_PER_MINUTE", "0");
        })
        .await;
    db.start_server().await;
    for user in &data.users {
        db.execute("insert into rollcall.presence_devices (user_id, device_id, local_time, active_conversation_id) values ($u, 'web', '14:30', $c)",
            &[("u", *user), ("c", data.conversations[USER_COUNT])]).await;
    }
    let over = Arc::new(AtomicBool::new(false));
    let changes = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for writer in 0..3_u64 {
        let (sql, data, over, changes) = (db.connect().await, data.clone(), over.clone(), changes.clone());
        tasks.push(tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed + writer);
            while !over.load(Ordering::Relaxed) {
                // Several statements in one transaction that stays open for a while, in every isolation level; some
                // roll back.
                let level = ["read committed", "read committed", "repeatable read", "serializable"]
                    [random.random_range(0..4)];
                let mut text = format!("begin isolation level {level};");
                let count = random.random_range(1..4);
                for _ in 0..count {
                    text += &data.random_change(&mut random);
                    text.push(';');
                }
                let pause: u64 = random.random_range(0..40);
                let ends = if random.random_bool(0.9) { "commit" } else { "rollback" };
                // A conflict between two writers rolls back.
                if sql.batch_execute(&text).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    if sql.batch_execute(ends).await.is_ok() {
                        changes.fetch_add(count, Ordering::Relaxed);
                        continue;
                    }
                }
                sql.batch_execute("rollback").await.ok();
            }
        }));
    }
    let copying = tokio::spawn(run_copy_loop(
        db.connect().await,
        data.clone(),
        StdRng::seed_from_u64(seed + 10),
        over.clone(),
    ));
    let calling =
        tokio::spawn(run_api_loop(node, data.clone(), StdRng::seed_from_u64(seed + 11), over.clone()));
    let fresh = Arc::new(AtomicUsize::new(0));
    let checked = Arc::new(AtomicUsize::new(0));
    for at in 0..USER_COUNT {
        let (sql, data, over) = (db.connect().await, data.clone(), over.clone());
        let own = db.connect().await;
        let (fresh, checked) = (fresh.clone(), checked.clone());
        tasks.push(tokio::spawn(async move {
            impersonate(&sql, data.users[at]).await;
            let subjects = data.bundle_subjects(at);
            while !over.load(Ordering::Relaxed) {
                let row = sql.query_one(SELECT_FRESH_AND_COMPILED, &[&subjects]).await.expect("answers");
                let (seeing, read_at): (String, jiff::Timestamp) = (row.get(2), row.get(3));
                // Old data is stored late, as by a slow server. It must not count as fresh if it is not.
                let sources: Value = row.get(1);
                let compiled: Vec<Value> = sources
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(|it| {
                        let subject: Subject = serde_json::from_value(it.clone()).expect("a subject");
                        json!(compile(subject, &it["sources"], None).expect("can be read"))
                    })
                    .collect();
                let (count, _) = compare_bundles(&sql, &subjects).await;
                fresh.fetch_add(count, Ordering::Relaxed);
                checked.fetch_add(7, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(15)).await;
                own.query(
                    "select * from rollcall_internal.store_compiled_bundles($1, $2, $3, $4, false)",
                    &[&data.users[at], &json!(compiled), &seeing, &read_at],
                )
                .await
                .expect("stores");
            }
        }));
    }
    let started = Instant::now();
    let is_enough =
        || fresh.load(Ordering::Relaxed) > MIN_CHECKS && changes.load(Ordering::Relaxed) > MIN_CHECKS;
    while started.elapsed() < MIN_LOAD_TIME || (!is_enough() && started.elapsed() < MAX_LOAD_TIME) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no stale bundle was served");
    }
    let (changes, fresh, checked) =
        (changes.load(Ordering::Relaxed), fresh.load(Ordering::Relaxed), checked.load(Ordering::Relaxed));
    let (copied, called) = (copying.await.expect("no panic"), calling.await.expect("no panic"));
    println!("{copied} of them by COPY, {called} by the API, the others by SQL");
    let changes = changes + copied + called;
    println!("{changes} changes, {checked} bundles requested, {fresh} of them fresh, none stale");
    assert!(
        changes > MIN_CHECKS && fresh > MIN_CHECKS,
        "{changes} changes, {fresh} fresh: too few to prove anything"
    );

    // Without further changes every existing bundle becomes fresh. Bundles that were deleted with their source, or when
    // the user left the conversation, are created when requested. All must match their sources.
    const FRESH: &str = "select bool_and(rollcall_internal.is_fresh(b)) from rollcall.context_bundles b";
    db.wait_until_within(Duration::from_secs(30), "everything is fresh again", FRESH, &[]).await;
    for at in 0..USER_COUNT {
        compile_all(&db, &data, at).await;
        let sql = db.connect().await;
        impersonate(&sql, data.users[at]).await;
        assert_eq!(compare_bundles(&sql, &data.bundle_subjects(at)).await.0, 7);
    }
}

/// Compiles and stores all bundles of a user.
async fn compile_all(db: &TestDatabase, data: &SeededData, at: usize) {
    let sql = db.connect().await;
    impersonate(&sql, data.users[at]).await;
    let row = sql.query_one(SELECT_FRESH_AND_COMPILED, &[&data.bundle_subjects(at)]).await.expect("answers");
    let (sources, seeing, read_at): (Value, String, jiff::Timestamp) = (row.get(1), row.get(2), row.get(3));
    let compiled: Vec<Value> = sources
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| {
            let subject: Subject = serde_json::from_value(it.clone()).expect("a subject");
            json!(compile(subject, &it["sources"], None).expect("can be read"))
        })
        .collect();
    // A separate connection, because others may be waiting for the shared one.
    db.connect()
        .await
        .query(
            "select * from rollcall_internal.store_compiled_bundles($1, $2, $3, $4, false)",
            &[&data.users[at], &json!(compiled), &seeing, &read_at],
        )
        .await
        .expect("stores");
}

/// Returns the stale bundles as `type user`.
async fn dirty_bundles(db: &TestDatabase, data: &SeededData) -> Vec<String> {
    let rows = db
        .sql
        .query(
            "select bundle_type::text, user_id from rollcall.context_bundles where dirty order by 1, 2",
            &[],
        )
        .await;
    let name =
        |user: Uuid| data.users.iter().position(|other| *other == user).expect("belongs to the test data");
    let mut all: Vec<String> = rows
        .expect("bundles")
        .iter()
        .map(|row| format!("{} {}", row.get::<_, &str>(0), name(row.get(1))))
        .collect();
    all.sort();
    all
}

#[testkit::test]
async fn unrelated_changes_do_not_mark_a_bundle_stale(db: Arc<TestDatabase>) {
    let data = seed_data(&db).await;
    let [user, ..] = data.users[..] else { panic!("three") };
    let (own, shared) = (data.conversations[0], data.conversations[USER_COUNT]);
    let ids = [
        ("u", user),
        ("own", own),
        ("shared", shared),
        ("rust", data.topics[0]),
        ("bread", data.topics[1]),
        ("e", data.entities[0]),
        ("m", Uuid::new_v4()),
        ("item", Uuid::new_v4()),
    ];
    db
        .execute(
            "insert into rollcall.memories (id, user_id, content, category, importance) values ($m, $u, 'likes rust', 'preference', 0.4);
             insert into rollcall.atomic_chat_units (id, user_id, content) values ($item, $u, 'rust borrows');
             insert into rollcall.topic_units (topic_id, unit_id, user_id) values ($rust, $item, $u);
             insert into rollcall.messages (conversation_id, user_id, content) values ($own, $u, 'hello')",
            &ids,
        )
        .await;
    // Each change and the bundles it marks stale, of 21 bundles (7 for each of 3 users).
    let changes: &[(&str, &[&str])] = &[
        (
            "insert into rollcall.memories (user_id, content, category, importance) values ($u, 'x', 'identity', 0.79)",
            &[],
        ),
        (
            "insert into rollcall.memories (user_id, content, category, importance) values ($u, 'x', 'preference', 0.59)",
            &[],
        ),
        (
            "insert into rollcall.memories (user_id, content, category, importance, is_active) values ($u, 'x', 'identity', 0.9, false)",
            &[],
        ),
        ("update rollcall.memories set content = content where user_id = $u", &[]),
        ("update rollcall.memories set updated_at = now() where user_id = $u", &[]),
        (
            "insert into rollcall.memories (user_id, content, category, importance) values ($u, 'x', 'identity', 0.8)",
            &["identity_core 0"],
        ),
        (
            "insert into rollcall.memories (user_id, content, category, importance) values ($u, 'x', 'preference', 0.6)",
            &["global_prefs 0"],
        ),
        ("insert into rollcall.memories (user_id, content) values ($u, 'bread needs salt')", &["topic 0"]),
        ("update rollcall.memories set content = 'likes go' where id = $m", &["topic 0"]),
        ("update rollcall.memories set content = 'likes c' where id = $m", &[]),
        ("insert into rollcall.atomic_chat_units (user_id, content) values ($u, 'rust and bread')", &[]),
        ("update rollcall.atomic_chat_units set processed_at = now() where user_id = $u", &[]),
        (
            "update rollcall.atomic_chat_units set content = 'about nothing' where id <> $item and user_id = $u",
            &[],
        ),
        ("update rollcall.atomic_chat_units set content = 'rust moves' where id = $item", &["topic 0"]),
        (
            "insert into rollcall.entity_units (entity_id, unit_id, user_id) values ($e, $item, $u)",
            &["entity 0"],
        ),
        ("update rollcall.atomic_chat_units set quality = 0.9 where id = $item", &["entity 0", "topic 0"]),
        ("update rollcall.topic_profiles set version = version + 1, dirty = true where id = $rust", &[]),
        ("update rollcall.topic_profiles set streak_days = 3 where id = $rust", &["topic 0"]),
        (
            "insert into rollcall.topic_conversations (topic_id, conversation_id, user_id) values ($rust, $own, $u)",
            &["conversation 0", "topic 0"],
        ),
        (
            "update rollcall.topic_profiles set label = 'Rust' where id = $rust",
            &["conversation 0", "topic 0"],
        ),
        ("update rollcall.topic_profiles set aliases = '{ferris}' where id = $rust", &["topic 0"]),
        ("update rollcall.conversations set title = 'new' where id = $own", &["conversation 0", "topic 0"]),
        ("update rollcall.conversations set last_message_at = now() where id = $own", &[]),
        (
            "update rollcall.messages set metadata = '{\"seen\": true}', token_count = 2 where conversation_id = $own",
            &[],
        ),
        (
            "insert into rollcall.messages (conversation_id, user_id, role, content, state) values ($own, $u, 'assistant', '', 'pending')",
            &[],
        ),
        (
            "insert into rollcall.messages (conversation_id, user_id, content) values ($own, $u, 'more')",
            &["conversation 0"],
        ),
        (
            "insert into rollcall.messages (conversation_id, user_id, content) values ($shared, $u, 'to all')",
            &["conversation 0", "conversation 1", "conversation 2"],
        ),
        (
            "insert into rollcall.custom_instructions (user_id, content, is_active) values ($u, 'never', false)",
            &[],
        ),
        (
            "insert into rollcall.custom_instructions (user_id, content) values ($u, 'always')",
            &["global_prefs 0"],
        ),
        (
            "insert into rollcall.custom_instructions (user_id, content, scope, topic_id) values ($u, 'here', 'topic', $bread)",
            &["topic 0"],
        ),
        (
            "update rollcall.custom_instructions set topic_id = $rust where scope = 'topic'",
            &["topic 0", "topic 0"],
        ),
        (
            "insert into rollcall.presence_devices (user_id, device_id, local_time) values ($u, 'web', '14:30')",
            &[],
        ),
        (
            "delete from rollcall.conversation_participants where conversation_id = $shared and user_id = $u",
            &["conversation 0"],
        ),
        ("truncate rollcall.memories cascade", &["everything"]),
    ];
    let (mut narrow, mut checked) = (0, 0);
    for (change, expected) in changes {
        for at in 0..USER_COUNT {
            compile_all(&db, &data, at).await;
        }
        assert_eq!(dirty_bundles(&db, &data).await, Vec::<String>::new(), "before {change}");
        db.execute(change, &ids).await;
        let dirtied = dirty_bundles(&db, &data).await;
        checked += 1;
        narrow += usize::from(expected.is_empty());
        if *expected == ["everything"] {
            assert!(dirtied.len() >= 20, "{change}: {dirtied:?}");
        } else {
            assert_eq!(dirtied, *expected, "{change}");
        }
        let queued = db.query_row("select count(*), count(distinct bundle_id) from rollcall.system_actions where status = 'pending' and kind = 'compile'", &[]).await;
        assert_eq!(
            (queued.get::<_, i64>(0), queued.get::<_, i64>(1)),
            (dirtied.len() as i64, dirtied.len() as i64),
            "one entry per bundle: {change}"
        );
    }
    println!("{checked} changes, each marked exactly the affected bundles stale; {narrow} of them none");
}

#[testkit::test]
async fn a_change_blocked_during_the_first_compilation_is_not_missed(db: Arc<TestDatabase>) {
    let data = seed_data(&db).await;
    // The change is made before the bundle exists and committed after it was compiled.
    let slow = db.connect().await;
    let change = format!(
        "begin; insert into rollcall.memories (user_id, content, category, importance) values ('{}', 'late', 'identity', 0.9)",
        data.users[0]
    );
    slow.batch_execute(&change).await.expect("a change");
    compile_all(&db, &data, 0).await;
    let sql = db.connect().await;
    impersonate(&sql, data.users[0]).await;
    assert_eq!(
        compare_bundles(&sql, &data.bundle_subjects(0)).await.0,
        7,
        "uncommitted changes are not missing"
    );
    slow.batch_execute("commit").await.expect("commits");
    let (fresh, missing) = compare_bundles(&sql, &data.bundle_subjects(0)).await;
    assert_eq!((fresh, missing.len()), (6, 1));
    // The stale flag follows.
    db.execute("select rollcall_internal.mark_stale_bundles()", &[]).await;
    assert_eq!(dirty_bundles(&db, &data).await, ["identity_core 0"]);
}

/// The change of the participant cannot see the link, and the compilation sees the link without the participant.
#[testkit::test]
async fn a_participant_and_a_link_of_two_transactions_are_not_missed(db: Arc<TestDatabase>) {
    let data = seed_data(&db).await;
    let (user, topic, conversation) = (data.users[0], data.topics[0], data.conversations[0]);
    let ids = [("u", user), ("t", topic), ("c", conversation)];
    db.execute(
        "delete from rollcall.conversation_participants where user_id = $u and conversation_id = $c",
        &ids,
    )
    .await;
    let slow = db.connect().await;
    let joins = format!(
        "begin; insert into rollcall.conversation_participants (conversation_id, user_id) values ('{conversation}', '{user}')"
    );
    slow.batch_execute(&joins).await.expect("a change");
    let links =
        "insert into rollcall.topic_conversations (topic_id, conversation_id, user_id) values ($t, $c, $u)";
    db.execute(links, &ids).await;
    compile_all(&db, &data, 0).await;
    slow.batch_execute("commit").await.expect("commits");
    let sql = db.connect().await;
    impersonate(&sql, user).await;
    // Fails if the bundle without the title of the conversation counts as fresh.
    compare_bundles(&sql, &data.bundle_subjects(0)).await;
    db.execute("select rollcall_internal.mark_stale_bundles()", &[]).await;
    assert!(dirty_bundles(&db, &data).await.contains(&"topic 0".to_owned()));
}

#[testkit::test]
async fn restored_bundles_are_recompiled(db: Arc<TestDatabase>) {
    let data = seed_data(&db).await;
    compile_all(&db, &data, 0).await;
    // As if restored from a cluster with higher transaction IDs.
    db.execute("update rollcall.context_bundles set compiled_seeing = '900000000:900000000:'", &[]).await;
    let sql = db.connect().await;
    impersonate(&sql, data.users[0]).await;
    assert_eq!(compare_bundles(&sql, &data.bundle_subjects(0)).await.0, 0);
}

/// Returns whether a word occurs in any bundle of a user, and the number of fresh bundles.
async fn reads_text(sql: &Client, subjects: &Value, word: &str) -> (bool, usize) {
    let row = sql.query_one("select rollcall.wanted_bundles($1)", &[subjects]).await.expect("answers");
    let served: Value = row.get(0);
    let fresh = served.as_array().expect("a list").iter().filter(|bundle| bundle["reason"] == "fresh");
    (served.to_string().contains(word), fresh.count())
}

#[testkit::test]
async fn a_revoked_source_appears_in_no_bundle(db: Arc<TestDatabase>) {
    let data = seed_data(&db).await;
    let shared = data.conversations[USER_COUNT];
    let ids = [("c", shared), ("one", data.users[0]), ("two", data.users[1]), ("t", data.topics[2])];
    db
        .execute(
            "update rollcall.conversations set title = 'the heist' where id = $c;
             insert into rollcall.messages (conversation_id, user_id, content) values ($c, $one, 'meet at the heist');
             insert into rollcall.topic_conversations (topic_id, conversation_id, user_id) values ($t, $c, $two)",
            &ids,
        )
        .await;
    for at in 0..USER_COUNT {
        compile_all(&db, &data, at).await;
    }
    let mut readers = Vec::new();
    for user in &data.users {
        let sql = db.connect().await;
        impersonate(&sql, *user).await;
        readers.push(sql);
    }
    for (at, reader) in readers.iter().enumerate() {
        assert_eq!(reads_text(reader, &data.bundle_subjects(at), "heist").await, (true, 7));
    }

    // After leaving the conversation: neither its messages, nor its title in a topic, nor a prompt in it.
    db.execute(
        "delete from rollcall.conversation_participants where conversation_id = $c and user_id = $two",
        &ids,
    )
    .await;
    assert_eq!(reads_text(&readers[1], &data.bundle_subjects(1), "heist").await, (false, 5));
    assert_eq!(
        reads_text(&readers[2], &data.bundle_subjects(2), "heist").await,
        (true, 7),
        "the others stay"
    );
    let prompt = "select rollcall.assemble($1, 'what about the heist?', 10)";
    let row = readers[1].query_one(prompt, &[&shared]).await.expect("answers");
    assert_eq!(row.get::<_, Option<Value>>(0), None);
    // After joining again, the missed message is included.
    db.execute("insert into rollcall.messages (conversation_id, user_id, content) values ($c, $one, 'the heist is off')", &ids).await;
    db.execute(
        "insert into rollcall.conversation_participants (conversation_id, user_id) values ($c, $two)",
        &ids,
    )
    .await;
    assert!(reads_text(&readers[1], &data.bundle_subjects(1), "the heist is off").await.0);

    // A policy that limits users to their own messages applies to bundles from its commit on.
    for at in 0..USER_COUNT {
        compile_all(&db, &data, at).await;
    }
    db
        .execute(
            "update rollcall.conversations set title = 'ours' where id = $c;
             alter policy \"participants read messages\" on rollcall.messages using (user_id = (select auth.uid()))",
            &ids,
        )
        .await;
    for (at, expected) in [(0, true), (1, false), (2, false)] {
        let (reads, fresh) = reads_text(&readers[at], &data.bundle_subjects(at), "heist").await;
        assert_eq!((reads, fresh), (expected, 0), "user {at}");
    }
    // The stale flags follow, and newly compiled bundles count as fresh.
    db.execute(
        "select rollcall_internal.mark_stale_by_access() + rollcall_internal.mark_stale_bundles()",
        &[],
    )
    .await;
    assert_eq!(dirty_bundles(&db, &data).await.len(), 7 * USER_COUNT);
    for (at, reader) in readers.iter().enumerate() {
        compile_all(&db, &data, at).await;
        assert_eq!(reads_text(reader, &data.bundle_subjects(at), "heist").await, (at == 0, 7));
    }
    let settled = db
        .query_row(
            "select rollcall_internal.mark_stale_by_access() + rollcall_internal.mark_stale_bundles()",
            &[],
        )
        .await;
    assert_eq!(settled.get::<_, i64>(0), 0, "they are recorded once");
}

#[testkit::test]
async fn storing_bundles_yields_to_source_changes(db: Arc<TestDatabase>) {
    let data = Arc::new(seed_data(&db).await);
    let user = data.users[0];
    compile_all(&db, &data, 0).await;

    // An open transaction has flagged a bundle.
    let changing = db.connect().await;
    let insert = format!(
        "begin; insert into rollcall.memories (user_id, content, category, importance) values ('{user}', 'x', 'identity', 0.9)"
    );
    changing.batch_execute(&insert).await.expect("changes");
    // Storing does not wait for it: it would hold locks that the transaction may want next.
    let storing = compile_all(&db, &data, 0);
    tokio::time::timeout(Duration::from_secs(5), storing).await.expect("storing waits for no lock");

    let delete = format!("delete from rollcall.topic_profiles where id = '{}'; commit", data.topics[0]);
    changing.batch_execute(&delete).await.expect("it does not lose a deadlock");
    let dirty = dirty_bundles(&db, &data).await;
    assert!(
        dirty.contains(&"identity_core 0".to_owned()),
        "bundles that were not stored stay stale: {dirty:?}"
    );
}
