//! REST routes that manage relations and settings, and the rules common to them.

use std::{collections::BTreeSet, sync::Arc};

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    client::{ANY_TIME, assert_matches_pattern, send},
    harness::{TestDatabase, User, service_user},
};
use uuid::Uuid;

const SETTINGS_PATH: &str = "/api/presence/settings";
const VISIBILITY_PATH: &str = "/api/presence/visibility";
const CONTACTS_PATH: &str = "/api/contacts";
const BLOCKS_PATH: &str = "/api/blocks";
const CONVERSATIONS_PATH: &str = "/api/conversations";
const DEVICES_PATH: &str = "/api/presence/devices";
const STATUS_PATH: &str = "/api/presence/status";
const BROADCAST_PATH: &str = "/api/presence/broadcast";
const ME_PATH: &str = "/api/presence/me";
const EXPORT_PATH: &str = "/api/presence/export";

/// Every route of this file with a valid body.
fn routes(other: Uuid) -> Vec<(Method, String, Option<Value>)> {
    let id = Uuid::new_v4();
    let one = |path: &str| format!("{path}/{other}");
    vec![
        (Method::GET, SETTINGS_PATH.into(), None),
        (Method::PUT, SETTINGS_PATH.into(), Some(json!({}))),
        (Method::PATCH, SETTINGS_PATH.into(), Some(json!({}))),
        (Method::GET, VISIBILITY_PATH.into(), None),
        (Method::PUT, VISIBILITY_PATH.into(), Some(json!({"user_ids": []}))),
        (Method::POST, one(VISIBILITY_PATH), None),
        (Method::DELETE, one(VISIBILITY_PATH), None),
        (Method::GET, CONTACTS_PATH.into(), None),
        (Method::POST, CONTACTS_PATH.into(), Some(json!({"user_id": other}))),
        (Method::POST, format!("{CONTACTS_PATH}/{other}/accept"), None),
        (Method::DELETE, one(CONTACTS_PATH), None),
        (Method::GET, BLOCKS_PATH.into(), None),
        (Method::POST, BLOCKS_PATH.into(), Some(json!({"user_id": other}))),
        (Method::DELETE, one(BLOCKS_PATH), None),
        (Method::GET, CONVERSATIONS_PATH.into(), None),
        (Method::POST, CONVERSATIONS_PATH.into(), Some(json!({"participant_ids": []}))),
        (Method::POST, format!("{CONVERSATIONS_PATH}/{id}/participants/{other}"), None),
        (Method::DELETE, format!("{CONVERSATIONS_PATH}/{id}/participants/{other}"), None),
        (Method::GET, DEVICES_PATH.into(), None),
        (Method::DELETE, format!("{DEVICES_PATH}/web"), None),
        (Method::GET, EXPORT_PATH.into(), None),
        (Method::DELETE, ME_PATH.into(), None),
    ]
}

#[testkit::test]
async fn every_route_requires_a_user(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let other = Uuid::new_v4();
    let mut all = routes(other);
    all.push((Method::POST, "/api/presence/batch".into(), Some(json!({"user_ids": [other]}))));
    all.push((Method::GET, "/api/presence/last-seen".into(), None));
    all.push((Method::GET, format!("/{other}"), None));
    all.push((Method::POST, BROADCAST_PATH.into(), Some(json!({}))));
    for (method, path, body) in all {
        let request = node.request(method, &path);
        let response = send(match body {
            Some(body) => request.json(&body),
            None => request,
        });
        response.await.expect_error(401, "UNAUTHORIZED");
    }
    // A service token without a user must name one with `?user_id=`.
    for (method, path, body) in routes(other) {
        node.send_json(method, &service_user(), &path, body).await.expect_error(401, "UNAUTHORIZED");
    }
}

