//! Environments of other programs: Supabase's Realtime container, libpq, and containers without a database.

use std::{process::Stdio, sync::Arc, time::Duration};

use testkit::harness::{SECRET, TestDatabase, User, WAIT_TIMEOUT};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};
use tokio_postgres::config::Host;

fn server(variables: &[(&str, &str)]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_rollcall"))
        .env_clear()
        .args(["serve", "--port", "0"])
        .envs(variables.iter().copied())
        .current_dir(std::env::temp_dir())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("starts")
}

/// Waits until the server is ready; returns its URL and its log.
async fn ready(server: &mut Child) -> (String, String) {
    let mut lines = BufReader::new(server.stderr.take().expect("is piped")).lines();
    let mut log = String::new();
    loop {
        let line = timeout(WAIT_TIMEOUT, lines.next_line()).await.expect("in time").expect("reads");
        let line = line.unwrap_or_else(|| panic!("the server ended: {log}"));
        log.push_str(&line);
        log.push('\n');
        if let Some((_, url)) = line.split_once("is ready at ") {
            return (url.split_whitespace().next().expect("a URL").to_owned(), log);
        }
    }
}

/// The server answers with the data of the test database.
async fn expect_database(db: &TestDatabase, url: &str) {
    let user = User::new();
    db.set_status(&user, "busy").await;
    let request = reqwest::Client::new().get(format!("{url}/api/presence/users/{}", user.id));
    let answer =
        request.bearer_auth(&user.token).send().await.expect("answers").text().await.expect("a text");
    assert!(answer.contains("busy"), "{answer}");
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

    let mut supabase = server(&[
        ("DB_HOST", &host),
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
    ]);
    let (url, log) = ready(&mut supabase).await;
    expect_database(&db, &url).await;
    let notice = log.lines().find(|line| line.contains("that are not needed: ")).expect("a notice");
    for name in ["DB_AFTER_CONNECT_QUERY", "DB_ENC_KEY", "ERL_AFLAGS", "SECRET_KEY_BASE"] {
        assert!(notice.contains(name), "{notice}");
    }

    let mut libpq = server(&[
        ("PGHOST", &host),
        ("PGPORT", &port),
        ("PGUSER", user),
        ("PGPASSWORD", &password),
        ("PGDATABASE", name),
        ("JWT_SECRET", SECRET),
    ]);
    let (url, _) = ready(&mut libpq).await;
    expect_database(&db, &url).await;
}

#[testkit::test]
async fn no_embedded_database_starts_where_another_was_meant(_db: Arc<TestDatabase>) {
    for (variables, reason) in [
        (&[("API_JWT_SECRET", SECRET)][..], "API_JWT_SECRET is set"),
        (&[("EMBEDDED_DATABASE", "false")], "EMBEDDED_DATABASE is false"),
        (&[("KUBERNETES_SERVICE_HOST", "10.0.0.1")], "this is a container (KUBERNETES_SERVICE_HOST)"),
        (&[("DB_PORT", "5432")], "DB_HOST: must be set because DB_PORT is"),
    ] {
        let mut refused = server(variables);
        let mut log = String::new();
        let mut output = refused.stderr.take().expect("is piped");
        let read = output.read_to_string(&mut log);
        timeout(Duration::from_secs(10), read).await.expect("ends at once").expect("reads");
        assert!(!refused.wait().await.expect("ends").success());
        assert!(log.contains(reason), "{variables:?}: {log}");
    }
}
