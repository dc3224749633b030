//! `postgres_changes` during faults of policies, PostgreSQL, nodes and slots. A gap is reported, and nothing arrives
//! twice.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use nix::sys::signal::{Signal, kill};
use rollcall::channels::postgres_changes::{PostgresChangesSettings, SUBSCRIBED_MESSAGE};
use serde_json::{Value, json};
use testkit::{
    cluster::{Cluster, connect},
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT, principal},
    phoenix::{PhoenixClient, SerializerVersion},
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::changes_harness::{ChangesHarness, Listener, NOTES, TODOS, all_changes_of};

/// Settings with a persistent slot. Slots belong to the cluster, so each test uses its own name.
fn settings_with_slot(name: &str) -> PostgresChangesSettings {
    PostgresChangesSettings { slot_name: Some(name.to_owned()), ..PostgresChangesSettings::default() }
}

async fn next_id(listener: &mut Listener) -> Value {
    listener.next().await["data"]["record"]["id"].take()
}

#[testkit::test]
async fn a_failing_or_slow_policy_affects_only_its_subscriber(db: Arc<TestDatabase>) {
    db.execute(TODOS, &[]).await;
    let (well, raising, sleepy) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    db
        .execute(
            "create policy mean on todos for select to authenticated using (case auth.uid()
              when $raising then id / (id % 2) >= 0 when $sleepy then pg_sleep(1.5) is not null and id = 1 else false end)",
            &[("raising", raising), ("sleepy", sleepy)],
        )
        .await;
    let harness = ChangesHarness::open(&db.url);
    let mut one = harness
        .subscribe_and_wait("t", principal("authenticated", Some(well)), all_changes_of("todos"))
        .await;
    let mut two = harness
        .subscribe_and_wait("t", principal("authenticated", Some(raising)), all_changes_of("todos"))
        .await;
    let mut three = harness
        .subscribe_and_wait("t", principal("authenticated", Some(sleepy)), all_changes_of("todos"))
        .await;
    let ids = [("well", well)];
    let started = Instant::now();
    db.execute("insert into todos select n, $well, 'x' from generate_series(1, 2) n", &ids).await;
    assert_eq!(one.next().await["data"]["record"]["id"], 1);
    assert_eq!(one.next().await["data"]["record"]["id"], 2);
    assert!(started.elapsed() < Duration::from_millis(1_400), "the first delay equals the check timeout");
    // The row without a policy error is delivered; the error is reported to the subscriber.
    assert_eq!(two.next().await["data"]["record"]["id"], 1);
    assert!(two.wait_for_system_message(false, "division by zero").await.contains("public.todos"));
    let started = Instant::now();
    db.execute("insert into todos values (3, $well, 'y')", &ids).await;
    assert_eq!(one.next().await["data"]["record"]["id"], 3);
    assert!(started.elapsed() < Duration::from_millis(400), "the slow policy delays no other subscriber");
    assert_eq!(three.next().await["data"]["record"]["id"], 1);
    assert!(one.take_system_messages().iter().all(|(is_ok, _)| *is_ok));
}

#[testkit::test]
async fn a_postgres_restart_is_reported_as_a_gap(_: Arc<TestDatabase>) {
    let cluster = Cluster::start_owner_only("changes").await;
    cluster.create_database("gap").await;
    let url = cluster.url("gap");
    connect(&url).await.batch_execute(NOTES).await.expect("the table");
    let harness = ChangesHarness::open(&url);
    let mut one = harness.subscribe_and_wait("a", principal("anon", None), all_changes_of("notes")).await;
    connect(&url).await.batch_execute("insert into notes (id) values (1)").await.expect("a row");
    assert_eq!(one.next().await["data"]["record"]["id"], 1);
    one.take_system_messages();

    // An immediate shutdown. The embedded cluster restarts PostgreSQL.
    kill(cluster.postmaster_pid(), Signal::SIGQUIT).expect("PostgreSQL runs");
    one.wait_for_system_message(false, "Changes may have been missed").await;
    one.wait_for_system_message(true, SUBSCRIBED_MESSAGE).await;
    let statuses: Vec<bool> = one.take_system_messages().into_iter().map(|(is_ok, _)| is_ok).collect();
    assert_eq!(statuses, [false, true], "first the gap, then the confirmation");
    connect(&url).await.batch_execute("insert into notes (id) values (2)").await.expect("a row");
    assert_eq!(one.next().await["data"]["record"]["id"], 2);
    drop(harness);
    cluster.stop().await;
}

