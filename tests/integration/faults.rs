//! Faults of connections, PostgreSQL and servers. Acknowledged writes survive, and sockets end in the current state.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::{
    client::Socket,
    cluster::{Cluster, connect},
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT},
};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

const STATUS_PATH: &str = "/api/presence/status";

/// Kills connections to this database by application name: `rollcall-listener` or a pattern.
async fn kill_connections(db: &TestDatabase, pattern: &str) -> i64 {
    let statement = "select count(pg_terminate_backend(pid)) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and application_name like $1";
    db.query_row(statement, &[&pattern]).await.get(0)
}

/// Connects a viewer and an online user whom it sees.
async fn connected_pair(db: &TestDatabase, node: &TestServer) -> (User, Socket, User) {
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    db.set_status(&subject, "online").await;
    let mut socket = node.socket(&viewer).await;
    socket.next_message().await;
    assert!(socket.shows_online(subject.id));
    (viewer, socket, subject)
}

#[testkit::test]
async fn a_lost_listen_connection_is_recovered(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (_, mut socket, subject) = connected_pair(&db, &node).await;
    for availability in ["busy", "dnd", "busy"] {
        kill_listener(&db).await;
        db.set_status(&subject, availability).await;
        socket.wait_until(availability, |socket| socket.shows(subject.id, "online", availability)).await;
        node.get(&subject, "/api/v1/system/health").await.expect_status(200);
    }
}

/// Kills the LISTEN connection and waits until it is gone. Until then it may still deliver notifications.
async fn kill_listener(db: &TestDatabase) {
    const LISTENERS: &str =
        "from pg_stat_activity where datname = current_database() and application_name = 'rollcall-listener'";
    db.wait_until("a listener is connected", &format!("select count(*) = 1 {LISTENERS}"), &[]).await;
    let gone: bool =
        db.query_row(&format!("select pg_terminate_backend(pid, 10000) {LISTENERS}"), &[]).await.get(0);
    assert!(gone, "the process did not end");
}

#[testkit::test]
async fn changes_without_a_listener_are_sent_later_and_once(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, mut socket, subject) = connected_pair(&db, &node).await;
    let (newcomer, still) = (User::new(), User::new());
    db.add_contact(&viewer, &still).await;
    db.set_status(&still, "dnd").await;
    socket.wait_until("the other one", |socket| socket.shows(still.id, "online", "dnd")).await;

    // One transaction, so that all changes fall into the gap.
    db.execute(
        "begin;
             select count(pg_terminate_backend(pid)) from pg_stat_activity
               where datname = current_database() and application_name = 'rollcall-listener';
             select rollcall.set_status($s, 'busy'), rollcall.set_status($n, 'online');
             insert into rollcall.contacts values ($v, $n, now());
             commit",
        &[("s", subject.id), ("n", newcomer.id), ("v", viewer.id)],
    )
    .await;
    socket
        .wait_until("both", |socket| {
            socket.shows(subject.id, "online", "busy") && socket.shows_online(newcomer.id)
        })
        .await;
    let received = socket.frames;
    socket.expect_no_message(Duration::from_millis(500)).await;
    assert_eq!(socket.frames, received);
    assert!(received <= 4, "the initial state, the reconnect and two differences; not {received}");
}

#[testkit::test]
async fn a_revocation_without_a_listener_takes_effect_later(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, mut socket, subject) = connected_pair(&db, &node).await;
    db.execute(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity
               where datname = current_database() and application_name = 'rollcall-listener';
             insert into rollcall.blocks values ($s, $v); select rollcall.set_status($s, 'dnd')",
        &[("s", subject.id), ("v", viewer.id)],
    )
    .await;
    socket.wait_until("hidden", |socket| socket.hides(subject.id)).await;
    socket.expect_no_message(Duration::from_millis(300)).await;
}

#[testkit::test]
async fn killing_all_connections_is_recovered(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (_, mut socket, subject) = connected_pair(&db, &node).await;
    for (round, availability) in ["busy", "dnd", "busy"].into_iter().enumerate() {
        assert!(kill_connections(&db, "rollcall-%").await >= 1);
        // The request is rejected or applied completely, and does not hang.
        let response = node
            .post(&subject, STATUS_PATH, json!({"status": availability, "custom_status": round.to_string()}))
            .await;
        if response.status != 200 {
            response.expect_error(503, "DATABASE_CONNECTION_ERROR");
            set_status_with_retry(&node, &subject, json!({"status": availability})).await;
        }
        socket.wait_until(availability, |socket| socket.shows(subject.id, "online", availability)).await;
    }
}

