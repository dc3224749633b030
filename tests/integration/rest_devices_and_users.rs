//! REST routes for devices, for presence of other users in the older response formats, and for backend broadcasts.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::{
    client::{ANY_TIME, assert_matches_pattern},
    harness::{TestDatabase, User, service_user},
};
use uuid::Uuid;

const SETTINGS_PATH: &str = "/api/presence/settings";
const VISIBILITY_PATH: &str = "/api/presence/visibility";
const DEVICES_PATH: &str = "/api/presence/devices";
const STATUS_PATH: &str = "/api/presence/status";
const BROADCAST_PATH: &str = "/api/presence/broadcast";

#[testkit::test]
async fn a_device_is_listed_and_disconnected_on_every_node(db: Arc<TestDatabase>) {
    let (here, there) = (db.start_server().await, db.start_server().await);
    let (user, friend) = (User::new(), User::new());
    db.add_contact(&user, &friend).await;
    here.post(&user, STATUS_PATH, json!({"status": "online", "device_id": "phone"})).await.expect_status(200);
    let mut web = there.socket_with(&user, "&device_id=web").await;
    let mut watcher = here.socket(&friend).await;
    db
        .wait_until(
            "connected",
            "select exists (select from rollcall.presence_devices where user_id = $user and device_id = 'web' and nodes <> '{}')",
            &[("user", user.id)],
        )
        .await;

    let devices = here.get(&user, DEVICES_PATH).await.expect_status(200);
    let one = |name: &str| {
        devices
            .as_array()
            .expect("a list")
            .iter()
            .find(|device| device["device_id"] == name)
            .expect("is listed")
            .clone()
    };
    let expected = |name: &str, connected: bool| {
        json!({
            "device_id": name, "device_name": null, "device_type": null, "platform": null, "app_version": null,
            "status": "online", "last_heartbeat_at": ANY_TIME, "idle_since": null, "session_started_at": ANY_TIME,
            "connected": connected,
        })
    };
    assert_matches_pattern(&one("web"), &expected("web", true));
    assert_matches_pattern(&one("phone"), &expected("phone", false));

    here.delete(&user, &format!("{DEVICES_PATH}/web")).await.expect_status(200);
    web.expect_close(1000).await;
    let devices = here.get(&user, DEVICES_PATH).await.expect_status(200);
    let web = devices.as_array().expect("a list").iter().find(|device| device["device_id"] == "web");
    let web = web.expect("is still known");
    assert_eq!((&web["status"], &web["connected"]), (&json!("offline"), &json!(false)));

    // A late heartbeat does not bring the device back.
    here.post(&user, "/api/presence/heartbeat", json!({"device_id": "web"})).await.expect_status(200);
    here.delete(&user, &format!("{DEVICES_PATH}/phone")).await.expect_status(200);
    watcher.wait_until("offline", |socket| socket.shows_offline(user.id)).await;
    here.delete(&friend, &format!("{DEVICES_PATH}/web")).await.expect_error(404, "NOT_FOUND");
}

#[testkit::test]
async fn a_disconnected_device_returns_with_a_new_socket(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("DISCONNECT_GRACE", "2s")).await;
    let user = User::new();
    let mut first = node.socket_with(&user, "&device_id=web").await;
    let status = |wanted: &str| {
        format!(
            "select exists (select from rollcall.presence_devices
               where user_id = $user and device_id = 'web' and status = '{wanted}')"
        )
    };
    db.wait_until("it is on", &status("online"), &[("user", user.id)]).await;
    node.delete(&user, &format!("{DEVICES_PATH}/web")).await.expect_status(200);
    first.expect_close(1000).await;
    db.wait_until("it is off", &status("offline"), &[("user", user.id)]).await;

    // Within the grace period of the old socket and after it.
    let _second = node.socket_with(&user, "&device_id=web").await;
    db.wait_until("it is on again", &status("online"), &[("user", user.id)]).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    db.wait_until("it stays on", &status("online"), &[("user", user.id)]).await;
}

#[testkit::test]
async fn many_users_can_be_queried_at_once(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let [user, friend, stranger] = [User::new(), User::new(), User::new()];
    db.add_contact(&user, &friend).await;
    for other in [&friend, &stranger] {
        node.post(other, STATUS_PATH, json!({"status": "dnd"})).await.expect_status(200);
    }
    let body = json!({"user_ids": [friend.id, stranger.id, Uuid::new_v4()]});
    let batch = node.post(&user, "/api/presence/batch", body).await.expect_status(200);
    let expected = json!({"user_id": friend.id, "status": "online", "availability": "dnd", "last_seen": ANY_TIME, "is_typing": false});
    assert_matches_pattern(&batch, &json!({"presences": {friend.id.to_string(): expected}}));
    let thousand: Vec<_> = (0..1_000).map(|_| Uuid::new_v4()).collect();
    let empty =
        node.post(&user, "/api/presence/batch", json!({"user_ids": thousand})).await.expect_status(200);
    assert_eq!(empty, json!({"presences": {}}));
}

