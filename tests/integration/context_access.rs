//! Access to the sources of bundles: a bundle is served only under the policies and grants it was compiled under.

use std::sync::Arc;

use rollcall::context::{
    bundle::{Readiness, Subject, WantedBundle},
    compile::compile,
};
use serde_json::{Value, json};
use testkit::{
    cluster::connect,
    harness::{TestDatabase, User},
};
use tokio_postgres::Client;
use uuid::Uuid;

/// Reads bundles and their sources in one snapshot.
const READ: &str =
    "select rollcall.wanted_bundles($1), rollcall.wanted_bundles($1, true), pg_current_snapshot()::text,
    clock_timestamp(), rollcall.confirmed_access_version(rollcall.context_access_version())";

struct Conversation {
    author: User,
    reader: User,
    subjects: Value,
}

/// A conversation with a message of the author, which the reader reads. The reader has a memory.
async fn seed(db: &TestDatabase) -> Conversation {
    let (author, reader, conversation) = (User::new(), User::new(), Uuid::new_v4());
    db.execute(
        "insert into rollcall.conversations (id, created_by) values ($c, $a);
         insert into rollcall.conversation_participants (conversation_id, user_id) values ($c, $a), ($c, $r);
         insert into rollcall.messages (conversation_id, user_id, content) values ($c, $a, 'The vault opens at nine.');
         insert into rollcall.memories (user_id, content, category, importance) values ($r, 'Is a locksmith.', 'identity', 0.9)",
        &[("a", author.id), ("r", reader.id), ("c", conversation)],
    )
    .await;
    let subjects = json!([{ "type": "identity_core" }, { "type": "conversation", "ref": conversation }]);
    Conversation { author, reader, subjects }
}

async fn connect_as(db: &TestDatabase, user: &User) -> Client {
    let sql = db.connect().await;
    let claims = json!({ "sub": user.id, "role": "authenticated" }).to_string();
    sql.execute(
        "select set_config('role', 'authenticated', false), set_config('request.jwt.claims', $1, false)",
        &[&claims],
    )
    .await
    .expect("acts");
    sql
}

/// Compiles the bundles as the reader and stores them, as the server does.
async fn compile_and_store(db: &TestDatabase, it: &Conversation) -> Result<(), tokio_postgres::Error> {
    let row = connect_as(db, &it.reader).await.query_one(READ, &[&it.subjects]).await?;
    let (sources, seeing, read_at): (Value, String, jiff::Timestamp) = (row.get(1), row.get(2), row.get(3));
    let access: Option<i64> = row.get(4);
    let compiled = sources.as_array().expect("a list").iter().map(|it| {
        let subject: Subject = serde_json::from_value(it.clone()).expect("a subject");
        json!(compile(subject, &it["sources"], None).expect("can be read"))
    });
    let compiled = Value::Array(compiled.collect());
    let store = "select * from rollcall_internal.store_compiled_bundles($1, $2, $3, $4, false, $5)";
    db.connect()
        .await
        .query(store, &[&it.reader.id, &compiled, &seeing, &read_at, &access])
        .await
        .expect("stores");
    Ok(())
}

/// Asserts that each bundle served as fresh equals one compiled now, and returns the number of fresh ones.
async fn fresh_bundles(db: &TestDatabase, it: &Conversation, case: &str) -> usize {
    let row = connect_as(db, &it.reader).await.query_one(READ, &[&it.subjects]).await.expect("answers");
    let (served, sources): (Value, Value) = (row.get(0), row.get(1));
    let pairs = served.as_array().expect("a list").iter().zip(sources.as_array().expect("a list"));
    let mut fresh = 0;
    for (served, sources) in pairs {
        let bundle: WantedBundle = serde_json::from_value(served.clone()).expect("of the shape");
        if bundle.reason == Readiness::Fresh {
            fresh += 1;
            let now = compile(bundle.subject, &sources["sources"], None).expect("can be read");
            assert_eq!(bundle.content, now.content, "{case}");
        }
    }
    fresh
}

