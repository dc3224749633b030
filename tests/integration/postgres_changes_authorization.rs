//! Who receives changes and why: explanations, notes on join, deletes limited to users who saw the row.

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::{
    cluster::{Cluster, connect},
    harness::{TestDatabase, principal},
};
use uuid::Uuid;

use crate::changes_harness::{ChangesHarness, TODOS, all_changes_of};

#[testkit::test]
async fn explain_change_says_why_a_change_is_delivered_or_not(db: Arc<TestDatabase>) {
    db.execute(TODOS, &[]).await;
    db.execute(
        "create table public.nopub (id int primary key); insert into todos values (1, $user, 'a')",
        &[("user", Uuid::nil())],
    )
    .await;
    let explain = async |claims: Value, table: &str, filter: &str| {
        let rows = db
            .sql
            .query("select delivered, reason from rollcall.explain_change($1::text::jsonb, $2::text::regclass, '{\"id\": 1}', $3)", &[&claims.to_string(), &table, &filter])
            .await
            .expect("an explanation");
        let expected: bool = rows[0].get(0);
        (expected, rows.iter().map(|row| row.get::<_, String>(1)).collect::<Vec<_>>().join("; "))
    };
    let owner = json!({"role": "authenticated", "sub": Uuid::nil()});
    let other = json!({"role": "authenticated", "sub": Uuid::new_v4()});
    for (claims, table, filter, expected, reason) in [
        (&owner, "todos", "", true, "the permissive policy \"own rows\" lets it through"),
        (&other, "todos", "", false, "the permissive policy \"own rows\" does not let it through"),
        (&json!({"role": "anon"}), "todos", "", false, "no policy lets the role anon select"),
        (&json!({"role": "service_role"}), "todos", "", true, "does not bind the role service_role"),
        (&json!({"role": "nobody"}), "todos", "", false, "there is no role nobody"),
        (&owner, "nopub", "", false, "not in the publication"),
        (&owner, "todos", "body=eq.b", false, "the filter body=eq.b does not hold"),
        (&owner, "todos", "body=in.(a,b)", true, "lets it through"),
    ] {
        let (is_delivered, why) = explain(claims.clone(), table, filter).await;
        assert!(
            is_delivered == expected && why.contains(reason),
            "{claims} {table} {filter}: {is_delivered} {why}"
        );
    }
}

#[testkit::test]
async fn only_owner_comparison_policies_skip_the_database_check(db: Arc<TestDatabase>) {
    db.execute("create table public.owned (id int primary key, owner uuid, other uuid, named text); alter table public.owned enable row level security", &[]).await;
    let columns = async || -> Option<Vec<String>> {
        db
            .query_row("select owner_columns from rollcall_internal.change_access(array['public.owned'::regclass::oid], array['authenticated'])", &[])
            .await
            .get(0)
    };
    assert_eq!(columns().await, Some(vec![]), "no policy, no row");
    for (policy, expected) in [
        ("for select using (owner = auth.uid())", Some(vec!["owner"])),
        ("for all to authenticated using ((select auth.uid()) = other)", Some(vec!["other"])),
        ("for select to anon using (true)", Some(vec![])),
        ("for insert with check (true)", Some(vec![])),
        ("for select using (owner <> auth.uid())", None),
        ("for select using (owner = auth.uid() or other = auth.uid())", None),
        ("for select using (auth.uid()::text = named)", None),
        ("as restrictive for select using (owner = auth.uid())", None),
        ("for select using (true)", None),
    ] {
        db.execute(&format!("create policy one on owned {policy}"), &[]).await;
        let expected = expected.map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(columns().await, expected, "{policy}");
        db.execute("drop policy one on owned", &[]).await;
    }
    db.execute("create policy one on owned for select using (owner = auth.uid()); create policy two on owned for select using (other = auth.uid())", &[]).await;
    assert_eq!(columns().await.map(|names| names.len()), Some(2));
}

