//! Tests of silent peers and session timers.

use std::time::Duration;

use tokio::{net::TcpStream, time::Instant};
use tokio_tungstenite::tungstenite::Message;

use super::server::{RawClient, Server, SessionEvent, TextMessage};
use crate::{
    hub::HubSettings,
    transport::{AcceptSettings, CloseCode, CloseReason, ConnectionSettings, Heartbeat},
};

/// Timings about 100 times shorter than the defaults.
async fn fast_keepalive_server() -> Server {
    let heartbeat = Heartbeat {
        ping_interval: Duration::from_millis(300),
        pong_timeout: Duration::from_millis(100),
        tick: Duration::from_millis(10),
    };
    let settings = HubSettings {
        connections: ConnectionSettings { heartbeat, ..Default::default() },
        ..Default::default()
    };
    Server::with(settings, AcceptSettings::default()).await
}

const PING: (u8, Vec<u8>) = (0x89, Vec::new());

#[tokio::test]
async fn a_peer_is_unresponsive_after_one_missed_pong_and_closed_after_two() {
    let mut server = fast_keepalive_server().await;
    let mut raw = server.connect_raw(b"").await;
    server.opened().await;
    let opened = Instant::now();
    assert_eq!(raw.next().await, Some(PING));
    assert_eq!(server.next_event().await, SessionEvent::Unresponsive(true));
    assert!(opened.elapsed() >= Duration::from_millis(350), "{:?}", opened.elapsed());
    assert_eq!(raw.next().await, Some(PING));
    assert_eq!(server.next_event().await, SessionEvent::Closed(CloseReason::PingTimeout));
    assert!(opened.elapsed() >= Duration::from_millis(650), "{:?}", opened.elapsed());
    assert_eq!(raw.next().await, None);
}

#[tokio::test]
async fn a_returning_peer_is_reported_as_responsive_once() {
    let mut server = fast_keepalive_server().await;
    let mut raw = server.connect_raw(b"").await;
    server.opened().await;
    assert_eq!(server.next_event().await, SessionEvent::Unresponsive(true));
    raw.send_frame(0x8a, b"").await;
    assert_eq!(server.next_event().await, SessionEvent::Unresponsive(false));
    raw.send_frame(0x81, b"hello").await;
    while raw.next().await.expect("open") == PING {}
    raw.send_frame(0x88, b"").await;
    assert_eq!(server.next_event().await, SessionEvent::Closed(CloseReason::Peer(None)));
}

#[tokio::test]
async fn a_peer_that_answers_pings_stays_connected() {
    let mut server = fast_keepalive_server().await;
    let mut client = server.connect().await;
    server.opened().await;
    for _ in 0..3 {
        // The client library answers pings while it reads.
        assert!(client.next().await.is_ping());
    }
    client.send(Message::text("still here")).await;
    loop {
        match client.next().await {
            Message::Ping(_) => {}
            message => break assert_eq!(message, Message::text("still here")),
        }
    }
    client.send(Message::Close(None)).await;
    assert!(matches!(server.next_event().await, SessionEvent::Closed(CloseReason::Peer(_))));
}

#[tokio::test]
async fn the_session_timer_fires_once_and_not_early() {
    let mut server = fast_keepalive_server().await;
    let mut client = server.connect().await;
    server.opened().await;
    let started = Instant::now();
    client.send(Message::text("wake")).await;
    assert_eq!(server.next_event().await, SessionEvent::Timer);
    assert!(started.elapsed() >= Duration::from_millis(60));
    assert_eq!(client.closed().await, (4401, "token expired".to_owned()));
    assert_eq!(server.next_event().await, SessionEvent::Closed(CloseReason::Server(CloseCode::TokenExpired)));
}

#[tokio::test]
async fn a_stream_of_events_gets_comments_and_ends_with_its_client() {
    let mut server = fast_keepalive_server().await;
    let mut client = RawClient(TcpStream::connect(server.addr).await.expect("accepted"));
    client.send(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let head = client.read_until(b"\r\n\r\n").await;
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
    let id = server.opened().await;
    // Longer than a socket that answers no ping would live.
    for _ in 0..4 {
        assert_eq!(client.read_until(b":\n\n\r\n").await, b"3\r\n:\n\n\r\n");
    }
    server.hub.connection(id).expect("open").send_message(&TextMessage("{\n}".into())).expect("open");
    let event = client.read_until(b"\n\n\r\n").await;
    assert!(event.ends_with(b"data: {\ndata: }\n\n\r\n"), "{}", String::from_utf8_lossy(&event));
    drop(client);
    assert!(matches!(server.next_event().await, SessionEvent::Closed(_)));
}
