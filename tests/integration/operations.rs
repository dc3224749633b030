//! Operations: readiness while stopping, logs, traces, and disconnecting a device by beacon.

use std::{process::Stdio, sync::Arc, time::Duration};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    fake_llm::FakeLlm,
    harness::{SECRET, TestDatabase, User, WAIT_TIMEOUT, wait_until},
    phoenix::SerializerVersion,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::mpsc,
    time::{sleep, timeout},
};

const HEALTH_PATH: &str = "/api/v1/system/health";

#[testkit::test]
async fn a_draining_server_is_not_ready_and_rejects_new_requests(db: Arc<TestDatabase>) {
    // Given a ready server and a client that does not disconnect when asked to.
    let node = db.start_server_with(|settings| settings.set("ADMIN_PORT", "0")).await;
    let user = User::new();
    assert_eq!(node.get(&user, HEALTH_PATH).await.expect_status(200)["status"], "ok");
    let stalled = node.stalled_socket(&user).await;
    let connected =
        "select exists (select from rollcall.presence_devices where user_id = $user and status = 'online')";
    db.wait_until("connected", connected, &[("user", user.id)]).await;

    // When the server is asked to stop, then its readiness fails at once.
    let stopping = tokio::spawn({
        let node = node.clone();
        async move { node.stop().await }
    });
    let limit = tokio::time::Instant::now() + WAIT_TIMEOUT;
    let report = loop {
        let response = node.get(&user, HEALTH_PATH).await;
        if response.status == 503 {
            break response.body;
        }
        assert!(tokio::time::Instant::now() < limit, "still ready");
        sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(report["status"], "draining");
    // Then it stays live and rejects other requests with a retry time.
    assert_eq!(node.get(&user, "/healthcheck").await.status, 200);
    for (path, status) in [("/readyz", 503), ("/livez", 200), ("/version", 200), ("/metrics", 200)] {
        assert_eq!(node.get_admin(path).await.status, status, "{path}");
        let request = node.request(Method::GET, path);
        assert_eq!(testkit::client::send(request).await.status, status, "{path} of the main port");
    }
    let refused = node.get(&user, "/api/presence/users").await;
    assert!(refused.header("retry-after").is_some());
    refused.expect_error(503, "SERVICE_UNAVAILABLE");

    // Then it stops when the last client disconnects.
    drop(stalled);
    stopping.await.expect("no panic").expect("stops gracefully");
}

#[testkit::test]
async fn a_beacon_disconnects_a_device_with_a_token_in_its_body(db: Arc<TestDatabase>) {
    // Given a user on a socket, with a grace period that a closed socket alone would take.
    let node = db.start_server_with(|settings| settings.set("DISCONNECT_GRACE", "20s")).await;
    let (viewer, leaver) = (User::new(), User::new());
    db.add_contact(&viewer, &leaver).await;
    let mut watching = node.socket(&viewer).await;
    let mut page = node.socket_with(&leaver, "&device_id=tab").await;
    watching.wait_until("online", |socket| socket.shows_online(leaver.id)).await;

    // When the page closes: a text body without headers.
    let beacon = |body: Value| {
        let request = node.request(Method::POST, "/api/presence/sign-off");
        testkit::client::send(
            request.header("content-type", "text/plain;charset=UTF-8").body(body.to_string()),
        )
    };
    beacon(json!({ "device_id": "tab", "token": leaver.token })).await.expect_status(204);

    // Then the user is offline at once, and the socket is closed.
    watching.wait_until("offline", |socket| socket.shows_offline(leaver.id)).await;
    page.expect_close(1000).await;

    // Then a beacon without a token, or for a device of another user, changes nothing.
    beacon(json!({ "device_id": "tab" })).await.expect_error(401, "UNAUTHORIZED");
    beacon(json!({ "device_id": "", "token": leaver.token })).await.expect_error(400, "INVALID_REQUEST");
    beacon(json!({ "token": leaver.token })).await.expect_error(400, "INVALID_REQUEST");
    beacon(json!({ "device_id": "no such", "token": leaver.token })).await.expect_status(204);
}

/// At the lowest level, from the server and from the crates that it uses.
#[testkit::test]
async fn logs_contain_no_claims_tokens_or_texts(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let prelude = format!("export RUST_LOG=trace LLM_BASE_URL={} LLM_MODEL=m", model.url());
    let node = db.start_server_process_after(&prelude).await;
    let user = User::with_claims(json!({"email": "c1aim-marker@example.com"}));
    db.execute(include_str!("channel_policies.sql"), &[]).await;
    db.execute(
        "create table public.diary (id int primary key, body text);
         alter table public.diary enable row level security;
         create policy mine on public.diary for select to authenticated using (auth.jwt() ->> 'email' <> body);
         grant select on public.diary to authenticated;
         alter publication supabase_realtime add table public.diary",
        &[],
    )
    .await;
    let status = json!({"status": "busy", "custom_status": "status-marker"});
    node.post(&user, "/api/presence/status", status).await.expect_status(200);
    let made =
        node.post(&user, "/api/conversations", json!({"participant_ids": []})).await.expect_status(201);
    for stream in [false, true] {
        let chat = json!({"conversationId": made["id"], "stream": stream,
            "messages": [{"role": "user", "content": "chat-marker"}]});
        node.post(&user, "/api/v1/ai/chat", chat).await.expect_status(200);
    }
    let completion = json!({"model": "m", "messages": [{"role": "user", "content": "chat-marker"}]});
    node.post(&user, "/v1/chat/completions", completion).await.expect_status(200);
    // The token is in the query string.
    let mut presence = node.socket(&user).await;
    presence.next_message().await;
    presence.send_message(json!({"type": "status", "data": {"status": "status-marker"}})).await;
    presence.find_message("a rejection", |frame| frame["type"] == "error").await;

    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let changes =
        json!([{"event": "*", "schema": "public", "table": "diary", "filter": "body=neq.filter-marker"}]);
    let config = json!({"broadcast": {"self": true, "ack": true}, "postgres_changes": changes});
    socket.join_private("realtime:open:1", &user.token, config).await;
    assert_eq!(socket.wait_for("realtime:open:1", "system").await.payload["status"], "ok");
    socket.broadcast("realtime:open:1", "e", json!({"text": "broadcast-marker"})).await;
    socket.next_broadcast("realtime:open:1").await;
    db.execute("insert into public.diary values (1, 'row-marker')", &[]).await;
    socket.wait_for("realtime:open:1", "postgres_changes").await;
    socket.send_text(r#"["1","2","realtime:open:1","broadcast","frame-marker"#).await;
    socket.heartbeat().await;
    let bad = node.request(Method::POST, "/api/presence/status").bearer_auth("h.token-marker.s");
    testkit::client::send(bad.json(&json!({}))).await.expect_status(401);

    wait_until("the last request is logged", || {
        node.log().iter().any(|line| line.contains("request completed") && line.contains("401"))
    })
    .await;
    let log = node.log();
    assert!(log.iter().any(|line| line.contains(r#""level":"DEBUG""#)), "the level applies");
    let signature = user.token.rsplit('.').next().expect("a signature");
    for secret in ["-marker", signature, SECRET] {
        let lines: Vec<_> = log.iter().filter(|line| line.contains(secret)).collect();
        assert!(lines.is_empty(), "{secret}: {lines:#?}");
    }
}

#[testkit::test]
async fn a_beacon_takes_effect_when_its_connection_closes_before_the_response(db: Arc<TestDatabase>) {
    // Given an online device with an open socket, and a lock on its row.
    let node = db.start_server().await;
    let (viewer, leaver) = (User::new(), User::new());
    db.add_contact(&viewer, &leaver).await;
    let mut watching = node.socket(&viewer).await;
    let _page = node.socket_with(&leaver, "&device_id=tab").await;
    watching.wait_until("online", |socket| socket.shows_online(leaver.id)).await;
    let mut locker = db.connect().await;
    let lock = locker.transaction().await.expect("a transaction");
    let statement = "select from rollcall.presence_devices where user_id = $1 for update";
    lock.execute(statement, &[&leaver.id]).await.expect("locked");

    // When the connection of the beacon is closed while the sign-off waits.
    let body = json!({ "device_id": "tab", "token": leaver.token }).to_string();
    let request = format!(
        "POST /api/presence/sign-off HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(node.address).await.expect("connected");
    connection.write_all(request.as_bytes()).await.expect("sent");
    let waiting = "select exists (select from pg_catalog.pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like '%rollcall.sign_off_mine%')";
    db.wait_until("the sign-off waits", waiting, &[]).await;
    drop(connection);
    // A request on another connection, after which the server has seen the closed one.
    node.get(&viewer, HEALTH_PATH).await.expect_status(200);
    lock.rollback().await.expect("unlocked");

    // Then the sign-off takes effect, long before the server closes the silent socket.
    let offline = watching.wait_until("offline", |socket| socket.shows_offline(leaver.id));
    timeout(Duration::from_secs(15), offline).await.expect("the sign-off took effect");
}

#[testkit::test]
async fn a_status_under_way_at_the_sign_off_does_not_bring_the_device_back(db: Arc<TestDatabase>) {
    // Given an online device, and a lock that its next status waits for and its sign-off does not.
    let node = db.start_server_with(|settings| settings.set("DISCONNECT_GRACE", "20s")).await;
    let (viewer, leaver) = (User::new(), User::new());
    db.add_contact(&viewer, &leaver).await;
    let mut watching = node.socket(&viewer).await;
    let mut page = node.socket_with(&leaver, "&device_id=tab").await;
    page.send_message(json!({"type": "status", "data": {"status": "dnd"}})).await;
    watching.wait_until("dnd", |socket| socket.shows(leaver.id, "online", "dnd")).await;
    let mut locker = db.connect().await;
    let lock = locker.transaction().await.expect("a transaction");
    let statement = "select from rollcall.presence_choices where user_id = $1 for update";
    lock.execute(statement, &[&leaver.id]).await.expect("locked");

    // When the client sends a status, signs its device off, and the lock is released.
    page.send_message(json!({"type": "status", "data": {"status": "busy"}})).await;
    let waiting = "select exists (select from pg_catalog.pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock')";
    db.wait_until("the status waits", waiting, &[]).await;
    let beacon = json!({ "device_id": "tab", "token": leaver.token }).to_string();
    let request = node.request(Method::POST, "/api/presence/sign-off").header("content-type", "text/plain");
    testkit::client::send(request.body(beacon)).await.expect_status(204);
    watching.wait_until("offline", |socket| socket.shows_offline(leaver.id)).await;
    drop(page);
    lock.rollback().await.expect("unlocked");

    // Then the status is kept for the next session, and the device stays offline.
    let chosen = "select chosen = 'busy' from rollcall.presence_choices where user_id = $u";
    db.wait_until("the status is written", chosen, &[("u", leaver.id)]).await;
    let live = "select live from rollcall.presence_devices where user_id = $1";
    assert!(!db.query_row(live, &[&leaver.id]).await.get::<_, bool>(0), "the device is back");
    // A new socket brings it back.
    let _page = node.socket_with(&leaver, "&device_id=tab").await;
    watching.wait_until("busy", |socket| socket.shows(leaver.id, "online", "busy")).await;
}

/// Starts an OTLP collector that forwards the received traces and headers.
async fn start_collector() -> (String, mpsc::Receiver<(HeaderMap, ExportTraceServiceRequest)>) {
    type Sender = mpsc::Sender<(HeaderMap, ExportTraceServiceRequest)>;
    let (sender, receiver) = mpsc::channel(64);
    let take = async |State(sender): State<Sender>, headers: HeaderMap, body: Bytes| {
        let request = ExportTraceServiceRequest::decode(body).expect("is OTLP");
        sender.send((headers, request)).await.expect("the test listens");
    };
    let router = Router::new().route("/v1/traces", post(take)).with_state(sender);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, receiver)
}

#[testkit::test]
async fn traces_reach_a_collector_and_logs_are_json(db: Arc<TestDatabase>) {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    // Given a collector and a server configured to use it.
    let (url, mut collected) = start_collector().await;
    let mut server = Command::new(env!("CARGO_BIN_EXE_rollcall"))
        .env_clear()
        .args(["serve", "--port", "0", "--log-format", "json", "--otlp-endpoint", &url])
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hunter2")
        .env("DATABASE_URL", &db.url)
        .env("JWT_SECRET", SECRET)
        .current_dir(std::env::temp_dir())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(server.stderr.take().expect("is piped")).lines();
    let mut log = Vec::new();
    let base = loop {
        let line =
            timeout(WAIT_TIMEOUT, lines.next_line()).await.expect("in time").expect("reads").expect("more");
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        let message = line["message"].as_str().expect("a message").to_owned();
        log.push(message.clone());
        if let Some((_, url)) = message.split_once("is ready at ") {
            break url.to_owned();
        }
    };

    // When a request belongs to a trace and the server is stopped, as by a closed terminal.
    let user = User::new();
    let response = reqwest::Client::new()
        .get(format!("{base}/api/presence/devices"))
        .bearer_auth(&user.token)
        .header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"))
        .send()
        .await
        .expect("answers");
    assert_eq!(response.status(), 200);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(server.id().expect("runs")).expect("fits"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).expect("the signal is sent");
    assert!(timeout(3 * WAIT_TIMEOUT, server.wait()).await.expect("in time").expect("ends").success());
    let mut rest = String::new();
    lines.into_inner().read_to_string(&mut rest).await.expect("reads");
    for line in rest.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    }
    assert!(rest.contains("shutdown started"), "{rest}");

    // Then the collector has the request as a span of that trace, its statement as a child span, and the API key.
    let mut spans = Vec::new();
    while let Ok(Some((headers, request))) = timeout(Duration::from_millis(500), collected.recv()).await {
        assert_eq!(headers["x-key"], "hunter2");
        for resource in request.resource_spans {
            let attributes = format!("{:?}", resource.resource);
            assert!(attributes.contains("rollcall"), "{attributes}");
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let of_trace: Vec<_> = spans.iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    let named = |name: &str| {
        let found = of_trace.iter().find(|span| span.name == name);
        *found.unwrap_or_else(|| {
            panic!("no span {name} in {:?}", spans.iter().map(|s| &s.name).collect::<Vec<_>>())
        })
    };
    let request = named("GET /api/presence/devices");
    assert_eq!(hex(&request.parent_span_id), "b7ad6b7169203331");
    assert_eq!(named("db.query").parent_span_id, request.span_id);
}
