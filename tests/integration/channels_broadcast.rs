//! Broadcasts from sockets and from the database (docs/protocol/realtime.md, "Broadcast delivery" to "Replication
//! ready").

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::{
    client::send,
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT},
    phoenix::{PhoenixClient, QUIET_PERIOD, SerializerVersion, anon_key, broadcast},
};
use tokio::time::{Instant, sleep};

const POLICIES: &str = include_str!("channel_policies.sql");
const TOPIC: &str = "realtime:room";
const PRIVATE_TOPIC: &str = "realtime:open:1";

async fn join_public(node: &TestServer, vsn: SerializerVersion, config: Value) -> PhoenixClient {
    let mut socket = node.channel_client(vsn).await;
    socket.join(TOPIC, config).await;
    socket
}

/// Joins the private topic with read and write access.
async fn join_private(node: &TestServer, vsn: SerializerVersion, config: Value) -> PhoenixClient {
    let mut socket = node.channel_client(vsn).await;
    socket.join_private(PRIVATE_TOPIC, &User::new().token, config).await;
    socket
}

// docs/protocol/realtime.md, "Broadcast delivery"
#[testkit::test]
async fn the_sender_receives_its_broadcast_only_with_self(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for vsn in SerializerVersion::BOTH {
        let user = User::new();
        let mut first = node.channel_client_with_key(vsn, &user.token).await.expect("a key");
        let mut second = node.channel_client_with_key(vsn, &user.token).await.expect("a key");
        first.join(TOPIC, json!({"broadcast": {"self": false}})).await;
        second.join(TOPIC, json!({"broadcast": {"self": true}})).await;
        first.broadcast(TOPIC, "one", json!({})).await;
        assert_eq!(second.next_broadcast(TOPIC).await, broadcast("one", json!({})));
        first.expect_no_frame().await;
        second.broadcast(TOPIC, "two", json!({})).await;
        for socket in [&mut first, &mut second] {
            assert_eq!(socket.next_broadcast(TOPIC).await, broadcast("two", json!({})));
            socket.expect_no_frame().await;
        }
        first.leave(TOPIC).await;
        second.leave(TOPIC).await;
    }
}

// docs/protocol/realtime.md, "Broadcast acknowledgement"
#[testkit::test]
async fn only_broadcasts_with_ack_get_a_reply(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for vsn in SerializerVersion::BOTH {
        for own in [false, true] {
            let mut quiet = join_public(&node, vsn, json!({"broadcast": {"self": own}})).await;
            let mut asking = join_public(&node, vsn, json!({"broadcast": {"self": own, "ack": true}})).await;
            let reference = asking.broadcast(TOPIC, "e", json!({})).await;
            assert_eq!(asking.wait_for_reply(&reference).await, json!({"status": "ok", "response": {}}));
            quiet.next_broadcast(TOPIC).await;
            quiet.broadcast(TOPIC, "e", json!({})).await;
            asking.next_broadcast(TOPIC).await;
            if own {
                quiet.next_broadcast(TOPIC).await;
                asking.next_broadcast(TOPIC).await;
            }
            quiet.expect_no_frame().await;
            asking.expect_no_frame().await;
            quiet.leave(TOPIC).await;
            asking.leave(TOPIC).await;
        }
    }
}

