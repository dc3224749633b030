//! Private channels and broadcasts from the database. A [`AuthorizerHarness`] has the components a node uses for this, on
//! a real database and without sockets.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rollcall::{
    auth::Principal,
    channels::{
        authorization::{
            AuthorizationError, Authorizer, ReadRights, RightsSubscriber, RightsSubscription, WriteRights,
        },
        broadcast_from_db::{DatabaseBroadcast, StoredMessages, partitions::PartitionMaintainer},
    },
    model::Topic,
    pg::{Database, listener},
    protocol::phoenix::UserPayload,
};
use serde_json::json;
use testkit::{
    client::open_socket,
    harness::{TestDatabase, User, WAIT_TIMEOUT, principal, wait_until},
};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// The components of a node that authorize private channels and read broadcasts from the database.
struct AuthorizerHarness {
    authorizer: Authorizer,
    messages: StoredMessages,
    received: Arc<Mutex<Vec<DatabaseBroadcast>>>,
    _stop: DropGuard,
}

impl AuthorizerHarness {
    async fn new(db: &TestDatabase) -> Self {
        let database = Database::new(&db.url, None, 2).expect("a valid URL");
        let stop = CancellationToken::new();
        let received = Arc::<Mutex<Vec<DatabaseBroadcast>>>::default();
        let (authorizer, authorization_handler, worker) = Authorizer::new(database.clone());
        let (partition_handler, maintainer) = PartitionMaintainer::new(database.clone());
        let into = received.clone();
        let (messages, broadcast_handler, reader) =
            StoredMessages::new(database.clone(), 100_000, move |broadcasts| {
                into.lock().extend::<Vec<DatabaseBroadcast>>(broadcasts);
                std::future::ready(())
            });
        let handlers = ((authorization_handler, partition_handler), broadcast_handler);
        tokio::spawn(worker.run(stop.clone()));
        tokio::spawn(maintainer.run(stop.clone()));
        tokio::spawn(reader.run(stop.clone()));
        tokio::spawn(listener::run(database.direct_connector().clone(), handlers, stop.clone()));
        timeout(WAIT_TIMEOUT, messages.wait_until_connected()).await.expect("it listens");
        Self { authorizer, messages, received, _stop: stop.drop_guard() }
    }

    async fn read(&self, principal: &Arc<Principal>, topic: &str) -> Result<ReadRights, AuthorizationError> {
        self.authorizer.read_rights(principal, &Topic::private(topic)).await
    }

    async fn write(
        &self,
        principal: &Arc<Principal>,
        topic: &str,
    ) -> Result<WriteRights, AuthorizationError> {
        self.authorizer.write_rights(principal, &Topic::private(topic)).await
    }

    /// Joins like a session and records changes of access.
    async fn join(&self, principal: &Arc<Principal>, topic: &str) -> JoinedChannel {
        let private_topic = Topic::private(topic);
        let rights = self.authorizer.read_rights(principal, &private_topic).await.expect("may join");
        let notified = Arc::<RightsLog>::default();
        let watch = self.authorizer.subscribe(principal, &private_topic, rights, notified.clone());
        JoinedChannel { rights_log: notified, subscription: watch }
    }

    /// Waits for `count` broadcasts and takes the `n` of their payloads.
    async fn take_numbers(&self, count: usize) -> Vec<i64> {
        wait_until("the broadcasts", || self.received.lock().len() >= count).await;
        self.received.lock().drain(..).map(|broadcast| number(&broadcast)).collect()
    }
}

fn number(broadcast: &DatabaseBroadcast) -> i64 {
    let UserPayload::Json(json) = &broadcast.message.payload else { panic!("not JSON: {broadcast:?}") };
    serde_json::from_str::<serde_json::Value>(json).expect("JSON")["n"].as_i64().expect("a number")
}

/// Access changes that a channel was notified about.
#[derive(Default)]
struct RightsLog(Mutex<Vec<(Instant, Result<ReadRights, AuthorizationError>)>>);

impl RightsSubscriber for RightsLog {
    fn on_rights_changed(&self, rights: Result<ReadRights, AuthorizationError>) {
        self.0.lock().push((Instant::now(), rights));
    }
}

struct JoinedChannel {
    rights_log: Arc<RightsLog>,
    subscription: RightsSubscription,
}

impl JoinedChannel {
    fn rights_changes(&self) -> Vec<Result<ReadRights, AuthorizationError>> {
        self.rights_log.0.lock().iter().map(|(_, rights)| *rights).collect()
    }

    async fn wait_for_rights(&self, rights: Result<ReadRights, AuthorizationError>) -> Instant {
        wait_until("the change", || self.rights_changes().last() == Some(&rights)).await;
        self.rights_log.0.lock().last().expect("a change was recorded").0
    }
}

fn user_principal(id: Uuid) -> Arc<Principal> {
    principal("authenticated", Some(id))
}

const ALL: ReadRights = ReadRights::ALL;
const UNAUTHORIZED: AuthorizationError = AuthorizationError::Unauthorized;

