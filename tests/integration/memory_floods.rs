//! Floods that fill memory, by users and by strangers with the anon key: after each, resident memory returns, and users
//! who have no part in it are served as before.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use testkit::{
    harness::{TestDatabase, TestServer, User, mint_token, unix_time_in},
    phoenix::{PhoenixClient, SerializerVersion, anon_key},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{changes_harness::NOTES, innocents::Innocents};

/// Resident memory returns to its start plus this, in MiB. Pools and tables that grew once keep their size.
const KEPT_MIB: u64 = 16;
/// Time until it has returned. The allocator keeps freed memory for 1 s; the rest is for clean-up after the disconnect.
const RETURN_TIME: Duration = Duration::from_secs(10);
const CLIENTS: usize = 40;
/// Bytes of each unfinished body, unfinished frame and long filter.
const LONG: usize = 900_000;
/// Limit of the attacker's own waiting: the server reads as much as it accepts.
const SEND_TIMEOUT: Duration = Duration::from_millis(500);

/// Resident memory of the server's process, in MiB.
pub fn resident_mib(server: &TestServer) -> u64 {
    let pid = server.process_id().expect("a process");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1_024
}

/// What an attack holds open.
#[derive(Default)]
struct Held {
    streams: Vec<TcpStream>,
    clients: Vec<PhoenixClient>,
}

type Flood = for<'a> fn(&'a TestServer) -> Pin<Box<dyn Future<Output = Held> + Send + 'a>>;

async fn send(server: &TestServer, head: &str, rest: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.expect("accepted");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let _ = timeout(SEND_TIMEOUT, stream.write_all(rest)).await;
    stream
}

/// Bodies that never end.
async fn unfinished_bodies(server: &TestServer) -> Held {
    let mut held = Held::default();
    for _ in 0..CLIENTS {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
            Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n",
            User::new().token
        );
        held.streams.push(send(server, &head, &vec![b' '; LONG]).await);
    }
    held
}

/// Bodies of arrays in arrays, in full.
async fn nested_bodies(server: &TestServer) -> Held {
    let mut held = Held::default();
    let body = "[".repeat(60_000);
    for path in ["/api/presence/status", "/v1/chat/completions", "/realtime/v1/api/broadcast"] {
        for _ in 0..CLIENTS {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
                Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                User::new().token,
                body.len()
            );
            let mut stream = send(server, &head, body.as_bytes()).await;
            let mut answer = String::new();
            let read = timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await;
            read.expect("in time").expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
        }
    }
    held.streams.clear();
    held
}

