//! The handshake and the HTTP endpoints (docs/protocol/realtime.md, "Socket paths and serializer version" to "CORS
//! preflight").

use std::{sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    client::{HttpResponse, send},
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT, mint_token, service_user, unix_time_in},
    phoenix::{Frame, PhoenixClient, SerializerVersion, anon_key, broadcast, open},
};
use tokio::time::Instant;

const POLICIES: &str = include_str!("channel_policies.sql");
const BATCH_PATH: &str = "/realtime/v1/api/broadcast";

async fn post_batch(node: &TestServer, key: &str, body: Value) -> HttpResponse {
    send(node.request(Method::POST, BATCH_PATH).bearer_auth(key).json(&body)).await
}

/// Joins a public topic with one socket of each version.
async fn join_with_both_versions(node: &TestServer, topic: &str) -> [PhoenixClient; 2] {
    let mut sockets =
        [node.channel_client(SerializerVersion::V1).await, node.channel_client(SerializerVersion::V2).await];
    for socket in &mut sockets {
        socket.join(topic, json!({})).await;
    }
    sockets
}

// docs/protocol/realtime.md, "Socket paths and serializer version"
#[testkit::test]
async fn both_paths_upgrade_and_the_default_version_is_1(db: Arc<TestDatabase>) {
    let (node, key) = (db.start_server().await, anon_key());
    for path in ["/realtime/v1/websocket", "/socket/websocket"] {
        for (query, vsn) in [
            ("", SerializerVersion::V1),
            ("&vsn=1.0.0", SerializerVersion::V1),
            ("&vsn=2.0.0", SerializerVersion::V2),
        ] {
            let path = format!("{path}?apikey={key}{query}");
            let mut socket = open(node.address, vsn, &path, &[]).await.expect("it upgrades");
            socket.heartbeat().await;
        }
        for bad in ["3.0.0", "abc", "0.9.0"] {
            let path = format!("{path}?apikey={key}&vsn={bad}");
            let refusal =
                open(node.address, SerializerVersion::V1, &path, &[]).await.err().expect("it is refused");
            assert_eq!((refusal.status, refusal.body), (403, json!("")), "{bad}");
        }
    }
}

// docs/protocol/realtime.md, "Missing API key"
#[testkit::test]
async fn a_handshake_without_a_key_is_rejected(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let refusal =
        open(node.address, SerializerVersion::V2, "/realtime/v1/websocket?vsn=2.0.0", &[]).await.err();
    let refusal = refusal.expect("it is refused");
    assert_eq!((refusal.status, refusal.body), (401, json!({"error": "API key is missing"})));
}

// docs/protocol/realtime.md, "Invalid token at the handshake"
#[testkit::test]
async fn invalid_keys_are_rejected_with_a_reason(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let foreign = rollcall::auth::token::mint(
        "another-secret-of-more-than-32-characters",
        &json!({"role": "anon", "exp": unix_time_in(60)}),
    )
    .expect("claims serialize");
    let cases = [
        (mint_token(&json!({"role": "anon", "exp": unix_time_in(-60)})), "Token has expired"),
        (foreign, "Failed to validate JWT signature"),
        ("garbage".into(), "The token provided is not a valid JWT"),
        (String::new(), "The token provided is not a valid JWT"),
        (mint_token(&json!({"role": "anon"})), "Fields `role` and `exp` are required in JWT"),
        (mint_token(&json!({"exp": unix_time_in(60)})), "Fields `role` and `exp` are required in JWT"),
    ];
    for (key, reason) in cases {
        let refusal =
            node.channel_client_with_key(SerializerVersion::V2, &key).await.err().expect("it is refused");
        assert_eq!((refusal.status, refusal.body), (401, json!({"error": reason})), "{key}");
    }
}

