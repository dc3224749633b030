//! psql is a client: whatever changes in the tables, and whoever changes it, open sockets follow.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Case,
    client::Socket,
    world::{User, World},
};

pub fn cases() -> Vec<Case> {
    crate::cases![
        devices_move_sockets,
        choices_move_sockets,
        settings_move_sockets,
        contacts_move_sockets,
        blocks_move_sockets,
        teams_move_sockets,
        visibility_lists_move_sockets,
        conversations_move_sockets,
        faces_set_by_hand_move_sockets,
        policies_move_sockets,
        a_dbas_own_table_is_watched_as_soon_as_a_policy_mentions_it,
        a_policy_that_reads_the_state_is_asked_at_every_change,
        a_user_who_is_erased_in_sql_is_taken_back,
        changes_of_many_users_at_once_arrive,
    ]
}

/// What a viewer is to believe of a subject.
#[derive(Debug, Clone, Copy)]
enum Belief {
    /// This status and availability.
    Is(&'static str, &'static str),
    /// Offline, and known.
    Offline,
    /// Never shown, or taken back.
    Nothing,
    /// This field is there.
    Has(&'static str),
    /// This field is null or not there.
    HasNot(&'static str),
}
use Belief::{Has, HasNot, Is, Nothing, Offline};

const ONLINE: Belief = Is("online", "online");

impl Belief {
    fn holds(self, socket: &Socket, subject: Uuid) -> bool {
        let field = |name: &str| {
            socket.beliefs.get(&subject).and_then(|face| face.get(name)).filter(|field| !field.is_null())
        };
        match self {
            Is(status, availability) => socket.believes(subject, status, availability),
            Offline => socket.sees_offline(subject),
            Nothing => socket.sees_nothing_of(subject),
            Has(name) => field(name).is_some(),
            HasNot(name) => field(name).is_none(),
        }
    }
}

/// Runs statements one after the other, as the owner; after each an open socket comes to believe what it should.
/// `$v` is the viewer, `$s` the subject, whom the viewer follows and who is online; `$o` somebody else.
async fn play(world: &World, script: &[(&str, Belief)]) {
    let node = world.node().await;
    let (viewer, subject, other) = (User::new(), User::new(), User::new());
    let ids = [("v", viewer.id), ("s", subject.id), ("o", other.id)];
    world.set_status(&subject, "online").await;
    let mut socket = node.socket_with(&viewer, &format!("&user_ids={}", subject.id)).await;
    socket.next().await;
    for (statement, belief) in script {
        world.run(statement, &ids).await;
        let what = format!("{belief:?} after: {statement}");
        socket.until(&what, |socket| belief.holds(socket, subject.id)).await;
        // Whoever comes now is shown the same.
        let mut fresh = node.socket_with(&viewer, &format!("&user_ids={}", subject.id)).await;
        fresh.next().await;
        assert!(belief.holds(&fresh, subject.id), "{what}; a new socket believes {:?}", fresh.beliefs);
        assert_eq!(comparable(&fresh, subject.id), comparable(&socket, subject.id), "{what}");
        fresh.close().await;
    }
}

/// A belief but for what is no news while somebody is here.
fn comparable(socket: &Socket, subject: Uuid) -> Option<Value> {
    let mut face = socket.beliefs.get(&subject).filter(|_| !socket.sees_nothing_of(subject))?.clone();
    if face["status"] != "offline" && !face["last_seen"].is_null() {
        face["last_seen"] = json!("some time");
    }
    Some(face)
}

const BEFRIEND: &str =
    "insert into public.contacts (requester_id, addressee_id, accepted_at) values ($v, $s, now())";

async fn devices_move_sockets(world: Arc<World>) {
    play(
        &world,
        &[
            (BEFRIEND, ONLINE),
            ("update public.presence_devices set status = 'away' where user_id = $s", Is("away", "away")),
            ("insert into public.presence_devices (user_id, device_id) values ($s, 'second')", ONLINE),
            (
                "update public.presence_devices set activity = 'a game' where device_id = 'second'",
                Has("activity"),
            ),
            (
                "update public.presence_devices set current_page = '/x' where device_id = 'second'",
                Has("current_page"),
            ),
            ("update public.presence_devices set idle_since = now()", Is("away", "away")),
            ("update public.presence_devices set idle_since = null, activity = null", HasNot("activity")),
            ("delete from public.presence_devices where device_id = 'second'", Is("away", "away")),
            ("update public.presence_devices set status = 'offline'", Offline),
            ("update public.presence_devices set status = 'online'", ONLINE),
            ("delete from public.presence_devices", Offline),
            ("select rollcall.set_status($s, 'dnd', 'third')", Is("online", "dnd")),
        ],
    )
    .await;
}

async fn choices_move_sockets(world: Arc<World>) {
    play(
        &world,
        &[
            (BEFRIEND, ONLINE),
            ("insert into public.presence_choices (user_id, chosen) values ($s, 'dnd')", Is("online", "dnd")),
            ("update public.presence_choices set custom_status = 'out'", Has("custom_status")),
            ("update public.presence_choices set chosen = 'busy'", Is("online", "busy")),
            ("update public.presence_choices set chosen = 'invisible'", Offline),
            ("update public.presence_choices set chosen = null", ONLINE),
            (
                "update public.presence_choices set custom_status_expires_at = now() + interval '300 ms'",
                Has("custom_status"),
            ),
            ("select", HasNot("custom_status")),
            ("update public.presence_choices set chosen = 'busy'", Is("online", "busy")),
            ("delete from public.presence_choices", ONLINE),
        ],
    )
    .await;
}

async fn settings_move_sockets(world: Arc<World>) {
    play(&world, &[
        ("select", Nothing),
        ("insert into public.presence_settings (user_id, visibility) values ($s, 'everyone')", ONLINE),
        ("update public.presence_settings set visibility = 'contacts'", Nothing),
        (BEFRIEND, ONLINE),
        ("update public.presence_settings set visibility = 'team'", Nothing),
        ("update public.presence_settings set visibility = 'everyone'", ONLINE),
        ("update public.presence_settings set show_last_seen = false", HasNot("last_seen")),
        ("update public.presence_settings set show_last_seen = true", Has("last_seen")),
        ("update public.presence_choices set custom_status = 'x'; insert into public.presence_choices (user_id, custom_status) values ($s, 'x') on conflict do nothing", Has("custom_status")),
        ("update public.presence_settings set show_custom_status = false", HasNot("custom_status")),
        ("update public.presence_settings set show_custom_status = true", Has("custom_status")),
        ("update public.presence_devices set activity = 'y'", Has("activity")),
        ("update public.presence_settings set show_activity = false", HasNot("activity")),
        ("update public.presence_settings set visibility = 'nobody'", Nothing),
        ("delete from public.presence_settings", ONLINE),
    ])
    .await;
}

async fn contacts_move_sockets(world: Arc<World>) {
    play(
        &world,
        &[
            ("insert into public.contacts (requester_id, addressee_id) values ($s, $v)", Nothing),
            ("update public.contacts set accepted_at = now()", ONLINE),
            ("update public.contacts set accepted_at = null", Nothing),
            ("update public.contacts set accepted_at = now()", ONLINE),
            ("update public.contacts set addressee_id = $o", Nothing),
            ("update public.contacts set addressee_id = $v", ONLINE),
            ("delete from public.contacts", Nothing),
            (BEFRIEND, ONLINE),
            ("truncate public.contacts", Nothing),
        ],
    )
    .await;
}

async fn blocks_move_sockets(world: Arc<World>) {
    play(
        &world,
        &[
            (BEFRIEND, ONLINE),
            ("insert into public.blocks (blocker_id, blocked_id) values ($s, $v)", Nothing),
            ("insert into public.presence_visibility_list (user_id, viewer_id) values ($s, $v)", Nothing),
            ("insert into public.presence_settings (user_id, visibility) values ($s, 'everyone')", Nothing),
            ("delete from public.blocks", ONLINE),
            ("insert into public.blocks (blocker_id, blocked_id) values ($v, $s)", Nothing),
            ("update public.blocks set blocked_id = $o", ONLINE),
            ("update public.blocks set blocked_id = $s", Nothing),
            ("truncate public.blocks", ONLINE),
        ],
    )
    .await;
}

async fn teams_move_sockets(world: Arc<World>) {
    const JOIN: &str = "insert into public.team_members (team_id, user_id)
        select id, unnest(array[$v, $s]::uuid[]) from public.teams where name = 'a'";
    play(&world, &[
        ("insert into public.teams (name, owner_id) values ('a', $o), ('b', $o)", Nothing),
        ("insert into public.presence_settings (user_id, visibility) values ($s, 'team')", Nothing),
        (JOIN, ONLINE),
        ("delete from public.team_members where user_id = $v", Nothing),
        ("insert into public.team_members (team_id, user_id) select id, $v from public.teams where name = 'a'", ONLINE),
        ("update public.team_members set team_id = (select id from public.teams where name = 'b') where user_id = $s", Nothing),
        ("update public.team_members set team_id = (select id from public.teams where name = 'b') where user_id = $v", ONLINE),
        ("delete from public.teams where name = 'b'", Nothing),
    ])
    .await;
}

async fn visibility_lists_move_sockets(world: Arc<World>) {
    play(
        &world,
        &[
            (BEFRIEND, ONLINE),
            ("insert into public.presence_choices (user_id, chosen) values ($s, 'invisible')", Offline),
            (
                "insert into public.presence_visibility_list (user_id, viewer_id) values ($s, $v)",
                Is("online", "invisible"),
            ),
            ("update public.presence_devices set status = 'away'", Is("away", "invisible")),
            ("update public.presence_visibility_list set viewer_id = $o", Offline),
            ("update public.presence_visibility_list set viewer_id = $v", Is("away", "invisible")),
            ("delete from public.presence_visibility_list", Offline),
        ],
    )
    .await;
}

async fn conversations_move_sockets(world: Arc<World>) {
    let node = world.node().await;
    let (viewer, subject) = (User::new(), User::new());
    world.set_status(&subject, "online").await;
    let ids = [("v", viewer.id), ("s", subject.id)];
    world
        .run("insert into public.presence_settings (user_id, visibility) values ($s, 'everyone')", &ids)
        .await;
    // Not followed: of interest only through the conversation.
    let mut socket = node.socket(&viewer).await;
    socket.next().await;
    assert!(socket.sees_nothing_of(subject.id));
    world
        .run(
            "with room as (insert into public.conversations (created_by) values ($v) returning id)
             insert into public.conversation_participants (conversation_id, user_id)
             select id, unnest(array[$v, $s]::uuid[]) from room",
            &ids,
        )
        .await;
    socket.until("related", |socket| socket.sees_online(subject.id)).await;
    world.run("delete from public.conversation_participants where user_id = $s", &ids).await;
    socket.until("not related", |socket| socket.sees_nothing_of(subject.id)).await;
}

async fn faces_set_by_hand_move_sockets(world: Arc<World>) {
    play(&world, &[
        (BEFRIEND, ONLINE),
        ("update public.user_presence set status = 'dnd' where user_id = $s", Is("online", "dnd")),
        ("update public.user_presence set status = 'offline', reach = 'offline', last_seen = now() where user_id = $s", Offline),
        ("delete from public.user_presence where user_id = $s", Nothing),
        ("select rollcall.refresh_faces(array[$s]::uuid[])", ONLINE),
        ("truncate public.user_presence", Nothing),
        ("select rollcall.set_status($s, 'busy')", Is("online", "busy")),
    ])
    .await;
}

async fn policies_move_sockets(world: Arc<World>) {
    const OURS: &str = r#""a viewer sees the one face that is shown to them" on public.user_presence"#;
    play(&world, &[
        ("select", Nothing),
        ("create policy everybody on public.user_presence for select to authenticated using (face = 'public')", ONLINE),
        ("alter policy everybody on public.user_presence using (false)", Nothing),
        (BEFRIEND, ONLINE),
        (&format!("drop policy {OURS}"), Nothing),
        ("alter policy everybody on public.user_presence using (face = 'public')", ONLINE),
        ("create policy nobody on public.user_presence as restrictive for select to authenticated using (user_id = (select auth.uid()))", Nothing),
        ("drop policy nobody on public.user_presence", ONLINE),
        ("drop policy everybody on public.user_presence", Nothing),
        ("create policy again on public.user_presence for select to authenticated using (face = 'public' and user_id in (select s.subject_id from rollcall.my_sight() s))", ONLINE),
    ])
    .await;
}

async fn a_dbas_own_table_is_watched_as_soon_as_a_policy_mentions_it(world: Arc<World>) {
    play(&world, &[
        ("create table public.guests (viewer uuid, host uuid); grant select on public.guests to authenticated", Nothing),
        ("insert into public.guests values ($v, $s)", Nothing),
        ("create policy guests on public.user_presence for select to authenticated using (face = 'public' and
            exists (select from public.guests g where g.host = user_id and g.viewer = (select auth.uid())))", ONLINE),
        ("delete from public.guests", Nothing),
        ("insert into public.guests values ($v, $s)", ONLINE),
        ("update public.guests set viewer = $o", Nothing),
        ("update public.guests set viewer = $v", ONLINE),
        ("truncate public.guests", Nothing),
        // Behind a function, whose text alone names the table.
        ("create function public.is_guest(p uuid) returns boolean language plpgsql stable security definer as
            $$begin return exists (select from public.friends_of_hosts where friend = auth.uid() and host = p); end$$;
          create table public.friends_of_hosts (friend uuid, host uuid);
          create policy friends on public.user_presence for select to authenticated using (face = 'public' and public.is_guest(user_id))", Nothing),
        ("insert into public.friends_of_hosts values ($v, $s)", ONLINE),
        ("delete from public.friends_of_hosts", Nothing),
    ])
    .await;
}

async fn a_policy_that_reads_the_state_is_asked_at_every_change(world: Arc<World>) {
    play(&world, &[
        (BEFRIEND, ONLINE),
        ("create policy awake on public.user_presence as restrictive for select to authenticated using (status <> 'busy')", ONLINE),
        ("select rollcall.set_status($s, 'busy')", Nothing),
        ("select rollcall.set_status($s, 'dnd')", Is("online", "dnd")),
        ("select rollcall.set_status($s, 'busy')", Nothing),
        ("drop policy awake on public.user_presence", Is("online", "busy")),
    ])
    .await;
}

async fn a_user_who_is_erased_in_sql_is_taken_back(world: Arc<World>) {
    play(
        &world,
        &[
            (BEFRIEND, ONLINE),
            (
                "begin;
             delete from public.presence_devices where user_id = $s;
             delete from public.presence_choices where user_id = $s;
             delete from public.presence_settings where user_id = $s;
             delete from public.user_last_seen where user_id = $s;
             select rollcall.refresh_faces(array[$s]::uuid[]);
             commit",
                Nothing,
            ),
            ("select rollcall.set_status($s, 'online')", ONLINE),
        ],
    )
    .await;
}

async fn changes_of_many_users_at_once_arrive(world: Arc<World>) {
    let node = world.node().await;
    let viewer = User::new();
    let mut socket = node.socket(&viewer).await;
    socket.next().await;
    world
        .run(
            "insert into public.contacts (requester_id, addressee_id, accepted_at)
               select $v, gen_random_uuid(), now() from generate_series(1, 2500);
             insert into public.presence_devices (user_id, device_id) select addressee_id, 'd' from public.contacts",
            &[("v", viewer.id)],
        )
        .await;
    let all = |status: &'static str| {
        move |socket: &Socket| {
            socket.beliefs.values().filter(|face| face["status"] == status).count() == 2_500
        }
    };
    socket.until_within(Duration::from_secs(30), "2,500 online", all("online")).await;
    world.run("update public.presence_devices set status = 'away'", &[]).await;
    socket.until_within(Duration::from_secs(30), "2,500 away", all("away")).await;
}
