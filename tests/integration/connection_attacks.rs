//! Attacks with many connections on a server with few file descriptors: other clients are served as fast as before.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use testkit::{
    fake_llm::{FakeLlm, LlmBehavior},
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT, wait_until},
    phoenix::anon_key,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{innocents::Innocents, memory_floods::resident_mib};

/// More than twice as many connections as the server has descriptors for clients.
const CONNECTIONS: u8 = 250;
/// Soft limit and hard limit of the server's descriptors.
const LIMITS: &str = "ulimit -Sn 64 && ulimit -Hn 256";
/// Far above the usual time of a request, and far below the 75 s that a request took without these bounds.
const FAST: Duration = Duration::from_secs(2);

/// Connects from an address of the loopback network.
async fn connect(server: &TestServer, from: [u8; 4], bytes: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((from, 0))).expect("a loopback address");
    let mut stream = timeout(FAST, socket.connect(server.address)).await.expect("in time").expect("accepted");
    // The server may have closed the connection already.
    let _ = stream.write_all(bytes).await;
    stream
}

/// Sends a request as a new client; returns its duration.
async fn request_time(server: &TestServer, from: [u8; 4]) -> Duration {
    let started = Instant::now();
    let request = b"GET /realtime/v1/api/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut stream = connect(server, from, request).await;
    let mut answer = String::new();
    let read = timeout(FAST, stream.read_to_string(&mut answer)).await;
    read.expect("an innocent client's request is fast").expect("an answer");
    assert!(!answer.starts_with("HTTP/1.1 503 ") && answer.starts_with("HTTP/1.1 "), "{answer}");
    started.elapsed()
}

/// Opens connections that send `bytes`, and sends requests of innocent clients meanwhile.
async fn attack(server: &TestServer, bytes: &[u8], from: impl Fn(u8) -> [u8; 4], innocent: [u8; 4]) {
    println!("attack: {:?}", String::from_utf8_lossy(bytes).lines().next());
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let mut stream = connect(server, from(number), bytes).await;
        if bytes.ends_with(b"\r\n\r\n") {
            // Waits for the head of the response; the connection may be refused.
            let _ = timeout(FAST, stream.read(&mut [0; 4096])).await.expect("answered or closed");
        }
        connections.push(stream);
        if number % 10 == 9 {
            request_time(server, innocent).await;
        }
    }
    for _ in 0..20 {
        request_time(server, innocent).await;
    }
    let pid = server.process_id().expect("a process");
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count();
    assert!(open < 256, "{open} descriptors");
}

#[testkit::test(exclusive)]
async fn connections_of_a_stranger_do_not_take_all_descriptors(db: Arc<TestDatabase>) {
    let server = db.start_server_process_after(LIMITS).await;
    let pid = server.process_id().expect("a process");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process runs");
    let limit = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let numbers: Vec<&str> = limit.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers, ["256", "256"], "the soft limit is raised to the hard limit");

    // Sockets in use, from the address of the first attack.
    let mut innocents = Innocents::start(&db, &server).await;
    let (one, many) = (|_| [127, 0, 0, 1], |number| [127, 0, 1, number]);
    let socket = format!(
        "GET /realtime/v1/websocket?apikey={}&vsn=1.0.0 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        anon_key()
    );
    let slow_body = format!(
        "POST /api/presence/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
        Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n{{\"status\":",
        User::new().token
    );
    // Responses of several megabytes.
    let unread = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(8);
    let requests: [&[u8]; 7] = [
        // Silent.
        b"",
        // Half a request.
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        // The preface of HTTP/2 and nothing else.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        // One request, and then idle.
        b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n",
        // A channel socket without a message.
        socket.as_bytes(),
        // A request whose body does not arrive.
        slow_body.as_bytes(),
        // Responses that are not read.
        unread.as_bytes(),
    ];
    for bytes in requests {
        // From one address, which the innocent client shares, and from as many addresses as connections.
        attack(&server, bytes, one, [127, 0, 0, 1]).await;
        attack(&server, bytes, many, [127, 0, 0, 2]).await;
    }
    innocents.assert_undisturbed();
}

#[testkit::test]
async fn a_silent_connection_is_closed_after_the_timeout_of_the_first_request(db: Arc<TestDatabase>) {
    let server = db.start_server_with(|settings| settings.set("FIRST_REQUEST_TIMEOUT", "300ms")).await;
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\n"] {
        let mut stream = connect(&server, [127, 0, 0, 1], bytes).await;
        let closed = timeout(Duration::from_secs(10), stream.read_to_end(&mut Vec::new())).await;
        drop(closed.expect("closed"));
    }
}

