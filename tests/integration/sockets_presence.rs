//! The presence socket (`/api/presence/subscribe`).

use std::{sync::Arc, time::Duration};

use serde_json::json;
use testkit::{
    client::{ANY_TIME, hidden_presence},
    harness::{TestDatabase, User, mint_token},
};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

/// Long enough for pending messages to arrive.
const QUIET_PERIOD: Duration = Duration::from_millis(700);

#[testkit::test]
async fn the_first_frame_is_the_initial_state(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, online, dnd) = (User::new(), User::new(), User::new());
    let mut alone = node.socket(&viewer).await;
    alone.expect_message(json!({"type": "initial_state", "data": {"presences": []}})).await;

    db.add_contact(&viewer, &online).await;
    db.add_contact(&dnd, &viewer).await;
    db.set_status(&online, "online").await;
    db.set_status(&dnd, "dnd").await;
    let mut socket = node.socket(&viewer).await;
    let mut first = socket.next_message().await;
    let presences = first["data"]["presences"].as_array_mut().expect("a list");
    presences.sort_by_key(|presence| presence["availability"].to_string());
    testkit::client::assert_matches_pattern(
        &first,
        &json!({"type": "initial_state", "data": {"presences": [
            {"user_id": dnd.id, "status": "online", "availability": "dnd", "last_seen": ANY_TIME},
            {"user_id": online.id, "status": "online", "availability": "online", "last_seen": ANY_TIME},
        ]}}),
    );
}

#[testkit::test]
async fn updates_have_their_exact_shape(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    let mut socket = node.socket(&viewer).await;
    socket.expect_message(json!({"type": "initial_state", "data": {"presences": []}})).await;
    for (body, status) in [
        (json!({"status": "online"}), "online"),
        (json!({"status": "away"}), "away"),
        (json!({"status": "dnd"}), "online"),
        (json!({"status": "offline"}), "offline"),
    ] {
        node.post(&subject, "/api/presence/status", body.clone()).await.expect_status(200);
        // Offline keeps the chosen status but shows the user as offline.
        let data = json!({"user_id": subject.id, "status": status, "availability": body["status"], "last_seen": ANY_TIME});
        socket.expect_message(json!({"type": "presence_update", "data": data})).await;
    }
}

#[testkit::test]
async fn typing_messages_are_accepted(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let mut socket = node.socket(&user).await;
    socket.find_message("the start", |frame| frame["type"] == "initial_state").await;
    socket
        .send_message(json!({"type": "typing", "data": {"conversation_id": user.id, "is_typing": 1}}))
        .await;
    let error = socket.find_message("an error message", |frame| frame["type"] == "error").await;
    assert_eq!(
        (&error["code"], &error["details"][0]["field"]),
        (&json!("INVALID_REQUEST"), &json!("data.is_typing"))
    );
}

#[testkit::test]
async fn more_users_can_be_followed_by_query_and_message(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, open, also_open, hidden) = (User::new(), User::new(), User::new(), User::new());
    db
        .execute(
            "insert into rollcall.presence_settings (user_id, visibility) values ($a, 'everyone'), ($b, 'everyone')",
            &[("a", open.id), ("b", also_open.id)],
        )
        .await;
    for user in [&open, &also_open, &hidden] {
        db.set_status(user, "online").await;
    }
    let mut socket = node.socket_with(&viewer, &format!("&user_ids={},{}", open.id, hidden.id)).await;
    let first = socket.next_message().await;
    assert_eq!(first["data"]["presences"].as_array().map(Vec::len), Some(1), "{first}");
    assert!(socket.shows_online(open.id));

    socket.send_message(json!({"type": "subscribe", "data": {"user_ids": [also_open.id, hidden.id]}})).await;
    socket.wait_until("the one who is visible", |socket| socket.shows_online(also_open.id)).await;
    assert!(socket.hides(hidden.id));
    db.set_status(&also_open, "away").await;
    socket.wait_until("an update of theirs", |socket| socket.shows(also_open.id, "away", "away")).await;

    let too_many: Vec<_> = (0..1_001).map(|_| User::new().id).collect();
    socket.send_message(json!({"type": "subscribe", "data": {"user_ids": too_many}})).await;
    let error = socket.find_message("an error message", |frame| frame["type"] == "error").await;
    assert_eq!(error["code"], "INVALID_REQUEST");
    let refused = node.socket_for_token(&viewer.token, "&user_ids=bob").await;
    assert!(matches!(refused, Err(SocketError::Http(response)) if response.status() == 400));
}

