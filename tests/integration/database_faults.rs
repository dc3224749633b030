//! Statements that are given up, foreign defaults of the database, read-only databases and locked tables.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use nix::unistd::Pid;
use rollcall::pg::{Connection, Database, PgError};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use testkit::{
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT},
    stopped_process::StoppedProcess,
};

const STATUS_PATH: &str = "/api/presence/status";
const HEALTH_PATH: &str = "/realtime/v1/api/health";

/// Stops a server process until the result is dropped.
fn stop(pid: i32) -> StoppedProcess {
    StoppedProcess::stop(Pid::from_raw(pid)).expect("the backend runs")
}

/// Process of the server connection that the next statement uses.
async fn backend_of(database: &Database) -> i32 {
    let pid = |connection: Connection| async move {
        Ok(connection.query_one("select pg_backend_pid()", &[]).await?.get(0))
    };
    database.within(WAIT_TIMEOUT, pid).await.expect("a connection")
}

async fn wait_until_gone(db: &TestDatabase, pid: i32) {
    let statement = format!("select not exists (select from pg_stat_activity where pid = {pid})");
    db.wait_until("the backend has ended", &statement, &[]).await;
}

/// Writes a value to the only row of `public.late`.
async fn write_value(database: &Database, limit: Duration, value: &str) -> Result<(), PgError> {
    let write = |connection: Connection| async move {
        connection.write("update public.late set value = $1", &[&value]).await.map(drop)
    };
    database.within(limit, write).await
}

#[testkit::test]
async fn a_write_that_was_given_up_never_overwrites_a_later_one(db: Arc<TestDatabase>) {
    db.execute("create table public.late (value text); insert into public.late values ('first')", &[]).await;
    let database = Database::new(&db.url, None, 2).expect("a valid URL");
    write_value(&database, WAIT_TIMEOUT, "prepared").await.expect("written");
    let pid = backend_of(&database).await;

    // The stopped backend has not read the statement, so it cannot be cancelled either: a cancel request has no effect
    // between statements.
    let stopped = stop(pid);
    let error = write_value(&database, Duration::from_millis(300), "older").await.expect_err("no answer");
    assert!(matches!(error, PgError::Unavailable(_)), "{error:?}");
    write_value(&database, WAIT_TIMEOUT, "newer").await.expect("another connection");
    drop(stopped);

    wait_until_gone(&db, pid).await;
    let value: String = db.query_row("select value from public.late", &[]).await.get(0);
    assert_eq!(value, "newer");
}

#[testkit::test(exclusive)]
async fn a_status_answered_503_never_overwrites_a_later_one(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    node.post(&user, STATUS_PATH, json!({"status": "online"})).await.expect_status(200);
    let rows = db
        .sql
        .query(
            "select pid from pg_stat_activity
             where datname = current_database() and application_name = 'rollcall-server' and state = 'idle'",
            &[],
        )
        .await
        .expect("the backends");
    let pids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    let stopped: Vec<StoppedProcess> = pids.iter().copied().map(stop).collect();

    let response = node.post(&user, STATUS_PATH, json!({"status": "busy"})).await;
    assert!(response.header("retry-after").is_some(), "{response:?}");
    response.expect_error(503, "DATABASE_CONNECTION_ERROR");
    let started = Instant::now();
    while node.post(&user, STATUS_PATH, json!({"status": "dnd"})).await.status != 200 {
        assert!(started.elapsed() < 3 * WAIT_TIMEOUT, "a later write is accepted");
    }
    drop(stopped);

    // The backend that carried the write reads it now, and ends because its connection was closed.
    let statement = "select count(*) < cardinality($1::int[]) from pg_stat_activity where pid = any ($1)";
    let started = Instant::now();
    while !db.query_row(statement, &[&pids]).await.get::<_, bool>(0) {
        assert!(started.elapsed() < WAIT_TIMEOUT, "the connection of the write that was given up is closed");
        sleep(Duration::from_millis(20)).await;
    }
    let own = node.get(&user, STATUS_PATH).await.expect_status(200);
    assert_eq!(own["availability"], "dnd", "{own}");
}

