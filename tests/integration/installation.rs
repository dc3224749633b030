//! Installation beside an application: its tables and types keep their names, its policies and triggers run with its
//! `search_path`, an obstacle is reported before anything is written, and a removal leaves no trace.

use std::{process::Command, sync::Arc};

use rollcall::{
    config::Secret,
    model::{Module, Modules},
    pg::doctor::run_checks,
    pg::migrate::{MigrateError, MigrationTarget, Sources, prepare, remove},
};
use serde_json::json;
use testkit::{
    cluster::{Cluster, connect},
    dump::Dump,
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT, service_user},
    phoenix::{SerializerVersion, broadcast},
};
use tokio_postgres::Client;

/// An application with tables and types under names that Rollcall uses too, and unqualified names in its functions.
const APPLICATION: &str = include_str!("installation.sql");

/// A database with the application in it, owned by `owner`.
struct Application {
    cluster: Cluster,
    admin: Client,
    target: MigrationTarget,
}

impl Application {
    /// Without `owner`, the role of the cluster owns the database and a superuser helps to install.
    async fn start(name: &str, owner: Option<&str>) -> Self {
        let cluster = Cluster::start_bare(name).await;
        let server = connect(&cluster.admin_url("postgres")).await;
        let mut url = cluster.url("app");
        if let Some(owner) = owner {
            let create = format!("create role {owner} login createrole password '{owner}'");
            server.batch_execute(&create).await.expect("a role");
            let (_, address) = url.split_once('@').expect("a URL with a user");
            url = format!("postgresql://{owner}:{owner}@{address}");
        }
        let create = format!("create database app owner {}", owner.unwrap_or("postgres"));
        server.batch_execute(&create).await.expect("a database");
        connect(&url).await.batch_execute(APPLICATION).await.expect("an application");
        let admin_url = cluster.admin_url("app");
        let admin = connect(&admin_url).await;
        let target = MigrationTarget {
            url: Secret::new(url),
            admin_url: owner.is_none().then(|| Secret::new(admin_url)),
        };
        Self { cluster, admin, target }
    }

