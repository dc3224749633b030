//! Tests with real clusters in temporary directories; each takes about two seconds.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

use super::*;

/// A directory that is removed on drop. Not below a home directory, so that the tests also work as root.
struct TemporaryDir(PathBuf);

impl TemporaryDir {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("rollcall-cluster-{}", uuid::Uuid::new_v4()));
        Self(dir)
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn client(url: &Secret) -> Client {
    let (client, connection) = tokio_postgres::connect(url.expose(), NoTls).await.expect("connects");
    tokio::spawn(connection);
    client
}

async fn query_text(client: &Client, statement: &str) -> String {
    client.query_one(statement, &[]).await.expect("answers").get(0)
}

#[tokio::test]
async fn the_first_start_creates_a_cluster_and_the_next_start_reuses_it() {
    let dir = TemporaryDir::new();
    let cluster = EmbeddedCluster::start(&dir.0).await.unwrap();
    let urls = cluster.urls().clone();
    let keys = cluster.keys(None).unwrap();
    cluster.write_env(&keys, "http://127.0.0.1:4000").unwrap();
    assert!(is_own_url(&dir.0, &urls.url));
    assert!(running_cluster(&dir.0).unwrap().is_some_and(|running| running == urls));

    let postgres = client(&urls.url).await;
    let attributes =
        "select concat_ws(' ', rolname, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls)
                  from pg_roles where rolname = current_user";
    assert_eq!(query_text(&postgres, attributes).await, "postgres f t t t t");
    let settings = "select concat_ws(' ', current_setting('wal_level'), current_setting('timezone'),
                                          current_setting('listen_addresses'), current_setting('max_connections'))";
    assert_eq!(query_text(&postgres, settings).await, "logical UTC 127.0.0.1 200");
    postgres.batch_execute("create table public.kept (); create schema ours").await.unwrap();
    let admin = client(&urls.admin_url).await;
    let is_superuser = "select rolsuper::text from pg_roles where rolname = current_user";
    assert_eq!(query_text(&admin, is_superuser).await, "true");
    cluster.stop().await.unwrap();
    assert_eq!(running_cluster(&dir.0).unwrap(), None);

    let cluster = EmbeddedCluster::start(&dir.0).await.unwrap();
    assert_eq!(*cluster.urls(), urls);
    assert_eq!(cluster.keys(None).unwrap(), keys);
    let exists = "select to_regclass('public.kept')::text";
    assert_eq!(query_text(&client(&urls.url).await, exists).await, "kept");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn postgres_is_restarted_after_a_kill_and_adopted_after_pg_ctl_restart() {
    let dir = TemporaryDir::new();
    let cluster = EmbeddedCluster::start(&dir.0).await.unwrap();
    let first = cluster.current_pid.get().unwrap();
    kill(first, Signal::SIGKILL).unwrap();
    let second = wait_for_other_process(&cluster, first).await;
    assert_eq!(query_text(&client(&cluster.urls().url).await, "select 'here'").await, "here");

    let pg_ctl = cluster.files.binaries.initdb().with_file_name("pg_ctl");
    let output = cluster
        .files
        .account
        .command(&pg_ctl)
        .current_dir(cluster.files.pg_dir())
        .args(["restart", "-m", "immediate", "-w", "-l", "/dev/null", "-D"])
        .arg(cluster.files.pg_dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    wait_for_other_process(&cluster, second).await;
    assert_eq!(query_text(&client(&cluster.urls().url).await, "select 'here'").await, "here");

    let pg_dir = cluster.files.pg_dir();
    cluster.stop().await.unwrap();
    assert_eq!(postmaster::running_pid(&pg_dir), None, "a process that pg_ctl started is stopped too");
}

/// Waits until a process other than `old` serves the cluster.
async fn wait_for_other_process(cluster: &EmbeddedCluster, old: nix::unistd::Pid) -> nix::unistd::Pid {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let now = postmaster::running_pid(&cluster.files.pg_dir()).filter(|&pid| pid != old);
        if let Some(pid) = now
            && cluster.current_pid.get() == Some(pid)
            && tokio_postgres::connect(cluster.urls().url.expose(), NoTls).await.is_ok()
        {
            return pid;
        }
        assert!(Instant::now() < deadline, "PostgreSQL was not restarted");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_second_server_is_rejected_and_a_server_after_a_kill_adopts_postgres() {
    let dir = TemporaryDir::new();
    let mut cluster = EmbeddedCluster::start(&dir.0).await.unwrap();
    let error = EmbeddedCluster::start(&dir.0).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::InUse { pid: Some(_), .. }), "{error}");

    // State after a kill -9 of the server: the lock is free and PostgreSQL runs.
    let pid = cluster.current_pid.get();
    cluster.supervisor.take().unwrap().abort();
    drop(cluster);
    let cluster = EmbeddedCluster::start(&dir.0).await.unwrap();
    assert_eq!(cluster.current_pid.get(), pid);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn an_incomplete_cluster_is_recreated_and_a_stale_pid_file_is_ignored() {
    let dir = TemporaryDir::new();
    fs::create_dir_all(dir.0.join("pg.new.1/base")).unwrap();
    fs::create_dir_all(dir.0.join("pg/base")).unwrap();
    let cluster = EmbeddedCluster::start(&dir.0).await.unwrap();
    cluster.stop().await.unwrap();
    let names: Vec<_> = fs::read_dir(&dir.0).unwrap().flatten().map(|entry| entry.file_name()).collect();
    let any = |prefix| names.iter().any(|name| name.to_string_lossy().starts_with(prefix));
    assert!(any("pg.broken-") && !any("pg.new."), "{names:?}");

    // The ID of a live process that is not PostgreSQL.
    let pid_file = dir.0.join("pg/postmaster.pid");
    fs::write(&pid_file, format!("{}\n{}\n", std::process::id(), dir.0.join("pg").display())).unwrap();
    let cluster = EmbeddedCluster::start(&dir.0).await.unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_replaced_and_a_missing_record_is_an_error() {
    let dir = TemporaryDir::new();
    let cluster = EmbeddedCluster::start(&dir.0).await.unwrap();
    let before = cluster.urls().clone();
    cluster.stop().await.unwrap();

    let port = ClusterRecord::read(&dir.0).unwrap().unwrap().port;
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let cluster = EmbeddedCluster::start(&dir.0).await.unwrap();
    assert_ne!(cluster.urls().url, before.url);
    cluster.stop().await.unwrap();
    drop(taken);

    fs::remove_file(ClusterRecord::path(&dir.0)).unwrap();
    let error = EmbeddedCluster::start(&dir.0).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::RecordMissing { .. }), "{error}");
}