/// A custom members table and policies that read it.
const MEMBERS: &str = "
    create table public.members (user_id uuid, room text, writes boolean not null default true, primary key (user_id, room));
    alter table public.members enable row level security;
    grant select on public.members to authenticated;
    create policy own on public.members for select to authenticated using (user_id = (select auth.uid()));
    create policy members_read on realtime.messages for select to authenticated
      using (extension in ('broadcast', 'presence') and exists (
        select from public.members m where m.user_id = (select auth.uid()) and m.room = (select realtime.topic())));
    create policy members_write on realtime.messages for insert to authenticated
      with check (extension = 'broadcast' and exists (
        select from public.members m where m.user_id = (select auth.uid()) and m.room = (select realtime.topic()) and m.writes));";

async fn add_member(db: &TestDatabase, user: Uuid, topic: &str) {
    db.execute(&format!("insert into public.members values ($user, '{topic}')"), &[("user", user)]).await;
}

#[testkit::test]
async fn policies_decide_per_caller_and_topic(db: Arc<TestDatabase>) {
    let harness = AuthorizerHarness::new(&db).await;
    let (member, stranger) = (Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(
        harness.read(&user_principal(member), "room:1").await,
        Err(UNAUTHORIZED),
        "without policies all is closed"
    );
    db.execute(MEMBERS, &[]).await;
    add_member(&db, member, "room:1").await;

    assert_eq!(harness.read(&user_principal(member), "room:1").await, Ok(ALL));
    assert_eq!(harness.read(&user_principal(member), "room:2").await, Err(UNAUTHORIZED));
    assert_eq!(harness.read(&user_principal(stranger), "room:1").await, Err(UNAUTHORIZED));
    assert_eq!(
        harness.write(&user_principal(member), "room:1").await,
        Ok(WriteRights { broadcast: true, presence: false })
    );
    assert_eq!(harness.write(&user_principal(stranger), "room:1").await, Ok(WriteRights::NONE));
    for role in ["anon", "none", "", "nosuch", "postgres;", "pg_read_all_data\0"] {
        let unknown = principal(role, Some(member));
        assert_eq!(harness.read(&unknown, "room:1").await, Err(UNAUTHORIZED), "{role:?}");
    }
    assert_eq!(harness.read(&principal("service_role", None), "anything").await, Ok(ALL));
    assert_eq!(harness.write(&principal("service_role", None), "anything").await, Ok(WriteRights::ALL));
    assert_eq!(harness.read(&user_principal(member), "room:1\0").await, Err(UNAUTHORIZED));
    assert_eq!(
        harness.authorizer.read_rights(&user_principal(stranger), &Topic::public("room:1")).await,
        Ok(ALL)
    );

    db.execute(
        "create policy broken on realtime.messages for select to authenticated
               using (case when realtime.topic() = 'broken' then 1 / (length(topic) - 6) = 1 else false end)",
        &[],
    )
    .await;
    let broken = harness.read(&user_principal(member), "broken").await.unwrap_err();
    assert_eq!(broken, AuthorizationError::Policy(*b"22012"));
    assert_eq!(harness.read(&user_principal(member), "room:1").await, Ok(ALL));
    let kept: i64 = db.query_row("select count(*) from realtime.messages", &[]).await.get(0);
    assert_eq!(kept, 0, "checks leave no rows");
    assert!(harness.received.lock().is_empty(), "and cause no broadcasts");
}

#[testkit::test]
async fn concurrent_joins_each_get_the_correct_result(db: Arc<TestDatabase>) {
    const CALLERS: u128 = 400;
    let harness = AuthorizerHarness::new(&db).await;
    db.execute(MEMBERS, &[]).await;
    db
        .execute(
            "insert into public.members select ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid, 'room:' || n % 10
               from generate_series(0, 399) n",
            &[],
        )
        .await;
    let reads = (0..CALLERS * 4).map(|n| {
        let (caller, harness) = (n / 4, &harness);
        async move {
            let topic = format!("room:{}", (caller + n % 2) % 10);
            let expected = if n % 2 == 0 { Ok(ALL) } else { Err(UNAUTHORIZED) };
            assert_eq!(
                harness.read(&user_principal(Uuid::from_u128(caller)), &topic).await,
                expected,
                "{caller} in {topic}"
            );
        }
    });
    join_all(reads).await;
}

#[testkit::test]
async fn losing_a_membership_notifies_only_that_user(db: Arc<TestDatabase>) {
    let harness = AuthorizerHarness::new(&db).await;
    let other_node = AuthorizerHarness::new(&db).await;
    db.execute(MEMBERS, &[]).await;
    let users: Vec<Uuid> = (0..20).map(|_| Uuid::new_v4()).collect();
    let mut joined = HashMap::new();
    for id in &users {
        add_member(&db, *id, "room:1").await;
        joined.insert(
            *id,
            (
                harness.join(&user_principal(*id), "room:1").await,
                other_node.join(&user_principal(*id), "room:1").await,
            ),
        );
    }
    for user in &users[..5] {
        db.execute("delete from public.members where user_id = $affected", &[("affected", *user)]).await;
        for on in [&joined[user].0, &joined[user].1] {
            on.wait_for_rights(Err(UNAUTHORIZED)).await;
        }
        assert_eq!(harness.read(&user_principal(*user), "room:1").await, Err(UNAUTHORIZED));
    }
    // After access is restored the user may join again; the old channel stays denied.
    add_member(&db, users[0], "room:1").await;
    assert_eq!(harness.read(&user_principal(users[0]), "room:1").await, Ok(ALL));
    db.execute("update public.members set room = 'room:2' where user_id = $u", &[("u", users[5])]).await;
    joined[&users[5]].0.wait_for_rights(Err(UNAUTHORIZED)).await;
    // This is the last change, so all affected channels have been checked when it is reported.
    db.execute("delete from public.members where user_id = $u", &[("u", users[6])]).await;
    joined[&users[6]].1.wait_for_rights(Err(UNAUTHORIZED)).await;
    for id in &users[7..] {
        assert_eq!(joined[id].0.rights_changes(), [], "no other channel is notified");
        assert_eq!(harness.read(&user_principal(*id), "room:1").await, Ok(ALL));
    }
    db.execute("truncate public.members", &[]).await;
    for id in &users[7..] {
        joined[id].0.wait_for_rights(Err(UNAUTHORIZED)).await;
        joined[id].1.wait_for_rights(Err(UNAUTHORIZED)).await;
    }
    assert_eq!(joined[&users[0]].0.rights_changes().len(), 1, "a notified channel is not notified again");
}

#[testkit::test]
async fn policy_grant_and_function_changes_apply_at_once(db: Arc<TestDatabase>) {
    let harness = AuthorizerHarness::new(&db).await;
    let principal = user_principal(Uuid::new_v4());
    db
        .execute(
            "create function public.open_to(topic text) returns boolean language sql stable as 'select topic like ''room:%''';
             create policy open on realtime.messages for select to authenticated
               using (public.open_to(realtime.topic()) and extension in ('broadcast', 'presence'))",
            &[],
        )
        .await;
    let only_broadcasts = ReadRights { broadcast: true, presence: false };
    for (statement, expected) in [
        (
            "alter policy open on realtime.messages using (public.open_to(topic) and extension = 'broadcast')",
            Ok(only_broadcasts),
        ),
        ("drop policy open on realtime.messages", Err(UNAUTHORIZED)),
        (
            "create policy closed on realtime.messages as restrictive for select to authenticated using (false)",
            Err(UNAUTHORIZED),
        ),
        ("revoke select on realtime.messages from authenticated", Err(UNAUTHORIZED)),
        (
            "create or replace function public.open_to(topic text) returns boolean language sql stable as 'select false'",
            Err(UNAUTHORIZED),
        ),
    ] {
        let joined = harness.join(&principal, "room:1").await;
        db.execute(&format!("begin; {statement}; rollback"), &[]).await;
        db.execute(statement, &[]).await;
        joined.wait_for_rights(expected).await;
        // The join may precede the notification that restored access.
        let notified = joined.rights_changes();
        let notified = notified.strip_prefix(&[Ok(ALL)]).unwrap_or(&notified);
        assert_eq!(notified, [expected], "a rolled back change is not notified");
        drop(joined);
        db
            .execute(
                "drop policy if exists open on realtime.messages; drop policy if exists closed on realtime.messages;
                 create or replace function public.open_to(topic text) returns boolean language sql stable as 'select topic like ''room:%''';
                 grant select on realtime.messages to authenticated;
                 create policy open on realtime.messages for select to authenticated
                   using (public.open_to(realtime.topic()) and extension in ('broadcast', 'presence'))",
                &[],
            )
            .await;
    }
    let joined = harness.join(&principal, "room:1").await;
    db.execute("drop policy open on realtime.messages", &[]).await;
    joined.wait_for_rights(Err(UNAUTHORIZED)).await;
}

#[testkit::test]
async fn write_access_follows_row_changes(db: Arc<TestDatabase>) {
    let harness = AuthorizerHarness::new(&db).await;
    db.execute(MEMBERS, &[]).await;
    let id = Uuid::new_v4();
    add_member(&db, id, "room:1").await;
    let joined = harness.join(&user_principal(id), "room:1").await;
    assert_eq!(joined.subscription.write_rights(), None, "write access was not checked yet");
    let writes = WriteRights { broadcast: true, presence: false };
    assert_eq!(harness.write(&user_principal(id), "room:1").await, Ok(writes));
    assert_eq!(joined.subscription.write_rights(), Some(writes));
    db.execute("update public.members set writes = false", &[]).await;
    wait_until("the loss", || joined.subscription.write_rights() == Some(WriteRights::NONE)).await;
    assert_eq!(harness.write(&user_principal(id), "room:1").await, Ok(WriteRights::NONE));
    db.execute("update public.members set writes = true", &[]).await;
    wait_until("the gain", || joined.subscription.write_rights() == Some(writes)).await;
    assert_eq!(joined.rights_changes(), [], "read access has not changed");
}

/// Cuts the LISTEN connections and prevents reconnects while `meanwhile` runs.
async fn change_while_disconnected(
    db: &TestDatabase,
    harness: &AuthorizerHarness,
    meanwhile: &str,
    ids: &[(&str, Uuid)],
) {
    let admin = testkit::cluster::connect(&db.admin_url()).await;
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'rollcall-listener'";
    let database: String = db.query_row("select current_database()", &[]).await.get(0);
    admin.batch_execute(&format!("alter database {database} connection limit 0; {cut}")).await.expect("cut");
    wait_until("the listener is disconnected", || !harness.messages.is_connected()).await;
    db.execute(meanwhile, ids).await;
    admin.batch_execute(&format!("alter database {database} connection limit -1")).await.expect("open again");
    timeout(WAIT_TIMEOUT, harness.messages.wait_until_connected())
        .await
        .expect("the listener has reconnected");
}

#[testkit::test]
async fn changes_during_a_lost_connection_are_detected_afterwards(db: Arc<TestDatabase>) {
    let harness = AuthorizerHarness::new(&db).await;
    db.execute(MEMBERS, &[]).await;
    let (user, keeper) = (Uuid::new_v4(), Uuid::new_v4());
    add_member(&db, user, "room:1").await;
    add_member(&db, keeper, "room:1").await;
    let lost = harness.join(&user_principal(user), "room:1").await;
    let kept = harness.join(&user_principal(keeper), "room:1").await;
    change_while_disconnected(&db, &harness, "delete from public.members where user_id = $u", &[("u", user)])
        .await;
    lost.wait_for_rights(Err(UNAUTHORIZED)).await;
    db.execute("delete from public.members where user_id = $u", &[("u", keeper)]).await;
    kept.wait_for_rights(Err(UNAUTHORIZED)).await;
    assert_eq!(kept.rights_changes().len(), 1);
}

#[testkit::test]
async fn policy_changes_are_polled_without_an_event_trigger(db: Arc<TestDatabase>) {
    let admin = testkit::cluster::connect(&db.admin_url()).await;
    admin
        .batch_execute(
            "drop event trigger rollcall_authorization_watch; drop event trigger rollcall_policy_watch",
        )
        .await
        .expect("dropped");
    db.execute(MEMBERS, &[]).await;
    let harness = AuthorizerHarness::new(&db).await;
    let id = Uuid::new_v4();
    add_member(&db, id, "room:1").await;
    let joined = harness.join(&user_principal(id), "room:1").await;
    // The table is watched although no notification announced the policy that reads it.
    db
        .wait_until(
            "the table is watched",
            "select exists (select from pg_trigger where tgrelid = 'public.members'::regclass and tgname = 'rollcall_authorization_delete')",
            &[],
        )
        .await;
    db.execute("create policy shut on realtime.messages as restrictive for select to authenticated using (extension = 'broadcast')", &[]).await;
    joined.wait_for_rights(Ok(ReadRights { broadcast: true, presence: false })).await;
    db.execute("delete from public.members", &[]).await;
    joined.wait_for_rights(Err(UNAUTHORIZED)).await;
}

#[testkit::test]
async fn a_policy_that_never_returns_delays_only_its_caller(db: Arc<TestDatabase>) {
    let harness = Arc::new(AuthorizerHarness::new(&db).await);
    db.execute(MEMBERS, &[]).await;
    db.execute(
        "create policy slow on realtime.messages for select to authenticated
               using (case when realtime.topic() = 'slow' then pg_sleep(3600) is null else false end)",
        &[],
    )
    .await;
    let (id, slow) = (Uuid::new_v4(), Uuid::new_v4());
    add_member(&db, id, "room:1").await;
    let asking = harness.clone();
    let sleeper = tokio::spawn(async move { asking.read(&user_principal(slow), "slow").await });
    let mut slowest = Duration::ZERO;
    while !sleeper.is_finished() {
        let started = Instant::now();
        // Each user needs a separate check.
        assert_eq!(harness.read(&user_principal(Uuid::new_v4()), "room:1").await, Err(UNAUTHORIZED));
        slowest = slowest.max(started.elapsed());
    }
    assert_eq!(sleeper.await.expect("no panic"), Err(AuthorizationError::QueryCanceled));
    assert!(slowest < Duration::from_millis(950), "other callers waited {slowest:?}");
    assert_eq!(harness.read(&user_principal(id), "room:1").await, Ok(ALL));
}

#[testkit::test]
async fn a_missing_partition_is_created_at_once(db: Arc<TestDatabase>) {
    let harness = AuthorizerHarness::new(&db).await;
    db.execute(MEMBERS, &[]).await;
    let id = Uuid::new_v4();
    add_member(&db, id, "room:1").await;
    let drop_today = "do $$ begin execute 'drop table realtime.messages_' || to_char(now() at time zone 'utc', 'YYYY_MM_DD'); end $$";
    db.execute(drop_today, &[]).await;
    assert_eq!(harness.read(&user_principal(id), "room:1").await, Ok(ALL), "joins are not affected");
    db.execute(drop_today, &[]).await;
    let is_there = "select to_regclass('realtime.messages_' || to_char(now() at time zone 'utc', 'YYYY_MM_DD')) is not null";
    db.wait_until("nor are later messages", is_there, &[]).await;
    db.execute("select realtime.send('{\"n\": 1}', 'e', 'room:1')", &[]).await;
    assert_eq!(harness.take_numbers(1).await, [1]);
}

#[testkit::test]
async fn several_nodes_maintain_partitions_concurrently(db: Arc<TestDatabase>) {
    let drop_all = "do $$ declare t regclass; begin
        for t in select inhrelid::regclass from pg_inherits where inhparent = 'realtime.messages'::regclass loop
          execute 'drop table ' || t;
        end loop; end $$";
    db.execute(drop_all, &[]).await;
    let keep = (0..8).map(|_| async {
        let client = db.connect().await;
        let row = client.query_one("select created from rollcall.maintain_message_partitions()", &[]).await;
        row.expect("it works").get::<_, i32>(0)
    });
    assert_eq!(join_all(keep).await.into_iter().sum::<i32>(), 5, "each is created once, without an error");
}

#[testkit::test]
async fn broadcasts_follow_commit_order_and_skip_rollbacks(db: Arc<TestDatabase>) {
    let harness = AuthorizerHarness::new(&db).await;
    let (early, late) = (db.connect().await, db.connect().await);
    let send = |n: u32| format!("select realtime.send('{{\"n\": {n}}}', 'e', 'room:1')");
    // Messages committed before the listener started are read in time order; from this one on in commit order.
    early.batch_execute(&send(0)).await.expect("sent");
    wait_until("the first", || !harness.received.lock().is_empty()).await;
    harness.received.lock().clear();
    early.batch_execute(&format!("begin; {}; {}", send(3), send(4))).await.expect("sent");
    late.batch_execute(&format!(
        "begin; {}; {}; savepoint a; {}; rollback to a; commit",
        send(1),
        send(2),
        send(99)
    ))
    .await
    .expect("sent");
    early.batch_execute("commit").await.expect("committed");
    early.batch_execute(&format!("begin; {}; rollback", send(99))).await.expect("rolled back");
    late.batch_execute(
        "insert into realtime.messages (topic, extension, event, payload, private)
           select 'room:1', 'presence', 'e', json_build_object('n', n), true from generate_series(5, 9) n;
         select realtime.send('{\"n\": 10}', 'e', 'room:1', false);
         select realtime.send_binary('\\x00ff10', 'bytes', 'room:1')",
    )
    .await
    .expect("sent");
    wait_until("all", || harness.received.lock().len() >= 11).await;
    let received: Vec<DatabaseBroadcast> = harness.received.lock().drain(..).collect();
    assert_eq!(received[..10].iter().map(number).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    assert_eq!(received[0].topic, Topic::private("room:1"));
    assert_eq!(received[9].topic, Topic::public("room:1"));
    let UserPayload::Json(first) = &received[0].message.payload else { panic!("not JSON") };
    assert_eq!(**first, format!(r#"{{"n": 1, "id": "{}"}}"#, received[0].message.id));
    assert!(matches!(&received[10].message.payload, UserPayload::Binary(bytes) if **bytes == [0, 255, 16]));
    assert_eq!(&*received[10].message.event, "bytes");
}

#[testkit::test]
async fn missed_broadcasts_arrive_once_in_order(db: Arc<TestDatabase>) {
    let harness = AuthorizerHarness::new(&db).await;
    db.execute("select realtime.send('{\"n\": 1}', 'e', 'room:1')", &[]).await;
    wait_until("the first", || harness.received.lock().len() == 1).await;
    for round in 0..3 {
        let from = 2 + round * 100;
        // Messages sent without a listener, including one whose transaction started earlier.
        let open = db.connect().await;
        open.batch_execute(&format!("begin; select realtime.send('{{\"n\": {from}}}', 'e', 'room:1')"))
            .await
            .expect("sent");
        change_while_disconnected(
            &db,
            &harness,
            &format!(
                "select realtime.send(jsonb_build_object('n', n), 'e', 'room:1') from generate_series({}, {}) n",
                from + 1,
                from + 98
            ),
            &[],
        )
        .await;
        open.batch_execute("commit").await.expect("committed");
        db.execute(&format!("select realtime.send('{{\"n\": {}}}', 'e', 'room:1')", from + 99), &[]).await;
        wait_until("all of it", || harness.received.lock().len() > (round as usize + 1) * 100).await;
    }
    let numbers = harness.take_numbers(301).await;
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=301).collect::<Vec<_>>(), "each once");
    // All but the late commit are in sending order.
    let late = |n: &i64| *n > 1 && (n - 2) % 100 == 0;
    let in_order: Vec<i64> = numbers.into_iter().filter(|n| !late(n)).collect();
    assert!(in_order.is_sorted(), "{in_order:?}");
}

#[testkit::test]
async fn a_thousand_rows_of_one_statement_arrive_in_order(db: Arc<TestDatabase>) {
    let harness = AuthorizerHarness::new(&db).await;
    db
        .execute(
            "insert into realtime.messages (topic, extension, event, payload, private)
               select 'room:1', 'broadcast', 'e', json_build_object('n', n, 'filler', repeat('x', 30000)), true from generate_series(1, 1000) n",
            &[],
        )
        .await;
    assert_eq!(harness.take_numbers(1_000).await, (1..=1_000).collect::<Vec<_>>());
}

#[testkit::test]
async fn rows_that_are_not_broadcasts_are_skipped(db: Arc<TestDatabase>) {
    let harness = AuthorizerHarness::new(&db).await;
    db
        .execute(
            "insert into realtime.messages (topic, extension, event, payload, private) values
               ('t', 'broadcast', 'e', '{\"n\": 1}', true), ('t', 'broadcast', null, '{\"n\": 2}', true),
               ('t', 'broadcast', 'e', null, true), ('t', 'broadcast', 'e', '{\"n\": 4}', null),
               ('t', 'broadcast', 'e', json_build_object('n', 5, 'filler', repeat('x', 200000)), true),
               ('t', 'broadcast', 'e', '{\"n\": 6}', true);
             begin; insert into realtime.messages (topic, extension, event, payload, private) values ('t', 'broadcast', 'e', '{\"n\": 7}', true);
             delete from realtime.messages where payload ->> 'n' = '7'; commit;
             select realtime.send('{\"n\": 8}', 'e', 't')",
            &[],
        )
        .await;
    assert_eq!(harness.take_numbers(3).await, [1, 6, 8]);
}

#[testkit::test]
async fn replay_returns_the_newest_since_a_time_oldest_first(db: Arc<TestDatabase>) {
    let harness = AuthorizerHarness::new(&db).await;
    let topic = Topic::private("room:1");
    db
        .execute(
            "begin; select realtime.send(jsonb_build_object('n', n), 'e', 'room:1') from generate_series(1, 40) n;
             select realtime.send('{\"n\": 98}', 'e', 'room:2'), realtime.send('{\"n\": 99}', 'e', 'room:1', false); commit;
             insert into realtime.messages (topic, extension, event, payload, private, inserted_at) values
               ('room:1', 'broadcast', 'e', '{\"n\": 100}', true, (now() at time zone 'utc') + interval '1 hour'),
               ('room:1', 'presence', 'e', '{\"n\": 101}', true, (now() at time zone 'utc')),
               ('room:1', 'broadcast', 'e', '{\"n\": 0}', true, (now() at time zone 'utc') - interval '1 minute')",
            &[],
        )
        .await;
    let replay = async |since, limit| {
        let stored = harness.messages.replay(&topic, since, limit).await.expect("it works");
        stored.broadcasts.iter().map(number).collect::<Vec<_>>()
    };
    let a_moment_ago = jiff::Timestamp::now().as_millisecond() - 30_000;
    assert_eq!(replay(a_moment_ago, 3).await, [38, 39, 40], "in order, although of one transaction");
    assert_eq!(replay(a_moment_ago, 1_000).await, (16..=40).collect::<Vec<_>>());
    assert_eq!(replay(a_moment_ago, 0).await, [40]);
    assert_eq!(replay(-1, -5).await, [40]);
    assert_eq!(replay(a_moment_ago + 3_600_000, 25).await, [] as [i64; 0]);
    assert_eq!(replay(i64::MAX, 25).await, [] as [i64; 0]);
    db.execute("delete from realtime.messages where payload ->> 'n' <> '0'", &[]).await;
    assert_eq!(replay(a_moment_ago, 25).await, [] as [i64; 0], "older than requested");
    assert_eq!(replay(a_moment_ago - 60_000, 25).await, [0]);
    assert!(
        harness
            .messages
            .replay(&Topic::public("room:1"), 0, 25)
            .await
            .expect("it works")
            .broadcasts
            .is_empty()
    );
}

#[testkit::test(exclusive)]
async fn a_revocation_among_a_thousand_channels_takes_under_250_ms(db: Arc<TestDatabase>) {
    const CHANNELS: usize = 1_000;
    const LIMIT: Duration = Duration::from_millis(250);
    let harness = AuthorizerHarness::new(&db).await;
    db.execute(MEMBERS, &[]).await;
    let users: Vec<Uuid> = (0..CHANNELS).map(|_| Uuid::new_v4()).collect();
    db
        .sql
        .execute("insert into public.members select u, 'room:' || n % 50 from unnest($1::uuid[]) with ordinality u (u, n)", &[&users])
        .await
        .expect("inserted");
    let joins = users.iter().enumerate().map(|(n, id)| {
        let harness = &harness;
        async move { harness.join(&user_principal(*id), &format!("room:{}", (n + 1) % 50)).await }
    });
    let joined = join_all(joins).await;
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        let started = Instant::now();
        db.execute("delete from public.members where user_id = $u", &[("u", users[n])]).await;
        let notified = joined[n].wait_for_rights(Err(UNAUTHORIZED)).await;
        slowest = slowest.max(notified - started);
    }
    println!("a row: slowest of 20 among {CHANNELS}: {slowest:?}");
    assert!(slowest < LIMIT, "{slowest:?}");
    let notified = joined.iter().filter(|joined| !joined.rights_changes().is_empty()).count();
    assert_eq!(notified, 20, "no other channel is notified");

    let started = Instant::now();
    db.execute("alter policy members_read on realtime.messages using (realtime.topic() <> 'room:7' and exists (
        select from public.members m where m.user_id = (select auth.uid()) and m.room = (select realtime.topic())))", &[]).await;
    let mut slowest = Duration::ZERO;
    for (_, joined) in joined.iter().enumerate().filter(|(n, _)| *n >= 20 && (n + 1) % 50 == 7) {
        slowest = slowest.max(joined.wait_for_rights(Err(UNAUTHORIZED)).await - started);
    }
    println!("a policy: all channels of a topic among {CHANNELS} notified after {slowest:?}");
    assert!(slowest < LIMIT * 2, "{slowest:?}");
}

