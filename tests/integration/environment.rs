//! Environments of other programs: Supabase's Realtime container, libpq, and containers without a database.

use std::{process::Stdio, sync::Arc, time::Duration};

use testkit::harness::{SECRET, TestDatabase, TestServer, User, server_binary};
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

#[testkit::test]
async fn a_schema_newer_than_the_binary_is_refused(db: Arc<TestDatabase>) {
    db.execute(
        "insert into rollcall_internal.schema_migrations (version, name) values ('29991231000000', 'later')",
        &[],
    )
    .await;
    let mut server = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    server.env_clear().args(["serve", "--port", "0"]).kill_on_drop(true).current_dir(std::env::temp_dir());
    server.env("DATABASE_URL", &db.url).env("JWT_SECRET", "a secret of at least thirty-two bytes");
    let refused = timeout(Duration::from_secs(30), server.stdout(Stdio::null()).output()).await;
    let refused = refused.expect("ends at once").expect("the binary runs");
    let log = String::from_utf8_lossy(&refused.stderr);
    let reason = "migration 29991231000000: was applied by a newer version of Rollcall; run that version";
    assert!(!refused.status.success() && log.contains(reason), "{log}");
}

/// A folder for one test, removed at its end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("rollcall-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).expect("a folder");
        Self(path)
    }

    /// Runs the binary in the folder with these variables only; returns whether it succeeded, and what it printed.
    async fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
        let command = Command::new(server_binary())
            .args(arguments)
            .current_dir(&self.0)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(variables.iter().copied())
            .kill_on_drop(true)
            .output();
        let output = timeout(Duration::from_secs(60), command).await.expect("it ends").expect("it runs");
        let printed = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.success(), printed.concat())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Each of the ports, with an embedded PostgreSQL (no folder is created) and with a database that does not answer.
#[testkit::test]
async fn a_taken_port_is_found_before_anything_else(_: Arc<TestDatabase>) {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    for variable in ["PORT", "WS_PORT", "ADMIN_PORT"] {
        for database in [("EMBEDDED_DATABASE", "true"), ("DATABASE_URL", "postgres://nobody@192.0.2.1/none")]
        {
            let folder = Folder::new();
            let variables = [("PORT", "0"), (variable, &*port), database, ("JWT_SECRET", SECRET)];
            let (ok, printed) = folder.run(&["serve"], &variables).await;
            assert!(
                !ok && printed.contains(&format!("cannot listen on 127.0.0.1:{port}")),
                "{variable}: {printed}"
            );
            assert!(printed.contains(variable), "{printed}");
            assert_eq!(std::fs::read_dir(&folder.0).expect("the folder").count(), 0, "{variable}");
        }
    }
}

#[testkit::test]
async fn unknown_names_of_the_env_file_are_named(_: Arc<TestDatabase>) {
    let folder = Folder::new();
    let token = ["token", "--role", "anon"];
    let secret = format!("JWT_SECRET={SECRET}\n");
    let write = |text: &str| std::fs::write(folder.0.join(".env"), text).expect("a file");

    write(&secret);
    let (ok, printed) = folder.run(&token, &[]).await;
    assert!(ok && !printed.contains("no settings"), "{printed}");

    // An application may keep its own variables there: a warning.
    write(&format!("{secret}MAX_CONECTIONS=5\nSTRIPE_KEY=secret-text\nexport PGUSER=anna\n"));
    let (ok, printed) = folder.run(&token, &[]).await;
    assert!(ok, "{printed}");
    assert!(printed.contains("MAX_CONECTIONS (did you mean MAX_CONNECTIONS?), STRIPE_KEY"), "{printed}");
    assert!(!printed.contains("secret-text") && !printed.contains("PGUSER"), "{printed}");

    // What is meant for the server: an error.
    write(&format!("{secret}REALTIME_MAX_CHANNELS=5\n"));
    let (ok, printed) = folder.run(&token, &[]).await;
    let expected = "REALTIME_MAX_CHANNELS: unknown setting (did you mean REALTIME_MAX_CHANNELS_PER_CLIENT?)";
    assert!(!ok && printed.contains(expected), "{printed}");
}
