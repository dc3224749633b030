//! Subscriptions and the tables they select: types and their operators, columns that are not published, roles, and tables
//! that join and leave the publication.

use std::{sync::Arc, time::Duration};

use rollcall::channels::postgres_changes::{PostgresChangesSettings, SUBSCRIBED_MESSAGE};
use serde_json::{Value, json};
use testkit::harness::{TestDatabase, principal};

use crate::changes_harness::{ChangesHarness, Listener, NOTES, all_changes_of};

fn filtered(table: &str, filter: &str) -> Value {
    json!([{"event": "*", "schema": "public", "table": table, "filter": filter}])
}

/// The filters hold for the row with the ID 2 and not for the row with the ID 1.
#[testkit::test]
async fn filters_compare_as_the_type_of_the_column_does(db: Arc<TestDatabase>) {
    db.execute(
        "create schema kit; create extension citext schema kit; create extension ltree schema kit;
        create extension hstore schema kit;
        create domain kit.email as kit.citext; create domain kit.work_email as kit.email; create domain kit.tags as text[];
        create domain kit.rank as int check (value > 0); create domain kit.label as varchar(20);
        create type kit.pair as (x int, label text); create type kit.\"Mood\" as enum ('sad', 'so so', 'happy');
        create type kit.span as range (subtype = int);
        create table public.typed (id int primary key, name kit.citext, names kit.citext[], mail kit.work_email, path kit.ltree,
          attributes kit.hstore, pair kit.pair, mood kit.\"Mood\", span kit.span, tags kit.tags, rank kit.rank,
          label kit.label, code char(5));
        grant all on public.typed to anon; alter publication supabase_realtime add table public.typed",
        &[],
    )
    .await;
    let harness = ChangesHarness::open(&db.url);
    let mut listeners = Vec::new();
    for filter in [
        "name=eq.ANN",
        "name=in.(BOB,ANN)",
        "name=neq.ZOE",
        "name=isdistinct.ZOE",
        "name=lt.Bob",
        "name=like.AN%",
        "name=match.^AN",
        r#"names=eq."{ANN,BOB}""#,
        "mail=eq.ANN@EXAMPLE.COM",
        "mail=like.ANN%",
        "path=eq.a.b",
        "path=lt.b",
        r#"attributes=eq."b=>2, a=>1""#,
        "attributes=neq.a=>9",
        "pair=eq.(1,x)",
        "pair=lt.(2,a)",
        "mood=eq.so so",
        "mood=lt.happy",
        r#"span=eq."[1,4)""#,
        r#"tags=eq."{a,b}""#,
        "tags=lt.{b}",
        "rank=lt.10",
        "rank=in.(1,2)",
        "label=eq.x",
        "label=ilike.X",
        "code=eq.ab",
    ] {
        let listener =
            harness.subscribe_and_wait(filter, principal("anon", None), filtered("typed", filter)).await;
        listeners.push((filter, listener));
    }
    db.execute(
        "insert into typed values (1, 'zoe', '{zoe}', 'zoe@example.com', 'c.d', 'a=>9', '(3,z)', 'happy', '[7,9)', '{c}', 30,
          'y', 'zz');
        insert into typed values (2, 'ann', '{ann,bob}', 'ann@example.com', 'a.b', 'a=>1,b=>2', '(1,x)', 'so so', '[1,4)',
          '{a,b}', 2, 'x', 'ab')",
        &[],
    )
    .await;
    for (filter, listener) in &mut listeners {
        assert_eq!(listener.next().await["data"]["record"]["id"], 2, "{filter}");
        // As explain_change says it.
        for id in [1, 2] {
            let statement = "select bool_and(delivered) from rollcall.explain_change('{\"role\": \"anon\"}', 'public.typed', \
                             jsonb_build_object('id', $1::int), $2)";
            let delivered: bool = db.query_row(statement, &[&id, filter]).await.get(0);
            assert_eq!(delivered, id == 2, "{filter} for the row {id}");
        }
    }
}

