//! Environments of other programs: Supabase's Realtime container, libpq, and containers without a database.

use std::{process::Stdio, sync::Arc, time::Duration};

use testkit::harness::{SECRET, TestDatabase, TestServer, User};
use tokio::{process::Command, time::timeout};
use tokio_postgres::config::Host;

/// Starts a server with these variables instead of `DATABASE_URL` and `JWT_SECRET`.
async fn start_server(db: &TestDatabase, variables: &[(&str, &str)]) -> Arc<TestServer> {
    let quoted = variables.iter().map(|(name, value)| format!("{name}='{}'", value.replace('\'', r"'\''")));
    let variables = quoted.collect::<Vec<_>>().join(" ");
    db.start_server_process_after(&format!("unset DATABASE_URL JWT_SECRET && export {variables}")).await
}

/// The server answers with the data of the test database.
async fn expect_database(db: &TestDatabase, node: &TestServer) {
    let user = User::new();
    db.set_status(&user, "busy").await;
    let answer = node.get(&user, &format!("/api/presence/users/{}", user.id)).await.expect_status(200);
    assert!(answer.to_string().contains("busy"), "{answer}");
}

#[testkit::test]
async fn the_database_comes_from_variables_of_supabase_realtime_or_libpq(db: Arc<TestDatabase>) {
    let target: tokio_postgres::Config = db.url.parse().expect("a URL");
    let host = match &target.get_hosts()[0] {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.to_str().expect("UTF-8").to_owned(),
    };
    let port = target.get_ports().first().copied().unwrap_or(5432).to_string();
    let password = String::from_utf8_lossy(target.get_password().unwrap_or_default()).into_owned();
    let (user, name) = (target.get_user().expect("a user"), target.get_dbname().expect("a database"));

    let supabase = [
        ("DB_HOST", &*host),
        ("DB_PORT", &port),
        ("DB_USER", user),
        ("DB_PASSWORD", &password),
        ("DB_NAME", name),
        ("DB_SSL", "false"),
        ("DB_AFTER_CONNECT_QUERY", "SET search_path TO _realtime"),
        ("DB_ENC_KEY", "supabaserealtime"),
        ("API_JWT_SECRET", SECRET),
        ("SECRET_KEY_BASE", "x"),
        ("ERL_AFLAGS", "-proto_dist inet_tcp"),
        ("DNS_NODES", "''"),
        ("RLIMIT_NOFILE", "10000"),
        ("APP_NAME", "realtime"),
        ("SEED_SELF_HOST", "true"),
        ("RUN_JANITOR", "true"),
        ("DISABLE_HEALTHCHECK_LOGGING", "true"),
    ];
    let node = start_server(&db, &supabase).await;
    expect_database(&db, &node).await;
    let log = node.log();
    let notice = log.iter().find(|line| line.contains("that are not needed: ")).expect("a notice");
    for name in ["DB_AFTER_CONNECT_QUERY", "DB_ENC_KEY", "ERL_AFLAGS", "SECRET_KEY_BASE"] {
        assert!(notice.contains(name), "{notice}");
    }

    let libpq = [
        ("PGHOST", &*host),
        ("PGPORT", &port),
        ("PGUSER", user),
        ("PGPASSWORD", &password),
        ("PGDATABASE", name),
        ("JWT_SECRET", SECRET),
    ];
    let node = start_server(&db, &libpq).await;
    expect_database(&db, &node).await;
}

#[testkit::test]
async fn no_embedded_database_starts_where_another_was_meant(_db: Arc<TestDatabase>) {
    for (variables, reason) in [
        (&[("API_JWT_SECRET", SECRET)][..], "API_JWT_SECRET is set"),
        (&[("EMBEDDED_DATABASE", "false")], "EMBEDDED_DATABASE is false"),
        (&[("KUBERNETES_SERVICE_HOST", "10.0.0.1")], "this is a container (KUBERNETES_SERVICE_HOST)"),
        (&[("DB_PORT", "5432")], "DB_HOST: must be set because DB_PORT is"),
    ] {
        let mut server = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        server.env_clear().args(["serve", "--port", "0"]).envs(variables.iter().copied());
        server.current_dir(std::env::temp_dir()).stdout(Stdio::null()).kill_on_drop(true);
        let refused = timeout(Duration::from_secs(10), server.output()).await.expect("ends at once");
        let refused = refused.expect("the binary runs");
        let log = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && log.contains(reason), "{variables:?}: {log}");
    }
}
