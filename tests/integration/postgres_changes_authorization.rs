//! Who receives changes and why: explanations, notes on join, deletes limited to users who saw the row.

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::harness::{TestDatabase, principal};
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