/// Frames that never end, one in fragments.
async fn unfinished_frames(server: &TestServer) -> Held {
    let mut held = Held::default();
    for number in 0..CLIENTS {
        let mut stream = send(
            server,
            &format!(
                "GET /realtime/v1/websocket?apikey={}&vsn=2.0.0 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
                Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                anon_key()
            ),
            b"",
        )
        .await;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.expect("a response");
        assert_eq!(&head, b"HTTP/1.1 101");
        let mut bytes = Vec::new();
        if number % 2 == 0 {
            // One frame of LONG bytes without its last byte.
            bytes.extend([0x81, 0x80 | 127]);
            bytes.extend(u64::try_from(LONG).expect("fits").to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend(vec![b'x'; LONG - 1]);
        } else {
            // A message of fragments that has no last one.
            for part in 0..LONG / 60_000 {
                bytes.extend([if part == 0 { 0x01 } else { 0x00 }, 0x80 | 126]);
                bytes.extend(60_000_u16.to_be_bytes());
                bytes.extend([0; 4]);
                bytes.extend(vec![b'x'; 60_000]);
            }
        }
        let _ = timeout(SEND_TIMEOUT, stream.write_all(&bytes)).await;
        held.streams.push(stream);
    }
    held
}

/// Long filters, refused and accepted.
async fn long_filters(server: &TestServer) -> Held {
    let mut held = Held::default();
    for number in 0..CLIENTS / 4 {
        let mut client = server.channel_client(SerializerVersion::V2).await;
        for (length, operator) in [(700_000, "neq"), (300_000, "eq"), (100_000, "ilike"), (50_000, "in")] {
            let text = "x".repeat(length);
            let value =
                if operator == "in" { format!("({number},{text})") } else { format!("{number}{text}") };
            let change = json!({"event": "*", "schema": "public", "table": "notes", "filter": format!("title={operator}.{value}")});
            let topic = format!("realtime:{operator}-{number}");
            client.try_join(&topic, json!({"config": {"postgres_changes": [change]}})).await;
        }
        held.clients.push(client);
    }
    held
}

/// Many channels, members and subscriptions, with long topics of any characters.
async fn many_subscriptions(server: &TestServer) -> Held {
    const CHANNELS: usize = 10;
    let clients = (0..CLIENTS / 4).map(async |number| {
        let mut client = server.channel_client(SerializerVersion::V2).await;
        let mut joined = 0;
        for channel in 0..CHANNELS {
            let changes: Vec<_> = (0..5)
                .map(|n| json!({"event": "*", "schema": "public", "table": "notes", "filter": format!("title=neq.{number}-{channel}-{n}")}))
                .collect();
            let topic = format!("realtime:{}{number}-{channel}", "\u{1F600}\u{202E}e\u{301}".repeat(20));
            let presence = json!({"enabled": true, "key": "k".repeat(100)});
            let config = json!({"presence": presence, "postgres_changes": changes});
            let reply = client.try_join(&topic, json!({"config": config})).await;
            joined += usize::from(reply["status"] == "ok");
        }
        assert!(joined > CHANNELS / 2, "{joined} joined");
        client
    });
    Held { clients: join_all(clients).await, ..Held::default() }
}

/// Streams of events that are opened and not read, of users and of strangers.
async fn unread_event_streams(server: &TestServer) -> Held {
    let mut held = Held::default();
    let anon = mint_token(&json!({"role": "anon", "exp": unix_time_in(3_600)}));
    for number in 0..CLIENTS {
        for path in [
            format!("/api/presence/events?token={}", User::new().token),
            format!("/realtime/v1/sse?topic=unread&apikey={anon}"),
        ] {
            let mut stream = send(server, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"), b"").await;
            let mut head = [0; 12];
            stream.read_exact(&mut head).await.expect("a response");
            assert_eq!(&head, b"HTTP/1.1 200", "{number}");
            held.streams.push(stream);
        }
    }
    let mut sender = server.channel_client(SerializerVersion::V2).await;
    sender.join("realtime:unread", json!({})).await;
    for _ in 0..30 {
        sender.broadcast("realtime:unread", "e", json!({"text": "x".repeat(30_000)})).await;
    }
    held
}

/// Waits until resident memory is at most `limit` MiB; returns the last measurement.
async fn wait_for_memory(server: &TestServer, limit: u64) -> (u64, Duration) {
    let started = Instant::now();
    loop {
        let now = resident_mib(server);
        if now <= limit || started.elapsed() > RETURN_TIME {
            return (now, started.elapsed());
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[testkit::test(exclusive, no_timeout)]
async fn memory_returns_after_each_flood(db: Arc<TestDatabase>) {
    const FLOODS: [(&str, Flood); 6] = [
        ("unfinished bodies", |server| Box::pin(unfinished_bodies(server))),
        ("nested bodies", |server| Box::pin(nested_bodies(server))),
        ("unfinished frames", |server| Box::pin(unfinished_frames(server))),
        ("long filters", |server| Box::pin(long_filters(server))),
        ("many subscriptions", |server| Box::pin(many_subscriptions(server))),
        ("unread event streams", |server| Box::pin(unread_event_streams(server))),
    ];
    db.execute(NOTES, &[]).await;
    let server = db.start_server_process_after("export HEARTBEATS_PER_MINUTE=0").await;
    let mut innocents = Innocents::start(&db, &server).await;
    let mut first = server.channel_client(SerializerVersion::V2).await;
    let changes = json!([{"event": "*", "schema": "public", "table": "notes"}]);
    first.join("realtime:first", json!({"postgres_changes": changes})).await;
    first.wait_for("realtime:first", "system").await;
    let quiet = innocents.quiet_times().await;
    let start = resident_mib(&server);
    for (name, flood) in FLOODS {
        // One of three attempts is without noise of other processes. Memory returns after each.
        let mut is_fast = false;
        for _ in 0..3 {
            let (held, times) = innocents.times_during(flood(&server)).await;
            let during = resident_mib(&server);
            drop(held);
            let (after, time) = wait_for_memory(&server, start + KEPT_MIB).await;
            println!("{name}: {start} MiB at the start, {during} during the flood, {after} after {time:?}");
            assert!(
                after <= start + KEPT_MIB,
                "{name}: {start} MiB at the start, {after} MiB after the flood"
            );
            innocents.assert_undisturbed();
            is_fast = times.is_as_fast_as(&quiet);
            if is_fast {
                break;
            }
        }
        assert!(is_fast, "{name} delays others");
    }
}
