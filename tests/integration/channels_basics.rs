//! Basic behavior of channel sockets over both serializers.

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    client::{Socket, open_socket, send},
    harness::{TestDatabase, TestServer, User, mint_token, unix_time_in},
};

/// Returns a token without a user.
fn anon_token() -> String {
    mint_token(&json!({"role": "anon", "exp": unix_time_in(3_600)}))
}

async fn channel_socket(node: &TestServer, version: &str) -> Socket {
    let path = format!("/realtime/v1/websocket?apikey={}&vsn={version}", anon_token());
    open_socket(node.address, &path, &[]).await.expect("the socket opens")
}

/// Joins with serializer 2.0.0 and returns the reply.
async fn join(socket: &mut Socket, topic: &str, join_ref: &str, config: Value) -> Value {
    socket.send_message(json!([join_ref, join_ref, topic, "phx_join", {"config": config}])).await;
    socket.next_message().await
}

fn join_reply(topic: &str, join_ref: &str) -> Value {
    json!([join_ref, join_ref, topic, "phx_reply", {"status": "ok", "response": {"postgres_changes": []}}])
}

fn join_error_reply(topic: &str, join_ref: &str, reason: &str) -> Value {
    json!([join_ref, join_ref, topic, "phx_reply", {"status": "error", "response": {"reason": reason}}])
}

#[testkit::test]
async fn broadcasts_are_delivered_over_both_serializers(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (mut one, mut two) = (channel_socket(&node, "2.0.0").await, channel_socket(&node, "1.0.0").await);
    let mut elsewhere = channel_socket(&node, "2.0.0").await;
    let ack = json!({"broadcast": {"ack": true}});
    assert_eq!(join(&mut one, "realtime:a", "1", ack).await, join_reply("realtime:a", "1"));
    assert_eq!(join(&mut elsewhere, "realtime:b", "1", json!({})).await, join_reply("realtime:b", "1"));
    two.send_message(json!({"topic": "realtime:a", "event": "phx_join", "payload": {"config": {"broadcast": {"self": true}}}, "ref": "9", "join_ref": null})).await;
    two.expect_message(json!({"topic": "realtime:a", "event": "phx_reply", "ref": "9",
        "payload": {"status": "ok", "response": {"postgres_changes": []}}}))
        .await;

    let payload = json!({"type": "broadcast", "event": "x", "payload": {"n": 1}, "more": []});
    one.send_message(json!(["1", "2", "realtime:a", "broadcast", payload])).await;
    one.expect_message(json!(["1", "2", "realtime:a", "phx_reply", {"status": "ok", "response": {}}])).await;
    two.expect_message(json!({"topic": "realtime:a", "event": "broadcast", "ref": null, "payload": payload}))
        .await;
    two.send_message(json!({"topic": "realtime:a", "event": "broadcast", "payload": {}, "ref": "10"})).await;
    two.expect_message(json!({"topic": "realtime:a", "event": "broadcast", "ref": null, "payload": {}}))
        .await;
    one.expect_message(json!([null, null, "realtime:a", "broadcast", {}])).await;
    elsewhere.expect_no_message(Duration::from_millis(50)).await;
}

#[testkit::test]
async fn a_second_join_replaces_the_first(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut one = channel_socket(&node, "2.0.0").await;
    let hears_itself = json!({"broadcast": {"self": true}});
    assert_eq!(join(&mut one, "realtime:a", "1", hears_itself.clone()).await, join_reply("realtime:a", "1"));
    assert_eq!(join(&mut one, "realtime:a", "2", hears_itself).await, join_reply("realtime:a", "2"));
    one.send_message(json!(["2", "3", "realtime:a", "broadcast", {"once": 1}])).await;
    one.expect_message(json!([null, null, "realtime:a", "broadcast", {"once": 1}])).await;
    one.send_message(json!(["1", "4", "realtime:a", "phx_leave", {}])).await;
    one.send_message(json!([null, "5", "realtime:a", "phx_leave", {}])).await;
    one.expect_message(json!(["2", "5", "realtime:a", "phx_reply", {"status": "ok", "response": {}}])).await;
    one.expect_message(json!(["2", "2", "realtime:a", "phx_close", {}])).await;
    one.send_message(json!(["2", "6", "realtime:a", "broadcast", {}])).await;
    one.expect_message(json!([null, "6", "realtime:a", "phx_reply", {"status": "error", "response": {"reason": "unmatched topic"}}]))
        .await;
}

