//! The `postgres_changes` pipeline without sockets: which subscribers receive which payloads.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rollcall::channels::postgres_changes::SUBSCRIBED_MESSAGE;
use serde_json::{Value, json};
use testkit::{
    client::{Socket, open_socket},
    harness::{TestDatabase, TestServer, User, mint_token, principal, unix_time_in},
};
use uuid::Uuid;

use crate::changes_harness::{ChangesHarness, NOTES, TODOS, all_changes_of};

fn without_commit_time(mut payload: Value) -> Value {
    let time = payload["data"]["commit_timestamp"].take();
    let time = time.as_str().expect("a time");
    assert!(time.len() == 24 && time.ends_with('Z') && time.parse::<Timestamp>().is_ok(), "{time}");
    payload["data"].as_object_mut().expect("an object").remove("commit_timestamp");
    payload
}

#[testkit::test]
async fn inserts_updates_and_deletes_match_supabase_realtime(db: Arc<TestDatabase>) {
    db.execute(NOTES, &[]).await;
    let harness = ChangesHarness::open(&db.url);
    let mut one = harness
        .subscribe_and_wait("pgb", principal("authenticated", Some(Uuid::new_v4())), all_changes_of("notes"))
        .await;
    let columns = json!([{"name": "id", "type": "int8"}, {"name": "title", "type": "text"}, {"name": "rank", "type": "int4"},
        {"name": "price", "type": "numeric"}, {"name": "tags", "type": "_text"}, {"name": "created_at", "type": "timestamptz"}]);
    let id = one.ids[0];

    db.execute(
        "insert into notes (id, title, rank, price, tags) values (1001, 'one ü', 1, 12.50, array['a', 'b'])",
        &[],
    )
    .await;
    let text = one.next_text().await;
    assert!(text.contains(
        r#""record":{"id": 1001, "rank": 1, "tags": ["a", "b"], "price": 12.50, "title": "one ü", "created_at": "2026-01-02T03:04:05.678901+00:00"}"#
    ), "{text}");
    db.execute("update notes set rank = 2, title = null where id = 1001", &[]).await;
    let record = json!({"id": 1001, "rank": 2, "tags": ["a", "b"], "price": 12.50, "title": null, "created_at": "2026-01-02T03:04:05.678901+00:00"});
    assert_eq!(
        without_commit_time(one.next().await),
        json!({"ids": [id], "data": {"table": "notes", "schema": "public", "type": "UPDATE", "errors": null,
            "columns": columns, "record": record, "old_record": {"id": 1001}}})
    );
    db.execute("begin; insert into notes (id, title) values (1002, 'two'), (1003, 'three'); update notes set rank = 9 where id = 1003; commit", &[]).await;
    for (kind, id) in [("INSERT", 1002), ("INSERT", 1003), ("UPDATE", 1003)] {
        let payload = one.next().await;
        assert_eq!((&payload["data"]["type"], &payload["data"]["record"]["id"]), (&json!(kind), &json!(id)));
    }
    db.execute("update notes set id = 1004 where id = 1003", &[]).await;
    let moved = one.next().await;
    assert_eq!(
        (&moved["data"]["record"]["id"], &moved["data"]["old_record"]),
        (&json!(1004), &json!({"id": 1003}))
    );
    db.execute("truncate notes; insert into notes (id) values (1); delete from notes", &[]).await;
    assert_eq!(one.next().await["data"]["type"], "INSERT");
    assert_eq!(
        without_commit_time(one.next().await),
        json!({"ids": [id], "data": {"table": "notes", "schema": "public", "type": "DELETE", "errors": null,
            "columns": columns, "old_record": {"id": 1}}})
    );
}