// docs/protocol/realtime.md, "Oversized broadcast"
#[testkit::test]
async fn an_oversized_broadcast_is_not_delivered(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("REALTIME_MAX_PAYLOAD_KB", "1")).await;
    let mut listener = join_public(&node, SerializerVersion::V2, json!({})).await;
    let large = json!({"s": "x".repeat(2_000)});
    for vsn in SerializerVersion::BOTH {
        let mut asking = join_public(&node, vsn, json!({"broadcast": {"ack": true, "self": true}})).await;
        let reference = asking.broadcast(TOPIC, "large", large.clone()).await;
        let expected = json!({"status": "error", "response": {"reason": "payload_size_exceeded"}});
        assert_eq!(asking.wait_for_reply(&reference).await, expected);
        let mut quiet = join_public(&node, vsn, json!({"broadcast": {"self": true}})).await;
        quiet.broadcast(TOPIC, "large", large.clone()).await;
        quiet.expect_no_frame().await;
        asking.expect_no_frame().await;
    }
    let body = json!({"messages": [{"topic": "room", "event": "e", "payload": large}]});
    let request = node.request(reqwest::Method::POST, "/api/broadcast").bearer_auth(anon_key());
    let errors = json!({"errors": {"messages": [{"payload": ["Payload size exceeds tenant limit"]}]}});
    assert_eq!(send(request.json(&body)).await.expect_status(422), errors);
    let request = node.request(reqwest::Method::POST, "/api/broadcast/room/events/e").bearer_auth(anon_key());
    let errors = json!({"errors": {"payload": ["Payload size exceeds tenant limit"]}});
    assert_eq!(send(request.json(&large)).await.expect_status(422), errors);
    listener.expect_no_frame().await;
    // The limit applies to payloads: a little more than 1 kB.
    let mut sender = join_public(&node, SerializerVersion::V2, json!({})).await;
    sender.broadcast(TOPIC, "fits", json!({"s": "x".repeat(1_000)})).await;
    assert_eq!(listener.next_broadcast(TOPIC).await["event"], "fits");
}

// docs/protocol/realtime.md, "Public and private topics of one name"
#[testkit::test]
async fn public_and_private_topics_of_one_name_are_separate(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let user = User::new();
    let mut public = node.channel_client(SerializerVersion::V2).await;
    public.join(PRIVATE_TOPIC, json!({"presence": {"enabled": true, "key": "public"}})).await;
    let mut private = node.channel_client(SerializerVersion::V2).await;
    private
        .join_private(PRIVATE_TOPIC, &user.token, json!({"presence": {"enabled": true, "key": "private"}}))
        .await;
    for socket in [&mut public, &mut private] {
        socket.wait_for(PRIVATE_TOPIC, "presence_state").await;
    }
    public.broadcast(PRIVATE_TOPIC, "e", json!({"from": "public"})).await;
    private.broadcast(PRIVATE_TOPIC, "e", json!({"from": "private"})).await;
    for socket in [&mut public, &mut private] {
        socket.expect_no_frame().await;
    }
    public.track(PRIVATE_TOPIC, json!({})).await;
    private.track(PRIVATE_TOPIC, json!({})).await;
    for (socket, key) in [(&mut public, "public"), (&mut private, "private")] {
        let diff = socket.wait_for(PRIVATE_TOPIC, "presence_diff").await;
        assert_eq!(diff.payload["joins"].as_object().expect("joins").keys().collect::<Vec<_>>(), [key]);
        socket.expect_no_frame().await;
    }

    for is_private in [false, true] {
        let body =
            json!({"messages": [{"topic": "open:1", "event": "rest", "payload": {}, "private": is_private}]});
        let request = node.request(reqwest::Method::POST, "/api/broadcast").bearer_auth(&user.token);
        assert_eq!(send(request.json(&body)).await.status, 202);
        db.sql
            .execute("select realtime.send('{}', 'sql', 'open:1', $1)", &[&is_private])
            .await
            .expect("sent");
        let (right, wrong) =
            if is_private { (&mut private, &mut public) } else { (&mut public, &mut private) };
        assert_eq!(right.next_broadcast(PRIVATE_TOPIC).await["event"], "rest");
        assert_eq!(right.next_broadcast(PRIVATE_TOPIC).await["event"], "sql");
        wrong.expect_no_frame().await;
    }
}

