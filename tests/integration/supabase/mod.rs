//! Supabase projects: migrations run with the role available there, change nothing that Supabase owns, and upgrade
//! every earlier database without losing data.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use rollcall::{
    config::Secret,
    model::{Module, Modules},
    pg::migrate::{MigrationTarget, Report, Sources, apply, prepare, remove},
};
use serde_json::Value;
use testkit::{
    cluster::{Cluster, connect},
    dump::Dump,
    harness::{TestDatabase, TestServer, User, WAIT_TIMEOUT},
};
use tokio_postgres::Client;

/// Query of the catalog entries that Supabase owns.
const OWNED_OBJECTS: &str = include_str!("owned.sql");
const COUNT_STALE_FACES: &str = include_str!("stale.sql");

/// A separate cluster, because Supabase's roles belong to a cluster.
struct SupabaseProject {
    cluster: Cluster,
    admin: Client,
}

impl SupabaseProject {
    async fn start(name: &str) -> Self {
        let cluster = Cluster::start_bare(name).await;
        let admin = connect(&cluster.admin_url("postgres")).await;
        admin.batch_execute(include_str!("project.sql")).await.expect("a project");
        Self { cluster, admin }
    }

    /// URL of a database with the project owner, who is not a superuser.
    fn url(&self, database: &str) -> String {
        self.cluster.url(database)
    }

    async fn stop(self) {
        drop(self.admin);
        self.cluster.stop().await;
    }
}

#[testkit::test]
async fn migrations_run_as_the_project_role_and_change_no_supabase_objects(_: Arc<TestDatabase>) {
    let project = SupabaseProject::start("supabase").await;
    let url = project.url("postgres");
    let target = MigrationTarget { url: Secret::new(url.clone()), admin_url: None };
    let owned_objects =
        async || project.admin.query_one(OWNED_OBJECTS, &[]).await.expect("catalogs").get::<_, String>(0);
    let before = owned_objects().await;
    assert!(before.contains("function auth.uid()"), "{before}");

    let report = prepare(&target, &Sources::built_in(), true).await.expect("the migrations apply");
    assert_eq!(report.applied.len(), Sources::built_in().migrations.len());
    assert!(report.seeded);
    assert_untouched(&before, &owned_objects().await);
    let again = prepare(&target, &Sources::built_in(), true).await.expect("again");
    assert_eq!(again, Report::default());
    assert_untouched(&before, &owned_objects().await);

    // The server needs no privilege that the owner lacks.
    let sql = connect(&url).await;
    let node = TestServer::start(&url, |_| {}).await;
    let (viewer, subject) = (User::new(), User::new());
    sql.execute("insert into rollcall.contacts values ($1, $2, now())", &[&viewer.id, &subject.id])
        .await
        .expect("a contact");
    let mut socket = node.socket(&viewer).await;
    socket.next_message().await;
    sql.execute("select rollcall.set_status($1, 'busy')", &[&subject.id]).await.expect("a status");
    socket.wait_until("busy", |socket| socket.shows(subject.id, "online", "busy")).await;
    sql.batch_execute("create policy nobody on rollcall.user_presence as restrictive for select to authenticated using (face = 'trusted')")
        .await
        .expect("a policy");
    // There is no event trigger here; the next poll finds the policy.
    sql.execute("select rollcall.set_status($1, 'away')", &[&subject.id]).await.expect("a status");
    socket.wait_until("a policy counts", |socket| socket.hides(subject.id)).await;
    node.stop().await.expect("stops");
    drop(sql);
    project.stop().await;
}

