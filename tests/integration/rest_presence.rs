//! Presence routes of the REST API.

use std::sync::Arc;

use reqwest::Method;
use serde_json::json;
use testkit::{
    client::{ANY_TIME, assert_matches_pattern, hidden_presence, send},
    harness::{TestDatabase, User, service_user},
};

const STATUS_PATH: &str = "/api/presence/status";
const USERS_PATH: &str = "/api/presence/users";
const HEARTBEAT_PATH: &str = "/api/presence/heartbeat";

fn user_path(user: &User) -> String {
    format!("{USERS_PATH}/{}", user.id)
}

#[testkit::test]
async fn every_status_maps_to_a_basic_status_and_an_availability(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for (status, reach, availability) in [
        ("online", "online", "online"),
        ("away", "away", "away"),
        ("busy", "online", "busy"),
        ("dnd", "online", "dnd"),
        ("invisible", "online", "invisible"),
        ("offline", "offline", "offline"),
    ] {
        let user = User::new();
        let expected =
            json!({"user_id": user.id, "status": reach, "availability": availability, "last_seen": ANY_TIME});
        let set = node.post(&user, STATUS_PATH, json!({"status": status})).await.expect_status(200);
        assert_matches_pattern(&set, &expected);
        assert_matches_pattern(&node.get(&user, STATUS_PATH).await.expect_status(200), &expected);

        let mut listed = expected.clone();
        listed["is_typing"] = json!(false);
        assert_matches_pattern(&node.get(&user, &user_path(&user)).await.expect_status(200), &listed);
        let named = node.get(&user, &format!("{USERS_PATH}?user_ids={}", user.id)).await.expect_status(200);
        assert_matches_pattern(&named, &json!([listed]));
    }
}

#[testkit::test]
async fn status_fields_return_in_snake_case_for_every_input_case(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for names in [
        ["device_id", "custom_status", "custom_status_expires_at", "current_page"],
        ["deviceId", "customStatus", "customStatusExpiresAt", "currentPage"],
    ] {
        let user = User::new();
        let [device, custom, expires, page] = names;
        let body = json!({
            "status": "busy", device: "phone", custom: "  In Zürich  ", expires: "2999-01-01T00:00:00Z",
            "activity": "reading", page: "/inbox?a=1",
        });
        let expected = json!({
            "user_id": user.id, "status": "online", "availability": "busy", "last_seen": ANY_TIME,
            "custom_status": "In Zürich", "activity": "reading", "current_page": "/inbox?a=1",
        });
        assert_matches_pattern(&node.post(&user, STATUS_PATH, body).await.expect_status(200), &expected);
        assert_matches_pattern(&node.get(&user, STATUS_PATH).await.expect_status(200), &expected);
        let row = db
            .query_row(
                "select device_id, (select custom_status_expires_at from rollcall.presence_choices)::text as expires
                 from rollcall.presence_devices where user_id = $1",
                &[&user.id],
            )
            .await;
        assert_eq!(row.get::<_, &str>("device_id"), "phone");
        assert_eq!(row.get::<_, &str>("expires"), "2999-01-01 00:00:00+00");

        // Omitted fields stay, null clears a field.
        let kept =
            node.post(&user, STATUS_PATH, json!({"status": "busy", device: "phone", custom: null})).await;
        let kept = kept.expect_status(200);
        assert_eq!((kept.get("custom_status"), &kept["activity"]), (None, &json!("reading")), "{kept:#}");
        db.execute("delete from rollcall.presence_choices", &[]).await;
    }
}

