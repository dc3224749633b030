//! Peers that say nothing, and timers.

use std::time::Duration;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::server::{Happened, Server};
use crate::{
    hub::HubSettings,
    transport::{AcceptSettings, CloseCode, CloseReason, ConnectionSettings, Heartbeat},
};

/// A hundred times as fast as the default, roughly.
async fn hasty() -> Server {
    let heartbeat = Heartbeat {
        ping_every: Duration::from_millis(300),
        answer_within: Duration::from_millis(100),
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
async fn a_peer_that_answers_no_ping_falls_silent_and_is_closed_after_the_second() {
    let mut server = hasty().await;
    let mut raw = server.raw(b"").await;
    server.opened().await;
    let opened = Instant::now();
    assert_eq!(raw.next().await, Some(PING));
    assert_eq!(server.next().await, Happened::Silent(true));
    assert!(opened.elapsed() >= Duration::from_millis(350), "{:?}", opened.elapsed());
    assert_eq!(raw.next().await, Some(PING));
    assert_eq!(server.next().await, Happened::Closed(CloseReason::Dead));
    assert!(opened.elapsed() >= Duration::from_millis(650), "{:?}", opened.elapsed());
    assert_eq!(raw.next().await, None);
}

#[tokio::test]
async fn a_peer_that_comes_back_is_heard_again_and_told_so_on_the_edge_only() {
    let mut server = hasty().await;
    let mut raw = server.raw(b"").await;
    server.opened().await;
    assert_eq!(server.next().await, Happened::Silent(true));
    raw.frame(0x8a, b"").await;
    assert_eq!(server.next().await, Happened::Silent(false));
    raw.frame(0x81, b"hello").await;
    while raw.next().await.expect("open") == PING {}
    raw.frame(0x88, b"").await;
    assert_eq!(server.next().await, Happened::Closed(CloseReason::Peer(None)));
}

#[tokio::test]
async fn a_peer_that_answers_stays() {
    let mut server = hasty().await;
    let mut client = server.client().await;
    server.opened().await;
    for _ in 0..3 {
        // The client's library answers while it reads.
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
    assert!(matches!(server.next().await, Happened::Closed(CloseReason::Peer(_))));
}

#[tokio::test]
async fn the_session_s_timer_fires_once_and_not_early() {
    let mut server = hasty().await;
    let mut client = server.client().await;
    server.opened().await;
    let set = Instant::now();
    client.send(Message::text("wake")).await;
    assert_eq!(server.next().await, Happened::Timer);
    assert!(set.elapsed() >= Duration::from_millis(60));
    assert_eq!(client.closed().await, (4401, "token expired".to_owned()));
    assert_eq!(server.next().await, Happened::Closed(CloseReason::Ours(CloseCode::TokenExpired)));
}