#[testkit::test]
async fn a_dropped_statement_is_cancelled_and_its_connection_closed(db: Arc<TestDatabase>) {
    let database = Database::new(&db.url, None, 2).expect("a valid URL");
    let pid = backend_of(&database).await;
    let connection = database.server_connection().await.expect("a connection");
    let sleep = async { connection.query("select pg_sleep(14)", &[]).await };
    timeout(Duration::from_millis(200), sleep).await.expect_err("it is dropped");
    drop(connection);
    wait_until_gone(&db, pid).await;
    assert_ne!(backend_of(&database).await, pid);
}

#[testkit::test]
async fn the_server_ends_a_statement_before_the_client_gives_up(db: Arc<TestDatabase>) {
    let database = Database::new(&db.url, None, 2).expect("a valid URL");
    let pid = backend_of(&database).await;
    let sleep = |connection: Connection| async move { connection.query("select pg_sleep(10)", &[]).await };
    let error = database.within(Duration::from_secs(1), sleep).await.expect_err("a timeout");
    assert!(matches!(error, PgError::StatementTimeout(_)), "{error:?}");

    // Preparing a statement waits for the lock too.
    db.execute("create table public.locked ()", &[]).await;
    let locker = db.connect().await;
    locker.batch_execute("begin; lock table public.locked in access exclusive mode").await.expect("locked");
    let read =
        |connection: Connection| async move { connection.query("select from public.locked", &[]).await };
    let error = database.within(Duration::from_secs(1), read).await.expect_err("a timeout");
    assert!(matches!(error, PgError::StatementTimeout(_)), "{error:?}");
    assert_eq!(backend_of(&database).await, pid, "the connection answered, so it is used again");
}

#[testkit::test]
async fn a_connection_that_became_read_only_is_replaced(db: Arc<TestDatabase>) {
    db.execute("create table public.late (value text); insert into public.late values ('first')", &[]).await;
    let database = Database::new(&db.url, None, 2).expect("a valid URL");
    let become_read_only = |connection: Connection| async move {
        let statement = "select set_config('default_transaction_read_only', 'on', false)";
        connection.query(statement, &[]).await
    };
    database.within(WAIT_TIMEOUT, become_read_only).await.expect("set");
    let error = write_value(&database, WAIT_TIMEOUT, "refused").await.expect_err("read-only");
    assert!(matches!(error, PgError::Unavailable(_)), "{error:?}");
    write_value(&database, WAIT_TIMEOUT, "second").await.expect("a new connection");
}

