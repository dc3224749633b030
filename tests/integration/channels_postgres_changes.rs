//! Changes of tables, frame by frame (docs/protocol/realtime.md, "Subscription echo and IDs", "Legacy join", and
//! "Change frame" to "Commit timestamp").
//!
//! The recordings `pg_*` in `tests/recorded` cover the rest by comparison with Supabase Realtime: filters, invalid
//! filters, wildcard subscriptions, column selection and column types.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::{
    harness::{TestDatabase, TestServer, User, mint_token, unix_time_in},
    phoenix::{PhoenixClient, SerializerVersion},
};

const TOPIC: &str = "realtime:room";
/// Two tables: one that every user may read, and one where users read their own rows.
const TABLES: &str = "
    create table public.notes (id int primary key, title text, rank int);
    create table public.todos (id int primary key, user_id uuid, body text);
    alter table public.todos enable row level security;
    create policy own on public.todos for select to authenticated using (user_id = (select auth.uid()));
    grant select on public.notes, public.todos to anon, authenticated;
    do $$ begin
      if not exists (select from pg_publication where pubname = 'supabase_realtime') then
        create publication supabase_realtime;
      end if;
    end $$;
    alter publication supabase_realtime add table public.notes, public.todos;";

/// Opens a socket, joins with a subscription, and waits for its confirmation.
async fn subscribed_client(
    node: &TestServer,
    vsn: SerializerVersion,
    token: Option<&str>,
    subscriptions: Value,
) -> (PhoenixClient, Vec<i64>) {
    let mut socket = node.channel_client(vsn).await;
    let mut join = json!({"config": {"postgres_changes": subscriptions}});
    if let Some(token) = token {
        join["access_token"] = json!(token);
    }
    let reply = socket.try_join(TOPIC, join).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    let ids = reply["response"]["postgres_changes"].as_array().expect("a list").iter();
    let ids = ids.map(|one| one["id"].as_i64().expect("an id")).collect();
    wait_until_subscribed(&mut socket).await;
    (socket, ids)
}

async fn wait_until_subscribed(socket: &mut PhoenixClient) {
    let system = socket.wait_for(TOPIC, "system").await;
    let expected = json!({
        "message": "Subscribed to PostgreSQL", "status": "ok", "extension": "postgres_changes", "channel": "room",
    });
    assert_eq!(system.payload, expected);
}

async fn next_change(socket: &mut PhoenixClient) -> Value {
    socket.wait_for(TOPIC, "postgres_changes").await.payload
}

fn notes_subscription() -> Value {
    json!([{"event": "*", "schema": "public", "table": "notes"}])
}

// docs/protocol/realtime.md, "Subscription echo and IDs"
#[testkit::test]
async fn the_join_reply_echoes_subscriptions_with_ids(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(TABLES, &[]).await;
    let subscriptions = json!([
        {"event": "INSERT", "schema": "public", "table": "notes", "filter": "rank=gt.1"},
        {"table": "notes", "schema": "public", "event": "*"},
        {"event": "INSERT", "schema": "public", "table": "notes", "filter": "rank=gt.1"},
        {"event": "*", "schema": "public", "table": "notes", "select": ["id"], "extra": true},
    ]);
    let mut all = Vec::new();
    for vsn in SerializerVersion::BOTH {
        let mut socket = node.channel_client(vsn).await;
        let reply = socket.join(TOPIC, json!({"postgres_changes": subscriptions})).await;
        let given = reply["postgres_changes"].as_array().expect("a list").clone();
        let mut ids = Vec::new();
        for (subscriptions, mut given) in subscriptions.as_array().expect("a list").iter().zip(given) {
            let id = given.as_object_mut().expect("an object").remove("id").and_then(|id| id.as_i64());
            ids.push(id.expect("an integer"));
            assert_eq!(&given, subscriptions, "verbatim");
        }
        assert!(ids.iter().all(|id| (1..=i64::from(i32::MAX)).contains(id)), "{ids:?}");
        assert_eq!(ids[0], ids[2], "equal subscriptions have equal IDs");
        assert!(ids[0] != ids[1] && ids[1] != ids[3] && ids[0] != ids[3], "{ids:?}");
        all.push(ids);
    }
    assert_eq!(all[0], all[1], "on every join");
}