/// A channel socket that has sent a message is not idle: it keeps its place.
#[testkit::test]
async fn silent_connections_do_not_close_sockets_in_use(db: Arc<TestDatabase>) {
    let server =
        db.start_server_with(|settings| settings.set("MAX_SILENT_CONNECTIONS_PER_ADDRESS", "2")).await;
    let mut client = server.channel_client(testkit::phoenix::SerializerVersion::V2).await;
    client.heartbeat().await;
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(connect(&server, [127, 0, 0, 1], b"").await);
    }
    for stream in &mut silent[..4] {
        let closed = timeout(Duration::from_secs(10), stream.read_to_end(&mut Vec::new())).await;
        drop(closed.expect("the oldest silent connections are closed"));
    }
    client.heartbeat().await;
}

async fn server_with_stall_timeout(db: &TestDatabase, model: &FakeLlm) -> Arc<TestServer> {
    let url = model.url();
    db.start_server_with(|settings| {
        settings.set("STALL_TIMEOUT", "500ms");
        settings.set("LLM_BASE_URL", url);
        settings.set("LLM_MODEL", "m");
        settings.set("CHAT_REQUESTS_PER_MINUTE", "0");
    })
    .await
}

fn post(path: &str, token: &str, body_bytes: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
        Content-Length: {body_bytes}\r\n\r\n"
    )
}

/// Sends a byte now and then until the connection is closed; returns what was received.
async fn trickle(mut stream: TcpStream, byte: &[u8]) -> String {
    let mut received = Vec::new();
    let closed = async {
        loop {
            if stream.write_all(byte).await.is_err() {
                return;
            }
            let mut buffer = [0; 4096];
            match timeout(Duration::from_millis(50), stream.read(&mut buffer)).await {
                Err(_) => {}
                Ok(Ok(bytes @ 1..)) => received.extend_from_slice(&buffer[..bytes]),
                Ok(_) => return,
            }
        }
    };
    timeout(WAIT_TIMEOUT, closed).await.expect("closed");
    String::from_utf8_lossy(&received).into_owned()
}

#[testkit::test]
async fn a_body_that_arrives_byte_by_byte_is_given_up(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let server = server_with_stall_timeout(&db, &model).await;
    let token = User::new().token;
    // Routes with the usual timeout and with one of minutes, with a length and in chunks.
    for path in ["/api/presence/status", "/api/v1/ai/chat", "/v1/chat/completions", "/api/presence/sign-off"]
    {
        let head = post(path, &token, 60_000);
        let chunked = head.replace("Content-Length: 60000", "Transfer-Encoding: chunked");
        for (head, byte) in [(head, &b" "[..]), (chunked, b"1\r\n \r\n")] {
            let stream = connect(&server, [127, 0, 0, 1], head.as_bytes()).await;
            let answer = trickle(stream, byte).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
        }
    }
    // A slow client that is not too slow: more than the timeout in total.
    let body = format!("{{\"status\": \"busy\"{}}}", " ".repeat(60_000));
    let mut stream =
        connect(&server, [127, 0, 0, 1], post("/api/presence/status", &token, body.len()).as_bytes()).await;
    for part in body.as_bytes().chunks(8 * 1024) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(part).await.expect("the connection is open");
    }
    let mut answer = [0; 12];
    timeout(WAIT_TIMEOUT, stream.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
}

/// Connects with a small receive buffer and never reads.
async fn connect_unread(server: &TestServer, bytes: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a size");
    let mut stream = socket.connect(server.address).await.expect("accepted");
    stream.write_all(bytes).await.expect("sent");
    stream
}

