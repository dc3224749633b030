//! The REST routes about devices, about others in the shapes of sources C, D and E, and straight to sockets.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Case,
    client::{TIME, assert_like},
    world::{User, World, service},
};

const SETTINGS: &str = "/api/presence/settings";
const LIST: &str = "/api/presence/visibility";
const DEVICES: &str = "/api/presence/devices";
const STATUS: &str = "/api/presence/status";
const BROADCAST: &str = "/api/presence/broadcast";

pub fn cases() -> Vec<Case> {
    crate::cases![
        a_device_is_listed_and_signed_off_on_every_node,
        a_device_that_was_signed_off_comes_back_with_a_new_socket,
        many_are_looked_at_at_once,
        last_seen_is_told_to_whom_it_is_shown,
        a_card_counts_devices_for_their_owner_only,
        the_back_end_speaks_to_sockets_on_every_node,
    ]
}

async fn a_device_is_listed_and_signed_off_on_every_node(world: Arc<World>) {
    let (here, there) = (world.node().await, world.node().await);
    let (user, friend) = (User::new(), User::new());
    world.befriend(&user, &friend).await;
    here.post(&user, STATUS, json!({"status": "online", "device_id": "phone"})).await.expect(200);
    let mut web = there.socket_with(&user, "&device_id=web").await;
    let mut watcher = here.socket(&friend).await;
    world
        .until(
            "connected",
            "select exists (select from public.presence_devices where user_id = $user and device_id = 'web' and nodes <> '{}')",
            &[("user", user.id)],
        )
        .await;

    let devices = here.get(&user, DEVICES).await.expect(200);
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
            "status": "online", "last_heartbeat_at": TIME, "idle_since": null, "session_started_at": TIME,
            "connected": connected,
        })
    };
    assert_like(&one("web"), &expected("web", true));
    assert_like(&one("phone"), &expected("phone", false));

    here.delete(&user, &format!("{DEVICES}/web")).await.expect(200);
    web.expect_close(1000).await;
    let devices = here.get(&user, DEVICES).await.expect(200);
    let web = devices.as_array().expect("a list").iter().find(|device| device["device_id"] == "web");
    let web = web.expect("is still known");
    assert_eq!((&web["status"], &web["connected"]), (&json!("offline"), &json!(false)));

    // A late heartbeat does not bring it back.
    here.post(&user, "/api/presence/heartbeat", json!({"device_id": "web"})).await.expect(200);
    here.delete(&user, &format!("{DEVICES}/phone")).await.expect(200);
    watcher.until("offline", |socket| socket.sees_offline(user.id)).await;
    here.delete(&friend, &format!("{DEVICES}/web")).await.expect_error(404, "NOT_FOUND");
}

async fn a_device_that_was_signed_off_comes_back_with_a_new_socket(world: Arc<World>) {
    let node = world.node_with(|settings| settings.disconnect_grace = Some("2s".into())).await;
    let user = User::new();
    let mut first = node.socket_with(&user, "&device_id=web").await;
    let status = |wanted: &str| {
        format!(
            "select exists (select from public.presence_devices
               where user_id = $user and device_id = 'web' and status = '{wanted}')"
        )
    };
    world.until("it is on", &status("online"), &[("user", user.id)]).await;
    node.delete(&user, &format!("{DEVICES}/web")).await.expect(200);
    first.expect_close(1000).await;
    world.until("it is off", &status("offline"), &[("user", user.id)]).await;

    // Within the grace of the old socket, and past it.
    let _second = node.socket_with(&user, "&device_id=web").await;
    world.until("it is on again", &status("online"), &[("user", user.id)]).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    world.until("it stays on", &status("online"), &[("user", user.id)]).await;
}

async fn many_are_looked_at_at_once(world: Arc<World>) {
    let node = world.node().await;
    let [user, friend, stranger] = [User::new(), User::new(), User::new()];
    world.befriend(&user, &friend).await;
    for other in [&friend, &stranger] {
        node.post(other, STATUS, json!({"status": "dnd"})).await.expect(200);
    }
    let body = json!({"user_ids": [friend.id, stranger.id, Uuid::new_v4()]});
    let batch = node.post(&user, "/api/presence/batch", body).await.expect(200);
    let expected = json!({"user_id": friend.id, "status": "online", "availability": "dnd", "last_seen": TIME, "is_typing": false});
    assert_like(&batch, &json!({"presences": {friend.id.to_string(): expected}}));
    let thousand: Vec<_> = (0..1_000).map(|_| Uuid::new_v4()).collect();
    let nobody = node.post(&user, "/api/presence/batch", json!({"user_ids": thousand})).await.expect(200);
    assert_eq!(nobody, json!({"presences": {}}));
}