// docs/protocol/realtime.md, "Legacy join"
#[testkit::test]
async fn a_legacy_join_receives_bare_changes(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(TABLES, &[]).await;
    for vsn in SerializerVersion::BOTH {
        let mut socket = node.channel_client(vsn).await;
        let topic = "realtime:public:notes";
        let reply = socket.try_join(topic, json!({})).await;
        assert_eq!(reply["status"], "ok", "{reply}");
        let [given] = &reply["response"]["postgres_changes"].as_array().expect("a list")[..] else {
            panic!("one: {reply}");
        };
        assert_eq!((&given["schema"], &given["table"]), (&json!("public"), &json!("notes")));
        socket.wait_for(topic, "system").await;
        db.execute("insert into public.notes values (1, 'one')", &[]).await;
        let received = socket.wait_for(topic, "INSERT").await;
        assert_eq!(received.payload["record"], json!({"id": 1, "title": "one", "rank": null}));
        assert_eq!(received.payload["type"], "INSERT");
        db.execute("delete from public.notes", &[]).await;
        socket.wait_for(topic, "DELETE").await;
    }
}

// docs/protocol/realtime.md, "Change frame"
#[testkit::test]
async fn changes_carry_the_ids_from_the_join(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(TABLES, &[]).await;
    for vsn in SerializerVersion::BOTH {
        let (mut socket, ids) = subscribed_client(&node, vsn, None, notes_subscription()).await;
        db.execute("insert into public.notes values (1, 'one', 5)", &[]).await;
        let mut insert = next_change(&mut socket).await;
        insert["data"].as_object_mut().expect("data").remove("commit_timestamp");
        let columns = json!([
            {"name": "id", "type": "int4"}, {"name": "title", "type": "text"}, {"name": "rank", "type": "int4"},
        ]);
        let expected = json!({"ids": ids, "data": {
            "schema": "public", "table": "notes", "type": "INSERT", "columns": columns,
            "record": {"id": 1, "title": "one", "rank": 5}, "errors": null,
        }});
        assert_eq!(insert, expected);
        db.execute("update public.notes set rank = 6", &[]).await;
        let update = next_change(&mut socket).await;
        assert_eq!(
            (&update["data"]["record"]["rank"], &update["data"]["old_record"]),
            (&json!(6), &json!({"id": 1}))
        );
        db.execute("delete from public.notes", &[]).await;
        let delete = next_change(&mut socket).await;
        assert_eq!(
            (&delete["data"]["type"], &delete["data"]["old_record"]),
            (&json!("DELETE"), &json!({"id": 1}))
        );
        assert_eq!(delete["data"].get("record"), None);
        socket.expect_no_frame().await;
    }
}

