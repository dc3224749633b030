//! Server-sent events: `/api/presence/events` and `/realtime/v1/sse`. The sessions are those of the sockets, so only what
//! differs is tested here; the visibility model runs over both transports.

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    client::send,
    events::{Event, EventStream},
    harness::{TestDatabase, TestServer, User, mint_token, service_user, unix_time_in},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const EVENTS_PATH: &str = "/api/presence/events";
const LIMIT: Duration = Duration::from_secs(10);

async fn next(stream: &mut EventStream) -> Event {
    timeout(LIMIT, stream.next()).await.expect("in time").expect("an event")
}

async fn next_message(stream: &mut EventStream) -> Value {
    let event = next(stream).await;
    assert_eq!(event.name, "message", "{event:?}");
    serde_json::from_str(&event.data).expect("JSON")
}

async fn opened(stream: &mut EventStream) {
    let open = next(stream).await;
    assert_eq!((open.name.as_str(), open.data.as_str(), open.id), ("open", "{}", None));
}

/// The `close` event, behind which the stream ends.
async fn closed(stream: &mut EventStream) -> Value {
    loop {
        let event = next(stream).await;
        if event.name == "close" {
            assert_eq!(timeout(LIMIT, stream.next()).await.expect("in time"), None);
            return serde_json::from_str(&event.data).expect("JSON");
        }
    }
}

fn anon_key() -> String {
    mint_token(&json!({"role": "anon", "exp": unix_time_in(3_600)}))
}

async fn channel(node: &TestServer, key: &str, query: &str) -> EventStream {
    let request = node.stream_request(&format!("/realtime/v1/sse?{query}")).header("apikey", key);
    let mut stream = node.event_stream(request).await;
    opened(&mut stream).await;
    stream
}

async fn joined(node: &TestServer, key: &str, query: &str) -> EventStream {
    let mut stream = channel(node, key, query).await;
    let reply = next_message(&mut stream).await;
    assert_eq!(
        (&reply["event"], &reply["payload"]["status"]),
        (&json!("phx_reply"), &json!("ok")),
        "{reply}"
    );
    stream
}

async fn broadcast(node: &TestServer, topic: &str, payload: Value) {
    let body = json!({"messages": [{"topic": topic, "event": "said", "payload": payload}]});
    node.post(&service_user(), "/realtime/v1/api/broadcast", body).await.expect_status(202);
}

// Presence -------------------------------------------------------------------------------------------------------

#[testkit::test]
async fn presence_events_have_the_messages_of_a_socket(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, friend) = (User::new(), User::new());
    db.add_contact(&viewer, &friend).await;
    db.set_status(&friend, "online").await;
    let mut socket = node.socket_with(&friend, "&device_id=pc").await;
    let request = node.stream_request(EVENTS_PATH).bearer_auth(&viewer.token).header("x-device-id", "tab");
    let mut stream = node.event_stream(request).await;
    opened(&mut stream).await;
    let initial = next_message(&mut stream).await;
    assert_eq!((&initial["type"], &initial["data"]["resumed"]), (&json!("initial_state"), &json!(false)));
    assert_eq!(json!(stream.last_id), initial["data"]["position"]);
    assert_eq!(initial["data"]["presences"][0]["user_id"], json!(friend.id));
    // The device is online while the stream is open.
    socket.wait_until("online", |socket| socket.shows_online(viewer.id)).await;
    node.post(&friend, "/api/presence/status", json!({"status": "dnd", "device_id": "pc"}))
        .await
        .expect_status(200);
    let update = next_message(&mut stream).await;
    assert_eq!(
        (&update["type"], &update["data"]["availability"]),
        (&json!("presence_update"), &json!("dnd"))
    );
    let event = json!({"category": "custom", "event": "paid", "recipients": [viewer.id], "payload": {"text": "a\nb\u{2028}"}});
    node.post(&service_user(), "/api/presence/broadcast", event).await.expect_status(200);
    let pushed = next_message(&mut stream).await;
    assert_eq!(
        (&pushed["type"], &pushed["data"]["payload"]["text"]),
        (&json!("broadcast"), &json!("a\nb\u{2028}"))
    );
    let last_id = stream.last_id.clone().expect("a position");
    drop(stream);
    socket.wait_until("offline", |socket| socket.shows_offline(viewer.id)).await;

    // A reconnect with the ID that a browser sends gets what changed since.
    let request =
        node.stream_request(EVENTS_PATH).bearer_auth(&viewer.token).header("last-event-id", &last_id);
    let mut stream = node.event_stream(request).await;
    opened(&mut stream).await;
    let state = next_message(&mut stream).await;
    assert_eq!((&state["type"], &state["data"]["resumed"]), (&json!("initial_state"), &json!(true)));
    assert_ne!(state["data"]["position"], json!(last_id));
}