#[testkit::test]
async fn users_on_a_page_are_those_who_share_it(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let [viewer, here, elsewhere, hiding, silent, stranger] = [(); 6].map(|()| User::new());
    for (user, page) in [
        (&here, "/docs?a=1&b=<x>"),
        (&elsewhere, "/docs"),
        (&hiding, "/docs?a=1&b=<x>"),
        (&silent, "/docs?a=1&b=<x>"),
        (&stranger, "/docs?a=1&b=<x>"),
    ] {
        if user.id != stranger.id {
            db.add_contact(&viewer, user).await;
        }
        node.post(user, STATUS_PATH, json!({"status": "online", "current_page": page}))
            .await
            .expect_status(200);
    }
    node.post(&hiding, STATUS_PATH, json!({"status": "invisible"})).await.expect_status(200);
    let shares = json!({"show_activity": false});
    node.patch(&silent, "/api/presence/settings", shares).await.expect_status(200);
    let on_page = async |query: &str| {
        let listed = node.get(&viewer, &format!("{USERS_PATH}?{query}")).await.expect_status(200);
        let users = listed.as_array().expect("a list").iter();
        users.map(|user| user["user_id"].as_str().expect("an ID").to_owned()).collect::<Vec<_>>()
    };
    for name in ["current_page", "currentPage"] {
        assert_eq!(on_page(&format!("{name}=/docs%3Fa=1%26b=%3Cx%3E")).await, [here.id.to_string()]);
        assert_eq!(on_page(&format!("{name}=/docs")).await, [elsewhere.id.to_string()]);
        assert_eq!(on_page(&format!("{name}=/nowhere")).await, [""; 0]);
    }
    let asked = format!("user_ids={},{}&current_page=/docs", stranger.id, elsewhere.id);
    assert_eq!(on_page(&asked).await, [elsewhere.id.to_string()]);
}

#[testkit::test]
async fn markup_and_control_characters_in_texts_are_neutralized(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let body = json!({"status": "online", "custom_status": "<script>a\u{202e}b\u{7}</script>"});
    let set = node.post(&user, STATUS_PATH, body).await.expect_status(200);
    assert_eq!(set["custom_status"], "‹script›ab‹/script›");
    let longest = "é".repeat(140);
    let set = node
        .post(&user, STATUS_PATH, json!({"status": "online", "custom_status": longest}))
        .await
        .expect_status(200);
    assert_eq!(set["custom_status"], longest);
}

#[testkit::test]
async fn a_value_outside_its_set_returns_422_and_a_malformed_one_400(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    for (body, status, code, field) in [
        (json!({"status": "sleeping"}), 422, "UNPROCESSABLE", "status"),
        (json!({"status": "ONLINE"}), 422, "UNPROCESSABLE", "status"),
        (json!({"status": ""}), 422, "UNPROCESSABLE", "status"),
        (json!({}), 400, "INVALID_REQUEST", "status"),
        (json!({"status": null}), 400, "INVALID_REQUEST", "status"),
        (json!({"status": 1}), 400, "INVALID_REQUEST", "status"),
        (json!({"status": "away", "device_id": ""}), 400, "INVALID_REQUEST", "device_id"),
        (json!({"status": "away", "device_id": "x".repeat(256)}), 400, "INVALID_REQUEST", "device_id"),
        (json!({"status": "away", "device_id": "a", "deviceId": "b"}), 400, "INVALID_REQUEST", "device_id"),
        (
            json!({"status": "away", "custom_status": "x".repeat(141)}),
            400,
            "INVALID_REQUEST",
            "custom_status",
        ),
        (
            json!({"status": "away", "custom_status_expires_at": "soon"}),
            400,
            "INVALID_REQUEST",
            "custom_status_expires_at",
        ),
        (json!({"status": "away", "activity": {}}), 400, "INVALID_REQUEST", "activity"),
    ] {
        let response = node.post(&user, STATUS_PATH, body.clone()).await;
        let error = response.expect_error(status, code);
        assert_eq!(error["details"][0]["field"], field, "{body}: {error:#}");
    }
    // Nothing was written: the user has no presence row.
    assert_eq!(node.get(&user, STATUS_PATH).await.expect_status(200), hidden_presence(user.id));
}

#[testkit::test]
async fn every_route_requires_a_token(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    for (method, path) in [
        (Method::POST, STATUS_PATH.to_owned()),
        (Method::GET, STATUS_PATH.to_owned()),
        (Method::GET, USERS_PATH.to_owned()),
        (Method::GET, user_path(&user)),
        (Method::POST, HEARTBEAT_PATH.to_owned()),
        (Method::GET, "/api/presence/subscribe".to_owned()),
    ] {
        let bare = send(node.request(method.clone(), &path).json(&json!({}))).await;
        assert_eq!(bare.header("www-authenticate"), Some("Bearer"));
        bare.expect_error(401, "UNAUTHORIZED");
        let bad = send(node.request(method, &path).bearer_auth("not.a.token").json(&json!({}))).await;
        bad.expect_error(401, "INVALID_TOKEN");
    }
}