#[testkit::test]
async fn invalid_frames_are_dropped_and_the_socket_stays_open(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut one = channel_socket(&node, "2.0.0").await;
    assert_eq!(join(&mut one, "realtime:a", "1", json!({})).await, join_reply("realtime:a", "1"));
    for frame in
        [json!([]), json!({}), json!(null), json!(7), json!(["1", "2", "realtime:a", "broadcast", "text"])]
    {
        one.send_message(frame).await;
    }
    one.send_message(json!(["1", "2", "realtime:a", "whatever", {}])).await;
    one.send_message(json!([null, null, "phoenix", "heartbeat", {}])).await;
    one.expect_message(json!([null, null, "phoenix", "phx_reply", {"status": "ok", "response": {}}])).await;
    let no_name = join_error_reply("realtime:", "2", "TopicNameRequired: You must provide a topic name");
    assert_eq!(join(&mut one, "realtime:", "2", json!({})).await, no_name);
}

#[testkit::test]
async fn private_topics_are_denied_without_policies(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut one = channel_socket(&node, "2.0.0").await;
    let reason = "Unauthorized: You do not have permissions to read from this Channel topic: a";
    let reply = join(&mut one, "realtime:a", "1", json!({"private": true})).await;
    assert_eq!(reply, join_error_reply("realtime:a", "1", reason));
}

/// Members of `public.members` may read, and write if the row says so.
const MEMBERS: &str = "
    create table public.members (room text, user_id uuid, writes boolean default true, primary key (room, user_id));
    grant select on public.members to authenticated;
    create policy members_read on realtime.messages for select to authenticated using (exists (
        select from public.members m where m.room = realtime.topic() and m.user_id = auth.uid()));
    create policy members_write on realtime.messages for insert to authenticated with check (exists (
        select from public.members m where m.room = realtime.topic() and m.user_id = auth.uid() and m.writes));
";

async fn user_channel_socket(node: &TestServer, user: &User) -> Socket {
    let path = format!("/socket/websocket?apikey={}&vsn=2.0.0", user.token);
    open_socket(node.address, &path, &[]).await.expect("the socket opens")
}

#[testkit::test]
async fn policies_open_and_close_private_topics_while_in_use(db: Arc<TestDatabase>) {
    db.execute(MEMBERS, &[]).await;
    let node = db.start_server().await;
    let (writer, reader) = (User::new(), User::new());
    let ids = [("writer", writer.id), ("reader", reader.id)];
    db.execute(
        "insert into public.members values ('a', $writer, true), ('a', $reader, false), ('b', $reader, true)",
        &ids,
    )
    .await;
    let (mut one, mut two) =
        (user_channel_socket(&node, &writer).await, user_channel_socket(&node, &reader).await);
    let private = json!({"private": true, "broadcast": {"ack": true}});
    assert_eq!(join(&mut one, "realtime:a", "1", private.clone()).await, join_reply("realtime:a", "1"));
    assert_eq!(join(&mut two, "realtime:a", "1", private.clone()).await, join_reply("realtime:a", "1"));
    assert_eq!(join(&mut two, "realtime:b", "2", private).await, join_reply("realtime:b", "2"));

    one.send_message(json!(["1", "2", "realtime:a", "broadcast", {"n": 1}])).await;
    assert_eq!(one.next_message().await, ok_reply("1", "2", "realtime:a"));
    two.expect_message(json!([null, null, "realtime:a", "broadcast", {"n": 1}])).await;
    two.send_message(json!(["1", "3", "realtime:a", "broadcast", {"n": 2}])).await;
    let refusal = two.next_message().await;
    let why = refusal[4]["response"]["reason"].as_str().expect("a reason");
    assert!(refusal[4]["status"] == "error" && why.starts_with("Unauthorized: "), "{refusal}");

    db.execute("delete from public.members where user_id = $reader and room = 'a'", &ids).await;
    expect_channel_closed(
        &mut two,
        "realtime:a",
        "1",
        "You do not have permissions to read from this Channel topic: a",
    )
    .await;
    one.send_message(json!(["1", "3", "realtime:a", "broadcast", {"n": 3}])).await;
    assert_eq!(one.next_message().await, ok_reply("1", "3", "realtime:a"));
    two.send_message(json!(["2", "4", "realtime:b", "broadcast", {}])).await;
    assert_eq!(two.next_message().await, ok_reply("2", "4", "realtime:b"));
}

