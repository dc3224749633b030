//! Rows and numbers that go back under open sockets: restored backups, fail-overs with loss, `setval`, deleted rows.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use serde_json::json;
use testkit::{
    cluster::{Cluster, connect},
    copied_cluster::CopiedCluster,
    harness::{TestDatabase, TestServer, User},
    phoenix::SerializerVersion,
};

const STATUS_PATH: &str = "/api/presence/status";

async fn set_status(node: &TestServer, user: &User, status: &str) {
    node.post(user, STATUS_PATH, json!({"status": status})).await.expect_status(200);
}

#[testkit::test]
async fn changes_arrive_after_version_numbers_went_back(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, user) = (User::new(), User::new());
    db.add_contact(&viewer, &user).await;
    let mut socket = node.socket(&viewer).await;
    socket.next_message().await;
    let _device = node.socket_with(&user, "&device_id=web").await;
    set_status(&node, &user, "busy").await;
    socket.wait_until("busy", |socket| socket.shows(user.id, "online", "busy")).await;

    // As the trigger of the statement would set the version itself, it is told that a refresh is in progress.
    let back = "with batch as (select set_config('rollcall.batch', 'on', true))
      update rollcall.user_presence set version = 1 from batch where user_id = $user";
    db.execute(back, &[("user", user.id)]).await;
    set_status(&node, &user, "away").await;
    socket.wait_until("away", |socket| socket.shows(user.id, "away", "away")).await;
    // The same number again, with another content.
    db.execute(back, &[("user", user.id)]).await;
    set_status(&node, &user, "invisible").await;
    socket.wait_until("invisible", |socket| socket.shows_offline(user.id)).await;
}

#[testkit::test]
async fn rows_that_vanish_under_an_open_socket_come_back(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, user) = (User::new(), User::new());
    db.add_contact(&viewer, &user).await;
    let mut socket = node.socket(&viewer).await;
    socket.next_message().await;
    let _devices =
        [node.socket_with(&user, "&device_id=web").await, node.socket_with(&user, "&device_id=phone").await];
    socket.wait_until("online", |socket| socket.shows_online(user.id)).await;
    for statement in [
        "delete from rollcall.presence_devices where user_id = $user",
        "update rollcall.presence_devices set status = 'offline', nodes = '{}' where user_id = $user",
        "update rollcall.presence_devices set nodes = '{}', status = 'offline', signed_off_at = null,
           last_heartbeat_at = now() - interval '1 day' where user_id = $user",
        "delete from rollcall.presence_nodes",
        "truncate rollcall.presence_devices",
    ] {
        db.execute(statement, &[("user", user.id)]).await;
        // Two comparisons, one after each renewal of the lease.
        let recorded = "select count(*) = 2 from rollcall.presence_devices where user_id = $user and live
          and nodes = array(select id from rollcall.presence_nodes)";
        db.wait_until(statement, recorded, &[("user", user.id)]).await;
        socket.wait_until(statement, |socket| socket.shows_online(user.id)).await;
    }
}

#[testkit::test]
async fn a_device_that_signed_off_is_not_brought_back(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    let mut socket = node.socket_with(&user, "&device_id=web").await;
    socket.next_message().await;
    let ids = [("user", user.id)];
    db.wait_until("online", "select live from rollcall.presence_devices where user_id = $user", &ids).await;
    set_status(&node, &user, "offline").await;
    // Two comparisons follow two renewals of the lease.
    for _ in 0..4 {
        let row = db.query_row("select renewed_at::text from rollcall.presence_nodes", &[]).await;
        let renewed = format!("select renewed_at > '{}' from rollcall.presence_nodes", row.get::<_, &str>(0));
        db.wait_until("the lease is renewed", &renewed, &[]).await;
    }
    let row = "select not live from rollcall.presence_devices where user_id = $user";
    db.wait_until("still offline", row, &ids).await;
}

/// Rows of an older time, as in a restored backup, that say that a device is connected to a node.
#[testkit::test]
async fn a_device_without_a_socket_does_not_stay_connected(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, gone, present) = (User::new(), User::new(), User::new());
    db.add_contact(&viewer, &gone).await;
    db.add_contact(&viewer, &present).await;
    let mut socket = node.socket(&viewer).await;
    socket.next_message().await;
    let _device = node.socket_with(&present, "&device_id=web").await;
    set_status(&node, &gone, "online").await;
    socket.wait_until("online", |socket| socket.shows_online(present.id)).await;
    socket.wait_until("online", |socket| socket.shows_online(gone.id)).await;
    db.execute(
        "update rollcall.presence_devices set nodes = array(select id from rollcall.presence_nodes) where user_id = $user",
        &[("user", gone.id)],
    )
    .await;
    socket.wait_until("offline", |socket| socket.shows_offline(gone.id)).await;
    let row = "select nodes = '{}' and not live from rollcall.presence_devices where user_id = $user";
    db.wait_until("disconnected", row, &[("user", gone.id)]).await;
    assert!(socket.shows_online(present.id), "a device with a socket stays connected");
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs");
    assert!(status.success());
}