#[testkit::test]
async fn every_migration_upgrades_a_database_with_data_in_it(_: Arc<TestDatabase>) {
    let project = SupabaseProject::start("upgrade").await;
    let sources = Sources::built_in();
    let (all, seed) = (&sources.migrations, &sources.seed.as_ref().expect("demo data").text);
    let mut sql = connect(&project.url("postgres")).await;
    let mut kept = BTreeMap::new();
    for count in 1..=all.len() {
        let name = &*all[count - 1].name;
        let applied = apply(&mut sql, &all[..count]).await;
        assert_eq!(applied.unwrap_or_else(|error| panic!("{name}: {error:?}")), [name]);
        for (table, rows) in kept {
            let lost = format!(
                "select old.row from jsonb_array_elements($1) old (row)
                 where not exists (select from {table} t where to_jsonb(t) @> old.row)"
            );
            let lost = sql.query(&lost, &[&rows]).await.expect("a comparison");
            let lost: Vec<Value> = lost.iter().map(|row| row.get(0)).collect();
            assert!(lost.is_empty(), "{name} lost rows of {table}: {lost:?}");
        }
        let loaded = run_demo_data(&sql, seed).await;
        let has_presence = name.contains("_presence");
        assert!(
            loaded > 2 || !has_presence,
            "only {loaded} statements of the demo data applied after {name}"
        );
        kept = all_rows(&sql).await;
        if kept.get("rollcall.user_presence").is_some_and(|rows| *rows != Value::Array(vec![])) {
            let stale: i64 = sql.query_one(COUNT_STALE_FACES, &[]).await.expect("faces").get(0);
            assert_eq!(stale, 0, "after {name}");
        }
    }
    assert_ne!(kept["rollcall.user_presence"], Value::Array(vec![]));
    drop(sql);
    project.stop().await;
}

