//! The device socket (`/ws`) and the context socket (`/api/v1/context/ws`).

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    client::{ANY_TIME, Socket, assert_matches_pattern, open_socket},
    harness::{TestDatabase, TestServer, User, mint_token},
};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use uuid::Uuid;

/// Long enough for pending messages to arrive.
const QUIET_PERIOD: Duration = Duration::from_millis(700);

async fn device_socket(node: &TestServer, user: &User, query: &str) -> Socket {
    let path = format!("/ws?token={}{query}", user.token);
    open_socket(node.address, &path, &[]).await.expect("the socket opens")
}

async fn context_socket(node: &TestServer, user: &User, query: &str) -> Socket {
    let path = format!("/api/v1/context/ws?token={}{query}", user.token);
    open_socket(node.address, &path, &[]).await.expect("the socket opens")
}

fn assert_refused(opened: Result<Socket, SocketError>, status: u16) {
    match opened {
        Err(SocketError::Http(response)) => assert_eq!(response.status().as_u16(), status),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the socket opened"),
    }
}

/// Waits for the reply to a heartbeat, after which all earlier messages have been processed.
async fn skip_initial_messages(socket: &mut Socket) {
    socket.send_message(json!({"type": "heartbeat"})).await;
    socket.find_message("the heartbeat's reply", |frame| frame["type"] == "heartbeat_ack").await;
}

fn presence_json(user: &User, status: &str) -> Value {
    json!({"type": "presence_update", "payload": {
        "user_id": user.id, "online_status": status, "custom_status": null, "last_seen_at": ANY_TIME,
    }})
}

// Device socket ------------------------------------------------------------------------------------------------

#[testkit::test]
async fn a_device_socket_gets_a_welcome_and_every_visible_user(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, online, dnd, gone) = (User::new(), User::new(), User::new(), User::new());
    for (user, status) in [(&online, "online"), (&dnd, "dnd"), (&gone, "offline")] {
        db.add_contact(&viewer, user).await;
        db.set_status(user, status).await;
    }
    let mut socket = device_socket(&node, &viewer, "&device_id=phone").await;
    let welcome = socket.next_message().await;
    let client_id = welcome["payload"]["client_id"].clone();
    let random =
        |id: &Value| id.as_str().and_then(|id| Uuid::parse_str(id).ok()).and_then(|id| id.get_version());
    assert_eq!(random(&client_id), Some(uuid::Version::Random), "{welcome}");
    assert_matches_pattern(
        &welcome,
        &json!({"type": "connection_ack", "payload": {
            "client_id": client_id, "user_id": viewer.id, "device_id": "phone", "server_time": ANY_TIME,
            "heartbeat_interval_ms": 25_000,
        }}),
    );
    let mut first = [socket.next_message().await, socket.next_message().await, socket.next_message().await];
    first.sort_by_key(|frame| frame["payload"]["online_status"].to_string());
    for (frame, expected) in first.iter().zip([
        presence_json(&dnd, "dnd"),
        presence_json(&gone, "offline"),
        presence_json(&online, "online"),
    ]) {
        assert_matches_pattern(frame, &expected);
    }
    db.set_status(&online, "away").await;
    socket.expect_message(presence_json(&online, "away")).await;
    db.execute("delete from rollcall.contacts where addressee_id = $user", &[("user", online.id)]).await;
    let mut taken_back = presence_json(&online, "offline");
    taken_back["payload"]["last_seen_at"] = Value::Null;
    socket.expect_message(taken_back).await;
    socket.expect_no_message(QUIET_PERIOD).await;
}