#[testkit::test]
async fn every_type_is_rendered_like_to_jsonb(db: Arc<TestDatabase>) {
    db
        .execute(
            "create type public.mood as enum ('sad', 'so so');
            create type public.pair as (a int, \"b c\" text, moods public.mood[]);
            create domain public.score as numeric check (value >= 0);
            create domain public.scores as public.score[];
            create table public.types (
              id int primary key, i2 smallint, i8 bigint, f4 real, f8 double precision, n numeric, ns numeric(12, 4)[], b boolean, t text,
              vc varchar(20), ch char(5), nm name, u uuid, ba bytea, d date, ts timestamp, tz timestamptz, tm time, tmz timetz,
              iv interval, j json, jb jsonb, js json[], e public.mood, es public.mood[], p public.pair, ps public.pair[], dn public.score,
              dns public.scores, r int4range, rs tstzrange, mr int4multirange, ip inet, ci cidr, mac macaddr, bi bit(3), vb varbit, o oid,
              m money, x xml, tv tsvector, pt point, bx box[], iva int2vector, tzs timestamptz[], f8s double precision[], bs boolean[], lo text[][]
            );
            alter table public.types replica identity full; grant all on public.types to authenticated;
            alter publication supabase_realtime add table public.types",
            &[],
        )
        .await;
    db.execute("set timezone = 'UTC'", &[]).await;
    let harness = ChangesHarness::open(&db.url);
    let mut one =
        harness.subscribe_and_wait("types", principal("authenticated", None), all_changes_of("types")).await;
    let rows = [
        "(1)",
        r#"(2, -32768, 9223372036854775807, 0.1, 1e300, 123456789012345678901234567890.5000, '{1,NULL,2.5}', true, E'q"uo\\te\nnl\t\u0001ü', 'v', 'c', 'n',
          '11111111-1111-4111-8111-111111111111', '\x00ff', '2026-03-04', '2026-02-03 04:05:06.123456', '2026-02-03 04:05:06.1+02', '04:05', '04:05+02',
          '1 year 2 days 03:04:05.5', '{"b":1, "a" : [1,2,{"b":null}], "b":1e2}', '{"b":1.50,"a":[]}', array['{"z":1,"a":2}'::json, null], 'so so', '{sad,NULL}',
          row(1, 'x, "y" (z)', '{"so so"}'), array[row(1, null, null)::pair, null], 1.0, '{1.0,2}', '[1,5)', '["2026-01-01 00:00+00",)', '{[1,3),[5,9)}',
          '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '101', '10', 4000000000, 12.5, '<a b="c">&amp;</a>', 'a:1 b:2', '(1,2)', '{(1,2),(0,0);(3,4),(0,0)}',
          '1 2 3', '{"2026-01-01 00:00:00+00",infinity}', '{NaN,-0,1e-7,Infinity}', '{t,f,NULL}', '{{a,"b c"},{"NULL",""}}')"#,
        "(3, 0, 0, 'NaN', '-Infinity', 'NaN', '{}', false, '', '', '', '', null, '', 'infinity', '-infinity', '0044-03-15 12:00:00 BC', '24:00', null, \
          '-1 mon', '[]', '\"x\"', '{}', null, '{}', row(null, null, null), '{}', 0.00, '{}', 'empty', 'empty', '{}', '::1', '::/0', null, '000', '', 0, -1, \
          '', '', '(0,0)', '{}', '', '[0:1]={infinity,-infinity}', '{}', '{}', '{}')",
        "(4, 1, 1, 3.4e38, 1.7976931348623157e308, 0.000000000000000000000000000001, '{0.0001}', true, repeat('long ', 40))",
        "(5, 1, -1, 1e-40, 5e-324, -0.0, '[2:3]={1,2}')",
    ];
    for row in rows {
        db.execute(&format!("insert into public.types values {row}"), &[]).await;
        let expected: String = db
            .query_row("select to_jsonb(shown)::text from public.types shown order by id desc limit 1", &[])
            .await
            .get(0);
        let text = one.next_text().await;
        let record = text
            .split_once("\"record\":")
            .and_then(|(_, rest)| rest.split_once(",\"columns\":"))
            .expect("a record")
            .0;
        assert_eq!(record, expected);
    }
    db.execute("update public.types set i2 = 7 where id = 2", &[]).await;
    let updated = one.next().await;
    let expected: String =
        db.query_row("select to_jsonb(shown)::text from public.types shown where id = 2", &[]).await.get(0);
    let mut expected: Value = serde_json::from_str(&expected).expect("JSON");
    assert_eq!(updated["data"]["record"], expected);
    expected["i2"] = json!(-32768);
    assert_eq!(updated["data"]["old_record"], expected);
}