// docs/protocol/realtime.md, "Event filter"
#[testkit::test]
async fn one_frame_lists_every_matching_subscription(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(TABLES, &[]).await;
    let on = |event: &str| json!({"event": event, "schema": "public", "table": "notes"});
    let subscriptions = json!([on("INSERT"), on("*"), on("UPDATE"), on("DELETE")]);
    let (mut socket, ids) = subscribed_client(&node, SerializerVersion::V2, None, subscriptions).await;
    let matching = async |socket: &mut PhoenixClient| {
        let mut received: Vec<i64> =
            serde_json::from_value(next_change(socket).await["ids"].clone()).expect("ids");
        received.sort_unstable();
        received
    };
    for (statement, mut expected) in [
        ("insert into public.notes values (1)", vec![ids[0], ids[1]]),
        ("update public.notes set rank = 1", vec![ids[1], ids[2]]),
        ("delete from public.notes", vec![ids[1], ids[3]]),
    ] {
        db.execute(statement, &[]).await;
        expected.sort_unstable();
        assert_eq!(matching(&mut socket).await, expected, "{statement}");
    }
    socket.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Unpublished tables"
#[testkit::test]
async fn changes_arrive_once_a_table_is_published(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(TABLES, &[]).await;
    db.execute("create table public.later (id int primary key); grant select on public.later to anon", &[])
        .await;
    let subscriptions = json!([{"event": "*", "schema": "public", "table": "later"}]);
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    socket.join(TOPIC, json!({ "postgres_changes": subscriptions })).await;
    let error = socket.wait_for(TOPIC, "system").await;
    assert_eq!(
        (&error.payload["status"], &error.payload["extension"]),
        (&json!("error"), &json!("postgres_changes"))
    );
    let text = "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given \
                connect parameters: [event: *, schema: public, table: later, filters: [], select: nil]";
    assert_eq!(error.payload["message"], text);
    socket.heartbeat().await;
    db.execute("alter publication supabase_realtime add table public.later", &[]).await;
    socket.leave(TOPIC).await;
    let (mut socket, _) = subscribed_client(&node, SerializerVersion::V2, None, subscriptions).await;
    db.execute("insert into public.later values (1)", &[]).await;
    assert_eq!(next_change(&mut socket).await["data"]["record"], json!({"id": 1}));
}

// docs/protocol/realtime.md, "Row visibility"
#[testkit::test]
async fn only_visible_rows_are_sent_and_policy_changes_apply_at_once(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(TABLES, &[]).await;
    let (ann, bob) = (User::new(), User::new());
    let subscriptions = json!([{"event": "*", "schema": "public", "table": "todos"}]);
    let (mut hers, _) =
        subscribed_client(&node, SerializerVersion::V2, Some(&ann.token), subscriptions.clone()).await;
    let (mut his, _) =
        subscribed_client(&node, SerializerVersion::V1, Some(&bob.token), subscriptions.clone()).await;
    let (mut nobodys, _) = subscribed_client(&node, SerializerVersion::V2, None, subscriptions).await;
    let note = nobodys.wait_for(TOPIC, "system").await.payload;
    assert_eq!(note["status"], "ok", "{note}");
    assert!(
        note["message"].as_str().is_some_and(|text| text.contains("no policy lets the role anon select")),
        "{note}"
    );
    let ids = [("ann", ann.id), ("bob", bob.id)];
    db.execute("insert into public.todos values (1, $ann, 'hers'), (2, $bob, 'his')", &ids).await;
    assert_eq!(next_change(&mut hers).await["data"]["record"]["body"], "hers");
    assert_eq!(next_change(&mut his).await["data"]["record"]["body"], "his");
    for socket in [&mut hers, &mut his, &mut nobodys] {
        socket.expect_no_frame().await;
    }
    db.execute("alter policy own on public.todos using (true)", &[]).await;
    db.execute("update public.todos set body = 'ours' where id = 1", &[]).await;
    for socket in [&mut hers, &mut his] {
        assert_eq!(next_change(socket).await["data"]["record"]["body"], "ours");
    }
    nobodys.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Deletes"
#[testkit::test]
async fn deletes_carry_only_the_key_under_rls(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(TABLES, &[]).await;
    db.execute(
        "alter table public.todos replica identity full; alter table public.notes replica identity full",
        &[],
    )
    .await;
    let user = User::new();
    let subscriptions = json!([{"event": "DELETE", "schema": "public", "table": "*"}]);
    let (mut socket, _) =
        subscribed_client(&node, SerializerVersion::V2, Some(&User::new().token), subscriptions).await;
    let ids = [("user", user.id)];
    db.execute("insert into public.todos values (1, $user, 'secret'); delete from public.todos", &ids).await;
    assert_eq!(next_change(&mut socket).await["data"]["old_record"], json!({"id": 1}));
    db.execute("insert into public.notes values (1, 'open', 2); delete from public.notes", &[]).await;
    assert_eq!(
        next_change(&mut socket).await["data"]["old_record"],
        json!({"id": 1, "title": "open", "rank": 2})
    );
}

// docs/protocol/realtime.md, "Old record of an update"
#[testkit::test]
async fn updates_carry_the_replica_identity_columns(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(TABLES, &[]).await;
    let (mut socket, _) = subscribed_client(
        &node,
        SerializerVersion::V2,
        None,
        json!([{"event": "UPDATE", "schema": "public", "table": "notes"}]),
    )
    .await;
    db.execute("insert into public.notes values (1, 'one', 1); update public.notes set rank = 2", &[]).await;
    assert_eq!(next_change(&mut socket).await["data"]["old_record"], json!({"id": 1}));
    db.execute("alter table public.notes replica identity full; update public.notes set rank = 3", &[]).await;
    assert_eq!(
        next_change(&mut socket).await["data"]["old_record"],
        json!({"id": 1, "title": "one", "rank": 2})
    );
}

// docs/protocol/realtime.md, "Column privileges"
#[testkit::test]
async fn columns_without_a_grant_are_absent(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(TABLES, &[]).await;
    db.execute("revoke all on public.notes from anon; grant select (id, title) on public.notes to anon", &[])
        .await;
    let (mut socket, _) = subscribed_client(&node, SerializerVersion::V2, None, notes_subscription()).await;
    db.execute("insert into public.notes values (1, 'open', 42)", &[]).await;
    let received = next_change(&mut socket).await;
    assert_eq!(received["data"]["record"], json!({"id": 1, "title": "open"}));
    let names = received["data"]["columns"].as_array().expect("columns").iter().map(|column| &column["name"]);
    assert_eq!(names.collect::<Vec<_>>(), ["id", "title"]);
}

// docs/protocol/realtime.md, "Large rows"
#[testkit::test]
async fn a_large_row_is_sent_with_its_small_columns(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(TABLES, &[]).await;
    let (mut socket, _) = subscribed_client(&node, SerializerVersion::V2, None, notes_subscription()).await;
    db.execute("insert into public.notes values (1, repeat('x', 1100000), 7)", &[]).await;
    let received = next_change(&mut socket).await;
    assert_eq!(received["data"]["errors"], json!(["Error 413: Payload Too Large"]));
    assert_eq!(received["data"]["record"], json!({"id": 1, "rank": 7}));
}

// docs/protocol/realtime.md, "Subscription confirmation"
#[testkit::test]
async fn commits_after_the_confirmation_are_delivered(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(TABLES, &[]).await;
    for n in 0..10 {
        let mut socket = node.channel_client(SerializerVersion::V2).await;
        let reference =
            socket.send_join(TOPIC, json!({"config": {"postgres_changes": notes_subscription()}})).await;
        let first = socket.next_frame().await;
        assert_eq!(first.reference, json!(reference), "the reply comes first: {first:?}");
        wait_until_subscribed(&mut socket).await;
        db.execute(&format!("insert into public.notes values ({n})"), &[]).await;
        assert_eq!(next_change(&mut socket).await["data"]["record"]["id"], n);
    }
}

// docs/protocol/realtime.md, "Commit order"
#[testkit::test]
async fn changes_arrive_in_commit_order(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(TABLES, &[]).await;
    db.execute("alter table public.todos disable row level security", &[]).await;
    let subscriptions = json!([{"event": "*", "schema": "public", "table": "*"}]);
    let (mut socket, _) = subscribed_client(&node, SerializerVersion::V2, None, subscriptions).await;
    let early = db.connect().await;
    early.batch_execute("begin; insert into public.notes values (1, 'begun first')").await.expect("inserted");
    db.execute("insert into public.notes values (2, 'committed first')", &[]).await;
    early.batch_execute("insert into public.todos values (3); commit").await.expect("committed");
    db.execute(
        "begin; insert into public.todos values (4); insert into public.notes values (5); commit",
        &[],
    )
    .await;
    let mut order = Vec::new();
    for _ in 0..5 {
        order.push(next_change(&mut socket).await["data"]["record"]["id"].as_i64().expect("an id"));
    }
    assert_eq!(order, [2, 1, 3, 4, 5]);
}

// docs/protocol/realtime.md, "Claims after a token refresh"
#[testkit::test]
async fn a_refreshed_token_is_used_for_later_changes(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(TABLES, &[]).await;
    let (before, after) = (User::new(), User::new());
    let subscriptions = json!([{"event": "INSERT", "schema": "public", "table": "todos"}]);
    let (mut socket, _) =
        subscribed_client(&node, SerializerVersion::V2, Some(&before.token), subscriptions).await;
    socket.set_token(TOPIC, &after.token).await;
    wait_until_subscribed(&mut socket).await;
    let ids = [("before", before.id), ("after", after.id)];
    db.execute("insert into public.todos values (1, $before, 'before'), (2, $after, 'after')", &ids).await;
    assert_eq!(next_change(&mut socket).await["data"]["record"]["body"], "after");
    socket.expect_no_frame().await;
    // A token with equal claims causes no new check.
    let same = mint_token(&json!({"sub": after.id, "role": "authenticated", "exp": unix_time_in(7_200)}));
    socket.set_token(TOPIC, &same).await;
    socket.frames_within(Duration::from_millis(500)).await;
    db.execute("insert into public.todos values (3, $after, 'still')", &ids).await;
    assert_eq!(next_change(&mut socket).await["data"]["record"]["body"], "still");
}

// docs/protocol/realtime.md, "Truncate"
#[testkit::test]
async fn truncate_sends_nothing_and_keeps_the_subscription(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(TABLES, &[]).await;
    let (mut socket, _) = subscribed_client(&node, SerializerVersion::V2, None, notes_subscription()).await;
    db.execute("insert into public.notes values (1)", &[]).await;
    next_change(&mut socket).await;
    db.execute("truncate public.notes", &[]).await;
    socket.expect_no_frame().await;
    db.execute("insert into public.notes values (2)", &[]).await;
    assert_eq!(next_change(&mut socket).await["data"]["record"]["id"], 2);
}

// docs/protocol/realtime.md, "Commit timestamp"
#[testkit::test]
async fn the_commit_timestamp_has_milliseconds_in_utc(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(TABLES, &[]).await;
    db.execute("set time zone 'Asia/Tokyo'", &[]).await;
    let (mut socket, _) = subscribed_client(&node, SerializerVersion::V2, None, notes_subscription()).await;
    db.execute("insert into public.notes values (1)", &[]).await;
    let received = next_change(&mut socket).await;
    let text = received["data"]["commit_timestamp"].as_str().expect("a time");
    assert_eq!((text.len(), &text[10..11], &text[19..20], &text[23..]), (24, "T", ".", "Z"), "{text}");
    let time: jiff::Timestamp = text.parse().expect("a time");
    assert!(
        jiff::Timestamp::now().duration_since(time).abs() < jiff::SignedDuration::from_secs(10),
        "{text}"
    );
}
