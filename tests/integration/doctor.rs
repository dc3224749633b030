//! `rollcall doctor --json` against databases with one fault at a time. The right check fails, no other does, and its
//! SQL remedy fixes the fault. The test fails if a check has no fault here.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Child, Stdio},
    sync::Arc,
};

use serde::Deserialize;
use testkit::{
    cluster::{Cluster, connect},
    harness::{TestDatabase, WAIT_TIMEOUT},
};
use tokio::{process::Command, time::Instant};
use tokio_postgres::Client;

/// One check in the JSON output.
#[derive(Debug, Deserialize)]
struct CheckResult {
    name: String,
    ok: bool,
    finding: String,
    remedy_sql: Option<String>,
}

/// Runs the doctor; returns whether it succeeded, and its output.
async fn run_doctor(url: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rollcall"))
        .arg("doctor")
        .args(args)
        .current_dir(std::env::temp_dir())
        .env_clear()
        .env("DATABASE_URL", url)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("the binary runs");
    (output.status.success(), String::from_utf8(output.stdout).expect("text"))
}

async fn check_results(url: &str) -> Vec<CheckResult> {
    let (is_well, output) = run_doctor(url, &["--json"]).await;
    let checks: Vec<CheckResult> =
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"));
    assert_eq!(is_well, checks.iter().all(|check| check.ok), "the exit status agrees");
    assert!(
        checks.iter().all(|check| !check.ok || check.remedy_sql.is_none()),
        "only failed checks have a remedy"
    );
    checks
}

fn failed_checks(checks: &[CheckResult]) -> Vec<&str> {
    checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect()
}

/// A fault that SQL can fix.
struct Fault {
    /// Name of the check that fails.
    check: &'static str,
    /// SQL that causes the fault; run by a superuser.
    cause: &'static str,
    /// Checks that fail too, or that fail once this fault is fixed.
    doctor_args: &'static [&'static str],
    /// SQL that cleans up after the fix.
    wait_for: &'static str,
}

const fn fault(check: &'static str, by: &'static str) -> Fault {
    Fault { check, cause: by, doctor_args: &[], wait_for: "" }
}