/// Filters of the recorded sessions and the rows they match: rows 1 to 4 inserted, then 2 and 1 updated.
const FILTERS: [(&str, &str); 44] = [
    ("n=eq.5", "1 2"),
    ("n=neq.5", "2 3 1"),
    ("n=lt.5", "3"),
    ("n=lte.5", "1 3 2"),
    ("n=gt.5", "2 1"),
    ("n=gte.5", "1 2 2 1"),
    ("n=in.(4,6)", "2 3"),
    ("t=eq.five", "1 2 1"),
    ("t=neq.five", "2 3 4"),
    ("t=in.(five,six)", "1 2 2 1"),
    ("t=in.(\"a,b\",six)", "2 3"),
    ("t=like.f%", "1 2 1"),
    ("t=like.f*", ""),
    ("t=ilike.F%", "1 4 2 1"),
    ("t=match.^f", "1 2 1"),
    ("t=imatch.^F", "1 4 2 1"),
    ("nul=is.null", "1 3 4 1"),
    ("nul=isdistinct.x", "1 3 4 1"),
    ("b=is.true", "1 1"),
    ("b=is.false", "2 2"),
    ("b=is.unknown", "3 4"),
    ("b=eq.true", "1 1"),
    ("n=isdistinct.5", "2 3 4 1"),
    ("n=not.eq.5", "2 3 1"),
    ("n=not.in.(4,6)", "1 2 1"),
    ("t=not.like.f%", "2 3 4"),
    ("nul=not.is.null", "2 2"),
    ("n=gt.3,n=lt.6", "1 3 2"),
    ("n=gt.3,t=eq.five", "1 2 1"),
    ("t=eq.\"five\"", "1 2 1"),
    ("u=eq.11111111-1111-4111-8111-111111111111", "1 1"),
    ("f=gt.1.5", "1 1"),
    ("ts=gte.2026-01-01T00:00:00Z", "1 1"),
    ("d=eq.2026-03-04", "1 1"),
    ("", "1 2 3 4 2 1"),
    ("t=lt.b", "3 4"),
    ("t=not.ilike.F%", "2 3"),
    ("t=not.match.^f", "2 3 4"),
    ("n=not.gt.5", "1 3 2"),
    ("n=not.neq.5", "1 2"),
    ("n=not.isdistinct.5", "1 2"),
    ("f=eq.1", "2 2"),
    ("d=in.(2026-03-04,2026-03-05)", "1 2 2 1"),
    ("j=eq.[1.0]", "2 2"),
];

#[testkit::test]
async fn every_filter_operator_matches_supabase_realtime(db: Arc<TestDatabase>) {
    db
        .execute(
            "create table public.ftypes (id int primary key, t text collate \"C\", n int, b boolean, f float8, u uuid, ts timestamptz, d date, j jsonb, nul text);
            alter table public.ftypes replica identity full; grant all on public.ftypes to authenticated;
            alter publication supabase_realtime add table public.ftypes",
            &[],
        )
        .await;
    let harness = ChangesHarness::open(&db.url);
    let authenticated = principal("authenticated", None);
    let mut listeners = Vec::new();
    for (filter, rows) in FILTERS {
        let subscription = json!([{"event": "*", "schema": "public", "table": "ftypes", "filter": filter}]);
        listeners.push((
            filter,
            rows,
            harness.subscribe_and_wait(filter, authenticated.clone(), subscription).await,
        ));
    }
    db
        .execute(
            "insert into ftypes values (1, 'five', 5, true, 2.5, '11111111-1111-4111-8111-111111111111', '2026-02-03 04:05:06.123456+00', '2026-03-04', '{\"a\":[1,2]}', null);
            insert into ftypes values (2, 'six', 6, false, 1.0, '22222222-2222-4222-8222-222222222222', '2025-02-03 04:05:06+00', '2026-03-05', '[1]', 'x');
            insert into ftypes (id, t, n) values (3, 'a,b', 4), (4, 'Foo', null);
            update ftypes set n = 5, t = 'five' where id = 2;
            update ftypes set n = 100 where id = 1;",
            &[],
        )
        .await;
    // Deletes are filtered by the known last state of the old row.
    let everything =
        listeners.iter().position(|(filter, ..)| filter.is_empty()).expect("one without a filter");
    for _ in 0..6 {
        listeners[everything].2.next().await;
    }
    listeners[everything].2.rewind();
    for (filter, rows, listener) in &mut listeners {
        let mut received = Vec::new();
        // A filter that PostgreSQL evaluates does not delay the other subscribers, so its events arrive later.
        for _ in rows.split_whitespace() {
            received.push(listener.next().await["data"]["record"]["id"].to_string());
        }
        assert_eq!(listener.try_next(), None, "{filter}");
        assert_eq!(received.join(" "), *rows, "{filter}");
    }
    db.execute("delete from ftypes where id = 2", &[]).await;
    listeners[everything].2.next().await;
    for (filter, _, listener) in &mut listeners {
        let holds = ["n=eq.5", "t=eq.five", "b=is.false", "j=eq.[1.0]", "n=lte.5"].contains(filter);
        let fails = ["n=neq.5", "t=neq.five", "b=is.true", "nul=is.null"].contains(filter);
        if holds || fails {
            if holds {
                listener.next().await;
            }
            assert_eq!(listener.try_next(), None, "delete with {filter}");
        }
    }
}

