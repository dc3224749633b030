//! Channels with a history (docs/protocol/realtime.md, "History" to "Replay after a message").

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use testkit::{
    events::{Event, EventStream},
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT, service_user},
    model::Histories,
    phoenix::{Frame, PhoenixClient, SerializerVersion, anon_key, broadcast},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

const POLICIES: &str = include_str!("channel_policies.sql");
const TOPIC: &str = "realtime:room:1";
const PRIVATE_TOPIC: &str = "realtime:open:1";

/// A node with a history of rooms and private channels.
async fn node_with(db: &TestDatabase, history: &str) -> Arc<TestServer> {
    let history = history.to_owned();
    db.start_server_with(|settings| {
        settings.set("CHANNEL_HISTORY", &history);
        settings.set("HUB_SHARDS", "4");
    })
    .await
}

async fn node(db: &TestDatabase) -> Arc<TestServer> {
    node_with(db, "room:*=100/10m,open:*=100/10m,members:*=100/10m").await
}

fn after(ids: impl Into<Value>) -> Value {
    json!({"broadcast": {"replay": {"after": ids.into()}}})
}

/// The ID that a message of a channel with history must have.
fn id_of(payload: &Value) -> String {
    let id = payload["meta"]["id"].as_str().unwrap_or_else(|| panic!("no ID: {payload}"));
    assert_eq!(uuid::Uuid::parse_str(id).map(|id| id.to_string()), Ok(id.to_owned()), "a UUID");
    id.to_owned()
}

fn number_of(payload: &Value) -> i64 {
    payload["payload"]["n"].as_i64().unwrap_or_else(|| panic!("no number: {payload}"))
}

/// The frames between the reply to a join and a live message with event `end`.
async fn replayed(socket: &mut PhoenixClient, sender: &mut PhoenixClient, topic: &str) -> Vec<Frame> {
    sender.broadcast(topic, "end", json!({})).await;
    let mut frames = Vec::new();
    loop {
        let frame = socket.wait_for(topic, "broadcast").await;
        if frame.payload["meta"].get("replayed").is_none() {
            assert_eq!(frame.payload["event"], "end", "nothing else is live");
            return frames;
        }
        id_of(&frame.payload);
        frames.push(frame);
    }
}

fn numbers(frames: &[Frame]) -> Vec<i64> {
    frames.iter().map(|frame| number_of(&frame.payload)).collect()
}

/// A member of the public room.
async fn member(node: &TestServer, vsn: SerializerVersion, config: Value) -> (PhoenixClient, Value) {
    let mut socket = node.channel_client(vsn).await;
    let response = socket.join(TOPIC, config).await;
    (socket, response)
}