async fn last_seen_is_told_to_whom_it_is_shown(world: Arc<World>) {
    let node = world.node().await;
    let [user, friend, shy, stranger] = [User::new(), User::new(), User::new(), User::new()];
    world.befriend(&user, &friend).await;
    world.befriend(&user, &shy).await;
    for other in [&friend, &shy, &stranger] {
        node.post(other, STATUS, json!({"status": "offline"})).await.expect(200);
    }
    node.patch(&shy, SETTINGS, json!({"show_last_seen": false})).await.expect(200);
    let path = format!("/api/presence/last-seen?user_ids={},{},{}", friend.id, shy.id, stranger.id);
    for path in [path.as_str(), "/api/presence/last-seen"] {
        let mut seen = node.get(&user, path).await.expect(200);
        let mut expected =
            [json!({"user_id": friend.id, "last_seen": TIME}), json!({"user_id": shy.id, "last_seen": null})];
        expected.sort_by_key(|one| one["user_id"].to_string());
        seen.as_array_mut().expect("a list").sort_by_key(|one| one["user_id"].to_string());
        assert_like(&seen, &json!(expected));
    }
}

async fn a_card_counts_devices_for_their_owner_only(world: Arc<World>) {
    let node = world.node().await;
    let [user, friend, listed] = [User::new(), User::new(), User::new()];
    world.befriend(&user, &friend).await;
    node.post(&user, &format!("{LIST}/{}", listed.id), json!(null)).await.expect(201);
    for device in ["phone", "web"] {
        let body = json!({"status": "busy", "custom_status": "hi", "device_id": device});
        node.post(&user, STATUS, body).await.expect(200);
    }
    let path = format!("/{}", user.id);
    let card = |status: &str, custom: Value, devices: i64| {
        json!({
            "user_id": user.id, "online_status": status, "custom_status": custom, "last_seen_at": TIME,
            "devices_online": devices,
        })
    };
    assert_like(&node.get(&user, &path).await.expect(200), &card("busy", json!("hi"), 2));
    assert_like(&node.get(&friend, &path).await.expect(200), &card("busy", json!("hi"), 1));
    assert_like(&node.get(&service(), &path).await.expect(200), &card("busy", json!("hi"), 2));

    node.post(&user, STATUS, json!({"status": "invisible", "device_id": "web"})).await.expect(200);
    assert_like(&node.get(&friend, &path).await.expect(200), &card("offline", Value::Null, 0));
    assert_like(&node.get(&listed, &path).await.expect(200), &card("invisible", json!("hi"), 1));
    node.get(&User::new(), &path).await.expect_error(404, "NOT_FOUND");
}

async fn the_back_end_speaks_to_sockets_on_every_node(world: Arc<World>) {
    let (here, there) = (world.node().await, world.node().await);
    let [ada, bob, away] = [User::new(), User::new(), User::new()];
    let mut sockets = [here.socket(&ada).await, there.socket(&ada).await, there.socket(&bob).await];
    for socket in &mut sockets {
        socket.find("the initial state", |frame| frame["type"] == "initial_state").await;
    }
    let connected = "select count(*) = 2 from (select distinct user_id from public.presence_devices where nodes <> '{}') u";
    world.until("both are connected", connected, &[]).await;

    let payload = json!({"n": 1.5, "deep": {"text": "ünï \u{1F600}"}});
    let body = json!({
        "category": "custom", "event": "invoice.paid", "payload": payload,
        "recipients": [ada.id, bob.id, away.id, ada.id],
    });
    let admin = User::with_claims(json!({"permissions": ["presence:admin"]}));
    for sender in [service(), admin] {
        let sent = here.post(&sender, BROADCAST, body.clone()).await.expect(200);
        assert_eq!(sent, json!({"delivered_to": 2}));
        for socket in &mut sockets {
            let frame = socket.find("the event", |frame| frame["type"] == "broadcast").await;
            let data = json!({"category": "custom", "event": "invoice.paid", "payload": payload});
            assert_eq!(frame, json!({"type": "broadcast", "data": data}));
        }
    }

    here.post(&ada, BROADCAST, body.clone()).await.expect_error(403, "FORBIDDEN");
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
        let refused = here.post(&service(), BROADCAST, bad).await.expect_error(status, code);
        assert_eq!(refused["details"][0]["field"], field, "{refused:#}");
    }
}
