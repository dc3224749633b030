//! Limits that apply to more than one channel. Exceeding a limit is reported to the sender and affects no other client.
//! docs/protocol/realtime.md lists the others: "Channel limit", "Oversized broadcast", "Message rate limit" and
//! "Presence rate limit".

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::{
    harness::{TestDatabase, TestServer},
    phoenix::{PhoenixClient, QUIET_PERIOD, SerializerVersion, anon_key},
};

const TOPIC: &str = "realtime:room";

async fn join_topic(node: &TestServer, vsn: SerializerVersion, config: Value) -> PhoenixClient {
    let mut socket = node.channel_client(vsn).await;
    socket.join(TOPIC, config).await;
    socket
}

/// Rates are averages over clock-aligned periods of at least five seconds. With a limit of one per second the fifth
/// push exceeds it, or the tenth if a period ends in between.
const MAX_CONNECTIONS: i32 = 10;

#[testkit::test]
async fn exceeding_the_byte_limit_closes_the_channel(db: Arc<TestDatabase>) {
    let node =
        db.start_server_with(|settings| settings.set("REALTIME_MAX_CLIENT_BYTES_PER_SECOND", "10000")).await;
    for vsn in SerializerVersion::BOTH {
        let mut listener = join_topic(&node, vsn, json!({})).await;
        let mut sender = join_topic(&node, vsn, json!({})).await;
        sender.join("realtime:other", json!({"broadcast": {"ack": true}})).await;
        let large = json!({"s": "x".repeat(10_000)});
        for _ in 0..=MAX_CONNECTIONS {
            sender.broadcast(TOPIC, "large", large.clone()).await;
        }
        assert_eq!(sender.expect_channel_error(TOPIC).await, "Too many bytes per second");
        sender.heartbeat().await;
        let received = listener.frames_within(QUIET_PERIOD).await;
        assert!((4..=MAX_CONNECTIONS as usize).contains(&received.len()), "{}", received.len());
        assert!(received.iter().all(|frame| frame.event == "broadcast"), "who listens stays");
        // The other member and the sender's other channel are not affected.
        let reference = listener.push(TOPIC, "presence", json!({"event": "untrack"})).await;
        assert_eq!(listener.wait_for_reply(&reference).await["status"], "ok");
        sender.leave("realtime:other").await;
    }
}

#[testkit::test]
async fn joins_over_the_rate_limit_are_rejected_without_a_close(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("REALTIME_MAX_JOINS_PER_SECOND", "1")).await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let mut joins = 0;
    let refused = loop {
        let reply = socket.try_join(&format!("realtime:{joins}"), json!({"config": {}})).await;
        if reply["status"] == "error" {
            break reply["response"]["reason"].clone();
        }
        joins += 1;
        assert!(joins <= MAX_CONNECTIONS);
    };
    assert!(joins >= 5, "{joins}");
    assert_eq!(refused, "ClientJoinRateLimitReached: Too many joins per second");
    socket.heartbeat().await;
    assert!(socket.frames_within(QUIET_PERIOD).await.is_empty(), "joined channels stay");
    let refused = node
        .channel_client_with_key(SerializerVersion::V2, &anon_key())
        .await
        .err()
        .expect("new joins are rejected too");
    assert_eq!((refused.status, &refused.body["error"]), (429, &json!("Too many joins per second")));
}

#[testkit::test]
async fn exceeding_the_shared_presence_limit_closes_the_next_pushing_channel(db: Arc<TestDatabase>) {
    let node = db
        .start_server_with(|settings| {
            settings.set("REALTIME_MAX_PRESENCE_EVENTS_PER_SECOND", "1");
            settings.set("REALTIME_PRESENCE_CALLS", "0");
        })
        .await;
    let presence = json!({"presence": {"enabled": true}});
    let mut watcher = join_topic(&node, SerializerVersion::V2, presence.clone()).await;
    let mut socket = join_topic(&node, SerializerVersion::V2, presence).await;
    for n in 0..=MAX_CONNECTIONS {
        socket.push(TOPIC, "presence", json!({"event": "track", "payload": { "n": n }})).await;
    }
    assert_eq!(socket.expect_channel_error(TOPIC).await, "Too many presence messages per second");
    socket.heartbeat().await;
    let received = watcher.frames_within(QUIET_PERIOD).await;
    assert!(
        received.iter().all(|frame| frame.event.starts_with("presence_")),
        "the watcher stays joined: {received:?}"
    );
}