#[testkit::test]
async fn subscriptions_that_cannot_receive_events_are_reported_on_join(db: Arc<TestDatabase>) {
    db.execute(TODOS, &[]).await;
    db
        .execute(
            "create table public.bare (body text); grant select on public.bare to anon;
             create table public.shut (id int primary key, team int); grant select (team) on public.shut to anon;
             create table public.gone (id int primary key, team int); grant select on public.gone to anon;
             alter table public.gone enable row level security; create policy few on public.gone using (team = 1);
             insert into rollcall.change_settings values ('public.gone', true);
             alter publication supabase_realtime add table public.bare, public.shut, public.gone",
            &[],
        )
        .await;
    let harness = ChangesHarness::open(&db.url);
    for (table, role, note) in [
        ("todos", "anon", Some("no policy lets the role anon select")),
        ("todos", "authenticated", None),
        ("todos", "service_role", None),
        ("bare", "anon", Some("bare has no primary key")),
        ("shut", "anon", Some("the role anon may not select the primary key of public.shut")),
        ("gone", "anon", Some("policies read team, which is not in its replica identity")),
    ] {
        let listener = harness.subscribe_and_wait("t", principal(role, None), all_changes_of(table)).await;
        match note {
            Some(note) => {
                listener.wait_for_system_message(true, note).await;
            }
            None => assert_eq!(listener.take_system_messages().len(), 1, "{table} for {role}"),
        }
    }
    db.execute("alter publication supabase_realtime set (publish = 'insert, update')", &[]).await;
    let subscriber = principal("authenticated", Some(Uuid::new_v4()));
    // A different filter, because results for the same subscription are cached.
    let subscription = json!([{"event": "*", "schema": "public", "table": "todos", "filter": "id=gt.0"}]);
    let listener = harness.subscribe_and_wait("t", subscriber, subscription).await;
    listener.wait_for_system_message(true, "does not publish DELETE").await;
}

#[testkit::test]
async fn row_level_conditions_read_the_same_columns_as_policies(db: Arc<TestDatabase>) {
    db
        .execute(
            "create table public.things (id int primary key, team int, body text, named text collate \"C\");
             alter table public.things enable row level security;
             create table public.others (id int, team int); create schema hidden;
             create function hidden.is_fine(int) returns boolean language sql stable as 'select true';
             create function hidden.is_good(public.things) returns boolean language sql stable as 'select true'",
            &[],
        )
        .await;
    for (policy, expected) in [
        ("for select using (team = 1)", Some((vec!["team"], true))),
        (
            "for select using (exists (select from others o where o.id = things.id and o.team = 2))",
            Some((vec!["id"], true)),
        ),
        ("for select using (hidden.is_fine(team) and body is null)", Some((vec!["body", "team"], true))),
        ("for select using (random() < team)", Some((vec!["team"], false))),
        ("for select using (auth.uid() is not null)", Some((vec![], true))),
        ("for insert with check (true)", Some((vec![], true))),
        ("for select using (things is not null)", None),
        ("for select using (hidden.is_good(things))", None),
        ("for select using (xmin::text <> '0')", None),
        ("for select using (named = 'a')", None),
    ] {
        db.execute(&format!("create policy one on things {policy}"), &[]).await;
        let row = db
            .query_row("select condition is not null, reads, is_steady from rollcall_internal.change_access(array['public.things'::regclass::oid], array['authenticated'])", &[])
            .await;
        let found = row.get::<_, bool>(0).then(|| (row.get::<_, Vec<String>>(1), row.get::<_, bool>(2)));
        let expected =
            expected.map(|(reads, steady)| (reads.into_iter().map(str::to_owned).collect(), steady));
        assert_eq!(found, expected, "{policy}");
        db.execute("drop policy one on things", &[]).await;
    }
}