// docs/protocol/realtime.md, "API key sources and opaque keys"
#[testkit::test]
async fn the_header_overrides_the_query_and_opaque_keys_map_to_roles(db: Arc<TestDatabase>) {
    let keys = "sb_publishable_tests:anon,sb_secret_tests:service_role";
    let node = db.start_server_with(|settings| settings.set("API_KEYS", keys)).await;
    let path = |key: &str| format!("/realtime/v1/websocket?vsn=2.0.0&apikey={key}");
    let header = |key: &str| [("x-api-key", key.to_owned())];

    let mut socket = open(node.address, SerializerVersion::V2, &path("garbage"), &header(&anon_key()))
        .await
        .expect("the header");
    socket.heartbeat().await;
    let refusal =
        open(node.address, SerializerVersion::V2, &path(&anon_key()), &header("garbage")).await.err();
    assert_eq!(refusal.expect("the header is used").status, 401);
    let refusal = open(node.address, SerializerVersion::V2, &path("sb_publishable_unknown"), &[]).await.err();
    assert_eq!(refusal.expect("unknown opaque keys are rejected").status, 401);

    // No policy grants access; only service_role needs none.
    let private = json!({"config": {"private": true}});
    let mut publishable =
        node.channel_client_with_key(SerializerVersion::V2, "sb_publishable_tests").await.expect("a key");
    publishable.join("realtime:public", json!({})).await;
    let reason = publishable.join_error("realtime:secret", private.clone()).await;
    assert!(reason.starts_with("Unauthorized: "), "{reason}");
    let mut secret =
        node.channel_client_with_key(SerializerVersion::V2, "sb_secret_tests").await.expect("a key");
    assert_eq!(secret.try_join("realtime:secret", private).await["status"], "ok");

    // Over REST too, in either header.
    let message = json!({"messages": [{"topic": "secret", "event": "e", "payload": {}, "private": true}]});
    post_batch(&node, "sb_secret_tests", message.clone()).await.expect_status(202);
    assert_eq!(secret.next_broadcast("realtime:secret").await, broadcast("e", json!({})));
    let request = node.request(Method::POST, BATCH_PATH).header("apikey", "sb_publishable_tests");
    send(request.json(&message)).await.expect_status(202);
    secret.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Connection limit"
#[testkit::test]
async fn upgrades_above_the_connection_limit_are_rejected(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("REALTIME_MAX_CONNECTIONS", "2")).await;
    let (one, _two) =
        (node.channel_client(SerializerVersion::V2).await, node.channel_client(SerializerVersion::V1).await);
    let refusal =
        node.channel_client_with_key(SerializerVersion::V2, &anon_key()).await.err().expect("it is refused");
    assert_eq!((refusal.status, refusal.body), (429, json!({"error": "Too many connected users"})));

    one.abort();
    let started = Instant::now();
    while node.channel_client_with_key(SerializerVersion::V2, &anon_key()).await.is_err() {
        assert!(started.elapsed() < WAIT_TIMEOUT, "a closed connection frees its slot");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

// docs/protocol/realtime.md, "Health and ping"
#[testkit::test]
async fn health_and_ping_respond(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let health = send(node.request(Method::GET, "/healthcheck")).await;
    assert_eq!(health.status, 200);
    for path in ["/api/ping", "/realtime/v1/api/ping"] {
        let ping = send(node.request(Method::GET, path)).await;
        assert_eq!(ping.expect_status(200), json!({"message": "Success"}), "{path}");
    }
}

// docs/protocol/realtime.md, "Batch broadcast"
#[testkit::test]
async fn a_batch_reaches_clients_of_both_versions(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let sockets = join_with_both_versions(&node, "realtime:news").await;
    let messages = json!({"messages": [
        {"topic": "news", "event": "one", "payload": {"n": 1}},
        {"topic": "elsewhere", "event": "no", "payload": {}},
        {"topic": "news", "event": "two", "payload": {"n": 2}, "private": false},
    ]});
    for path in ["/realtime/v1/api/broadcast", "/api/broadcast"] {
        let response = send(node.request(Method::POST, path).bearer_auth(anon_key()).json(&messages)).await;
        assert_eq!((response.status.as_u16(), response.body), (202, json!("")), "{path}");
    }
    for mut socket in sockets {
        for _ in 0..2 {
            assert_eq!(socket.next_broadcast("realtime:news").await, broadcast("one", json!({"n": 1})));
            assert_eq!(socket.next_broadcast("realtime:news").await, broadcast("two", json!({"n": 2})));
        }
        socket.expect_no_frame().await;
    }
}

// docs/protocol/realtime.md, "Batch validation"
#[testkit::test]
async fn one_invalid_message_rejects_the_batch(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let sockets = join_with_both_versions(&node, "realtime:news").await;
    let good = json!({"topic": "news", "event": "e", "payload": {}});
    let cases = [
        (
            json!({"messages": [good, {"topic": "news"}]}),
            json!({"messages": [{}, {"payload": ["can't be blank"], "event": ["can't be blank"]}]}),
        ),
        (
            json!({"messages": [{"event": "e", "payload": {}}, good]}),
            json!({"messages": [{"topic": ["can't be blank"]}, {}]}),
        ),
        (
            json!({"messages": [{"topic": "news", "event": "e", "payload": "text"}]}),
            json!({"messages": [{"payload": ["is invalid"]}]}),
        ),
        (
            json!({"messages": [good, {"topic": "", "event": "", "payload": {}}]}),
            json!({"messages": [{}, {"topic": ["can't be blank"], "event": ["can't be blank"]}]}),
        ),
        (json!({"messages": []}), json!({"messages": ["can't be blank"]})),
        (json!({}), json!({"messages": ["can't be blank"]})),
        (json!({"messages": "x"}), json!({"messages": ["is invalid"]})),
    ];
    for (body, errors) in cases {
        let response = post_batch(&node, &anon_key(), body.clone()).await;
        assert_eq!(response.expect_status(422), json!({ "errors": errors }), "{body}");
    }
    let broken = node
        .request(Method::POST, BATCH_PATH)
        .bearer_auth(anon_key())
        .header("content-type", "application/json");
    assert_eq!(send(broken.body("{bad")).await.status, 400);
    for mut socket in sockets {
        socket.expect_no_frame().await;
    }
}

// docs/protocol/realtime.md, "REST authentication"
#[testkit::test]
async fn a_batch_needs_a_token_in_either_header(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let [mut socket, _] = join_with_both_versions(&node, "realtime:news").await;
    let body = json!({"messages": [{"topic": "news", "event": "e", "payload": {}}]});
    let request = || node.request(Method::POST, BATCH_PATH).json(&body);
    let expired = mint_token(&json!({"role": "anon", "exp": unix_time_in(-5)}));
    for bad in [request(), request().bearer_auth("garbage"), request().bearer_auth(expired)] {
        assert_eq!(send(bad).await.expect_status(401), json!({"message": "Unauthorized"}));
    }
    for good in [
        request().header("apikey", anon_key()),
        request().bearer_auth(anon_key()),
        request().header("authorization", format!("bearer {}", anon_key())),
    ] {
        assert_eq!(send(good).await.status, 202);
        socket.next_broadcast("realtime:news").await;
    }
    socket.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Private batch messages"
#[testkit::test]
async fn a_private_message_without_access_is_dropped_silently(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let user = User::new();
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    for topic in ["realtime:open:1", "realtime:readonly:1"] {
        socket.join_private(topic, &user.token, json!({})).await;
    }
    let message =
        |topic: &str| json!({"topic": topic, "event": "e", "payload": {"to": topic}, "private": true});
    let messages = json!({"messages": [message("readonly:1"), message("open:1")]});
    assert_eq!(post_batch(&node, &user.token, messages.clone()).await.status, 202);
    assert_eq!(post_batch(&node, &anon_key(), messages).await.status, 202);
    assert_eq!(socket.next_broadcast("realtime:open:1").await, broadcast("e", json!({"to": "open:1"})));
    socket.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Single JSON broadcast"
#[testkit::test]
async fn a_single_json_broadcast_arrives_unchanged(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let [mut old, mut new] = join_with_both_versions(&node, "realtime:room 1:ü").await;
    let body = r#"{"z":1,"a":12345678901234567890123,"f":1.50}"#;
    for prefix in ["/realtime/v1/api", "/api"] {
        let path = format!("{prefix}/broadcast/room%201%3A%C3%BC/events/new%2Fmsg");
        let request = node.request(Method::POST, &path).bearer_auth(anon_key());
        let response = send(request.header("content-type", "application/json").body(body)).await;
        assert_eq!((response.status.as_u16(), response.body), (202, json!("")));

        let frame = new.wait_for("realtime:room 1:ü", "broadcast").await;
        assert_eq!(frame.payload["event"], "new/msg");
        assert_eq!(frame.data.as_deref(), Some(body.as_bytes()), "identical bytes");
        let frame = old.wait_for("realtime:room 1:ü", "broadcast").await;
        assert_eq!(frame.payload["event"], "new/msg");
        assert!(frame.text.contains(body), "{}", frame.text);
    }

    // A body that is not an object is wrapped, an empty body becomes an empty object, and a body without a content type
    // is JSON.
    let path = "/api/broadcast/room%201%3A%C3%BC/events/e";
    for (body, type_, received) in [
        (r#"["a"]"#, Some("application/json"), json!({"_json": ["a"]})),
        ("", Some("application/json"), json!({})),
        (r#"{"n":1}"#, None, json!({"n": 1})),
    ] {
        let mut request = node.request(Method::POST, path).bearer_auth(anon_key()).body(body);
        if let Some(type_) = type_ {
            request = request.header("content-type", type_);
        }
        assert_eq!(send(request).await.status, 202, "{body}");
        assert_eq!(new.next_broadcast("realtime:room 1:ü").await, broadcast("e", received.clone()));
        assert_eq!(old.next_broadcast("realtime:room 1:ü").await, broadcast("e", received));
    }
}

// docs/protocol/realtime.md, "Single binary broadcast"
#[testkit::test]
async fn a_single_binary_broadcast_reaches_only_version_2(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    db.execute(POLICIES, &[]).await;
    let [mut old, mut new] = join_with_both_versions(&node, "realtime:bytes").await;
    let send_as = |path: &str, type_: &'static str, key: String| {
        let request = node.request(Method::POST, path).bearer_auth(key).header("content-type", type_);
        send(request.body(vec![0_u8, 255, 16]))
    };
    let path = "/realtime/v1/api/broadcast/bytes/events/blob";
    assert_eq!(send_as(path, "application/octet-stream", anon_key()).await.status, 202);
    let frame: Frame = new.wait_for("realtime:bytes", "broadcast").await;
    assert_eq!(frame.data, Some(vec![0, 255, 16]));
    assert_eq!(frame.payload["event"], "blob");
    old.expect_no_frame().await;

    let refused = send_as(path, "text/plain", anon_key()).await;
    let error = "Unsupported Media Type. Use application/json or application/octet-stream";
    assert_eq!(refused.expect_status(415), json!({ "error": error }));
    let private = "/realtime/v1/api/broadcast/readonly%3A1/events/blob?private=true";
    let refused = send_as(private, "application/octet-stream", User::new().token).await;
    assert_eq!(refused.expect_status(403), json!({"message": "Unauthorized"}));
    assert_eq!(send_as(path, "application/octet-stream", "garbage".into()).await.status, 401);

    // With access, the message goes to the private topic only.
    let user = User::new();
    new.join_private("realtime:open:1", &user.token, json!({})).await;
    let private = "/realtime/v1/api/broadcast/open%3A1/events/blob?private=true";
    assert_eq!(send_as(private, "application/octet-stream", user.token).await.status, 202);
    assert!(new.wait_for("realtime:open:1", "broadcast").await.is_binary());
    assert_eq!(send_as(private, "application/octet-stream", service_user().token).await.status, 202);
    assert!(new.wait_for("realtime:open:1", "broadcast").await.is_binary());
    new.expect_no_frame().await;
}

// docs/protocol/realtime.md, "Batch message ID"
#[testkit::test]
async fn the_message_id_arrives_as_meta(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let sockets = join_with_both_versions(&node, "realtime:news").await;
    let body = json!({"messages": [{"topic": "news", "event": "e", "payload": {"id": "own"}, "id": "abc"}]});
    post_batch(&node, &anon_key(), body).await.expect_status(202);
    for mut socket in sockets {
        let expected =
            json!({"type": "broadcast", "event": "e", "payload": {"id": "own"}, "meta": {"id": "abc"}});
        assert_eq!(socket.next_broadcast("realtime:news").await, expected);
    }
}

// docs/protocol/realtime.md, "Rate headers"
#[testkit::test]
async fn rate_limit_headers_are_present_and_excess_is_rejected(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("REALTIME_MAX_EVENTS_PER_SECOND", "2")).await;
    let body = json!({"messages": [{"topic": "nobody", "event": "e", "payload": {}}]});
    let first = post_batch(&node, &anon_key(), body.clone()).await;
    assert_eq!(first.status, 202);
    for name in ["x-rate-rolling", "x-rate-limit", "x-rate-limit-remaining"] {
        let value = first.header(name).unwrap_or_else(|| panic!("{name} in {:?}", first.headers));
        value.parse::<i64>().unwrap_or_else(|error| panic!("{name}: {value}: {error}"));
    }
    assert_eq!(first.header("x-rate-limit"), Some("2"));

    let started = Instant::now();
    loop {
        let response = post_batch(&node, &anon_key(), body.clone()).await;
        if response.status == 429 {
            // The message depends on whether the limit is reached or almost reached.
            let exceeded = "You have exceeded your rate limit";
            let too_many = "Too many messages to broadcast, please reduce the batch size";
            assert!(
                [exceeded, too_many].map(|text| json!({ "message": text })).contains(&response.body),
                "{response:?}"
            );
            break;
        }
        assert_eq!(response.status, 202);
        assert!(started.elapsed() < WAIT_TIMEOUT, "two per second must be accepted");
    }
}

// docs/protocol/realtime.md, "CORS preflight"
#[testkit::test]
async fn cors_preflight_requests_are_answered(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for path in [BATCH_PATH, "/realtime/v1/api/broadcast/room/events/e", "/api/broadcast"] {
        let response = send(
            node.request(Method::OPTIONS, path)
                .header("origin", "http://app.example")
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "authorization,apikey,content-type,x-client-info"),
        )
        .await;
        assert!(response.status.is_success(), "{path}: {}", response.status);
        assert_eq!(response.header("access-control-allow-origin"), Some("*"), "{path}");
        let allowed = response.header("access-control-allow-headers").expect("which headers").to_lowercase();
        for header in ["authorization", "apikey", "content-type", "x-client-info"] {
            assert!(
                allowed == "*" && header != "authorization" || allowed.contains(header),
                "{path}: {allowed}"
            );
        }
        assert!(response.header("access-control-allow-methods").expect("which methods").contains("POST"));
    }
}
