//! PgBouncer in transaction mode between servers and database. Everything works except LISTEN and replication, which
//! use `DATABASE_DIRECT_URL`.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use rollcall::{
    config::Secret,
    pg::{doctor::run_checks, migrate::Sources},
};
use serde_json::json;
use testkit::{
    cluster::connect,
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT, free_port, service_user},
    phoenix::SerializerVersion,
};
use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use crate::openapi_examples::{WEBHOOK, run_examples};

/// Installation paths in common distributions.
const PGBOUNCER_PATHS: [&str; 3] = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];

/// A running PgBouncer for one database, with two server connections.
struct Pooler {
    process: Child,
    dir: PathBuf,
    url: String,
}

impl Pooler {
    /// Starts PgBouncer for the database of a URL.
    async fn start(database: &str) -> Self {
        let config: tokio_postgres::Config = database.parse().expect("a URL");
        let (tokio_postgres::config::Host::Tcp(host), port) = (&config.get_hosts()[0], config.get_ports()[0])
        else {
            panic!("the test database listens on TCP");
        };
        let name = config.get_dbname().expect("a database");
        let user = config.get_user().expect("a user");
        let password = String::from_utf8_lossy(config.get_password().unwrap_or_default()).into_owned();
        let own = free_port();

        let dir = std::env::temp_dir().join(format!("rollcall-pooler-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).expect("a directory");
        // PgBouncer drops root privileges and must read its files afterwards.
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).expect("permissions");
        let settings = dir.join("pgbouncer.ini");
        let as_user = if nix::unistd::Uid::effective().is_root() { "user = postgres" } else { "" };
        let text = format!(
            "[databases]\n{name} = host={host} port={port} user={user} password={password}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {own}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 200\nlogfile =\npidfile =\n{as_user}\n"
        );
        std::fs::write(&settings, text).expect("a file");
        let process = Command::new(pgbouncer_path())
            .arg(&settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("PgBouncer runs; .ci/install --test installs it");
        let pooler = Self { process, dir, url: format!("postgresql://{user}@127.0.0.1:{own}/{name}") };
        let started = Instant::now();
        while tokio_postgres::connect(&pooler.url, tokio_postgres::NoTls).await.is_err() {
            assert!(started.elapsed() < WAIT_TIMEOUT, "PgBouncer does not respond");
            sleep(Duration::from_millis(20)).await;
        }
        pooler
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

fn pgbouncer_path() -> &'static Path {
    PGBOUNCER_PATHS
        .map(Path::new)
        .into_iter()
        .find(|path| path.exists())
        .expect(".ci/install --test installs pgbouncer")
}

#[testkit::test]
async fn every_feature_works_behind_a_transaction_pooler(db: Arc<TestDatabase>) {
    let pooler = Pooler::start(&db.url).await;
    let start = async || Arc::new(TestServer::start_pooled(&pooler.url, &db.url, |_| {}).await);
    let (here, there) = (start().await, start().await);
    let users: Vec<User> = (0..12).map(|_| User::new()).collect();
    let (viewer, others) = (&users[0], &users[1..]);
    for other in others {
        db.add_contact(viewer, other).await;
    }

    // Many requests of two servers over two connections: prepared statements do not collide.
    let mut socket = here.socket(viewer).await;
    socket.next_message().await;
    for round in ["busy", "online", "dnd", "away"] {
        let requests = others.iter().enumerate().map(|(number, other)| {
            let node = if number % 2 == 0 { &here } else { &there };
            node.post(other, "/api/presence/status", json!({"status": round, "custom_status": round}))
        });
        for response in join_all(requests).await {
            assert_eq!(response.expect_status(200)["availability"], round);
        }
        let reach = if round == "away" { "away" } else { "online" };
        socket
            .wait_until(round, |socket| others.iter().all(|other| socket.shows(other.id, reach, round)))
            .await;
    }

    // Concurrent reads and writes of every kind, as different users and roles.
    let other = &others[0];
    let requests_of_all = join_all((0..20).map(|number| {
        let node = if number % 2 == 0 { &here } else { &there };
        async move {
            node.get(viewer, "/api/presence/users").await.expect_status(200);
            node.get(other, &format!("/api/presence/users/{}", viewer.id)).await.expect_status(200);
            node.patch(viewer, "/api/presence/settings", json!({"show_activity": number % 3 == 0}))
                .await
                .expect_status(200);
            node.get(viewer, "/api/presence/devices").await.expect_status(200);
            node.get(other, "/api/presence/settings").await.expect_status(200);
            node.post(other, "/api/presence/heartbeat", json!({"active": true})).await.expect_status(200);
            node.get(other, "/api/presence/export").await.expect_status(200);
            node.get(other, "/api/presence/visibility").await.expect_status(200);
        }
    }));
    requests_of_all.await;
    let event =
        json!({"category": "custom", "event": "hello", "recipients": [viewer.id], "payload": {"n": 1}});
    let result = there.post(&service_user(), "/api/presence/broadcast", event).await.expect_status(200);
    assert_eq!(result["delivered_to"], 1);

    // Changes in SQL, including policies, arrive past the pooler.
    db.execute(
        "insert into rollcall.blocks (blocker_id, blocked_id) values ($o, $v)",
        &[("o", other.id), ("v", viewer.id)],
    )
    .await;
    socket.wait_until("a block", |socket| socket.hides(other.id)).await;
    db.execute("delete from rollcall.blocks", &[]).await;
    socket.wait_until("no block", |socket| socket.shows(other.id, "away", "away")).await;
    db
        .execute("create policy restricted on rollcall.user_presence as restrictive for select to authenticated using (face = 'trusted')", &[])
        .await;
    socket.wait_until("a policy", |socket| others.iter().all(|other| socket.hides(other.id))).await;

    // No request leaves state on the pooler's connections.
    let left = connect(&pooler.url).await;
    for _ in 0..10 {
        let row = left.simple_query("select current_user || ' ' || coalesce(current_setting('request.jwt.claims', true), '') as identity").await;
        let row = row.expect("a response");
        let identity = row.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get("identity").map(str::to_owned),
            _ => None,
        });
        assert_eq!(identity.as_deref().map(str::trim), Some("postgres"));
    }
    let prepared = left
        .simple_query("select count(*)::text as n from pg_prepared_statements")
        .await
        .expect("a response");
    let prepared = prepared.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get("n").map(str::to_owned),
        _ => None,
    });
    assert_eq!(prepared.as_deref(), Some("0"), "no named statement is left on a shared connection");
    socket.close().await;
    here.stop().await.expect("stops");
    there.stop().await.expect("stops");
}

