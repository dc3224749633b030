//! Attacks with many connections on a server with few file descriptors: other clients are served as fast as before.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use testkit::{
    harness::{TestDatabase, TestServer},
    phoenix::anon_key,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

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

/// Opens the connections that `connection` makes, and sends requests of innocent clients meanwhile.
async fn attack(server: &TestServer, bytes: &[u8], from: impl Fn(u8) -> [u8; 4], innocent: [u8; 4]) {
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
    let server = db.start_server_process_with(LIMITS, &[]).await;
    let pid = server.process_id().expect("a process");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process runs");
    let limit = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let numbers: Vec<&str> = limit.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers, ["256", "256"], "the soft limit is raised to the hard limit");

    let (one, many) = (|_| [127, 0, 0, 1], |number| [127, 0, 1, number]);
    let socket = format!(
        "GET /realtime/v1/websocket?apikey={}&vsn=1.0.0 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        anon_key()
    );
    let requests: [&[u8]; 5] = [
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
    ];
    for bytes in requests {
        // From one address, which the innocent client shares, and from as many addresses as connections.
        attack(&server, bytes, one, [127, 0, 0, 1]).await;
        attack(&server, bytes, many, [127, 0, 0, 2]).await;
    }
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