#[testkit::test]
async fn deletes_with_rls_reach_subscribers_who_could_see_the_row(db: Arc<TestDatabase>) {
    let (owner, member, stranger) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let ids = [("owner", owner), ("member", member)];
    db.execute(TODOS, &[]).await;
    db
        .execute(
            "create table public.readers (todo bigint, user_id uuid); grant select on public.readers to authenticated;
             alter table public.todos replica identity full; insert into rollcall.change_settings values ('public.todos', true);
             create policy readers on todos for select to authenticated
               using (exists (select from readers r where r.todo = todos.id and r.user_id = auth.uid()));
             insert into readers values (1, $member); insert into todos values (1, $owner, 'a'), (2, $owner, 'b'), (3, $owner, 'c')",
            &ids,
        )
        .await;
    let harness = ChangesHarness::open(&db.url);
    let user = |id| principal("authenticated", Some(id));
    let filtered = json!([{"event": "DELETE", "schema": "public", "table": "todos", "filter": "body=eq.b"}]);
    let mut all = harness.subscribe_and_wait("t", user(owner), all_changes_of("todos")).await;
    let mut some = harness.subscribe_and_wait("t", user(owner), filtered).await;
    let mut read = harness.subscribe_and_wait("t", user(member), all_changes_of("todos")).await;
    let mut none = harness.subscribe_and_wait("t", user(stranger), all_changes_of("todos")).await;
    let mut server =
        harness.subscribe_and_wait("t", principal("service_role", None), all_changes_of("todos")).await;
    db.execute("delete from todos", &ids).await;
    for id in 1..=3 {
        for listener in [&mut all, &mut server] {
            let deleted = listener.next().await;
            assert_eq!(
                (&deleted["data"]["type"], &deleted["data"]["old_record"]),
                (&json!("DELETE"), &json!({"id": id})),
                "the key alone, as ever under row-level security"
            );
        }
    }
    assert_eq!(some.next().await["data"]["old_record"]["id"], 2);
    assert_eq!(read.next().await["data"]["old_record"]["id"], 1);
    // Later changes have reached all subscribers.
    db.execute("insert into todos values (4, $member, 'd'); update todos set user_id = $owner; insert into readers values (4, $member)", &ids).await;
    assert_eq!(read.next().await["data"]["record"]["id"], 4);
    assert_eq!(all.next().await["data"]["type"], "UPDATE");
    for listener in [&mut some, &mut none] {
        assert_eq!(listener.try_next(), None);
    }
}

#[testkit::test]
async fn rows_with_equal_values_get_the_same_result_as_select(db: Arc<TestDatabase>) {
    let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
    let ids = [("one", one), ("two", two)];
    db
        .execute(
            "create table public.rooms (room int, user_id uuid); grant select on public.rooms to authenticated;
             create table public.posts (id int primary key, room int, body text); grant select on public.posts to authenticated;
             alter table public.posts enable row level security; alter publication supabase_realtime add table public.posts;
             create policy members on posts for select using (room in (select r.room from rooms r where r.user_id = auth.uid()));
             insert into rooms values (1, $one), (2, $one), (2, $two)",
            &ids,
        )
        .await;
    let harness = ChangesHarness::open(&db.url);
    let user = |id| principal("authenticated", Some(id));
    let mut first = harness.subscribe_and_wait("t", user(one), all_changes_of("posts")).await;
    let mut second = harness.subscribe_and_wait("t", user(two), all_changes_of("posts")).await;
    // A thousand rows with four distinct values, so that four checks suffice.
    db.execute("insert into posts select n, nullif(n % 4, 0), 'x' from generate_series(1, 1000) n", &[])
        .await;
    for (listener, rooms) in [(&mut first, &[1, 2][..]), (&mut second, &[2][..])] {
        for id in (1..=1000).filter(|id| rooms.contains(&(id % 4))) {
            assert_eq!(listener.next().await["data"]["record"]["id"], id);
        }
    }
    // Each row is checked with its values at the time of the change and with current permissions.
    db.execute("begin; delete from rooms where user_id = $two; insert into posts values (2000, 2, 'y'), (2001, 3, 'z'); commit", &ids).await;
    db.execute(
        "begin; insert into rooms values (3, $two); insert into posts values (2002, 3, 'end'); commit",
        &ids,
    )
    .await;
    assert_eq!(first.next().await["data"]["record"]["id"], 2000);
    let received = second.next().await;
    // The row of room 3 may be checked before or after the second transaction.
    let id = &received["data"]["record"]["id"];
    assert!(*id == 2001 || *id == 2002, "{received}");
}