/// Runs every documented request, and changes of rows and channels, with a trigger of the application on every table of
/// Rollcall and policies that call its functions. Each of them runs with the path that the role has in the database.
async fn check_paths_of_users_code(db: Arc<TestDatabase>, is_pooled: bool, of_database: Option<&str>) {
    let path = of_database.unwrap_or("\"$user\", public, extensions");
    db.execute(include_str!("../../supabase/seed.sql"), &[]).await;
    db.execute(WEBHOOK, &[]).await;
    if let Some(path) = of_database {
        db.execute(&format!("do $$ begin execute format('alter database %I set search_path = {path}', current_database()); end $$"), &[]).await;
    }
    db.execute(
        &format!(
            "create function extensions.stamp() returns boolean language sql stable as 'select true';
             create table public.paths (relation text, path text, primary key (relation, path));
             create function public.note_path() returns trigger language plpgsql security definer as $$
             begin
               perform stamp();
               insert into public.paths values (tg_table_name, current_setting('search_path')) on conflict do nothing;
               return null;
             end $$;
             create function public.is_fine() returns boolean language plpgsql stable as $$
             begin
               if current_setting('search_path') <> '{path}' then
                 raise exception 'the path is %', current_setting('search_path');
               end if;
               return stamp();
             end $$;
             do $$
             declare v_table regclass;
             begin
               for v_table in select c.oid from pg_class c where c.relnamespace = 'rollcall'::regnamespace and c.relkind = 'r'
               loop
                 execute format('create trigger note_path after insert or update or delete on %s for each row execute function public.note_path()', v_table);
               end loop;
             end $$;
             create policy fine on rollcall.user_presence as restrictive for all to authenticated using (public.is_fine());
             create policy fine on realtime.messages for all to authenticated using (public.is_fine()) with check (public.is_fine());
             create table public.todos (id int primary key);
             alter table public.todos enable row level security;
             create policy fine on public.todos for select to authenticated using (public.is_fine());
             grant select on public.todos to authenticated;
             alter publication supabase_realtime add table public.todos;
             set search_path = {path}"
        ),
        &[],
    )
    .await;
    let pooler = if is_pooled { Some(Pooler::start(&db.url).await) } else { None };
    let node = match &pooler {
        Some(pooler) => TestServer::start_pooled(&pooler.url, &db.url, |_| {}).await,
        None => TestServer::start(&db.url, |_| {}).await,
    };
    run_examples(&node, &["metrics", "metricsWithToken"]).await;

    let (one, other) = (User::new(), User::new());
    db.add_contact(&one, &other).await;
    let mut presence = node.socket(&one).await;
    presence.next_message().await;
    node.post(&other, "/api/presence/status", json!({"status": "busy"})).await.expect_status(200);
    presence.wait_until("a contact", |socket| socket.shows(other.id, "online", "busy")).await;

    let mut socket = node.channel_client(SerializerVersion::V2).await;
    socket
        .join_private("realtime:lobby", &one.token, json!({"broadcast": {"ack": true, "self": true}}))
        .await;
    let reference = socket.broadcast("realtime:lobby", "e", json!({})).await;
    assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok");
    let changes = json!([{"event": "*", "schema": "public", "table": "todos"}]);
    let join = json!({"config": {"postgres_changes": changes}, "access_token": one.token});
    assert_eq!(socket.try_join("realtime:todos", join).await["status"], "ok");
    assert_eq!(socket.wait_for("realtime:todos", "system").await.payload["status"], "ok");
    db.execute("insert into public.todos values (1)", &[]).await;
    socket.wait_for("realtime:todos", "postgres_changes").await;

    // Functions that have no path of their own, called with another one.
    let typist = format!(
        "insert into rollcall.typing_indicators (conversation_id, user_id, expires_at) values ('a', '{}', now() + interval '1 minute')",
        one.id
    );
    db.execute(
        &format!(
            "create table public.rooms (room text, member uuid, primary key (room, member));
             create index on public.rooms (member);
             insert into public.rooms values ('a', '{}');
             select rollcall.use_table('participants', 'public.rooms', group_column => 'room', user_column => 'member');
             {typist};
             select rollcall.use_table('participants', 'public.rooms', group_column => 'room', user_column => 'member');
             {typist};
             drop table public.rooms",
            one.id
        ),
        &[],
    )
    .await;
    let wrong =
        "select coalesce(array_agg(relation || ': ' || path), '{}') from public.paths where path <> $1";
    let wrong: Vec<String> = db.query_row(wrong, &[&path]).await.get(0);
    assert!(wrong.is_empty(), "{wrong:#?}");
    let reached = db.query_row("select array_agg(distinct relation) from public.paths", &[]).await;
    let reached: Vec<String> = reached.get(0);
    assert!(reached.len() > 15 && reached.iter().any(|name| name == "typing_indicators"), "{reached:?}");
    node.stop().await.expect("stops");
}