/// Returns the presence version and the time its row was written.
async fn row_version(db: &TestDatabase, user: &User) -> (i64, String) {
    let statement = "select version, xmin::text as written from rollcall.user_presence where user_id = $1 and face = 'trusted'";
    let row = db.query_row(statement, &[&user.id]).await;
    (row.get("version"), row.get("written"))
}

#[testkit::test]
async fn a_repeat_within_five_seconds_is_not_written_or_counted(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("PRESENCE_UPDATES_PER_MINUTE", "2")).await;
    let user = User::new();
    let body = json!({"status": "busy", "custom_status": "writing"});
    let first = node.post(&user, STATUS_PATH, body.clone()).await;
    assert_eq!(first.header("ratelimit-remaining"), Some("1"));
    let first = first.expect_status(200);
    let written = row_version(&db, &user).await;
    let device = "select xmin::text from rollcall.presence_devices where user_id = $1";
    let device_written: String = db.query_row(device, &[&user.id]).await.get(0);
    for _ in 0..5 {
        assert_eq!(node.post(&user, STATUS_PATH, body.clone()).await.expect_status(200), first);
    }
    assert_eq!(row_version(&db, &user).await, written);
    assert_eq!(db.query_row(device, &[&user.id]).await.get::<_, String>(0), device_written);
    let other = node.post(&user, STATUS_PATH, json!({"status": "online"})).await;
    assert_eq!(other.header("ratelimit-remaining"), Some("0"));
}

#[testkit::test]
async fn a_status_changed_in_between_is_not_a_repeat(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    node.post(&user, STATUS_PATH, json!({"status": "busy"})).await.expect_status(200);
    db.set_status(&user, "away").await;
    let again = node.post(&user, STATUS_PATH, json!({"status": "busy"})).await.expect_status(200);
    assert_eq!(again["availability"], "busy");
    assert_eq!(node.get(&user, STATUS_PATH).await.expect_status(200)["availability"], "busy");
}

#[testkit::test]
async fn the_eleventh_update_in_a_minute_returns_429(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("PRESENCE_UPDATES_PER_MINUTE", "")).await;
    let (user, other) = (User::new(), User::new());
    for n in 0..10 {
        let body = json!({"status": "online", "custom_status": n.to_string()});
        let response = node.post(&user, STATUS_PATH, body).await;
        assert_eq!(response.header("ratelimit-limit"), Some("10"));
        assert_eq!(response.header("ratelimit-remaining"), Some(&*(9 - n).to_string()));
        response.expect_status(200);
    }
    let limited = node.post(&user, STATUS_PATH, json!({"status": "away"})).await;
    let retry_after: u64 =
        limited.header("retry-after").and_then(|text| text.parse().ok()).expect("a number");
    assert!((1..=6).contains(&retry_after), "{retry_after}");
    assert_eq!(limited.header("ratelimit-remaining"), Some("0"));
    limited.expect_error(429, "RATE_LIMITED");
    assert_eq!(node.get(&user, STATUS_PATH).await.expect_status(200)["availability"], "online");
    node.post(&other, STATUS_PATH, json!({"status": "away"})).await.expect_status(200);

    // A socket shares the rate limit, reports it, and stays open.
    let mut socket = node.socket(&user).await;
    socket.find_message("the start", |frame| frame["type"] == "initial_state").await;
    socket.send_message(json!({"type": "status", "data": {"status": "away"}})).await;
    let error = socket.find_message("the limit", |frame| frame["type"] == "error").await;
    assert_eq!(error["code"], "RATE_LIMITED");
    assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| (1..=6_000).contains(&ms)), "{error}");
}