#[testkit::test]
async fn visibility_changes_send_the_user_or_hide_it(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, subject) = (User::new(), User::new());
    db.set_status(&subject, "busy").await;
    let mut socket = node.socket(&viewer).await;
    socket.expect_message(json!({"type": "initial_state", "data": {"presences": []}})).await;
    db.add_contact(&viewer, &subject).await;
    let face =
        json!({"user_id": subject.id, "status": "online", "availability": "busy", "last_seen": ANY_TIME});
    socket.expect_message(json!({"type": "presence_update", "data": face})).await;
    db.execute("delete from rollcall.contacts", &[]).await;
    socket.expect_message(json!({"type": "presence_update", "data": hidden_presence(subject.id)})).await;
    socket.expect_no_message(QUIET_PERIOD).await;
}

#[testkit::test]
async fn two_sockets_of_one_device_are_one_device(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    let mut watching = node.socket(&viewer).await;
    watching.next_message().await;
    let first = node.socket_with(&subject, "&device_id=tab").await;
    watching.wait_until("online", |socket| socket.shows_online(subject.id)).await;
    let mut second = node.socket_with(&subject, "&deviceId=tab").await;
    second.next_message().await;
    watching.expect_no_message(QUIET_PERIOD).await;
    first.close().await;
    watching.expect_no_message(QUIET_PERIOD).await;
    let devices = db
        .query_row("select count(*) from rollcall.presence_devices where user_id = $1", &[&subject.id])
        .await;
    assert_eq!(devices.get::<_, i64>(0), 1);
    second.close().await;
    watching.wait_until("offline", |socket| socket.shows_offline(subject.id)).await;
}

#[testkit::test]
async fn a_user_is_online_until_the_last_device_disconnects(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    let mut watching = node.socket(&viewer).await;
    watching.next_message().await;
    let phone = node.socket_with(&subject, "&device_id=phone").await;
    watching.wait_until("online", |socket| socket.shows_online(subject.id)).await;
    let mut laptop = node.socket_with(&subject, "&device_id=laptop").await;
    laptop.next_message().await;
    // One device is away; a user with an online device is online.
    laptop.send_message(json!({"type": "status", "data": {"status": "away"}})).await;
    watching.expect_no_message(QUIET_PERIOD).await;
    phone.close().await;
    watching.wait_until("away", |socket| socket.shows(subject.id, "away", "away")).await;
    laptop.close().await;
    watching.wait_until("offline", |socket| socket.shows_offline(subject.id)).await;
}

#[testkit::test]
async fn a_reload_within_the_grace_period_sends_nothing(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("DISCONNECT_GRACE", "2s")).await;
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    let mut watching = node.socket(&viewer).await;
    watching.next_message().await;
    let mut page = node.socket(&subject).await;
    watching.wait_until("online", |socket| socket.shows_online(subject.id)).await;
    for _ in 0..3 {
        page.close().await;
        page = node.socket(&subject).await;
        page.next_message().await;
    }
    watching.expect_no_message(Duration::from_secs(3)).await;
}

#[testkit::test]
async fn a_closed_socket_is_offline_after_the_grace_period(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("DISCONNECT_GRACE", "1s")).await;
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    let mut watching = node.socket(&viewer).await;
    watching.next_message().await;
    for abruptly in [false, true] {
        let mut page = node.socket(&subject).await;
        watching.wait_until("online", |socket| socket.shows_online(subject.id)).await;
        page.next_message().await;
        let before = jiff::Timestamp::now();
        let closed = Instant::now();
        if abruptly {
            drop(page)
        } else {
            page.close().await
        }
        watching.wait_until("offline", |socket| socket.shows_offline(subject.id)).await;
        let took = closed.elapsed();
        assert!(took > Duration::from_millis(900) && took < Duration::from_secs(4), "{took:?}");
        let last_seen: jiff::Timestamp = watching.presences[&subject.id]["last_seen"]
            .as_str()
            .and_then(|time| time.parse().ok())
            .expect("a time");
        let late = last_seen.duration_since(before).as_millis();
        assert!((-50..600).contains(&late), "last seen {late} ms after it was closed");
    }
}