/// Before PostgreSQL 18 generated columns are never published; from 18 on `publish_generated_columns` decides.
#[testkit::test]
async fn policies_may_read_generated_columns_that_are_not_sent(db: Arc<TestDatabase>) {
    let me = Uuid::new_v4();
    db
        .execute(
            "create table public.prices (id int primary key, net int, gross int generated always as (net * 2) stored);
             grant select on public.prices to authenticated; alter table public.prices enable row level security;
             alter publication supabase_realtime add table public.prices;
             create policy cheap on prices for select to authenticated using (gross < 10)",
            &[],
        )
        .await;
    let harness = ChangesHarness::open(&db.url);
    let mut listener =
        harness.subscribe_and_wait("t", principal("authenticated", Some(me)), all_changes_of("prices")).await;
    db.execute("insert into prices values (1, 1), (2, 100), (3, 2)", &[]).await;
    for id in [1, 3] {
        let record = listener.next().await["data"]["record"].clone();
        assert_eq!(record, json!({"id": id, "net": (id + 1) / 2}));
    }
}

/// Without a setting: a DELETE of a table of Rollcall tells nobody more than `select` did before.
#[testkit::test]
async fn deletes_of_own_tables_reach_only_those_who_saw_the_row(db: Arc<TestDatabase>) {
    let (subject, contact, blocked, stranger) =
        (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let ids = [("subject", subject), ("contact", contact), ("blocked", blocked), ("stranger", stranger)];
    db.execute(
        "alter publication supabase_realtime add table rollcall.blocks, rollcall.presence_devices;
         insert into rollcall.contacts (requester_id, addressee_id, accepted_at)
           values ($subject, $contact, now()), ($subject, $blocked, now());
         insert into rollcall.blocks (blocker_id, blocked_id) values ($subject, $blocked), ($subject, $stranger);
         insert into rollcall.presence_devices (user_id, device_id) values ($subject, 'phone')",
        &ids,
    )
    .await;
    let harness = ChangesHarness::open(&db.url);
    let deletes = json!([{"event": "DELETE", "schema": "rollcall", "table": "*"}]);
    let mut listeners = Vec::new();
    for viewer in [subject, contact, blocked, stranger] {
        let viewer = principal("authenticated", Some(viewer));
        listeners.push(harness.subscribe_and_wait("t", viewer, deletes.clone()).await);
    }
    let mut server = harness.subscribe_and_wait("t", principal("service_role", None), deletes).await;
    db.execute(
        "delete from rollcall.presence_devices where user_id = $subject;
         delete from rollcall.user_presence where user_id = $subject; delete from rollcall.blocks where blocked_id = $stranger",
        &ids,
    )
    .await;
    let told = |change: &Value| {
        let old = &change["data"]["old_record"];
        format!(
            "{} {}",
            change["data"]["table"].as_str().unwrap_or_default(),
            old["face"].as_str().unwrap_or("-")
        )
    };
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(told(&server.next().await));
    }
    all.sort();
    assert_eq!(all, ["blocks -", "presence_devices -", "user_presence public", "user_presence trusted"]);
    // A row of everybody's own, deleted last, ends what was delivered before.
    let viewers = [subject, contact, blocked, stranger];
    for viewer in viewers {
        db.execute(
            "insert into rollcall.presence_devices (user_id, device_id) values ($viewer, 'last');
             delete from rollcall.presence_devices where user_id = $viewer and device_id = 'last'",
            &[("viewer", viewer)],
        )
        .await;
    }
    let expected: [&[&str]; 4] =
        [&["blocks -", "presence_devices -", "user_presence trusted"], &["user_presence public"], &[], &[]];
    for ((mut listener, expected), viewer) in listeners.into_iter().zip(expected).zip(viewers) {
        let mut heard = Vec::new();
        loop {
            let change = listener.next().await;
            if change["data"]["old_record"]["device_id"] == "last" {
                break;
            }
            heard.push(told(&change));
        }
        heard.sort();
        assert_eq!(heard, expected, "{viewer}");
    }
}