/// Waits until the server has closed the connection, without reading.
async fn wait_until_reset(stream: &mut TcpStream) {
    let closed = async {
        while stream.write_all(b"\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_TIMEOUT, closed).await.expect("closed");
}

#[testkit::test]
async fn a_client_that_does_not_read_its_responses_is_closed(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let server = server_with_stall_timeout(&db, &model).await;
    let requests = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(8);
    let mut stream = connect_unread(&server, requests.as_bytes()).await;
    wait_until_reset(&mut stream).await;

    // Over HTTP/2 with a window of no bytes: the connection itself is read.
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    let fields = [&[0x82, 0x86, 0x01, 1, b'x', 0x04, 13][..], b"/openapi.json"].concat();
    bytes.extend([0, 0, u8::try_from(fields.len()).expect("short"), 1, 5, 0, 0, 0, 1]);
    bytes.extend(fields);
    let mut stream = connect(&server, [127, 0, 0, 1], &bytes).await;
    let closed = timeout(WAIT_TIMEOUT, stream.read_to_end(&mut Vec::new())).await;
    drop(closed.expect("closed"));
}

/// A pool of four connections, more attackers than that, and an innocent client.
#[testkit::test]
async fn slow_clients_hold_no_database_connection_and_no_answer(db: Arc<TestDatabase>) {
    let model = FakeLlm::start().await;
    let server = server_with_stall_timeout(&db, &model).await;
    let innocent = User::new();
    let chat = r#"{"model": "m", "stream": true, "messages": [{"role": "user", "content": "x"}]}"#;
    let mut clients = Vec::new();
    for _ in 0..8 {
        model.enqueue([LlmBehavior::Endless { every_ms: 1 }]);
        let user = User::new();
        let request = post("/v1/chat/completions", &user.token, chat.len()) + chat;
        clients.push(connect_unread(&server, request.as_bytes()).await);
        let slow = post("/api/presence/status", &user.token, 60_000) + "{";
        clients.push(connect_unread(&server, slow.as_bytes()).await);
    }
    wait_until("the answers are streamed", || model.open_streams() > 4).await;
    while model.open_streams() > 0 {
        let started = Instant::now();
        server.get(&innocent, "/api/presence/status").await.expect_status(200);
        assert!(started.elapsed() < FAST, "{:?}", started.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for client in &mut clients {
        wait_until_reset(client).await;
    }
}

/// Bodies of almost 1 MB that never end, and sockets that are not read while a user changes often. Twice, because the first
/// time fills pools that stay.
#[testkit::test(exclusive)]
async fn memory_of_slow_clients_is_bounded(db: Arc<TestDatabase>) {
    const BODIES: u8 = 60;
    const SOCKETS: usize = 60;
    const SENT: usize = 900_000;
    let server = db.start_server_process().await;
    let (innocent, friend) = (User::new(), User::new());
    db.add_contact(&innocent, &friend).await;
    let _own = server.socket(&innocent).await;
    let mut watching = server.socket(&friend).await;
    watching.wait_until("the innocent user", |socket| socket.shows_online(innocent.id)).await;
    let attackers = User::many(10);
    for attacker in &attackers {
        db.add_contact(&innocent, attacker).await;
    }
    let attack = async || {
        let mut held = Vec::new();
        for number in 0..BODIES {
            let user = &attackers[usize::from(number) % attackers.len()];
            let head = post("/v1/chat/completions", &user.token, 1_000_000);
            let mut stream = connect(&server, [127, 0, 7, number], head.as_bytes()).await;
            let body = vec![b' '; SENT];
            // The server reads as much as it accepts.
            let _ = timeout(Duration::from_millis(500), stream.write_all(&body)).await;
            held.push(stream);
        }
        for number in 0..SOCKETS {
            held.push(server.stalled_socket(&attackers[number % attackers.len()]).await);
        }
        for turn in 0..20 {
            let started = Instant::now();
            let body = serde_json::json!({"device_id": "phone", "active": true});
            server.post(&innocent, "/api/presence/heartbeat", body).await.expect_status(200);
            assert!(started.elapsed() < FAST, "{:?}", started.elapsed());
            let activity = format!("{turn}{}", "x".repeat(200));
            let update =
                format!("update rollcall.presence_devices set activity = '{activity}' where user_id = $user");
            db.execute(&update, &[("user", innocent.id)]).await;
        }
        (resident_mib(&server), held)
    };
    drop(attack().await);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = resident_mib(&server);
    let (during, held) = attack().await;
    println!("{before} MiB before, {during} MiB during the attack");
    // What the attackers sent is 54 MB.
    assert!(during < before + 150, "{before} MiB before, {during} MiB during the attack");
    drop(held);
    assert!(watching.shows_online(innocent.id), "the innocent user was online all the time");
    watching
        .wait_until("the last change", |socket| {
            socket.presences[&innocent.id]["activity"].to_string().starts_with("\"19x")
        })
        .await;
    assert!(watching.shows_online(innocent.id));
}