/// Changes of access and their reversals: tables, policies, grants, functions that policies call.
const CHANGES: [(&str, &str); 9] = [
    (
        "alter table rollcall.messages disable row level security",
        "alter table rollcall.messages enable row level security",
    ),
    (
        "alter table rollcall.memories force row level security",
        "alter table rollcall.memories no force row level security",
    ),
    (
        "alter policy \"participants read messages\" on rollcall.messages using (user_id = (select auth.uid()))",
        "alter policy \"participants read messages\" on rollcall.messages
           using (conversation_id in (select rollcall.my_conversations()))",
    ),
    (
        "create policy hide on rollcall.messages as restrictive for select to authenticated using (false)",
        "drop policy hide on rollcall.messages",
    ),
    (
        "create policy hide on rollcall.memories as restrictive for select to authenticated using (false)",
        "drop policy hide on rollcall.memories",
    ),
    (
        "create policy show on rollcall.memories for select to authenticated using (true)",
        "drop policy show on rollcall.memories",
    ),
    (
        "revoke select on rollcall.messages from authenticated",
        "grant select on rollcall.messages to authenticated",
    ),
    (
        "revoke select on rollcall.messages from authenticated;
         grant select (id, conversation_id, user_id, role, state) on rollcall.messages to authenticated",
        "revoke select (id, conversation_id, user_id, role, state) on rollcall.messages from authenticated;
         grant select on rollcall.messages to authenticated",
    ),
    (
        "alter function rollcall.my_conversations() rename to my_conversations_before;
         create function rollcall.my_conversations() returns setof uuid language sql stable as 'select null::uuid';
         grant execute on function rollcall.my_conversations() to authenticated;
         alter policy \"participants read messages\" on rollcall.messages
           using (conversation_id in (select rollcall.my_conversations()))",
        "alter policy \"participants read messages\" on rollcall.messages
           using (conversation_id in (select rollcall.my_conversations_before()));
         drop function rollcall.my_conversations();
         alter function rollcall.my_conversations_before() rename to my_conversations",
    ),
];

#[testkit::test]
async fn bundles_are_not_served_after_a_change_of_access_or_its_reversal(db: Arc<TestDatabase>) {
    for compiled_between in [false, true] {
        for (change, reversal) in CHANGES {
            let it = seed(&db).await;
            compile_and_store(&db, &it).await.expect("reads");
            assert_eq!(fresh_bundles(&db, &it, change).await, 2);
            db.execute(change, &[]).await;
            // A reader without the right to read gets an error instead of a bundle.
            if compiled_between && compile_and_store(&db, &it).await.is_ok() {
                fresh_bundles(&db, &it, change).await;
            }
            db.execute(reversal, &[]).await;
            let fresh = fresh_bundles(&db, &it, reversal).await;
            assert!(fresh == 0 || !compiled_between, "{change}");
            // Dirty flags follow, also if nobody looked in between, and new bundles count as fresh.
            db.execute("select rollcall_internal.mark_stale_by_access()", &[]).await;
            let flags = "select count(*) filter (where dirty) from rollcall.context_bundles";
            assert_eq!(db.query_row(flags, &[]).await.get::<_, i64>(0), 2 - fresh as i64, "{change}");
            compile_and_store(&db, &it).await.expect("reads");
            assert_eq!(fresh_bundles(&db, &it, reversal).await, 2, "{change}");
            db.execute("delete from rollcall.conversations where created_by = $a", &[("a", it.author.id)])
                .await;
            db.execute("delete from rollcall.context_bundles", &[]).await;
        }
    }
}

/// A bundle read under an old version and stored under the next one.
#[testkit::test]
async fn bundles_stored_after_a_change_of_access_are_not_served(db: Arc<TestDatabase>) {
    let it = seed(&db).await;
    let reader = connect_as(&db, &it.reader).await;
    let row = reader.query_one(READ, &[&it.subjects]).await.expect("answers");
    let (sources, access): (Value, Option<i64>) = (row.get(1), row.get(4));
    let compiled = sources.as_array().expect("a list").iter().map(|it| {
        let subject: Subject = serde_json::from_value(it.clone()).expect("a subject");
        json!(compile(subject, &it["sources"], None).expect("can be read"))
    });
    let compiled = Value::Array(compiled.collect());
    db.execute(CHANGES[2].0, &[]).await;
    let store = "select * from rollcall_internal.store_compiled_bundles($1, $2, $3, $4, false, $5)";
    let stored = db
        .connect()
        .await
        .query(
            store,
            &[&it.reader.id, &compiled, &row.get::<_, String>(2), &row.get::<_, jiff::Timestamp>(3), &access],
        )
        .await
        .expect("stores");
    assert!(stored.iter().all(|row| row.get::<_, bool>("dirty")), "they are queued again");
    assert_eq!(fresh_bundles(&db, &it, "after the change").await, 0);
    db.execute(CHANGES[2].1, &[]).await;
    assert_eq!(fresh_bundles(&db, &it, "after the reversal").await, 0);
}