#[testkit::test]
async fn presence_events_are_refused_as_sockets_are(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let get = |query: &str| node.request(Method::GET, &format!("{EVENTS_PATH}{query}"));
    send(get("")).await.expect_error(401, "UNAUTHORIZED");
    send(get("?token=nonsense")).await.expect_error(401, "INVALID_TOKEN");
    send(get(&format!("?token={}", user.token_for(-60)))).await.expect_error(401, "INVALID_TOKEN");
    send(get("").bearer_auth(service_user().token)).await.expect_error(401, "UNAUTHORIZED");
    for query in ["?user_ids=x", "?device_id="] {
        send(get(query).bearer_auth(&user.token)).await.expect_error(400, "INVALID_REQUEST");
    }
    let allowed = get("").header("origin", "https://app.example").bearer_auth("x");
    assert_eq!(send(allowed).await.header("access-control-allow-origin"), Some("*"));
}

#[testkit::test]
async fn an_expired_token_and_an_administrator_end_the_stream_with_a_reason(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let path = format!("{EVENTS_PATH}?token={}", user.token_for(2));
    let mut stream = node.event_stream(node.stream_request(&path)).await;
    opened(&mut stream).await;
    assert_eq!(next_message(&mut stream).await["type"], "initial_state");
    assert_eq!(next_message(&mut stream).await["code"], "TOKEN_EXPIRED");
    assert_eq!(closed(&mut stream).await["code"], 4401);

    let mut stream = node.event_stream(node.stream_request(EVENTS_PATH).bearer_auth(&user.token)).await;
    opened(&mut stream).await;
    assert_eq!(next_message(&mut stream).await["type"], "initial_state");
    db.execute("select rollcall.disconnect($user, 'Account \"suspended\"')", &[("user", user.id)]).await;
    assert_eq!(closed(&mut stream).await, json!({"code": 4403, "reason": "Account \"suspended\""}));
}

#[testkit::test]
async fn a_stopping_server_ends_streams_with_a_hint(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let mut stream = node.event_stream(node.stream_request(EVENTS_PATH).bearer_auth(&user.token)).await;
    opened(&mut stream).await;
    let mut messages = joined(&node, &anon_key(), "topic=room").await;
    let (close, channel_close, stopped) =
        tokio::join!(closed(&mut stream), closed(&mut messages), node.stop());
    stopped.expect("in time");
    assert_eq!(close["code"], 1001);
    assert!(close["reason"].as_str().is_some_and(|reason| reason.starts_with("going away")), "{close}");
    assert_eq!(channel_close["code"], 1001);
}

#[testkit::test]
async fn a_reader_that_stalls_is_closed_and_costs_bounded_memory(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("STALL_TIMEOUT", "2s")).await;
    let user = User::new();
    let mut stalled = TcpStream::connect(node.address).await.expect("a connection");
    let head =
        format!("GET {EVENTS_PATH}?token={}&device_id=slow HTTP/1.1\r\nHost: test\r\n\r\n", user.token);
    stalled.write_all(head.as_bytes()).await.expect("sent");
    let mut first = [0; 15];
    stalled.read_exact(&mut first).await.expect("a response");
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let connected = "select nodes <> '{}' from rollcall.presence_devices where user_id = $user";
    db.wait_until("connected", connected, &[("user", user.id)]).await;
    let payload = "x".repeat(30_000);
    for _ in 0..500 {
        let event = json!({"category": "custom", "event": "big", "recipients": [user.id], "payload": {"text": payload}});
        node.post(&service_user(), "/api/presence/broadcast", event).await.expect_status(200);
    }
    let gone = "select nodes = '{}' from rollcall.presence_devices where user_id = $user";
    db.wait_until_within(Duration::from_secs(20), "disconnected", gone, &[("user", user.id)]).await;
}

/// A connection with HTTP/2 carries many streams; each counts against `MAX_CONNECTIONS`.
#[testkit::test]
async fn streams_over_http2_count_as_open_sockets(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("MAX_CONNECTIONS", "20")).await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().expect("a client");
    let key = anon_key();
    let open = async |number: usize| {
        let path = match number % 2 {
            0 => format!("{EVENTS_PATH}?token={}", User::new().token),
            _ => format!("/realtime/v1/sse?topic=room&apikey={key}"),
        };
        client.get(format!("http://{}{path}", node.address)).send().await.expect("a response")
    };
    let mut streams = Vec::new();
    for number in 0..40 {
        let response = open(number).await;
        if response.status() == 503 {
            assert!(response.headers().contains_key("retry-after"), "{response:?}");
        } else {
            assert_eq!(response.status(), 200);
            streams.push(response);
        }
    }
    // One socket is that of the connection.
    assert_eq!(streams.len(), 19);
    drop(streams);
    timeout(LIMIT, async { while open(0).await.status() != 200 {} }).await.expect("there is room again");
}

// Channels -------------------------------------------------------------------------------------------------------