/// Over sockets of a whole server: access is removed by a row, by a policy, and by a row that affects no channel.
#[testkit::test(exclusive)]
async fn a_revocation_closes_only_the_affected_channel_within_250_ms(db: Arc<TestDatabase>) {
    const LIMIT: Duration = Duration::from_millis(250);
    let node = db.start_server().await;
    db.execute(MEMBERS, &[]).await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        let user = User::new();
        add_member(&db, user.id, "room:1").await;
        let path = format!("/realtime/v1/websocket?apikey={}&vsn=2.0.0", user.token);
        let mut socket = open_socket(node.address, &path, &[]).await.expect("the socket opens");
        socket
            .send_message(json!(["1", "1", "realtime:room:1", "phx_join", {"config": {"private": true}}]))
            .await;
        let reply = socket.next_message().await;
        assert_eq!(reply[4]["status"], "ok", "{reply}");
        sockets.push((user.id, socket));
    }
    let without = "alter policy members_read on realtime.messages using (auth.uid() <> $affected and exists (
        select from public.members m where m.user_id = (select auth.uid()) and m.room = (select realtime.topic())))";
    for change in ["delete from public.members where user_id = $affected", without] {
        let (affected, mut revoked) = sockets.pop().expect("a socket is left");
        let started = Instant::now();
        db.execute(change, &[("affected", affected)]).await;
        let message = "You do not have permissions to read from this Channel topic: room:1";
        let system =
            json!({"message": message, "status": "error", "extension": "system", "channel": "room:1"});
        revoked.expect_message(json!(["1", null, "realtime:room:1", "system", system])).await;
        revoked.expect_message(json!(["1", "1", "realtime:room:1", "phx_close", {}])).await;
        assert!(started.elapsed() < LIMIT, "{change}: {:?}", started.elapsed());
    }
    for (_, socket) in &mut sockets {
        socket.send_message(json!([null, "2", "phoenix", "heartbeat", {}])).await;
        socket
            .expect_message(json!([null, "2", "phoenix", "phx_reply", {"status": "ok", "response": {}}]))
            .await;
    }
    db.execute("select realtime.send('{\"n\": 1}', repeat('e', 300), 'room:1')", &[]).await;
    for (_, socket) in &mut sockets {
        let frame = socket.next_message().await;
        assert_eq!((&frame[3], &frame[4]["payload"]["n"]), (&json!("broadcast"), &json!(1)), "{frame}");
    }
}

