//! Checks README.md and docs/: their SQL runs, and the transcript in docs/sql.md matches the actual behavior.
//!
//! `ROLLCALL_README=write` writes the transcript into the page instead of comparing it.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use rollcall::{
    config::Secret,
    pg::{
        doctor::suggest,
        migrate::{MigrationTarget, Sources, prepare},
    },
};
use serde_json::json;
use testkit::{
    client::Socket,
    cluster::{Cluster, connect},
    harness::{TestDatabase, User, WAIT_TIMEOUT, server_binary},
    phoenix::SerializerVersion,
};
use tokio::time::{Instant, sleep};
use tokio_postgres::SimpleQueryMessage;
use uuid::Uuid;

/// What the DBA types in the transcript. An empty line ends a step, and `:name` is the ID of a user.
const SCRIPT: &str = include_str!("clients.sql");
const BEGIN: &str = "<!-- The transcript: tests/integration/readme/clients.sql -->\n```\n";
const END: &str = "```\n<!-- End of the transcript -->";

fn page(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read_page(name: &str) -> String {
    std::fs::read_to_string(page(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[testkit::test]
async fn readme_sql_runs_on_the_demo_data(db: Arc<TestDatabase>) {
    let target =
        MigrationTarget { url: Secret::new(db.url.clone()), admin_url: Some(Secret::new(db.admin_url())) };
    assert!(prepare(&target, &Sources::built_in(), true).await.expect("the demo data").seeded);
    let text = read_page("docs/sql.md");
    let examples: Vec<&str> =
        text.split("```sql\n").skip(1).map(|rest| rest.split_once("```").expect("an end").0).collect();
    assert!(examples.len() >= 4, "no examples found: {examples:?}");
    for example in examples {
        db.sql.batch_execute(example).await.unwrap_or_else(|error| panic!("{example}\n{error:?}"));
    }
}

/// The SQL of the guides runs in order on the demo data, one page after the other, and each page has some.
#[testkit::test]
async fn readme_guides_run_on_the_demo_data(db: Arc<TestDatabase>) {
    let target =
        MigrationTarget { url: Secret::new(db.url.clone()), admin_url: Some(Secret::new(db.admin_url())) };
    assert!(prepare(&target, &Sources::built_in(), true).await.expect("the demo data").seeded);
    let pages = [
        "docs/guides/mobile.md",
        "docs/guides/private-channels.md",
        "docs/guides/moderation.md",
        "docs/guides/personal-data.md",
        "docs/guides/supabase-hosted.md",
        "docs/migrate/socket-io.md",
        "docs/migrate/centrifugo.md",
    ];
    for name in pages {
        let text = read_page(name);
        let blocks: Vec<&str> =
            text.split("```sql\n").skip(1).map(|rest| rest.split_once("```").expect("an end").0).collect();
        assert!(!blocks.is_empty(), "{name} has no SQL");
        for block in blocks {
            db.sql.batch_execute(block).await.unwrap_or_else(|error| panic!("{name}: {block}\n{error:?}"));
        }
    }
}

/// The example of private channels in docs/sql.md works as pasted in an empty database.
#[testkit::test]
async fn readme_private_channels_work_in_an_empty_database(db: Arc<TestDatabase>) {
    let text = read_page("docs/sql.md");
    let (_, section) = text.split_once("## Private channels").expect("the section");
    let (_, block) = section.split_once("```sql\n").expect("an example");
    let (block, _) = block.split_once("```").expect("its end");
    let (policies, send) = block.split_once("select realtime.send").expect("a message");
    db.sql.batch_execute(policies).await.expect("the example runs");
    let (member, stranger) = (User::new(), User::new());
    db.execute("insert into members values ('room:1', $member)", &[("member", member.id)]).await;
    let node = db.start_server().await;
    let mut socket = node.channel_client(SerializerVersion::V2).await;
    let refused = json!({"config": {"private": true}, "access_token": stranger.token});
    socket.join_error("realtime:room:1", refused).await;
    socket.join_private("realtime:room:1", &member.token, json!({})).await;
    db.sql.batch_execute(&format!("select realtime.send{send}")).await.expect("the message is sent");
    assert_eq!(socket.next_broadcast("realtime:room:1").await["payload"]["text"], "hello");
    db.execute("delete from members", &[]).await;
    socket.expect_channel_error("realtime:room:1").await;
}

/// Runs the commands of docs/supabase.md as a role that owns the database and has CREATEROLE, as on managed services.
#[testkit::test]
async fn supabase_page_step_by_step(_: Arc<TestDatabase>) {
    let cluster = Cluster::start_bare("page").await;
    let server = connect(&cluster.admin_url("postgres")).await;
    let create = "create role app_owner login createrole password 'app'";
    server.batch_execute(create).await.expect("a role");
    server.batch_execute("create database app owner app_owner").await.expect("a database");
    let url = cluster.url("app");
    let (_, address) = url.split_once('@').expect("a URL with a user");
    let url = format!("postgresql://app_owner:app@{address}");
    let run = async |command: &str| {
        let arguments = command.strip_prefix("rollcall ").expect("a command of rollcall").split(' ');
        let output = tokio::process::Command::new(server_binary())
            .args(arguments)
            .env("DATABASE_URL", &url)
            .env("JWT_SECRET", "integration-tests-only-0123456789abcdef")
            .output()
            .await
            .expect("it runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), printed + &String::from_utf8_lossy(&output.stderr))
    };
    let text = read_page("docs/supabase.md");
    let commands: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("| `rollcall ")?.split('`').next()).collect();
    assert_eq!(commands, ["migrate --dry-run", "migrate", "migrate --down", "doctor"]);
    let client = connect(&url).await;
    let installed = async || {
        let modules = "select string_agg(name, ',' order by version) from rollcall.schema_migrations";
        client.query_one(modules, &[]).await.map(|row| row.get::<_, String>(0)).ok()
    };
    let (ok, script) = run("rollcall migrate --dry-run").await;
    assert!(ok && script.contains("create schema rollcall"), "{script}");
    assert_eq!(installed().await, None);
    // Modules, one after the other.
    assert!(text.contains("`rollcall migrate --modules channels`"));
    let (ok, printed) = run("rollcall migrate --modules channels").await;
    assert!(ok && printed.contains("_channels.sql"), "{printed}");
    assert_eq!(installed().await.as_deref(), Some("channels"));
    assert!(run("rollcall migrate").await.1.contains("up to date"));
    let (ok, printed) = run("rollcall migrate --modules context").await;
    assert!(ok, "{printed}");
    assert_eq!(installed().await.as_deref(), Some("channels,presence,context"));
    // Row changes need a role that may replicate, which the doctor says.
    let (_, printed) = run("rollcall doctor").await;
    let failed: Vec<&str> = printed.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert!(failed.iter().all(|line| line.contains("replication")), "{failed:#?}");
    assert!(run("rollcall doctor --suggest").await.0);
    let (ok, printed) = run("rollcall migrate --down").await;
    assert!(ok && printed.contains("removed Rollcall"), "{printed}");
    assert_eq!(installed().await, None);
    let (ok, printed) = run("rollcall migrate --modules nothing").await;
    assert!(!ok && printed.contains("MODULES: must be a comma-separated list"), "{printed}");
    drop((client, server));
    cluster.stop().await;
}

/// Runs the blocks of docs/adopt.md in order. A block of text is what the statement before it returns.
#[testkit::test]
async fn readme_own_tables_step_by_step(db: Arc<TestDatabase>) {
    let text = read_page("docs/adopt.md");
    let mut rows: Vec<String> = Vec::new();
    let mut compared = 0;
    for block in text.split("\n```").skip(1).step_by(2) {
        let (language, body) = block.split_once('\n').expect("a block has lines");
        match language {
            "sql" => {
                let messages = db.sql.simple_query(body).await;
                let messages = messages.unwrap_or_else(|error| panic!("{body}\n{error:?}"));
                rows.clear();
                for message in messages {
                    match message {
                        SimpleQueryMessage::RowDescription(_) => rows.clear(),
                        SimpleQueryMessage::Row(row) => {
                            let values: Vec<&str> =
                                (0..row.len()).map(|column| row.get(column).unwrap_or_default()).collect();
                            rows.push(values.join(" | "));
                        }
                        _ => {}
                    }
                }
            }
            "text" => {
                assert_eq!(rows.join("\n"), body, "after the block before it");
                compared += 1;
            }
            _ => {}
        }
    }
    assert!(compared >= 5, "{compared} results compared");
}

/// `rollcall doctor --suggest` proposes the statements that docs/adopt.md declares, and nothing for a declared table.
#[testkit::test]
async fn readme_own_tables_are_suggested(db: Arc<TestDatabase>) {
    let text = read_page("docs/adopt.md");
    let blocks: Vec<&str> =
        text.split("```sql\n").skip(1).map(|rest| rest.split_once("```").expect("an end").0).collect();
    db.execute(blocks[0], &[]).await;
    // Further shapes: quoted names, audit columns, and tables that are no membership.
    db.execute(
        r#"create table public.orgs (id uuid primary key, created_by uuid references public.profiles (id));
           create table public."Org Members" (
             "orgId" uuid references public.orgs, "userId" uuid references public.profiles (id),
             invited_by uuid references public.profiles (id), left_at timestamptz, primary key ("orgId", "userId"));
           create table public.room_messages (
             id bigint primary key, room_id bigint references public.rooms (id), author uuid references public.profiles (id));
           create table public.transfers (
             id bigint primary key, payer uuid references public.profiles (id), payee uuid references public.profiles (id));"#,
        &[],
    )
    .await;
    let url = Secret::new(db.url.clone());
    let suggested = async || {
        let suggestions = suggest(&url).await.expect("suggestions");
        suggestions.into_iter().filter_map(|suggestion| suggestion.statement).collect::<Vec<_>>()
    };
    let mut expected: Vec<&str> = blocks[1].lines().collect();
    let organisations = r#"select rollcall.use_table('team_members', 'public."Org Members"', group_column => 'orgId', user_column => 'userId', condition => $$left_at is null$$);"#;
    expected.insert(2, organisations);
    let statements = suggested().await;
    assert_eq!(statements, expected);
    for statement in &statements {
        db.execute(statement, &[]).await;
    }
    assert_eq!(suggested().await, Vec::<String>::new());
}

/// Runs every line of the shell examples that calls psql, with shell quoting.
#[testkit::test]
async fn readme_psql_commands_run_on_the_demo_data(db: Arc<TestDatabase>) {
    let target =
        MigrationTarget { url: Secret::new(db.url.clone()), admin_url: Some(Secret::new(db.admin_url())) };
    assert!(prepare(&target, &Sources::built_in(), true).await.expect("the demo data").seeded);
    let text = read_page("README.md") + &read_page("docs/quickstart.md") + &read_page("docs/context.md");
    let shell = |line: &&str| {
        line.starts_with("psql ")
            || ["ALICE=", "BOB=", "CONVERSATION="].iter().any(|name| line.starts_with(name))
    };
    let lines: Vec<&str> = text.lines().filter(shell).collect();
    let calls = lines.iter().filter(|line| line.starts_with("psql ")).count();
    assert!(calls >= 5, "no lines found: {lines:?}");
    let output = tokio::process::Command::new("bash")
        .args(["-euxc", &lines.join("\n")])
        .env("DATABASE_URL", &db.url)
        .env("PGOPTIONS", "-c client_min_messages=warning")
        .output()
        .await
        .expect("bash is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The shell examples with curl run as pasted, against a server with the demo data. Each request succeeds, except those
/// that show what another user gets.
#[testkit::test]
async fn shell_examples_run_against_a_server(db: Arc<TestDatabase>) {
    let target =
        MigrationTarget { url: Secret::new(db.url.clone()), admin_url: Some(Secret::new(db.admin_url())) };
    assert!(prepare(&target, &Sources::built_in(), true).await.expect("the demo data").seeded);
    let node = db.start_server_with(|settings| settings.set("LLM_PROVIDER", "echo")).await;
    let mut script = String::new();
    for name in ["README.md", "docs/quickstart.md", "docs/context.md", "docs/migrate/socket-io.md"] {
        let text = read_page(name);
        let blocks: Vec<&str> =
            text.split("```sh\n").skip(1).map(|rest| rest.split_once("```").expect("an end").0).collect();
        let with_curl: Vec<&&str> = blocks.iter().filter(|block| block.contains("curl ")).collect();
        assert!(!with_curl.is_empty(), "{name} has no example with curl");
        for block in with_curl {
            script += &block.replace("./target/source/rollcall", &server_binary().display().to_string());
            script += "\n";
        }
    }
    // The variables are those of the environment here.
    let script: String = script
        .lines()
        .filter(|line| !line.contains(".rollcall/env"))
        .map(|line| line.to_owned() + "\n")
        .collect();
    // `curl` reports the status of each answer.
    let prelude =
        "curl() { command curl --silent --show-error --write-out '\\nstatus=%{http_code}\\n' \"$@\"; }\n";
    let output = tokio::process::Command::new("bash")
        .args(["-euo", "pipefail", "-c", &format!("{prelude}{script}")])
        .env("DATABASE_URL", &db.url)
        .env("ROLLCALL_URL", format!("http://{}", node.address))
        .env("JWT_SECRET", "integration-tests-only-0123456789abcdef")
        .env("SERVICE_ROLE_KEY", testkit::harness::service_user().token)
        .current_dir(std::env::temp_dir())
        .output()
        .await
        .expect("bash is installed");
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    let statuses: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("status=")).collect();
    let expected = script.matches("curl -s").count();
    assert_eq!(statuses.len(), expected, "{printed}\n{errors}");
    let failed: Vec<&&str> = statuses.iter().filter(|status| !status.starts_with('2')).collect();
    // The stranger in README.md.
    assert_eq!(failed, [&"404"], "{printed}\n{errors}");
}

#[testkit::test]
async fn the_readme_transcript_matches_two_clients(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    let names = ["anna", "ben", "flora", "chef"];
    let users: BTreeMap<&str, User> = names.map(|name| (name, User::new())).into();
    let vendors = [("flora", users["flora"].id), ("chef", users["chef"].id)];
    db.set_status(&users["flora"], "online").await;
    db.set_status(&users["chef"], "online").await;
    let query = format!("&user_ids={},{}", vendors[0].1, vendors[1].1);
    let mut browsers = Vec::new();
    for planner in ["anna", "ben"] {
        let mut socket = node.socket_with(&users[planner], &query).await;
        socket.next_message().await;
        browsers.push((planner, users[planner].id, socket));
    }

    let mut transcript =
        String::from("-- anna and ben plan weddings; their browsers ask for the vendors flora and chef\n");
    append_views(&db, &mut browsers, &vendors, &mut transcript).await;
    for step in SCRIPT.trim().split("\n\n") {
        transcript += &format!("\n=> {}\n", step.replace('\n', "\n   "));
        let typed = users.iter().fold(step.to_owned(), |text, (name, user)| {
            text.replace(&format!(":{name}"), &format!("'{}'", user.id))
        });
        db.sql.batch_execute(&typed).await.unwrap_or_else(|error| panic!("{typed}: {error:?}"));
        append_views(&db, &mut browsers, &vendors, &mut transcript).await;
    }

    let text = read_page("docs/sql.md");
    let (before, rest) = text.split_once(BEGIN).expect("the start of the transcript");
    let (printed, after) = rest.split_once(END).expect("its end");
    if std::env::var_os("ROLLCALL_README").is_some_and(|what| what == "write") {
        std::fs::write(page("docs/sql.md"), format!("{before}{BEGIN}{transcript}{END}{after}"))
            .expect("the page is written");
        return;
    }
    assert_eq!(printed, transcript, "run with ROLLCALL_README=write to update it");
}

/// Appends what each browser shows, once it equals what `select` as its user returns.
async fn append_views(
    db: &TestDatabase,
    browsers: &mut [(&str, Uuid, Socket)],
    vendors: &[(&str, Uuid)],
    transcript: &mut String,
) {
    let ids: Vec<Uuid> = vendors.iter().map(|(_, id)| *id).collect();
    for (planner, id, socket) in browsers {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        let list = loop {
            socket.receive(Instant::now() + std::time::Duration::from_millis(20)).await;
            let shown_list: BTreeMap<Uuid, String> = socket
                .presences
                .iter()
                .filter(|(vendor, _)| !socket.hides(**vendor))
                .map(|(vendor, face)| (*vendor, face["availability"].as_str().expect("a status").to_owned()))
                .filter(|(vendor, _)| vendor != id)
                .collect();
            if shown_list == selected_statuses(db, *id, &ids).await {
                break shown_list;
            }
            assert!(Instant::now() < deadline, "{planner} still shows {shown_list:?}");
            sleep(std::time::Duration::from_millis(10)).await;
        };
        let shown: Vec<String> = vendors
            .iter()
            .filter_map(|(name, vendor)| list.get(vendor).map(|status| format!("{name} ({status})")))
            .collect();
        let shown = if shown.is_empty() { "nobody".to_owned() } else { shown.join(", ") };
        *transcript += &format!("   {planner:<5} sees {shown}\n");
    }
}

/// Returns what `select` as the viewer returns.
async fn selected_statuses(db: &TestDatabase, viewer: Uuid, vendors: &[Uuid]) -> BTreeMap<Uuid, String> {
    let claims = json!({"sub": viewer, "role": "authenticated"}).to_string();
    let sql = &db.sql;
    sql.batch_execute("begin").await.expect("begins");
    let acting =
        "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)";
    sql.query(acting, &[&claims]).await.expect("acts as the viewer");
    let rows = sql
        .query(
            "select user_id, status::text from rollcall.user_presence where user_id = any ($1)",
            &[&vendors],
        )
        .await
        .expect("selects");
    sql.batch_execute("rollback").await.expect("ends");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}