const FAULTS: [Fault; 41] = [
    fault("replication", "alter role postgres noreplication"),
    Fault {
        check: "roles",
        cause: "alter role anon rename to gone",
        doctor_args: &["role_membership"],
        wait_for: "drop role anon; alter role gone rename to anon",
    },
    fault("role_membership", "revoke authenticated from postgres"),
    fault("auth_uid", "drop function auth.jwt()"),
    fault("row_level_security", "create table public.open (); grant select on public.open to anon"),
    Fault { doctor_args: &["presence_published"], ..fault("publication", "drop publication supabase_realtime") },
    fault("relay_publication", "drop publication rollcall_relay"),
    fault("messages", "alter table realtime.messages disable row level security"),
    Fault {
        wait_for: "alter role postgres bypassrls",
        ..fault("messages_probe", "alter role postgres nobypassrls; revoke supabase_realtime_admin from postgres")
    },
    fault("messages_heard", "drop trigger rollcall_messages on realtime.messages"),
    fault(
        "messages_partition",
        "do $$ begin execute format('drop table realtime.messages_%s', to_char(now() at time zone 'utc', 'YYYY_MM_DD')); end $$",
    ),
    fault(
        "published_tables",
        "create table public.keyless (a int); alter table public.keyless enable row level security;
         alter publication supabase_realtime add table public.keyless",
    ),
    fault(
        "published_tables",
        "create table public.unkeyed (a int not null, b int, unique (b)); create unique index on public.unkeyed (a);
         alter table public.unkeyed enable row level security;
         alter publication supabase_realtime add table public.unkeyed",
    ),
    Fault {
        wait_for: "grant pg_read_all_data to postgres",
        ..fault(
        "policy_functions",
        "revoke pg_read_all_data from postgres; create schema vault authorization supabase_admin;
         create function vault.opens() returns boolean language sql as 'select true';
         create table public.papers (id int primary key); alter table public.papers enable row level security;
         create policy p on public.papers for select using (vault.opens());
         alter publication supabase_realtime add table public.papers;
         insert into rollcall.change_settings values ('public.papers', true)",
    )},
    fault("service_role_bypasses", "alter role service_role nobypassrls"),
    fault("browsers_do_not_bypass", "alter role authenticated bypassrls"),
    fault("schema_usage", "revoke usage on schema rollcall from authenticated"),
    fault("schema_usage", "revoke usage on schema auth from service_role"),
    fault("own_row_level_security", "alter table rollcall_internal.outbox disable row level security"),
    fault(
        "server_rights",
        "alter table rollcall_internal.outbox owner to supabase_admin; revoke all on rollcall_internal.outbox from postgres",
    ),
    fault("api_grants", "revoke select on rollcall.user_presence from authenticated"),
    fault("api_grants", "revoke delete on rollcall.contacts from service_role"),
    fault("browsers_write_no_faces", "grant update (status) on rollcall.user_presence to authenticated"),
    fault(
        "functions_closed",
        "grant execute on function rollcall.sweep(interval, interval, boolean, integer) to public",
    ),
    fault("functions_granted", "revoke execute on function rollcall.my_visible_users() from authenticated"),
    fault("search_path_pinned", "alter function rollcall.my_visible_users() reset search_path"),
    fault("triggers", "drop trigger refresh_after_update on rollcall.presence_devices"),
    fault("triggers", "drop trigger invalidate_after_delete on rollcall.blocks"),
    fault("triggers", "drop trigger notify_after_insert on rollcall.user_presence"),
    fault("triggers", "drop trigger context_after_update on rollcall.memories"),
    fault("triggers", "alter table rollcall.messages disable trigger context_after_insert"),
    fault("triggers", "alter table rollcall.atomic_chat_units enable trigger context_after_update"),
    fault("triggers", "drop trigger enqueue_warm_up on rollcall.presence_devices"),
    fault("triggers", "alter table rollcall.presence_settings disable trigger invalidate_after_update"),
    fault("policy_watch", "alter event trigger rollcall_policy_watch disable"),
    fault("policy_watch", "alter event trigger rollcall_authorization_watch disable"),
    // A policy created while no server was connected.
    fault(
        "sources_watched",
        "create table public.theirs (a uuid, b uuid); alter table public.theirs enable row level security;
         grant select on public.theirs to authenticated;
         alter event trigger rollcall_policy_watch disable;
         create policy theirs on rollcall.user_presence for select to authenticated using (exists (select from public.theirs));
         alter event trigger rollcall_policy_watch enable",
    ),
    fault(
        "own_tables",
        "create table public.pals (a uuid, b uuid); alter table public.pals owner to postgres;
         select rollcall.use_table('contacts', 'public.pals', 'a', 'b');
         alter table public.pals disable trigger rollcall_follow_contacts_update",
    ),
    fault(
        "webhooks",
        "insert into rollcall.webhooks (url) values ('https://receiver.example/');
         insert into rollcall_internal.dead_letters (webhook_id, event_id, type, data, occurred_at, attempts, last_error)
           select id, 1, 'user.online', '{}', now(), 12, 'status 500' from rollcall.webhooks",
    ),
    fault("presence_published", "alter publication supabase_realtime drop table rollcall.user_presence"),
    fault("presence_published", "alter event trigger rollcall_policy_watch disable;
         drop publication supabase_realtime; create publication supabase_realtime for table rollcall.contacts;
         alter event trigger rollcall_policy_watch enable"),
];

/// In a separate cluster, because roles belong to the cluster.
#[testkit::test]
async fn each_fault_fails_its_check_and_its_remedy_fixes_it(_: Arc<TestDatabase>) {
    let cluster = Cluster::start_owner_only("doctor").await;
    cluster.create_database("patient").await;
    let (url, admin) = (cluster.url("patient"), connect(&cluster.admin_url("patient")).await);
    assert_eq!(failed_checks(&check_results(&url).await), [] as [&str; 0], "a migrated database passes");
    for Fault { check, cause: by, doctor_args: with, wait_for: after } in FAULTS {
        admin.batch_execute(by).await.unwrap_or_else(|error| panic!("{by}: {error:?}"));
        apply_remedy(&admin, &url, check, by, with).await;
        admin.batch_execute(after).await.unwrap_or_else(|error| panic!("{after}: {error:?}"));
    }
    assert_eq!(failed_checks(&check_results(&url).await), [] as [&str; 0]);
    drop(admin);
    cluster.stop().await;
}

/// Checks that only the expected checks fail, and applies the remedies until all succeed.
async fn apply_remedy(admin: &Client, url: &str, check: &str, by: &str, with: &[&str]) {
    let mut checks = check_results(url).await;
    assert!(failed_checks(&checks).contains(&check), "{by}: no failed check; {checks:#?}");
    // One step per related check: some can be fixed only after another.
    for _ in 0..=with.len() {
        let wrong = checks.iter().filter(|found| !found.ok);
        for CheckResult { name, finding, remedy_sql, .. } in wrong {
            assert!(name == check || with.contains(&name.as_str()), "{by}: also {name}: {finding}");
            let Some(remedy) = remedy_sql else {
                assert_ne!(name, check, "{by}: no remedy");
                continue;
            };
            admin.batch_execute(remedy).await.unwrap_or_else(|error| panic!("{remedy}: {error:?}"));
        }
        checks = check_results(url).await;
    }
    assert_eq!(failed_checks(&checks), [] as [&str; 0], "after {by} and its remedy");
}

#[testkit::test]
async fn settings_that_need_a_restart_are_found_and_fixed(_: Arc<TestDatabase>) {
    let cluster = Cluster::start_owner_only("settings").await;
    cluster.create_database("patient").await;
    let url = cluster.url("patient");
    // Fixed by the remedy and the restart that it asks for; no other check fails before.
    let fixed = async |check: &str| {
        let checks = check_results(&url).await;
        assert_eq!(failed_checks(&checks), [check], "{checks:#?}");
        let remedy = checks.iter().find_map(|found| found.remedy_sql.clone()).expect("a remedy");
        assert!(remedy.ends_with("; -- then restart PostgreSQL"), "{remedy}");
        connect(&cluster.admin_url("patient"))
            .await
            .batch_execute(&remedy)
            .await
            .expect("a superuser may do this");
        cluster.restart().await;
        assert_eq!(failed_checks(&check_results(&url).await), [] as [&str; 0], "after {remedy}");
    };
    let set = async |setting: &str| {
        let admin = connect(&cluster.admin_url("patient")).await;
        admin.batch_execute(&format!("alter system set {setting}")).await.expect("a superuser may do this");
        cluster.restart().await;
    };

    set("wal_level = 'replica'").await;
    fixed("wal_level").await;

    set("max_replication_slots = 2").await;
    let admin = connect(&cluster.admin_url("patient")).await;
    admin
        .batch_execute(
            "select pg_create_physical_replication_slot('of_somebody_' || n) from generate_series(1, 2) n",
        )
        .await
        .expect("two slots are free");
    fixed("replication_slots").await;

    set("max_wal_senders = 1").await;
    let replication = start_replication(&cluster.admin_url("patient")).await;
    fixed("wal_senders").await;
    drop(replication);
    cluster.stop().await;
}

/// A replication connection that ends when dropped.
struct ReplicationProcess(Child);

async fn start_replication(url: &str) -> ReplicationProcess {
    let psql = std::process::Command::new("psql")
        .args(["-X", &format!("{url}?replication=database")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("psql is installed");
    let (held, admin, started) = (ReplicationProcess(psql), connect(url).await, Instant::now());
    let senders = "select count(*) from pg_stat_replication";
    while admin.query_one(senders, &[]).await.expect("a count").get::<_, i64>(0) == 0 {
        assert!(started.elapsed() < WAIT_TIMEOUT, "psql does not connect");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    held
}

impl Drop for ReplicationProcess {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Undoes a replacement of a function of PostgreSQL. A replacement in SQL has an effect because it is inlined.
const RESTORE_SETTINGS: &str = "set allow_system_table_mods = on;
    create or replace function pg_catalog.current_setting(text) returns text language internal stable strict
      parallel safe as 'show_config_by_name'";

/// Faults that SQL cannot fix: check, cause, SQL that undoes it, and text that the finding contains.
const FAULTS_WITHOUT_SQL_REMEDY: [(&str, &str, &str, &str); 7] = [
    (
        "migrations",
        "delete from rollcall.schema_migrations",
        "",
        "`rollcall migrate` applies them",
    ),
    (
        "messages",
        "alter table realtime.messages rename to elsewhere",
        "alter table realtime.elsewhere rename to messages",
        "`rollcall migrate` as a superuser makes it",
    ),
    // Older than any version that can be installed here, so it is simulated.
    (
        "server_version",
        "set allow_system_table_mods = on;
         create or replace function pg_catalog.current_setting(text) returns text language sql stable as
           $$select case $1 when 'server_version_num' then '140011' else pg_catalog.current_setting($1, false) end$$",
        RESTORE_SETTINGS,
        "15 or newer is needed",
    ),
    // A check that cannot run is reported and does not count as passed.
    (
        "catalog",
        "set allow_system_table_mods = on;
         create or replace function pg_catalog.current_setting(text) returns text language sql stable as
           $$select case $1 when 'wal_level' then 'out of order'::text::int::text
             else pg_catalog.current_setting($1, false) end$$",
        RESTORE_SETTINGS,
        "out of order",
    ),
    (
        "schema",
        "alter table rollcall_internal.triggers rename to elsewhere",
        "alter table rollcall_internal.elsewhere rename to triggers",
        "rollcall_internal.triggers",
    ),
    (
        "channel_policies",
        "create function public.broken() returns boolean language plpgsql as
           $$begin return exists (select from public.nowhere); end$$;
         create policy broken on realtime.messages for select to authenticated using (public.broken())",
        "drop policy broken on realtime.messages; drop function public.broken()",
        r#"the policy "broken" on realtime.messages raises 42P01 for the role authenticated"#,
    ),
    (
        "policies",
        "create function public.broken() returns boolean language plpgsql as $$begin raise 'broken'; end$$;
         create policy broken on rollcall.presence_settings to authenticated using (public.broken());
         insert into rollcall.presence_settings (user_id) values (gen_random_uuid())",
        "drop policy broken on rollcall.presence_settings; drop function public.broken();
         delete from rollcall.presence_settings",
        r#"the policy "broken" on rollcall.presence_settings raises P0001 for the role authenticated: broken"#,
    ),
];

#[testkit::test]
async fn faults_without_a_sql_remedy_say_what_to_do(_: Arc<TestDatabase>) {
    let cluster = Cluster::start_owner_only("by-hand").await;
    for (number, (check, by, undo, says)) in FAULTS_WITHOUT_SQL_REMEDY.into_iter().enumerate() {
        let name = format!("patient_{number}");
        cluster.create_database(&name).await;
        let (url, admin) = (cluster.url(&name), connect(&cluster.admin_url(&name)).await);
        admin.batch_execute(by).await.unwrap_or_else(|error| panic!("{by}: {error:?}"));
        let checks = check_results(&url).await;
        assert_eq!(failed_checks(&checks), [check], "{by}: {checks:#?}");
        let found = checks.iter().find(|found| !found.ok).expect("was just found");
        assert!(found.remedy_sql.is_none() && found.finding.contains(says), "{found:?}");
        if undo.is_empty() {
            continue;
        }
        admin.batch_execute(undo).await.unwrap_or_else(|error| panic!("{undo}: {error:?}"));
        assert_eq!(failed_checks(&check_results(&url).await), [] as [&str; 0], "after {undo}");
    }

    // A server that does not answer, and a lock on a table that must be read.
    let checks = check_results("postgresql://postgres:hunter2@127.0.0.1:1/x").await;
    assert_eq!(failed_checks(&checks), ["connection"]);
    assert!(checks[0].finding.contains("is DATABASE_URL right?") && !checks[0].finding.contains("hunter2"));
    let holder = connect(&cluster.admin_url("patient_1")).await;
    holder
        .batch_execute("begin; lock table pg_catalog.pg_publication")
        .await
        .expect("a superuser may do this");
    let checks = check_results(&cluster.url("patient_1")).await;
    assert_eq!(failed_checks(&checks), ["deadline"], "{checks:#?}");
    drop(holder);
    cluster.stop().await;
}

/// Checks whose fault is tested elsewhere: check, test.
const TESTED_ELSEWHERE: [(&str, &str); 1] = [("notifications", "doctor_detects_an_undeclared_pooler")];
/// Tested in [`settings_that_need_a_restart_are_found_and_fixed`] and [`faults_without_a_sql_remedy_say_what_to_do`].
const TESTED_WITH_RESTART: [&str; 5] =
    ["wal_level", "replication_slots", "wal_senders", "connection", "deadline"];

#[testkit::test]
async fn every_check_has_a_fault_in_a_test(db: Arc<TestDatabase>) {
    let elsewhere = TESTED_ELSEWHERE.iter().map(|(check, test)| {
        assert!(include_str!("pooler.rs").contains(&format!("async fn {test}(")), "unknown test {test}");
        *check
    });
    let broken: BTreeSet<&str> = (FAULTS.iter().map(|wrong| wrong.check))
        .chain(FAULTS_WITHOUT_SQL_REMEDY.iter().map(|(check, ..)| *check))
        .chain(elsewhere)
        .chain(TESTED_WITH_RESTART)
        .collect();
    let checks = check_results(&db.url).await;
    let mut names: BTreeSet<&str> = checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names.len(), checks.len(), "check names are unique: {checks:#?}");
    // Checks that are reported only on failure appear in the source code.
    let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pg/doctor.rs"))
        .expect("the source");
    let made = source
        .split("Check::new(")
        .skip(1)
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    names.extend(made);
    assert_eq!(broken, names, "every check has a fault and every fault has a check");
}

#[testkit::test]
async fn text_output_lists_the_same_checks(db: Arc<TestDatabase>) {
    let (well, output) = run_doctor(&db.url, &[]).await;
    assert!(
        well && output.lines().count() > 20 && output.lines().all(|line| line.starts_with("ok")),
        "{output}"
    );
    db.execute("alter table rollcall.blocks disable trigger invalidate_after_insert", &[]).await;
    let (well, output) = run_doctor(&db.url, &[]).await;
    assert!(!well);
    assert!(output.contains("FAIL triggers") && output.contains("fix: alter table"), "{output}");
}

/// Tables are named, with a declaration that may fit, if Rollcall cannot read from the policies whom a row concerns.
#[testkit::test]
async fn tables_whose_changes_ask_all_viewers_are_named(db: Arc<TestDatabase>) {
    db.execute(
        r#"-- Read from the policies.
           create table public.grants (viewer_id uuid, subject_id uuid, note text);
           create policy "by exists" on rollcall.user_presence for select to authenticated using (exists (
             select from public.grants g where g.viewer_id = (select auth.uid()) and g.subject_id = user_presence.user_id));
           create table public.staff (site uuid, user_id uuid);
           create policy "colleagues" on rollcall.user_presence for select to authenticated using (exists (
             select from public.staff mine join public.staff other using (site)
             where mine.user_id = (select auth.uid()) and other.user_id = user_presence.user_id));
           -- Nothing is compared with a user.
           create table public.closed (id int);
           create policy "open" on rollcall.user_presence as restrictive for select to authenticated
             using (not exists (select from public.closed));
           -- Read by a function, which may do anything.
           create table public."Hidden Users" (id uuid primary key, "viewer Id" uuid, "subject.id" uuid);
           create function public.is_hidden(uuid) returns boolean language plpgsql stable as $$
             begin return exists (select from public."Hidden Users" where "subject.id" = $1); end $$;
           create policy "not hidden" on rollcall.user_presence as restrictive for select to authenticated
             using (not public.is_hidden(user_id));
           select rollcall.watch_visibility_sources();"#,
        &[],
    )
    .await;
    let (is_well, output) = run_doctor(&db.url, &["--suggest"]).await;
    assert!(is_well, "{output}");
    assert!(output.contains("-- public.closed: each change asks every connected viewer"), "{output}");
    assert!(output.contains("the text of public.is_hidden names it"), "{output}");
    assert!(
        !output.contains("public.grants: each change") && !output.contains("public.staff: each"),
        "{output}"
    );
    let suggested = async || {
        let (is_well, output) = run_doctor(&db.url, &["--suggest"]).await;
        assert!(is_well, "{output}");
        output
            .lines()
            .filter(|line| line.starts_with("select rollcall.watch("))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let statements = suggested().await;
    assert_eq!(statements, [r#"select rollcall.watch('public."Hidden Users"', 'viewer Id', 'subject.id');"#]);
    for statement in &statements {
        db.execute(statement, &[]).await;
    }
    assert_eq!(suggested().await, Vec::<String>::new());
}