// docs/protocol/realtime.md, "Broadcast without write permission"
#[testkit::test]
async fn a_broadcast_without_write_access_is_refused_and_not_delivered(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let topic = "realtime:readonly:1";
    for vsn in SerializerVersion::BOTH {
        let mut sockets = Vec::new();
        for ack in [true, false] {
            let mut socket = node.channel_client(vsn).await;
            socket
                .join_private(topic, &User::new().token, json!({"broadcast": {"ack": ack, "self": true}}))
                .await;
            sockets.push(socket);
        }
        let reference = sockets[0].broadcast(topic, "e", json!({})).await;
        let reply = sockets[0].wait_for_reply(&reference).await;
        assert_eq!(reply["status"], "error", "{reply}");
        let reason = reply["response"]["reason"].as_str().expect("a reason");
        assert!(reason.starts_with("Unauthorized: "), "{reason}");
        // Without `ack` there is no reply.
        sockets[1].broadcast(topic, "e", json!({})).await;
        for socket in &mut sockets {
            socket.expect_no_frame().await;
        }
        // The sender still receives messages.
        db.sql.execute("select realtime.send('{}', 'sql', 'readonly:1')", &[]).await.expect("sent");
        for socket in &mut sockets {
            assert_eq!(socket.next_broadcast(topic).await["event"], "sql");
        }
    }
}

// docs/protocol/realtime.md, "Broadcast order"
#[testkit::test]
async fn a_thousand_messages_arrive_in_order(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("REALTIME_MAX_EVENTS_PER_SECOND", "0")).await;
    let mut listeners = [
        join_public(&node, SerializerVersion::V1, json!({})).await,
        join_public(&node, SerializerVersion::V2, json!({})).await,
    ];
    let mut sender = join_public(&node, SerializerVersion::V2, json!({})).await;
    for n in 0..1_000 {
        // Text and binary messages share one order.
        if n % 3 == 0 {
            sender.push(TOPIC, "broadcast", broadcast("n", json!({"n": n}))).await;
        } else {
            sender.broadcast(TOPIC, "n", json!({"n": n})).await;
        }
    }
    for listener in &mut listeners {
        for n in 0..1_000 {
            assert_eq!(listener.next_broadcast(TOPIC).await["payload"]["n"], n);
        }
        listener.expect_no_frame().await;
    }
}

// docs/protocol/realtime.md, "Broadcast order"
#[testkit::test]
async fn later_actions_arrive_after_earlier_messages(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for vsn in SerializerVersion::BOTH {
        let mut other = join_public(&node, vsn, json!({})).await;
        let mut sender = join_public(&node, vsn, json!({"broadcast": {"self": true}})).await;
        for n in 0..3 {
            sender.broadcast(TOPIC, "n", json!({"n": n})).await;
        }
        let track = sender.push(TOPIC, "presence", json!({"type": "presence", "event": "track"})).await;
        let leave = sender.push(TOPIC, "phx_leave", json!({})).await;
        let mut order = Vec::new();
        while order.last() != Some(&json!(leave)) {
            let frame = sender
                .wait_for_match("anything", |frame| ["broadcast", "phx_reply"].contains(&&*frame.event))
                .await;
            let is_reply = frame.event == "phx_reply";
            order.push(if is_reply { frame.reference } else { frame.payload["payload"]["n"].clone() });
        }
        assert_eq!(order, [json!(0), json!(1), json!(2), json!(track), json!(leave)]);
        for n in 0..3 {
            assert_eq!(other.next_broadcast(TOPIC).await["payload"]["n"], n);
        }
        other.leave(TOPIC).await;
    }
}

