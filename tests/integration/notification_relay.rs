//! One node reads the notifications of transactions from the write-ahead log and sends them for everybody.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use nix::unistd::Pid;
use serde_json::json;
use testkit::{
    client::Socket,
    harness::{TestDatabase, TestServer, User},
    phoenix::SerializerVersion,
    stopped_process::StoppedProcess,
};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, NoTls};

async fn start_server(db: &TestDatabase) -> Arc<TestServer> {
    db.start_server_with(|settings| settings.set("NOTIFICATION_RELAY", "true")).await
}

async fn wait_for_relay(db: &TestDatabase) {
    db.wait_until("a relay", "select relayed_until > clock_timestamp() from rollcall_internal.relay", &[])
        .await;
}

/// A node that relays, a viewer with a socket on it, and a visible user.
async fn relaying_node(db: &TestDatabase) -> (Arc<TestServer>, Pair) {
    let node = start_server(db).await;
    let pair = Pair::new(db, &node).await;
    wait_for_relay(db).await;
    (node, pair)
}

struct Pair {
    viewer: User,
    subject: User,
    socket: Socket,
}

impl Pair {
    async fn new(db: &TestDatabase, node: &TestServer) -> Self {
        let (viewer, subject) = (User::new(), User::new());
        db.add_contact(&viewer, &subject).await;
        db.set_status(&subject, "online").await;
        let mut socket = node.socket(&viewer).await;
        socket.wait_until("online", |socket| socket.shows_online(subject.id)).await;
        Self { viewer, subject, socket }
    }

    async fn execute(&self, db: &TestDatabase, statements: &str) {
        db.execute(statements, &[("s", self.subject.id), ("v", self.viewer.id)]).await;
    }

    async fn block(&self, db: &TestDatabase) {
        self.execute(db, "insert into rollcall.blocks values ($s, $v)").await;
    }

    async fn unblock(&self, db: &TestDatabase) {
        self.execute(db, "delete from rollcall.blocks where blocker_id = $s").await;
    }

    async fn wait_until_hidden(&mut self) {
        let subject = self.subject.id;
        self.socket.wait_until("hidden", |socket| socket.hides(subject)).await;
    }

    async fn wait_until_visible(&mut self) {
        let subject = self.subject.id;
        self.socket.wait_until("visible", |socket| !socket.hides(subject)).await;
    }
}

/// Sender processes of the notifications of all channels.
async fn listen(db: &TestDatabase) -> mpsc::UnboundedReceiver<(String, i32)> {
    let (client, mut connection) = tokio_postgres::connect(&db.url, NoTls).await.expect("a connection");
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(notification) = message {
                sender.send((notification.channel().to_owned(), notification.process_id())).ok();
            }
        }
    });
    let channels = ["rollcall_visibility", "rollcall_rights", "rollcall_presence", "rollcall_bundles"];
    let listen = channels.map(|channel| format!("listen {channel}")).join("; ");
    client.batch_execute(&format!("{listen}; listen rollcall_messages")).await.expect("LISTEN");
    // The connection lives as long as its client.
    tokio::spawn(async move {
        let _client = client;
        std::future::pending::<()>().await;
    });
    receiver
}

#[testkit::test]
async fn transactions_of_applications_do_not_notify(db: Arc<TestDatabase>) {
    let (_node, pair) = relaying_node(&db).await;
    db.execute(
        "create table public.friendships (user_id uuid, friend_id uuid);
         create policy friends on rollcall.user_presence for select to authenticated using (
           exists (select from public.friendships f where f.user_id = auth.uid() and f.friend_id = user_presence.user_id))",
        &[],
    )
    .await;
    db.execute("select rollcall.watch_visibility_sources()", &[]).await;
    wait_for_relay(&db).await;
    let relay: i32 = db
        .query_row(
            "select pid from pg_stat_activity where application_name = 'rollcall-relay' and datname = current_database()",
            &[],
        )
        .await
        .get(0);
    let mut notifications = listen(&db).await;
    for (statement, channel) in [
        ("insert into rollcall.blocks values ($s, $v)", "rollcall_visibility"),
        ("insert into public.friendships values ($s, $v)", "rollcall_visibility"),
        ("delete from rollcall.contacts", "rollcall_visibility"),
        ("select rollcall.set_status($s, 'busy')", "rollcall_presence"),
        ("select realtime.send('{}', 'event', 'topic')", "rollcall_messages"),
        (
            "insert into rollcall.presence_settings (user_id, visibility) values ($s, 'nobody')",
            "rollcall_visibility",
        ),
    ] {
        pair.execute(&db, statement).await;
        loop {
            let (heard, sender) = notifications.recv().await.expect("a notification");
            assert_eq!(sender, relay, "{statement}: {heard} is not from the relay");
            if heard == channel {
                break;
            }
        }
    }
}