#[testkit::test]
async fn every_device_message_gets_a_response(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, friend) = (User::new(), User::new());
    db.add_contact(&user, &friend).await;
    let mut watcher = device_socket(&node, &friend, "").await;
    let welcome = watcher.next_message().await;
    assert_eq!(welcome["payload"]["device_id"], "default");
    let mut socket = device_socket(&node, &user, "").await;
    watcher.expect_message(presence_json(&user, "online")).await;
    socket.next_message().await;
    socket.expect_message(presence_json(&friend, "online")).await;

    for name in ["heartbeat", "presence_heartbeat"] {
        socket.send_message(json!({"type": name, "payload": {}})).await;
        socket.expect_message(json!({"type": "heartbeat_ack", "payload": {"server_time": ANY_TIME}})).await;
    }
    socket.send_message(json!({"type": "ping"})).await;
    socket.expect_message(json!({"type": "pong", "payload": {}})).await;
    let update = json!({"online_status": "busy", "custom_status": " <i>out</i> "});
    socket.send_message(json!({"type": "presence_update", "payload": update})).await;
    let acknowledged = json!({"online_status": "busy", "custom_status": "‹i›out‹/i›"});
    socket.expect_message(json!({"type": "presence_update_ack", "payload": acknowledged})).await;
    let mut expected = presence_json(&user, "busy");
    expected["payload"]["custom_status"] = json!("‹i›out‹/i›");
    watcher.expect_message(expected).await;

    socket.close().await;
    let left = watcher.find_message("the end", |frame| frame["payload"]["online_status"] == "offline").await;
    assert_eq!(left["payload"]["user_id"], json!(user.id));
}

#[testkit::test]
async fn a_second_device_sends_no_duplicate_update(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, friend) = (User::new(), User::new());
    db.add_contact(&user, &friend).await;
    let mut watcher = device_socket(&node, &friend, "").await;
    watcher.next_message().await;
    let phone = device_socket(&node, &user, "&device_id=phone").await;
    watcher.expect_message(presence_json(&user, "online")).await;
    let mut laptop = device_socket(&node, &user, "&device_id=laptop").await;
    laptop.next_message().await;
    watcher.expect_no_message(QUIET_PERIOD).await;
    phone.close().await;
    watcher.expect_no_message(QUIET_PERIOD).await;
    laptop.close().await;
    watcher.expect_message(presence_json(&user, "offline")).await;
}

#[testkit::test]
async fn typing_uses_the_format_of_each_dialect(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, friend, room) = (User::new(), User::new(), Uuid::new_v4());
    db.execute(
        "insert into rollcall.conversations (id, created_by) values ($room, $user);
             insert into rollcall.conversation_participants (conversation_id, user_id)
             values ($room, $user), ($room, $friend)",
        &[("room", room), ("user", user.id), ("friend", friend.id)],
    )
    .await;
    let mut watcher = device_socket(&node, &friend, "").await;
    watcher.next_message().await;
    let (mut of_d, mut of_a) =
        (device_socket(&node, &user, "").await, context_socket(&node, &user, "").await);
    skip_initial_messages(&mut of_d).await;
    let indicator = |is_typing: bool| {
        let payload = json!({"conversation_id": room, "user_id": user.id, "is_typing": is_typing});
        json!({"type": "typing_indicator", "payload": payload})
    };
    let fields = json!({"conversation_id": room, "is_typing": true});
    of_d.send_message(json!({"type": "typing", "payload": fields})).await;
    let received = watcher.find_message("typing", |frame| frame["type"] == "typing_indicator").await;
    assert_eq!(received, indicator(true));
    of_a.send_message(json!({"type": "typing", "data": {"conversationId": room, "isTyping": false}})).await;
    let received = watcher.find_message("its end", |frame| frame["type"] == "typing_indicator").await;
    assert_eq!(received, indicator(false));

    let elsewhere = json!({"conversation_id": Uuid::new_v4(), "is_typing": true});
    of_d.send_message(json!({"type": "typing", "payload": elsewhere})).await;
    let error = of_d.find_message("a rejection", |frame| frame["type"] == "error").await;
    assert_eq!(error["payload"]["code"], "NOT_FOUND");
}