/// The version that the server stores with its bundles is the current one.
#[testkit::test]
async fn the_server_compiles_again_after_a_change_of_access(db: Arc<TestDatabase>) {
    let it = seed(&db).await;
    let node = db.start_server_with(|settings| settings.set("CONTEXT_REQUESTS_PER_MINUTE", "0")).await;
    let path = format!("/api/v1/ai/context/{}", it.subjects[1]["ref"].as_str().expect("an ID"));
    let all_fresh = "select count(*) filter (where access_version = rollcall.context_access_version()) = 3
        from rollcall.context_bundles where user_id = $u and not dirty";
    for (change, expected) in [("select 1", true), (CHANGES[3].0, false), (CHANGES[3].1, true)] {
        db.execute(change, &[]).await;
        let shown: Value = node.get(&it.reader, &path).await.expect_status(200);
        assert_eq!(shown.to_string().contains("vault"), expected, "{change}");
        db.wait_until("bundles are stored", all_fresh, &[("u", it.reader.id)]).await;
        let shown: Value = node.get(&it.reader, &path).await.expect_status(200);
        assert_eq!(shown["metadata"]["cacheHitRate"], json!(1.0), "{change}");
    }
}

/// A policy is created after the snapshot of a reader and before its plan, and dropped before the bundle is stored.
#[testkit::test]
async fn bundles_read_during_a_change_of_access_are_not_served(db: Arc<TestDatabase>) {
    let it = seed(&db).await;
    // The reader holds a snapshot and waits before it reads.
    db.execute(
        "create function rollcall.wait_for_gate() returns jsonb language plpgsql stable as $f$
         begin perform pg_advisory_xact_lock_shared(4711); return null; end $f$;
         grant execute on function rollcall.wait_for_gate() to authenticated",
        &[],
    )
    .await;
    let gate = db.connect().await;
    gate.batch_execute("select pg_advisory_lock(4711)").await.expect("locks");
    let reader = connect_as(&db, &it.reader).await;
    let subjects = it.subjects.clone();
    let reading = tokio::spawn(async move {
        let read = "select rollcall.wait_for_gate(), rollcall.wanted_bundles($1, true),
            rollcall.confirmed_access_version(rollcall.context_access_version())";
        let row = reader.query_one(read, &[&subjects]).await.expect("answers");
        (row.get::<_, Value>(1), row.get::<_, Option<i64>>(2))
    });
    db.wait_until(
        "the reader waits",
        "select exists (select from pg_stat_activity where datname = current_database()
           and query like '%wait_for_gate(), rollcall.wanted%' and wait_event = 'advisory')",
        &[],
    )
    .await;
    db.execute(CHANGES[3].0, &[]).await;
    gate.batch_execute("select pg_advisory_unlock(4711)").await.expect("unlocks");
    let (sources, access) = reading.await.expect("reads");
    db.execute(CHANGES[3].1, &[]).await;
    assert!(!sources.to_string().contains("vault"), "the policy applied: {sources}");
    assert_eq!(access, None);
}

/// Ways to change rows without firing triggers.
const UNNOTICED: [(&str, &str); 6] = [
    ("set session_replication_role = replica", "reset session_replication_role"),
    ("alter table {} disable trigger all", "alter table {} enable trigger all"),
    ("alter table {} disable trigger user", "alter table {} enable trigger user"),
    (
        "alter table {} disable trigger context_after_update",
        "alter table {} enable always trigger context_after_update",
    ),
    (
        "alter table {} enable replica trigger context_after_update",
        "alter table {} enable always trigger context_after_update",
    ),
    ("drop trigger context_after_update on {}", ""),
];

/// Sources of the bundles and a change of each.
const SILENT_CHANGES: [(&str, &str); 2] = [
    ("rollcall.messages", "update rollcall.messages set content = 'The vault is closed.'"),
    ("rollcall.memories", "update rollcall.memories set content = 'Is a thief.'"),
];

/// Restores every trigger as the remedy of the doctor does.
async fn restore_triggers(db: &TestDatabase) {
    let restore = "do $$ declare t record; begin
        for t in select w.* from rollcall_internal.triggers w
          where not exists (select from pg_trigger g where g.tgrelid = w.relation and g.tgname = w.name) loop
          execute t.definition;
        end loop;
        for t in select * from rollcall_internal.triggers w where w.name like 'context_after_%' loop
          execute format('alter table %s enable always trigger %I', t.relation, t.name);
        end loop;
      end $$";
    db.execute(restore, &[]).await;
}

