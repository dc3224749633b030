//! The bus between nodes on a real database: messages of a topic reach the other nodes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use rollcall::{
    channels::bus::{Bus, BusMessage, BusSubscriber, Peers, postgres::PostgresBus},
    model::{NodeId, Topic},
    pg::{Database, listener, queries::node},
};
use testkit::harness::{TestDatabase, WAIT_TIMEOUT};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

const LEASE: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
struct ReceivedMessages(Arc<Mutex<Vec<BusMessage>>>);

impl BusSubscriber for ReceivedMessages {
    fn on_message(&self, _: NodeId, message: BusMessage) -> BoxFuture<'_, ()> {
        self.0.lock().push(message);
        std::future::ready(()).boxed()
    }
}

struct BusNode {
    bus: PostgresBus,
    received: ReceivedMessages,
    node: NodeId,
    database: Database,
    tasks: Vec<JoinHandle<()>>,
}

impl BusNode {
    async fn open(db: &TestDatabase) -> Self {
        let database = Database::new(&db.url, None, 4).expect("a valid URL");
        let (node, received, stop) =
            (NodeId::random(), ReceivedMessages::default(), CancellationToken::new());
        node::renew_lease(&database.server_connection().await.expect("a connection"), node, LEASE)
            .await
            .expect("a lease");
        let (bus, handler, (writer, reader)) =
            PostgresBus::new(node, &database, Peers::new(LEASE), received.clone());
        let mut ready = reader.ready();
        let tasks = vec![
            tokio::spawn(writer.run(stop.clone())),
            tokio::spawn(reader.run(stop.clone())),
            tokio::spawn(listener::run(database.direct_connector().clone(), handler, stop)),
        ];
        ready.wait_for(|ready| *ready).await.expect("it runs");
        Self { bus, received, node, database, tasks }
    }

    fn publish(&self, body: impl Into<Bytes>) {
        self.bus.publish(BusMessage { topic: Topic::private("lobby"), body: body.into() });
    }

    fn received_texts(&self) -> Vec<String> {
        let text = |message: &BusMessage| String::from_utf8(message.body.to_vec()).expect("text");
        self.received.0.lock().iter().map(text).collect()
    }

    async fn wait_for_messages(&self, count: usize) -> Vec<String> {
        let started = Instant::now();
        while self.received.0.lock().len() < count {
            assert!(started.elapsed() < WAIT_TIMEOUT, "received {:?}", self.received_texts());
            sleep(Duration::from_millis(1)).await;
        }
        self.received_texts()
    }
}

impl Drop for BusNode {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.database.close();
    }
}

#[testkit::test]
async fn messages_reach_other_nodes_in_order(db: Arc<TestDatabase>) {
    let stops = [BusNode::open(&db).await, BusNode::open(&db).await, BusNode::open(&db).await];
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
    assert_eq!(stops[0].wait_for_messages(1).await[0].len(), 3_000_000);
    assert!(stops[1].received.0.lock().iter().all(|message| message.topic == Topic::private("lobby")));
}

#[testkit::test]
async fn a_single_node_writes_no_bus_rows(db: Arc<TestDatabase>) {
    let stop = BusNode::open(&db).await;
    (0..100).for_each(|_| stop.publish("anybody?"));
    let other = BusNode::open(&db).await;
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

#[testkit::test]
async fn peers_know_a_starting_node_before_it_is_ready(db: Arc<TestDatabase>) {
    let mut stops = vec![BusNode::open(&db).await];
    for _ in 0..4 {
        let newcomer = BusNode::open(&db).await;
        stops.iter().for_each(|stop| stop.publish("welcome"));
        assert_eq!(newcomer.wait_for_messages(stops.len()).await.len(), stops.len());
        stops.push(newcomer);
    }
}

#[testkit::test]
async fn lost_connections_lose_no_message(db: Arc<TestDatabase>) {
    let (here, there) = (BusNode::open(&db).await, BusNode::open(&db).await);
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
    let (here, there) = (BusNode::open(&db).await, BusNode::open(&db).await);
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