#[testkit::test]
async fn rows_are_delivered_to_subscribers_who_may_select_them(db: Arc<TestDatabase>) {
    db.execute(TODOS, &[]).await;
    let harness = ChangesHarness::open(&db.url);
    let (u1, u2) = (Uuid::new_v4(), Uuid::new_v4());
    let mut one = harness
        .subscribe_and_wait("rls", principal("authenticated", Some(u1)), all_changes_of("todos"))
        .await;
    let mut two = harness
        .subscribe_and_wait("rls", principal("authenticated", Some(u2)), all_changes_of("todos"))
        .await;
    let mut anon = harness.subscribe_and_wait("rls", principal("anon", None), all_changes_of("todos")).await;
    let mut service =
        harness.subscribe_and_wait("rls", principal("service_role", None), all_changes_of("todos")).await;
    let ids = [("u1", u1), ("u2", u2)];
    // One step at a time: visibility is checked after the change, when the next one may have been made.
    let steps = [
        (
            "insert into todos values (501, $u1, 'one'), (502, $u2, 'two')",
            "INSERT 501",
            "INSERT 502",
            "INSERT 501 INSERT 502",
        ),
        ("update todos set user_id = $u2 where id = 501", "", "UPDATE 501", "UPDATE 501"),
        (
            "alter policy \"own rows\" on todos using (user_id <> auth.uid()); insert into todos values (503, $u1, 'three')",
            "",
            "INSERT 503",
            "INSERT 503",
        ),
        ("update todos set done = true where id = 502", "UPDATE 502", "", "UPDATE 502"),
    ];
    for (statements, for_one, for_two, for_service) in steps {
        db.execute(statements, &ids).await;
        for (listener, expected) in [(&mut service, for_service), (&mut one, for_one), (&mut two, for_two)] {
            let mut received = Vec::new();
            for _ in 0..expected.split_whitespace().count() / 2 {
                let data = listener.next().await["data"].take();
                received.push(format!("{} {}", data["type"].as_str().expect("a type"), data["record"]["id"]));
            }
            assert_eq!(received.join(" "), expected, "{statements}");
        }
    }
    db.execute("delete from todos where id = 501", &[]).await;
    // Subscribers that may not have seen the row get the delete with the key only.
    for listener in [&mut one, &mut two, &mut anon, &mut service] {
        let data = listener.next().await["data"].take();
        assert_eq!((&data["type"], &data["old_record"]), (&json!("DELETE"), &json!({"id": 501})));
        assert_eq!(data["columns"].as_array().expect("a list").len(), 4);
    }
}

