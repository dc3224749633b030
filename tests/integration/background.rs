//! Devices in the background: a phone whose app closes its socket, or is frozen, is away for the time it announced.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    client::{ANY_TIME, assert_matches_pattern, open_socket, send},
    harness::{TestDatabase, TestServer, User},
};

const STATUS_PATH: &str = "/api/presence/status";

/// A user with a phone and somebody who sees it.
async fn contacts(db: &TestDatabase) -> (User, User) {
    let (owner, viewer) = (User::new(), User::new());
    db.add_contact(&owner, &viewer).await;
    (owner, viewer)
}

async fn announced(db: &TestDatabase, user: &User) -> Option<i32> {
    db.query_row(
        "select background_seconds from rollcall.presence_devices where user_id = $1 and device_id = 'phone'",
        &[&user.id],
    )
    .await
    .get(0)
}

const LEFT: &str =
    "select nodes = '{}' from rollcall.presence_devices where user_id = $owner and device_id = 'phone'";

async fn go_to_background(node: &TestServer, user: &User, fields: Value) {
    let mut body = json!({"status": "away", "device_id": "phone"});
    let fields = fields.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(fields);
    let answer = node.post(user, STATUS_PATH, body).await.expect_status(200);
    assert_matches_pattern(
        &answer,
        &json!({"user_id": user.id, "status": "away", "availability": "away", "last_seen": ANY_TIME}),
    );
}

#[testkit::test]
async fn a_device_in_the_background_is_away_after_its_socket_closed_then_offline(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("BACKGROUND_GRACE", "3s")).await;
    for fields in
        [json!({"background": true}), json!({"background_seconds": 3}), json!({"backgroundSeconds": 3})]
    {
        let (owner, viewer) = contacts(&db).await;
        let mut socket = node.socket(&viewer).await;
        let phone = node.socket_with(&owner, "&device_id=phone").await;
        socket.wait_until("online", |socket| socket.shows_online(owner.id)).await;
        go_to_background(&node, &owner, fields).await;
        assert_eq!(announced(&db, &owner).await, Some(3));
        phone.close().await;
        db.wait_until("the socket's end is written", LEFT, &[("owner", owner.id)]).await;
        socket.wait_until("away", |socket| socket.shows(owner.id, "away", "away")).await;
        let frames = socket.frames;
        socket.wait_until("offline", |socket| socket.shows_offline(owner.id)).await;
        assert_eq!(socket.frames, frames + 1, "from away to offline in one step");
    }
}

#[testkit::test]
async fn the_default_and_a_time_of_the_client_are_stored(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let owner = User::new();
    go_to_background(&node, &owner, json!({"background": true})).await;
    assert_eq!(announced(&db, &owner).await, Some(300));
    go_to_background(&node, &owner, json!({"background": true, "background_seconds": 86_400})).await;
    assert_eq!(announced(&db, &owner).await, Some(86_400));
    go_to_background(&node, &owner, json!({"background": false, "background_seconds": 60})).await;
    assert_eq!(announced(&db, &owner).await, None);
    go_to_background(&node, &owner, json!({"background": null, "background_seconds": null})).await;
    assert_eq!(announced(&db, &owner).await, None);
}

#[testkit::test]
async fn an_app_that_returns_is_online_also_within_the_grace_of_its_socket(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("DISCONNECT_GRACE", "20s")).await;
    let (owner, viewer) = contacts(&db).await;
    let mut socket = node.socket(&viewer).await;
    let phone = node.socket_with(&owner, "&device_id=phone").await;
    go_to_background(&node, &owner, json!({"background": true})).await;
    socket.wait_until("away", |socket| socket.shows(owner.id, "away", "away")).await;
    phone.close().await;
    let _phone = node.socket_with(&owner, "&device_id=phone").await;
    socket.wait_until("online", |socket| socket.shows_online(owner.id)).await;
    assert_eq!(announced(&db, &owner).await, None);
}

