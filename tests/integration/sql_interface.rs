//! SQL functions for DBAs: disconnect users, and declare who is affected by a custom table.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use testkit::{
    client::{Socket, SocketEvent},
    harness::{TestDatabase, User, WAIT_TIMEOUT},
    phoenix::SerializerVersion,
};
use tokio::time::Instant;

/// Waits until the connection is closed, skipping messages.
async fn wait_for_close(socket: &mut Socket) -> (u16, String) {
    loop {
        match socket.receive(Instant::now() + WAIT_TIMEOUT).await {
            Some(SocketEvent::Frame(_)) => {}
            Some(SocketEvent::Closed(number, reason)) => return (number, reason),
            other => panic!("expected a close, got {other:?}"),
        }
    }
}

#[testkit::test]
async fn a_user_is_disconnected_on_every_node_with_a_reason(db: Arc<TestDatabase>) {
    let (here, there) = (db.start_server().await, db.start_server().await);
    let (user, friend) = (User::new(), User::new());
    db.add_contact(&user, &friend).await;
    let mut tab = here.socket_with(&user, "&device_id=tab").await;
    let mut phone = there.socket_with(&user, "&device_id=phone").await;
    let mut other = there.socket_with(&friend, "&device_id=other").await;
    for socket in [&mut tab, &mut phone, &mut other] {
        socket.next_message().await;
    }
    other.wait_until("online", |socket| socket.shows_online(user.id)).await;
    db.wait_until(
        "both devices are known as connected",
        "select count(*) = 2 from rollcall.online_devices where user_id = $u and connected",
        &[("u", user.id)],
    )
    .await;

    let connected: i64 =
        db.query_row("select rollcall.disconnect($1, 'see you tomorrow')", &[&user.id]).await.get(0);
    assert_eq!(connected, 2);
    assert_eq!(wait_for_close(&mut tab).await, (4403, "see you tomorrow".into()));
    assert_eq!(wait_for_close(&mut phone).await, (4403, "see you tomorrow".into()));
    other.wait_until("offline", |socket| socket.shows_offline(user.id)).await;

    // The user is not banned, and no device is removed.
    let mut again = here.socket_with(&user, "&device_id=tab").await;
    again.next_message().await;
    other.wait_until("back", |socket| socket.shows_online(user.id)).await;
    db.execute("select rollcall.disconnect($u)", &[("u", user.id)]).await;
    assert_eq!(wait_for_close(&mut again).await, (4403, "disconnected by an administrator".into()));

    other.wait_until("offline", |socket| socket.shows_offline(user.id)).await;
    assert_eq!(db.query_row("select rollcall.disconnect($1)", &[&user.id]).await.get::<_, i64>(0), 0);

    let long = db.sql.execute("select rollcall.disconnect($1, repeat('x', 124))", &[&user.id]).await;
    assert_eq!(long.expect_err("is refused").code().expect("a code").code(), "22001");
}

#[testkit::test]
async fn channel_sockets_of_a_disconnected_user_close_on_every_node(db: Arc<TestDatabase>) {
    let nodes = [db.start_server().await, db.start_server().await];
    let (user, other) = (User::new(), User::new());
    let named = |user: &User| json!({"config": {"private": false}, "access_token": user.token});
    for vsn in SerializerVersion::BOTH {
        // Like official clients: the socket has the anonymous key, each join the user's token.
        let mut tab = nodes[0].channel_client(vsn).await;
        tab.try_join("realtime:a", named(&user)).await;
        tab.try_join("realtime:b", named(&user)).await;
        tab.join("realtime:public", json!({})).await;
        // The user's key and no channel.
        let mut bare = nodes[1].channel_client_with_key(vsn, &user.token).await.expect("the socket opens");
        bare.heartbeat().await;
        // A token set after the join.
        let mut late = nodes[1].channel_client(vsn).await;
        late.join("realtime:a", json!({})).await;
        late.set_token("realtime:a", &user.token).await;
        let mut stranger = nodes[1].channel_client(vsn).await;
        stranger.try_join("realtime:a", named(&other)).await;
        // Messages arrive in sending order.
        late.heartbeat().await;

        db.execute("select rollcall.disconnect($u, 'back at eight')", &[("u", user.id)]).await;
        for topic in ["realtime:a", "realtime:b", "realtime:public"] {
            let payload = tab.wait_for(topic, "system").await.payload;
            let room = topic.strip_prefix("realtime:").expect("a prefix");
            assert_eq!(
                payload,
                json!({"message": "Server requested disconnect: back at eight", "status": "error",
                    "extension": "system", "channel": room})
            );
        }
        for socket in [&mut tab, &mut bare, &mut late] {
            assert_eq!(socket.expect_close().await, (4403, "back at eight".into()));
        }
        stranger.heartbeat().await;
        stranger.expect_no_frame().await;

        // The user is not banned.
        let mut again = nodes[0].channel_client(vsn).await;
        again.try_join("realtime:a", named(&user)).await;
        again.heartbeat().await;
        again.expect_no_frame().await;
    }
}