#[testkit::test]
async fn filters_without_an_operator_of_the_type_are_refused(db: Arc<TestDatabase>) {
    db.execute(
        "create schema kit; create extension hstore schema kit; create type kit.holder as (content json);
        create table public.plain (id int primary key, doc json, docs json[], place point, markup xml, holder kit.holder,
          attributes kit.hstore, shape box);
        grant all on public.plain to anon; alter publication supabase_realtime add table public.plain",
        &[],
    )
    .await;
    let harness = ChangesHarness::open(&db.url);
    for (filter, type_name) in [
        ("doc=eq.{}", "json"),
        ("doc=neq.{}", "json"),
        ("doc=isdistinct.{}", "json"),
        (r#"doc=in.("{}")"#, "json"),
        (r#"docs=eq."{\"{}\"}""#, "json[]"),
        ("place=eq.(1,2)", "point"),
        ("markup=eq.<a/>", "xml"),
        (r#"holder=eq.({})"#, "kit.holder"),
        ("attributes=lt.a=>1", "kit.hstore"),
        ("attributes=like.a%", "kit.hstore"),
        (r#"shape=neq."(1,1),(0,0)""#, "box"),
    ] {
        let listener = harness.subscribe("t", principal("anon", None), filtered("plain", filter)).await;
        let messages = listener.take_system_messages();
        assert!(
            matches!(&messages[..], [(false, text)] if text.contains("requires a") && text.ends_with(&format!("got {type_name}"))),
            "{filter}: {messages:?}"
        );
    }
    for filter in ["doc=is.null", "place=not.is.null", r#"shape=eq."(1,1),(0,0)""#] {
        harness.subscribe_and_wait("t", principal("anon", None), filtered("plain", filter)).await;
    }
}

#[testkit::test]
async fn columns_that_are_not_published_are_announced_or_refused(db: Arc<TestDatabase>) {
    db.execute(
        "create table public.listed (id int primary key, shown int, hidden int, secret int);
        create table public.computed (id int primary key, net int, gross int generated always as (net * 2) stored);
        grant select (id, shown, hidden) on public.listed to anon; grant select on public.computed to anon;
        alter publication supabase_realtime add table public.listed (id, shown), public.computed",
        &[],
    )
    .await;
    let harness = ChangesHarness::open(&db.url);
    let anon = || principal("anon", None);
    let listed = harness.subscribe_and_wait("t", anon(), all_changes_of("listed")).await;
    let note = listed.wait_for_system_message(true, "does not publish these columns of public.listed").await;
    // A column that the role may not select is not named.
    assert!(note.ends_with(": hidden"), "{note}");
    let select =
        |columns: Value| json!([{"event": "*", "schema": "public", "table": "listed", "select": columns}]);
    for (subscription, text) in [
        (filtered("listed", "hidden=eq.1"), "invalid column for filter hidden: the publication"),
        (
            filtered("listed", "shown=eq.1,hidden=is.null"),
            "invalid column for filter hidden: the publication",
        ),
        (select(json!(["shown", "hidden"])), "invalid column for select hidden: the publication"),
    ] {
        harness.subscribe("t", anon(), subscription).await.wait_for_system_message(false, text).await;
    }
    let mut shown = harness.subscribe_and_wait("t", anon(), filtered("listed", "shown=eq.1")).await;
    db.execute("insert into listed values (1, 1, 2, 3)", &[]).await;
    assert_eq!(shown.next().await["data"]["record"], json!({"id": 1, "shown": 1}));

    let version: i32 = db.query_row("select current_setting('server_version_num')::int", &[]).await.get(0);
    let computed = harness.subscribe_and_wait("t", anon(), all_changes_of("computed")).await;
    let text = if version < 180_000 {
        "does not publish generated columns"
    } else {
        "does not publish these columns"
    };
    assert!(computed.wait_for_system_message(true, text).await.ends_with(": gross"));
    let refused = harness.subscribe("t", anon(), filtered("computed", "gross=eq.2")).await;
    refused.wait_for_system_message(false, "invalid column for filter gross").await;
    let reason: String = db
        .query_row(
            "select string_agg(reason, ' ') from rollcall.explain_change('{\"role\": \"anon\"}', 'public.listed', \
             '{\"id\": 1}', 'hidden=eq.2')",
            &[],
        )
        .await
        .get(0);
    assert!(reason.contains("does not publish"), "{reason}");
}

#[testkit::test]
async fn roles_whose_names_need_quotes_receive_changes(db: Arc<TestDatabase>) {
    for (number, role) in ["Sales Team", "it's \"quoted\"", "select"].into_iter().enumerate() {
        let role = &format!("{role} {}", db.url.rsplit('/').next().unwrap_or_default());
        let quoted = format!("\"{}\"", role.replace('"', "\"\""));
        let table = format!("offers{number}");
        db.execute(
            &format!(
                "create role {quoted}; grant {quoted} to current_user; create table public.{table} (id int primary key, region text);
                alter table public.{table} enable row level security; grant select on public.{table} to {quoted};
                create policy north on public.{table} for select to {quoted} using (region like 'n%');
                alter publication supabase_realtime add table public.{table}"
            ),
            &[],
        )
        .await;
        let harness = ChangesHarness::open(&db.url);
        let mut listener =
            harness.subscribe_and_wait("t", principal(role, None), filtered(&table, "region=match.h$")).await;
        assert_eq!(listener.take_system_messages().len(), 1, "{role}");
        db.execute(&format!("insert into {table} values (1, 'south'), (2, 'north'), (3, 'near')"), &[]).await;
        assert_eq!(listener.next().await["data"]["record"]["id"], 2, "{role}");
        let statement = format!(
            "select bool_and(delivered) from rollcall.explain_change($1, 'public.{table}', '{{\"id\": 2}}')"
        );
        let claims = json!({ "role": role });
        assert!(db.query_row(&statement, &[&claims]).await.get::<_, bool>(0), "{role}");
        drop((listener, harness));
        db.execute(&format!("drop table public.{table}; drop role {quoted}"), &[]).await;
    }
}

/// Takes the system messages and compares their status and text.
async fn assert_revived(listener: &mut Listener, error: &str) {
    listener.wait_for_system_message(true, SUBSCRIBED_MESSAGE).await;
    let messages = listener.take_system_messages();
    assert!(
        matches!(&messages[..], [(false, text), (true, confirmed)] if text.contains(error) && confirmed == SUBSCRIBED_MESSAGE),
        "{messages:?}"
    );
}

#[testkit::test]
async fn a_subscription_follows_its_table_out_of_the_publication_and_back(db: Arc<TestDatabase>) {
    const UNPUBLISHED: &str = "Please check Realtime is enabled";
    db.execute(NOTES, &[]).await;
    let poll_interval = Duration::from_millis(100);
    let settings = PostgresChangesSettings { poll_interval, ..PostgresChangesSettings::default() };
    let harness = ChangesHarness::open_with(&db.url, settings);
    let anon = || principal("anon", None);
    // The stream need not run while the only subscription waits.
    let mut notes = harness.subscribe_and_wait("t", anon(), filtered("notes", "rank=gt.0")).await;
    let leaver = harness.subscribe_and_wait("l", anon(), all_changes_of("notes")).await;
    let mut later = harness.subscribe("later", anon(), all_changes_of("later")).await;
    notes.take_system_messages();
    let mut id = 0;
    for (out, error, back) in [
        (
            "alter publication supabase_realtime drop table public.notes",
            UNPUBLISHED,
            "alter publication supabase_realtime add table public.notes",
        ),
        ("drop table public.notes", UNPUBLISHED, NOTES),
        (
            "alter table public.notes rename to papers",
            UNPUBLISHED,
            "alter table public.papers rename to notes",
        ),
        (
            "alter table public.notes rename column rank to level",
            "invalid column for filter rank",
            "alter table public.notes rename column level to rank",
        ),
        (
            "drop publication supabase_realtime",
            UNPUBLISHED,
            "create publication supabase_realtime for table public.notes",
        ),
    ] {
        db.execute(out, &[]).await;
        notes.wait_for_system_message(false, error).await;
        db.execute(back, &[]).await;
        notes.wait_for_system_message(true, SUBSCRIBED_MESSAGE).await;
        let texts: Vec<(bool, String)> = notes.take_system_messages();
        assert_eq!(texts.last(), Some(&(true, SUBSCRIBED_MESSAGE.to_owned())), "{out}: {texts:?}");
        id += 1;
        db.execute(&format!("insert into notes (id, rank) values ({id}, 1)"), &[]).await;
        assert_eq!(notes.next().await["data"]["record"]["id"], id, "{out}");
    }
    // A table that is published only after the join.
    later.wait_for_system_message(false, UNPUBLISHED).await;
    db.execute(
        "create table public.later (id int primary key); grant select on public.later to anon;
        alter publication supabase_realtime add table public.later",
        &[],
    )
    .await;
    assert_revived(&mut later, UNPUBLISHED).await;
    db.execute("insert into later values (1)", &[]).await;
    assert_eq!(later.next().await["data"]["record"]["id"], 1);
    // A channel that was left does not come back.
    db.execute("alter publication supabase_realtime drop table public.notes", &[]).await;
    leaver.wait_for_system_message(false, UNPUBLISHED).await;
    notes.wait_for_system_message(false, UNPUBLISHED).await;
    drop(leaver);
    db.execute("alter publication supabase_realtime add table public.notes", &[]).await;
    notes.wait_for_system_message(true, SUBSCRIBED_MESSAGE).await;
    assert_eq!(harness.changes.subscription_count(), 2);
}

/// With the replica identity full, the write-ahead log has an untouched value in the old row and in the new one.
#[testkit::test]
async fn untouched_large_values_are_omitted_where_the_change_would_exceed_the_limit(db: Arc<TestDatabase>) {
    db.execute(
        "create table public.papers (id int primary key, n int, note text, body text, scan text);
        alter table public.papers replica identity full; grant all on public.papers to anon;
        alter table public.papers alter body set storage external, alter scan set storage external;
        alter publication supabase_realtime add table public.papers;
        insert into public.papers values (1, 0, null, repeat('a', 600000), null),
          (2, 0, null, repeat('b', 1100000), 'x'), (3, 0, null, repeat('c', 300000), repeat('d', 900000))",
        &[],
    )
    .await;
    let harness = ChangesHarness::open(&db.url);
    let mut listener =
        harness.subscribe_and_wait("t", principal("anon", None), all_changes_of("papers")).await;
    let length =
        |record: &Value, name: &str| record.get(name).map(|value| value.as_str().map_or(0, str::len));
    for (id, new, old) in [
        (1, [Some(600_000), Some(0)], [None, Some(0)]),
        (2, [None, Some(1)], [None, Some(1)]),
        (3, [Some(300_000), None], [None, None]),
    ] {
        db.execute(&format!("update papers set n = 1 where id = {id}"), &[]).await;
        let data = listener.next().await["data"].take();
        assert_eq!(data["errors"], Value::Null, "{id}");
        assert_eq!((&data["record"]["n"], &data["record"]["note"]), (&json!(1), &Value::Null));
        assert_eq!(data["old_record"]["n"], 0);
        let lengths = |record: &Value| [length(record, "body"), length(record, "scan")];
        assert_eq!((lengths(&data["record"]), lengths(&data["old_record"])), (new, old), "{id}");
    }
    // A value that the update did change, and that exceeds the limit.
    db.execute("update papers set body = repeat('e', 1100000) where id = 1", &[]).await;
    let data = listener.next().await["data"].take();
    assert_eq!(data["errors"], json!(["Error 413: Payload Too Large"]));
    assert_eq!(data["record"], json!({"id": 1, "n": 1, "note": null, "scan": null}));
}