/// PostgreSQL keeps what a policy uses by OID, so users need no usage of its schema. Neither do those who receive a DELETE.
#[testkit::test]
async fn deletes_follow_policies_that_use_closed_schemas(db: Arc<TestDatabase>) {
    let (member, stranger, blocked) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let ids = [("member", member), ("stranger", stranger), ("blocked", blocked)];
    // By a function, by a table with row-level security of its own, by a type, and by all of them.
    db.execute(
        "create schema private;
         create type private.kind as enum ('open', 'shut');
         create table private.members (user_id uuid primary key);
         alter table private.members enable row level security;
         grant select on private.members to authenticated;
         create policy own on private.members for select to authenticated using (user_id = auth.uid());
         insert into private.members values ($member), ($blocked);
         create function private.is_member() returns boolean language sql stable security definer
           as $$ select exists (select from private.members m where m.user_id = auth.uid()) $$;
         create function private.is_free(p_room int) returns boolean language plpgsql stable security definer
           as $$ begin return p_room > 0 and auth.uid() <> $blocked; end $$;
         do $do$
         declare v_table text;
         begin
           foreach v_table in array array['by_function', 'by_table', 'by_type', 'by_all'] loop
             execute format('create table public.%I (id int primary key, room int, kind private.kind default ''open'')', v_table);
             execute format('alter table public.%I replica identity full', v_table);
             execute format('alter table public.%I enable row level security', v_table);
             execute format('grant select on public.%I to authenticated', v_table);
             execute format('alter publication supabase_realtime add table public.%I', v_table);
             insert into rollcall.change_settings values (format('public.%I', v_table)::regclass, true);
           end loop;
         end $do$;
         create policy p on by_function for select to authenticated using (private.is_member() and private.is_free(room));
         create policy p on by_table for select to authenticated
           using (private.is_free(room) and exists (select from private.members m where m.user_id = auth.uid()));
         create policy p on by_type for select to authenticated using (kind = 'open'::private.kind and private.is_member() and private.is_free(room));
         create policy p on by_all for select to authenticated
           using (kind <> 'shut'::private.kind and private.is_free(room) and private.is_member()
             and auth.uid() in (select user_id from private.members))",
        &ids,
    )
    .await;
    let harness = ChangesHarness::open(&db.url);
    let mut listeners = Vec::new();
    for viewer in [member, stranger, blocked] {
        let viewer = principal("authenticated", Some(viewer));
        let bindings = json!([{"event": "*", "schema": "public", "table": "*"}]);
        listeners.push(harness.subscribe_and_wait("t", viewer, bindings).await);
    }
    let tables = ["by_function", "by_table", "by_type", "by_all"];
    for round in 1..=2 {
        for table in tables {
            let statements = [
                ("INSERT", format!("insert into {table} values ({round}, 7)")),
                ("DELETE", format!("delete from {table}")),
            ];
            for (operation, statement) in statements {
                db.execute(&statement, &[]).await;
                let change = listeners[0].next().await;
                let told = (&change["data"]["table"], &change["data"]["type"]);
                assert_eq!(told, (&json!(table), &json!(operation)), "{round}");
            }
        }
        // Functions may be replaced while the statements are prepared; nothing of ours keeps them from being dropped.
        db.execute(
            "create or replace function private.is_member() returns boolean language sql stable security definer
               as $$ select auth.uid() in (select m.user_id from private.members m) $$;
             begin; drop function private.is_free cascade; rollback",
            &[],
        )
        .await;
    }
    // The others have received all there is for them before this.
    db.execute(
        "create table public.last (id int primary key); grant select on public.last to authenticated;
         alter publication supabase_realtime add table public.last; insert into public.last values (1)",
        &[],
    )
    .await;
    for listener in &mut listeners[1..] {
        let change = listener.next().await;
        assert_eq!(change["data"]["table"], "last", "{change}");
    }
}