#[testkit::test]
async fn device_sockets_report_errors_and_stay_open(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let mut socket = device_socket(&node, &user, "").await;
    socket.next_message().await;
    for (message, code, field) in [
        (Message::text("{"), "INVALID_REQUEST", None),
        (Message::binary(vec![1]), "INVALID_REQUEST", None),
        (Message::text(r#"{"type":"status","data":{"status":"away"}}"#), "INVALID_REQUEST", Some("type")),
        (Message::text(r#"{"type":"presence_update"}"#), "INVALID_REQUEST", Some("payload")),
        (
            Message::text(r#"{"type":"presence_update","payload":{"online_status":"here"}}"#),
            "UNPROCESSABLE",
            Some("payload.online_status"),
        ),
        (
            Message::text(r#"{"type":"typing","payload":{"conversation_id":"x","is_typing":true}}"#),
            "INVALID_REQUEST",
            Some("payload.conversation_id"),
        ),
        (Message::text(r#"{"type":"auth"}"#), "INVALID_REQUEST", Some("token")),
        (Message::text(r#"{"type":"auth","token":"nonsense"}"#), "INVALID_TOKEN", None),
    ] {
        socket.send_frame(message).await;
        let error = socket.next_message().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{error}");
        let payload = &error["payload"];
        assert_eq!(payload["code"], code, "{error}");
        assert!(payload["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        assert_eq!(payload["details"][0]["field"].as_str(), field, "{error}");
    }
    skip_initial_messages(&mut socket).await;
    socket.send_frame(Message::text("x".repeat(64 * 1024 + 1))).await;
    socket.expect_close(1009).await;
}

#[testkit::test]
async fn a_device_socket_without_a_valid_token_gets_401(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    assert_refused(open_socket(node.address, "/ws", &[]).await, 401);
    for token in
        ["nonsense", &user.token_for(-5), &mint_token(&json!({"role": "anon", "exp": 99_999_999_999_i64}))]
    {
        assert_refused(open_socket(node.address, &format!("/ws?token={token}"), &[]).await, 401);
        let header = [("authorization", format!("Bearer {token}"))];
        assert_refused(open_socket(node.address, "/ws", &header).await, 401);
    }
    let named = format!("/ws?token={}&device_id=", user.token);
    assert_refused(open_socket(node.address, &named, &[]).await, 400);
    // These headers are ignored unless the gateway is trusted.
    let headers = [("x-user-id", user.id.to_string()), ("x-device-id", "phone".to_owned())];
    assert_refused(open_socket(node.address, "/ws", &headers).await, 401);
    // With a token, X-Device-ID only names the device.
    let headers = [
        ("authorization", format!("Bearer {}", user.token)),
        ("x-user-id", Uuid::new_v4().to_string()),
        ("x-device-id", "phone".to_owned()),
    ];
    let mut socket = open_socket(node.address, "/ws", &headers).await.expect("the socket opens");
    let welcome = socket.next_message().await["payload"].take();
    assert_eq!((&welcome["user_id"], &welcome["device_id"]), (&json!(user.id), &json!("phone")));
}

#[testkit::test]
async fn a_trusted_gateway_names_the_user_and_the_device(db: Arc<TestDatabase>) {
    let user = User::new();
    let headers = [("x-user-id", user.id.to_string()), ("x-device-id", "tv".to_owned())];
    let trusting = db.start_server_with(|settings| settings.set("TRUST_GATEWAY_HEADERS", "true")).await;
    let mut socket = open_socket(trusting.address, "/ws", &headers).await.expect("the socket opens");
    let welcome = socket.next_message().await["payload"].take();
    assert_eq!((&welcome["user_id"], &welcome["device_id"]), (&json!(user.id), &json!("tv")));
    let mut of_a =
        open_socket(trusting.address, "/api/v1/context/ws", &headers).await.expect("the socket opens");
    skip_initial_messages(&mut of_a).await;

    let choosy = db
        .start_server_with(|settings| {
            settings.set("TRUST_GATEWAY_HEADERS", "true");
            settings.set("TRUSTED_GATEWAYS", "10.0.0.0/8");
        })
        .await;
    assert_refused(open_socket(choosy.address, "/ws", &headers).await, 401);
    let mut of_a = open_socket(choosy.address, "/api/v1/context/ws", &headers).await.expect("it upgrades");
    of_a.expect_close(4001).await;
}

/// A gateway may identify users by cookies, which a browser sends with a handshake or a form of any page.
#[testkit::test]
async fn foreign_pages_cannot_use_the_identity_of_a_gateway(db: Arc<TestDatabase>) {
    let (any, listed) = (
        db.start_server_with(|settings| settings.set("TRUST_GATEWAY_HEADERS", "true")).await,
        db.start_server_with(|settings| {
            settings.set("TRUST_GATEWAY_HEADERS", "true");
            settings.set("CORS_ORIGINS", "https://app.example,http://localhost:3000");
        })
        .await,
    );
    let user = User::new();
    for node in [&any, &listed] {
        let own = node.address.to_string();
        for (origin, forwarded_host, is_allowed) in [
            (None, None, true),
            (Some(format!("http://{own}")), None, true),
            (Some("https://Rollcall.example".to_owned()), Some("rollcall.example"), true),
            (Some("https://app.example".to_owned()), None, Arc::ptr_eq(node, &listed)),
            (Some("http://localhost:3000".to_owned()), None, Arc::ptr_eq(node, &listed)),
            (Some("https://evil.example".to_owned()), None, false),
            (Some("https://app.example.evil.example".to_owned()), None, false),
            (Some(format!("https://evil.example/{own}")), None, false),
            (Some(format!("http://x@{own}")), None, false),
            (Some("http://127.0.0.1".to_owned()), None, false),
            (Some("null".to_owned()), None, false),
            (Some(String::new()), None, false),
        ] {
            let mut headers = vec![("x-user-id", user.id.to_string())];
            headers.extend(origin.clone().map(|origin| ("origin", origin)));
            headers.extend(forwarded_host.map(|host| ("x-forwarded-host", host.to_owned())));
            for path in ["/api/presence/subscribe", "/ws", "/api/v1/context/ws"] {
                let socket = open_socket(node.address, path, &headers).await;
                if is_allowed {
                    socket.unwrap_or_else(|error| panic!("{path} {origin:?}: {error:?}"));
                } else {
                    assert_refused(socket, 403);
                }
            }
            // A form without JSON needs no preflight; JSON does.
            let route = format!("/api/v1/context/rollup/{}", user.id);
            let post = |content_type: &str| {
                let mut request = node.request(Method::POST, &route).header("content-type", content_type);
                for (name, value) in &headers {
                    request = request.header(*name, value);
                }
                testkit::client::send(request.body("{}"))
            };
            let form = post("text/plain").await;
            if is_allowed {
                form.expect_status(200);
            } else {
                form.expect_error(403, "FORBIDDEN");
            }
            post("application/json").await.expect_status(200);
        }
        // A token in the request identifies the page's own user.
        let headers = [
            ("authorization", format!("Bearer {}", user.token)),
            ("origin", "https://evil.example".to_owned()),
        ];
        open_socket(node.address, "/ws", &headers).await.expect("the socket opens").next_message().await;
    }
}

#[testkit::test]
async fn the_update_limit_is_shared_by_sockets_and_rest(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("PRESENCE_UPDATES_PER_MINUTE", "4")).await;
    let user = User::new();
    let (mut one, mut other, mut of_b) = (
        device_socket(&node, &user, "&device_id=1").await,
        device_socket(&node, &user, "&device_id=2").await,
        node.socket(&user).await,
    );
    one.next_message().await;
    other.next_message().await;
    of_b.next_message().await;
    let update = |text: &str| json!({"type": "presence_update", "payload": {"online_status": "busy", "custom_status": text}});
    one.send_message(update("1")).await;
    one.find_message("a response", |frame| frame["type"] == "presence_update_ack").await;
    // A repeat does not count.
    one.send_message(update("1")).await;
    one.find_message("a response", |frame| frame["type"] == "presence_update_ack").await;
    other.send_message(update("2")).await;
    other.find_message("a response", |frame| frame["type"] == "presence_update_ack").await;
    node.post(&user, "/api/presence/status", json!({"status": "dnd"})).await.expect_status(200);
    of_b.send_message(json!({"type": "status", "data": {"status": "online"}})).await;
    of_b.send_message(json!({"type": "status", "data": {"status": "away"}})).await;
    let error = of_b.find_message("a rejection", |frame| frame["type"] == "error").await;
    assert_eq!(error["code"], "RATE_LIMITED");

    one.send_message(update("3")).await;
    let error = one.find_message("a rejection", |frame| frame["type"] == "error").await;
    assert_eq!((&error["code"], &error["payload"]["code"]), (&json!("RATE_LIMITED"), &json!("RATE_LIMITED")));
    assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{error}");
    node.post(&user, "/api/presence/status", json!({"status": "away"}))
        .await
        .expect_error(429, "RATE_LIMITED");
    skip_initial_messages(&mut one).await;
}

#[testkit::test]
async fn tokens_expire_and_refresh_in_every_dialect(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let short = user.token_for(3);
    let mut opened = Vec::new();
    for path in ["/ws", "/api/v1/context/ws"] {
        for renewed in [true, false] {
            let socket = open_socket(node.address, &format!("{path}?token={short}"), &[]).await;
            opened.push((socket.expect("still valid"), renewed));
        }
    }
    for (socket, _) in opened.iter_mut().filter(|(_, renewed)| *renewed) {
        socket.send_message(json!({"type": "auth", "token": User::new().token})).await;
        let error = socket.find_message("a rejection", |frame| frame["type"] == "error").await;
        assert_eq!(error["code"], "FORBIDDEN");
        socket.send_message(json!({"type": "auth", "token": user.token})).await;
    }
    let (renewed, ending): (Vec<_>, Vec<_>) = opened.into_iter().partition(|(_, renewed)| *renewed);
    for (mut socket, _) in ending {
        let before = socket.expect_close(4401).await;
        assert_eq!(before.last().map(|frame| &frame["code"]), Some(&json!("TOKEN_EXPIRED")), "{before:?}");
    }
    for (mut socket, _) in renewed {
        skip_initial_messages(&mut socket).await;
    }
}

// Context socket -----------------------------------------------------------------------------------------------

fn context_update(data: Value) -> Value {
    json!({"type": "presence_update", "data": data})
}

async fn next_context_sync(socket: &mut Socket) -> Value {
    let mut frame = socket.find_message("a sync", |frame| frame["type"] == "presence_sync").await;
    let at = frame["timestamp"].as_i64().expect("milliseconds");
    assert!((jiff::Timestamp::now().as_millisecond() - at).abs() < 60_000, "{frame}");
    frame["data"].take()
}

#[testkit::test]
async fn a_context_reaches_other_devices_on_every_node(db: Arc<TestDatabase>) {
    let (here, there) = (db.start_server().await, db.start_server().await);
    let (user, room, notebook, persona) = (User::new(), Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let mut web = context_socket(&here, &user, "&device_id=web").await;
    let mut same = context_socket(&here, &user, "&device_id=web").await;
    let mut phone = context_socket(&here, &user, "&device_id=phone").await;
    let mut tablet = context_socket(&there, &user, "&device_id=tablet").await;
    for socket in [&mut web, &mut same, &mut phone, &mut tablet] {
        skip_initial_messages(socket).await;
    }
    let everything = json!({
        "deviceId": "web", "activeConversationId": room, "visibleConversationIds": [room, notebook],
        "activeNotebookId": notebook, "activePersonaId": persona, "lastNavigationPath": "/notes/7", "localTime": "14:30",
    });
    web.send_message(context_update(everything.clone())).await;
    assert_eq!(next_context_sync(&mut phone).await, everything);
    assert_eq!(next_context_sync(&mut tablet).await, everything);
    // A repeat sends no update, and the sending device receives none.
    web.send_message(context_update(everything)).await;
    for socket in [&mut web, &mut same, &mut phone, &mut tablet] {
        skip_initial_messages(socket).await;
        socket.expect_no_message(QUIET_PERIOD / 2).await;
    }
    web.send_message(json!({"type": "heartbeat"})).await;
    let response = web.next_message().await;
    let at = response["timestamp"].as_i64().expect("milliseconds");
    assert_eq!(response, json!({"type": "heartbeat_ack", "timestamp": at}));
    assert!((jiff::Timestamp::now().as_millisecond() - at).abs() < 60_000);
}

#[testkit::test]
async fn a_context_keeps_omitted_fields_and_ten_page_visits(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, room) = (User::new(), Uuid::new_v4());
    let mut web = context_socket(&node, &user, "&device_id=web").await;
    let mut phone = context_socket(&node, &user, "&device_id=phone").await;
    skip_initial_messages(&mut phone).await;
    web.send_message(context_update(
        json!({"deviceId": "web", "activeConversationId": room, "localTime": "09:00"}),
    ))
    .await;
    assert_eq!(next_context_sync(&mut phone).await["activeConversationId"], json!(room));
    web.send_message(context_update(json!({"deviceId": "web", "localTime": null}))).await;
    let then = next_context_sync(&mut phone).await;
    assert_eq!((&then["activeConversationId"], &then["localTime"]), (&json!(room), &Value::Null));

    for visit in 0..12 {
        web.send_message(context_update(
            json!({"deviceId": "web", "lastNavigationPath": format!("/p/{visit}")}),
        ))
        .await;
        skip_initial_messages(&mut web).await;
    }
    let row = db
        .query_row(
            "select navigation_history, last_active_at > now() - interval '1 minute'
             from rollcall.presence_devices where user_id = $1 and device_id = 'web'",
            &[&user.id],
        )
        .await;
    let history: Value = row.get(0);
    let visits: Vec<_> =
        history.as_array().expect("a list").iter().map(|step| step["path"].clone()).collect();
    assert_eq!(visits, (2..12).map(|visit| json!(format!("/p/{visit}"))).collect::<Vec<_>>());
    assert!(history[0]["at"].as_str().is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok()), "{history}");
    assert!(row.get::<_, bool>(1));
}

#[testkit::test]
async fn a_context_is_sent_to_no_other_user(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, friend) = (User::new(), User::new());
    db.add_contact(&user, &friend).await;
    let mut watcher = device_socket(&node, &friend, "").await;
    let mut theirs = context_socket(&node, &friend, "").await;
    let mut web = context_socket(&node, &user, "&device_id=web").await;
    let mut own = device_socket(&node, &user, "&device_id=phone").await;
    watcher.find_message("online", |frame| frame["payload"]["user_id"] == json!(user.id)).await;
    own.next_message().await;
    own.next_message().await;
    skip_initial_messages(&mut web).await;
    let version = "select max(version) from rollcall.user_presence where user_id = $1";
    let before: i64 = db.query_row(version, &[&user.id]).await.get(0);
    web.send_message(context_update(json!({"deviceId": "web", "lastNavigationPath": "/secret"}))).await;
    skip_initial_messages(&mut web).await;
    watcher.expect_no_message(QUIET_PERIOD).await;
    theirs.expect_no_message(QUIET_PERIOD / 4).await;
    // The device socket has no message for it.
    own.expect_no_message(QUIET_PERIOD / 4).await;
    assert_eq!(db.query_row(version, &[&user.id]).await.get::<_, i64>(0), before, "no face was written");
}

#[testkit::test]
async fn a_context_written_in_sql_reaches_sockets_as_well(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let mut phone = context_socket(&node, &user, "&device_id=phone").await;
    skip_initial_messages(&mut phone).await;
    db
        .execute(
            "insert into rollcall.presence_devices (user_id, device_id, last_navigation_path) values ($user, 'desk', '/a')",
            &[("user", user.id)],
        )
        .await;
    let data = next_context_sync(&mut phone).await;
    assert_eq!((&data["deviceId"], &data["lastNavigationPath"]), (&json!("desk"), &json!("/a")));
    db
        .execute(
            "update rollcall.presence_devices set last_navigation_path = '/b' where user_id = $user and device_id = 'desk'",
            &[("user", user.id)],
        )
        .await;
    assert_eq!(next_context_sync(&mut phone).await["lastNavigationPath"], "/b");
}

#[testkit::test]
async fn a_missed_context_is_resent(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let mut phone = context_socket(&node, &user, "&device_id=phone").await;
    skip_initial_messages(&mut phone).await;
    // One transaction: the listener is gone when the notification is sent.
    db.execute(
        "begin;
             select count(pg_terminate_backend(pid)) from pg_stat_activity
               where datname = current_database() and application_name = 'rollcall-listener';
             insert into rollcall.presence_devices (user_id, device_id, last_navigation_path)
               values ($user, 'desk', '/missed');
             commit",
        &[("user", user.id)],
    )
    .await;
    assert_eq!(next_context_sync(&mut phone).await["lastNavigationPath"], "/missed");
}

#[testkit::test]
async fn a_context_socket_belongs_to_its_named_device(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, friend) = (User::new(), User::new());
    db.add_contact(&user, &friend).await;
    let mut watcher = device_socket(&node, &friend, "").await;
    watcher.next_message().await;
    let mut socket = context_socket(&node, &user, "").await;
    watcher.expect_message(presence_json(&user, "online")).await;
    socket.send_message(context_update(json!({"deviceId": "web", "lastNavigationPath": "/a"}))).await;
    skip_initial_messages(&mut socket).await;
    db.wait_until(
        "the named device is connected, the unnamed one is not",
        "select array_agg(device_id || ' ' || status || ' ' || cardinality(nodes) order by device_id)
                = '{default offline 0,web online 1}' from rollcall.presence_devices where user_id = $user",
        &[("user", user.id)],
    )
    .await;
    watcher.expect_no_message(QUIET_PERIOD).await;
    // A device does not receive its own context, not even the first one.
    socket.expect_no_message(Duration::from_millis(50)).await;
    socket.close().await;
    watcher.expect_message(presence_json(&user, "offline")).await;
}

#[testkit::test]
async fn context_sockets_report_errors_and_stay_open(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let mut socket = context_socket(&node, &User::new(), "").await;
    for (message, code, field) in [
        (Message::text("["), "INVALID_REQUEST", None),
        (Message::text(r#"{"type":"ping"}"#), "INVALID_REQUEST", Some("type")),
        (Message::text(r#"{"type":"presence_update","data":{}}"#), "INVALID_REQUEST", Some("data.deviceId")),
        (
            Message::text(r#"{"type":"presence_update","data":{"deviceId":"a","activeConversationId":"7"}}"#),
            "INVALID_REQUEST",
            Some("data.activeConversationId"),
        ),
        (
            Message::text(r#"{"type":"presence_update","data":{"deviceId":"a","localTime":"tea"}}"#),
            "INVALID_REQUEST",
            Some("data.localTime"),
        ),
        (Message::text(r#"{"type":"auth","token":"nonsense"}"#), "INVALID_TOKEN", None),
    ] {
        socket.send_frame(message).await;
        let error = socket.next_message().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{error}");
        assert_eq!(error["details"][0]["field"].as_str(), field, "{error}");
    }
    skip_initial_messages(&mut socket).await;
}

#[testkit::test]
async fn context_updates_are_rate_limited(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("CONTEXT_REQUESTS_PER_MINUTE", "2")).await;
    let mut socket = context_socket(&node, &User::new(), "").await;
    for path in ["/1", "/2", "/3"] {
        socket.send_message(context_update(json!({"deviceId": "web", "lastNavigationPath": path}))).await;
    }
    let error = socket.next_message().await;
    assert_eq!(error["code"], "RATE_LIMITED");
    assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{error}");
    skip_initial_messages(&mut socket).await;
}

#[testkit::test]
async fn a_context_socket_without_a_valid_token_closes_with_4001(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let strangers = [
        String::new(),
        user.token_for(-5),
        mint_token(&json!({"role": "service_role", "exp": 99_999_999_999_i64})),
    ];
    for token in strangers {
        let path = format!("/api/v1/context/ws?token={token}");
        let mut socket = open_socket(node.address, &path, &[]).await.expect("it upgrades");
        assert_eq!(socket.expect_close(4001).await, Vec::<Value>::new());
    }
    let mut socket = open_socket(node.address, "/api/v1/context/ws", &[]).await.expect("it upgrades");
    socket.expect_close(4001).await;
    // A plain HTTP request gets a description.
    let response = testkit::client::send(node.request(Method::GET, "/api/v1/context/ws")).await;
    response.expect_error(426, "UPGRADE_REQUIRED");
}

#[testkit::test]
async fn the_second_port_serves_only_the_context_socket(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("WS_PORT", "0")).await;
    let address = node.context_address.expect("a second port");
    assert_ne!(address, node.address);
    let user = User::new();
    let mut phone = context_socket(&node, &user, "&device_id=phone").await;
    skip_initial_messages(&mut phone).await;
    let mut socket =
        open_socket(address, &format!("/?token={}", user.token), &[]).await.expect("the socket opens");
    socket.send_message(context_update(json!({"deviceId": "web", "lastNavigationPath": "/a"}))).await;
    assert_eq!(next_context_sync(&mut phone).await["deviceId"], "web");
    open_socket(address, "/", &[]).await.expect("it upgrades").expect_close(4001).await;
    assert_refused(open_socket(address, &format!("/ws?token={}", user.token), &[]).await, 404);
    // On the main port this path is the console page.
    assert_refused(open_socket(node.address, &format!("/?token={}", user.token), &[]).await, 200);
    assert!(db.start_server().await.context_address.is_none());
}