/// A standby that lacks the last acknowledged changes is promoted and takes over the address of the primary.
#[testkit::test(exclusive)]
async fn sockets_show_the_truth_after_a_standby_was_promoted(_: Arc<TestDatabase>) {
    let cluster = Arc::new(Cluster::start_owner_only("promoted").await);
    let db = TestDatabase::new(cluster.clone()).await;
    let node = db.start_server().await;
    let (viewer, user, other, hidden) = (User::new(), User::new(), User::new(), User::new());
    for contact in [&user, &other, &hidden] {
        db.add_contact(&viewer, contact).await;
    }
    let mut socket = node.socket(&viewer).await;
    socket.next_message().await;
    let _device = node.socket_with(&user, "&device_id=web").await;
    set_status(&node, &user, "dnd").await;
    set_status(&node, &hidden, "online").await;
    socket.wait_until("dnd", |socket| socket.shows(user.id, "online", "dnd")).await;
    socket.wait_until("online", |socket| socket.shows_online(hidden.id)).await;
    let standby = CopiedCluster::standby(&cluster, &db.admin_url()).await;
    standby.promote().await;
    standby.stop().await;

    // Lost: changes of presence and of visibility.
    for status in ["busy", "away", "busy"] {
        set_status(&node, &user, status).await;
    }
    set_status(&node, &other, "online").await;
    db.execute("insert into rollcall.blocks values ($h, $v)", &[("h", hidden.id), ("v", viewer.id)]).await;
    socket.wait_until("busy", |socket| socket.shows(user.id, "online", "busy")).await;
    socket.wait_until("the other", |socket| socket.shows_online(other.id)).await;
    socket.wait_until("hidden", |socket| socket.hides(hidden.id)).await;
    cluster.while_stopped(|files| standby.exchange(files)).await;
    let promoted = "select timeline_id > 1 and not pg_is_in_recovery() from pg_control_checkpoint()";
    let sql = connect(&db.admin_url()).await;
    assert!(sql.query_one(promoted, &[]).await.expect("an answer").get::<_, bool>(0), "a new timeline");
    socket
        .wait_until("what the standby has", |socket| {
            socket.shows(user.id, "online", "dnd") && socket.hides(other.id) && !socket.hides(hidden.id)
        })
        .await;
    // Later changes arrive, although they have lower numbers than lost ones.
    set_status(&node, &user, "invisible").await;
    socket.wait_until("invisible", |socket| socket.shows_offline(user.id)).await;
    set_status(&node, &user, "busy").await;
    socket.wait_until("busy again", |socket| socket.shows(user.id, "online", "busy")).await;
    sql.execute("insert into rollcall.blocks values ($1, $2)", &[&user.id, &viewer.id])
        .await
        .expect("blocked");
    socket.wait_until("blocked", |socket| socket.hides(user.id)).await;
    db.close().await.expect("closed");
    cluster.stop().await;
}

/// The open sockets of a database whose files are replaced by an older copy, as after a restored backup: identifiers
/// of transactions, positions in the log and sequences go back, and rows that were acknowledged are gone.
#[testkit::test(exclusive)]
async fn sockets_show_the_truth_after_a_backup_was_restored(_: Arc<TestDatabase>) {
    let cluster = Arc::new(Cluster::start_owner_only("restored").await);
    let db = TestDatabase::new(cluster.clone()).await;
    let node = db.start_server_with(|settings| settings.set("REALTIME_SLOT_NAME", "restored")).await;
    let (viewer, user, other) = (User::new(), User::new(), User::new());
    db.add_contact(&viewer, &user).await;
    db.add_contact(&viewer, &other).await;
    db.execute(
        "create table public.notes (id int primary key, body text);
         alter publication supabase_realtime add table public.notes;
         grant select on public.notes to anon, authenticated",
        &[],
    )
    .await;
    let mut socket = node.socket(&viewer).await;
    socket.next_message().await;
    let _device = node.socket_with(&user, "&device_id=web").await;
    let mut changes = node.channel_client(SerializerVersion::BOTH[0]).await;
    let filter = json!({"postgres_changes": [{"event": "*", "schema": "public", "table": "notes"}]});
    changes.join("realtime:notes", filter).await;
    changes.wait_for("realtime:notes", "system").await;
    socket.wait_until("online", |socket| socket.shows_online(user.id)).await;

    let backup = cluster.dir().with_extension("backup");
    cluster.while_stopped(|files| copy(files, &backup)).await;
    let sql = db.connect().await;
    socket.wait_until("online again", |socket| socket.shows_online(user.id)).await;
    // Lost later: changes of presence, visibility and rows, with many transactions.
    set_status(&node, &user, "busy").await;
    set_status(&node, &other, "online").await;
    socket.wait_until("busy", |socket| socket.shows(user.id, "online", "busy")).await;
    socket.wait_until("the other", |socket| socket.shows_online(other.id)).await;
    for id in 0..200 {
        sql.execute("insert into public.notes values ($1, 'lost')", &[&id]).await.expect("inserted");
    }
    changes.wait_for_match("the last lost row", |frame| frame.payload["data"]["record"]["id"] == 199).await;

    cluster
        .while_stopped(|files| {
            std::fs::remove_dir_all(files).expect("deleted");
            copy(&backup, files);
        })
        .await;
    std::fs::remove_dir_all(&backup).expect("deleted");
    let sql = db.connect().await;
    // The user has an open socket, the other one was never there.
    socket
        .wait_until("what the backup says", |socket| {
            socket.shows(user.id, "online", "online") && socket.hides(other.id)
        })
        .await;
    set_status(&node, &user, "invisible").await;
    socket.wait_until("invisible", |socket| socket.shows_offline(user.id)).await;

    // Row changes arrive, although their positions in the log were delivered before.
    let mut id = 1_000;
    loop {
        sql.execute("insert into public.notes values ($1, 'kept')", &[&id]).await.expect("inserted");
        let frames = changes.frames_within(Duration::from_millis(300)).await;
        if frames.iter().any(|frame| frame.payload["data"]["record"]["body"] == "kept") {
            break;
        }
        id += 1;
        assert!(id < 1_060, "no change arrives");
    }
    db.close().await.expect("closed");
    cluster.stop().await;
}