#[testkit::test]
async fn payloads_contain_only_granted_columns(db: Arc<TestDatabase>) {
    db
        .execute(
            "create table public.secret_cols (id int primary key, pub text, secret text);
            revoke all on public.secret_cols from anon, authenticated; grant select (id, pub) on public.secret_cols to anon, authenticated;
            create table public.keyless (v text); grant select on public.keyless to anon; alter table public.keyless replica identity full;
            create table public.hidden (id int primary key, v text); revoke all on public.hidden from anon; grant select (v) on public.hidden to anon;
            alter publication supabase_realtime add table public.secret_cols, public.keyless, public.hidden",
            &[],
        )
        .await;
    let harness = ChangesHarness::open(&db.url);
    let mut one =
        harness.subscribe_and_wait("a", principal("anon", None), all_changes_of("secret_cols")).await;
    let mut keyless =
        harness.subscribe_and_wait("b", principal("anon", None), all_changes_of("keyless")).await;
    let mut hidden = harness.subscribe_and_wait("c", principal("anon", None), all_changes_of("hidden")).await;
    db.execute("insert into secret_cols values (1, 'p', 's'); delete from secret_cols", &[]).await;
    let inserted = one.next().await;
    assert_eq!(inserted["data"]["record"], json!({"id": 1, "pub": "p"}));
    assert_eq!(
        inserted["data"]["columns"],
        json!([{"name": "id", "type": "int4"}, {"name": "pub", "type": "text"}])
    );
    assert_eq!(one.next().await["data"]["old_record"], json!({"id": 1}));

    // The message is sent once.
    db.execute("insert into keyless values ('a'), ('b'); delete from keyless where v = 'a'", &[]).await;
    let error = without_commit_time(keyless.next().await);
    assert_eq!(error["data"]["errors"], json!(["Error 400: Bad Request, no primary key"]));
    assert_eq!((&error["data"]["record"], &error["data"]["columns"]), (&json!({}), &json!([])));
    assert_eq!(keyless.next().await["data"]["old_record"], json!({"v": "a"}));
    db.execute("insert into hidden values (1, 'a')", &[]).await;
    assert_eq!(hidden.next().await["data"]["errors"], json!(["Error 401: Unauthorized"]));
    db.execute("grant select on hidden to anon; insert into hidden values (3, 'c')", &[]).await;
    assert_eq!(hidden.next().await["data"]["record"], json!({"id": 3, "v": "c"}));
}

#[testkit::test]
async fn payloads_contain_selected_columns_and_the_key(db: Arc<TestDatabase>) {
    db.execute(NOTES, &[]).await;
    let harness = ChangesHarness::open(&db.url);
    let subscription = json!([
        {"event": "INSERT", "schema": "public", "table": "notes", "select": ["title"]},
        {"event": "*", "schema": "public"},
        {"event": "insert", "table": "notes"},
    ]);
    let mut one = harness.subscribe_and_wait("sel", principal("anon", None), subscription).await;
    db.execute("insert into notes (id, title, rank) values (1, 'sel', 1)", &[]).await;
    let (all, selected) = (one.next().await, one.next().await);
    assert_eq!(all["ids"], json!([one.ids[1], one.ids[2]]));
    assert_eq!(all["data"]["columns"].as_array().expect("a list").len(), 6);
    assert_eq!(selected["ids"], json!([one.ids[0]]));
    assert_eq!(selected["data"]["record"], json!({"id": 1, "title": "sel"}));
}

