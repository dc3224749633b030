//! `rollcall doctor` against databases that are wrong on purpose, one thing at a time: each is found, nothing else is,
//! and the SQL that it gives mends it.

use std::{process::Stdio, sync::Arc};

use rollcall::{
    config::Secret,
    pg::{
        doctor::{Check, examine},
        migrate::Sources,
    },
};
use serde_json::Value;
use tokio::process::Command;

use crate::{
    Case,
    cluster::{Cluster, connect},
    world::World,
};

pub fn cases() -> Vec<Case> {
    crate::cases![
        whatever_is_wrong_is_found_by_name_and_its_remedy_mends_it,
        what_it_finds_can_be_read_by_programs,
    ]
}

/// The check, and what makes it fail; run by a superuser.
const WRONG: [(&str, &str); 24] = [
    ("replication", "alter role postgres noreplication"),
    ("role_membership", "revoke authenticated from postgres"),
    ("auth_uid", "drop function auth.jwt()"),
    ("row_level_security", "create table public.open (); grant select on public.open to anon"),
    ("publication", "drop publication supabase_realtime"),
    ("service_role_bypasses", "alter role service_role nobypassrls"),
    ("browsers_do_not_bypass", "alter role authenticated bypassrls"),
    ("schema_usage", "revoke usage on schema rollcall from authenticated"),
    ("schema_usage", "revoke usage on schema auth from service_role"),
    ("own_row_level_security", "alter table rollcall.outbox disable row level security"),
    (
        "server_rights",
        "alter table rollcall.outbox owner to supabase_admin; revoke all on rollcall.outbox from postgres",
    ),
    ("api_grants", "revoke select on public.user_presence from authenticated"),
    ("api_grants", "revoke delete on public.contacts from service_role"),
    ("browsers_write_no_faces", "grant update (status) on public.user_presence to authenticated"),
    (
        "functions_closed",
        "grant execute on function rollcall.sweep(interval, interval, boolean, integer) to public",
    ),
    ("functions_granted", "revoke execute on function rollcall.my_sight() from authenticated"),
    ("search_path_pinned", "alter function rollcall.sign_off(uuid, text) reset search_path"),
    ("triggers", "drop trigger refresh_after_update on public.presence_devices"),
    ("triggers", "drop trigger void_after_delete on public.blocks"),
    ("triggers", "alter table public.presence_settings disable trigger void_after_update"),
    ("policy_watch", "alter event trigger rollcall_policy_watch disable"),
    ("presence_published", "alter publication supabase_realtime drop table public.user_presence"),
    ("messages", "alter table realtime.messages disable row level security"),
    ("messages_heard", "drop trigger rollcall_messages on realtime.messages"),
];

fn failed(checks: &[Check]) -> Vec<&str> {
    checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect()
}

/// In a cluster of its own, because roles belong to all databases of one.
async fn whatever_is_wrong_is_found_by_name_and_its_remedy_mends_it(_: Arc<World>) {
    let cluster = Cluster::start_private("doctor").await;
    cluster.create_database("patient").await;
    let (url, sources) = (Secret::new(cluster.url("patient")), Sources::built_in());
    let admin = connect(&cluster.admin_url("patient")).await;
    let look = async || examine(&url, None, &sources).await;
    assert_eq!(failed(&look().await), [] as [&str; 0], "a migrated database is well");

    for (name, wrong) in WRONG {
        admin.batch_execute(wrong).await.unwrap_or_else(|error| panic!("{wrong}: {error:?}"));
        let checks = look().await;
        let found = checks.iter().find(|check| check.name == name);
        let found =
            found.filter(|check| !check.ok).unwrap_or_else(|| panic!("{wrong}: not found; {checks:#?}"));
        let others = failed(&checks).into_iter().filter(|other| *other != name).collect::<Vec<_>>();
        // What hangs together: without the publication nothing is in it.
        assert!(others.is_empty(), "{wrong}: also {others:?}");
        let remedy = found.remedy_sql.as_deref().unwrap_or_else(|| panic!("{wrong}: no remedy"));
        admin.batch_execute(remedy).await.unwrap_or_else(|error| panic!("{remedy}: {error:?}"));
        if name == "publication" {
            // Mended one after the other: now it is there, and empty.
            let checks = look().await;
            assert_eq!(failed(&checks), ["presence_published"]);
            let next = checks.iter().find_map(|check| check.remedy_sql.as_deref()).expect("a remedy");
            admin.batch_execute(next).await.expect("mends");
        }
        assert_eq!(failed(&look().await), [] as [&str; 0], "after {wrong}, and {remedy}");
    }

    // A policy that was made while nobody watched.
    admin
        .batch_execute(
            "create table public.theirs (a uuid, b uuid); alter table public.theirs enable row level security;
             alter event trigger rollcall_policy_watch disable;
             create policy theirs on public.user_presence for select to authenticated using (exists (select from public.theirs));
             alter event trigger rollcall_policy_watch enable",
        )
        .await
        .expect("a policy");
    let checks = look().await;
    assert_eq!(failed(&checks), ["sources_watched"]);
    let remedy = checks.iter().find_map(|check| check.remedy_sql.as_deref()).expect("a remedy");
    admin.batch_execute(remedy).await.expect("mends");
    assert_eq!(failed(&look().await), [] as [&str; 0]);

    admin
        .batch_execute("delete from supabase_migrations.schema_migrations where version > '20261121000800'")
        .await
        .unwrap();
    let checks = look().await;
    assert_eq!(failed(&checks), ["migrations"]);
    assert!(checks.last().expect("checks").finding.contains("rollcall migrate"), "{checks:#?}");
    drop(admin);
    cluster.stop().await;
}

async fn what_it_finds_can_be_read_by_programs(world: Arc<World>) {
    let doctor = async |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .arg("doctor")
            .args(args)
            .current_dir(std::env::temp_dir())
            .env_clear()
            .env("DATABASE_URL", &world.url)
            .stderr(Stdio::null())
            .output()
            .await
            .expect("the binary runs");
        (output.status.success(), String::from_utf8(output.stdout).expect("text"))
    };
    let (well, said) = doctor(&["--json"]).await;
    let checks: Vec<Value> = serde_json::from_str(&said).expect("JSON");
    assert!(well && checks.len() > 20 && checks.iter().all(|check| check["ok"] == true), "{said}");

    world.run("alter table public.blocks disable trigger void_after_insert", &[]).await;
    let (well, said) = doctor(&["--json"]).await;
    let checks: Vec<Value> = serde_json::from_str(&said).expect("JSON");
    let wrong: Vec<&Value> = checks.iter().filter(|check| check["ok"] == false).collect();
    assert!(!well && wrong.len() == 1, "{said}");
    assert_eq!(wrong[0]["name"], "triggers");
    assert_eq!(wrong[0]["remedy_sql"], "alter table public.blocks enable trigger void_after_insert;");
    let (_, said) = doctor(&[]).await;
    assert!(said.contains("FAIL triggers") && said.contains("mend it with: alter table"), "{said}");
}