#[testkit::test]
async fn malformed_input_is_rejected_and_names_the_field(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let me = user.id.to_string();
    let many: Vec<_> = (0..1_001).map(|_| Uuid::new_v4()).collect();
    let long = "x".repeat(256);
    for (method, path, body, status, field) in [
        (Method::PATCH, SETTINGS_PATH, json!({"visibility": "friends"}), 422, "visibility"),
        (Method::PUT, SETTINGS_PATH, json!({"visibility": 1}), 400, "visibility"),
        (Method::PATCH, SETTINGS_PATH, json!({"show_typing": "yes"}), 400, "show_typing"),
        (Method::PUT, VISIBILITY_PATH, json!({}), 400, "user_ids"),
        (Method::PUT, VISIBILITY_PATH, json!({"user_ids": ["x"]}), 400, "user_ids[0]"),
        (Method::PUT, VISIBILITY_PATH, json!({"user_ids": [me]}), 400, "user_ids"),
        (Method::PUT, VISIBILITY_PATH, json!({"user_ids": many}), 400, "user_ids"),
        (Method::POST, CONTACTS_PATH, json!({}), 400, "user_id"),
        (Method::POST, CONTACTS_PATH, json!({"user_id": "x"}), 400, "user_id"),
        (Method::POST, CONTACTS_PATH, json!({"user_id": me}), 400, "user_id"),
        (Method::POST, BLOCKS_PATH, json!({"user_id": me}), 400, "user_id"),
        (Method::POST, CONVERSATIONS_PATH, json!({"title": "x"}), 400, "participant_ids"),
        (Method::POST, CONVERSATIONS_PATH, json!({"title": long, "participant_ids": []}), 400, "title"),
        (Method::POST, CONVERSATIONS_PATH, json!({"title": 1, "participant_ids": []}), 400, "title"),
        (Method::POST, "/api/presence/batch", json!({"user_ids": []}), 400, "user_ids"),
        (Method::POST, "/api/presence/batch", json!({"user_ids": many}), 400, "user_ids"),
    ] {
        let code = if status == 422 { "UNPROCESSABLE" } else { "INVALID_REQUEST" };
        let refused = node.send_json(method, &user, path, Some(body)).await.expect_error(status, code);
        assert_eq!(refused["details"][0]["field"], field, "{path}: {refused:#}");
    }
    for (method, path, field) in [
        (Method::POST, format!("{VISIBILITY_PATH}/{me}"), "user_id"),
        (Method::POST, format!("{VISIBILITY_PATH}/x"), "user_id"),
        (Method::POST, format!("{CONTACTS_PATH}/x/accept"), "user_id"),
        (Method::DELETE, format!("{BLOCKS_PATH}/x"), "user_id"),
        (Method::POST, format!("{CONVERSATIONS_PATH}/x/participants/{me}"), "id"),
        (Method::DELETE, format!("{DEVICES_PATH}/{}", "x".repeat(256)), "device_id"),
        (Method::GET, format!("{SETTINGS_PATH}?user_id=x"), "user_id"),
        (Method::GET, "/api/presence/last-seen?user_ids=x".into(), "user_ids[0]"),
    ] {
        let refused = node.send_json(method, &user, &path, None).await.expect_error(400, "INVALID_REQUEST");
        assert_eq!(refused["details"][0]["field"], field, "{path}: {refused:#}");
    }
}

#[testkit::test]
async fn missing_objects_return_404(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let other = Uuid::new_v4();
    for (method, path) in [
        (Method::DELETE, format!("{VISIBILITY_PATH}/{other}")),
        (Method::POST, format!("{CONTACTS_PATH}/{other}/accept")),
        (Method::DELETE, format!("{CONTACTS_PATH}/{other}")),
        (Method::DELETE, format!("{BLOCKS_PATH}/{other}")),
        (Method::POST, format!("{CONVERSATIONS_PATH}/{other}/participants/{other}")),
        (Method::DELETE, format!("{CONVERSATIONS_PATH}/{other}/participants/{other}")),
        (Method::DELETE, format!("{DEVICES_PATH}/nope")),
        (Method::GET, format!("/{other}")),
        (Method::GET, "/no-uuid".into()),
        (Method::POST, "/no-uuid".into()),
    ] {
        node.send_json(method, &user, &path, None).await.expect_error(404, "NOT_FOUND");
    }
    // An unknown path returns 404, also without a token.
    send(node.request(Method::GET, "/favicon.ico")).await.expect_error(404, "NOT_FOUND");
    node.send_json(Method::POST, &user, &format!("/{other}"), None)
        .await
        .expect_error(405, "METHOD_NOT_ALLOWED");
}