#[testkit::test]
async fn invalid_subscriptions_get_the_error_texts_of_supabase_realtime(db: Arc<TestDatabase>) {
    db.execute(NOTES, &[]).await;
    db.execute("create table public.nopub (id int primary key)", &[]).await;
    let harness = ChangesHarness::open(&db.url);
    let please = "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: ";
    let raised = "Unable to subscribe to changes with given parameters. An exception happened so please check your connect parameters: ";
    let notes = |extra: Value| {
        let mut entry = json!({"event": "*", "schema": "public", "table": "notes"});
        entry.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        entry
    };
    let filter = |text: &str| notes(json!({"filter": text}));
    let many = format!("rank=in.({})", (0..101).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    for (subscription, change) in [
        (
            json!({"event": "*", "schema": "public", "table": "nopub"}),
            format!("{please}[event: *, schema: public, table: nopub, filters: [], select: nil]"),
        ),
        (
            json!({"event": "INSERT", "schema": "nope", "table": "notes"}),
            format!("{please}[event: INSERT, schema: nope, table: notes, filters: [], select: nil]"),
        ),
        (
            filter("nope=eq.1"),
            format!(
                "{raised}[event: *, schema: public, table: notes, filters: [{{\"nope\", \"eq\", \"1\", false}}], select: nil]. Exception: ERROR P0001 (raise_exception) invalid column for filter nope"
            ),
        ),
        (
            filter("rank=eq.abc"),
            format!(
                "{raised}[event: *, schema: public, table: notes, filters: [{{\"rank\", \"eq\", \"abc\", false}}], select: nil]. Exception: ERROR 22P02 (invalid_text_representation) invalid input syntax for type integer: \"abc\""
            ),
        ),
        (
            filter("rank=is.5"),
            format!(
                "{raised}[event: *, schema: public, table: notes, filters: [{{\"rank\", \"is\", \"5\", false}}], select: nil]. Exception: ERROR P0001 (raise_exception) invalid value for is filter: must be null, true, false, or unknown"
            ),
        ),
        (filter("title=is.true"), "is true filter requires a boolean column, got text".to_owned()),
        (
            filter("rank=like.5%"),
            "operator like requires a text-compatible column type, got integer".to_owned(),
        ),
        (
            filter("title=match.["),
            format!(
                "{raised}[event: *, schema: public, table: notes, filters: [{{\"title\", \"match\", \"[\", false}}], select: nil]. Exception: ERROR P0001 (raise_exception) invalid regular expression for match filter: invalid regular expression: brackets [] not balanced"
            ),
        ),
        (filter(&many), "too many values for `in` filter. Maximum 100".to_owned()),
        (
            notes(json!({"select": ["id", "nope"]})),
            format!(
                "{raised}[event: *, schema: public, table: notes, filters: [], select: [\"id\", \"nope\"]]. Exception: ERROR P0001 (raise_exception) invalid column for select nope"
            ),
        ),
        (filter("rank=foo.1"), "Error parsing `filter` params: [\"foo\", \"1\"]".to_owned()),
    ] {
        // One invalid subscription fails the whole join.
        let listener = harness
            .subscribe("wrong", principal("authenticated", None), json!([notes(json!({})), subscription]))
            .await;
        let messages = listener.take_system_messages();
        assert!(
            messages.len() == 1 && !messages[0].0 && messages[0].1.ends_with(&change),
            "{subscription}: {messages:?}"
        );
    }
    let listener = harness.subscribe("wrong", principal("nobody", None), json!([notes(json!({}))])).await;
    listener.wait_for_system_message(false, "role \"nobody\" does not exist").await;
    assert_eq!(harness.changes.subscription_count(), 0);
}

#[testkit::test]
async fn updates_include_unchanged_toasted_columns(db: Arc<TestDatabase>) {
    db
        .execute(
            "create table public.toasted (id int primary key, n int, long text); alter table public.toasted alter long set storage external;
            grant all on public.toasted to anon; alter publication supabase_realtime add table public.toasted;
            insert into public.toasted values (1, 1, repeat('abc', 5000))",
            &[],
        )
        .await;
    let harness = ChangesHarness::open(&db.url);
    let filtered =
        json!([{"event": "UPDATE", "schema": "public", "table": "toasted", "filter": "long=like.abc%"}]);
    let mut one = harness.subscribe_and_wait("t", principal("anon", None), filtered).await;
    db.execute("update toasted set n = 2", &[]).await;
    let payload = one.next().await;
    assert_eq!(payload["data"]["record"]["long"].as_str().expect("a text").len(), 15_000);
    assert_eq!(payload["data"]["record"]["n"], 2);
}

#[testkit::test]
async fn updates_omit_unchanged_values_that_exceed_the_limit(db: Arc<TestDatabase>) {
    db.execute(
        "create table public.toasted (a int, b text, n int, long text, other text, primary key (a, b));
            alter table public.toasted alter long set storage external, alter other set storage external;
            grant all on public.toasted to anon; alter publication supabase_realtime add table public.toasted;
            insert into public.toasted values (1, 'x', 0, repeat('a', 5000), repeat('b', 700000)),
              (2, 'y', 0, repeat('c', 700000), repeat('d', 700000)), (3, 'z', 0, repeat('e', 1100000), null)",
        &[],
    )
    .await;
    let harness = ChangesHarness::open(&db.url);
    let mut one = harness.subscribe_and_wait("t", principal("anon", None), all_changes_of("toasted")).await;
    db.execute("update toasted set n = 1, other = case when a = 1 then null else other end", &[]).await;
    let mut lengths = Vec::new();
    for _ in 0..3 {
        let data = one.next().await["data"].take();
        assert_eq!(data["errors"], Value::Null);
        assert_eq!(data["record"]["n"], 1);
        let length = |name: &str| data["record"].get(name).map(|value| value.as_str().map_or(0, str::len));
        lengths.push((data["record"]["a"].as_i64().expect("a number"), length("long"), length("other")));
    }
    lengths.sort_unstable();
    // Of the second row only one value fits.
    assert_eq!(lengths[0], (1, Some(5_000), Some(0)));
    assert_eq!([lengths[1].1, lengths[1].2].iter().flatten().collect::<Vec<_>>(), [&700_000]);
    assert_eq!(lengths[2], (3, None, Some(0)));
}

#[testkit::test]
async fn oversized_rows_are_sent_with_their_small_values(db: Arc<TestDatabase>) {
    db.execute(NOTES, &[]).await;
    let harness = ChangesHarness::open(&db.url);
    let mut one = harness.subscribe_and_wait("t", principal("anon", None), all_changes_of("notes")).await;
    db.execute("insert into notes (id, title) values (1, repeat('x', 1100000))", &[]).await;
    let payload = one.next().await;
    assert_eq!(payload["data"]["errors"], json!(["Error 413: Payload Too Large"]));
    assert_eq!(
        payload["data"]["record"],
        json!({"id": 1, "rank": null, "price": null, "tags": null, "created_at": "2026-01-02T03:04:05.678901+00:00"})
    );
}

#[testkit::test]
async fn changed_table_columns_appear_in_payloads(db: Arc<TestDatabase>) {
    db.execute(NOTES, &[]).await;
    let harness = ChangesHarness::open(&db.url);
    let mut one = harness
        .subscribe_and_wait("t", principal("anon", None), json!([{"event": "*", "schema": "public"}]))
        .await;
    db.execute("alter table notes drop column tags, drop column created_at, drop column price; alter table notes add column extra jsonb", &[]).await;
    db.execute("insert into notes (id, extra) values (1, '{\"a\": 1}')", &[]).await;
    assert_eq!(
        one.next().await["data"]["record"],
        json!({"id": 1, "title": null, "rank": null, "extra": {"a": 1}})
    );
    db.execute("alter table notes rename column title to name; alter table notes rename to papers", &[])
        .await;
    db.execute("insert into papers (id, name) values (2, 'b')", &[]).await;
    let payload = one.next().await;
    assert_eq!(payload["data"]["table"], "papers");
    assert_eq!(payload["data"]["record"]["name"], "b");
    db.execute("create table public.late (id int primary key); grant select on public.late to anon; alter publication supabase_realtime add table public.late", &[]).await;
    db.execute("insert into late values (7)", &[]).await;
    assert_eq!(one.next().await["data"]["table"], "late");

    let mut papers = harness.subscribe_and_wait("p", principal("anon", None), all_changes_of("papers")).await;
    db.execute("alter publication supabase_realtime drop table public.papers", &[]).await;
    papers.wait_for_system_message(false, "Please check Realtime is enabled").await;
    db.execute("insert into papers (id) values (3); insert into late values (8)", &[]).await;
    assert_eq!(one.next().await["data"]["record"]["id"], 8);
    assert_eq!(papers.try_next(), None);
}

async fn channel_socket(node: &TestServer, version: &str, token: &str) -> Socket {
    let path = format!("/realtime/v1/websocket?apikey={token}&vsn={version}");
    open_socket(node.address, &path, &[]).await.expect("the socket opens")
}

#[testkit::test]
async fn channels_receive_changes_over_both_serializers(db: Arc<TestDatabase>) {
    db.execute(NOTES, &[]).await;
    let node = db.start_server().await;
    let token = mint_token(&json!({"role": "anon", "exp": unix_time_in(3_600)}));
    let (mut one, mut two, mut legacy) = (
        channel_socket(&node, "2.0.0", &token).await,
        channel_socket(&node, "1.0.0", &token).await,
        channel_socket(&node, "2.0.0", &token).await,
    );
    let subscription = json!({"event": "*", "schema": "public", "table": "notes"});
    one.send_message(
        json!(["1", "1", "realtime:room", "phx_join", {"config": {"postgres_changes": [subscription, null]}}]),
    )
    .await;
    let reply = one.next_message().await;
    let id = reply[4]["response"]["postgres_changes"][0]["id"].clone();
    assert_eq!(
        reply,
        json!(["1", "1", "realtime:room", "phx_reply", {"status": "ok", "response": {"postgres_changes":
            [{"id": id, "event": "*", "schema": "public", "table": "notes"}]}}])
    );
    let subscribed = json!({"message": SUBSCRIBED_MESSAGE, "status": "ok", "extension": "postgres_changes", "channel": "room"});
    one.expect_message(json!(["1", null, "realtime:room", "system", subscribed])).await;
    two.send_message(json!({"topic": "realtime:room", "event": "phx_join", "ref": "1", "payload": {"config": {"postgres_changes": [subscription]}}})).await;
    assert_eq!(two.next_message().await["payload"]["response"]["postgres_changes"][0]["id"], id);
    two.expect_message(
        json!({"topic": "realtime:room", "event": "system", "ref": null, "payload": subscribed}),
    )
    .await;
    legacy.send_message(json!(["1", "1", "realtime:public:notes:rank=eq.1", "phx_join", {}])).await;
    let reply = legacy.next_message().await;
    let legacy_entry = &reply[4]["response"]["postgres_changes"][0];
    assert_eq!((&legacy_entry["table"], &legacy_entry["filter"]), (&json!("notes"), &json!("rank=eq.1")));
    assert_eq!(legacy.next_message().await[4]["message"], SUBSCRIBED_MESSAGE);

    db.execute("insert into notes (id, rank) values (1, 1)", &[]).await;
    let change = one.next_message().await;
    assert_eq!(
        (&change[0], &change[1], &change[2], &change[3]),
        (&json!(null), &json!(null), &json!("realtime:room"), &json!("postgres_changes"))
    );
    assert_eq!((&change[4]["ids"], &change[4]["data"]["record"]["id"]), (&json!([id]), &json!(1)));
    let same = two.next_message().await;
    assert_eq!((&same["event"], &same["payload"]), (&json!("postgres_changes"), &change[4]));
    let bare = legacy.next_message().await;
    assert_eq!((&bare[3], &bare[4]), (&json!("INSERT"), &change[4]["data"]));

    one.send_message(json!(["1", "2", "realtime:room", "phx_leave", {}])).await;
    assert_eq!(one.next_message().await[3], "phx_reply");
    assert_eq!(one.next_message().await[3], "phx_close");
    db.execute("insert into notes (id, rank) values (2, 1)", &[]).await;
    two.next_message().await;
    one.expect_no_message(Duration::from_millis(100)).await;
    one.send_message(
        json!(["2", "3", "realtime:room", "phx_join", {"config": {"postgres_changes": [{"event": "*"}]}}]),
    )
    .await;
    assert_eq!(one.next_message().await[4]["status"], "ok");
    let refused = one.next_message().await;
    assert_eq!((&refused[3], &refused[4]["status"]), (&json!("system"), &json!("error")));
}

#[testkit::test]
async fn a_refreshed_token_applies_to_changes(db: Arc<TestDatabase>) {
    db.execute(TODOS, &[]).await;
    let node = db.start_server().await;
    let user = User::new();
    let anon = mint_token(&json!({"role": "anon", "exp": unix_time_in(3_600)}));
    let mut one = channel_socket(&node, "2.0.0", &anon).await;
    let config = json!({"postgres_changes": all_changes_of("todos")});
    one.send_message(json!(["1", "1", "realtime:a", "phx_join", {"config": config}])).await;
    assert_eq!(one.next_message().await[4]["status"], "ok");
    assert_eq!(one.next_message().await[4]["message"], SUBSCRIBED_MESSAGE);
    let note = one.next_message().await;
    assert!(
        note[4]["message"].as_str().is_some_and(|text| text.contains("no policy lets the role anon")),
        "{note}"
    );
    db.execute("insert into todos values (1, $user, 'unseen')", &[("user", user.id)]).await;
    one.send_message(json!(["1", "2", "realtime:a", "access_token", {"access_token": user.token}])).await;
    assert_eq!(one.next_message().await[4]["message"], SUBSCRIBED_MESSAGE);
    db.execute("insert into todos values (2, $user, 'seen')", &[("user", user.id)]).await;
    assert_eq!(one.next_message().await[4]["data"]["record"]["id"], 2);
}