#[testkit::test]
async fn users_code_has_the_default_path(db: Arc<TestDatabase>) {
    check_paths_of_users_code(db, false, None).await;
}

#[testkit::test]
async fn users_code_has_the_default_path_behind_a_pooler(db: Arc<TestDatabase>) {
    check_paths_of_users_code(db, true, None).await;
}

#[testkit::test]
async fn users_code_has_the_path_of_the_database_behind_a_pooler(db: Arc<TestDatabase>) {
    check_paths_of_users_code(db, true, Some("public, \"no such schema\", extensions")).await;
}

/// tokio-postgres looks up unknown types with a named statement, which does not survive a pooler.
#[testkit::test]
async fn statements_return_only_built_in_types(db: Arc<TestDatabase>) {
    // Bootstrap, migrations and setup use direct connections.
    const DIRECT: [&str; 4] = ["sql/bootstrap", "sql/embedded", "sql/migrate", "sql/doctor"];
    // Functions that exist only with pgvector.
    const WITH_PGVECTOR: [&str; 1] = ["sql/context/store_vectors.sql"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut looked_at) = (vec![root.join("sql")], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if DIRECT.iter().any(|direct| path.starts_with(root.join(direct))) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("text");
            let statement = match db.sql.prepare(&text).await {
                Ok(statement) => statement,
                // Several statements, which take no parameters and return no rows.
                Err(error) if error.code().is_some_and(|code| code.code() == "42601") => continue,
                Err(error)
                    if error.code().is_some_and(|code| code.code() == "42883")
                        && WITH_PGVECTOR.iter().any(|file| path == root.join(file)) =>
                {
                    continue;
                }
                Err(error) => panic!("{}: {error:?}", path.display()),
            };
            looked_at += 1;
            for column in statement.columns() {
                let known = Type::from_oid(column.type_().oid()).is_some();
                assert!(
                    known,
                    "{} returns {} as {}: cast it to text",
                    path.display(),
                    column.name(),
                    column.type_()
                );
            }
        }
    }
    assert!(looked_at > 30, "only {looked_at} statements were found");
}

#[testkit::test]
async fn doctor_detects_an_undeclared_pooler(db: Arc<TestDatabase>) {
    let pooler = Pooler::start(&db.url).await;
    let (pooled, direct) = (Secret::new(pooler.url.clone()), Secret::new(db.url.clone()));
    let checks = run_checks(&pooled, None, &Sources::built_in()).await;
    let wrong: Vec<_> = checks.iter().filter(|check| !check.ok).collect();
    assert!(wrong.len() == 1 && wrong[0].finding.contains("set DATABASE_DIRECT_URL"), "{checks:#?}");
    let checks = run_checks(&pooled, Some(&direct), &Sources::built_in()).await;
    assert!(checks.iter().all(|check| check.ok), "{checks:#?}");
}
