//! Changes of many users at once, and many viewers of many users.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use rollcall::hub::OutboxLimits;
use serde_json::Value;
use testkit::{
    client::Socket,
    harness::{TestDatabase, User, service_user},
};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

/// An outbox that a change of a few dozen users fills.
const SMALL_OUTBOX: OutboxLimits = OutboxLimits {
    stream_bytes: 8 * 1024,
    stream_bytes_active_reader: 16 * 1024,
    state_bytes: 8 * 1024,
    state_bytes_active_reader: 16 * 1024,
};

/// Creates a team of users that are online and share with their team, and of `viewers`.
async fn create_team(db: &TestDatabase, members: usize, viewers: &[User]) {
    let ids: Vec<Uuid> = viewers.iter().map(|viewer| viewer.id).collect();
    db.execute(
        &format!(
            "create temporary table members as select gen_random_uuid() as id from generate_series(1, {members});
             insert into rollcall.teams (name, owner_id) values ('large', $owner);
             insert into rollcall.presence_settings (user_id, visibility) select id, 'team' from members"
        ),
        &[("owner", Uuid::new_v4())],
    )
    .await;
    let join = "insert into rollcall.team_members (team_id, user_id)
        select t.id, m.id from rollcall.teams t, (select id from members union all select unnest($1::uuid[])) m";
    db.sql.execute(join, &[&ids]).await.expect("the team is joined");
    let connect = "insert into rollcall.presence_devices (user_id, device_id) select id, 'd' from members";
    db.execute(connect, &[]).await;
}

/// The difference is larger than what a client that does not read may have queued.
#[testkit::test]
async fn a_viewer_that_leaves_a_large_team_keeps_its_socket(db: Arc<TestDatabase>) {
    const MEMBERS: usize = 8_000;
    let node = db.start_server().await;
    let viewer = User::new();
    create_team(&db, MEMBERS, std::slice::from_ref(&viewer)).await;
    let mut socket = node.socket(&viewer).await;
    socket.next_message().await;
    let online = socket.presences.values().filter(|face| face["status"] == "online").count();
    assert!(online >= MEMBERS, "{online}");
    db.execute("delete from rollcall.team_members where user_id = $viewer", &[("viewer", viewer.id)]).await;
    let mut hidden = 0;
    while hidden < MEMBERS {
        let message = socket.next_message().await;
        hidden += usize::from(message["type"] == "presence_update" && message["data"]["status"] == "offline");
    }
    // Nor a close frame.
    socket.expect_no_message(Duration::from_millis(300)).await;
}

/// Together they take longer than the timeout of a lookup. None is taken for one with a slow policy.
#[testkit::test(exclusive)]
async fn many_members_of_a_large_team_connect_at_once(db: Arc<TestDatabase>) {
    const MEMBERS: usize = 5_000;
    let viewers = User::many(40);
    create_team(&db, MEMBERS, &viewers).await;
    let node = db.start_server().await;
    let started = Instant::now();
    let connected = join_all(viewers.iter().map(async |viewer| {
        let mut socket = node.socket(viewer).await;
        let initial = socket.next_message().await;
        assert_eq!(initial["type"], "initial_state");
        assert!(socket.presences.len() >= MEMBERS);
        (socket, started.elapsed())
    }));
    let sockets = timeout(Duration::from_secs(60), connected).await.expect("all get their initial state");
    println!("the last of {} got its initial state after {:?}", sockets.len(), started.elapsed());
}

/// Waits until the socket shows this number of online members with this activity.
async fn wait_until_shown(socket: &mut Socket, viewer: &User, members: usize, activity: Option<&str>) {
    let what = format!("{members} members with {activity:?}");
    let own = viewer.id.to_string();
    let is_shown = |face: &Value| {
        face["status"] == "online" && face["activity"].as_str() == activity && face["user_id"] != *own
    };
    let count = |socket: &Socket| socket.presences.values().filter(|face| is_shown(face)).count();
    socket.wait_until_within(Duration::from_secs(60), &what, |socket| count(socket) == members).await;
}

/// The initial state and three changes, each 30 times as large as the outbox.
#[testkit::test]
async fn a_change_far_larger_than_the_outbox_reaches_a_client_that_reads(db: Arc<TestDatabase>) {
    const MEMBERS: usize = 1_000;
    let node = db.start_server_configured(|config| config.hub.connections.outbox = SMALL_OUTBOX).await;
    let viewer = User::new();
    create_team(&db, MEMBERS, std::slice::from_ref(&viewer)).await;
    for mut socket in [node.socket(&viewer).await, node.events_with(&viewer, "").await] {
        wait_until_shown(&mut socket, &viewer, MEMBERS, None).await;
        for activity in ["one", "two"] {
            let change = format!("update rollcall.presence_devices set activity = '{activity}'");
            db.execute(&change, &[]).await;
            wait_until_shown(&mut socket, &viewer, MEMBERS, Some(activity)).await;
        }
        let leave = "update rollcall.team_members set accepted_at = null where user_id = $viewer";
        db.execute(leave, &[("viewer", viewer.id)]).await;
        wait_until_shown(&mut socket, &viewer, 0, None).await;
        let join = "update rollcall.team_members set accepted_at = now() where user_id = $viewer;
            update rollcall.presence_devices set activity = null";
        db.execute(join, &[("viewer", viewer.id)]).await;
        wait_until_shown(&mut socket, &viewer, MEMBERS, None).await;
    }
}

/// What is held back for it costs no memory, but its socket does.
#[testkit::test]
async fn a_client_that_does_not_read_is_closed(db: Arc<TestDatabase>) {
    const MEMBERS: usize = 1_000;
    let node = db
        .start_server_configured(|config| {
            config.hub.connections.outbox = SMALL_OUTBOX;
            config.hub.connections.stall_timeout = Duration::from_secs(1);
        })
        .await;
    let viewer = User::new();
    create_team(&db, MEMBERS, std::slice::from_ref(&viewer)).await;
    let (stalled, service) = (node.stalled_socket(&viewer).await, service_user());
    let is_open = async || {
        let connections = node.get(&service, "/api/v1/system/connections").await.expect_status(200);
        connections.to_string().contains(&viewer.id.to_string())
    };
    let closed = async {
        while !is_open().await {
            sleep(Duration::from_millis(10)).await;
        }
        // The buffers of the kernel must fill before the server notices.
        let mut round = 0;
        while is_open().await {
            round += 1;
            let activity = format!("{round:0>250}");
            db.execute(&format!("update rollcall.presence_devices set activity = '{activity}'"), &[]).await;
        }
    };
    timeout(Duration::from_secs(60), closed).await.expect("it is closed");
    drop(stalled);
}
