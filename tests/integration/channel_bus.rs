//! The buses between nodes, over a real database and a real NATS: messages of a topic reach the other nodes.

use std::{sync::Arc, time::Duration};

use rollcall::{
    channels::bus::{Audience, BusMessage},
    model::Topic,
};
use testkit::harness::{TestDatabase, WAIT_TIMEOUT};
use tokio::time::{Instant, sleep};

use crate::bus_harness::{BusNode, Network, Signal, lobby};

/// Each test runs over both buses.
macro_rules! over_both_buses {
    ($($test:ident),+ $(,)?) => {
        mod postgres {
            use super::*;
            $(#[testkit::test]
            async fn $test(db: Arc<TestDatabase>) {
                super::$test(&db, &Network::Postgres).await;
            })+
        }

        mod nats {
            use super::*;
            $(#[testkit::test]
            async fn $test(db: Arc<TestDatabase>) {
                super::$test(&db, &Network::nats().await).await;
            })+
        }
    };
}

over_both_buses!(
    messages_reach_other_nodes_in_order,
    a_started_node_receives_what_is_sent_from_then_on,
    messages_are_any_bytes_of_any_topic,
    a_node_that_ends_does_not_disturb_the_others,
);

async fn messages_reach_other_nodes_in_order(db: &TestDatabase, network: &Network) {
    let mut stops = Vec::new();
    for _ in 0..3 {
        stops.push(BusNode::open(db, network).await);
    }
    let sent: Vec<String> = (0..5_000).map(|n| format!("{n}")).collect();
    let started = Instant::now();
    stops[0].publish("first");
    stops[1].wait_for_messages(1).await;
    println!("a message crossed the nodes in {:?}", started.elapsed());
    for (n, text) in sent.iter().enumerate() {
        stops[0].publish(text.clone());
        if n % 50 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    stops[2].publish(vec![b'x'; 3_000_000]);
    for stop in &stops[1..2] {
        let mut received = stop.wait_for_messages(5_002).await;
        received.retain(|text| text.len() < 100);
        assert_eq!(received[1..], sent);
    }
    stops[0].wait_for_messages(1).await;
    assert_eq!(stops[0].received.messages.lock()[0].1.body.len(), 3_000_000);
    let received = stops[1].received.messages.lock();
    assert!(received.iter().all(|(_, message)| message.topic == lobby()));
    assert_eq!(received[0].0, stops[0].node);
    assert!(!stops[1].signals().contains(&Signal::Lost));
}

async fn messages_are_any_bytes_of_any_topic(db: &TestDatabase, network: &Network) {
    let here = BusNode::open(db, network).await;
    let topics = ["lobby", "", "a.b", "*", ">", "a b\r\nPUB x 1", "\u{1f44b}\0", &"long".repeat(10_000)];
    for name in topics {
        for topic in [Topic::public(name), Topic::private(name)] {
            let mut there = match network {
                Network::Postgres => BusNode::open_postgres(db).await,
                Network::Nats(server) => BusNode::open_nats(db, &server.url(), |_| {}).await,
            };
            there.join(&topic).await;
            let body: Vec<u8> = (0..=255).collect();
            for audience in [Audience::Members, Audience::AllNodes] {
                here.bus.publish(BusMessage { topic: topic.clone(), audience, body: body.clone().into() });
            }
            there.wait_for_messages(2).await;
            let received = there.received.messages.lock();
            assert!(received.iter().all(|(_, message)| message.topic == topic && message.body == body));
        }
    }
}

async fn a_node_that_ends_does_not_disturb_the_others(db: &TestDatabase, network: &Network) {
    let (here, there) = (BusNode::open(db, network).await, BusNode::open(db, network).await);
    drop(BusNode::open(db, network).await);
    for n in 0..100 {
        here.publish(n.to_string());
    }
    let received = there.wait_for_messages(100).await;
    assert_eq!(received, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[testkit::test]
async fn a_single_node_writes_no_bus_rows(db: Arc<TestDatabase>) {
    let stop = BusNode::open(&db, &Network::Postgres).await;
    (0..100).for_each(|_| stop.publish("anybody?"));
    let other = BusNode::open(&db, &Network::Postgres).await;
    stop.publish("hello");
    assert_eq!(other.wait_for_messages(1).await, ["hello"]);
    let row = db
        .query_row(
            "select count(*), (select last_value from rollcall_internal.bus_id) from rollcall_internal.bus",
            &[],
        )
        .await;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 1));
}

async fn a_started_node_receives_what_is_sent_from_then_on(db: &TestDatabase, network: &Network) {
    let mut stops = vec![BusNode::open(db, network).await];
    for _ in 0..4 {
        let newcomer = BusNode::open(db, network).await;
        stops.iter().for_each(|stop| stop.publish("welcome"));
        assert_eq!(newcomer.wait_for_messages(stops.len()).await.len(), stops.len());
        stops.push(newcomer);
    }
}

#[testkit::test]
async fn lost_connections_lose_no_message(db: Arc<TestDatabase>) {
    let (here, there) =
        (BusNode::open(&db, &Network::Postgres).await, BusNode::open(&db, &Network::Postgres).await);
    let sent: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    for (n, text) in sent.iter().enumerate() {
        here.publish(text.clone());
        if n % 50 == 25 {
            db.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and pid <> pg_backend_pid()",
                &[],
            )
            .await;
        }
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(there.wait_for_messages(sent.len()).await, sent);
}

#[testkit::test]
async fn old_bus_rows_are_deleted(db: Arc<TestDatabase>) {
    let (here, there) =
        (BusNode::open(&db, &Network::Postgres).await, BusNode::open(&db, &Network::Postgres).await);
    here.publish("soon forgotten");
    there.wait_for_messages(1).await;
    assert_ne!(here.node, there.node);
    // As if published two periods ago; old rows are deleted in the first half of a period.
    let put = "insert into rollcall_internal.bus (slot, node, batch, payload)
        values ((rollcall_internal.bus_slot() + 1) % 3, gen_random_uuid(), 1, '') returning id";
    let started = Instant::now();
    loop {
        let id: i64 = db.query_row(put, &[]).await.get(0);
        let emptied: bool = db.query_row("select rollcall_internal.purge_bus()", &[]).await.get(0);
        let left: i64 =
            db.query_row("select count(*) from rollcall_internal.bus where id = $1", &[&id]).await.get(0);
        if emptied && left == 0 {
            break;
        }
        assert!(started.elapsed() < WAIT_TIMEOUT * 3, "old rows are deleted");
        sleep(Duration::from_millis(100)).await;
    }
    let kept: i64 =
        db.query_row("select count(*) from rollcall_internal.bus where payload <> ''", &[]).await.get(0);
    assert_eq!(kept, 1, "recent rows stay");
}