#[testkit::test]
async fn a_shared_channel_socket_loses_only_the_disconnected_users_channels(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, other) = (User::new(), User::new());
    for vsn in SerializerVersion::BOTH {
        // A backend that shares one socket among several users.
        let mut shared = node.channel_client(vsn).await;
        for (topic, user) in [("realtime:a", &user), ("realtime:b", &other), ("realtime:c", &user)] {
            shared.try_join(topic, json!({"config": {}, "access_token": user.token})).await;
        }
        db.execute("select rollcall.disconnect($u)", &[("u", user.id)]).await;
        for topic in ["realtime:a", "realtime:c"] {
            let why = shared.expect_channel_error(topic).await;
            assert_eq!(why, "Server requested disconnect: disconnected by an administrator");
        }
        let reference = shared.broadcast("realtime:b", "still", json!({})).await;
        assert!(!reference.is_empty());
        shared.heartbeat().await;
        shared.expect_no_frame().await;

        // Without a channel of the user the socket is not notified.
        db.execute("select rollcall.disconnect($u)", &[("u", user.id)]).await;
        db.execute("select rollcall.disconnect($o)", &[("o", other.id)]).await;
        assert_eq!(shared.expect_close().await, (4403, "disconnected by an administrator".into()));
    }
}

const OWN_TABLE: &str = "
    create table public.clients (planner_id uuid, vendor_id uuid, note text, primary key (planner_id, vendor_id));
    alter table public.clients enable row level security;
    grant select on public.clients to authenticated;
    create policy own on public.clients for select to authenticated using (planner_id = (select auth.uid()));
    create policy vendors on rollcall.user_presence for select to authenticated using (face = 'public' and exists (
      select from public.clients c where c.planner_id = (select auth.uid()) and c.vendor_id = user_presence.user_id));";

#[testkit::test]
async fn a_declared_table_rechecks_only_affected_users(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (planner, vendor, other) = (User::new(), User::new(), User::new());
    let ids = [("p", planner.id), ("v", vendor.id), ("o", other.id)];
    db.set_status(&vendor, "online").await;
    db.execute(OWN_TABLE, &[]).await;
    db.execute("select rollcall.watch('public.clients', 'planner_id', 'vendor_id')", &[]).await;
    // A new policy does not restore the trigger that invalidates the visibility of all users.
    db.execute("create policy more on rollcall.user_presence for select to authenticated using (exists (select from public.clients where false))", &[]).await;
    let mut socket = node.socket_with(&planner, &format!("&user_ids={}", vendor.id)).await;
    socket.next_message().await;
    let noted = async |after: i64| {
        let log = "select viewers, subjects from rollcall_internal.visibility_log where id > $1 and reason = 'public.clients' order by id";
        let rows = db.sql.query(log, &[&after]).await.expect("the log");
        rows.iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect::<Vec<(Option<Vec<uuid::Uuid>>, Option<Vec<uuid::Uuid>>)>>()
    };
    let mark = async || -> i64 {
        db.query_row("select coalesce(max(id), 0) from rollcall_internal.visibility_log", &[]).await.get(0)
    };

    let concerned = |ids: &[&User]| Some(ids.iter().map(|user| user.id).collect::<Vec<_>>());
    let before = mark().await;
    db.execute("insert into public.clients values ($p, $v)", &ids).await;
    socket.wait_until("a row shows", |socket| socket.shows_online(vendor.id)).await;
    assert_eq!(noted(before).await, [(concerned(&[&planner]), concerned(&[&vendor]))]);

    let before = mark().await;
    db.execute("update public.clients set planner_id = $o", &ids).await;
    socket.wait_until("a row that moves away hides", |socket| socket.hides(vendor.id)).await;
    let mut both = vec![planner.id, other.id];
    both.sort();
    assert_eq!(noted(before).await, [(Some(both), concerned(&[&vendor]))]);

    db.execute("update public.clients set planner_id = $p", &ids).await;
    socket.wait_until("and back", |socket| socket.shows_online(vendor.id)).await;
    db.execute("delete from public.clients", &[]).await;
    socket.wait_until("a deleted row hides", |socket| socket.hides(vendor.id)).await;
    db.execute("insert into public.clients values ($p, $v)", &ids).await;
    socket.wait_until("again", |socket| socket.shows_online(vendor.id)).await;
    db.execute("truncate public.clients", &[]).await;
    socket.wait_until("so does truncate", |socket| socket.hides(vendor.id)).await;

    let before = mark().await;
    db.execute("delete from public.clients; update public.clients set note = 'x'", &[]).await;
    assert_eq!(noted(before).await, [], "no row, no user");
}

