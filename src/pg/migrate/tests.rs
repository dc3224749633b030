//! Against an embedded cluster, with small files.

use std::path::PathBuf;

use super::*;
use crate::pg::embedded::EmbeddedCluster;

fn file(name: &'static str, text: &'static str) -> SqlFile {
    SqlFile { name: name.into(), text: text.into() }
}

fn sources() -> Sources {
    Sources {
        bootstrap: vec![file(
            "10_roles.sql",
            "do $$ begin
               if not exists (select from pg_roles where rolname = 'anon') then create role anon; end if;
             end $$;",
        )],
        migrations: vec![
            file(
                "20250101000000_first.sql",
                "-- One; table.
                 create schema rollcall;
                 create table rollcall.schema_migrations (version text primary key, name text);
                 create schema rollcall_internal;
                 create table rollcall_internal.seed_files (path text primary key, hash text);
                 create table public.a (id int);
                 create view public.v as select ';';
                 insert into rollcall.schema_migrations values ('20250101000000', 'first');",
            ),
            file(
                "20250102000000_second.sql",
                "alter table public.a add column b text;
                 insert into rollcall.schema_migrations values ('20250102000000', 'second');",
            ),
        ],
        after: vec![file("10_after.sql", "create or replace view public.after as select b from public.a;")],
        modules: None,
        seed: Some(file("seed.sql", "insert into public.a values (1, 'x');")),
    }
}

struct Fixture {
    dir: PathBuf,
    cluster: EmbeddedCluster,
    target: MigrationTarget,
}

impl Fixture {
    async fn start() -> Self {
        let dir = std::env::temp_dir().join(format!("rollcall-migrate-{}", uuid::Uuid::new_v4()));
        let cluster = EmbeddedCluster::start(&dir).await.expect("starts");
        let urls = cluster.urls().clone();
        Self { dir, cluster, target: MigrationTarget { url: urls.url, admin_url: Some(urls.admin_url) } }
    }

    async fn end(self) {
        self.cluster.stop().await.expect("stops");
        std::fs::remove_dir_all(self.dir).expect("is ours");
    }
}

#[tokio::test]
async fn preparing_twice_changes_nothing_the_second_time() {
    let fixture = Fixture::start().await;
    let sources = sources();
    let report = prepare(&fixture.target, &sources, true).await.unwrap();
    assert_eq!(report.applied, ["20250101000000_first.sql", "20250102000000_second.sql"]);
    assert!(report.seeded);
    assert_eq!(prepare(&fixture.target, &sources, true).await.unwrap(), Report::default());

    let client = connect(&fixture.target.url).await.unwrap();
    assert_eq!(History::read(&client).await.unwrap().versions, ["20250101000000", "20250102000000"]);
    let owner = "select tableowner::text from pg_tables where tablename = 'a'";
    assert_eq!(client.query_one(owner, &[]).await.unwrap().get::<_, String>(0), "postgres");
    assert!(pending(&client, &sources).await.unwrap().is_empty());
    fixture.end().await;
}

#[tokio::test]
async fn a_failed_migration_is_reported_with_its_line_and_nothing_is_changed() {
    let fixture = Fixture::start().await;
    let mut sources = sources();
    sources.migrations[1] =
        file("20250102000000_second.sql", "create table public.c ();\n\n-- Wrong:\nselect 1\nfrom nowhere;");
    let failure = prepare(&fixture.target, &sources, false).await.unwrap_err();
    assert_eq!(failure.to_string(), "20250102000000_second.sql, line 5: relation \"nowhere\" does not exist");

    let client = connect(&fixture.target.url).await.unwrap();
    let left = "select to_regclass('public.c') is null and to_regnamespace('rollcall') is null";
    assert!(client.query_one(left, &[]).await.unwrap().get::<_, bool>(0));
    assert_eq!(pending(&client, &sources).await.unwrap().len(), 2);

    sources.migrations[1] = file("20250102000000_second.sql", "select 1;");
    let failure = prepare(&fixture.target, &sources, false).await.unwrap_err();
    assert!(matches!(failure, MigrateError::Unrecorded(_)), "{failure}");
    fixture.end().await;
}

#[tokio::test]
async fn a_dry_run_prints_a_script_and_changes_nothing() {
    let fixture = Fixture::start().await;
    let script = dry_run(&fixture.target, &sources()).await.unwrap();
    assert!(script.starts_with("begin;") && script.ends_with("commit;\n"), "{script}");
    for part in ["create role anon", "set local role \"postgres\"", "create table public.a", "public.after"] {
        assert!(script.contains(part), "{part}: {script}");
    }
    let client = connect(&fixture.target.url).await.unwrap();
    assert_eq!(pending(&client, &sources()).await.unwrap().len(), 2);
    fixture.end().await;
}

#[tokio::test]
async fn concurrent_servers_apply_each_migration_once() {
    let fixture = Fixture::start().await;
    let sources = sources();
    let all = futures_util::future::join_all((0..4).map(|_| prepare(&fixture.target, &sources, true))).await;
    let applied: usize = all.iter().map(|report| report.as_ref().unwrap().applied.len()).sum();
    assert_eq!(applied, 2);
    assert_eq!(all.iter().filter(|report| report.as_ref().unwrap().seeded).count(), 1);
    fixture.end().await;
}

#[tokio::test]
async fn every_missing_right_is_reported_at_once() {
    let fixture = Fixture::start().await;
    let admin = connect(fixture.target.admin_url.as_ref().unwrap()).await.unwrap();
    admin.batch_execute("create role weak login password 'weak'; create role anon").await.unwrap();
    let url = fixture.target.url.expose();
    let (_, address) = url.split_once('@').unwrap();
    let target =
        MigrationTarget { url: Secret::new(format!("postgresql://weak:weak@{address}")), admin_url: None };
    let failure = prepare(&target, &sources(), false).await.unwrap_err();
    let MigrateError::Blocked(problems) = &failure else { panic!("{failure}") };
    let expected = [
        "role weak: may not create schemas",
        "role authenticated: is missing, and weak may not create roles",
        "role service_role: is missing",
        "role weak: may not become anon",
    ];
    for expected in expected {
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected}: {problems:#?}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    fixture.end().await;
}

#[tokio::test]
async fn a_database_out_of_reach_is_reported_in_one_sentence() {
    let target =
        MigrationTarget { url: Secret::new("postgresql://a:hunter2@127.0.0.1:1/x"), admin_url: None };
    let message = prepare(&target, &sources(), false).await.unwrap_err().to_string();
    assert_eq!(message, "cannot connect to the database: is it running, and is DATABASE_URL right?");
}

#[test]
fn a_badly_named_migration_is_refused() {
    for name in ["init.sql", "2025_x.sql", "20250101000000.sql", "20250101000000_x.txt"] {
        assert!(Migration::parse(&file(name, "")).is_err(), "{name}");
    }
}
