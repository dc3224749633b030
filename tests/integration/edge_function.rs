//! The Edge Function `presence-manager` under Deno. It writes to the database as the caller, and sockets of a running
//! server receive the changes.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet},
};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    client::{HttpResponse, assert_matches_pattern, hidden_presence, send},
    harness::{SECRET, TestDatabase, User, WAIT_TIMEOUT, free_port, mint_token, service_user, unix_time_in},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};

const P256: &str = include_str!("../fixtures/keys/p256.pem");

/// A running Edge Function.
struct EdgeFunction {
    process: Child,
    address: SocketAddr,
}

impl EdgeFunction {
    async fn start(db: &TestDatabase) -> Self {
        Self::start_with(db, &[("SUPABASE_JWT_SECRET", SECRET)]).await
    }

    async fn start_with(db: &TestDatabase, env: &[(&str, &str)]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = root.join("supabase/functions/presence-manager");
        let free = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let process = Command::new(root.join("target/tools/deno/node_modules/.bin/deno"))
            .args([
                "run",
                "--quiet",
                "--no-prompt",
                "--cached-only",
                "--allow-net",
                "--allow-env",
                "--config",
            ])
            .arg(folder.join("deno.json"))
            .arg(folder.join("index.ts"))
            .envs([("SUPABASE_DB_URL", &*db.url), ("HOST", "127.0.0.1"), ("PORT", &free.port().to_string())])
            .envs(env.iter().copied())
            .stdout(Stdio::null())
            .spawn()
            .expect("Deno runs; .ci/install --test installs it");
        let function = Self { process, address: free };
        let started = Instant::now();
        while tokio::net::TcpStream::connect(function.address).await.is_err() {
            assert!(started.elapsed() < WAIT_TIMEOUT * 2, "the function does not respond");
            sleep(std::time::Duration::from_millis(20)).await;
        }
        function
    }

    async fn call(
        &self,
        method: Method,
        token: Option<&str>,
        path: &str,
        body: Option<&str>,
    ) -> HttpResponse {
        let client =
            reqwest::Client::builder().no_proxy().timeout(WAIT_TIMEOUT * 2).build().expect("a client");
        let mut request =
            client.request(method, format!("http://{}/functions/v1/presence-manager{path}", self.address));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            // The request that a beacon sends.
            request = request.header("content-type", "text/plain;charset=UTF-8").body(body.to_owned());
        }
        send(request).await
    }

    async fn get(&self, user: &User, path: &str) -> HttpResponse {
        self.call(Method::GET, Some(&user.token), path, None).await
    }

    async fn post(&self, user: &User, path: &str, body: Value) -> HttpResponse {
        self.call(Method::POST, Some(&user.token), path, Some(&body.to_string())).await
    }
}