#[testkit::test]
async fn every_broadcast_has_one_id_for_all_members(db: Arc<TestDatabase>) {
    let (one, two) = (node(&db).await, node(&db).await);
    let mut members = Vec::new();
    for node in [&one, &two] {
        for vsn in SerializerVersion::BOTH {
            members.push(member(node, vsn, json!({})).await.0);
        }
    }
    let mut seen = BTreeSet::new();
    for vsn in SerializerVersion::BOTH {
        let (mut sender, _) = member(&one, vsn, json!({})).await;
        sender.broadcast(TOPIC, "e", json!({"from": "socket"})).await;
        let mut ids = BTreeSet::new();
        for socket in &mut members {
            let payload = socket.next_broadcast(TOPIC).await;
            ids.insert(id_of(&payload));
            let expected = broadcast("e", json!({"from": "socket"}));
            assert_eq!((&payload["event"], &payload["payload"]), (&expected["event"], &expected["payload"]));
        }
        assert_eq!(ids.len(), 1, "the same on all nodes");
        assert!(seen.insert(ids), "another one for each message");
        sender.leave(TOPIC).await;
    }
    // Over HTTP: a batch with and without an ID, and a single message.
    let id = uuid::Uuid::new_v4().to_string();
    let message = |payload: Value| json!({"topic": "room:1", "event": "rest", "payload": payload});
    let mut named = message(json!({"n": 1}));
    named["id"] = json!(id);
    let body = json!({"messages": [named, message(json!({"n": 2}))]});
    one.post(&service_user(), "/realtime/v1/api/broadcast", body).await.expect_status(202);
    let path = "/realtime/v1/api/broadcast/room%3A1/events/rest";
    one.post(&service_user(), path, json!({"n": 3})).await.expect_status(202);
    // And from the database.
    db.execute(r#"select realtime.send('{"n": 4}', 'rest', 'room:1', false)"#, &[]).await;
    for socket in &mut members {
        let mut ids = BTreeMap::new();
        for _ in 1..=4 {
            let payload = socket.next_broadcast(TOPIC).await;
            ids.insert(number_of(&payload), id_of(&payload));
        }
        assert_eq!((ids[&1].as_str(), ids.len()), (id.as_str(), 4));
    }
    // Payloads of other shapes are forwarded unchanged, without an ID.
    let (mut sender, _) = member(&one, SerializerVersion::V1, json!({})).await;
    for other in [json!({}), json!({"type": "broadcast", "event": "e", "x": 1, "flat": true})] {
        sender.push(TOPIC, "broadcast", other.clone()).await;
        for socket in &mut members {
            assert_eq!(socket.next_broadcast(TOPIC).await, other);
        }
    }
    // Other topics have no history.
    let mut other = two.channel_client(SerializerVersion::V2).await;
    other.join("realtime:lobby", json!({"broadcast": {"self": true}})).await;
    other.broadcast("realtime:lobby", "e", json!({})).await;
    assert_eq!(other.next_broadcast("realtime:lobby").await, broadcast("e", json!({})));
}

#[testkit::test]
async fn a_join_gets_what_it_missed_on_any_node(db: Arc<TestDatabase>) {
    let (one, two) = (node(&db).await, node(&db).await);
    for (base, vsn) in [(0, SerializerVersion::V1), (10, SerializerVersion::V2)] {
        let (mut sender, _) = member(&one, vsn, json!({})).await;
        let (mut socket, response) = member(&one, vsn, json!({})).await;
        assert_eq!(response.get("replay"), None);
        sender.broadcast(TOPIC, "e", json!({"n": base + 1})).await;
        let last = id_of(&socket.next_broadcast(TOPIC).await);
        socket.abort();
        for n in 2..=4 {
            sender.broadcast(TOPIC, "e", json!({"n": base + n})).await;
        }
        sender.heartbeat().await;
        for node in [&one, &two] {
            // The other node gets the messages by the bus.
            let (mut control, _) = member(node, vsn, json!({"broadcast": {"replay": {"since": 0}}})).await;
            control.wait_for_match("the last one", |frame| number_or(&frame.payload) == Some(base + 4)).await;
            let mut config = after(last.clone());
            config["presence"] = json!({"enabled": true});
            let (mut socket, response) = member(node, vsn, config).await;
            assert_eq!(response["replay"], json!({"complete": true}));
            let mut frames = Vec::new();
            loop {
                let frame = socket.next_frame().await;
                if frame.event == "presence_state" {
                    break;
                }
                if frame.payload["event"] == "e" {
                    frames.push(frame);
                }
            }
            assert_eq!(numbers(&frames), [base + 2, base + 3, base + 4], "before the presence state");
            let join_ref = socket.join_ref(TOPIC).map(Value::from);
            if vsn == SerializerVersion::V2 {
                assert!(frames.iter().all(|frame| Some(&frame.join_ref) == join_ref.as_ref()));
            }
            let (mut socket, response) = member(node, vsn, after(id_of(&frames[2].payload))).await;
            assert_eq!(response["replay"], json!({"complete": true}));
            let frames = replayed(&mut socket, &mut sender, TOPIC).await;
            assert!(frames.iter().all(|frame| frame.payload["event"] == "end"), "{frames:?}");
        }
        sender.leave(TOPIC).await;
    }
}

fn number_or(payload: &Value) -> Option<i64> {
    payload["payload"]["n"].as_i64()
}

#[testkit::test]
async fn binary_messages_and_those_of_the_database_are_kept(db: Arc<TestDatabase>) {
    let node = node(&db).await;
    let (mut sender, _) = member(&node, SerializerVersion::V2, json!({"broadcast": {"self": true}})).await;
    sender.broadcast(TOPIC, "first", json!({})).await;
    let first = id_of(&sender.next_broadcast(TOPIC).await);
    sender.broadcast_bytes(TOPIC, "bytes", 0, &[0, 255, 1]).await;
    sender.next_broadcast(TOPIC).await;
    db.execute(r#"select realtime.send('{"n": 7}', 'sql', 'room:1', false)"#, &[]).await;
    let stored = id_of(&sender.next_broadcast(TOPIC).await);
    let (mut socket, _) = member(&node, SerializerVersion::V2, after(first.clone())).await;
    let bytes = socket.next_frame().await;
    assert_eq!((bytes.data, &bytes.payload["meta"]["replayed"]), (Some(vec![0, 255, 1]), &json!(true)));
    let sql = socket.next_frame().await.payload;
    assert_eq!((&sql["event"], number_of(&sql), id_of(&sql)), (&json!("sql"), 7, stored));
    // Version 1 has no bytes.
    let (mut socket, _) = member(&node, SerializerVersion::V1, after(first)).await;
    assert_eq!(socket.next_frame().await.payload["event"], "sql");
}

#[testkit::test]
async fn the_history_is_bounded_and_says_so(db: Arc<TestDatabase>) {
    let node = node_with(&db, "room:*=5/10m,room:brief=100/1s").await;
    let (mut sender, _) = member(&node, SerializerVersion::V2, json!({"broadcast": {"self": true}})).await;
    let mut ids = Vec::new();
    for n in 1..=8 {
        sender.broadcast(TOPIC, "e", json!({ "n": n })).await;
        ids.push(id_of(&sender.next_broadcast(TOPIC).await));
    }
    let unknown = uuid::Uuid::new_v4().to_string();
    for (query, complete, expected) in [
        (json!({"after": ids[3]}), Some(true), &[5, 6, 7, 8][..]),
        (json!({"after": [ids[3], ids[5]]}), Some(true), &[7, 8]),
        (json!({"after": [ids[6], ids[3]]}), Some(true), &[5, 6, 8]),
        (json!({"after": ids[3], "limit": 2}), Some(false), &[7, 8]),
        // Too old, unknown, and not an ID at all.
        (json!({"after": ids[2]}), Some(false), &[4, 5, 6, 7, 8]),
        (json!({"after": unknown}), Some(false), &[4, 5, 6, 7, 8]),
        (json!({"after": "x"}), Some(false), &[4, 5, 6, 7, 8]),
        (json!({"since": 0}), None, &[4, 5, 6, 7, 8]),
        (json!({"since": 0, "limit": 2}), None, &[7, 8]),
        (json!({"since": 0, "limit": 0}), None, &[8]),
        (json!({"since": i64::MAX}), None, &[]),
    ] {
        let (mut socket, response) =
            member(&node, SerializerVersion::V2, json!({"broadcast": {"replay": query}})).await;
        let expected_reply = complete.map(|complete| json!({ "complete": complete }));
        assert_eq!(response.get("replay"), expected_reply.as_ref(), "{query}");
        let received: Vec<i64> = match expected.len() {
            0 => Vec::new(),
            count => {
                let mut frames = Vec::new();
                for _ in 0..count {
                    frames.push(socket.next_frame().await);
                }
                numbers(&frames)
            }
        };
        assert_eq!(received, expected, "{query}");
    }
    for query in [json!({}), json!({"after": 1}), json!({"since": "x"}), json!({"after": "x", "limit": "y"})]
    {
        let mut socket = node.channel_client(SerializerVersion::V2).await;
        let config = json!({"config": {"broadcast": {"replay": query}}});
        let reason = socket.join_error(TOPIC, config).await;
        assert_eq!(reason, "UnableToReplayMessages: Replay params are not valid", "{query}");
    }
    // Age.
    let topic = "realtime:room:brief";
    sender.join(topic, json!({"broadcast": {"self": true}})).await;
    sender.broadcast(topic, "e", json!({"n": 1})).await;
    let id = id_of(&sender.next_broadcast(topic).await);
    sleep(Duration::from_millis(1_100)).await;
    let mut late = node.channel_client(SerializerVersion::V2).await;
    assert_eq!(late.join(topic, after(id)).await["replay"], json!({"complete": false}));
    assert!(replayed(&mut late, &mut sender, topic).await.is_empty());
}

#[testkit::test]
async fn the_memory_of_all_histories_is_bounded(db: Arc<TestDatabase>) {
    let node = db
        .start_server_with(|settings| {
            settings.set("CHANNEL_HISTORY", "room:*=100/10m");
            settings.set("CHANNEL_HISTORY_MEMORY_MB", "1");
        })
        .await;
    let (mut sender, _) = member(&node, SerializerVersion::V2, json!({"broadcast": {"self": true}})).await;
    sender.join("realtime:room:2", json!({"broadcast": {"self": true}})).await;
    let large = "x".repeat(300_000);
    sender.broadcast(TOPIC, "e", json!({"n": 1, "large": large})).await;
    let first = id_of(&sender.next_broadcast(TOPIC).await);
    for n in 2..=4 {
        sender.broadcast("realtime:room:2", "e", json!({"n": n, "large": large})).await;
        sender.next_broadcast("realtime:room:2").await;
    }
    let (_, response) = member(&node, SerializerVersion::V2, after(first)).await;
    assert_eq!(response["replay"], json!({"complete": false}), "the oldest had to go");
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    socket.join("realtime:room:2", json!({"broadcast": {"replay": {"since": 0}}})).await;
    let frames = [socket.next_frame().await, socket.next_frame().await, socket.next_frame().await];
    assert_eq!(numbers(&frames), [2, 3, 4]);
}

#[testkit::test]
async fn a_private_history_follows_the_rights(db: Arc<TestDatabase>) {
    let node = node(&db).await;
    db.execute(POLICIES, &[]).await;
    let (writer, reader) = (User::new(), User::new());
    for user in [&writer, &reader] {
        db.execute("insert into public.members values ('1', $user)", &[("user", user.id)]).await;
    }
    let topic = "realtime:members:1";
    let mut sender = node.channel_client(SerializerVersion::V2).await;
    sender.join_private(topic, &writer.token, json!({"broadcast": {"self": true}})).await;
    sender.broadcast(topic, "e", json!({"n": 1})).await;
    let first = id_of(&sender.next_broadcast(topic).await);
    sender.broadcast(topic, "e", json!({"n": 2})).await;
    sender.next_broadcast(topic).await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let response = socket.join_private(topic, &reader.token, after(first.clone())).await;
    assert_eq!(response["replay"], json!({"complete": true}));
    assert_eq!(numbers(&[socket.next_frame().await]), [2]);
    socket.abort();
    // The right is lost meanwhile: nothing is delivered.
    db.execute("delete from public.members where user_id = $user", &[("user", reader.id)]).await;
    let mut config = after(first);
    config["private"] = json!(true);
    let join = json!({"config": config, "access_token": reader.token});
    let deadline = Instant::now() + WAIT_TIMEOUT;
    loop {
        // The node learns of the change a moment later. Until then a socket joins, and its channel is closed then.
        let mut refused = node.channel_client(SerializerVersion::V2).await;
        let reply = refused.try_join(topic, join.clone()).await;
        if reply["status"] == "error" {
            let reason = reply["response"]["reason"].as_str().expect("a reason");
            assert!(reason.starts_with("Unauthorized: "), "{reason}");
            refused.expect_no_frame().await;
            break;
        }
        assert!(Instant::now() < deadline, "still allowed");
        refused.abort();
    }
    // A public channel of the same name has another history.
    let mut public = node.channel_client(SerializerVersion::V2).await;
    public.join(topic, json!({"broadcast": {"replay": {"since": 0}}})).await;
    public.expect_no_frame().await;
}

#[testkit::test]
async fn channels_without_history_are_as_before(db: Arc<TestDatabase>) {
    let node = node_with(&db, "room:*=5/10m").await;
    db.execute(POLICIES, &[]).await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let id = uuid::Uuid::new_v4().to_string();
    let user = User::new();
    for (replay, reason) in [
        (json!({"since": 0}), "Replay is not allowed for public channels"),
        (json!({"after": id}), "Replay is not allowed for public channels"),
    ] {
        let error =
            socket.join_error("realtime:lobby", json!({"config": {"broadcast": {"replay": replay}}})).await;
        assert_eq!(error, format!("UnableToReplayMessages: {reason}"));
    }
    let config = json!({"private": true, "broadcast": {"replay": {"after": id}}});
    let error = socket.join_error(PRIVATE_TOPIC, json!({"config": config, "access_token": user.token})).await;
    assert_eq!(error, "UnableToReplayMessages: Replay params are not valid");
}

#[testkit::test]
async fn malformed_settings_stop_the_start(_db: Arc<TestDatabase>) {
    let output = tokio::process::Command::new(testkit::harness::server_binary())
        .arg("serve")
        .env_clear()
        .env("DATABASE_URL", "postgres://localhost/none")
        .env("JWT_SECRET", "a-secret-of-more-than-32-characters-for-this")
        .env("CHANNEL_HISTORY", "lobby=1/1m,room:*=0/1m")
        .output()
        .await
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(text.contains("CHANNEL_HISTORY") && text.contains("\"room:*=0/1m\""), "{text}");
}

/// Opens a stream of the room, and returns it with the event of the join's reply.
async fn stream(node: &TestServer, query: &str, last_event_id: Option<&str>) -> (EventStream, Event) {
    let path = format!("/realtime/v1/sse?topic=room%3A1{query}");
    let request = node.stream_request(&path).header("apikey", anon_key());
    let request = match last_event_id {
        Some(id) => request.header("last-event-id", id),
        None => request,
    };
    let mut stream = node.event_stream(request).await;
    assert_eq!(next_event(&mut stream).await.name, "open");
    let reply = next_event(&mut stream).await;
    assert!(reply.data.contains("phx_reply") && reply.data.contains("\"ok\""), "{reply:?}");
    (stream, reply)
}

async fn next_event(stream: &mut EventStream) -> Event {
    timeout(WAIT_TIMEOUT, stream.next()).await.expect("in time").expect("an event")
}

/// The ID and the payload of the next broadcast.
async fn next_broadcast_event(stream: &mut EventStream) -> (String, Value) {
    let event = next_event(stream).await;
    let message: Value = serde_json::from_str(&event.data).expect("JSON");
    assert_eq!(message["event"], "broadcast", "{event:?}");
    let id = event.id.expect("an ID");
    assert_eq!(id, id_of(&message["payload"]));
    (id, message["payload"].clone())
}

async fn event_streams_continue(db: &TestDatabase, history: &str) {
    let node = node_with(db, history).await;
    let config = json!({"broadcast": {"ack": true}});
    let (mut sender, _) = member(&node, SerializerVersion::V2, config).await;
    let mut send = async |n: i64| {
        let reference = sender.broadcast(TOPIC, "e", json!({ "n": n })).await;
        assert_eq!(sender.wait_for_reply(&reference).await["status"], "ok");
    };
    // A stream that ended before its first broadcast.
    let (first, reply) = stream(&node, "", None).await;
    let joined = reply.id.expect("a position");
    drop(first);
    send(1).await;
    let (mut second, reply) = stream(&node, "", Some(&joined)).await;
    assert_eq!(reply.id, None, "the position stays until something is received");
    let (id, payload) = next_broadcast_event(&mut second).await;
    assert_eq!((number_of(&payload), &payload["meta"]["replayed"]), (1, &json!(true)));
    send(2).await;
    let (last, payload) = next_broadcast_event(&mut second).await;
    assert_eq!((number_of(&payload), payload["meta"].get("replayed")), (2, None));
    drop(second);
    for n in 3..=4 {
        send(n).await;
    }
    for (query, header) in [
        (String::new(), Some(last.clone())),
        (format!("&last_event_id={last}"), None),
        (format!("&last_event_id={id}"), Some(last.clone())),
    ] {
        let (mut stream, reply) = stream(&node, &query, header.as_deref()).await;
        assert!(reply.data.contains(r#""replay":{"complete":true}"#), "{reply:?}");
        let mut received = Vec::new();
        while received.last() != Some(&4) {
            received.push(number_of(&next_broadcast_event(&mut stream).await.1));
        }
        // Rows around the position may be repeated.
        received.retain(|n| *n > 2);
        assert_eq!(received, [3, 4]);
    }
    // Without a history, the header is ignored, and events have no ID.
    let path = "/realtime/v1/sse?topic=lobby";
    let request = node.stream_request(path).header("apikey", anon_key()).header("last-event-id", &last);
    let mut lobby = node.event_stream(request).await;
    next_event(&mut lobby).await;
    assert_eq!(next_event(&mut lobby).await.id, None);
}

#[testkit::test]
async fn event_streams_continue_after_their_last_event(db: Arc<TestDatabase>) {
    event_streams_continue(&db, "room:*=100/10m").await;
}

#[testkit::test]
async fn event_streams_continue_after_their_last_row(db: Arc<TestDatabase>) {
    event_streams_continue(&db, "room:*=100/10m/rows").await;
}

// Rows ---------------------------------------------------------------------------------------------------------------

const ROWS: &str = "room:*=100/10m/rows,open:*=100/10m/rows,members:*=100/10m/rows";

#[testkit::test]
async fn rows_reach_all_nodes_and_survive_them(db: Arc<TestDatabase>) {
    db.execute(POLICIES, &[]).await;
    let (one, two) = (node_with(&db, ROWS).await, node_with(&db, ROWS).await);
    for (topic, private) in [(TOPIC, false), (PRIVATE_TOPIC, true)] {
        let token = User::new().token;
        let join = async |node: &TestServer, vsn, mut config: Value| {
            let mut socket = node.channel_client(vsn).await;
            config["private"] = json!(private);
            let reply = socket.try_join(topic, json!({"config": config, "access_token": token})).await;
            assert_eq!(reply["status"], "ok", "{reply}");
            (socket, reply["response"].clone())
        };
        let acknowledged = json!({"broadcast": {"ack": true, "self": false}});
        let (mut sender, _) = join(&one, SerializerVersion::V2, acknowledged).await;
        let (mut own, _) = join(&one, SerializerVersion::V1, json!({"broadcast": {"self": true}})).await;
        let (mut other, _) = join(&two, SerializerVersion::V2, json!({})).await;
        let reference = sender.broadcast(topic, "e", json!({"n": 1})).await;
        assert_eq!(sender.wait_for_reply(&reference).await, json!({"status": "ok", "response": {}}));
        own.broadcast(topic, "e", json!({"n": 2})).await;
        let first = own.next_broadcast(topic).await;
        assert_eq!(first, other.next_broadcast(topic).await, "the same ID everywhere");
        assert_eq!((&first["event"], number_of(&first)), (&json!("e"), 1));
        for socket in [&mut sender, &mut own, &mut other] {
            assert_eq!(
                number_of(&socket.next_broadcast(topic).await),
                2,
                "the sender gets no copy of its own"
            );
        }
        let reference = sender.broadcast_bytes(topic, "bytes", 0, &[0, 255]).await;
        assert_eq!(sender.wait_for_reply(&reference).await["status"], "ok");
        assert_eq!(other.wait_for(topic, "broadcast").await.data, Some(vec![0, 255]));
        let path = format!(
            "/realtime/v1/api/broadcast/{}/events/rest?private={private}",
            topic.replace("realtime:", "").replace(':', "%3A")
        );
        one.post(&service_user(), &path, json!({"n": 3})).await.expect_status(202);
        let topic_name = topic.replace("realtime:", "");
        let message =
            |n| json!({"topic": topic_name, "event": "rest", "payload": {"n": n}, "private": private});
        let body = json!({"messages": [message(4), message(5)]});
        two.post(&service_user(), "/realtime/v1/api/broadcast", body).await.expect_status(202);
        // What was accepted is stored.
        let stored = "select count(*) from realtime.messages where topic = $1 and private = $2 and extension = 'broadcast'";
        assert_eq!(db.query_row(stored, &[&topic_name, &private]).await.get::<_, i64>(0), 6);
        let mut received = Vec::new();
        for _ in 3..=5 {
            received.push(number_of(&other.next_broadcast(topic).await));
        }
        assert_eq!(received, [3, 4, 5]);

        // A node that starts later has the history too.
        let three = node_with(&db, ROWS).await;
        let (mut late, response) = join(&three, SerializerVersion::V1, after(id_of(&first))).await;
        assert_eq!(response["replay"], json!({"complete": true}));
        let mut frames = Vec::new();
        for _ in 2..=5 {
            frames.push(late.next_frame().await);
        }
        assert_eq!(numbers(&frames), [2, 3, 4, 5]);
        assert!(frames.iter().all(|frame| frame.payload["meta"]["replayed"] == true), "{frames:?}");
        late.expect_no_frame().await;
        let (_, response) = join(&three, SerializerVersion::V2, after("x")).await;
        assert_eq!(response["replay"], json!({"complete": false}));
        let query = json!({"broadcast": {"replay": {"after": id_of(&first), "limit": 1}}});
        let (mut late, response) = join(&three, SerializerVersion::V2, query).await;
        assert_eq!(response["replay"], json!({"complete": false}));
        assert_eq!(number_of(&late.next_frame().await.payload), 5);
        let query = json!({"broadcast": {"replay": {"since": 0, "limit": 100}}});
        let (mut late, response) = join(&three, SerializerVersion::V1, query).await;
        assert_eq!(response.get("replay"), None);
        assert_eq!(number_of(&late.next_frame().await.payload), 1);
    }
}

#[testkit::test]
async fn rows_are_acknowledged_after_their_commit(db: Arc<TestDatabase>) {
    let node = node_with(&db, ROWS).await;
    let config = json!({"broadcast": {"ack": true, "self": true}});
    let (mut sender, _) = member(&node, SerializerVersion::V2, config).await;
    let mut dba = db.connect().await;
    let transaction = dba.transaction().await.expect("a transaction");
    transaction.batch_execute("lock table realtime.messages in share mode").await.expect("a lock");
    let reference = sender.broadcast(TOPIC, "e", json!({"n": 1})).await;
    sender.expect_no_frame().await;
    transaction.rollback().await.expect("ends");
    assert_eq!(sender.wait_for_reply(&reference).await["status"], "ok");
    assert_eq!(number_of(&sender.next_broadcast(TOPIC).await), 1);

    // PostgreSQL cannot store this one. Those that are stored with it are not affected.
    let mut references = Vec::new();
    for text in ["a", "\0", "b"] {
        references.push(sender.broadcast(TOPIC, "e", json!({"text": text})).await);
    }
    let mut status = Vec::new();
    for reference in &references {
        status.push(sender.wait_for_reply(reference).await);
    }
    assert_eq!((&status[0]["status"], &status[2]["status"]), (&json!("ok"), &json!("ok")));
    let reason = "UnableToStoreMessage: the database refused the broadcast";
    assert_eq!(status[1], json!({"status": "error", "response": {"reason": reason}}));
    for text in ["a", "b"] {
        assert_eq!(sender.next_broadcast(TOPIC).await["payload"]["text"], text);
    }
    sender.expect_no_frame().await;
}

#[testkit::test]
async fn a_broadcast_that_cannot_be_stored_is_refused(db: Arc<TestDatabase>) {
    let node = node_with(&db, ROWS).await;
    let config = json!({"broadcast": {"ack": true, "self": true}});
    let (mut sender, _) = member(&node, SerializerVersion::V2, config).await;
    db.execute(
        "create function public.refuse() returns trigger language plpgsql as $f$ begin raise 'no'; end $f$;
         create trigger refuse before insert on realtime.messages for each row execute function public.refuse()",
        &[],
    )
    .await;
    let reference = sender.broadcast(TOPIC, "e", json!({})).await;
    assert_eq!(sender.wait_for_reply(&reference).await["status"], "error");
    let path = "/realtime/v1/api/broadcast/room%3A1/events/rest";
    let answer = node.post(&service_user(), path, json!({})).await.expect_status(503);
    assert_eq!(answer["message"], "UnableToStoreMessage: the database refused the broadcast");
    sender.expect_no_frame().await;
}

/// Senders on both nodes, and members that lose their sockets and return with the ID of their last message.
async fn race(nodes: [Arc<TestServer>; 2], topic: String, private: bool, seed: u64) -> Result<usize, String> {
    const SENDERS: usize = 4;
    const MESSAGES: usize = 60;
    let (finished, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut random = StdRng::seed_from_u64(seed);
    let mut members: JoinSet<BTreeMap<String, i64>> = JoinSet::new();
    for number in 0..4 {
        let (nodes, topic, finished) = (nodes.clone(), topic.clone(), finished.clone());
        let mut random = StdRng::seed_from_u64(random.random());
        members.spawn(async move {
            let user = User::new();
            let mut received: BTreeMap<String, i64> = BTreeMap::new();
            let mut last: Vec<String> = Vec::new();
            loop {
                let done = finished.load(Ordering::SeqCst);
                let vsn = SerializerVersion::BOTH[random.random_range(0..2)];
                let mut socket = nodes[random.random_range(0..2)].channel_client(vsn).await;
                let replay = if last.is_empty() {
                    json!({"since": 0, "limit": 10_000})
                } else if random.random() {
                    json!({"after": last.last()})
                } else {
                    json!({"after": last})
                };
                let config = json!({"broadcast": {"replay": replay}});
                let response = if private {
                    socket.join_private(&topic, &user.token, config).await
                } else {
                    socket.join(&topic, config).await
                };
                assert_eq!(response.get("replay").is_some(), !last.is_empty(), "member {number}: {response}");
                let mut keep = |frame: &Frame| {
                    if frame.event == "broadcast" {
                        let id = id_of(&frame.payload);
                        received.insert(id.clone(), number_of(&frame.payload));
                        last.push(id);
                        let extra = last.len().saturating_sub(100);
                        last.drain(..extra);
                    }
                    received.len()
                };
                let time = Duration::from_millis(random.random_range(0..60));
                let frames = socket.frames_within(time).await;
                let mut count = frames.iter().map(&mut keep).last().unwrap_or_default();
                if done {
                    let deadline = Instant::now() + WAIT_TIMEOUT;
                    while count < SENDERS * MESSAGES {
                        let Some(frame) = socket.receive(deadline).await else { break };
                        count = keep(&frame);
                    }
                }
                socket.abort();
                if done {
                    return received;
                }
            }
        });
    }
    let mut senders = JoinSet::new();
    for number in 0..SENDERS {
        let (node, topic, sent) = (nodes[number % 2].clone(), topic.clone(), sent.clone());
        let mut random = StdRng::seed_from_u64(random.random());
        senders.spawn(async move {
            let mut socket = node.channel_client(SerializerVersion::BOTH[number % 2]).await;
            let config = json!({"broadcast": {"ack": true}});
            if private {
                socket.join_private(&topic, &User::new().token, config).await;
            } else {
                socket.join(&topic, config).await;
            }
            let mut last = String::new();
            for _ in 0..MESSAGES {
                let n = sent.fetch_add(1, Ordering::SeqCst);
                last = socket.broadcast(&topic, "e", json!({ "n": n })).await;
                if random.random_range(0..4) == 0 {
                    sleep(Duration::from_millis(random.random_range(0..20))).await;
                }
            }
            assert_eq!(socket.wait_for_reply(&last).await["status"], "ok");
        });
    }
    while let Some(done) = senders.join_next().await {
        done.map_err(|error| error.to_string())?;
    }
    finished.store(true, Ordering::SeqCst);
    let expected: BTreeSet<i64> = (0..i64::try_from(SENDERS * MESSAGES).expect("fits")).collect();
    let mut all_ids: Option<BTreeMap<String, i64>> = None;
    while let Some(member) = members.join_next().await {
        let received = member.map_err(|error| error.to_string())?;
        let numbers: BTreeSet<i64> = received.values().copied().collect();
        if numbers != expected || received.len() != expected.len() {
            let missing: Vec<_> = expected.difference(&numbers).collect();
            return Err(format!("{} IDs, missing {missing:?}", received.len()));
        }
        if all_ids.get_or_insert_with(|| received.clone()) != &received {
            return Err("members got different IDs".to_owned());
        }
    }
    Ok(expected.len())
}

async fn race_on_two_nodes(db: &TestDatabase, history: &str) {
    db.execute(POLICIES, &[]).await;
    let nodes = [node_with(db, history).await, node_with(db, history).await];
    Histories::from_env(4)
        .run(2, |seed| {
            let private = seed % 2 == 1;
            let prefix = if private { "open" } else { "room" };
            race(nodes.clone(), format!("realtime:{prefix}:{seed}"), private, seed)
        })
        .await;
}

#[testkit::test]
async fn members_that_return_miss_nothing_while_many_send(db: Arc<TestDatabase>) {
    race_on_two_nodes(&db, "room:*=1000/10m,open:*=1000/10m").await;
}

#[testkit::test]
async fn members_that_return_miss_no_rows_while_many_send(db: Arc<TestDatabase>) {
    race_on_two_nodes(&db, "room:*=1000/10m/rows,open:*=1000/10m/rows").await;
}
