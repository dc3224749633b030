//! Changes in SQL reach open sockets, whichever table changes.

use std::{sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use testkit::{
    client::Socket,
    harness::{TestDatabase, User},
};
use uuid::Uuid;

/// What a viewer must see of a user.
#[derive(Debug, Clone, Copy)]
enum Expectation {
    /// This status and availability.
    Shows(&'static str, &'static str),
    /// Offline, with a last_seen.
    ShownOffline,
    /// Never sent, or hidden.
    Hidden,
    /// This field is present.
    HasField(&'static str),
    /// This field is null or absent.
    LacksField(&'static str),
}
use Expectation::{HasField, Hidden, LacksField, ShownOffline, Shows};

const ONLINE: Expectation = Shows("online", "online");

impl Expectation {
    fn is_met(self, socket: &Socket, subject: Uuid) -> bool {
        let field = |name: &str| {
            socket.presences.get(&subject).and_then(|face| face.get(name)).filter(|field| !field.is_null())
        };
        match self {
            Shows(status, availability) => socket.shows(subject, status, availability),
            ShownOffline => socket.shows_offline(subject),
            Hidden => socket.hides(subject),
            HasField(name) => field(name).is_some(),
            LacksField(name) => field(name).is_none(),
        }
    }
}

/// Executes statements as the owner. After each, an open socket must meet its expectation. `$v` is the viewer, `$s` the
/// online user it follows, `$o` another user.
async fn run_script(db: &TestDatabase, script: &[(&str, Expectation)]) {
    let node = db.start_server().await;
    let (viewer, subject, other) = (User::new(), User::new(), User::new());
    let ids = [("v", viewer.id), ("s", subject.id), ("o", other.id)];
    db.set_status(&subject, "online").await;
    let mut socket = node.socket_with(&viewer, &format!("&user_ids={}", subject.id)).await;
    socket.next_message().await;
    for (statement, expectation) in script {
        db.execute(statement, &ids).await;
        let what = format!("{expectation:?} after: {statement}");
        socket.wait_until(&what, |socket| expectation.is_met(socket, subject.id)).await;
        // A new socket shows the same.
        let mut fresh = node.socket_with(&viewer, &format!("&user_ids={}", subject.id)).await;
        fresh.next_message().await;
        assert!(expectation.is_met(&fresh, subject.id), "{what}; a new socket shows {:?}", fresh.presences);
        assert_eq!(without_times(&fresh, subject.id), without_times(&socket, subject.id), "{what}");
        fresh.close().await;
    }
}

/// Returns the presence without fields that change without an update.
fn without_times(socket: &Socket, subject: Uuid) -> Option<Value> {
    let mut face = socket.presences.get(&subject).filter(|_| !socket.hides(subject))?.clone();
    if face["status"] != "offline" && !face["last_seen"].is_null() {
        face["last_seen"] = json!("some time");
    }
    Some(face)
}

const ADD_CONTACT: &str =
    "insert into rollcall.contacts (requester_id, addressee_id, accepted_at) values ($v, $s, now())";

#[testkit::test]
async fn device_changes_reach_sockets(db: Arc<TestDatabase>) {
    run_script(
        &db,
        &[
            (ADD_CONTACT, ONLINE),
            (
                "update rollcall.presence_devices set status = 'away' where user_id = $s",
                Shows("away", "away"),
            ),
            ("insert into rollcall.presence_devices (user_id, device_id) values ($s, 'second')", ONLINE),
            (
                "update rollcall.presence_devices set activity = 'a game' where device_id = 'second'",
                HasField("activity"),
            ),
            (
                "update rollcall.presence_devices set current_page = '/x' where device_id = 'second'",
                HasField("current_page"),
            ),
            ("update rollcall.presence_devices set idle_since = now()", Shows("away", "away")),
            (
                "update rollcall.presence_devices set idle_since = null, activity = null",
                LacksField("activity"),
            ),
            ("delete from rollcall.presence_devices where device_id = 'second'", Shows("away", "away")),
            ("update rollcall.presence_devices set status = 'offline'", ShownOffline),
            ("update rollcall.presence_devices set status = 'online'", ONLINE),
            ("delete from rollcall.presence_devices", ShownOffline),
            ("select rollcall.set_status($s, 'dnd', 'third')", Shows("online", "dnd")),
        ],
    )
    .await;
}

#[testkit::test]
async fn choice_changes_reach_sockets(db: Arc<TestDatabase>) {
    run_script(
        &db,
        &[
            (ADD_CONTACT, ONLINE),
            (
                "insert into rollcall.presence_choices (user_id, chosen) values ($s, 'dnd')",
                Shows("online", "dnd"),
            ),
            ("update rollcall.presence_choices set custom_status = 'out'", HasField("custom_status")),
            ("update rollcall.presence_choices set chosen = 'busy'", Shows("online", "busy")),
            ("update rollcall.presence_choices set chosen = 'invisible'", ShownOffline),
            ("update rollcall.presence_choices set chosen = null", ONLINE),
            (
                "update rollcall.presence_choices set custom_status_expires_at = now() + interval '300 ms'",
                HasField("custom_status"),
            ),
            ("select", LacksField("custom_status")),
            ("update rollcall.presence_choices set chosen = 'busy'", Shows("online", "busy")),
            ("delete from rollcall.presence_choices", ONLINE),
        ],
    )
    .await;
}

#[testkit::test]
async fn setting_changes_reach_sockets(db: Arc<TestDatabase>) {
    run_script(&db, &[
        ("select", Hidden),
        ("insert into rollcall.presence_settings (user_id, visibility) values ($s, 'everyone')", ONLINE),
        ("update rollcall.presence_settings set visibility = 'contacts'", Hidden),
        (ADD_CONTACT, ONLINE),
        ("update rollcall.presence_settings set visibility = 'team'", Hidden),
        ("update rollcall.presence_settings set visibility = 'everyone'", ONLINE),
        ("update rollcall.presence_settings set show_last_seen = false", LacksField("last_seen")),
        ("update rollcall.presence_settings set show_last_seen = true", HasField("last_seen")),
        ("update rollcall.presence_choices set custom_status = 'x'; insert into rollcall.presence_choices (user_id, custom_status) values ($s, 'x') on conflict do nothing", HasField("custom_status")),
        ("update rollcall.presence_settings set show_custom_status = false", LacksField("custom_status")),
        ("update rollcall.presence_settings set show_custom_status = true", HasField("custom_status")),
        ("update rollcall.presence_devices set activity = 'y'", HasField("activity")),
        ("update rollcall.presence_settings set show_activity = false", LacksField("activity")),
        ("update rollcall.presence_settings set visibility = 'nobody'", Hidden),
        ("delete from rollcall.presence_settings", ONLINE),
    ])
    .await;
}

#[testkit::test]
async fn contact_changes_reach_sockets(db: Arc<TestDatabase>) {
    run_script(
        &db,
        &[
            ("insert into rollcall.contacts (requester_id, addressee_id) values ($s, $v)", Hidden),
            ("update rollcall.contacts set accepted_at = now()", ONLINE),
            ("update rollcall.contacts set accepted_at = null", Hidden),
            ("update rollcall.contacts set accepted_at = now()", ONLINE),
            ("update rollcall.contacts set addressee_id = $o", Hidden),
            ("update rollcall.contacts set addressee_id = $v", ONLINE),
            ("delete from rollcall.contacts", Hidden),
            (ADD_CONTACT, ONLINE),
            ("truncate rollcall.contacts", Hidden),
        ],
    )
    .await;
}

#[testkit::test]
async fn block_changes_reach_sockets(db: Arc<TestDatabase>) {
    run_script(
        &db,
        &[
            (ADD_CONTACT, ONLINE),
            ("insert into rollcall.blocks (blocker_id, blocked_id) values ($s, $v)", Hidden),
            ("insert into rollcall.presence_visibility_list (user_id, viewer_id) values ($s, $v)", Hidden),
            ("insert into rollcall.presence_settings (user_id, visibility) values ($s, 'everyone')", Hidden),
            ("delete from rollcall.blocks", ONLINE),
            ("insert into rollcall.blocks (blocker_id, blocked_id) values ($v, $s)", Hidden),
            ("update rollcall.blocks set blocked_id = $o", ONLINE),
            ("update rollcall.blocks set blocked_id = $s", Hidden),
            ("truncate rollcall.blocks", ONLINE),
        ],
    )
    .await;
}

#[testkit::test]
async fn team_changes_reach_sockets(db: Arc<TestDatabase>) {
    const JOIN: &str = "insert into rollcall.team_members (team_id, user_id)
        select id, unnest(array[$v, $s]::uuid[]) from rollcall.teams where name = 'a'";
    run_script(&db, &[
        ("insert into rollcall.teams (name, owner_id) values ('a', $o), ('b', $o)", Hidden),
        ("insert into rollcall.presence_settings (user_id, visibility) values ($s, 'team')", Hidden),
        (JOIN, ONLINE),
        ("delete from rollcall.team_members where user_id = $v", Hidden),
        ("insert into rollcall.team_members (team_id, user_id) select id, $v from rollcall.teams where name = 'a'", ONLINE),
        ("update rollcall.team_members set team_id = (select id from rollcall.teams where name = 'b') where user_id = $s", Hidden),
        ("update rollcall.team_members set team_id = (select id from rollcall.teams where name = 'b') where user_id = $v", ONLINE),
        ("delete from rollcall.teams where name = 'b'", Hidden),
    ])
    .await;
}

#[testkit::test]
async fn visibility_list_changes_reach_sockets(db: Arc<TestDatabase>) {
    run_script(
        &db,
        &[
            (ADD_CONTACT, ONLINE),
            (
                "insert into rollcall.presence_choices (user_id, chosen) values ($s, 'invisible')",
                ShownOffline,
            ),
            (
                "insert into rollcall.presence_visibility_list (user_id, viewer_id) values ($s, $v)",
                Shows("online", "invisible"),
            ),
            ("update rollcall.presence_devices set status = 'away'", Shows("away", "invisible")),
            ("update rollcall.presence_visibility_list set viewer_id = $o", ShownOffline),
            ("update rollcall.presence_visibility_list set viewer_id = $v", Shows("away", "invisible")),
            ("delete from rollcall.presence_visibility_list", ShownOffline),
        ],
    )
    .await;
}

#[testkit::test]
async fn conversation_changes_reach_sockets(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, subject) = (User::new(), User::new());
    db.set_status(&subject, "online").await;
    let ids = [("v", viewer.id), ("s", subject.id)];
    db.execute("insert into rollcall.presence_settings (user_id, visibility) values ($s, 'everyone')", &ids)
        .await;
    // Not followed: relevant only through the conversation.
    let mut socket = node.socket(&viewer).await;
    socket.next_message().await;
    assert!(socket.hides(subject.id));
    db.execute(
        "with room as (insert into rollcall.conversations (created_by) values ($v) returning id)
             insert into rollcall.conversation_participants (conversation_id, user_id)
             select id, unnest(array[$v, $s]::uuid[]) from room",
        &ids,
    )
    .await;
    socket.wait_until("related", |socket| socket.shows_online(subject.id)).await;
    db.execute("delete from rollcall.conversation_participants where user_id = $s", &ids).await;
    socket.wait_until("not related", |socket| socket.hides(subject.id)).await;
}

#[testkit::test]
async fn manual_face_updates_reach_sockets(db: Arc<TestDatabase>) {
    run_script(&db, &[
        (ADD_CONTACT, ONLINE),
        ("update rollcall.user_presence set status = 'dnd' where user_id = $s", Shows("online", "dnd")),
        ("update rollcall.user_presence set status = 'offline', reach = 'offline', last_seen = now() where user_id = $s", ShownOffline),
        ("delete from rollcall.user_presence where user_id = $s", Hidden),
        ("select rollcall_internal.refresh_faces(array[$s]::uuid[])", ONLINE),
        ("truncate rollcall.user_presence", Hidden),
        ("select rollcall.set_status($s, 'busy')", Shows("online", "busy")),
    ])
    .await;
}

#[testkit::test]
async fn policy_changes_reach_sockets(db: Arc<TestDatabase>) {
    const DEFAULT_POLICY: &str = r#""viewers read the face shown to them" on rollcall.user_presence"#;
    run_script(&db, &[
        ("select", Hidden),
        ("create policy everyone on rollcall.user_presence for select to authenticated using (face = 'public')", ONLINE),
        ("alter policy everyone on rollcall.user_presence using (false)", Hidden),
        (ADD_CONTACT, ONLINE),
        (&format!("drop policy {DEFAULT_POLICY}"), Hidden),
        ("alter policy everyone on rollcall.user_presence using (face = 'public')", ONLINE),
        ("create policy restricted on rollcall.user_presence as restrictive for select to authenticated using (user_id = (select auth.uid()))", Hidden),
        ("drop policy restricted on rollcall.user_presence", ONLINE),
        ("drop policy everyone on rollcall.user_presence", Hidden),
        ("create policy again on rollcall.user_presence for select to authenticated using (face = 'public' and user_id in (select s.subject_id from rollcall.my_visible_users() s))", ONLINE),
    ])
    .await;
}

#[testkit::test]
async fn a_custom_table_is_watched_once_a_policy_reads_it(db: Arc<TestDatabase>) {
    run_script(&db, &[
        ("create table public.guests (viewer uuid, host uuid); grant select on public.guests to authenticated", Hidden),
        ("insert into public.guests values ($v, $s)", Hidden),
        ("create policy guests on rollcall.user_presence for select to authenticated using (face = 'public' and
            exists (select from public.guests g where g.host = user_id and g.viewer = (select auth.uid())))", ONLINE),
        ("delete from public.guests", Hidden),
        ("insert into public.guests values ($v, $s)", ONLINE),
        ("update public.guests set viewer = $o", Hidden),
        ("update public.guests set viewer = $v", ONLINE),
        ("truncate public.guests", Hidden),
        // The table is named only inside a function body.
        ("create function public.is_guest(p uuid) returns boolean language plpgsql stable security definer as
            $$begin return exists (select from public.friends_of_hosts where friend = auth.uid() and host = p); end$$;
          create table public.friends_of_hosts (friend uuid, host uuid);
          create policy friends on rollcall.user_presence for select to authenticated using (face = 'public' and public.is_guest(user_id))", Hidden),
        ("insert into public.friends_of_hosts values ($v, $s)", ONLINE),
        ("delete from public.friends_of_hosts", Hidden),
    ])
    .await;
}

/// Exclusive: the nodes of all tests of this process count together.
#[testkit::test(exclusive)]
async fn metrics_tell_whether_a_change_concerned_all_viewers(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, subject) = (User::new(), User::new());
    let ids = [("v", viewer.id), ("s", subject.id)];
    db.set_status(&subject, "online").await;
    db.execute(
        "create table public.hosts (viewer uuid, host uuid); grant select on public.hosts to authenticated;
         create policy hosts on rollcall.user_presence for select to authenticated using (face = 'public' and
           exists (select from public.hosts h where h.host is not distinct from user_id
             and h.viewer is not distinct from (select auth.uid())))",
        &[],
    )
    .await;
    let mut socket = node.socket_with(&viewer, &format!("&user_ids={}", subject.id)).await;
    socket.next_message().await;
    let metrics = PrometheusBuilder::new().install_recorder().expect("no other test installs one");
    let count = |viewers: &str| {
        let prefix = format!("rollcall_visibility_invalidations_total{{viewers=\"{viewers}\"}} ");
        let text = metrics.render();
        let number = text.lines().find_map(|line| line.strip_prefix(&prefix));
        number.map_or(0, |number| number.parse::<u64>().expect("a number"))
    };
    let mut change = async || {
        db.execute("insert into public.hosts values ($v, $s)", &ids).await;
        socket.wait_until("shown", |socket| socket.shows_online(subject.id)).await;
        db.execute("delete from public.hosts", &[]).await;
        socket.wait_until("hidden", |socket| socket.hides(subject.id)).await;
    };
    change().await;
    let all = count("all");
    change().await;
    assert_eq!(count("all"), all + 2);

    db.execute("select rollcall.watch('public.hosts', 'viewer', 'host')", &[]).await;
    change().await;
    let (all, some) = (count("all"), count("some"));
    change().await;
    assert_eq!((count("all"), count("some")), (all, some + 2));
}

#[testkit::test]
async fn a_policy_that_reads_presence_is_checked_at_every_change(db: Arc<TestDatabase>) {
    run_script(&db, &[
        (ADD_CONTACT, ONLINE),
        ("create policy awake on rollcall.user_presence as restrictive for select to authenticated using (status <> 'busy')", ONLINE),
        ("select rollcall.set_status($s, 'busy')", Hidden),
        ("select rollcall.set_status($s, 'dnd')", Shows("online", "dnd")),
        ("select rollcall.set_status($s, 'busy')", Hidden),
        ("drop policy awake on rollcall.user_presence", Shows("online", "busy")),
    ])
    .await;
}

#[testkit::test]
async fn a_user_erased_in_sql_is_hidden(db: Arc<TestDatabase>) {
    run_script(
        &db,
        &[
            (ADD_CONTACT, ONLINE),
            (
                "begin;
             delete from rollcall.presence_devices where user_id = $s;
             delete from rollcall.presence_choices where user_id = $s;
             delete from rollcall.presence_settings where user_id = $s;
             delete from rollcall.user_last_seen where user_id = $s;
             select rollcall_internal.refresh_faces(array[$s]::uuid[]);
             commit",
                Hidden,
            ),
            ("select rollcall.set_status($s, 'online')", ONLINE),
        ],
    )
    .await;
}

#[testkit::test]
async fn concurrent_changes_of_many_users_arrive(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let viewer = User::new();
    let mut socket = node.socket(&viewer).await;
    socket.next_message().await;
    db
        .execute(
            "insert into rollcall.contacts (requester_id, addressee_id, accepted_at)
               select $v, gen_random_uuid(), now() from generate_series(1, 2500);
             insert into rollcall.presence_devices (user_id, device_id) select addressee_id, 'd' from rollcall.contacts",
            &[("v", viewer.id)],
        )
        .await;
    let all = |status: &'static str| {
        move |socket: &Socket| {
            socket.presences.values().filter(|face| face["status"] == status).count() == 2_500
        }
    };
    socket.wait_until_within(Duration::from_secs(30), "2,500 online", all("online")).await;
    db.execute("update rollcall.presence_devices set status = 'away'", &[]).await;
    socket.wait_until_within(Duration::from_secs(30), "2,500 away", all("away")).await;
}