impl Drop for EdgeFunction {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[testkit::test]
async fn writes_reach_open_sockets(db: Arc<TestDatabase>) {
    let function = EdgeFunction::start(&db).await;
    let node = db.start_server().await;
    let (user, friend, stranger) = (User::new(), User::new(), User::new());
    db.add_contact(&user, &friend).await;
    assert_matches_pattern(
        &function.get(&user, "/status").await.expect_status(200),
        &json!({"user_id": user.id, "status": "offline", "availability": "offline", "last_seen": null}),
    );
    let mut socket = node.socket(&friend).await;
    socket.next_message().await;
    let mut other = node.socket_with(&stranger, &format!("&user_ids={}", user.id)).await;
    other.next_message().await;

    let said = json!({"status": "busy", "deviceId": "phone", "custom_status": " <b>at work</b>\u{202e} ", "activity": "a call"});
    let response = function.post(&user, "/status", said).await.expect_status(200);
    assert_eq!((&response["status"], &response["availability"]), (&json!("online"), &json!("busy")));
    assert_eq!(
        (&response["custom_status"], &response["activity"]),
        (&json!("‹b›at work‹/b›"), &json!("a call"))
    );
    socket.wait_until("busy", |socket| socket.shows(user.id, "online", "busy")).await;
    assert_eq!(socket.presences[&user.id]["custom_status"], "‹b›at work‹/b›");
    assert_eq!(
        function.get(&user, "/status").await.expect_status(200),
        answer_without_time(&response, &function, &user).await
    );

    // Omitted fields stay, null clears a field.
    function.post(&user, "/status", json!({"status": "away", "device_id": "phone"})).await.expect_status(200);
    socket.wait_until("away", |socket| socket.shows(user.id, "away", "away")).await;
    assert_eq!(socket.presences[&user.id]["custom_status"], "‹b›at work‹/b›");
    let cleared = json!({"status": "dnd", "device_id": "phone", "custom_status": null, "activity": null});
    function.post(&user, "/status", cleared).await.expect_status(200);
    socket.wait_until("dnd", |socket| socket.shows(user.id, "online", "dnd")).await;
    assert_eq!(socket.presences[&user.id].get("custom_status"), None);

    function
        .post(&user, "/status", json!({"status": "invisible", "device_id": "phone"}))
        .await
        .expect_status(200);
    socket.wait_until("invisible", |socket| socket.shows_offline(user.id)).await;
    function
        .post(&user, "/status", json!({"status": "offline", "device_id": "phone"}))
        .await
        .expect_status(200);
    db.wait_until(
        "signed off",
        "select signed_off_at is not null from rollcall.presence_devices where user_id = $u",
        &[("u", user.id)],
    )
    .await;
    // In the background, away for the time that the app announced.
    let announced =
        json!({"status": "away", "device_id": "tablet", "background": true, "backgroundSeconds": 90});
    function.post(&user, "/status", announced).await.expect_status(200);
    db.wait_until(
        "in the background",
        "select status = 'away' and background_seconds = 90 from rollcall.presence_devices
         where user_id = $u and device_id = 'tablet'",
        &[("u", user.id)],
    )
    .await;
    let contradiction = json!({"status": "online", "device_id": "tablet", "background": true});
    let refused = function.post(&user, "/status", contradiction).await.expect_error(400, "INVALID_REQUEST");
    assert_eq!(refused["details"][0]["field"], "background");
    // A late heartbeat does not bring the device back; a new device appears.
    function
        .post(&user, "/heartbeat", json!({"device_id": "phone", "active": true}))
        .await
        .expect_status(200);
    db.wait_until(
        "still off",
        "select not live from rollcall.presence_devices where user_id = $u and device_id = 'phone'",
        &[("u", user.id)],
    )
    .await;
    let beat = function.post(&user, "/heartbeat", json!({"device_id": "laptop"})).await.expect_status(200);
    assert_eq!((&beat["success"], &beat["next_heartbeat_ms"]), (&json!(true), &json!(10_000)));
    function
        .post(&user, "/status", json!({"status": "online", "device_id": "laptop"}))
        .await
        .expect_status(200);
    socket.wait_until("here", |socket| socket.shows_online(user.id)).await;
    assert!(other.hides(user.id), "unrelated users received nothing");
}

/// Returns the body without `last_seen`, which is the present time while a user is online.
async fn answer_without_time(response: &Value, function: &EdgeFunction, user: &User) -> Value {
    let mut response = response.clone();
    response["last_seen"] = function.get(user, "/status").await.expect_status(200)["last_seen"].clone();
    response
}

#[testkit::test]
async fn settings_are_subject_to_row_level_security(db: Arc<TestDatabase>) {
    let function = EdgeFunction::start(&db).await;
    let node = db.start_server().await;
    let (user, viewer) = (User::new(), User::new());
    db.set_status(&user, "online").await;
    let defaults = json!({"visibility": "contacts", "show_last_seen": true, "show_activity": true,
        "show_custom_status": true, "show_typing": true});
    assert_eq!(function.get(&user, "/settings").await.expect_status(200), defaults);
    let mut socket = node.socket_with(&viewer, &format!("&user_ids={}", user.id)).await;
    socket.next_message().await;

    let put = |method, body: Value| {
        let (function, user) = (&function, &user);
        async move { function.call(method, Some(&user.token), "/settings", Some(&body.to_string())).await }
    };
    let now =
        put(Method::PATCH, json!({"visibility": "everyone", "showTyping": false})).await.expect_status(200);
    assert_eq!((&now["visibility"], &now["show_typing"]), (&json!("everyone"), &json!(false)));
    socket.wait_until("shown to everyone", |socket| socket.shows_online(user.id)).await;
    let now = put(Method::PATCH, json!({"show_last_seen": false})).await.expect_status(200);
    assert_eq!(
        (&now["visibility"], &now["show_typing"]),
        (&json!("everyone"), &json!(false)),
        "the others stay"
    );
    assert_eq!(put(Method::PATCH, json!({})).await.expect_status(200), now);
    assert_eq!(put(Method::PUT, json!({})).await.expect_status(200), defaults, "PUT replaces all settings");
    socket
        .wait_until("shown to contacts", |socket| {
            socket.presences.get(&user.id) == Some(&hidden_presence(user.id))
        })
        .await;
    assert_eq!(
        function.get(&viewer, "/settings").await.expect_status(200),
        defaults,
        "each user has separate settings"
    );
    put(Method::PUT, json!({"visibility": "friends"})).await.expect_error(422, "UNPROCESSABLE");
    put(Method::PATCH, json!({"show_typing": "yes"})).await.expect_error(400, "INVALID_REQUEST");

    // A custom policy applies here too.
    db.execute("create policy frozen on rollcall.presence_settings as restrictive for insert to authenticated with check (false)", &[]).await;
    put(Method::PUT, json!({})).await.expect_error(403, "FORBIDDEN");
}

#[testkit::test]
async fn a_beacon_without_headers_disconnects_a_device(db: Arc<TestDatabase>) {
    let function = EdgeFunction::start(&db).await;
    let node = db.start_server().await;
    let (user, friend) = (User::new(), User::new());
    db.add_contact(&user, &friend).await;
    let mut tab = node.socket_with(&user, "&device_id=tab").await;
    tab.next_message().await;
    let mut socket = node.socket(&friend).await;
    socket.next_message().await;
    socket.wait_until("online", |socket| socket.shows_online(user.id)).await;

    let beacon = json!({"device_id": "tab", "token": user.token}).to_string();
    let response = function.call(Method::POST, None, "/sign-off", Some(&beacon)).await;
    assert_eq!((response.status.as_u16(), &response.body), (204, &json!("")));
    tab.expect_close(1000).await;
    socket.wait_until("offline at once", |socket| socket.shows_offline(user.id)).await;

    function
        .post(&user, "/status", json!({"status": "online", "device_id": "phone"}))
        .await
        .expect_status(200);
    socket.wait_until("online again", |socket| socket.shows_online(user.id)).await;
    let path = format!("/sign-off?token={}", user.token);
    let response = function.call(Method::POST, None, &path, Some(r#"{"device_id":"phone"}"#)).await;
    assert_eq!(response.status.as_u16(), 204);
    socket.wait_until("offline again", |socket| socket.shows_offline(user.id)).await;
    function.call(Method::POST, None, "/sign-off", Some("{}")).await.expect_error(401, "UNAUTHORIZED");
}

#[testkit::test]
async fn the_status_limit_is_shared_by_all_instances(db: Arc<TestDatabase>) {
    let (one, two) = tokio::join!(EdgeFunction::start(&db), EdgeFunction::start(&db));
    let (user, other) = (User::new(), User::new());
    let say = async |function: &EdgeFunction, user: &User, status: &str| {
        function.post(user, "/status", json!({"status": status, "device_id": "phone"})).await
    };
    let statuses = ["busy", "dnd"];
    let started = Instant::now();
    let mut said = 0;
    let refused = loop {
        let response = say([&one, &two][said / 2 % 2], &user, statuses[said % 2]).await;
        if response.status == 429 {
            break response;
        }
        response.expect_status(200);
        said += 1;
    };
    // On a slow machine one more update is allowed every six seconds.
    let extra = started.elapsed().as_secs() as usize / 6;
    assert!((10..=10 + extra).contains(&said), "{said} in {:?}", started.elapsed());
    let header = |name: &str| -> u64 {
        refused
            .header(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name}: {refused:?}"))
    };
    assert!((1..=6).contains(&header("retry-after")), "{refused:?}");
    assert_eq!((header("ratelimit-limit"), header("ratelimit-remaining")), (10, 0));
    assert!((50..=60).contains(&header("ratelimit-reset")), "{refused:?}");
    refused.expect_error(429, "RATE_LIMITED");
    // Rejected everywhere, and nothing has changed.
    say(&two, &user, "away").await.expect_error(429, "RATE_LIMITED");
    let last = statuses[(said - 1) % 2];
    assert_eq!(two.get(&user, "/status").await.expect_status(200)["availability"], last);
    // Heartbeats and other users are not affected, and a repeat does not count.
    one.post(&user, "/heartbeat", json!({"device_id": "phone", "active": true})).await.expect_status(200);
    assert_eq!(say(&two, &user, last).await.expect_status(200)["availability"], last);
    say(&one, &other, "busy").await.expect_status(200);
    // The limit is configurable in SQL.
    db.execute("update rollcall.limits set per_minute = 0", &[]).await;
    say(&one, &user, "online").await.expect_status(200);
}

#[testkit::test]
async fn only_the_schedule_may_sweep(db: Arc<TestDatabase>) {
    let function = EdgeFunction::start(&db).await;
    let user = User::new();
    db.set_status(&user, "online").await;
    db
        .execute(
            "update rollcall.presence_devices set last_heartbeat_at = now() - interval '1 hour', last_active_at = now() - interval '1 hour'",
            &[],
        )
        .await;
    function.post(&user, "/sweep", json!({})).await.expect_error(403, "FORBIDDEN");
    let swept = function.post(&service_user(), "/sweep", json!({})).await.expect_status(200);
    assert_eq!((&swept["success"], &swept["devices"]), (&json!(true), &json!(1)));
    let face = function.get(&user, "/status").await.expect_status(200);
    assert_eq!(face["status"], "offline");
    function
        .post(&service_user(), "/status", json!({"status": "online"}))
        .await
        .expect_error(403, "FORBIDDEN");
}

#[testkit::test]
async fn errors_use_the_common_envelope(db: Arc<TestDatabase>) {
    let function = EdgeFunction::start(&db).await;
    let user = User::new();
    for (body, status, code) in [
        (json!({"status": "asleep"}), 422, "UNPROCESSABLE"),
        (json!({}), 400, "INVALID_REQUEST"),
        (json!({"status": 7}), 400, "INVALID_REQUEST"),
        (json!({"status": "online", "device_id": ""}), 400, "INVALID_REQUEST"),
        (json!({"status": "online", "device_id": "x".repeat(256)}), 400, "INVALID_REQUEST"),
        (json!({"status": "online", "custom_status": "x".repeat(141)}), 400, "INVALID_REQUEST"),
        (json!({"status": "online", "custom_status_expires_at": "soon"}), 400, "INVALID_REQUEST"),
        (json!(["status"]), 400, "INVALID_REQUEST"),
        (json!(null), 400, "INVALID_REQUEST"),
    ] {
        let error = function.post(&user, "/status", body.clone()).await.expect_error(status, code);
        assert!(error["details"].as_array().is_some_and(|details| !details.is_empty()), "{body}: {error}");
    }
    let raw = async |body: &str| function.call(Method::POST, Some(&user.token), "/status", Some(body)).await;
    raw("{").await.expect_error(400, "INVALID_REQUEST");
    raw(&format!("\"{}\"", "x".repeat(70_000))).await.expect_error(413, "PAYLOAD_TOO_LARGE");
    raw(r#"{"status":"online","activity":"a\u0000b"}"#).await.expect_status(200);
    function.get(&user, "/nowhere").await.expect_error(404, "NOT_FOUND");
    function.get(&user, "/heartbeat").await.expect_error(405, "METHOD_NOT_ALLOWED");
    // Names that every JavaScript object has.
    for name in ["constructor", "__proto__", "toString", "hasOwnProperty", "valueOf", "__defineGetter__"] {
        let method = Method::from_bytes(name.as_bytes()).expect("a token");
        for path in ["/status", "/settings", "/sign-off"] {
            let response = function.call(method.clone(), Some(&user.token), path, None).await;
            response.expect_error(405, "METHOD_NOT_ALLOWED");
        }
        for path in [format!("/{name}"), name.to_owned(), format!("/status/{name}"), format!("/{name}/")] {
            function.get(&user, &path).await.expect_error(404, "NOT_FOUND");
            let response = function.call(method.clone(), Some(&user.token), &path, None).await;
            response.expect_error(404, "NOT_FOUND");
        }
        let body = format!(r#"{{"status": "online", "{name}": {{"{name}": 1}}}}"#);
        raw(&body).await.expect_status(200);
        raw(&format!(r#"{{"status": "{name}"}}"#)).await.expect_error(422, "UNPROCESSABLE");
    }
    let preflight = function.call(Method::OPTIONS, None, "/status", None).await;
    assert_eq!(preflight.status.as_u16(), 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));

    // An unreachable database is reported without details.
    let away = EdgeFunction::start_with(
        &db,
        &[
            ("SUPABASE_JWT_SECRET", SECRET),
            ("SUPABASE_DB_URL", "postgresql://postgres:hunter2@127.0.0.1:1/x"),
        ],
    )
    .await;
    let error = away.get(&user, "/status").await.expect_error(503, "SERVICE_UNAVAILABLE");
    assert!(!error.to_string().contains("hunter2"));
}

#[testkit::test]
async fn tokens_need_the_secret_or_a_published_key(db: Arc<TestDatabase>) {
    let key = EncodingKey::from_ec_pem(P256.as_bytes()).expect("a key");
    let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("a public key");
    jwk.common.key_id = Some("p256".into());
    let keys = serve_text(serde_json::to_string(&JwkSet { keys: vec![jwk] }).expect("JSON")).await;
    let url = format!("http://{keys}/keys");
    let function =
        EdgeFunction::start_with(&db, &[("SUPABASE_JWT_SECRET", SECRET), ("JWKS_URL", &url)]).await;
    let user = User::new();
    let claims = json!({"sub": user.id, "role": "authenticated", "exp": unix_time_in(60)});
    let header = Header { kid: Some("p256".into()), ..Header::new(Algorithm::ES256) };
    let signed = jsonwebtoken::encode(&header, &claims, &key).expect("a token");
    let status = async |token: &str| function.call(Method::GET, Some(token), "/status", None).await;
    status(&signed).await.expect_status(200);
    status(&mint_token(&claims)).await.expect_status(200);
    let alias = mint_token(&json!({"userId": user.id, "exp": unix_time_in(60)}));
    assert_eq!(status(&alias).await.expect_status(200)["user_id"], json!(user.id));

    let unsigned = {
        let encode = |part: &Value| {
            use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
            URL_SAFE_NO_PAD.encode(part.to_string())
        };
        format!("{}.{}.", encode(&json!({"alg": "none"})), encode(&claims))
    };
    let by_another = jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(b"another"))
        .expect("a token");
    for token in [
        &unsigned,
        &by_another,
        &mint_token(&json!({"sub": user.id, "exp": unix_time_in(-1)})),
        &mint_token(&json!({"sub": user.id})),
        &mint_token(&json!({"sub": "me", "exp": unix_time_in(60)})),
        &mint_token(&json!({"sub": user.id, "role": "postgres", "exp": unix_time_in(60)})),
        "x",
    ] {
        status(token).await.expect_error(401, "INVALID_TOKEN");
    }
    function.call(Method::GET, None, "/status", None).await.expect_error(401, "UNAUTHORIZED");
    let anon = mint_token(&json!({"role": "anon", "exp": unix_time_in(60)}));
    status(&anon).await.expect_error(403, "FORBIDDEN");
}

/// Serves a text over HTTP until the run ends.
async fn serve_text(text: String) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_err() {
                continue;
            }
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ";
            let response = format!("{head}{}\r\n\r\n{text}", text.len());
            stream.write_all(response.as_bytes()).await.ok();
        }
    });
    address
}