/// Repeats a status until it is acknowledged.
async fn set_status_with_retry(node: &TestServer, user: &User, body: Value) {
    let started = Instant::now();
    loop {
        let response = node.post(user, STATUS_PATH, body.clone()).await;
        if response.status == 200 {
            return;
        }
        assert!(started.elapsed() < WAIT_TIMEOUT, "still rejected: {response:?}");
        assert_eq!(response.status, 503, "{response:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[testkit::test]
async fn repeated_connection_kills_lose_no_acknowledged_write(db: Arc<TestDatabase>) {
    const USERS: usize = 10;
    const WRITES: usize = 15;
    let node = db.start_server().await;
    let viewer = User::new();
    let users: Vec<User> = (0..USERS).map(|_| User::new()).collect();
    for user in &users {
        db.add_contact(&viewer, user).await;
    }
    let mut socket = node.socket(&viewer).await;
    socket.next_message().await;
    let killer = {
        let db = db.clone();
        tokio::spawn(async move {
            // On a busy machine no write may succeed within the first pauses.
            for pause in (150..).step_by(50) {
                kill_connections(&db, "rollcall-%").await;
                sleep(Duration::from_millis(pause)).await;
            }
        })
    };
    let writing = users.iter().map(|user| {
        let node = node.clone();
        async move {
            let mut acknowledged = None;
            for n in 0..WRITES {
                let text = n.to_string();
                let body = json!({"status": "online", "custom_status": text});
                let response = node.post(user, STATUS_PATH, body).await;
                if response.status == 200 {
                    acknowledged = Some(n);
                } else {
                    response.expect_error(503, "DATABASE_CONNECTION_ERROR");
                }
            }
            acknowledged
        }
    });
    let acknowledged = futures_util::future::join_all(writing).await;
    killer.abort();
    assert!(acknowledged.iter().any(Option::is_some), "no write succeeded");
    for (user, acknowledged) in users.iter().zip(acknowledged) {
        let Some(acknowledged) = acknowledged else { continue };
        // A later write whose response was lost may be stored instead.
        let kept = db
            .query_row(
                "select custom_status::int from rollcall.presence_choices where user_id = $1",
                &[&user.id],
            )
            .await;
        assert!(kept.get::<_, i32>(0) >= i32::try_from(acknowledged).expect("small"));
        let stored: String = kept.get::<_, i32>(0).to_string();
        socket
            .wait_until("the stored status", |socket| {
                socket.presences.get(&user.id).is_some_and(|face| face["custom_status"] == *stored)
            })
            .await;
    }
}

#[testkit::test]
async fn an_immediate_postgres_restart_keeps_acknowledged_writes(_: Arc<TestDatabase>) {
    // A separate cluster, because others use theirs.
    let cluster = Arc::new(Cluster::start_owner_only("restart").await);
    let db = TestDatabase::new(cluster.clone()).await;
    let node = db.start_server().await;
    let (_, mut socket, subject) = connected_pair(&db, &node).await;
    for round in 0..2 {
        let mark = format!("round {round}");
        node.post(&subject, STATUS_PATH, json!({"status": "busy", "custom_status": mark}))
            .await
            .expect_status(200);
        let down = Instant::now();
        cluster.stop_immediately().await;
        let response = node.get(&subject, STATUS_PATH).await;
        assert!(response.status == 503 || response.status == 200, "{response:?}");

        // The test's own connection is lost too; a new one succeeds when PostgreSQL is back.
        let hand = loop {
            assert!(down.elapsed() < Duration::from_secs(30), "PostgreSQL did not restart");
            match tokio_postgres::connect(&db.url, tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    break client;
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        };
        let kept = hand
            .query_one(
                "select custom_status from rollcall.presence_choices where user_id = $1",
                &[&subject.id],
            )
            .await;
        assert_eq!(kept.expect("the row").get::<_, &str>(0), mark);
        // The socket stayed open and receives changes again.
        hand.execute(
            "update rollcall.presence_choices set custom_status = $2 where user_id = $1",
            &[&subject.id, &format!("after {round}")],
        )
        .await
        .expect("an update");
        let after = format!("after {round}");
        socket
            .wait_until_within(Duration::from_secs(30), "the later status", |socket| {
                socket.presences[&subject.id]["custom_status"] == *after
            })
            .await;
        set_status_with_retry(&node, &subject, json!({"status": "online"})).await;
    }
    // The cluster is removed with its databases.
    drop(db.close().await);
    cluster.stop().await;
}

#[testkit::test]
async fn two_nodes_deliver_each_others_users(db: Arc<TestDatabase>) {
    let (one, two) = (db.start_server().await, db.start_server().await);
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    let mut watcher = one.socket(&viewer).await;
    watcher.next_message().await;
    let mut talking = two.socket(&subject).await;
    watcher.wait_until("online", |socket| socket.shows_online(subject.id)).await;
    talking.send_message(json!({"type": "status", "data": {"status": "dnd"}})).await;
    watcher.wait_until("dnd", |socket| socket.shows(subject.id, "online", "dnd")).await;
    two.post(&subject, STATUS_PATH, json!({"status": "away"})).await.expect_status(200);
    watcher.wait_until("away", |socket| socket.shows(subject.id, "away", "away")).await;
    talking.close().await;
    watcher.wait_until("offline", |socket| socket.shows_offline(subject.id)).await;
}

/// Returns when the device was last live according to the database.
async fn last_seen(db: &TestDatabase, user: Uuid) -> jiff::Timestamp {
    db.query_row("select last_seen from rollcall.user_last_seen where user_id = $1", &[&user]).await.get(0)
}

#[testkit::test]
async fn devices_of_a_dead_node_go_offline_and_keep_their_last_seen(db: Arc<TestDatabase>) {
    let (watcher, dying) = (db.start_server().await, db.start_server().await);
    let viewer = User::new();
    let users: Vec<User> = (0..5).map(|_| User::new()).collect();
    for user in &users {
        db.add_contact(&viewer, user).await;
    }
    let mut socket = watcher.socket(&viewer).await;
    socket.next_message().await;
    let mut held = Vec::new();
    for user in &users {
        held.push(dying.socket(user).await);
    }
    socket.wait_until("all online", |socket| users.iter().all(|user| socket.shows_online(user.id))).await;
    dying
        .post(&users[0], STATUS_PATH, json!({"status": "busy", "custom_status": "acknowledged"}))
        .await
        .expect_status(200);
    socket.wait_until("busy", |socket| socket.shows(users[0].id, "online", "busy")).await;

    let died = jiff::Timestamp::now();
    let crashed = Instant::now();
    dying.crash();
    socket
        .wait_until_within(Duration::from_secs(30), "all offline", |socket| {
            users.iter().all(|user| socket.shows_offline(user.id))
        })
        .await;
    println!("devices of a dead node were offline after {:?} with a lease of 2 s", crashed.elapsed());
    for user in &users {
        let seen = last_seen(&db, user.id).await;
        let received: jiff::Timestamp = socket.presences[&user.id]["last_seen"]
            .as_str()
            .and_then(|time| time.parse().ok())
            .expect("a time");
        assert_eq!(seen.as_millisecond(), received.as_millisecond());
        // Accurate to the lease renewal interval, a third of the lease, plus scheduling delays.
        let off = died.duration_since(seen).as_millis();
        assert!((-500..2_500).contains(&off), "last seen {off} ms before the end");
    }
    let kept = db
        .query_row(
            "select custom_status, chosen::text from rollcall.presence_choices where user_id = $1",
            &[&users[0].id],
        )
        .await;
    assert_eq!((kept.get::<_, &str>(0), kept.get::<_, &str>(1)), ("acknowledged", "busy"));
    assert_eq!(db.query_row("select count(*) from rollcall.presence_nodes", &[]).await.get::<_, i64>(0), 1);

    // The users reconnect to the remaining node.
    let mut again = watcher.socket(&users[0]).await;
    again.next_message().await;
    socket.wait_until("back, still busy", |socket| socket.shows(users[0].id, "online", "busy")).await;
}

#[testkit::test]
async fn a_device_on_two_nodes_survives_the_loss_of_one(db: Arc<TestDatabase>) {
    let (one, two) = (db.start_server().await, db.start_server().await);
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    let mut watcher = one.socket(&viewer).await;
    watcher.next_message().await;
    let mut kept = one.socket_with(&subject, "&device_id=tab").await;
    kept.next_message().await;
    let mut lost = two.socket_with(&subject, "&device_id=tab").await;
    lost.next_message().await;
    watcher.wait_until("online", |socket| socket.shows_online(subject.id)).await;
    db.wait_until(
        "on both",
        "select cardinality(nodes) = 2 from rollcall.presence_devices where user_id = $s",
        &[("s", subject.id)],
    )
    .await;
    two.crash();
    db.wait_until_within(
        Duration::from_secs(30),
        "swept",
        "select cardinality(nodes) = 1 from rollcall.presence_devices where user_id = $s",
        &[("s", subject.id)],
    )
    .await;
    watcher.expect_no_message(Duration::from_millis(500)).await;
    assert!(watcher.shows_online(subject.id));
}

#[testkit::test]
async fn a_wrongly_swept_node_restores_its_devices(db: Arc<TestDatabase>) {
    let (one, two) = (db.start_server().await, db.start_server().await);
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    let mut watcher = one.socket(&viewer).await;
    watcher.next_message().await;
    let mut talking = two.socket(&subject).await;
    talking.next_message().await;
    watcher.wait_until("online", |socket| socket.shows_online(subject.id)).await;
    // As after a minute in which the node could not reach the database.
    db.execute(
        "delete from rollcall.presence_nodes where id = $node; select rollcall.sweep()",
        &[("node", two.id)],
    )
    .await;
    watcher.wait_until("offline", |socket| socket.shows_offline(subject.id)).await;
    watcher.wait_until("online again", |socket| socket.shows_online(subject.id)).await;
}

#[testkit::test]
async fn a_stopped_node_leaves_no_user_online(db: Arc<TestDatabase>) {
    let (one, two) = (db.start_server().await, db.start_server().await);
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    let mut watcher = one.socket(&viewer).await;
    watcher.next_message().await;
    let mut talking = two.socket(&subject).await;
    talking.next_message().await;
    watcher.wait_until("online", |socket| socket.shows_online(subject.id)).await;
    let stopping = tokio::spawn(async move { two.stop().await });
    talking.expect_close(1001).await;
    drop(talking);
    stopping.await.expect("no panic").expect("a graceful stop");
    watcher.wait_until("offline", |socket| socket.shows_offline(subject.id)).await;
    assert_eq!(
        connect(&db.url)
            .await
            .query_one("select count(*) from rollcall.presence_nodes", &[])
            .await
            .expect("a count")
            .get::<_, i64>(0),
        1
    );
}

#[testkit::test]
async fn a_killed_process_leaves_no_user_online_and_loses_no_acknowledged_write(db: Arc<TestDatabase>) {
    let (watcher, dying) = tokio::join!(db.start_server_process(), db.start_server_process());
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    let mut socket = watcher.socket(&viewer).await;
    socket.next_message().await;
    let mut held = dying.socket(&subject).await;
    held.next_message().await;
    dying
        .post(&subject, STATUS_PATH, json!({"status": "dnd", "custom_status": "written"}))
        .await
        .expect_status(200);
    socket.wait_until("dnd", |socket| socket.shows(subject.id, "online", "dnd")).await;
    dying.crash();
    let limit = Duration::from_secs(30);
    socket.wait_until_within(limit, "offline", |socket| socket.shows_offline(subject.id)).await;
    // The offline presence does not show it, but the acknowledged choice is stored.
    let kept = "select chosen = 'dnd' and custom_status = 'written' from rollcall.presence_choices where user_id = $1";
    assert!(db.query_row(kept, &[&subject.id]).await.get::<_, bool>(0));
    watcher.stop().await.expect("a graceful stop on SIGTERM");
    socket.expect_close(1001).await;
}

/// A laptop sleeps: its socket stays open and silent. It wakes up in the middle of a frame.
#[testkit::test]
async fn a_client_without_pongs_is_offline_within_30_s_until_its_next_frame(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    let mut socket = node.socket(&viewer).await;
    socket.next_message().await;
    let mut gone = node.stalled_socket(&subject).await;
    let last_word = Instant::now();
    let started = jiff::Timestamp::now();
    socket.wait_until("online", |socket| socket.shows_online(subject.id)).await;
    let limit = Duration::from_secs(40);
    socket.wait_until_within(limit, "offline", |socket| socket.shows_offline(subject.id)).await;
    let took = last_word.elapsed();
    println!("an unresponsive client was offline after {took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    // last_seen is the time of the last frame, not of the timeout.
    let late = last_seen(&db, subject.id).await.duration_since(started).as_millis();
    assert!((-1_000..5_000).contains(&late), "last seen {late} ms after its last frame");

    // A masked text frame (RFC 6455, section 5.2). With a zero mask the payload stays readable.
    let heartbeat = br#"{"type":"heartbeat"}"#;
    let length = u8::try_from(heartbeat.len()).expect("is short");
    let frame = [&[0x81, 0x80 | length, 0, 0, 0, 0], &heartbeat[..]].concat();
    gone.write_all(&frame).await.expect("the socket is still open");
    socket.wait_until("online again", |socket| socket.shows_online(subject.id)).await;
}