#[testkit::test]
async fn a_heartbeat_without_a_body_keeps_the_background_and_one_in_use_ends_it(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (owner, viewer) = contacts(&db).await;
    let mut socket = node.socket(&viewer).await;
    go_to_background(&node, &owner, json!({"background": true})).await;
    let request = || {
        node.request(Method::POST, "/api/presence/heartbeat")
            .bearer_auth(&owner.token)
            .header("x-device-id", "phone")
    };
    let answer = json!({"success": true, "server_time": ANY_TIME, "next_heartbeat_ms": 10_000});
    assert_matches_pattern(&send(request()).await.expect_status(200), &answer);
    // As some HTTP clients send it: a content type, and no content.
    let empty = request().header("content-type", "application/json").body("");
    assert_matches_pattern(&send(empty).await.expect_status(200), &answer);
    assert_eq!(announced(&db, &owner).await, Some(300));
    socket.wait_until("away", |socket| socket.shows(owner.id, "away", "away")).await;
    assert_matches_pattern(&send(request().json(&json!({"active": true}))).await.expect_status(200), &answer);
    assert_eq!(announced(&db, &owner).await, None);
    socket.wait_until("online", |socket| socket.shows_online(owner.id)).await;
}

#[testkit::test]
async fn both_presence_sockets_announce_the_background(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for (path, message) in [
        (
            "/api/presence/subscribe",
            json!({"type": "status", "data": {"status": "away", "background": true, "backgroundSeconds": 90}}),
        ),
        (
            "/ws",
            json!({"type": "presence_update", "payload": {"online_status": "away", "background_seconds": 90}}),
        ),
    ] {
        let (owner, viewer) = contacts(&db).await;
        let mut socket = node.socket(&viewer).await;
        let token = [("authorization", format!("Bearer {}", owner.token))];
        let path = format!("{path}?device_id=phone");
        let mut phone = open_socket(node.address, &path, &token).await.expect("the socket opens");
        phone.send_message(message.clone()).await;
        socket.wait_until("away", |socket| socket.shows(owner.id, "away", "away")).await;
        assert_eq!(announced(&db, &owner).await, Some(90));
        // A repeat is no use of the device.
        phone.send_message(message).await;
        phone.close().await;
        db.wait_until("the socket's end is written", LEFT, &[("owner", owner.id)]).await;
        assert_eq!(announced(&db, &owner).await, Some(90));
        assert!(socket.shows(owner.id, "away", "away"));
    }
}

#[testkit::test]
async fn an_invisible_user_in_the_background_is_not_revealed(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (owner, viewer) = contacts(&db).await;
    for status in ["online", "invisible"] {
        node.post(&owner, STATUS_PATH, json!({"status": status, "device_id": "phone"}))
            .await
            .expect_status(200);
    }
    let mut socket = node.socket(&viewer).await;
    socket.wait_until("the first state", |socket| socket.shows_offline(owner.id)).await;
    let body = json!({"status": "away", "device_id": "phone", "background": true});
    let answer = node.post(&owner, STATUS_PATH, body).await.expect_status(200);
    assert_eq!((&answer["status"], &answer["availability"]), (&json!("away"), &json!("invisible")));
    // A later change of another user is the next frame.
    let other = User::new();
    db.add_contact(&viewer, &other).await;
    db.set_status(&other, "online").await;
    let next = socket.next_message().await;
    assert_eq!(next["data"]["user_id"], json!(other.id), "{next}");
}

#[testkit::test]
async fn invalid_background_fields_are_named(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let owner = User::new();
    let mut socket = node.socket(&owner).await;
    socket.next_message().await;
    for (fields, invalid) in [
        (json!({"status": "online", "background": true}), "background"),
        (json!({"status": "offline", "background_seconds": 60}), "background"),
        (json!({"status": "away", "background": "yes"}), "background"),
        (json!({"status": "away", "background_seconds": 0}), "background_seconds"),
        (json!({"status": "away", "background_seconds": 86_401}), "background_seconds"),
        (json!({"status": "away", "background_seconds": 1.5}), "background_seconds"),
        (json!({"status": "away", "backgroundSeconds": -1}), "background_seconds"),
        (json!({"status": "away", "background_seconds": "60"}), "background_seconds"),
    ] {
        let refused =
            node.post(&owner, STATUS_PATH, fields.clone()).await.expect_error(400, "INVALID_REQUEST");
        assert_eq!(refused["details"][0]["field"], invalid, "{fields}: {refused:#}");
        socket.send_message(json!({"type": "status", "data": fields})).await;
        let error = socket.find_message("an error", |frame| frame["type"] == "error").await;
        assert_eq!(error["code"], "INVALID_REQUEST", "{fields}: {error}");
        assert_eq!(error["details"][0]["field"], format!("data.{invalid}"), "{fields}: {error}");
    }
    let stored = "select count(*) from rollcall.presence_devices where user_id = $1 and background_seconds is not null";
    assert_eq!(db.query_row(stored, &[&owner.id]).await.get::<_, i64>(0), 0);
}