#[testkit::test]
async fn changes_without_triggers_are_never_served_stale(db: Arc<TestDatabase>) {
    for (table, change) in SILENT_CHANGES {
        for (off, on) in UNNOTICED {
            for in_one_transaction in [false, true] {
                let case = format!("{off}, {change}, one transaction: {in_one_transaction}");
                let (off, on) = (off.replace("{}", table), on.replace("{}", table));
                let it = seed(&db).await;
                compile_and_store(&db, &it).await.expect("reads");
                assert_eq!(fresh_bundles(&db, &it, &case).await, 2, "{case}");
                let admin = connect(&db.admin_url()).await;
                if in_one_transaction {
                    let all = format!("begin; {off}; {change}; {on}; commit");
                    admin.batch_execute(&all).await.expect("runs");
                } else {
                    admin.batch_execute(&off).await.expect("runs");
                    fresh_bundles(&db, &it, &case).await;
                    // What is compiled in between is not believed afterwards either.
                    compile_and_store(&db, &it).await.expect("reads");
                    admin.batch_execute(change).await.expect("runs");
                    fresh_bundles(&db, &it, &case).await;
                    admin.batch_execute(&on).await.expect("runs");
                }
                fresh_bundles(&db, &it, &case).await;
                restore_triggers(&db).await;
                fresh_bundles(&db, &it, &case).await;
                // The flags follow, and new bundles are served again.
                db.execute("select rollcall_internal.mark_stale_by_access()", &[]).await;
                db.execute("select rollcall_internal.mark_stale_bundles()", &[]).await;
                compile_and_store(&db, &it).await.expect("reads");
                assert_eq!(fresh_bundles(&db, &it, &case).await, 2, "{case}");
                db.execute(
                    "delete from rollcall.conversations where created_by = $a",
                    &[("a", it.author.id)],
                )
                .await;
                db.execute("delete from rollcall.context_bundles", &[]).await;
            }
        }
    }
}

/// The number of triggers in the schema is the one that the functions expect, and each fires in every session.
#[testkit::test]
async fn every_trigger_of_a_source_always_fires(db: Arc<TestDatabase>) {
    let found =
        "select count(*)::int = rollcall_internal.context_trigger_count(), bool_and(t.tgenabled = 'A'),
        (select a.is_recorded from rollcall_internal.context_access() a)
        from pg_trigger t where t.tgname like 'context\\_after\\_%'";
    let row = db.query_row(found, &[]).await;
    assert!((0..3).all(|at| row.get::<_, bool>(at)), "{row:?}");
}

/// While a trigger is disabled, prompts are compiled from the sources, and the server knows its name.
#[testkit::test]
async fn prompts_stay_current_while_a_trigger_is_disabled(db: Arc<TestDatabase>) {
    let it = seed(&db).await;
    let node = db.start_server_with(|settings| settings.set("CONTEXT_REQUESTS_PER_MINUTE", "0")).await;
    let path = format!("/api/v1/ai/context/{}", it.subjects[1]["ref"].as_str().expect("an ID"));
    let shown = async |expected: &str| {
        let shown: Value = node.get(&it.reader, &path).await.expect_status(200);
        assert!(shown.to_string().contains(expected), "{expected}: {shown:#}");
        shown["metadata"]["cacheHitRate"].as_f64().expect("a rate")
    };
    shown("Is a locksmith.").await;
    db.execute("alter table rollcall.memories disable trigger context_after_update", &[]).await;
    for text in ["Is a diver.", "Is a smith.", "Is a cook."] {
        db.execute(&format!("update rollcall.memories set content = '{text}'"), &[]).await;
        assert!(shown(text).await < 1.0, "nothing is served as fresh");
    }
    let silent =
        "select coalesce(string_agg(t, ', '), '') from rollcall_internal.silent_context_triggers() t";
    let named: String = db.query_row(silent, &[]).await.get(0);
    assert_eq!(named, "context_after_update on rollcall.memories");
    db.execute("alter table rollcall.memories enable always trigger context_after_update", &[]).await;
    assert_eq!(db.query_row(silent, &[]).await.get::<_, &str>(0), "");
    shown("Is a cook.").await;
    let all_fresh = "select count(*) filter (where access_version = rollcall.context_access_version()) = 3
        from rollcall.context_bundles where user_id = $u and not dirty";
    db.wait_until("bundles are stored", all_fresh, &[("u", it.reader.id)]).await;
    assert!(shown("Is a cook.").await >= 1.0);
}