#[testkit::test]
async fn a_ten_second_policy_delays_only_its_subscriber(db: Arc<TestDatabase>) {
    db.execute(TODOS, &[]).await;
    let (well, sleepy) = (Uuid::new_v4(), Uuid::new_v4());
    let ids = [("well", well), ("sleepy", sleepy)];
    db.execute(
        "create policy mean on todos for select to authenticated
              using (auth.uid() = $sleepy and id = 1 and pg_sleep(10) is not null)",
        &ids,
    )
    .await;
    let harness = ChangesHarness::open(&db.url);
    let mut one = harness
        .subscribe_and_wait("t", principal("authenticated", Some(well)), all_changes_of("todos"))
        .await;
    let mut two = harness
        .subscribe_and_wait("t", principal("authenticated", Some(sleepy)), all_changes_of("todos"))
        .await;
    let started = Instant::now();
    db.execute("insert into todos values (1, $well, 'x')", &ids).await;
    assert_eq!(next_id(&mut one).await, 1);
    for id in 2..50 {
        let sent = Instant::now();
        db.execute(&format!("insert into todos values ({id}, $well, 'x')"), &ids).await;
        assert_eq!(next_id(&mut one).await, id);
        assert!(sent.elapsed() < Duration::from_millis(900), "{id} arrived after {:?}", sent.elapsed());
    }
    assert!(started.elapsed() < Duration::from_secs(8), "other subscribers received it long before");
    assert_eq!(two.try_next(), None);
    while two.try_next().is_none() {
        assert!(started.elapsed() < Duration::from_secs(25), "the slow subscriber is notified in the end");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(one.take_system_messages().iter().all(|(is_ok, _)| *is_ok));
}

const TOPIC: &str = "realtime:room";

/// Opens a socket that subscribes to all changes of `notes`.
async fn subscribed_client(node: &TestServer) -> PhoenixClient {
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let reply =
        socket.try_join(TOPIC, json!({"config": {"postgres_changes": all_changes_of("notes")}})).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    wait_until_subscribed(&mut socket).await;
    socket
}

async fn wait_until_subscribed(socket: &mut PhoenixClient) {
    let is_confirmed = |frame: &testkit::phoenix::Frame| frame.payload["message"] == SUBSCRIBED_MESSAGE;
    socket.wait_for_match("a confirmation", is_confirmed).await;
}

#[testkit::test]
async fn a_client_that_never_reads_does_not_delay_others(db: Arc<TestDatabase>) {
    db.execute(NOTES, &[]).await;
    let node = db.start_server().await;
    let mut reader = subscribed_client(&node).await;
    let mute = subscribed_client(&node).await;
    // Far more than the socket buffers hold.
    for part in 0..200 {
        let rows = format!(
            "insert into notes (id, title) select {part} * 10 + n, repeat('x', 20000) from generate_series(1, 10) n"
        );
        db.execute(&rows, &[]).await;
        for n in 1..=10 {
            let received = next_change(&mut reader).await;
            assert_eq!(received["data"]["record"]["id"], part * 10 + n);
        }
    }
    drop(mute);
}

async fn next_change(socket: &mut PhoenixClient) -> Value {
    socket.wait_for(TOPIC, "postgres_changes").await.payload
}

/// Inserts rows from `first` until PostgreSQL disconnects; returns the acknowledged IDs.
async fn insert_until_disconnected(url: &str, first: i64) -> BTreeSet<i64> {
    let client = connect(url).await;
    let mut acknowledged = BTreeSet::new();
    for id in first.. {
        if client.batch_execute(&format!("insert into notes (id) values ({id})")).await.is_err() {
            return acknowledged;
        }
        acknowledged.insert(id);
    }
    acknowledged
}

/// Waits until PostgreSQL accepts connections again.
async fn reconnect(url: &str) -> tokio_postgres::Client {
    let started = Instant::now();
    loop {
        match tokio_postgres::connect(url, tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(error) => assert!(started.elapsed() < WAIT_TIMEOUT, "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[testkit::test]
async fn a_persistent_slot_loses_nothing_on_a_postgres_restart(_: Arc<TestDatabase>) {
    let cluster = Cluster::start_owner_only("slot").await;
    cluster.create_database("kept").await;
    let url = cluster.url("kept");
    connect(&url).await.batch_execute(NOTES).await.expect("the table");
    let harness = ChangesHarness::open_with(&url, settings_with_slot("it_kept"));
    let mut one = harness.subscribe_and_wait("a", principal("anon", None), all_changes_of("notes")).await;
    one.take_system_messages();

    let writing = tokio::spawn({
        let url = url.clone();
        async move { insert_until_disconnected(&url, 1).await }
    });
    let mut received = Vec::new();
    while received.len() < 20 {
        received.push(next_id(&mut one).await.as_i64().expect("an id"));
    }
    kill(cluster.postmaster_pid(), Signal::SIGQUIT).expect("PostgreSQL runs");
    let acknowledged = writing.await.expect("no panic");
    reconnect(&url).await.batch_execute("insert into notes (id) values (-1)").await.expect("a row");
    loop {
        match next_id(&mut one).await.as_i64().expect("an id") {
            -1 => break,
            id => received.push(id),
        }
    }
    let set: BTreeSet<i64> = received.iter().copied().collect();
    assert_eq!(set.len(), received.len(), "no change arrived twice");
    assert!(received.is_sorted(), "in the order of the commits");
    assert!(acknowledged.is_subset(&set), "missed: {:?}", acknowledged.difference(&set).collect::<Vec<_>>());
    assert_eq!(one.take_system_messages(), [], "no system message is expected");
    drop((one, harness));
    cluster.stop().await;
}

#[testkit::test]
async fn a_dropped_slot_is_reported_as_a_gap(db: Arc<TestDatabase>) {
    db.execute(NOTES, &[]).await;
    let harness = ChangesHarness::open_with(&db.url, settings_with_slot("it_dropped"));
    let mut one = harness.subscribe_and_wait("a", principal("anon", None), all_changes_of("notes")).await;
    one.take_system_messages();
    // What an operator does when the disk is full.
    let admin = connect(&db.admin_url()).await;
    admin
        .batch_execute(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'it_dropped';
             do $$ begin
               while exists (select from pg_replication_slots where slot_name = 'it_dropped') loop
                 begin perform pg_drop_replication_slot('it_dropped'); exception when object_in_use then
                   perform pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'it_dropped';
                   perform pg_sleep(0.01);
                 end;
               end loop;
             end $$",
        )
        .await
        .expect("a superuser may");
    one.wait_for_system_message(false, "Changes may have been missed").await;
    one.wait_for_system_message(true, SUBSCRIBED_MESSAGE).await;
    db.execute("insert into notes (id) values (1)", &[]).await;
    assert_eq!(next_id(&mut one).await, 1);
}

#[testkit::test]
async fn slots_of_dead_nodes_are_taken_over_or_dropped(_: Arc<TestDatabase>) {
    // A separate cluster: WAL of other tests would count.
    let cluster = Arc::new(Cluster::start_owner_only("forgotten").await);
    let db = TestDatabase::new(cluster.clone()).await;
    db.execute(NOTES, &[]).await;
    // Two killed nodes left slots with undelivered changes.
    db
        .execute(
            "select pg_create_logical_replication_slot('it_gone', 'pgoutput'), pg_create_logical_replication_slot('it_gone_2', 'pgoutput');
             insert into notes (id) values (1)",
            &[],
        )
        .await;
    let settings = PostgresChangesSettings { max_lag_bytes: 8 << 20, ..settings_with_slot("it_gone") };
    let harness = ChangesHarness::open_with(&db.url, settings);
    let mut one = harness.subscribe_and_wait("a", principal("anon", None), all_changes_of("notes")).await;
    let active = "select active from pg_replication_slots where slot_name = 'it_gone'";
    assert!(db.query_row(active, &[]).await.get::<_, bool>(0), "the first slot is taken over");
    db.execute("insert into notes (id) values (2)", &[]).await;
    assert_eq!(next_id(&mut one).await, 2, "it skipped changes of other users");
    // The second slot retains WAL until the limit is exceeded.
    for _ in 0..4 {
        db.execute("select pg_logical_emit_message(false, 'test', repeat('x', 4000000))", &[]).await;
    }
    db.wait_until(
        "the forgotten slot is dropped",
        "select not exists (select from pg_replication_slots where slot_name = 'it_gone_2')",
        &[],
    )
    .await;
    assert!(one.take_system_messages().iter().all(|(is_ok, _)| *is_ok), "no error is reported");
    // A stopped node leaves no slot.
    drop((one, harness));
    let left = "select not exists (select from pg_replication_slots where slot_name like 'it_gone%')";
    db.wait_until("the slot is dropped with its node", left, &[]).await;
    cluster.stop().await;
}

#[testkit::test]
async fn a_stream_past_the_lag_limit_skips_ahead_and_reports_a_gap(_: Arc<TestDatabase>) {
    // A separate cluster: WAL of other tests would count and cause a gap.
    let cluster = Arc::new(Cluster::start_owner_only("behind").await);
    let db = TestDatabase::new(cluster.clone()).await;
    db.execute(NOTES, &[]).await;
    let settings = PostgresChangesSettings { max_lag_bytes: 4 << 20, ..PostgresChangesSettings::default() };
    let harness = ChangesHarness::open_with(&db.url, settings);
    let mut one = harness.subscribe_and_wait("a", principal("anon", None), all_changes_of("notes")).await;
    one.take_system_messages();
    let held = harness.block_deliveries().await;
    for id in 1..=12 {
        // Incompressible data.
        let row = format!(
            "insert into notes (id, title) select {id}, string_agg(md5(random()::text), '') from generate_series(1, 30000)"
        );
        db.execute(&row, &[]).await;
    }
    let ended = "select not exists (select from pg_replication_slots where database = current_database())";
    db.wait_until("PostgreSQL retains no WAL for it", ended, &[]).await;
    drop(held);
    one.wait_for_system_message(false, "Changes may have been missed").await;
    one.wait_for_system_message(true, SUBSCRIBED_MESSAGE).await;
    while one.try_next().is_some() {}
    db.execute("insert into notes (id) values (100)", &[]).await;
    assert_eq!(next_id(&mut one).await, 100);
    drop((one, harness));
    cluster.stop().await;
}

#[testkit::test]
async fn another_node_takes_over_within_seconds_of_a_kill(db: Arc<TestDatabase>) {
    db.execute(NOTES, &[]).await;
    let (doomed, other) = (db.start_server_process().await, db.start_server().await);
    let (mut hers, mut his) = (subscribed_client(&doomed).await, subscribed_client(&other).await);
    db.execute("insert into notes (id) values (1)", &[]).await;
    for socket in [&mut hers, &mut his] {
        assert_eq!(next_change(socket).await["data"]["record"]["id"], 1);
    }
    doomed.crash();
    let killed = Instant::now();
    let mut hers = subscribed_client(&other).await;
    db.execute("insert into notes (id) values (2)", &[]).await;
    for socket in [&mut hers, &mut his] {
        let frame = socket.next_frame().await;
        assert_eq!(frame.payload["data"]["record"]["id"], 2, "the next frame: {frame:?}");
    }
    println!("changes arrive {:?} after the kill", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(10));
}

#[testkit::test]
async fn restarts_deliver_every_change_or_report_a_gap(_: Arc<TestDatabase>) {
    let cluster = Cluster::start_owner_only("restarts").await;
    cluster.create_database("restarts").await;
    let url = cluster.url("restarts");
    let sql = connect(&url).await;
    sql.batch_execute(TODOS).await.expect("the table");
    let user = User::new();
    let join = async |node: &TestServer| {
        let mut socket = node.channel_client(SerializerVersion::V2).await;
        let subscription =
            json!([{"event": "*", "schema": "public", "table": "todos", "filter": "body=neq.secret"}]);
        let config = json!({"config": {"postgres_changes": subscription}, "access_token": user.token});
        assert_eq!(socket.try_join(TOPIC, config).await["status"], "ok");
        wait_until_subscribed(&mut socket).await;
        socket
    };
    let (mine, others) = (user.id, Uuid::new_v4());
    // Each round inserts, updates and deletes a row of the user, between rows that are filtered out and rows of other
    // users.
    let round = |n: i64| {
        format!(
            "insert into todos values ({n}, '{mine}', 'a'), ({n} + 1000, '{mine}', 'secret'), ({n} + 2000, '{others}', 'b');
             update todos set body = 'c' where id = {n}; delete from todos where id = {n}"
        )
    };
    // A filter on a column that a DELETE does not carry matches no delete.
    let expect = async |socket: &mut PhoenixClient, n: i64| {
        for operation in ["INSERT", "UPDATE"] {
            let change = next_change(socket).await;
            assert_eq!(
                (&change["data"]["type"], &change["data"]["record"]["id"]),
                (&json!(operation), &json!(n))
            );
        }
    };
    let node = TestServer::start(&url, |_| {}).await;
    let mut socket = join(&node).await;
    sql.batch_execute(&round(1)).await.expect("a round");
    expect(&mut socket, 1).await;

    // The server restarts: its socket ends, and the new subscription starts with its confirmation.
    node.crash();
    sql.batch_execute(&round(2)).await.expect("a round");
    let node = TestServer::start(&url, |_| {}).await;
    let mut socket = join(&node).await;
    sql.batch_execute(&round(3)).await.expect("a round");
    expect(&mut socket, 3).await;

    // PostgreSQL restarts at once: the channel stays, is told about the gap, and is confirmed again.
    kill(cluster.postmaster_pid(), Signal::SIGQUIT).expect("PostgreSQL runs");
    let gap = socket.wait_for(TOPIC, "system").await;
    assert_eq!(
        (&gap.payload["status"], &gap.payload["extension"]),
        (&json!("error"), &json!("postgres_changes"))
    );
    wait_until_subscribed(&mut socket).await;
    reconnect(&url).await.batch_execute(&round(4)).await.expect("a round");
    expect(&mut socket, 4).await;
    socket.expect_no_frame().await;
    node.stop().await.expect("it stops");
    cluster.stop().await;
}