/// Channel events over HTTP
#[testkit::test]
async fn channel_events_have_the_messages_of_serializer_1(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(
        "create table public.notes (id int primary key, body text);
         grant select on public.notes to anon;
         alter publication supabase_realtime add table public.notes;",
        &[],
    )
    .await;
    let config = json!({
        "presence": {"enabled": true},
        "postgres_changes": [{"event": "INSERT", "schema": "public", "table": "notes"}],
    });
    let query =
        format!("topic=room%3A1&config={}", config.to_string().replace('"', "%22").replace(' ', "%20"));
    let mut stream = channel(&node, &anon_key(), &query).await;
    let reply = next_message(&mut stream).await;
    assert_eq!(
        (&reply["topic"], &reply["event"], &reply["ref"]),
        (&json!("realtime:room:1"), &json!("phx_reply"), &json!("1"))
    );
    assert_eq!(reply["payload"]["response"]["postgres_changes"][0]["table"], "notes", "{reply}");
    let mut received = Vec::new();
    broadcast(&node, "room:1", json!({"text": "a\n\r\nb"})).await;
    broadcast(&node, "room:2", json!({"text": "elsewhere"})).await;
    while received.len() < 3 {
        let message = next_message(&mut stream).await;
        if message["event"] == "system" {
            assert_eq!(message["payload"]["status"], "ok", "{message}");
            db.execute("insert into public.notes values (1, 'x')", &[]).await;
        }
        received.push(message);
    }
    assert!(received.iter().any(|message| message["event"] == "presence_state"), "{received:?}");
    let said: Vec<_> = received.iter().filter(|message| message["event"] == "broadcast").collect();
    assert_eq!(said.len(), 1, "{received:?}");
    assert_eq!(
        said[0]["payload"],
        json!({"type": "broadcast", "event": "said", "payload": {"text": "a\n\r\nb"}})
    );
    let change = next_message(&mut stream).await;
    assert_eq!(change["payload"]["data"]["record"], json!({"id": 1, "body": "x"}), "{change}");
}

#[testkit::test]
async fn private_channel_events_follow_the_policies(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (member, stranger) = (User::new(), User::new());
    db.execute(
        "create table public.members (user_id uuid);
         grant select on public.members to authenticated;
         insert into public.members values ($member);
         create policy members on realtime.messages for select to authenticated
           using (exists (select from public.members m where m.user_id = auth.uid()));",
        &[("member", member.id)],
    )
    .await;
    // With the key of the project and the token of the user, and with the token alone.
    let request = node
        .stream_request("/realtime/v1/sse?topic=club&private=true")
        .header("apikey", anon_key())
        .bearer_auth(&member.token);
    let mut stream = node.event_stream(request).await;
    opened(&mut stream).await;
    assert_eq!(next_message(&mut stream).await["payload"]["status"], "ok");
    let query = format!("topic=club&private=true&access_token={}", stranger.token);
    let mut refused = channel(&node, &anon_key(), &query).await;
    let reply = next_message(&mut refused).await;
    assert_eq!(reply["payload"]["status"], "error", "{reply}");
    assert_eq!(closed(&mut refused).await["code"], 1000);
    let mut public = joined(&node, &stranger.token, "topic=club").await;

    let body =
        json!({"messages": [{"topic": "club", "event": "said", "payload": {"n": 1}, "private": true}]});
    node.post(&service_user(), "/realtime/v1/api/broadcast", body).await.expect_status(202);
    assert_eq!(next_message(&mut stream).await["payload"]["payload"]["n"], 1);
    broadcast(&node, "club", json!({"n": 2})).await;
    assert_eq!(next_message(&mut public).await["payload"]["payload"]["n"], 2);
    // The right is withdrawn: the channel ends, and the stream with it.
    db.execute("delete from public.members where true", &[]).await;
    assert_eq!(closed(&mut stream).await["code"], 1000);
}

#[testkit::test]
async fn channel_events_are_refused_as_sockets_are(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("REALTIME_MAX_CONNECTIONS", "1")).await;
    let get = |query: &str| node.request(Method::GET, &format!("/realtime/v1/sse{query}"));
    let key = anon_key();
    for (request, status, error) in [
        (get("?topic=a"), 401, "API key is missing"),
        (get("?topic=a&config=[]").header("apikey", &key), 400, "config must be a JSON object"),
        (get("?topic=a&config=x").header("apikey", &key), 400, "config must be a JSON object"),
        (get("").header("apikey", &key), 400, "topic is required; private must be true or false"),
        (
            get("?topic=a&private=perhaps").header("apikey", &key),
            400,
            "topic is required; private must be true or false",
        ),
    ] {
        assert_eq!(send(request).await.expect_status(status), json!({"error": error}));
    }
    let expired = mint_token(&json!({"role": "anon", "exp": unix_time_in(-60)}));
    send(get(&format!("?topic=a&apikey={expired}"))).await.expect_status(401);
    let mut empty = channel(&node, &key, "topic=").await;
    assert_eq!(next_message(&mut empty).await["payload"]["status"], "error");
    assert_eq!(closed(&mut empty).await["code"], 1000);
    let held = loop {
        // The permit of the previous stream returns when its session has ended.
        let request = node.stream_request("/realtime/v1/sse?topic=a").header("apikey", &key);
        let response = request.send().await.expect("a response");
        if response.status().as_u16() == 200 {
            break response;
        }
    };
    let full = send(get("?topic=a").header("apikey", &key)).await.expect_status(429);
    assert_eq!(full, json!({"error": "Too many connected users"}));
    drop(held);
}