#[testkit::test]
async fn an_idle_user_is_away_until_the_next_activity(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("IDLE_AFTER", "1s")).await;
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    let mut watching = node.socket(&viewer).await;
    watching.next_message().await;
    let mut page = node.socket(&subject).await;
    watching.wait_until("online", |socket| socket.shows_online(subject.id)).await;
    page.next_message().await;
    watching.wait_until("away by itself", |socket| socket.shows(subject.id, "away", "away")).await;
    assert!(
        watching.presences[&subject.id]["idle_since"].is_string(),
        "{:#}",
        watching.presences[&subject.id]
    );

    page.send_message(json!({"type": "heartbeat"})).await;
    page.send_message(json!({"type": "heartbeat", "data": {"active": true}})).await;
    watching.wait_until("back", |socket| socket.shows_online(subject.id)).await;
}

#[testkit::test]
async fn a_status_set_on_a_socket_is_sent_back_to_the_user(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    let mut watching = node.socket(&viewer).await;
    let mut own = node.socket_with(&subject, &format!("&user_ids={}", subject.id)).await;
    own.next_message().await;
    own.send_message(json!({"type": "status", "data": {"status": "dnd", "customStatus": "quiet"}})).await;
    for socket in [&mut watching, &mut own] {
        socket.wait_until("the status", |socket| socket.shows(subject.id, "online", "dnd")).await;
        assert_eq!(socket.presences[&subject.id]["custom_status"], "quiet");
    }
    own.send_message(json!({"type": "status", "data": {"status": "nope"}})).await;
    let error = own.find_message("an error message", |frame| frame["type"] == "error").await;
    assert_eq!(
        (&error["code"], &error["details"][0]["field"]),
        (&json!("UNPROCESSABLE"), &json!("data.status"))
    );
    own.send_message(json!({"type": "status", "data": {"status": "offline"}})).await;
    watching.wait_until("offline at once", |socket| socket.shows_offline(subject.id)).await;
}

#[testkit::test]
async fn heartbeats_get_no_response(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let mut socket = node.socket(&user).await;
    socket.next_message().await;
    socket.send_message(json!({"type": "heartbeat"})).await;
    socket.send_message(json!({"type": "heartbeat", "data": {"active": true}})).await;
    socket.send_message(json!({"type": "heartbeat", "data": null})).await;
    socket.expect_no_message(QUIET_PERIOD).await;
}

#[testkit::test]
async fn an_expired_token_sends_an_error_and_closes_with_4401(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let mut socket = node.socket_for_token(&user.token_for(3), "").await.expect("still valid");
    let before = socket.expect_close(4401).await;
    let codes: Vec<_> = before.iter().map(|frame| &frame["code"]).collect();
    assert_eq!(codes.last(), Some(&&json!("TOKEN_EXPIRED")), "{before:?}");
}

#[testkit::test]
async fn a_refreshed_token_keeps_the_socket_open(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, subject) = (User::new(), User::new());
    db.add_contact(&user, &subject).await;
    let mut socket = node.socket_for_token(&user.token_for(3), "").await.expect("still valid");
    socket.next_message().await;
    socket.send_message(json!({"type": "auth", "token": user.token})).await;
    socket.expect_no_message(Duration::from_secs(4)).await;
    db.set_status(&subject, "online").await;
    socket.wait_until("an update", |socket| socket.shows_online(subject.id)).await;
}