#[testkit::test]
async fn last_seen_is_returned_only_where_it_is_shared(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let [user, friend, shy, stranger] = [User::new(), User::new(), User::new(), User::new()];
    db.add_contact(&user, &friend).await;
    db.add_contact(&user, &shy).await;
    for other in [&friend, &shy, &stranger] {
        node.post(other, STATUS_PATH, json!({"status": "offline"})).await.expect_status(200);
    }
    node.patch(&shy, SETTINGS_PATH, json!({"show_last_seen": false})).await.expect_status(200);
    let path = format!("/api/presence/last-seen?user_ids={},{},{}", friend.id, shy.id, stranger.id);
    for path in [path.as_str(), "/api/presence/last-seen"] {
        let mut seen = node.get(&user, path).await.expect_status(200);
        let mut expected = [
            json!({"user_id": friend.id, "last_seen": ANY_TIME}),
            json!({"user_id": shy.id, "last_seen": null}),
        ];
        expected.sort_by_key(|one| one["user_id"].to_string());
        seen.as_array_mut().expect("a list").sort_by_key(|one| one["user_id"].to_string());
        assert_matches_pattern(&seen, &json!(expected));
    }
}

#[testkit::test]
async fn a_user_card_shows_the_device_count_only_to_its_owner(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let [user, friend, listed] = [User::new(), User::new(), User::new()];
    db.add_contact(&user, &friend).await;
    node.post(&user, &format!("{VISIBILITY_PATH}/{}", listed.id), json!(null)).await.expect_status(201);
    for device in ["phone", "web"] {
        let body = json!({"status": "busy", "custom_status": "hi", "device_id": device});
        node.post(&user, STATUS_PATH, body).await.expect_status(200);
    }
    let path = format!("/{}", user.id);
    let card = |status: &str, custom: Value, devices: i64| {
        json!({
            "user_id": user.id, "online_status": status, "custom_status": custom, "last_seen_at": ANY_TIME,
            "devices_online": devices,
        })
    };
    assert_matches_pattern(&node.get(&user, &path).await.expect_status(200), &card("busy", json!("hi"), 2));
    assert_matches_pattern(&node.get(&friend, &path).await.expect_status(200), &card("busy", json!("hi"), 1));
    assert_matches_pattern(
        &node.get(&service_user(), &path).await.expect_status(200),
        &card("busy", json!("hi"), 2),
    );

    node.post(&user, STATUS_PATH, json!({"status": "invisible", "device_id": "web"}))
        .await
        .expect_status(200);
    assert_matches_pattern(
        &node.get(&friend, &path).await.expect_status(200),
        &card("offline", Value::Null, 0),
    );
    assert_matches_pattern(
        &node.get(&listed, &path).await.expect_status(200),
        &card("invisible", json!("hi"), 1),
    );
    node.get(&User::new(), &path).await.expect_error(404, "NOT_FOUND");
}

#[testkit::test]
async fn a_backend_broadcast_reaches_sockets_on_every_node(db: Arc<TestDatabase>) {
    let (here, there) = (db.start_server().await, db.start_server().await);
    let [ada, bob, away] = [User::new(), User::new(), User::new()];
    let mut sockets = [here.socket(&ada).await, there.socket(&ada).await, there.socket(&bob).await];
    for socket in &mut sockets {
        socket.find_message("the initial state", |frame| frame["type"] == "initial_state").await;
    }
    let connected = "select count(*) = 2 from (select distinct user_id from rollcall.presence_devices where nodes <> '{}') u";
    db.wait_until("both are connected", connected, &[]).await;

    let payload = json!({"n": 1.5, "deep": {"text": "ünï \u{1F600}"}});
    let body = json!({
        "category": "custom", "event": "invoice.paid", "payload": payload,
        "recipients": [ada.id, bob.id, away.id, ada.id],
    });
    let admin = User::with_claims(json!({"permissions": ["presence:admin"]}));
    for sender in [service_user(), admin] {
        let sent = here.post(&sender, BROADCAST_PATH, body.clone()).await.expect_status(200);
        assert_eq!(sent, json!({"delivered_to": 2}));
        for socket in &mut sockets {
            let frame = socket.find_message("the event", |frame| frame["type"] == "broadcast").await;
            let data = json!({"category": "custom", "event": "invoice.paid", "payload": payload});
            assert_eq!(frame, json!({"type": "broadcast", "data": data}));
        }
    }

    here.post(&ada, BROADCAST_PATH, body.clone()).await.expect_error(403, "FORBIDDEN");
    for (field, wrong, status) in [
        ("category", json!("mail"), 422),
        ("category", json!(1), 400),
        ("event", json!(""), 400),
        ("recipients", json!([]), 400),
        ("recipients", json!("x"), 400),
        ("payload", json!([1]), 400),
    ] {
        let mut bad = body.clone();
        bad[field] = wrong;
        let code = if status == 422 { "UNPROCESSABLE" } else { "INVALID_REQUEST" };
        let refused = here.post(&service_user(), BROADCAST_PATH, bad).await.expect_error(status, code);
        assert_eq!(refused["details"][0]["field"], field, "{refused:#}");
    }
}