#[testkit::test]
async fn broadcasts_from_the_database_are_delivered_and_replayed(db: Arc<TestDatabase>) {
    db.execute(MEMBERS, &[]).await;
    let node = db.start_server().await;
    let user = User::new();
    db.execute("insert into public.members values ('a', $user)", &[("user", user.id)]).await;
    let mut one = user_channel_socket(&node, &user).await;
    let private = json!({"private": true, "broadcast": {"replication_ready": true}});
    assert_eq!(join(&mut one, "realtime:a", "1", private).await, join_reply("realtime:a", "1"));
    let ready = json!({"message": "Replication connection established", "status": "ok", "extension": "system", "channel": "a"});
    one.expect_message(json!(["1", null, "realtime:a", "system", ready])).await;
    db.execute(r#"select realtime.send('{"n": 1}', repeat('e', 300), 'a', true)"#, &[]).await;
    let received = one.next_message().await;
    let message = &received[4];
    assert_eq!(
        (&received[0], &received[3], &message["payload"]["n"]),
        (&Value::Null, &json!("broadcast"), &json!(1))
    );
    assert_eq!(message["payload"]["id"], message["meta"]["id"]);

    one.send_message(json!(["1", "2", "realtime:a", "phx_leave", {}])).await;
    one.find_message("the close", |frame| frame[3] == "phx_close").await;
    let replay = json!({"private": true, "broadcast": {"replay": {"since": 0}}});
    assert_eq!(join(&mut one, "realtime:a", "3", replay.clone()).await, join_reply("realtime:a", "3"));
    let again = one.next_message().await;
    let meta = json!({"replayed": true, "id": message["meta"]["id"]});
    let expected =
        json!({"type": "broadcast", "event": message["event"], "payload": message["payload"], "meta": meta});
    assert_eq!(again, json!(["3", null, "realtime:a", "broadcast", expected]));
    let reason = "UnableToReplayMessages: Replay is not allowed for public channels";
    let public = join(&mut one, "realtime:p", "4", json!({"broadcast": {"replay": {"since": 0}}})).await;
    assert_eq!(public, join_error_reply("realtime:p", "4", reason));
}

#[testkit::test]
async fn broadcasts_over_http_are_delivered(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let mut one = user_channel_socket(&node, &user).await;
    let mut old = channel_socket(&node, "1.0.0").await;
    assert_eq!(join(&mut one, "realtime:r:1", "1", json!({})).await, join_reply("realtime:r:1", "1"));
    old.send_message(
        json!({"topic": "realtime:r:1", "event": "phx_join", "payload": {"config": {}}, "ref": "1"}),
    )
    .await;
    old.next_message().await;
    let batch = json!({"messages": [{"topic": "r:1", "event": "e", "payload": {"n": 1}, "id": "x"},
        {"topic": "r:1", "event": "e", "payload": {"n": 2}, "private": true}]});
    let response = node.post(&user, "/realtime/v1/api/broadcast", batch).await;
    assert_eq!((response.status.as_u16(), &response.body), (202, &json!("")));
    assert!(response.header("x-rate-limit-remaining").is_some());
    let message = json!({"type": "broadcast", "event": "e", "payload": {"n": 1}, "meta": {"id": "x"}});
    one.expect_message(json!([null, null, "realtime:r:1", "broadcast", message])).await;
    old.expect_message(
        json!({"ref": null, "event": "broadcast", "payload": message, "topic": "realtime:r:1"}),
    )
    .await;

    let path = "/api/broadcast/r%3A1/events/msg%20one";
    assert_eq!(node.post(&user, path, json!([1])).await.status, 202);
    let message = json!({"type": "broadcast", "event": "msg one", "payload": {"_json": [1]}});
    old.expect_message(
        json!({"ref": null, "event": "broadcast", "payload": message, "topic": "realtime:r:1"}),
    )
    .await;
    let private = node.post(&user, &format!("{path}?private=true"), json!({})).await;
    assert_eq!((private.status.as_u16(), private.body), (403, json!({"message": "Unauthorized"})));
    let unauthorized = send(node.request(Method::POST, path)).await;
    assert_eq!((unauthorized.status.as_u16(), unauthorized.body), (401, json!({"message": "Unauthorized"})));
    let odd = send(
        node.request(Method::POST, path)
            .bearer_auth(&user.token)
            .header("content-type", "text/plain")
            .body("x"),
    )
    .await;
    assert_eq!(odd.status, 415);
    let ping = send(node.request(Method::GET, "/api/ping")).await;
    assert_eq!((ping.status.as_u16(), ping.body), (200, json!({"message": "Success"})));
    let health = node.get(&user, "/api/tenants/realtime-dev/health").await.expect_status(200);
    assert_eq!((&health["data"]["healthy"], &health["data"]["connected_cluster"]), (&json!(true), &json!(2)));
}

fn track_push(join_ref: &str, reference: &str, payload: Value) -> Value {
    json!([join_ref, reference, "realtime:p", "presence", {"type": "presence", "event": "track", "payload": payload}])
}

fn ok_reply(join_ref: &str, reference: &str, topic: &str) -> Value {
    json!([join_ref, reference, topic, "phx_reply", {"status": "ok", "response": {}}])
}

#[testkit::test]
async fn presence_reaches_new_and_existing_members(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (mut one, mut two) = (channel_socket(&node, "2.0.0").await, channel_socket(&node, "2.0.0").await);
    let config = |key: &str| json!({"presence": {"key": key, "enabled": true}});
    assert_eq!(join(&mut one, "realtime:p", "1", config("alice")).await, join_reply("realtime:p", "1"));
    one.expect_message(json!(["1", null, "realtime:p", "presence_state", {}])).await;
    one.send_message(track_push("1", "2", json!({"big": 1, "at": "home"}))).await;
    let diff = one.find_message("the diff", |frame| frame[3] == "presence_diff").await;
    let meta = diff[4]["joins"]["alice"]["metas"][0].clone();
    assert_eq!((&meta["at"], &diff[4]["leaves"]), (&json!("home"), &json!({})));
    assert_eq!(one.next_message().await, ok_reply("1", "2", "realtime:p"));

    assert_eq!(join(&mut two, "realtime:p", "1", config("bob")).await, join_reply("realtime:p", "1"));
    let state = json!(["1", null, "realtime:p", "presence_state", {"alice": {"metas": [meta]}}]);
    assert_eq!(two.next_message().await, state);
    one.close().await;
    two.expect_message(json!([null, null, "realtime:p", "presence_diff", {"joins": {}, "leaves": {"alice": {"metas": [meta]}}}]))
        .await;
}

#[testkit::test]
async fn presence_pushes_over_the_limit_close_only_that_channel(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut one = channel_socket(&node, "2.0.0").await;
    assert_eq!(join(&mut one, "realtime:p", "1", json!({})).await, join_reply("realtime:p", "1"));
    assert_eq!(
        join(&mut one, "realtime:q", "2", json!({"broadcast": {"ack": true}})).await,
        join_reply("realtime:q", "2")
    );
    for reference in ["3", "4", "5", "6", "7"] {
        one.send_message(json!(["1", reference, "realtime:p", "presence", {}])).await;
        assert_eq!(one.next_message().await, ok_reply("1", reference, "realtime:p"));
    }
    one.send_message(json!(["1", "8", "realtime:p", "presence", {}])).await;
    expect_channel_closed(&mut one, "realtime:p", "1", "Client presence rate limit exceeded").await;
    one.send_message(json!(["2", "9", "realtime:q", "broadcast", {}])).await;
    assert_eq!(one.next_message().await, ok_reply("2", "9", "realtime:q"));
}

/// Expects an error message and the close of the channel.
async fn expect_channel_closed(socket: &mut Socket, topic: &str, join_ref: &str, message: &str) {
    let name = topic.strip_prefix("realtime:").expect("a channel's topic");
    let why = json!({"message": message, "status": "error", "extension": "system", "channel": name});
    socket.expect_message(json!([join_ref, null, topic, "system", why])).await;
    socket.expect_message(json!([join_ref, join_ref, topic, "phx_close", {}])).await;
}

#[testkit::test]
async fn an_expired_token_closes_its_channel_and_a_refresh_keeps_it(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut one = channel_socket(&node, "2.0.0").await;
    let token = |seconds| mint_token(&json!({"role": "authenticated", "exp": unix_time_in(seconds)}));
    for (join_ref, topic) in [("1", "realtime:a"), ("2", "realtime:b")] {
        one.send_message(
            json!([join_ref, join_ref, topic, "phx_join", {"config": {}, "access_token": token(2)}]),
        )
        .await;
        assert_eq!(one.next_message().await, join_reply(topic, join_ref));
    }
    for odd in [json!(null), json!(7), json!("sb_secret_x")] {
        one.send_message(json!(["2", "3", "realtime:b", "access_token", {"access_token": odd}])).await;
    }
    one.send_message(json!(["2", "4", "realtime:b", "access_token", {"access_token": token(600)}])).await;
    let why = one.next_message().await;
    let message = why[4]["message"].as_str().expect("a message");
    assert!(message.starts_with("Token has expired ") && why[2] == "realtime:a", "{why}");
    one.expect_message(json!(["1", "1", "realtime:a", "phx_close", {}])).await;
    one.send_message(json!(["2", "5", "realtime:b", "access_token", {"access_token": "garbage"}])).await;
    expect_channel_closed(&mut one, "realtime:b", "2", "The token provided is not a valid JWT").await;
}

#[testkit::test]
async fn joins_with_invalid_tokens_return_the_reason(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut one = channel_socket(&node, "2.0.0").await;
    for (token, reason) in [
        ("garbage".to_owned(), "MalformedJWT: The token provided is not a valid JWT"),
        (String::new(), "MalformedJWT: The token provided is not a valid JWT"),
        (
            mint_token(&json!({"exp": unix_time_in(60)})),
            "InvalidJWTToken: Fields `role` and `exp` are required in JWT",
        ),
    ] {
        one.send_message(json!(["1", "1", "realtime:a", "phx_join", {"config": {}, "access_token": token}]))
            .await;
        assert_eq!(one.next_message().await, join_error_reply("realtime:a", "1", reason));
    }
    one.send_message(
        json!(["1", "1", "realtime:a", "phx_join", {"config": {}, "access_token": "sb_publishable_x"}]),
    )
    .await;
    assert_eq!(one.next_message().await, join_reply("realtime:a", "1"));
}

#[testkit::test]
async fn flooding_closes_only_the_sender_channel(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("REALTIME_MAX_EVENTS_PER_SECOND", "20")).await;
    let (mut sender, mut listener) =
        (channel_socket(&node, "2.0.0").await, channel_socket(&node, "2.0.0").await);
    assert_eq!(join(&mut listener, "realtime:a", "1", json!({})).await, join_reply("realtime:a", "1"));
    assert_eq!(join(&mut sender, "realtime:a", "1", json!({})).await, join_reply("realtime:a", "1"));
    for n in 0..200 {
        sender.send_message(json!(["1", "2", "realtime:a", "broadcast", {"n": n}])).await;
    }
    expect_channel_closed(&mut sender, "realtime:a", "1", "Too many messages per second").await;
    listener.send_message(json!([null, "3", "phoenix", "heartbeat", {}])).await;
    let last = listener
        .find_message("its heartbeat", |frame| frame[2] == "phoenix" || frame[3] != "broadcast")
        .await;
    assert_eq!(last[2], "phoenix", "{last}");
}

#[testkit::test]
async fn a_stopping_server_closes_channel_sockets_with_1012(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut one = channel_socket(&node, "2.0.0").await;
    assert_eq!(join(&mut one, "realtime:a", "1", json!({})).await, join_reply("realtime:a", "1"));
    let stopping = node.clone();
    let stopped = tokio::spawn(async move { stopping.stop().await });
    one.expect_close(1012).await;
    stopped.await.expect("no panic").expect("it stops gracefully");
}