/// Defaults that other software may have set, and that would change results or make statements fail.
const FOREIGN_DEFAULTS: [(&str, &str); 10] = [
    ("default_transaction_read_only", "on"),
    ("default_transaction_isolation", "serializable"),
    ("idle_session_timeout", "300ms"),
    ("idle_in_transaction_session_timeout", "1ms"),
    ("timezone", "Asia/Tokyo"),
    ("datestyle", "SQL, DMY"),
    ("intervalstyle", "iso_8601"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-15"),
    ("standard_conforming_strings", "off"),
];

async fn set_foreign_defaults(db: &TestDatabase) {
    let database: String = db.query_row("select current_database()", &[]).await.get(0);
    for (name, value) in FOREIGN_DEFAULTS {
        db.execute(&format!("alter database {database} set {name} = '{value}'"), &[]).await;
    }
    // A statement timeout would end the connections of this test too. It ends no setting of a new connection on a busy
    // machine.
    db.execute(&format!("alter role postgres in database {database} set statement_timeout = '50ms'"), &[])
        .await;
}

#[testkit::test]
async fn every_connection_has_our_session_settings(db: Arc<TestDatabase>) {
    set_foreign_defaults(&db).await;
    let names: Vec<&str> = FOREIGN_DEFAULTS.iter().map(|(name, _)| *name).collect();
    let statement =
        "select string_agg(format('%s = %s', name, current_setting(name)), ', ' order by position)
         from unnest($1::text[]) with ordinality as settings (name, position)";
    let expected = "default_transaction_read_only = off, default_transaction_isolation = read committed, \
        idle_session_timeout = 0, idle_in_transaction_session_timeout = 10s, timezone = UTC, \
        datestyle = ISO, MDY, intervalstyle = postgres, bytea_output = hex, extra_float_digits = 1, \
        standard_conforming_strings = on";
    let database = Database::new(&db.url, None, 2).expect("a valid URL");
    let (statement, names) = (&statement, &names);
    let pooled = |connection: Connection| async move {
        Ok(connection.query_one(statement, &[names]).await?.get::<_, String>(0))
    };
    assert_eq!(database.within(WAIT_TIMEOUT, pooled).await.expect("pooled"), expected);
    let direct = database.direct_connector().client("test").await.expect("a connection");
    let row = direct.query_one(*statement, &[names]).await.expect("direct");
    assert_eq!(row.get::<_, String>(0), expected);
}

/// Process of the LISTEN connection.
async fn listener_pid(db: &TestDatabase) -> i32 {
    const LISTENERS: &str =
        "from pg_stat_activity where datname = current_database() and application_name = 'rollcall-listener'";
    db.wait_until("a listener is connected", &format!("select count(*) = 1 {LISTENERS}"), &[]).await;
    db.query_row(&format!("select pid {LISTENERS}"), &[]).await.get(0)
}

#[testkit::test]
async fn foreign_defaults_of_the_database_change_nothing(db: Arc<TestDatabase>) {
    let (viewer, subject) = (User::new(), User::new());
    db.add_contact(&viewer, &subject).await;
    set_foreign_defaults(&db).await;
    let node = db.start_server().await;
    let listener = listener_pid(&db).await;
    let mut socket = node.socket(&viewer).await;
    for availability in ["busy", "dnd", "busy"] {
        node.post(&subject, STATUS_PATH, json!({"status": availability})).await.expect_status(200);
        socket.wait_until(availability, |socket| socket.shows(subject.id, "online", availability)).await;
        // Longer than `idle_session_timeout`.
        socket.expect_no_message(Duration::from_millis(400)).await;
    }
    node.get(&subject, HEALTH_PATH).await.expect_status(200);
    assert_eq!(listener_pid(&db).await, listener, "the LISTEN connection was not ended");

    // Writable defaults again: nothing is left of the others.
    let database: String = db.query_row("select current_database()", &[]).await.get(0);
    db.execute(&format!("alter database {database} reset all"), &[]).await;
    node.post(&subject, STATUS_PATH, json!({"status": "dnd"})).await.expect_status(200);
}

#[testkit::test]
async fn health_names_a_full_disk_until_writes_succeed(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let user = User::new();
    node.get(&user, HEALTH_PATH).await.expect_status(200);
    // The error of a table that cannot grow.
    db.execute(
        "create function public.extend() returns trigger language plpgsql as $$
         begin raise 'could not extend file: No space left on device' using errcode = 'disk_full'; end $$;
         create trigger extend before insert on rollcall.presence_choices execute function public.extend()",
        &[],
    )
    .await;
    node.post(&user, STATUS_PATH, json!({"status": "busy"}))
        .await
        .expect_error(503, "DATABASE_CONNECTION_ERROR");
    let health = wait_for_health(&node, 503).await;
    assert_eq!(health["checks"]["database"]["message"], "no disk space: writes fail", "{health}");

    db.execute("drop trigger extend on rollcall.presence_choices", &[]).await;
    node.post(&user, STATUS_PATH, json!({"status": "busy"})).await.expect_status(200);
    wait_for_health(&node, 200).await;
}

/// Waits until the health check has this status. Its result is cached for a moment.
async fn wait_for_health(node: &TestServer, status: u16) -> Value {
    let started = Instant::now();
    loop {
        let response = node.get(&User::new(), HEALTH_PATH).await;
        if response.status == status {
            return response.body;
        }
        assert!(started.elapsed() < WAIT_TIMEOUT, "{response:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

#[testkit::test]
async fn a_locked_table_stops_only_the_requests_that_need_it(db: Arc<TestDatabase>) {
    const BLOCKED_PATH: &str = "/api/contacts";
    const OTHER_PATH: &str = "/api/presence/settings";
    let node = db.start_server().await;
    let user = User::new();
    node.get(&user, OTHER_PATH).await.expect_status(200);
    let locker = db.connect().await;
    // The statement on this table has not been prepared yet, so preparing it waits for the lock.
    locker
        .batch_execute("begin; lock table rollcall.contacts in access exclusive mode")
        .await
        .expect("locked");

    let calls = async {
        for _ in 0..30 {
            node.get(&user, OTHER_PATH).await.expect_status(200);
        }
    };
    let keep_blocked = async {
        loop {
            let calls = (0..8).map(|_| node.get(&user, BLOCKED_PATH));
            for response in futures_util::future::join_all(calls).await {
                assert!(response.header("retry-after").is_some(), "{response:?}");
                response.expect_error(503, "DATABASE_CONNECTION_ERROR");
            }
        }
    };
    tokio::select! {
        () = calls => {}
        () = keep_blocked => unreachable!("it does not end"),
    }
    locker.batch_execute("rollback").await.expect("unlocked");
    wait_until_ok(&node, &user, BLOCKED_PATH).await;
}

async fn wait_until_ok(node: &TestServer, user: &User, path: &str) {
    let started = Instant::now();
    while node.get(user, path).await.status != 200 {
        assert!(started.elapsed() < WAIT_TIMEOUT, "{path} does not recover");
    }
}

/// Sets a status and returns how long the acknowledgement took.
async fn timed_status(node: &TestServer, user: &User, status: &str) -> Duration {
    let started = Instant::now();
    node.post(user, STATUS_PATH, json!({"status": status})).await.expect_status(200);
    started.elapsed()
}

/// The 95th percentile of the times that status changes of these users take.
async fn status_times(node: &TestServer, users: &[User], rounds: usize) -> Duration {
    let mut times = Vec::new();
    for round in 0..rounds {
        let status = ["busy", "dnd"][round % 2];
        times.extend(join_all(users.iter().map(|user| timed_status(node, user, status))).await);
    }
    times.sort_unstable();
    times[times.len() * 95 / 100]
}

#[testkit::test(exclusive)]
async fn locked_rows_of_some_users_delay_nobody_else(db: Arc<TestDatabase>) {
    const LOCKED: [(&str, usize); 4] = [
        ("select from rollcall.user_last_seen where user_id = any ($1) for update", 1),
        ("select from rollcall.user_last_seen where user_id = any ($1) for update", 5),
        ("update rollcall.presence_devices set device_name = 'locked' where user_id = any ($1)", 5),
        ("select from rollcall.presence_choices where user_id = any ($1) for update", 50),
    ];
    let node = db.start_server().await;
    let (others, victims) = (User::many(8), User::many(50));
    let mut sockets = Vec::new();
    for user in others.iter().chain(&victims[..5]) {
        sockets.push(node.socket(user).await);
    }
    for victim in &victims {
        timed_status(&node, victim, "busy").await;
    }
    status_times(&node, &others, 3).await;
    let calm = status_times(&node, &others, 20).await;

    for (lock, count) in LOCKED {
        let locked: Vec<Uuid> = victims[..count].iter().map(|user| user.id).collect();
        let mut locker = db.connect().await;
        let transaction = locker.transaction().await.expect("a transaction");
        transaction.execute(lock, &[&locked]).await.expect("locked");
        let waiting = join_all(victims[..count].iter().map(|victim| timed_status(&node, victim, "online")));
        let (waited, disturbed) = tokio::join!(waiting, async {
            // Longer than the lease: nobody goes offline.
            let started = Instant::now();
            let mut worst = Duration::ZERO;
            while started.elapsed() < Duration::from_secs(3) {
                worst = worst.max(status_times(&node, &others, 5).await);
            }
            let living = "select count(*) = 13 from rollcall.presence_devices
              where live and nodes = array(select id from rollcall.presence_nodes where lease_expires_at > now())";
            db.wait_until("all sockets are online", living, &[]).await;
            transaction.rollback().await.expect("unlocked");
            worst
        });
        println!("{count} users locked: {disturbed:?} instead of {calm:?}; they waited {waited:?}");
        // The first batch with a locked user waits once for its lock.
        let limit = calm * 2 + Duration::from_millis(250);
        assert!(disturbed < limit, "{disturbed:?} with {count} locked users, {calm:?} without");
        let stored =
            "select count(*) = $1 from rollcall.presence_choices where user_id = any ($2) and chosen is null";
        let stored: bool = db.query_row(stored, &[&(count as i64), &locked]).await.get(0);
        assert!(stored, "the writes that waited are stored");
        for victim in &victims[..count] {
            timed_status(&node, victim, "busy").await;
        }
    }
}

#[testkit::test]
async fn connection_strings_of_other_tools_are_accepted(db: Arc<TestDatabase>) {
    let setting = |name: &'static str| {
        let db = db.clone();
        async move { db.query_row(&format!("show {name}"), &[]).await.get::<_, String>(0) }
    };
    let (directory, port) = (setting("unix_socket_directories").await, setting("port").await);
    let (credentials, address) =
        db.url.trim_start_matches("postgresql://").split_once('@').expect("a URL with a user");
    let (user, password) = credentials.split_once(':').expect("a password");
    let (_, name) = address.rsplit_once('/').expect("a database");
    for text in [
        format!("postgresql://{credentials}@/{name}?host={directory}&port={port}&sslmode=require"),
        format!("host='{directory}' port={port} user={user} password='{password}' dbname={name}"),
        format!("{}?pgbouncer=true&connection_limit=1&schema=public&sslmode=allow", db.url),
        format!(
            "postgresql://{credentials}@localhost:1,localhost:{port}/{name}?target_session_attrs=read-write"
        ),
    ] {
        let database = Database::new(&text, None, 2).unwrap_or_else(|error| panic!("{text}: {error}"));
        backend_of(&database).await;
    }
}

#[testkit::test]
async fn an_erasure_gives_way_to_another_transaction_and_is_tried_again(db: Arc<TestDatabase>) {
    let user = User::new();
    let ids = [("u", user.id)];
    db.execute(
        "insert into rollcall.presence_settings (user_id) values ($u);
         insert into rollcall.context_bundles
           (user_id, bundle_type, content, token_count, compiled_at, compiled_seeing, expires_at, dirty)
         values ($u, 'identity_core', 'x', 1, now(), pg_current_snapshot(), now() + interval '1 hour', false)",
        &ids,
    )
    .await;
    let (other, eraser) = (db.connect().await, db.connect().await);
    let of_user = format!("where user_id = '{}'", user.id);
    other
        .batch_execute(&format!("begin; update rollcall.context_bundles set token_count = 2 {of_user}"))
        .await
        .expect("an update");
    let forget = format!("select rollcall.forget('{}')", user.id);
    let erasing = tokio::spawn(async move { eraser.batch_execute(&forget).await });
    let waits = "select exists (select from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock' and query like 'select rollcall.forget%')";
    db.wait_until("the erasure waits", waits, &[]).await;
    // A cycle: the erasure has deleted this row and waits for the bundle.
    other
        .batch_execute(&format!("update rollcall.presence_settings set show_typing = true {of_user}; commit"))
        .await
        .expect("the other transaction goes on");
    erasing.await.expect("no panic").expect("an erasure");
    let left = "select (select count(*) from rollcall.context_bundles where user_id = $1)
        + (select count(*) from rollcall.presence_settings where user_id = $1)";
    assert_eq!(db.query_row(left, &[&user.id]).await.get::<_, i64>(0), 0);
}