#[testkit::test]
async fn settings_can_be_replaced_or_patched(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let defaults = json!({
        "visibility": "contacts", "show_last_seen": true, "show_activity": true, "show_custom_status": true,
        "show_typing": true,
    });
    assert_eq!(node.get(&user, SETTINGS_PATH).await.expect_status(200), defaults);

    let patch = json!({"visibility": "everyone", "show_typing": false, "colour": "red"});
    let changed = node.patch(&user, SETTINGS_PATH, patch).await.expect_status(200);
    assert_eq!((&changed["visibility"], &changed["show_typing"]), (&json!("everyone"), &json!(false)));
    let changed = node.patch(&user, SETTINGS_PATH, json!({"show_activity": false})).await.expect_status(200);
    assert_eq!((&changed["visibility"], &changed["show_activity"]), (&json!("everyone"), &json!(false)));
    assert_eq!(node.get(&user, SETTINGS_PATH).await.expect_status(200), changed);

    let put = node.put(&user, SETTINGS_PATH, json!({"show_last_seen": false})).await.expect_status(200);
    let mut expected = defaults.clone();
    expected["show_last_seen"] = json!(false);
    assert_eq!(put, expected);
    assert_eq!(node.get(&User::new(), SETTINGS_PATH).await.expect_status(200), defaults);
}

#[testkit::test]
async fn the_visibility_list_can_be_replaced_or_edited(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, friend, other) = (User::new(), User::new(), User::new());
    let listed = |ids: &[Uuid]| ids.iter().copied().collect::<BTreeSet<_>>();
    let read = |body: Value| serde_json::from_value::<BTreeSet<Uuid>>(body["user_ids"].clone()).expect("ids");

    assert_eq!(node.get(&user, VISIBILITY_PATH).await.expect_status(200), json!({"user_ids": []}));
    node.post(&user, &format!("{VISIBILITY_PATH}/{}", friend.id), json!(null)).await.expect_status(201);
    node.post(&user, &format!("{VISIBILITY_PATH}/{}", friend.id), json!(null)).await.expect_status(200);
    assert_eq!(read(node.get(&user, VISIBILITY_PATH).await.expect_status(200)), listed(&[friend.id]));

    node.post(&user, STATUS_PATH, json!({"status": "invisible"})).await.expect_status(200);
    let path = format!("/api/presence/users/{}", user.id);
    assert_eq!(node.get(&friend, &path).await.expect_status(200)["availability"], "invisible");

    let body = json!({"user_ids": [other.id, other.id, friend.id]});
    assert_eq!(
        read(node.put(&user, VISIBILITY_PATH, body).await.expect_status(200)),
        listed(&[other.id, friend.id])
    );
    node.put(&user, VISIBILITY_PATH, json!({"user_ids": [other.id]})).await.expect_status(200);
    assert_eq!(read(node.get(&user, VISIBILITY_PATH).await.expect_status(200)), listed(&[other.id]));
    node.get(&friend, &path).await.expect_error(404, "NOT_FOUND");
    // The list of another user does not show that one is on it.
    assert_eq!(node.get(&other, VISIBILITY_PATH).await.expect_status(200), json!({"user_ids": []}));
    node.delete(&user, &format!("{VISIBILITY_PATH}/{}", other.id)).await.expect_status(200);
    node.delete(&user, &format!("{VISIBILITY_PATH}/{}", other.id)).await.expect_error(404, "NOT_FOUND");
}

fn contact_json(user: &User, status: &str) -> Value {
    let accepted = if status == "accepted" { json!(ANY_TIME) } else { Value::Null };
    json!({"user_id": user.id, "status": status, "created_at": ANY_TIME, "accepted_at": accepted})
}

