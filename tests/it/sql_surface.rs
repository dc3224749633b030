//! What a DBA does to sockets with functions: end them, and declare who is concerned by a table of the DBA's own.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use crate::{
    Case,
    client::{Heard, Socket},
    world::{PATIENCE, User, World},
};

pub fn cases() -> Vec<Case> {
    crate::cases![
        a_user_is_disconnected_on_every_node_and_told_why,
        a_declared_table_asks_only_those_concerned_again,
        a_declaration_may_name_one_side_only,
    ]
}

/// How the connection ends, whatever is said before.
async fn end(socket: &mut Socket) -> (u16, String) {
    loop {
        match socket.hear(Instant::now() + PATIENCE).await {
            Some(Heard::Frame(_)) => {}
            Some(Heard::Closed(number, reason)) => return (number, reason),
            other => panic!("expected the end, got {other:?}"),
        }
    }
}

async fn a_user_is_disconnected_on_every_node_and_told_why(world: Arc<World>) {
    let (here, there) = (world.node().await, world.node().await);
    let (user, friend) = (User::new(), User::new());
    world.befriend(&user, &friend).await;
    let mut tab = here.socket_with(&user, "&device_id=tab").await;
    let mut phone = there.socket_with(&user, "&device_id=phone").await;
    let mut other = there.socket_with(&friend, "&device_id=other").await;
    for socket in [&mut tab, &mut phone, &mut other] {
        socket.next().await;
    }
    other.until("online", |socket| socket.sees_online(user.id)).await;
    world
        .until(
            "both devices are known as connected",
            "select count(*) = 2 from rollcall.online_devices where user_id = $u and connected",
            &[("u", user.id)],
        )
        .await;

    let connected: i64 =
        world.row("select rollcall.disconnect($1, 'see you tomorrow')", &[&user.id]).await.get(0);
    assert_eq!(connected, 2);
    assert_eq!(end(&mut tab).await, (4403, "see you tomorrow".into()));
    assert_eq!(end(&mut phone).await, (4403, "see you tomorrow".into()));
    other.until("offline", |socket| socket.sees_offline(user.id)).await;

    // Nobody is kept out, and nobody is signed off.
    let mut again = here.socket_with(&user, "&device_id=tab").await;
    again.next().await;
    other.until("back", |socket| socket.sees_online(user.id)).await;
    world.run("select rollcall.disconnect($u)", &[("u", user.id)]).await;
    assert_eq!(end(&mut again).await, (4403, "disconnected by an administrator".into()));

    other.until("gone", |socket| socket.sees_offline(user.id)).await;
    assert_eq!(world.row("select rollcall.disconnect($1)", &[&user.id]).await.get::<_, i64>(0), 0);

    let long = world.sql.execute("select rollcall.disconnect($1, repeat('x', 124))", &[&user.id]).await;
    assert_eq!(long.expect_err("is refused").code().expect("a code").code(), "22001");
}

const OWN_TABLE: &str = "
    create table public.clients (planner_id uuid, vendor_id uuid, note text, primary key (planner_id, vendor_id));
    alter table public.clients enable row level security;
    grant select on public.clients to authenticated;
    create policy own on public.clients for select to authenticated using (planner_id = (select auth.uid()));
    create policy vendors on public.user_presence for select to authenticated using (face = 'public' and exists (
      select from public.clients c where c.planner_id = (select auth.uid()) and c.vendor_id = user_presence.user_id));";