/// The same for the table of Rollcall whose policy calls a function of the closed schema.
#[testkit::test]
async fn deletes_of_typing_reach_participants_only(db: Arc<TestDatabase>) {
    let users: [Uuid; 4] = std::array::from_fn(|_| Uuid::new_v4());
    let [typist, participant, blocked, stranger] = users;
    let conversation = Uuid::new_v4();
    let ids = [("typist", typist), ("participant", participant), ("blocked", blocked), ("c", conversation)];
    db.execute(
        "alter table rollcall.typing_indicators set logged;
         alter publication supabase_realtime add table rollcall.typing_indicators;
         insert into rollcall.conversations (id, created_by) values ($c, $typist);
         insert into rollcall.conversation_participants (conversation_id, user_id)
           values ($c, $typist), ($c, $participant), ($c, $blocked);
         insert into rollcall.blocks (blocker_id, blocked_id) values ($typist, $blocked)",
        &ids,
    )
    .await;
    let harness = ChangesHarness::open(&db.url);
    let mut listeners = Vec::new();
    for viewer in [typist, participant, blocked, stranger] {
        let viewer = principal("authenticated", Some(viewer));
        let bindings = json!([{"event": "*", "schema": "rollcall", "table": "typing_indicators"}]);
        listeners.push(harness.subscribe_and_wait("t", viewer, bindings).await);
    }
    db.execute(
        "insert into rollcall.typing_indicators (conversation_id, user_id) values ($c, $typist);
         delete from rollcall.typing_indicators;
         insert into rollcall.typing_indicators (conversation_id, user_id) values ($c, $blocked);
         delete from rollcall.typing_indicators",
        &ids,
    )
    .await;
    let of = async |listener: &mut crate::changes_harness::Listener, count: usize| {
        let mut heard = Vec::new();
        for _ in 0..count {
            let change = listener.next().await;
            let data = &change["data"];
            let row = if data["type"] == "DELETE" { &data["old_record"] } else { &data["record"] };
            heard.push(format!("{} {}", data["type"].as_str().unwrap(), row["user_id"].as_str().unwrap()));
        }
        heard
    };
    let both = |user: Uuid| [format!("INSERT {user}"), format!("DELETE {user}")];
    assert_eq!(of(&mut listeners[1], 4).await, [both(typist), both(blocked)].concat());
    assert_eq!(of(&mut listeners[0], 2).await, both(typist), "whom the typist has blocked is hidden");
    assert_eq!(
        of(&mut listeners[2], 2).await,
        both(blocked),
        "the typist is hidden from whom it has blocked"
    );
    assert!(listeners[3].try_next().is_none(), "a stranger hears nothing");
}

/// What the server itself cannot resolve is reported, not left out silently. In a cluster of its own, because its role
/// loses a right.
#[testkit::test]
async fn policies_that_the_server_cannot_resolve_are_reported(_: Arc<TestDatabase>) {
    let cluster = Cluster::start_owner_only("vault").await;
    cluster.create_database("vault").await;
    let (owner, admin) = (connect(&cluster.url("vault")).await, connect(&cluster.admin_url("vault")).await);
    owner
        .batch_execute(
            "create table public.papers (id int primary key); alter table public.papers enable row level security;
             grant select on public.papers to authenticated; alter publication supabase_realtime add table public.papers;
             insert into rollcall.change_settings values ('public.papers', true)",
        )
        .await
        .expect("are created");
    admin
        .batch_execute(
            "revoke pg_read_all_data from postgres;
             create schema vault; create function vault.opens() returns boolean language sql as 'select true';
             create policy p on public.papers for select to authenticated using (vault.opens())",
        )
        .await
        .expect("are created");
    let harness = ChangesHarness::open(&cluster.url("vault"));
    let me = principal("authenticated", Some(Uuid::new_v4()));
    let mut listener = harness.subscribe_and_wait("t", me, all_changes_of("papers")).await;
    let note = listener.wait_for_system_message(true, "no DELETE of").await;
    assert!(note.contains("vault.opens") && note.contains("may not use"), "{note}");
    owner.batch_execute("insert into papers values (1), (2)").await.expect("rows");
    for id in [1, 2] {
        assert_eq!(listener.next().await["data"]["record"]["id"], id, "inserts are delivered");
    }
    owner.batch_execute("delete from papers where id = 1").await.expect("is deleted");
    listener.wait_for_system_message(false, "permission denied for schema vault").await;
    admin.batch_execute("grant usage on schema vault to postgres").await.expect("is granted");
    owner.batch_execute("delete from papers").await.expect("is deleted");
    let change = listener.next().await;
    assert_eq!(change["data"]["old_record"]["id"], 2, "once the server may, deletes are delivered too");
    drop((harness, listener, owner, admin));
    cluster.stop().await;
}