#[testkit::test]
async fn a_token_of_another_user_is_rejected(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, other) = (User::new(), User::new());
    let mut socket = node.socket(&user).await;
    socket.next_message().await;
    for (token, code) in [
        (other.token.as_str(), "FORBIDDEN"),
        ("nonsense", "INVALID_TOKEN"),
        (&user.token_for(-5), "INVALID_TOKEN"),
        (&mint_token(&json!({"role": "service_role", "exp": 99_999_999_999_i64})), "FORBIDDEN"),
    ] {
        socket.send_message(json!({"type": "auth", "token": token})).await;
        let error = socket.next_message().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{error}");
    }
    socket.expect_no_message(Duration::from_millis(200)).await;
}

#[testkit::test]
async fn handshakes_without_a_valid_token_get_401(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let strangers = [
        String::new(),
        "nonsense".to_owned(),
        user.token_for(-5),
        mint_token(&json!({"role": "anon", "exp": 99_999_999_999_i64})),
        mint_token(&json!({"role": "service_role", "exp": 99_999_999_999_i64})),
    ];
    for token in strangers {
        match node.socket_for_token(&token, "").await {
            Err(SocketError::Http(response)) => assert_eq!(response.status(), 401, "{token}"),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("{token} opened a socket"),
        }
    }
}

#[testkit::test]
async fn invalid_messages_get_an_error_and_the_socket_stays_open(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let mut socket = node.socket(&user).await;
    socket.next_message().await;
    for (message, field) in [
        (Message::text("{"), None),
        (Message::text(""), None),
        (Message::text("[]"), None),
        (Message::text("null"), None),
        (Message::text("[".repeat(30_000)), None),
        (Message::binary(vec![1, 2, 3]), None),
        (Message::text("{}"), Some("type")),
        (Message::text(r#"{"type":"launch"}"#), Some("type")),
        (Message::text(r#"{"type":7}"#), Some("type")),
        (Message::text(r#"{"type":"status"}"#), Some("data")),
        (Message::text(r#"{"type":"status","data":{}}"#), Some("data.status")),
        (Message::text(r#"{"type":"subscribe","data":{"user_ids":["bob"]}}"#), Some("data.user_ids[0]")),
        (Message::text(r#"{"type":"auth"}"#), Some("token")),
    ] {
        socket.send_frame(message.clone()).await;
        let error = socket.next_message().await;
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("error"), &json!("INVALID_REQUEST")),
            "{message}: {error}"
        );
        assert_eq!(error["details"][0]["field"].as_str(), field, "{message}: {error}");
    }
    socket.send_message(json!({"type": "subscribe", "data": {"user_ids": [user.id]}})).await;
    socket.wait_until("the socket works as before", |socket| socket.shows_online(user.id)).await;
}

#[testkit::test]
async fn a_frame_over_64_kib_closes_with_1009(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, user) = (User::new(), User::new());
    db.add_contact(&viewer, &user).await;
    let mut watching = node.socket(&viewer).await;
    watching.next_message().await;
    let mut socket = node.socket(&user).await;
    socket.wait_until("the other one", |socket| socket.shows_online(viewer.id)).await;
    let padding = "x".repeat(64 * 1024 - 40);
    socket.send_message(json!({"type": "heartbeat", "padding": padding})).await;
    socket.expect_no_message(Duration::from_millis(300)).await;
    socket.send_message(json!({"type": "heartbeat", "padding": "x".repeat(64 * 1024)})).await;
    socket.expect_close(1009).await;
    watching.wait_until("it went offline", |socket| socket.shows_offline(user.id)).await;
}

#[testkit::test]
async fn shutdown_closes_sockets_with_1001(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let users: Vec<User> = (0..5).map(|_| User::new()).collect();
    let mut sockets = Vec::new();
    for user in &users {
        let mut socket = node.socket(user).await;
        socket.next_message().await;
        sockets.push(socket);
    }
    let stopping = {
        let node = node.clone();
        tokio::spawn(async move { node.stop().await })
    };
    for mut socket in sockets {
        socket.expect_close(1001).await;
    }
    stopping.await.expect("no panic").expect("an orderly stop");
    // The node gave up its lease: no user is left online.
    let live =
        db.query_row("select count(*) from rollcall.presence_devices where status <> 'offline'", &[]).await;
    assert_eq!(live.get::<_, i64>(0), 0);
}
