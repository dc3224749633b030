//! Channel sockets: into rooms and out of them, and what is said there, over both serializers.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    Case, cases,
    client::{Socket, open_socket},
    world::{Node, World, in_seconds, mint},
};

pub fn cases() -> Vec<Case> {
    cases![
        rooms_hear_what_is_said_in_them_over_both_serializers,
        a_second_join_replaces_the_first_and_leaving_ends_both,
        frames_that_mean_nothing_are_dropped_and_the_socket_lives,
        private_rooms_are_closed_without_policies,
        a_stopping_server_sends_channel_sockets_away_with_1012,
    ]
}

/// A token that names no user.
fn anon() -> String {
    mint(&json!({"role": "anon", "exp": in_seconds(3_600)}))
}

async fn socket(node: &Node, version: &str) -> Socket {
    let path = format!("/realtime/v1/websocket?apikey={}&vsn={version}", anon());
    open_socket(node.address, &path, &[]).await.expect("the socket opens")
}

/// Joins over serializer 2.0.0 and reads the reply.
async fn join(socket: &mut Socket, topic: &str, join_ref: &str, config: Value) -> Value {
    socket.say(json!([join_ref, join_ref, topic, "phx_join", {"config": config}])).await;
    socket.next().await
}

fn joined(topic: &str, join_ref: &str) -> Value {
    json!([join_ref, join_ref, topic, "phx_reply", {"status": "ok", "response": {"postgres_changes": []}}])
}

fn refused(topic: &str, join_ref: &str, reason: &str) -> Value {
    json!([join_ref, join_ref, topic, "phx_reply", {"status": "error", "response": {"reason": reason}}])
}

async fn rooms_hear_what_is_said_in_them_over_both_serializers(world: Arc<World>) {
    let node = world.node().await;
    let (mut one, mut two) = (socket(&node, "2.0.0").await, socket(&node, "1.0.0").await);
    let mut elsewhere = socket(&node, "2.0.0").await;
    let ack = json!({"broadcast": {"ack": true}});
    assert_eq!(join(&mut one, "realtime:a", "1", ack).await, joined("realtime:a", "1"));
    assert_eq!(join(&mut elsewhere, "realtime:b", "1", json!({})).await, joined("realtime:b", "1"));
    two.say(json!({"topic": "realtime:a", "event": "phx_join", "payload": {"config": {"broadcast": {"self": true}}}, "ref": "9", "join_ref": null})).await;
    two.expect(json!({"topic": "realtime:a", "event": "phx_reply", "ref": "9",
        "payload": {"status": "ok", "response": {"postgres_changes": []}}}))
        .await;

    let payload = json!({"type": "broadcast", "event": "x", "payload": {"n": 1}, "more": []});
    one.say(json!(["1", "2", "realtime:a", "broadcast", payload])).await;
    one.expect(json!(["1", "2", "realtime:a", "phx_reply", {"status": "ok", "response": {}}])).await;
    two.expect(json!({"topic": "realtime:a", "event": "broadcast", "ref": null, "payload": payload})).await;
    two.say(json!({"topic": "realtime:a", "event": "broadcast", "payload": {}, "ref": "10"})).await;
    two.expect(json!({"topic": "realtime:a", "event": "broadcast", "ref": null, "payload": {}})).await;
    one.expect(json!([null, null, "realtime:a", "broadcast", {}])).await;
    elsewhere.expect_silence(Duration::from_millis(50)).await;
}

async fn a_second_join_replaces_the_first_and_leaving_ends_both(world: Arc<World>) {
    let node = world.node().await;
    let mut one = socket(&node, "2.0.0").await;
    let hears_itself = json!({"broadcast": {"self": true}});
    assert_eq!(join(&mut one, "realtime:a", "1", hears_itself.clone()).await, joined("realtime:a", "1"));
    assert_eq!(join(&mut one, "realtime:a", "2", hears_itself).await, joined("realtime:a", "2"));
    one.say(json!(["2", "3", "realtime:a", "broadcast", {"once": 1}])).await;
    one.expect(json!([null, null, "realtime:a", "broadcast", {"once": 1}])).await;
    one.say(json!(["1", "4", "realtime:a", "phx_leave", {}])).await;
    one.say(json!([null, "5", "realtime:a", "phx_leave", {}])).await;
    one.expect(json!(["2", "5", "realtime:a", "phx_reply", {"status": "ok", "response": {}}])).await;
    one.expect(json!(["2", "2", "realtime:a", "phx_close", {}])).await;
    one.say(json!(["2", "6", "realtime:a", "broadcast", {}])).await;
    one.expect(json!([null, "6", "realtime:a", "phx_reply", {"status": "error", "response": {"reason": "unmatched topic"}}]))
        .await;
}

async fn frames_that_mean_nothing_are_dropped_and_the_socket_lives(world: Arc<World>) {
    let node = world.node().await;
    let mut one = socket(&node, "2.0.0").await;
    assert_eq!(join(&mut one, "realtime:a", "1", json!({})).await, joined("realtime:a", "1"));
    for frame in
        [json!([]), json!({}), json!(null), json!(7), json!(["1", "2", "realtime:a", "broadcast", "text"])]
    {
        one.say(frame).await;
    }
    one.say(json!(["1", "2", "realtime:a", "whatever", {}])).await;
    one.say(json!([null, null, "phoenix", "heartbeat", {}])).await;
    one.expect(json!([null, null, "phoenix", "phx_reply", {"status": "ok", "response": {}}])).await;
    let no_name = refused("realtime:", "2", "TopicNameRequired: You must provide a topic name");
    assert_eq!(join(&mut one, "realtime:", "2", json!({})).await, no_name);
}

async fn private_rooms_are_closed_without_policies(world: Arc<World>) {
    let node = world.node().await;
    let mut one = socket(&node, "2.0.0").await;
    let reason = "Unauthorized: You do not have permissions to read from this Channel topic: a";
    let reply = join(&mut one, "realtime:a", "1", json!({"private": true})).await;
    assert_eq!(reply, refused("realtime:a", "1", reason));
}

async fn a_stopping_server_sends_channel_sockets_away_with_1012(world: Arc<World>) {
    let node = world.node().await;
    let mut one = socket(&node, "2.0.0").await;
    assert_eq!(join(&mut one, "realtime:a", "1", json!({})).await, joined("realtime:a", "1"));
    let stopping = node.clone();
    let stopped = tokio::spawn(async move { stopping.stop().await });
    one.expect_close(1012).await;
    stopped.await.expect("no panic").expect("it stops in order");
}