// docs/protocol/realtime.md, "Delivery after commit"
#[testkit::test]
async fn a_message_from_sql_is_delivered_after_commit(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let mut socket = join_private(&node, SerializerVersion::V2, json!({})).await;
    let dba = db.connect().await;
    dba.batch_execute("begin; select realtime.send('{\"n\": 1}', 'e', 'open:1', true)").await.expect("sent");
    socket.expect_no_frame().await;
    dba.batch_execute("rollback").await.expect("undone");
    socket.expect_no_frame().await;
    dba.batch_execute("begin; select realtime.send('{\"n\": 2}', 'e', 'open:1', true)").await.expect("sent");
    dba.batch_execute("select realtime.send('{\"n\": 3}', 'e', 'open:1', true); commit").await.expect("sent");
    let started = Instant::now();
    for n in [2, 3] {
        assert_eq!(socket.next_broadcast(PRIVATE_TOPIC).await["payload"]["n"], n, "in order");
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    socket.expect_no_frame().await;

    // A direct insert is broadcast; one without an event is not.
    dba.batch_execute(
        "insert into realtime.messages (topic, extension, event, payload, private)
           values ('open:1', 'broadcast', null, '{}', true), ('open:1', 'broadcast', 'direct', '{\"d\": 1}', true)",
    )
    .await
    .expect("inserted");
    let received = socket.next_broadcast(PRIVATE_TOPIC).await;
    assert_eq!((&received["event"], &received["payload"]), (&json!("direct"), &json!({"d": 1})));
    socket.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Message ID"
#[testkit::test]
async fn a_message_from_sql_carries_its_row_id(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    for vsn in SerializerVersion::BOTH {
        let mut socket = join_private(&node, vsn, json!({})).await;
        db.execute("select realtime.send('{\"a\": 1}', 'one', 'open:1')", &[]).await;
        db.execute("select realtime.send('{\"id\": \"mine\"}', 'two', 'open:1', true)", &[]).await;
        let received = socket.next_broadcast(PRIVATE_TOPIC).await;
        let row = db
            .query_row("select id::text from realtime.messages where event = 'one' order by inserted_at desc limit 1", &[])
            .await;
        let id: String = row.get(0);
        let expected =
            json!({"type": "broadcast", "event": "one", "payload": {"a": 1, "id": id}, "meta": {"id": id}});
        assert_eq!(received, expected);
        let received = socket.next_broadcast(PRIVATE_TOPIC).await;
        assert_eq!(received["payload"], json!({"id": "mine"}));
        let id = received["meta"]["id"].as_str().expect("the row's id");
        id.parse::<uuid::Uuid>().expect("a uuid");
    }
}

// docs/protocol/realtime.md, "Sending without insert permission"
#[testkit::test]
async fn sending_from_sql_without_access_raises_a_warning(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let mut socket = join_private(&node, SerializerVersion::V2, json!({})).await;
    let user = User::new();
    let claims = json!({"sub": user.id, "role": "authenticated"}).to_string();
    let as_user = format!("begin; set local role authenticated; set local request.jwt.claims = '{claims}';");
    let dba = db.connect().await;
    dba.batch_execute(&format!("{as_user} select realtime.send('{{}}', 'no', 'readonly:1', true); commit"))
        .await
        .expect("a warning, not an error");
    dba.batch_execute(&format!("{as_user} select realtime.send('[1]', 'no', 'open:1', true); commit"))
        .await
        .expect("nor for a payload that is not an object");
    let count = db.query_row("select count(*) from realtime.messages", &[]).await;
    assert_eq!(count.get::<_, i64>(0), 0);
    dba.batch_execute(&format!("{as_user} select realtime.send('{{}}', 'yes', 'open:1', true); commit"))
        .await
        .expect("this user has access");
    assert_eq!(socket.next_broadcast(PRIVATE_TOPIC).await["event"], "yes");
    socket.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Row triggers"
#[testkit::test]
async fn a_row_trigger_broadcasts_the_change(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    db
        .execute(
            "create table public.notes (id int primary key, title text);
             create function public.tell_of_notes() returns trigger language plpgsql security definer
               set search_path = '' as $f$
             begin
               perform realtime.broadcast_changes('open:1', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
               return null;
             end $f$;
             create trigger broadcast_changes after insert or update or delete on public.notes
               for each row execute function public.tell_of_notes();",
            &[],
        )
        .await;
    let mut socket = join_private(&node, SerializerVersion::V2, json!({})).await;
    for (statement, operation, record, old) in [
        (
            "insert into public.notes values (1, 'one')",
            "INSERT",
            json!({"id": 1, "title": "one"}),
            Value::Null,
        ),
        (
            "update public.notes set title = 'two'",
            "UPDATE",
            json!({"id": 1, "title": "two"}),
            json!({"id": 1, "title": "one"}),
        ),
        ("delete from public.notes", "DELETE", Value::Null, json!({"id": 1, "title": "two"})),
    ] {
        db.execute(statement, &[]).await;
        let received = socket.next_broadcast(PRIVATE_TOPIC).await;
        assert_eq!(received["event"], operation);
        let mut payload = received["payload"].clone();
        let id = payload.as_object_mut().expect("an object").remove("id");
        assert_eq!(id, Some(received["meta"]["id"].clone()));
        let expected = json!({
            "operation": operation, "table": "notes", "schema": "public", "record": record, "old_record": old,
        });
        assert_eq!(payload, expected);
    }
    let odd = "select realtime.broadcast_changes('open:1', 'e', 'TRUNCATE', 'notes', 'public', null::public.notes, null::public.notes)";
    db.sql.batch_execute(odd).await.expect_err("another operation is an error");
    socket.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Binary messages from SQL"
#[testkit::test]
async fn bytes_from_sql_reach_version_2_clients(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let mut new = join_private(&node, SerializerVersion::V2, json!({})).await;
    let mut old = join_private(&node, SerializerVersion::V1, json!({})).await;
    db.execute(r"select realtime.send_binary('\x00ff10'::bytea, 'blob', 'open:1', true)", &[]).await;
    let received = new.wait_for(PRIVATE_TOPIC, "broadcast").await;
    assert_eq!(received.data, Some(vec![0, 255, 16]));
    assert_eq!(received.payload["event"], "blob");
    assert!(received.payload["meta"]["id"].is_string(), "{received:?}");
    old.expect_no_frame().await;
    new.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Topic in policies"
#[testkit::test]
async fn policies_read_the_topic_without_its_prefix(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, topic) = (User::new(), "realtime:exactly: thîs");
    let private = json!({"config": {"private": true}, "access_token": user.token});
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    socket.join_error(topic, private.clone()).await;
    db.execute(
        "create policy exact on realtime.messages for select to authenticated
               using (realtime.topic() = 'exactly: thîs')",
        &[],
    )
    .await;
    // The change may take a moment to arrive.
    let started = Instant::now();
    while socket.try_join(topic, private.clone()).await["status"] != "ok" {
        assert!(started.elapsed() < WAIT_TIMEOUT);
        sleep(QUIET_PERIOD).await;
    }
    let nothing = db.query_row("select realtime.topic()", &[]).await;
    assert_eq!(nothing.get::<_, Option<String>>(0), None, "outside a trigger there is none");
}

fn now_in_milliseconds() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Joins the private topic with a replay; returns the numbers of the replayed messages.
async fn replayed_numbers(socket: &mut PhoenixClient, user: &User, replay: Value) -> Vec<i64> {
    let reference = socket
        .send_join(
            PRIVATE_TOPIC,
            json!({"config": {"private": true, "broadcast": {"replay": replay}}, "access_token": user.token}),
        )
        .await;
    let frames = socket.frames_within(QUIET_PERIOD * 2).await;
    let mut received = Vec::new();
    let reply = frames.iter().position(|frame| frame.reference == json!(reference)).expect("a reply");
    assert_eq!(frames[reply].payload["status"], "ok", "{frames:?}");
    for (at, frame) in frames.iter().enumerate().filter(|(_, frame)| frame.event == "broadcast") {
        assert!(at > reply, "nothing precedes the reply: {frames:?}");
        assert_eq!(frame.payload["meta"]["replayed"], true, "{frame:?}");
        assert!(frame.payload["meta"]["id"].is_string(), "{frame:?}");
        received.push(frame.payload["payload"]["n"].as_i64().expect("a number"));
    }
    socket.leave(PRIVATE_TOPIC).await;
    received
}

// docs/protocol/realtime.md, "Replay"
#[testkit::test]
async fn a_replay_returns_the_newest_messages_in_order(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let user = User::new();
    let before = now_in_milliseconds() - 1_000;
    // Rows of one transaction have the same time and still arrive in order.
    db.execute(
        "select realtime.send(jsonb_build_object('n', n), 'e', 'open:1') from generate_series(1, 20) n",
        &[],
    )
    .await;
    sleep(Duration::from_millis(20)).await;
    let between = now_in_milliseconds();
    sleep(Duration::from_millis(20)).await;
    for n in 21..=30 {
        let message = json!({ "n": n });
        db.sql.execute("select realtime.send($1, 'e', 'open:1')", &[&message]).await.expect("sent");
    }
    db.execute("select realtime.send('{\"n\": 99}', 'e', 'open:1', false)", &[]).await;
    db.execute("select realtime.send('{\"n\": 98}', 'e', 'open:2')", &[]).await;
    for vsn in SerializerVersion::BOTH {
        let mut socket = node.channel_client(vsn).await;
        for (replay, expected) in [
            (json!({"since": before, "limit": 3}), 28..=30),
            (json!({"since": before}), 6..=30),
            (json!({"since": before, "limit": 1_000}), 6..=30),
            (json!({"since": before, "limit": 0}), 30..=30),
            (json!({"since": between}), 21..=30),
        ] {
            assert_eq!(
                replayed_numbers(&mut socket, &user, replay.clone()).await,
                expected.collect::<Vec<_>>(),
                "{replay}"
            );
        }
        let later = now_in_milliseconds() + 60_000;
        assert_eq!(replayed_numbers(&mut socket, &user, json!({ "since": later })).await, Vec::<i64>::new());
    }
    // Binary messages too, for version 2 clients.
    db.execute(r"select realtime.send_binary('\x0102'::bytea, 'blob', 'open:1')", &[]).await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let config = json!({"broadcast": {"replay": {"since": before, "limit": 1}}});
    socket.join_private(PRIVATE_TOPIC, &user.token, config).await;
    let received = socket.wait_for(PRIVATE_TOPIC, "broadcast").await;
    assert_eq!((received.data, &received.payload["meta"]["replayed"]), (Some(vec![1, 2]), &json!(true)));
}

// docs/protocol/realtime.md, "Invalid replay"
#[testkit::test]
async fn an_invalid_replay_is_rejected(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let token = User::new().token;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let join = |private: bool, replay: Value| json!({"config": {"private": private, "broadcast": {"replay": replay}}, "access_token": token});
    let reason = socket.join_error(PRIVATE_TOPIC, join(false, json!({"since": 1}))).await;
    assert_eq!(reason, "UnableToReplayMessages: Replay is not allowed for public channels");
    for replay in
        [json!({"limit": 2}), json!({"since": "x"}), json!({"since": "1756684800000"}), json!({"since": 1.5})]
    {
        let reason = socket.join_error(PRIVATE_TOPIC, join(true, replay.clone())).await;
        assert_eq!(reason, "UnableToReplayMessages: Replay params are not valid", "{replay}");
    }
    // Without broadcast access there is no replay.
    let payload = json!({
        "config": {"private": true, "broadcast": {"replay": {"since": 1}}, "presence": {"enabled": true}},
        "access_token": token,
    });
    let reason = socket.join_error("realtime:presence:1", payload).await;
    assert_eq!(
        reason,
        "Unauthorized: You do not have permissions to read from this Channel topic: presence:1"
    );
    // Broadcasts over WebSockets are not stored.
    socket.join_private(PRIVATE_TOPIC, &token, json!({})).await;
    socket.broadcast(PRIVATE_TOPIC, "e", json!({})).await;
    socket.leave(PRIVATE_TOPIC).await;
    let stored = db.query_row("select count(*) from realtime.messages", &[]).await;
    assert_eq!(stored.get::<_, i64>(0), 0);
}

// docs/protocol/realtime.md, "Replay and live messages"
#[testkit::test]
async fn replayed_and_live_messages_form_one_sequence(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let (user, since) = (User::new(), now_in_milliseconds() - 1_000);
    let dba = db.connect().await;
    let writing = tokio::spawn(async move {
        for n in 0_i64..200 {
            let message = json!({ "n": n });
            dba.execute("select realtime.send($1, 'e', 'open:1')", &[&message]).await.expect("sent");
        }
    });
    let mut tasks = Vec::new();
    for round in 0..10_u64 {
        let (node, user) = (node.clone(), user.clone());
        tasks.push(tokio::spawn(async move {
            sleep(Duration::from_millis(round * 30)).await;
            let mut socket = node.channel_client(SerializerVersion::V2).await;
            let config = json!({"broadcast": {"replay": {"since": since, "limit": 25}}});
            socket.join_private(PRIVATE_TOPIC, &user.token, config).await;
            let mut received = Vec::new();
            while received.last() != Some(&199) {
                let message = socket.next_broadcast(PRIVATE_TOPIC).await;
                received.push(message["payload"]["n"].as_i64().expect("a number"));
            }
            received
        }));
    }
    writing.await.expect("all sent");
    for task in tasks {
        let received = task.await.expect("all messages arrived");
        let expected: Vec<_> = (received[0]..200).collect();
        assert_eq!(received, expected, "each once, in order, without a gap");
    }
}

// docs/protocol/realtime.md, "Message rate limit"
#[testkit::test]
async fn flooding_closes_the_sender_channel(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("REALTIME_MAX_EVENTS_PER_SECOND", "5")).await;
    let mut listener = join_public(&node, SerializerVersion::V2, json!({})).await;
    let mut sender = join_public(&node, SerializerVersion::V2, json!({})).await;
    let started = Instant::now();
    let message = loop {
        for _ in 0..50 {
            sender.push(TOPIC, "broadcast", broadcast("flood", json!({}))).await;
        }
        let frames = sender.frames_within(Duration::from_millis(100)).await;
        if let Some(system) = frames.iter().find(|frame| frame.event == "system") {
            assert!(frames.iter().any(|frame| frame.event == "phx_close"), "{frames:?}");
            break system.payload["message"].clone();
        }
        assert!(started.elapsed() < WAIT_TIMEOUT, "five per second must be accepted");
    };
    assert_eq!(message, "Too many messages per second");
    sender.frames_within(QUIET_PERIOD).await;
    sender.heartbeat().await;
    // A member that only receives stays joined.
    let received = listener.frames_within(QUIET_PERIOD).await;
    assert!(received.iter().all(|frame| frame.event == "broadcast"), "{:?}", received.last());
    listener.heartbeat().await;
    // The sender may rejoin and send later.
    let started = Instant::now();
    loop {
        sleep(Duration::from_millis(500)).await;
        let reply = sender.try_join(TOPIC, json!({"config": {"broadcast": {"ack": true}}})).await;
        if reply["status"] == "ok" {
            let reference = sender.broadcast(TOPIC, "back", json!({})).await;
            let frame = sender.wait_for_match("a reply or a close", |frame| {
                frame.reference == reference.as_str() || frame.event == "phx_close"
            });
            if frame.await.payload["status"] == "ok" {
                break;
            }
        }
        assert!(started.elapsed() < Duration::from_secs(90), "never forgiven");
    }
    listener.wait_for_match("the message after the pause", |frame| frame.payload["event"] == "back").await;
}

// docs/protocol/realtime.md, "Replication ready"
#[testkit::test]
async fn replication_ready_is_sent_once(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    socket.join(TOPIC, json!({"broadcast": {"replication_ready": true}})).await;
    let ready = socket.wait_for(TOPIC, "system").await;
    assert_eq!(ready.payload["message"], "Replication connection established");
    db.execute("select realtime.send('{}', 'now', 'room', false)", &[]).await;
    assert_eq!(socket.next_broadcast(TOPIC).await["event"], "now");
    let more = socket.frames_within(Duration::from_secs(2)).await;
    assert!(more.is_empty(), "{more:?}");
    join_public(&node, SerializerVersion::V2, json!({})).await.expect_no_frame().await;
}