async fn a_declared_table_asks_only_those_concerned_again(world: Arc<World>) {
    let node = world.node().await;
    let (planner, vendor, other) = (User::new(), User::new(), User::new());
    let ids = [("p", planner.id), ("v", vendor.id), ("o", other.id)];
    world.set_status(&vendor, "online").await;
    world.run(OWN_TABLE, &[]).await;
    world.run("select rollcall.watch('public.clients', 'planner_id', 'vendor_id')", &[]).await;
    // Another policy does not bring the trigger back that voids what everybody sees.
    world.run("create policy more on public.user_presence for select to authenticated using (exists (select from public.clients where false))", &[]).await;
    let mut socket = node.socket_with(&planner, &format!("&user_ids={}", vendor.id)).await;
    socket.next().await;
    let noted = async |after: i64| {
        let log = "select viewers, subjects from rollcall.visibility_log where id > $1 and reason = 'public.clients' order by id";
        let rows = world.sql.query(log, &[&after]).await.expect("the log");
        rows.iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect::<Vec<(Option<Vec<uuid::Uuid>>, Option<Vec<uuid::Uuid>>)>>()
    };
    let mark = async || -> i64 {
        world.row("select coalesce(max(id), 0) from rollcall.visibility_log", &[]).await.get(0)
    };

    let concerned = |ids: &[&User]| Some(ids.iter().map(|user| user.id).collect::<Vec<_>>());
    let before = mark().await;
    world.run("insert into public.clients values ($p, $v)", &ids).await;
    socket.until("a row shows", |socket| socket.sees_online(vendor.id)).await;
    assert_eq!(noted(before).await, [(concerned(&[&planner]), concerned(&[&vendor]))]);

    let before = mark().await;
    world.run("update public.clients set planner_id = $o", &ids).await;
    socket.until("a row that moves away hides", |socket| socket.sees_nothing_of(vendor.id)).await;
    let mut both = vec![planner.id, other.id];
    both.sort();
    assert_eq!(noted(before).await, [(Some(both), concerned(&[&vendor]))]);

    world.run("update public.clients set planner_id = $p", &ids).await;
    socket.until("and back", |socket| socket.sees_online(vendor.id)).await;
    world.run("delete from public.clients", &[]).await;
    socket.until("a row that goes hides", |socket| socket.sees_nothing_of(vendor.id)).await;
    world.run("insert into public.clients values ($p, $v)", &ids).await;
    socket.until("again", |socket| socket.sees_online(vendor.id)).await;
    world.run("truncate public.clients", &[]).await;
    socket.until("so does truncate", |socket| socket.sees_nothing_of(vendor.id)).await;

    let before = mark().await;
    world.run("delete from public.clients; update public.clients set note = 'x'", &[]).await;
    assert_eq!(noted(before).await, [], "no row, nobody");
}

async fn a_declaration_may_name_one_side_only(world: Arc<World>) {
    let node = world.node().await;
    let (viewer, subject) = (User::new(), User::new());
    world.set_status(&subject, "online").await;
    world.run("create table public.stars (user_id uuid primary key);
        alter table public.stars enable row level security;
        create policy everybody on public.stars for select to authenticated using (true);
        grant select on public.stars to authenticated;
        create policy stars on public.user_presence for select to authenticated using (face = 'public' and user_id in (select s.user_id from public.stars s));
        select rollcall.watch('public.stars', null, 'user_id')", &[]).await;
    let mut socket = node.socket_with(&viewer, &format!("&user_ids={}", subject.id)).await;
    socket.next().await;
    world.run("insert into public.stars values ($s)", &[("s", subject.id)]).await;
    socket.until("a star shows", |socket| socket.sees_online(subject.id)).await;
    world.run("delete from public.stars", &[]).await;
    socket.until("and goes", |socket| socket.sees_nothing_of(subject.id)).await;
    socket.expect_silence(Duration::from_millis(100)).await;

    for (call, code) in [
        ("select rollcall.watch('public.stars', null, null)", "22023"),
        ("select rollcall.watch('public.stars', 'nobody', 'user_id')", "42703"),
        ("select rollcall.watch('public.contacts', 'requester_id', 'addressee_id')", "55000"),
    ] {
        let refused = world.sql.batch_execute(call).await.expect_err("is refused");
        assert_eq!(refused.code().expect("a code").code(), code, "{}", json!(call));
    }
}