#[testkit::test]
async fn a_table_declaration_may_name_only_one_side(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (viewer, subject) = (User::new(), User::new());
    db.set_status(&subject, "online").await;
    db.execute("create table public.stars (user_id uuid primary key);
        alter table public.stars enable row level security;
        create policy everyone on public.stars for select to authenticated using (true);
        grant select on public.stars to authenticated;
        create policy stars on rollcall.user_presence for select to authenticated using (face = 'public' and user_id in (select s.user_id from public.stars s));
        select rollcall.watch('public.stars', null, 'user_id')", &[]).await;
    let mut socket = node.socket_with(&viewer, &format!("&user_ids={}", subject.id)).await;
    socket.next_message().await;
    db.execute("insert into public.stars values ($s)", &[("s", subject.id)]).await;
    socket.wait_until("a star shows", |socket| socket.shows_online(subject.id)).await;
    db.execute("delete from public.stars", &[]).await;
    socket.wait_until("and is hidden", |socket| socket.hides(subject.id)).await;
    socket.expect_no_message(Duration::from_millis(100)).await;

    for (call, code) in [
        ("select rollcall.watch('public.stars', null, null)", "22023"),
        ("select rollcall.watch('public.stars', 'nobody', 'user_id')", "42703"),
        ("select rollcall.watch('rollcall.contacts', 'requester_id', 'addressee_id')", "55000"),
    ] {
        let refused = db.sql.batch_execute(call).await.expect_err("is refused");
        assert_eq!(refused.code().expect("a code").code(), code, "{}", json!(call));
    }
}

/// Returns the JSON result of a query as a user, or as the owner without one.
async fn query_as(db: &TestDatabase, user: Option<&User>, query: &str) -> Value {
    let sql = db.connect().await;
    sql.batch_execute("begin").await.expect("begins");
    if let Some(user) = user {
        let claims = json!({"sub": user.id, "role": "authenticated"}).to_string();
        let acting =
            "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)";
        sql.query(acting, &[&claims]).await.expect("acts as the user");
    }
    let query = format!("select coalesce(jsonb_agg(to_jsonb(q)), '[]') from ({query}) q");
    sql.query_one(&query, &[]).await.unwrap_or_else(|error| panic!("{query}: {error:?}")).get(0)
}

#[testkit::test]
async fn views_list_users_devices_and_channels(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let (user, friend, stranger) = (User::new(), User::new(), User::new());
    db.add_contact(&user, &friend).await;
    let mut tab = node.socket_with(&user, "&device_id=tab").await;
    tab.next_message().await;
    db.set_status(&stranger, "dnd").await;
    db.execute("select rollcall.set_status($u, 'busy', 'phone')", &[("u", user.id)]).await;
    db.wait_until(
        "the tab is known",
        "select connected from rollcall.online_devices where device_id = 'tab'",
        &[],
    )
    .await;

    let online = "select user_id, status, reach from rollcall.online order by status";
    let row = |user: &User, status: &str| json!({"user_id": user.id, "status": status, "reach": "online"});
    assert_eq!(query_as(&db, None, online).await, json!([row(&user, "busy"), row(&stranger, "dnd")]));
    assert_eq!(query_as(&db, Some(&friend), online).await, json!([row(&user, "busy")]));
    assert_eq!(query_as(&db, Some(&stranger), online).await, json!([row(&stranger, "dnd")]));

    let devices = format!(
        "select device_id, connected from rollcall.online_devices where user_id = '{}' order by device_id",
        user.id
    );
    let both = json!([{"device_id": "phone", "connected": false}, {"device_id": "tab", "connected": true}]);
    assert_eq!(query_as(&db, None, &devices).await, both);
    assert_eq!(query_as(&db, Some(&user), &devices).await, both, "one's own");
    assert_eq!(query_as(&db, Some(&friend), &devices).await, json!([]), "and no other");

    let mut channel = node.channel_client(SerializerVersion::V2).await;
    let config = json!({"config": {"presence": {"key": "me", "enabled": true}}, "access_token": user.token});
    channel.try_join("realtime:lobby", config).await;
    channel.track("realtime:lobby", json!({"cursor": 7})).await;
    let present = "select topic, key, user_id, meta -> 'cursor' as cursor from rollcall.channel_presence";
    db.wait_until("the channel is known", "select count(*) = 1 from rollcall.channel_presence", &[]).await;
    let here = json!([{"topic": "lobby", "key": "me", "user_id": user.id, "cursor": 7}]);
    assert_eq!(query_as(&db, None, present).await, here);
    assert_eq!(
        query_as(&db, None, &present.replace("rollcall.channel_presence", "realtime.presence")).await,
        here
    );
    channel.untrack("realtime:lobby").await;
    db.wait_until("the channel is empty", "select count(*) = 0 from rollcall.channel_presence", &[]).await;
}

#[testkit::test]
async fn views_list_stale_bundles_and_pending_work(db: Arc<TestDatabase>) {
    let (user, other) = (User::new(), User::new());
    db
        .execute(
            "insert into rollcall.context_bundles (user_id, bundle_type, content, token_count, compiled_at, compiled_seeing, expires_at, dirty) values
               ($u, 'identity_core', 'x', 1, now(), pg_current_snapshot(), now() + interval '1 hour', true),
               ($o, 'identity_core', 'x', 1, now(), pg_current_snapshot(), now() - interval '1 minute', false);
             insert into rollcall.system_actions (user_id, kind, trigger) values ($u, 'warm_up', 'test');
             insert into rollcall.system_actions (user_id, kind, trigger, status, started_at, finished_at) values ($o, 'warm_up', 'test', 'completed', now(), now())",
            &[("u", user.id), ("o", other.id)],
        )
        .await;
    let dirty = "select user_id, state from rollcall.dirty_bundles order by state";
    let mine = json!({"user_id": user.id, "state": "dirty"});
    let theirs = json!({"user_id": other.id, "state": "expired"});
    assert_eq!(query_as(&db, None, dirty).await, json!([mine, theirs]));
    assert_eq!(query_as(&db, Some(&user), dirty).await, json!([mine]));
    db.execute(
        "update rollcall.context_bundles set dirty = false, expires_at = now() + interval '1 hour'",
        &[],
    )
    .await;
    assert_eq!(query_as(&db, None, dirty).await, json!([]), "fresh bundles are not listed");

    let queue =
        "select user_id, kind, trigger, status, age >= interval '0' as aged from rollcall.invalidation_queue";
    let waits = json!([{"user_id": user.id, "kind": "warm_up", "trigger": "test", "status": "pending", "aged": true}]);
    assert_eq!(query_as(&db, None, queue).await, waits);
    assert_eq!(query_as(&db, Some(&user), queue).await, waits);
    assert_eq!(
        query_as(&db, Some(&other), queue).await,
        json!([]),
        "neither finished work nor that of other users"
    );
}