#[testkit::test]
async fn a_heartbeat_keeps_a_device_and_sends_no_update(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, viewer) = (User::new(), User::new());
    db.add_contact(&user, &viewer).await;
    node.post(&user, STATUS_PATH, json!({"status": "online", "device_id": "phone"})).await.expect_status(200);
    db.execute("update rollcall.presence_devices set last_heartbeat_at = now() - interval '20 seconds'", &[])
        .await;
    let written = row_version(&db, &user).await;
    let response = node
        .post(&user, HEARTBEAT_PATH, json!({"deviceId": "phone", "active": true}))
        .await
        .expect_status(200);
    assert_eq!((&response["success"], &response["next_heartbeat_ms"]), (&json!(true), &json!(10_000)));
    assert!(response["server_time"].as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()));
    let fresh = "select last_heartbeat_at > now() - interval '5 seconds' from rollcall.presence_devices where user_id = $1";
    assert!(db.query_row(fresh, &[&user.id]).await.get::<_, bool>(0));
    assert_eq!(row_version(&db, &user).await, written);
    node.post(&user, HEARTBEAT_PATH, json!({})).await.expect_status(200);
    node.post(&user, HEARTBEAT_PATH, json!({"active": "yes"})).await.expect_error(400, "INVALID_REQUEST");

    // A device without heartbeats expires.
    db.execute("update rollcall.presence_devices set last_heartbeat_at = now() - interval '26 seconds'", &[])
        .await;
    db.wait_until(
        "offline",
        "select status = 'offline' from rollcall.presence_devices where user_id = $user",
        &[("user", user.id)],
    )
    .await;
    let gone = node.get(&viewer, &user_path(&user)).await.expect_status(200);
    assert_eq!(gone["status"], "offline");
    assert!(!gone["last_seen"].is_null());

    // A heartbeat brings the device back, unless the client had disconnected it.
    node.post(&user, HEARTBEAT_PATH, json!({"device_id": "phone"})).await.expect_status(200);
    assert_eq!(node.get(&viewer, &user_path(&user)).await.expect_status(200)["status"], "online");
    node.post(&user, STATUS_PATH, json!({"status": "offline", "device_id": "phone"}))
        .await
        .expect_status(200);
    node.post(&user, HEARTBEAT_PATH, json!({"device_id": "phone"})).await.expect_status(200);
    assert_eq!(node.get(&viewer, &user_path(&user)).await.expect_status(200)["status"], "offline");
}

#[testkit::test]
async fn acting_for_another_user_requires_permission(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, admin, victim) =
        (User::new(), User::with_claims(json!({"permissions": ["presence:admin"]})), User::new());
    for path in [STATUS_PATH, HEARTBEAT_PATH] {
        for name in ["user_id", "userId"] {
            let body = json!({"status": "dnd", name: victim.id});
            node.post(&user, path, body).await.expect_error(403, "FORBIDDEN");
            // Naming one's own user ID is allowed.
            node.post(&user, path, json!({"status": "dnd", name: user.id})).await.expect_status(200);
        }
    }
    assert!(
        db.query_row(
            "select not exists (select from rollcall.presence_devices where user_id = $1)",
            &[&victim.id]
        )
        .await
        .get::<_, bool>(0)
    );
    let body = json!({"status": "dnd", "user_id": victim.id});
    for (caller, status) in [(&admin, "dnd"), (&service_user(), "busy")] {
        let mut body = body.clone();
        body["status"] = json!(status);
        let set = node.post(caller, STATUS_PATH, body).await.expect_status(200);
        assert_eq!((&set["user_id"], &set["availability"]), (&json!(victim.id), &json!(status)));
    }
    node.post(&service_user(), STATUS_PATH, json!({"status": "dnd"})).await.expect_error(401, "UNAUTHORIZED");
}

#[testkit::test]
async fn an_invisible_user_is_offline_except_to_the_visibility_list(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, contact, trusted) = (User::new(), User::new(), User::new());
    db.add_contact(&user, &contact).await;
    db.execute(
        "insert into rollcall.presence_visibility_list (user_id, viewer_id) values ($user, $trusted)",
        &[("user", user.id), ("trusted", trusted.id)],
    )
    .await;
    let body =
        json!({"status": "online", "custom_status": "here", "activity": "typing", "current_page": "/x"});
    node.post(&user, STATUS_PATH, body).await.expect_status(200);
    node.post(&user, STATUS_PATH, json!({"status": "invisible"})).await.expect_status(200);
    let outside = node.get(&contact, &user_path(&user)).await.expect_status(200);
    let expected = json!({
        "user_id": user.id, "status": "offline", "availability": "offline", "last_seen": ANY_TIME, "is_typing": false,
    });
    assert_matches_pattern(&outside, &expected);
    let inside = node.get(&trusted, &user_path(&user)).await.expect_status(200);
    assert_eq!((&inside["availability"], &inside["activity"]), (&json!("invisible"), &json!("typing")));

    // From here on other users see no change.
    node.post(&user, STATUS_PATH, json!({"status": "invisible", "custom_status": "still here"}))
        .await
        .expect_status(200);
    assert_eq!(node.get(&contact, &user_path(&user)).await.expect_status(200), outside);
}