    /// An empty database with the role that deploy/compose.yaml creates.
    async fn start_as_composed(name: &str) -> Self {
        let cluster = Cluster::start_bare(name).await;
        let server = connect(&cluster.admin_url("postgres")).await;
        server.batch_execute("create database app").await.expect("a database");
        let admin_url = cluster.admin_url("app");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/postgres/role.sql");
        let output = Command::new("psql")
            .args(["-X", "-v", "ON_ERROR_STOP=1", "-f", script, &admin_url])
            .env("ROLLCALL_PASSWORD", "it's one")
            .output()
            .expect("psql is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let url = cluster.url("app");
        let (_, address) = url.split_once('@').expect("a URL with a user");
        let url = format!("postgresql://rollcall:it%27s%20one@{address}");
        connect(&url).await.batch_execute(APPLICATION).await.expect("an application");
        let admin = connect(&admin_url).await;
        Self { cluster, admin, target: MigrationTarget { url: Secret::new(url), admin_url: None } }
    }

    async fn install(&self) {
        let report = prepare(&self.target, &Sources::built_in(), false).await.expect("it installs");
        assert_eq!(report.applied.len(), Sources::built_in().migrations.len());
    }

    async fn execute(&self, sql: &str) {
        let client = connect(self.target.url.expose()).await;
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    async fn count(&self, sql: &str) -> i64 {
        self.admin.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
    }

    async fn dump(&self) -> Dump {
        Dump::of(&self.cluster.admin_url("app"), &[]).await
    }

    async fn stop(self) {
        drop(self.admin);
        self.cluster.stop().await;
    }
}

/// Private channels under a policy with an unqualified helper, and presence with an unqualified audit trigger.
async fn serve(app: &Application) {
    let node = TestServer::start(app.target.url.expose(), |_| {}).await;
    let (member, stranger) = (User::new(), User::new());
    app.execute(&format!(
        "insert into members (room, user_id) values ('lobby', '{}');
         create policy members_read on realtime.messages for select to authenticated
           using (is_member(realtime.topic()));
         create policy members_write on realtime.messages for insert to authenticated
           with check (is_member(realtime.topic()));
         create trigger audit after insert or update on rollcall.user_presence
           for each row execute function audit_presence()",
        member.id
    ))
    .await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let refused = json!({"config": {"private": true}, "access_token": stranger.token});
    socket.join_error("realtime:lobby", refused).await;
    socket
        .join_private("realtime:lobby", &member.token, json!({"broadcast": {"ack": true, "self": true}}))
        .await;
    let reference = socket.broadcast("realtime:lobby", "e", json!({"a": 1})).await;
    assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok");
    assert_eq!(socket.next_broadcast("realtime:lobby").await, broadcast("e", json!({"a": 1})));
    app.execute(&format!(
        "select set_config('role', 'authenticated', false),
           set_config('request.jwt.claims', '{{\"sub\": \"{}\", \"role\": \"authenticated\"}}', false);
         select realtime.send('{{}}', 'from_sql', 'lobby', true)",
        member.id
    ))
    .await;
    assert_eq!(socket.next_broadcast("realtime:lobby").await["event"], "from_sql");
    // The policies do not apply to service_role, which may lack BYPASSRLS.
    let mut service = node.channel_client(SerializerVersion::V2).await;
    service.join_private("realtime:other", &service_user().token, json!({"broadcast": {"ack": true}})).await;
    let reference = service.broadcast("realtime:other", "e", json!({})).await;
    assert_eq!(service.wait_for_reply(&reference).await["status"], "ok");

    // A status that the server writes fires the application's trigger.
    let mut devices = node.socket(&member).await;
    devices.next_message().await;
    let audited = format!("select count(*) from public.audit where user_id = '{}'", member.id);
    let started = std::time::Instant::now();
    while app.count(&audited).await == 0 {
        assert!(started.elapsed() < WAIT_TIMEOUT, "the trigger did not fire");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    node.stop().await.expect("stops");
    app.execute("delete from audit; delete from members").await;
}

#[testkit::test]
async fn an_application_keeps_its_tables_and_a_removal_leaves_no_trace(_: Arc<TestDatabase>) {
    let app = Application::start("beside", None).await;
    let before = app.dump().await;
    app.install().await;
    serve(&app).await;
    let ours = "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relname = 'presence_nodes'";
    assert_eq!(app.count(ours).await, 0);
    assert_eq!(app.count("select count(*) from public.messages").await, 1);

    let removal = remove(&app.target).await.expect("it is removed");
    assert_eq!(removal.kept, []);
    app.dump().await.assert_equals(&before, "the database");
    let traces = "select count(*) from pg_roles where rolname in ('anon', 'authenticated', 'service_role',
        'authenticator', 'supabase_realtime_admin')";
    assert_eq!(app.count(traces).await, 0);
    assert_eq!(app.count("select count(*) from pg_event_trigger").await, 0);
    let error = remove(&app.target).await.expect_err("it is not installed");
    assert!(error.to_string().contains("not installed"), "{error}");
    // And again, in the same database.
    app.install().await;
    app.stop().await;
}

#[testkit::test]
async fn an_owner_without_superuser_installs_and_serves(_: Arc<TestDatabase>) {
    let app = Application::start("owner", Some("app_owner")).await;
    let before = app.dump().await;
    app.install().await;
    let bypasses = "select count(*) from pg_roles where rolname = 'service_role' and rolbypassrls";
    assert_eq!(app.count(bypasses).await, 0);
    assert_eq!(app.count("select count(*) from pg_event_trigger").await, 0);
    serve(&app).await;
    let removal = remove(&app.target).await.expect("it is removed");
    assert_eq!(removal.kept, []);
    app.dump().await.assert_equals(&before, "the database");
    app.stop().await;
}

#[testkit::test]
async fn the_role_of_the_compose_file_installs_and_serves(_: Arc<TestDatabase>) {
    let app = Application::start_as_composed("composed").await;
    let role = "select count(*) from pg_roles where rolname = 'rollcall' and not (rolsuper or rolcreatedb or rolbypassrls)";
    assert_eq!(app.count(role).await, 1);
    app.install().await;
    let bypasses = "select count(*) from pg_roles where rolname = 'service_role' and rolbypassrls";
    assert_eq!(app.count(bypasses).await, 1);
    serve(&app).await;

    // Row changes need the privilege to replicate.
    let node = TestServer::start(app.target.url.expose(), |_| {}).await;
    app.execute(
        "create table public.todos (id int primary key); grant select on public.todos to authenticated;
         alter publication supabase_realtime add table public.todos",
    )
    .await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let changes = json!([{"event": "*", "schema": "public", "table": "todos"}]);
    let join = json!({"config": {"postgres_changes": changes}, "access_token": User::new().token});
    assert_eq!(socket.try_join("realtime:todos", join).await["status"], "ok");
    assert_eq!(socket.wait_for("realtime:todos", "system").await.payload["status"], "ok");
    app.execute("insert into public.todos values (1)").await;
    socket.wait_for("realtime:todos", "postgres_changes").await;
    node.stop().await.expect("stops");
    app.stop().await;
}

/// Tables of the application that provide relations, in a database whose owner is no superuser: no event trigger tells of
/// dropped tables.
#[testkit::test]
async fn tables_of_the_application_need_no_superuser_and_keep_no_trace(_: Arc<TestDatabase>) {
    for owner in [None, Some("app_owner")] {
        let app = Application::start("tables", owner).await;
        app.execute(
            "create table seats (hall text, guest uuid, primary key (hall, guest));
             create index on seats (guest)",
        )
        .await;
        let before = app.dump().await;
        app.execute(
            "create table friends (one uuid, two uuid, since timestamptz);
             create index on friends (one);
             create index on friends (two);
             alter table friends enable row level security",
        )
        .await;
        app.install().await;
        app.execute(
            "select rollcall.use_table('contacts', 'friends', user_column => 'one', other_column => 'two',
               condition => 'since is not null');
             select rollcall.use_table('participants', 'seats', group_column => 'hall', user_column => 'guest')",
        )
        .await;
        let node = TestServer::start(app.target.url.expose(), |_| {}).await;
        let (a, b) = (User::new(), User::new());
        app.execute(&format!("select rollcall.set_status('{}', 'online')", b.id)).await;
        let mut socket = node.socket(&a).await;
        socket.next_message().await;
        app.execute(&format!("insert into friends values ('{}', '{}', now())", a.id, b.id)).await;
        socket.wait_until("friends", |socket| socket.shows_online(b.id)).await;
        app.execute("update friends set since = null").await;
        socket.wait_until("no friends", |socket| socket.hides(b.id)).await;
        app.execute(&format!(
            "update friends set since = now(); insert into seats values ('a:b', '{}')",
            a.id
        ))
        .await;
        socket.wait_until("friends again", |socket| socket.shows_online(b.id)).await;
        let path = "/api/conversations/a:b/typing";
        node.post(&a, path, json!({"is_typing": true})).await.expect_status(200);

        // Dropped and created again, which no trigger tells without a superuser.
        app.execute("begin; drop table friends; select from rollcall.sweep(); commit").await;
        let used = "select count(*) from rollcall.used_tables where not built_in";
        assert_eq!(app.count(used).await, 1);
        socket.wait_until("the table is dropped", |socket| socket.hides(b.id)).await;
        node.stop().await.expect("stops");
        app.execute(
            "create table friends (one uuid, two uuid, since timestamptz);
             create index on friends (one);
             create index on friends (two);
             alter table friends enable row level security;
             select rollcall.use_table('contacts', 'friends', user_column => 'one', other_column => 'two');
             delete from seats",
        )
        .await;
        let removal = remove(&app.target).await.expect("it is removed");
        assert_eq!(removal.kept, []);
        let triggers =
            "select count(*) from pg_trigger where not tgisinternal and tgrelid = 'friends'::regclass";
        assert_eq!(app.count(triggers).await, 0);
        app.execute("drop table friends").await;
        app.dump().await.assert_equals(&before, "the database");
        app.stop().await;
    }
}

/// A cluster of our own has the extensions and privileges of a local Supabase project. They can be taken away for good, and
/// no other database gets them.
#[testkit::test]
async fn a_cluster_of_our_own_looks_like_that_of_supabase(_: Arc<TestDatabase>) {
    let cluster = Cluster::start_bare("own-cluster").await;
    let server = connect(&cluster.admin_url("postgres")).await;
    for name in ["app", "other"] {
        server.batch_execute(&format!("create database {name}")).await.expect("a database");
        let admin = connect(&cluster.admin_url(name)).await;
        let grant =
            format!("grant create on database {name} to postgres; alter schema public owner to postgres");
        admin.batch_execute(&grant).await.expect("as the embedded cluster grants it");
    }
    let target = |name: &str| MigrationTarget {
        url: Secret::new(cluster.url(name)),
        admin_url: Some(Secret::new(cluster.admin_url(name))),
    };
    let privileges = "select count(*) from pg_default_acl";
    prepare(&target("other"), &Sources::built_in(), false).await.expect("it installs");
    let other = connect(&cluster.url("other")).await;
    assert_eq!(other.query_one(privileges, &[]).await.expect("a count").get::<_, i64>(0), 0);
    let extensions = "select count(*) from pg_extension where extname in ('pgcrypto', 'uuid-ossp')";
    assert_eq!(other.query_one(extensions, &[]).await.expect("a count").get::<_, i64>(0), 0);

    let sources = Sources::built_in().for_own_cluster();
    prepare(&target("app"), &sources, false).await.expect("it installs");
    let owner = connect(&cluster.url("app")).await;
    owner
        .batch_execute(
            "create table public.notes (id uuid primary key default uuid_generate_v4(), secret text default crypt('x', gen_salt('bf')));
             insert into public.notes default values;
             create sequence public.numbers;
             create function public.answer() returns int language sql as 'select 42';
             begin;
             set local role anon;
             select * from public.notes; select nextval('public.numbers'), public.answer();
             set local role authenticated;
             set local request.jwt.claims = '{\"email\": \"a@example.test\"}';
             insert into public.notes default values; delete from public.notes;
             do $$ begin assert auth.email() = 'a@example.test' and auth.uid() is null; end $$;
             commit",
        )
        .await
        .expect("the API roles may use what the owner creates");
    // The statements of docs/supabase.md take the privileges away, and the next start does not bring them back.
    let page = include_str!("../../docs/supabase.md");
    let statements: Vec<&str> =
        page.lines().filter(|line| line.starts_with("alter default privileges")).collect();
    assert_eq!(statements.len(), 3, "{statements:?}");
    owner.batch_execute(&statements.join("\n")).await.expect("the privileges are taken away");
    prepare(&target("app"), &sources, false).await.expect("again");
    owner.batch_execute("create table public.later (id int)").await.expect("a table");
    let granted = "select count(*) from information_schema.role_table_grants where table_name = 'later' and grantee = 'anon'";
    assert_eq!(owner.query_one(granted, &[]).await.expect("a count").get::<_, i64>(0), 0);

    owner.batch_execute("drop table public.notes, public.later; drop sequence public.numbers; drop function public.answer()").await.expect("dropped");
    assert_eq!(remove(&target("app")).await.expect("it is removed").kept, []);
    assert_eq!(remove(&target("other")).await.expect("it is removed").kept, []);
    let traces = "select (select count(*) from pg_default_acl) + (select count(*) from pg_db_role_setting)
        + (select count(*) from pg_roles where rolname = 'anon') + (select count(*) from pg_extension where extname <> 'plpgsql')";
    assert_eq!(owner.query_one(traces, &[]).await.expect("a count").get::<_, i64>(0), 0);
    drop((server, other, owner));
    cluster.stop().await;
}

/// Deleting an account erases the user's data, with every set of modules that stores some. A table of accounts that
/// Rollcall created is watched from the installation on, another one after a request.
#[testkit::test]
async fn a_deleted_account_is_erased_after_the_first_installation(_: Arc<TestDatabase>) {
    for (owner, modules, own_accounts) in [
        (Some("app_owner"), Modules::up_to(Module::Presence), false),
        (Some("app_owner"), Modules::ALL, true),
    ] {
        let app = Application::start("accounts", owner).await;
        if own_accounts {
            app.execute("create schema auth; create table auth.users (id uuid primary key, email text)")
                .await;
        }
        prepare(&app.target, &Sources::of_modules(Some(modules)), false).await.expect("it installs");
        let watched =
            "select count(*) from pg_trigger where tgrelid = 'auth.users'::regclass and not tgisinternal";
        assert_eq!(app.count(watched).await, i64::from(!own_accounts));
        if own_accounts {
            app.execute("select rollcall.watch_accounts('auth.users')").await;
        }
        let node = TestServer::start(app.target.url.expose(), |_| {}).await;
        let (gone, other) = (User::new(), User::new());
        app.execute(&format!(
            "insert into auth.users (id) values ('{0}'), ('{1}');
             insert into rollcall.contacts values ('{0}', '{1}', now());
             select rollcall.set_status('{0}', 'busy')",
            gone.id, other.id
        ))
        .await;
        let mut socket = node.socket(&other).await;
        socket.wait_until("the contact", |socket| socket.shows(gone.id, "online", "busy")).await;
        app.execute(&format!("delete from auth.users where id = '{}'", gone.id)).await;
        socket.wait_until("the account is deleted", |socket| socket.hides(gone.id)).await;
        let left = format!(
            "select (select count(*) from rollcall.user_presence where user_id = '{0}')
               + (select count(*) from rollcall.presence_devices where user_id = '{0}')
               + (select count(*) from rollcall.contacts)
               + (select count(*) from rollcall_internal.deleted_accounts)",
            gone.id
        );
        assert_eq!(app.count(&left).await, 0);
        node.stop().await.expect("stops");
        app.execute("delete from auth.users").await;
        assert_eq!(remove(&app.target).await.expect("it is removed").kept, []);
        app.stop().await;
    }
}

/// Roles and settings that defaults do not have: the superuser's statements before the installation, and the login.
const STRANGE: [(&str, &str, &str); 4] = [
    ("rights that are not inherited", "alter role app_owner noinherit", "app_owner"),
    (
        "a login that becomes another role",
        "create role rollcall login password 'rollcall' noinherit; grant app_owner to rollcall;
         alter role rollcall in database app set role = app_owner",
        "rollcall",
    ),
    (
        "settings of the database",
        "alter database app set default_transaction_read_only = on; alter database app set search_path = nowhere;
         alter database app set default_transaction_isolation = serializable;
         alter database app set statement_timeout = '1s'; alter database app set row_security = off;
         alter database app set check_function_bodies = off; alter database app set quote_all_identifiers = on;
         alter database app set plpgsql.variable_conflict = use_column;
         alter database app set standard_conforming_strings = off; alter database app set timezone = 'Asia/Kathmandu';
         alter database app set datestyle = 'German'; alter database app set intervalstyle = 'sql_standard';
         alter database app set array_nulls = off; alter database app set transform_null_equals = on",
        "app_owner",
    ),
    (
        "empty schemas with our names",
        "create schema realtime authorization app_owner; create schema auth authorization app_owner;
         create schema extensions authorization app_owner",
        "app_owner",
    ),
];

#[testkit::test]
async fn strange_roles_and_settings_need_no_superuser_and_keep_no_trace(_: Arc<TestDatabase>) {
    let cluster = Cluster::start_bare("strange").await;
    for (name, setup, login) in STRANGE {
        let server = connect(&cluster.admin_url("postgres")).await;
        server
            .batch_execute("create role app_owner login createrole password 'app_owner'")
            .await
            .expect("a role");
        server.batch_execute("create database app owner app_owner").await.expect("a database");
        let admin_url = cluster.admin_url("app");
        connect(&admin_url)
            .await
            .batch_execute(setup)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let before = Dump::of(&admin_url, &[]).await;
        let url = cluster.url("app");
        let (_, address) = url.split_once('@').expect("a URL with a user");
        let url = format!("postgresql://{login}:{login}@{address}");
        let target = MigrationTarget { url: Secret::new(url.clone()), admin_url: None };
        let installed = prepare(&target, &Sources::built_in(), false).await;
        installed.unwrap_or_else(|error| panic!("{name}: {error} {error:?}"));

        let node = TestServer::start(&url, |_| {}).await;
        let (user, other) = (User::new(), User::new());
        node.post(&user, "/api/presence/status", json!({"status": "busy"})).await.expect_status(200);
        node.post(&user, "/api/contacts", json!({"user_id": other.id})).await.expect_status(201);
        let mut socket = node.channel_client(SerializerVersion::V2).await;
        let admin = connect(&admin_url).await;
        let policy = "create policy everyone on realtime.messages for all to authenticated using (true) with check (true)";
        for statement in ["set default_transaction_read_only = off", policy] {
            admin.batch_execute(statement).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        }
        socket
            .join_private("realtime:lobby", &user.token, json!({"broadcast": {"ack": true, "self": true}}))
            .await;
        let reference = socket.broadcast("realtime:lobby", "e", json!({})).await;
        assert_eq!(socket.wait_for_reply(&reference).await["status"], "ok", "{name}");
        let failed = run_checks(&target.url, None, &Sources::built_in()).await;
        let failed: Vec<_> = failed.iter().filter(|check| !check.ok && check.name != "replication").collect();
        assert!(failed.is_empty(), "{name}: {failed:#?}");
        node.stop().await.expect("stops");
        drop(socket);

        let removal = remove(&target).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(removal.kept, [], "{name}");
        Dump::of(&admin_url, &[]).await.assert_equals(&before, name);
        drop(admin);
        server.batch_execute("drop database app with (force)").await.expect("dropped");
        server.batch_execute("drop role if exists rollcall").await.expect("dropped");
        server.batch_execute("drop role app_owner").await.expect("nothing is left of it");
    }
    cluster.stop().await;
}

/// Obstacles in schemas that the installing role may not even look into.
#[testkit::test]
async fn schemas_of_other_roles_are_reported(_: Arc<TestDatabase>) {
    let app = Application::start("others", Some("app_owner")).await;
    let schemas =
        "create schema rollcall; create schema realtime; create schema auth; create schema extensions";
    app.admin.batch_execute(schemas).await.expect("schemas");
    let before = app.dump().await;
    let error = prepare(&app.target, &Sources::built_in(), false).await.expect_err("it is blocked");
    let MigrateError::Blocked(problems) = &error else { panic!("{error}") };
    for expected in ["schema rollcall: exists", "schema realtime: lacks", "schema auth: lacks"] {
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected}: {problems:#?}");
    }
    app.dump().await.assert_equals(&before, "the database");
    app.admin.batch_execute("drop schema rollcall, realtime, auth, extensions").await.expect("dropped");

    app.install().await;
    let other = "create role other login createrole password 'other'; grant create on database app to other";
    app.admin.batch_execute(other).await.expect("a role");
    let other_url = app.target.url.expose().replacen("app_owner:app_owner", "other:other", 1);
    let target = MigrationTarget { url: Secret::new(other_url), admin_url: None };
    let error = prepare(&target, &Sources::built_in(), false).await.expect_err("it is blocked");
    assert!(error.to_string().contains("schema rollcall: belongs to the role app_owner"), "{error}");
    app.stop().await;
}

#[testkit::test]
async fn every_collision_is_reported_and_nothing_is_written(_: Arc<TestDatabase>) {
    let app = Application::start("collisions", None).await;
    app.execute(
        "create schema rollcall; create table rollcall.people (id int);
         create schema realtime; create table realtime.messages (id int, body text);
         create schema auth; create function auth.uid() returns text language sql as 'select null::text'",
    )
    .await;
    let before = app.dump().await;
    let error = prepare(&app.target, &Sources::built_in(), true).await.expect_err("it is blocked");
    let MigrateError::Blocked(problems) = &error else { panic!("{error}") };
    let expected =
        ["schema rollcall: exists", "function auth.uid(): returns text", "table realtime.messages: lacks"];
    for expected in expected {
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected}: {problems:#?}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    app.dump().await.assert_equals(&before, "the database");
    assert_eq!(app.count("select count(*) from pg_roles where rolname = 'anon'").await, 0);

    // Statements of the application that refuse every other one.
    app.execute("drop schema rollcall, realtime, auth cascade").await;
    let raises = "create function public.no() returns event_trigger language plpgsql as
          $$ begin raise exception 'no DDL here'; end $$;
        create event trigger no on ddl_command_end execute function public.no()";
    app.admin.batch_execute(raises).await.expect("an event trigger");
    let before = app.dump().await;
    let error = prepare(&app.target, &Sources::built_in(), true).await.expect_err("the trigger raises");
    assert!(error.to_string().contains("no DDL here"), "{error}");
    app.dump().await.assert_equals(&before, "the database");
    assert_eq!(app.count("select count(*) from pg_roles where rolname = 'anon'").await, 0);
    app.admin.batch_execute("drop event trigger no; drop function public.no()").await.expect("dropped");

    // A database of the versions before the schemas.
    app.execute(
        "create schema rollcall;
         create function rollcall.void_sight(uuid[], uuid[], text) returns void language sql as ''",
    )
    .await;
    let error = prepare(&app.target, &Sources::built_in(), true).await.expect_err("it is refused");
    assert!(error.to_string().contains("rm -r .rollcall/pg"), "{error}");
    app.stop().await;
}

#[testkit::test]
async fn a_removal_is_refused_while_other_objects_depend_on_rollcall(_: Arc<TestDatabase>) {
    let app = Application::start("dependents", None).await;
    app.install().await;
    app.execute("create view public.who as select user_id, status from rollcall.user_presence").await;
    let before = app.dump().await;
    let error = remove(&app.target).await.expect_err("a view depends on it");
    assert!(error.to_string().contains("view who"), "{error}");
    app.dump().await.assert_equals(&before, "the database");

    // A role with a grant of the application stays, and is reported.
    app.execute("drop view public.who; grant select on public.messages to authenticated").await;
    let removal = remove(&app.target).await.expect("it is removed");
    assert_eq!(removal.kept.len(), 1, "{removal:?}");
    assert!(removal.kept[0].0.contains("drop role if exists authenticated"), "{removal:?}");
    app.stop().await;
}

#[testkit::test]
async fn a_publication_that_is_created_again_gets_its_table_back(_: Arc<TestDatabase>) {
    let published = "select count(*) from pg_publication_tables
        where pubname = 'supabase_realtime' and schemaname = 'rollcall' and tablename = 'user_presence'";
    for owner in [None, Some("app_owner")] {
        let app = Application::start("publication", owner).await;
        app.install().await;
        assert_eq!(app.count(published).await, 1);
        app.execute("drop publication supabase_realtime; create publication supabase_realtime").await;
        // Without an event trigger the next sweep adds it.
        app.execute("select from rollcall.sweep()").await;
        assert_eq!(app.count(published).await, 1);
        // A table that was dropped from the publication stays out.
        app.execute("alter publication supabase_realtime drop table rollcall.user_presence").await;
        app.execute("select from rollcall.sweep()").await;
        assert_eq!(app.count(published).await, 0);
        app.stop().await;
    }
}
