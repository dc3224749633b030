//! Tests of how connections close: by the peer, the server, errors and shutdown.

use std::time::Duration;

use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode as Number},
};

use super::server::{Server, SessionEvent, in_time};
use crate::{
    hub::{HubSettings, ShutdownPlan},
    transport::{AcceptSettings, CloseCode, CloseReason, ConnectionSettings, MessageRateLimits},
};

#[tokio::test]
async fn a_peer_close_is_echoed_and_closes_the_session_once() {
    let mut server = Server::start().await;
    let mut client = server.connect().await;
    let id = server.opened().await;
    client.send(Message::Close(Some(CloseFrame { code: Number::from(4000), reason: "bye".into() }))).await;
    assert_eq!(client.closed().await.0, 4000);
    assert_eq!(server.next_event().await, SessionEvent::Closed(CloseReason::Peer(Some(4000))));
    in_time(async {
        while server.hub.connection(id).is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(server.hub.connection_count(), 0);
}

#[tokio::test]
async fn a_peer_that_disconnects_is_lost() {
    let mut server = Server::start().await;
    let raw = server.connect_raw(b"").await;
    server.opened().await;
    drop(raw);
    assert!(matches!(
        server.next_event().await,
        SessionEvent::Closed(CloseReason::Lost | CloseReason::Failed(_))
    ));
}

#[tokio::test]
async fn a_session_closes_with_its_code_and_reason() {
    let mut server = Server::start().await;
    let mut client = server.connect().await;
    server.opened().await;
    client.send(Message::text("close")).await;
    assert_eq!(client.closed().await, (4001, "as you like".to_owned()));
    assert_eq!(server.next_event().await, SessionEvent::Closed(CloseReason::Server(CloseCode::Unauthorized)));
}

#[tokio::test]
async fn the_hub_closes_a_connection_by_id() {
    let mut server = Server::start().await;
    let mut client = server.connect().await;
    let id = server.opened().await;
    server.hub.connection(id).expect("registered").close(CloseCode::PolicyViolation, "signed off");
    assert_eq!(client.closed().await, (1008, "signed off".to_owned()));
    assert_eq!(
        server.next_event().await,
        SessionEvent::Closed(CloseReason::Server(CloseCode::PolicyViolation))
    );
}

#[tokio::test]
async fn a_panic_ends_its_own_connection_only() {
    let mut server = Server::start().await;
    let mut other = server.connect().await;
    server.opened().await;
    let mut client = server.connect().await;
    server.opened().await;
    client.send(Message::text("panic")).await;
    assert_eq!(client.closed().await.0, 1011);
    assert_eq!(server.next_event().await, SessionEvent::Closed(CloseReason::Panicked));
    other.send(Message::text("still here")).await;
    assert_eq!(other.next().await, Message::text("still here"));
}

#[tokio::test]
async fn a_client_over_the_rate_limit_is_notified_once_and_then_closed() {
    let message_rate = MessageRateLimits { messages_per_second: 10, burst: 20, close_after_seconds: 2 };
    let settings = HubSettings {
        connections: ConnectionSettings { message_rate, ..Default::default() },
        ..Default::default()
    };
    let server = Server::with(settings, AcceptSettings::default()).await;
    let mut client = server.connect().await;
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
    client.send(Message::text("allowed again")).await;
    assert_eq!(client.next().await, Message::text("allowed again"));
    assert!(server.hub.stats().rate_limited_messages >= 9);

    let mut raw = server.connect_raw(b"").await;
    let close_frame = in_time(async {
        loop {
            for _ in 0..10 {
                raw.send_frame(0x81, b"x").await;
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
    assert_eq!(&close_frame.await[..2], &4429u16.to_be_bytes());
}

#[tokio::test]
async fn shutdown_sends_a_reconnect_delay_to_all_connections() {
    let mut server = Server::start().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(server.connect().await);
        server.opened().await;
    }
    let hub = server.hub.clone();
    let plan = ShutdownPlan { batch_size: 3, ..ShutdownPlan::default() };
    let stopping = tokio::spawn(async move { hub.shutdown(plan).await });
    // Connections close three at a time, in any order.
    let closes = clients.into_iter().map(|mut client| tokio::spawn(async move { client.closed().await }));
    for close in closes.collect::<Vec<_>>() {
        let (code, reason) = in_time(close).await.expect("no panic");
        assert_eq!(code, 1001);
        assert!(reason.starts_with("going away; reconnect in "), "{reason}");
    }
    assert_eq!(in_time(stopping).await.expect("no panic"), 0);
    for _ in 0..20 {
        assert_eq!(
            server.next_event().await,
            SessionEvent::Closed(CloseReason::Server(CloseCode::GoingAway))
        );
    }
}

#[tokio::test]
async fn shutdown_aborts_after_the_timeout() {
    let mut server = Server::start().await;
    // Never reads, never hangs up.
    let _stuck = server.connect_raw(b"").await;
    server.opened().await;
    let plan = ShutdownPlan { timeout: Duration::from_millis(100), ..ShutdownPlan::default() };
    assert_eq!(in_time(server.hub.shutdown(plan)).await, 1);
    assert!(server.hub.fan_out(Vec::new()).await.is_ok());
}