#[testkit::test]
async fn visibility_follows_through_the_relay_and_without_it(db: Arc<TestDatabase>) {
    let (node, mut pair) = relaying_node(&db).await;
    for _ in 0..5 {
        pair.block(&db).await;
        pair.wait_until_hidden().await;
        pair.unblock(&db).await;
        pair.wait_until_visible().await;
    }
    // What is rolled back, also to a savepoint, is not sent.
    pair.execute(
        &db,
        "begin; insert into rollcall.blocks values ($s, $v); rollback;
         begin; savepoint a; insert into rollcall.blocks values ($s, $v); rollback to a; commit",
    )
    .await;
    pair.socket.expect_no_message(Duration::from_millis(300)).await;
    node.stop().await.expect("the node stops");
    let node = start_server(&db).await;
    let mut pair = Pair::new(&db, &node).await;
    pair.block(&db).await;
    pair.wait_until_hidden().await;
}

#[testkit::test]
async fn messages_of_other_programs_are_not_relayed(db: Arc<TestDatabase>) {
    let (_node, mut pair) = relaying_node(&db).await;
    let far = format!("{} rollcall_mark - 9999999999999999", uuid::Uuid::new_v4());
    let unknown = format!("{} rollcall_visibility 1 ", uuid::Uuid::new_v4());
    for content in [&*far, &*unknown, "rollcall_visibility 1 ", "rollcall_visibility", "", "é"] {
        for transactional in ["true", "false"] {
            db.query_row(
                &format!("select pg_logical_emit_message({transactional}, 'rollcall', $1)"),
                &[&content],
            )
            .await;
        }
    }
    pair.block(&db).await;
    pair.wait_until_hidden().await;
    let row = db
        .query_row(
            "select relayed_until < clock_timestamp() + interval '2 s' from rollcall_internal.relay",
            &[],
        )
        .await;
    assert!(row.get::<_, bool>(0), "a forged mark prolongs the lease");
}

#[testkit::test]
async fn a_failed_node_is_replaced_and_nothing_is_missed(db: Arc<TestDatabase>) {
    let first = start_server(&db).await;
    wait_for_relay(&db).await;
    let second = start_server(&db).await;
    let mut pair = Pair::new(&db, &second).await;
    let mut long = Pair::new(&db, &second).await;
    wait_for_relay(&db).await;
    // Writes to the log now and commits when its relay is gone; the next stream waits for it.
    let other = db.connect().await;
    let ids = [("s", long.subject.id), ("v", long.viewer.id)];
    let statement = ids
        .iter()
        .fold("begin; insert into rollcall.blocks values ($s, $v)".to_owned(), |statement, (name, id)| {
            statement.replace(&format!("${name}"), &format!("'{id}'"))
        });
    other.batch_execute(&statement).await.expect("a block");
    first.crash();
    pair.block(&db).await;
    let blocked_at = Instant::now();
    pair.wait_until_hidden().await;
    let took = blocked_at.elapsed();
    // Sooner than the lease ends: the session of the relay has ended.
    assert!(took < Duration::from_secs(1), "after {took:?}");
    other.batch_execute("commit").await.expect("a commit");
    long.wait_until_hidden().await;
    db.wait_until(
        "the second node relays",
        "select node = $second and relayed_until > clock_timestamp() from rollcall_internal.relay",
        &[("second", second.id)],
    )
    .await;
    pair.unblock(&db).await;
    pair.wait_until_visible().await;
}