#[testkit::test]
async fn a_contact_is_requested_accepted_and_removed(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (ada, bob) = (User::new(), User::new());
    let request = node.post(&ada, CONTACTS_PATH, json!({"user_id": bob.id})).await.expect_status(201);
    assert_matches_pattern(&request, &contact_json(&bob, "pending_out"));
    let again = node.post(&ada, CONTACTS_PATH, json!({"userId": bob.id})).await.expect_status(200);
    assert_eq!(again, request);
    assert_matches_pattern(
        &node.get(&bob, CONTACTS_PATH).await.expect_status(200),
        &json!([contact_json(&ada, "pending_in")]),
    );
    // The requester cannot accept the request.
    node.post(&ada, &format!("{CONTACTS_PATH}/{}/accept", bob.id), json!(null))
        .await
        .expect_error(404, "NOT_FOUND");

    for _ in 0..2 {
        let accepted = node
            .post(&bob, &format!("{CONTACTS_PATH}/{}/accept", ada.id), json!(null))
            .await
            .expect_status(200);
        assert_matches_pattern(&accepted, &contact_json(&ada, "accepted"));
    }
    assert_matches_pattern(
        &node.get(&ada, CONTACTS_PATH).await.expect_status(200),
        &json!([contact_json(&bob, "accepted")]),
    );
    assert_eq!(node.get(&User::new(), CONTACTS_PATH).await.expect_status(200), json!([]));

    node.post(&bob, STATUS_PATH, json!({"status": "online"})).await.expect_status(200);
    let mut socket = node.socket(&ada).await;
    socket.wait_until("bob is visible", |socket| socket.shows_online(bob.id)).await;
    node.delete(&ada, &format!("{CONTACTS_PATH}/{}", bob.id)).await.expect_status(200);
    socket.wait_until("bob is hidden", |socket| socket.hides(bob.id)).await;
    assert_eq!(node.get(&bob, CONTACTS_PATH).await.expect_status(200), json!([]));
}

#[testkit::test]
async fn a_reciprocal_request_accepts_the_contact(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (ada, bob) = (User::new(), User::new());
    node.post(&ada, CONTACTS_PATH, json!({"user_id": bob.id})).await.expect_status(201);
    let back = node.post(&bob, CONTACTS_PATH, json!({"user_id": ada.id})).await.expect_status(200);
    assert_matches_pattern(&back, &contact_json(&ada, "accepted"));
    // Concurrent requests create one contact and no error.
    let (eve, dan) = (User::new(), User::new());
    let (one, other) = tokio::join!(
        node.post(&eve, CONTACTS_PATH, json!({"user_id": dan.id})),
        node.post(&dan, CONTACTS_PATH, json!({"user_id": eve.id})),
    );
    assert!(one.status.is_success() && other.status.is_success(), "{one:?} {other:?}");
    let count = db
        .query_row(
            "select count(*) from rollcall.contacts where requester_id = any ($1)",
            &[&vec![eve.id, dan.id]],
        )
        .await;
    assert_eq!(count.get::<_, i64>(0), 1);
}

#[testkit::test]
async fn a_block_hides_the_user_and_is_not_disclosed(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (ada, bob) = (User::new(), User::new());
    db.add_contact(&ada, &bob).await;
    node.post(&ada, STATUS_PATH, json!({"status": "online"})).await.expect_status(200);
    let mut socket = node.socket(&bob).await;
    socket.wait_until("ada is visible", |socket| socket.shows_online(ada.id)).await;

    node.post(&ada, BLOCKS_PATH, json!({"user_id": bob.id})).await.expect_status(201);
    node.post(&ada, BLOCKS_PATH, json!({"user_id": bob.id})).await.expect_status(200);
    socket.wait_until("ada is hidden", |socket| socket.hides(ada.id)).await;
    let blocks = node.get(&ada, BLOCKS_PATH).await.expect_status(200);
    assert_matches_pattern(&blocks, &json!([{"user_id": bob.id, "created_at": ANY_TIME}]));
    assert_eq!(node.get(&bob, BLOCKS_PATH).await.expect_status(200), json!([]));
    node.delete(&bob, &format!("{BLOCKS_PATH}/{}", ada.id)).await.expect_error(404, "NOT_FOUND");
    node.delete(&ada, &format!("{BLOCKS_PATH}/{}", bob.id)).await.expect_status(200);
    socket.wait_until("ada is visible again", |socket| socket.shows_online(ada.id)).await;
}