/// Applies the first migrations as the Supabase CLI does: one file after the other, each in a transaction.
fn apply_with_psql(url: &str, count: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("supabase/migrations");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("migrations").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    for file in &files[..count] {
        let output = Command::new("psql")
            .args(["-Xq1", "-v", "ON_ERROR_STOP=1", "-f"])
            .args([file.as_os_str(), url.as_ref()])
            .output()
            .expect("psql is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[testkit::test]
async fn migrations_of_the_supabase_cli_end_in_the_state_of_the_server(_: Arc<TestDatabase>) {
    let cluster = Cluster::start_bare("cli").await;
    let server = connect(&cluster.admin_url("postgres")).await;
    server.batch_execute("create database project owner postgres").await.expect("a database");
    connect(&cluster.admin_url("project"))
        .await
        .batch_execute(include_str!("project.sql"))
        .await
        .expect("a project");
    let modules = [Module::Channels, Module::Presence, Module::Context];
    for (number, module) in modules.into_iter().enumerate() {
        let (by_cli, by_server) = (format!("cli_{number}"), format!("server_{number}"));
        for name in [&by_cli, &by_server] {
            copy_project(&server, name).await;
        }
        apply_with_psql(&cluster.url(&by_cli), number + 1);
        let target = |name| MigrationTarget { url: Secret::new(cluster.url(name)), admin_url: None };
        let sources = Sources::of_modules(Some(Modules::up_to(module)));
        prepare(&target(&by_server), &sources, false).await.expect("the migrations apply");
        let dump = async |name| Dump::of(&cluster.admin_url(name), &["--schema-only"]).await;
        dump(&by_cli).await.assert_equals(&dump(&by_server).await, module.as_str());
        // The migrations have recorded themselves, in the history of Rollcall only.
        assert_eq!(prepare(&target(&by_cli), &sources, false).await.expect("again"), Report::default());
        let history =
            "select string_agg(version || '_' || name, ' ' order by version) from rollcall.schema_migrations";
        let mut histories = Vec::new();
        for name in [&by_cli, &by_server] {
            let client = connect(&cluster.url(name)).await;
            histories.push(client.query_one(history, &[]).await.expect("a history").get::<_, String>(0));
            let theirs = "select to_regclass('supabase_migrations.schema_migrations') is null";
            assert!(client.query_one(theirs, &[]).await.expect("a row").get::<_, bool>(0));
        }
        assert_eq!(histories[0], histories[1]);
        assert_eq!(remove(&target(&by_cli)).await.expect("it is removed").kept, []);
    }
    drop(server);
    cluster.stop().await;
}

/// Copies the database of the project. The connections that created it may take a moment to close.
async fn copy_project(server: &Client, name: &str) {
    let create = format!("create database {name} template project owner postgres");
    let started = Instant::now();
    while let Err(error) = server.batch_execute(&create).await {
        assert!(started.elapsed() < WAIT_TIMEOUT, "{create}: {error:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Checks that no catalog entry of Supabase changed; reports only the differences.
#[track_caller]
fn assert_untouched(before: &str, after: &str) {
    let changed: Vec<&str> = after.lines().filter(|line| !before.lines().any(|old| old == *line)).collect();
    let gone: Vec<&str> = before.lines().filter(|line| !after.lines().any(|new| new == *line)).collect();
    assert!(changed.is_empty() && gone.is_empty(), "created or changed: {changed:#?}; dropped: {gone:#?}");
}

/// Runs the statements of the demo data whose tables exist; returns their number.
async fn run_demo_data(sql: &Client, seed: &str) -> usize {
    let mut loaded = 0;
    for statement in seed.split(";\n") {
        match sql.batch_execute(statement).await {
            Ok(()) => loaded += 1,
            // A table, column, function or type of a later migration.
            Err(error)
                if error
                    .code()
                    .is_some_and(|code| ["42P01", "42703", "42883", "42704"].contains(&code.code())) => {}
            Err(error) => panic!("{statement}: {error:?}"),
        }
    }
    loaded
}

/// Returns all rows of all tables in `public`, by table.
async fn all_rows(sql: &Client) -> BTreeMap<String, Value> {
    let tables = "select c.oid::regclass::text from pg_class c where c.relnamespace = 'rollcall'::regnamespace and c.relkind = 'r'";
    let mut all = BTreeMap::new();
    for table in sql.query(tables, &[]).await.expect("tables") {
        let table: String = table.get(0);
        let rows = format!("select coalesce(jsonb_agg(to_jsonb(t)), '[]') from {table} t");
        all.insert(table, sql.query_one(&rows, &[]).await.expect("rows").get(0));
    }
    all
}

/// Settings that the Supabase CLI accepts; it rejects or ignores others.
const KNOWN_SETTINGS: [(&str, &[&str]); 10] = [
    ("", &["project_id"]),
    ("api", &["enabled", "port", "schemas", "extra_search_path", "max_rows"]),
    ("db", &["port", "shadow_port", "major_version"]),
    ("db.migrations", &["enabled", "schema_paths"]),
    ("db.seed", &["enabled", "sql_paths"]),
    ("realtime", &["enabled"]),
    ("studio", &["enabled", "port", "api_url"]),
    ("auth", &["enabled", "site_url", "additional_redirect_urls", "jwt_expiry", "enable_signup"]),
    ("edge_runtime", &["enabled", "policy", "inspector_port", "deno_version"]),
    ("analytics", &["enabled", "port", "backend"]),
];
const KNOWN_FUNCTION_SETTINGS: [&str; 5] =
    ["enabled", "verify_jwt", "import_map", "entrypoint", "static_files"];

#[test]
fn the_supabase_cli_can_read_the_project() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("supabase");
    let text = std::fs::read_to_string(root.join("config.toml")).expect("the settings");
    let mut section = String::new();
    let mut functions = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
            functions.extend(name.strip_prefix("functions.").map(str::to_owned));
            continue;
        }
        let (key, value) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
        let known = match section.strip_prefix("functions.") {
            Some(_) => &KNOWN_FUNCTION_SETTINGS[..],
            None => {
                KNOWN_SETTINGS
                    .iter()
                    .find(|(name, _)| *name == section)
                    .unwrap_or_else(|| panic!("[{section}]"))
                    .1
            }
        };
        assert!(known.contains(&key), "[{section}] {key}");
        // Paths are relative to the project.
        for path in value.split('"').filter(|part| part.starts_with("./")) {
            assert!(root.join(path.trim_end_matches("*.sql")).exists(), "{path}");
        }
    }
    for function in functions {
        assert!(root.join("functions").join(&function).join("deno.json").exists(), "{function}");
    }

    // File names as the CLI sorts and records them.
    let mut versions = Vec::new();
    for entry in std::fs::read_dir(root.join("migrations")).expect("migrations") {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        let (version, rest) = name.split_once('_').expect("a version and a name");
        assert!(version.len() == 14 && version.bytes().all(|digit| digit.is_ascii_digit()), "{name}");
        assert!(rest.ends_with(".sql"), "{name}");
        versions.push(version.to_owned());
    }
    let count = versions.len();
    versions.sort();
    versions.dedup();
    assert_eq!(versions.len(), count, "a version stands for one migration");
}
