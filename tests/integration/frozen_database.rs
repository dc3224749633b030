//! A PostgreSQL that stands still for 15 s: nobody leaves, and no broadcast is lost.

use std::{process::Command, sync::Arc, time::Duration};

use nix::unistd::Pid;
use serde_json::json;
use testkit::{
    cluster::Cluster,
    harness::{TestDatabase, User},
    phoenix::{Frame, SerializerVersion},
    stopped_process::StoppedProcess,
};
use tokio::time::{Instant, sleep};

const TOPIC: &str = "realtime:room";
const PAUSE: Duration = Duration::from_secs(15);
const LEASE: Duration = Duration::from_secs(3);

/// Stops all processes of a cluster until the result is dropped.
fn stop(cluster: &Cluster) -> Vec<StoppedProcess> {
    let postmaster = cluster.postmaster_pid();
    // The postmaster first, so that it starts no further process.
    let mut stopped = vec![StoppedProcess::stop(postmaster).expect("PostgreSQL runs")];
    let listed = Command::new("pgrep").args(["-P", &postmaster.to_string()]).output().expect("pgrep runs");
    let children = String::from_utf8(listed.stdout).expect("numbers");
    let children = children.lines().map(|child| Pid::from_raw(child.parse().expect("a number")));
    stopped.extend(children.filter_map(StoppedProcess::stop));
    stopped
}

fn broadcast_number(frame: &Frame) -> Option<i64> {
    frame.is(TOPIC, "broadcast").then(|| frame.payload["payload"]["n"].as_i64()).flatten()
}

#[testkit::test(exclusive)]
async fn a_database_that_stands_still_loses_no_broadcast_and_no_presence(_: Arc<TestDatabase>) {
    // Given two nodes, a member of a channel on each, and a user who sees another one on the other node.
    let cluster = Arc::new(Cluster::start_owner_only("frozen").await);
    let db = TestDatabase::new(cluster.clone()).await;
    let start = || db.start_server_with(|settings| settings.set("NODE_LEASE", "3s"));
    let nodes = [start().await, start().await];
    let (viewer, user) = (User::new(), User::new());
    db.add_contact(&viewer, &user).await;
    let mut socket = nodes[0].socket(&viewer).await;
    let _device = nodes[1].socket_with(&user, "&device_id=web").await;
    socket.wait_until("online", |socket| socket.shows_online(user.id)).await;
    let config = |key: &str| json!({"presence": {"key": key, "enabled": true}, "broadcast": {"ack": true}});
    let mut receiver = nodes[0].channel_client(SerializerVersion::BOTH[0]).await;
    receiver.join(TOPIC, config("receiver")).await;
    let mut sender = nodes[1].channel_client(SerializerVersion::BOTH[0]).await;
    sender.join(TOPIC, config("sender")).await;
    sender.track(TOPIC, json!({"at": "desk"})).await;
    receiver
        .wait_for_match("the sender joins", |frame| {
            frame.event == "presence_diff" && frame.payload["joins"]["sender"].is_object()
        })
        .await;

    // When the database stands still, and the member broadcasts before, while and after it does.
    let mut sent = 0;
    let mut send = async |count: i64| {
        for _ in 0..count {
            sent += 1;
            sender.broadcast(TOPIC, "number", json!({"n": sent})).await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    send(20).await;
    let stopped = stop(&cluster);
    for _ in 0..10 {
        send(1).await;
        sleep(PAUSE / 10).await;
    }
    drop(stopped);
    send(50).await;
    sleep(2 * LEASE).await;
    send(1).await;
    let last = 20 + 10 + 50 + 1;

    // Then every broadcast arrives once and in order, and nobody leaves.
    let mut received = Vec::new();
    let mut left = Vec::new();
    while received.last() != Some(&last) {
        let frame = receiver.wait_for_match("the last broadcast", |_| true).await;
        received.extend(broadcast_number(&frame));
        if frame.event == "presence_diff"
            && frame.payload["leaves"].as_object().is_some_and(|all| !all.is_empty())
        {
            left.push(frame.payload);
        }
    }
    assert_eq!(received, (1..=last).collect::<Vec<_>>());
    assert!(left.is_empty(), "{left:?}");
    while let Some(event) = socket.receive(Instant::now() + Duration::from_millis(200)).await {
        assert!(!socket.shows_offline(user.id), "{event:?}");
    }
    assert!(socket.shows_online(user.id));
    db.close().await.expect("closed");
    cluster.stop().await;
}