#[testkit::test]
async fn a_relay_whose_connections_end_starts_again(db: Arc<TestDatabase>) {
    let (_node, mut pair) = relaying_node(&db).await;
    let admin = testkit::cluster::connect(&db.admin_url()).await;
    let mut slowest = Duration::ZERO;
    for round in 0..12 {
        let application = if round % 2 == 0 { "rollcall-relay" } else { "rollcall-relay-stream" };
        let kill = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where application_name = '{application}' and datname = current_database()"
        );
        admin.batch_execute(&kill).await.expect("a superuser may do this");
        let changed_at = Instant::now();
        if round % 2 == 0 {
            pair.block(&db).await;
            pair.wait_until_hidden().await;
        } else {
            pair.unblock(&db).await;
            pair.wait_until_visible().await;
        }
        slowest = slowest.max(changed_at.elapsed());
        wait_for_relay(&db).await;
    }
    assert!(slowest < Duration::from_secs(2), "a change took {slowest:?}");
}

/// Stops the process that sends the log to the relay. While it is stopped, no database of the cluster can be dropped, so
/// such tests run alone.
async fn stop_log_sender(db: &TestDatabase) -> StoppedProcess {
    let row = db
        .query_row(
            "select r.pid from pg_stat_replication r join pg_replication_slots s on s.active_pid = r.pid
             where s.database = current_database() and s.slot_name like 'rollcall_relay_%'
             order by r.backend_start desc limit 1",
            &[],
        )
        .await;
    StoppedProcess::stop(Pid::from_raw(row.get(0))).expect("a process of this user")
}

async fn wait_for_end_of_lease(db: &TestDatabase) {
    db.wait_until("no relay", "select relayed_until < clock_timestamp() from rollcall_internal.relay", &[])
        .await;
}

#[testkit::test(exclusive)]
async fn a_stream_that_stands_still_ends_the_lease(db: Arc<TestDatabase>) {
    let (node, mut pair) = relaying_node(&db).await;
    let sender = stop_log_sender(&db).await;
    pair.block(&db).await;
    wait_for_end_of_lease(&db).await;
    // A change that comes later is sent without the log.
    let mut later = Pair::new(&db, &node).await;
    later.block(&db).await;
    later.wait_until_hidden().await;
    drop(sender);
    pair.wait_until_hidden().await;
    wait_for_relay(&db).await;
}

#[testkit::test(exclusive)]
async fn a_broadcast_that_overtakes_a_revocation_is_not_delivered(db: Arc<TestDatabase>) {
    db.execute(
        "create table public.members (user_id uuid);
         grant select on public.members to authenticated;
         create policy members on realtime.messages for select to authenticated using (
           exists (select from public.members m where m.user_id = auth.uid()))",
        &[],
    )
    .await;
    let node = start_server(&db).await;
    wait_for_relay(&db).await;
    let (stays, goes) = (User::new(), User::new());
    let ids = [("stays", stays.id), ("goes", goes.id)];
    db.execute("insert into public.members values ($stays), ($goes)", &ids).await;
    let topic = "realtime:room";
    let mut staying = node.channel_client(SerializerVersion::V2).await;
    staying.join_private(topic, &stays.token, json!({})).await;
    let mut going = node.channel_client(SerializerVersion::V2).await;
    going.join_private(topic, &goes.token, json!({})).await;
    let sender = stop_log_sender(&db).await;
    // The revocation stays in the log; the broadcast is sent directly.
    db.execute("delete from public.members where user_id = $goes", &ids).await;
    wait_for_end_of_lease(&db).await;
    db.execute("select realtime.send('{}', 'later', 'room')", &[]).await;
    assert_eq!(staying.next_broadcast(topic).await["event"], "later");
    let frame = going
        .wait_for_match("the end", |frame| frame.event == "phx_close" || frame.payload["event"] == "later")
        .await;
    drop(sender);
    assert_eq!(frame.event, "phx_close", "{frame:?}");
}
