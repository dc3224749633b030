//! How connections end: by the peer, by us, by accident, by shutdown.

use std::time::Duration;

use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode as Number},
};

use super::server::{Happened, Server, soon};
use crate::{
    hub::{HubSettings, ShutdownPlan},
    transport::{AcceptSettings, CloseCode, CloseReason, ConnectionSettings, FloodLimits},
};

#[tokio::test]
async fn the_peer_s_close_is_echoed_and_the_session_hears_of_it_once() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let id = server.opened().await;
    client.send(Message::Close(Some(CloseFrame { code: Number::from(4000), reason: "bye".into() }))).await;
    assert_eq!(client.closed().await.0, 4000);
    assert_eq!(server.next().await, Happened::Closed(CloseReason::Peer(Some(4000))));
    soon(async {
        while server.hub.connection(id).is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(server.hub.connection_count(), 0);
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_lost() {
    let mut server = Server::start().await;
    let raw = server.raw(b"").await;
    server.opened().await;
    drop(raw);
    assert!(matches!(server.next().await, Happened::Closed(CloseReason::Lost | CloseReason::Failed(_))));
}

#[tokio::test]
async fn a_session_closes_with_its_code_and_reason() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    server.opened().await;
    client.send(Message::text("close")).await;
    assert_eq!(client.closed().await, (4001, "as you like".to_owned()));
    assert_eq!(server.next().await, Happened::Closed(CloseReason::Ours(CloseCode::Unauthorized)));
}

#[tokio::test]
async fn anybody_can_close_a_connection_by_its_id() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let id = server.opened().await;
    server.hub.connection(id).expect("registered").close(CloseCode::PolicyViolation, "signed off");
    assert_eq!(client.closed().await, (1008, "signed off".to_owned()));
    assert_eq!(server.next().await, Happened::Closed(CloseReason::Ours(CloseCode::PolicyViolation)));
}

#[tokio::test]
async fn a_panic_ends_its_own_connection_only() {
    let mut server = Server::start().await;
    let mut other = server.client().await;
    server.opened().await;
    let mut client = server.client().await;
    server.opened().await;
    client.send(Message::text("panic")).await;
    assert_eq!(client.closed().await.0, 1011);
    assert_eq!(server.next().await, Happened::Closed(CloseReason::Panicked));
    other.send(Message::text("still here")).await;
    assert_eq!(other.next().await, Message::text("still here"));
}

#[tokio::test]
async fn who_floods_is_told_once_and_then_closed() {
    let flood = FloodLimits { messages_per_second: 10, burst: 20, close_after_seconds: 2 };
    let settings =
        HubSettings { connections: ConnectionSettings { flood, ..Default::default() }, ..Default::default() };
    let server = Server::with(settings, AcceptSettings::default()).await;
    let mut client = server.client().await;
    for _ in 0..30 {
        client.send(Message::text("hello")).await;
    }
    for _ in 0..20 {
        assert_eq!(client.next().await, Message::text("hello"));
    }
    let error: serde_json::Value =
        serde_json::from_str(client.next().await.to_text().expect("text")).expect("JSON");
    assert_eq!((&error["type"], &error["code"]), (&"error".into(), &"RATE_LIMITED".into()));
    assert!(error["retry_after_ms"].as_u64().expect("a number") <= 100);
    tokio::time::sleep(Duration::from_millis(150)).await;
    client.send(Message::text("heard again")).await;
    assert_eq!(client.next().await, Message::text("heard again"));
    assert!(server.hub.stats().refused >= 9);

    let mut raw = server.raw(b"").await;
    let flooding = soon(async {
        loop {
            for _ in 0..10 {
                raw.frame(0x81, b"x").await;
            }
            while let Ok(Some((first, payload))) =
                tokio::time::timeout(Duration::from_millis(20), raw.next()).await
            {
                if first == 0x88 {
                    return payload;
                }
            }
        }
    });
    assert_eq!(&flooding.await[..2], &4429u16.to_be_bytes());
}

#[tokio::test]
async fn shutdown_tells_everybody_when_to_come_back() {
    let mut server = Server::start().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(server.client().await);
        server.opened().await;
    }
    let hub = server.hub.clone();
    let plan = ShutdownPlan { at_once: 3, ..ShutdownPlan::default() };
    let stopping = tokio::spawn(async move { hub.shutdown(plan).await });
    // Three at a time leave, in an order that is nobody's business.
    let farewells = clients.into_iter().map(|mut client| tokio::spawn(async move { client.closed().await }));
    for farewell in farewells.collect::<Vec<_>>() {
        let (code, reason) = soon(farewell).await.expect("no panic");
        assert_eq!(code, 1001);
        assert!(reason.starts_with("going away; reconnect in "), "{reason}");
    }
    assert_eq!(soon(stopping).await.expect("no panic"), 0);
    for _ in 0..20 {
        assert_eq!(server.next().await, Happened::Closed(CloseReason::Ours(CloseCode::GoingAway)));
    }
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let mut server = Server::start().await;
    // Never reads, never hangs up.
    let _stuck = server.raw(b"").await;
    server.opened().await;
    let plan = ShutdownPlan { within: Duration::from_millis(100), ..ShutdownPlan::default() };
    assert_eq!(soon(server.hub.shutdown(plan)).await, 1);
    assert!(server.hub.fan_out(Vec::new()).await.is_ok());
}