#[testkit::test]
async fn the_creator_manages_conversation_participants(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let [ada, bob, eve] = [User::new(), User::new(), User::new()];
    let body = json!({"title": "  Plans <b> ", "participant_ids": [bob.id, bob.id]});
    let made = node.post(&ada, CONVERSATIONS_PATH, body).await.expect_status(201);
    assert_eq!(made["title"], "Plans ‹b›");
    assert_eq!(made["created_by"], json!(ada.id));
    let participants = |body: &Value| {
        serde_json::from_value::<BTreeSet<Uuid>>(body["participant_ids"].clone()).expect("ids")
    };
    assert_eq!(participants(&made), BTreeSet::from([ada.id, bob.id]));
    assert_eq!(node.get(&bob, CONVERSATIONS_PATH).await.expect_status(200), json!([made]));
    assert_eq!(node.get(&eve, CONVERSATIONS_PATH).await.expect_status(200), json!([]));

    let id = made["id"].as_str().expect("an id");
    let participant = |user: &User| format!("{CONVERSATIONS_PATH}/{id}/participants/{}", user.id);
    // For outsiders the conversation does not exist; a participant gets 403.
    node.post(&eve, &participant(&eve), json!(null)).await.expect_error(404, "NOT_FOUND");
    node.delete(&eve, &participant(&bob)).await.expect_error(404, "NOT_FOUND");
    node.post(&bob, &participant(&eve), json!(null)).await.expect_error(403, "FORBIDDEN");
    node.delete(&bob, &participant(&ada)).await.expect_error(403, "FORBIDDEN");

    for _ in 0..2 {
        let with_eve = node.post(&ada, &participant(&eve), json!(null)).await.expect_status(200);
        assert_eq!(participants(&with_eve), BTreeSet::from([ada.id, bob.id, eve.id]));
    }
    node.delete(&ada, &participant(&bob)).await.expect_status(200);
    node.delete(&eve, &participant(&eve)).await.expect_status(200);
    assert_eq!(node.get(&eve, CONVERSATIONS_PATH).await.expect_status(200), json!([]));
}

#[testkit::test]
async fn acting_for_another_user_requires_permission(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, other) = (User::new(), User::new());
    for (method, path, body) in routes(Uuid::new_v4()) {
        let path = format!("{path}?user_id={}", user.id);
        node.send_json(method, &other, &path, body).await.expect_error(403, "FORBIDDEN");
    }
    let path = format!("{SETTINGS_PATH}?user_id={}", user.id);
    let admin = User::with_claims(json!({"permissions": ["presence:admin"]}));
    node.patch(&admin, &path, json!({"visibility": "team"})).await.expect_status(200);
    node.patch(&service_user(), &path, json!({"show_typing": false})).await.expect_status(200);
    let settings = node.get(&user, SETTINGS_PATH).await.expect_status(200);
    assert_eq!((&settings["visibility"], &settings["show_typing"]), (&json!("team"), &json!(false)));
    assert_eq!(node.get(&admin, SETTINGS_PATH).await.expect_status(200)["visibility"], "contacts");
}

#[testkit::test]
async fn management_writes_have_a_separate_rate_limit(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let path = format!("{BLOCKS_PATH}/{}", Uuid::new_v4());
    let first = node.patch(&user, SETTINGS_PATH, json!({})).await;
    assert_eq!(
        (first.header("ratelimit-limit"), first.header("ratelimit-remaining")),
        (Some("120"), Some("119"))
    );
    let mut limited = None;
    for _ in 0..200 {
        let response = node.delete(&user, &path).await;
        if response.status.as_u16() == 429 {
            limited = Some(response);
            break;
        }
    }
    let limited = limited.expect("there is a limit");
    assert!(limited.header("retry-after").is_some());
    limited.expect_error(429, "RATE_LIMITED");
    node.get(&user, SETTINGS_PATH).await.expect_status(200);
    node.post(&user, STATUS_PATH, json!({"status": "online"})).await.expect_status(200);
}
