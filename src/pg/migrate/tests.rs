//! Against a real cluster of our own, with files as small as can be.

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
                "-- One; table.\ncreate table public.a (id int);\ncreate view public.v as select 1;",
            ),
            file("20250102000000_second.sql", "alter table public.a add column b text;"),
        ],
        after: vec![file("10_after.sql", "create or replace view public.after as select b from public.a;")],
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
    let rows = client
        .query(
            "select version, name, statements from supabase_migrations.schema_migrations order by version",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(rows[0].get::<_, String>(0), "20250101000000");
    assert_eq!(rows[0].get::<_, String>(1), "first");
    let statements: Vec<String> = rows[0].get(2);
    assert_eq!(
        statements,
        ["-- One; table.\ncreate table public.a (id int)", "create view public.v as select 1"]
    );
    let owner = "select tableowner::text from pg_tables where tablename = 'a'";
    assert_eq!(client.query_one(owner, &[]).await.unwrap().get::<_, String>(0), "postgres");
    assert!(pending(&client, &sources.migrations).await.unwrap().is_empty());
    fixture.end().await;
}

#[tokio::test]
async fn a_failed_migration_is_reported_with_its_line_and_rolled_back() {
    let fixture = Fixture::start().await;
    let mut sources = sources();
    sources.migrations[1] =
        file("20250102000000_second.sql", "create table public.c ();\n\n-- Wrong:\nselect 1\nfrom nowhere;");
    let failure = prepare(&fixture.target, &sources, false).await.unwrap_err();
    let told = failure.to_string();
    assert_eq!(told, "20250102000000_second.sql, line 5: relation \"nowhere\" does not exist");

    let client = connect(&fixture.target.url).await.unwrap();
    let left = client.query_one("select to_regclass('public.c') is null", &[]).await.unwrap();
    assert!(left.get::<_, bool>(0));
    assert_eq!(pending(&client, &sources.migrations).await.unwrap(), ["20250102000000_second.sql"]);
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
async fn without_a_superuser_the_error_names_the_missing_objects() {
    let fixture = Fixture::start().await;
    let target = MigrationTarget { admin_url: None, ..fixture.target.clone() };
    let told = prepare(&target, &sources(), false).await.unwrap_err().to_string();
    assert!(told.contains("the role authenticated") && told.contains("auth.users"), "{told}");
    assert!(told.contains("postgres may not make that"), "{told}");
    fixture.end().await;
}

#[tokio::test]
async fn a_database_out_of_reach_is_said_in_one_sentence() {
    let target =
        MigrationTarget { url: Secret::new("postgresql://a:hunter2@127.0.0.1:1/x"), admin_url: None };
    let told = prepare(&target, &sources(), false).await.unwrap_err().to_string();
    assert_eq!(told, "cannot connect to the database: is it running, and is DATABASE_URL right?");
}

#[test]
fn a_badly_named_migration_is_refused() {
    for name in ["init.sql", "2025_x.sql", "20250101000000.sql", "20250101000000_x.txt"] {
        assert!(Migration::parse(&file(name, "")).is_err(), "{name}");
    }
}