/// Random members, policies and callers. After every few changes the cached rights, the notifications and new answers
/// must equal what `select` and `insert` as the caller return.
#[testkit::test]
async fn random_histories_match_select_and_insert_as_the_caller(db: Arc<TestDatabase>) {
    const ROUNDS: usize = 60;
    let seed: u64 =
        std::env::var("ROLLCALL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("ROLLCALL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let harness = AuthorizerHarness::new(&db).await;
    db.execute(MEMBERS, &[]).await;
    db
        .execute(
            "create table public.bans (user_id uuid);
             create function public.banned() returns boolean language sql stable security definer set search_path = ''
               as 'select exists (select from public.bans b where b.user_id = auth.uid())';
             create table public.rooms (name text primary key, open boolean);
             grant select on public.rooms to authenticated, anon",
            &[],
        )
        .await;
    let policies = [
        (
            "p1",
            "for select to authenticated using (extension = 'broadcast' and topic in (select name from public.rooms where open))",
        ),
        ("p2", "for select to anon using (topic = 'room:0')"),
        ("p3", "as restrictive for select to authenticated using (not public.banned())"),
        (
            "p4",
            "for insert to authenticated with check (extension = 'presence' and realtime.topic() in (select name from public.rooms where open))",
        ),
        ("p5", "as restrictive for insert to authenticated with check (not public.banned())"),
        (
            "p6",
            "for all to authenticated using (realtime.topic() = 'user:' || auth.uid()) with check (extension = 'presence')",
        ),
        (
            "p7",
            "for select to authenticated using (case when topic = 'room:1' then 1 / (length(topic) - 6) > 0 else false end)",
        ),
    ];
    let users: Vec<Uuid> = (0..5).map(|_| Uuid::new_v4()).collect();
    let mut principals: Vec<Arc<Principal>> = users.iter().map(|id| user_principal(*id)).collect();
    principals.push(principal("anon", None));
    principals.push(principal("service_role", None));
    let mut topics: Vec<String> = (0..3).map(|n| format!("room:{n}")).collect();
    topics.extend(users[..2].iter().map(|id| format!("user:{id}")));
    let mut joined: HashMap<(usize, usize), JoinedChannel> = HashMap::new();
    for _ in 0..ROUNDS {
        for _ in 0..random.random_range(1..4) {
            let (user, room) = (users[random.random_range(0..users.len())], random.random_range(0..3));
            let (name, body) = policies[random.random_range(0..policies.len())];
            let statement = match random.random_range(0..10) {
                0 | 1 => format!(
                    "insert into public.members values ('{user}', 'room:{room}', {}) on conflict do nothing",
                    random.random_bool(0.5)
                ),
                2 => format!("delete from public.members where user_id = '{user}'"),
                3 => format!("update public.members set writes = not writes where room = 'room:{room}'"),
                4 => format!("insert into public.bans values ('{user}')"),
                5 => format!("delete from public.bans where user_id = '{user}'"),
                6 => format!(
                    "insert into public.rooms values ('room:{room}', {}) on conflict (name) do update set open = excluded.open",
                    random.random_bool(0.5)
                ),
                7 => format!("drop policy if exists {name} on realtime.messages"),
                8 => format!(
                    "begin; drop policy if exists {name} on realtime.messages; create policy {name} on realtime.messages {body}; commit"
                ),
                _ => format!(
                    "begin; delete from public.members where user_id = '{user}'; insert into public.bans values ('{user}'); rollback"
                ),
            };
            db.execute(&statement, &[]).await;
        }
        // Some callers join or leave before the changes are noticed.
        for _ in 0..3 {
            let (caller, topic) =
                (random.random_range(0..principals.len()), random.random_range(0..topics.len()));
            if joined.remove(&(caller, topic)).is_none() {
                let room = Topic::private(&*topics[topic]);
                if let Ok(rights) = harness.authorizer.read_rights(&principals[caller], &room).await {
                    let notified = Arc::<RightsLog>::default();
                    let watch =
                        harness.authorizer.subscribe(&principals[caller], &room, rights, notified.clone());
                    joined
                        .insert((caller, topic), JoinedChannel { rights_log: notified, subscription: watch });
                }
            }
        }
        for (caller, principal) in principals.iter().enumerate() {
            for (topic_index, topic) in topics.iter().enumerate() {
                let (read, write) = expected_rights(&db, principal, topic).await;
                let expected = match read {
                    (false, false) => Err(()),
                    (broadcast, presence) => Ok(ReadRights { broadcast, presence }),
                };
                // A loss takes effect once its notification arrives.
                let started = Instant::now();
                loop {
                    let known = harness.read(principal, topic).await;
                    if known.map_err(drop) == expected {
                        break;
                    }
                    assert!(
                        started.elapsed() < WAIT_TIMEOUT,
                        "{principal:?} reads {topic}: {known:?}, not {expected:?}"
                    );
                }
                loop {
                    let known = harness.write(principal, topic).await.unwrap_or(WriteRights::NONE);
                    if (known.broadcast, known.presence) == write {
                        break;
                    }
                    assert!(
                        started.elapsed() < WAIT_TIMEOUT,
                        "{principal:?} writes {topic}: {known:?}, not {write:?}"
                    );
                }
                if let Some(channel) = joined.get(&(caller, topic_index)) {
                    if expected.is_err() {
                        wait_until("the loss is notified", || {
                            matches!(channel.rights_changes().last(), Some(Err(_)))
                        })
                        .await;
                        joined.remove(&(caller, topic_index));
                    } else {
                        wait_until("cached write access is current or absent", || {
                            channel
                                .subscription
                                .write_rights()
                                .is_none_or(|known| (known.broadcast, known.presence) == write)
                        })
                        .await;
                        // A caller that lost and regained access within a round may have been denied, and its channel
                        // ended.
                        match channel.rights_changes().last() {
                            None => {}
                            Some(Err(_)) => drop(joined.remove(&(caller, topic_index))),
                            Some(Ok(_)) => {
                                let now = expected.map_err(|()| UNAUTHORIZED);
                                wait_until("the last notification is current", || {
                                    channel.rights_changes().last() == Some(&now)
                                })
                                .await;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns whether `select` and `insert` as the caller are allowed, for broadcast and presence.
async fn expected_rights(
    db: &TestDatabase,
    principal: &Principal,
    topic: &str,
) -> ((bool, bool), (bool, bool)) {
    let as_caller = format!(
        "set local role {}; select set_config('request.jwt.claims', '{}', true), set_config('realtime.topic', '{topic}', true)",
        principal.role, principal.claims
    );
    let mut read = (false, false);
    let mut write = (false, false);
    for (extension, read, write) in
        [("broadcast", &mut read.0, &mut write.0), ("presence", &mut read.1, &mut write.1)]
    {
        let id = Uuid::new_v4();
        let row = format!(
            "insert into realtime.messages (id, topic, extension) values ('{id}', '{topic}', '{extension}')"
        );
        db.execute(&format!("begin; {row}; {as_caller}"), &[]).await;
        let seen = db.sql.query("select from realtime.messages where id = $1", &[&id]).await;
        *read = seen.is_ok_and(|rows| !rows.is_empty());
        db.execute("rollback", &[]).await;
        db.execute(&format!("begin; {as_caller}"), &[]).await;
        let row =
            format!("insert into realtime.messages (topic, extension) values ('{topic}', '{extension}')");
        *write = db.sql.execute(&row, &[]).await.is_ok();
        db.execute("rollback", &[]).await;
    }
    (read, write)
}
