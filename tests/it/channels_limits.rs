//! Limits of channels that the wire contract's list does not number: each is told to whoever is over it, and costs nobody
//! else anything. Channels of a socket are 35, payloads 52, messages 65, presence pushes of a channel 78.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    TestCase,
    harness::{TestDatabase, TestServer},
    phoenix::{PhoenixClient, QUIET_PERIOD, SerializerVersion, anon_key},
};

const TOPIC: &str = "realtime:room";

pub fn cases() -> Vec<TestCase> {
    crate::cases![
        a_socket_that_sends_too_many_bytes_loses_the_channel_that_it_sends_them_in,
        joins_that_come_too_fast_are_refused_and_nobody_is_sent_away,
        too_many_presence_pushes_of_all_end_the_channel_of_whoever_comes_next,
    ]
}

async fn join_topic(node: &TestServer, vsn: SerializerVersion, config: Value) -> PhoenixClient {
    let mut socket = node.channel_client(vsn).await;
    socket.join(TOPIC, config).await;
    socket
}

/// Rates are means over five seconds at least, of the clock's: with a limit of one a second the fifth is over it, or the
/// tenth where five seconds are over in between.
const MAX_CONNECTIONS: i32 = 10;

async fn a_socket_that_sends_too_many_bytes_loses_the_channel_that_it_sends_them_in(
    world: Arc<TestDatabase>,
) {
    let node = world
        .start_server_with(|settings| settings.realtime_max_client_bytes_per_second = Some("10000".into()))
        .await;
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
        let heard = listener.frames_within(QUIET_PERIOD).await;
        assert!((4..=MAX_CONNECTIONS as usize).contains(&heard.len()), "{}", heard.len());
        assert!(heard.iter().all(|frame| frame.event == "broadcast"), "who listens stays");
        // Neither the listener nor the sender's other channel is any the worse for it.
        let reference = listener.push(TOPIC, "presence", json!({"event": "untrack"})).await;
        assert_eq!(listener.wait_for_reply(&reference).await["status"], "ok");
        sender.leave("realtime:other").await;
    }
}

async fn joins_that_come_too_fast_are_refused_and_nobody_is_sent_away(world: Arc<TestDatabase>) {
    let node =
        world.start_server_with(|settings| settings.realtime_max_joins_per_second = Some("1".into())).await;
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
    assert!(socket.frames_within(QUIET_PERIOD).await.is_empty(), "what is joined stays");
    let refused = node
        .channel_client_with_key(SerializerVersion::V2, &anon_key())
        .await
        .err()
        .expect("the door is closed too");
    assert_eq!((refused.status, &refused.body["error"]), (429, &json!("Too many joins per second")));
}

async fn too_many_presence_pushes_of_all_end_the_channel_of_whoever_comes_next(world: Arc<TestDatabase>) {
    let node = world
        .start_server_with(|settings| {
            settings.realtime_max_presence_events_per_second = Some("1".into());
            settings.realtime_presence_calls = Some("0".into());
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
    let heard = watcher.frames_within(QUIET_PERIOD).await;
    assert!(heard.iter().all(|frame| frame.event.starts_with("presence_")), "who watches stays: {heard:?}");
}
