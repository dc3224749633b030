//! The PostgreSQL cluster of a test run, with a migrated template database.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Once},
    time::Duration,
};

use nix::{
    libc,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use rollcall::{
    config::Secret,
    pg::{
        embedded::{ClusterUrls, EmbeddedCluster, running_cluster},
        migrate::{MigrationTarget, Sources, prepare},
    },
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::{Mutex, OnceCell},
    time::{Instant, sleep},
};
use tokio_postgres::{Client, NoTls};

use crate::harness::WAIT_TIMEOUT;

const TEMPLATE: &str = "it_template";
/// Prefix of the run directories, followed by the process ID.
const PREFIX: &str = "rollcall-it-";

/// Durability is not tested and costs time; deadlocks should be detected quickly.
const FAST_SETTINGS: [&str; 4] = [
    "alter system set fsync = off",
    "alter system set full_page_writes = off",
    "alter system set deadlock_timeout = '50ms'",
    "select pg_reload_conf()",
];

/// The cluster of [`Cluster::shared`].
static SHARED: OnceCell<Arc<Cluster>> = OnceCell::const_new();
/// Supervises the shared cluster and outlives the runtimes of the tests.
static SHARED_RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// A PostgreSQL cluster in a temporary directory.
pub struct Cluster {
    dir: PathBuf,
    urls: ClusterUrls,
    server: Mutex<Option<EmbeddedCluster>>,
    /// Superuser connection to the database `postgres`. Copying locks the template, so copies run one at a time.
    admin: Mutex<Client>,
}

impl Cluster {
    /// Returns the cluster of this process, which the first call starts. It is removed when the process exits.
    pub async fn shared() -> Arc<Self> {
        let start = async || {
            let starting = SHARED_RUNTIME.spawn(async {
                prepare_process();
                tokio::spawn(exit_on_signal());
                let cluster =
                    Self::start_in(&format!("{PREFIX}{}", std::process::id()), &FAST_SETTINGS).await;
                cluster.create_template().await;
                Arc::new(cluster)
            });
            starting.await.expect("the cluster starts")
        };
        SHARED.get_or_init(start).await.clone()
    }

    /// Starts a further cluster without a template.
    pub async fn start_bare(name: &str) -> Self {
        Self::start_in(&format!("{PREFIX}{}-{name}", std::process::id()), &FAST_SETTINGS).await
    }

    /// Starts a cluster with PostgreSQL's default settings and without a template, for benchmarks.
    pub async fn start_durable() -> Self {
        prepare_process();
        Self::start_in(&format!("{PREFIX}{}-durable", std::process::id()), &[]).await
    }

    /// Starts a further cluster with a migrated template, for tests that damage it.
    pub async fn start_owner_only(name: &str) -> Self {
        let cluster = Self::start_bare(name).await;
        cluster.create_template().await;
        cluster
    }

    async fn start_in(name: &str, settings: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(name);
        let server = EmbeddedCluster::start(&dir).await.expect("PostgreSQL starts");
        let urls = server.urls().clone();
        let admin = connect(urls.admin_url.expose()).await;
        for statement in settings {
            admin.batch_execute(statement).await.expect("a setting");
        }
        Self { dir, urls, server: Mutex::new(Some(server)), admin: Mutex::new(admin) }
    }

    async fn create_template(&self) {
        self.create_migrated_database(TEMPLATE).await;
    }

    /// Creates a database by running all migrations, for clusters without a template.
    pub async fn create_migrated_database(&self, name: &str) {
        self.create_from_template(name, "template0").await;
        let target = MigrationTarget {
            url: Secret::new(self.url(name)),
            admin_url: Some(Secret::new(self.admin_url(name))),
        };
        prepare(&target, &Sources::built_in(), false).await.expect("the migrations apply");
    }

    /// Directory of the cluster, deleted when it stops.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub async fn create_database(&self, name: &str) {
        self.create_from_template(name, TEMPLATE).await;
    }

    async fn create_from_template(&self, name: &str, template: &str) {
        let admin = self.admin.lock().await;
        let statement = format!("create database {name} template {template} owner postgres");
        // The connections that created the template may take a moment to close.
        for _ in 0..100 {
            match admin.batch_execute(&statement).await {
                Ok(()) => return,
                Err(error) if error.code().is_some_and(|code| code.code() == "55006") => {
                    sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{statement}: {error:?}"),
            }
        }
        panic!("{template} still has connections");
    }

    /// Drops a database and its connections.
    pub async fn drop_database(&self, name: &str) {
        let admin = self.admin.lock().await;
        // If a test has damaged the cluster, the whole cluster is removed at the end.
        admin.batch_execute(&format!("drop database if exists {name} with (force)")).await.ok();
    }

    /// Allows or refuses connections to a database. Refusing also ends the existing ones.
    pub async fn allow_connections(&self, name: &str, allowed: bool) {
        let admin = self.admin.lock().await;
        let alter = format!("alter database {name} allow_connections {allowed}");
        admin.batch_execute(&alter).await.expect("a superuser may");
        if !allowed {
            let end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
            admin.execute(end, &[&name]).await.expect("a superuser may");
        }
    }

    /// URL of a database with the role that servers use.
    pub fn url(&self, database: &str) -> String {
        with_database(self.urls.url.expose(), database)
    }

    /// URL of a database with the superuser role.
    pub fn admin_url(&self, database: &str) -> String {
        with_database(self.urls.admin_url.expose(), database)
    }

    /// Process ID of the postmaster.
    pub fn postmaster_pid(&self) -> Pid {
        let file = std::fs::read_to_string(self.dir.join("pg/postmaster.pid")).expect("it runs");
        Pid::from_raw(
            file.lines().next().and_then(|line| line.parse().ok()).expect("starts with the process ID"),
        )
    }

    /// Restarts PostgreSQL and waits until it accepts connections. Open connections are lost.
    pub async fn restart(&self) {
        self.end(Signal::SIGQUIT).await;
        self.wait_until_restarted().await;
    }

    /// As [`restart`](Self::restart), after `kill -9`.
    pub async fn crash(&self) {
        self.end(Signal::SIGKILL).await;
        self.wait_until_restarted().await;
    }

    /// Ends PostgreSQL as `pg_ctl stop -m immediate` does. The embedded cluster restarts it.
    pub async fn stop_immediately(&self) {
        self.end(Signal::SIGQUIT).await;
    }

    async fn end(&self, signal: Signal) {
        let before = self.postmaster_pid();
        kill(before, signal).expect("PostgreSQL runs");
        let started = Instant::now();
        while kill(before, None).is_ok() {
            assert!(started.elapsed() < WAIT_TIMEOUT, "PostgreSQL does not go down");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn wait_until_restarted(&self) {
        let down = Instant::now();
        *self.admin.lock().await = loop {
            assert!(down.elapsed() < 2 * WAIT_TIMEOUT, "PostgreSQL does not come back");
            match tokio_postgres::connect(self.urls.admin_url.expose(), NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    break client;
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        };
    }

    /// Stops PostgreSQL, runs `work` on the directory of its files, and starts it again at the same address.
    pub async fn while_stopped(&self, work: impl FnOnce(&Path)) {
        let mut server = self.server.lock().await;
        server.take().expect("it runs").stop().await.expect("PostgreSQL stops");
        work(&self.dir.join("pg"));
        let started = EmbeddedCluster::start(&self.dir).await.expect("PostgreSQL starts");
        assert_eq!(started.urls().admin_url.expose(), self.urls.admin_url.expose(), "the address is kept");
        *server = Some(started);
        *self.admin.lock().await = connect(self.urls.admin_url.expose()).await;
    }

    /// Stops PostgreSQL and deletes its files. A second call does nothing.
    pub async fn stop(&self) {
        let Some(server) = self.server.lock().await.take() else { return };
        server.stop().await.expect("PostgreSQL stops");
        std::fs::remove_dir_all(&self.dir).expect("the files are deleted");
    }
}

/// Deletes what killed runs have left, and arranges that this one leaves nothing.
fn prepare_process() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        // reqwest has no default provider.
        rustls::crypto::ring::default_provider().install_default().expect("the first provider");
        remove_leftovers();
        // The test runner ends the process without dropping statics.
        #[expect(unsafe_code, reason = "the standard library has no exit handlers")]
        // SAFETY: the handler is a function without arguments that does not unwind.
        let registered = unsafe { libc::atexit(remove_clusters_at_exit) };
        assert_eq!(registered, 0, "the exit handler is registered");
    });
}

extern "C" fn remove_clusters_at_exit() {
    // Dropped first, so that its supervisor does not restart PostgreSQL.
    if let Some(mut server) = SHARED.get().and_then(|cluster| cluster.server.try_lock().ok()) {
        server.take();
    }
    remove_if(|pid| pid.as_raw().unsigned_abs() == std::process::id());
}

/// Ends the process on SIGINT and SIGTERM.
async fn exit_on_signal() {
    let mut terminated = signal(SignalKind::terminate()).expect("a handler");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
    std::process::exit(130);
}

impl Drop for Cluster {
    /// A failed test has not stopped its cluster.
    fn drop(&mut self) {
        if let Some(server) = self.server.get_mut().take() {
            drop(server);
            remove(&self.dir);
        }
    }
}

/// Opens a connection and spawns its I/O task.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("PostgreSQL answers");
    tokio::spawn(connection);
    client
}

/// Returns the URL with another database name.
pub fn with_database(url: &str, database: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("a URL with a database name");
    format!("{server}/{database}")
}

/// Stops the clusters of runs that were killed and deletes their directories.
fn remove_leftovers() {
    remove_if(|pid| kill(pid, None).is_err());
}

/// Stops the clusters of the processes that `is_meant` selects and deletes their directories.
fn remove_if(is_meant: impl Fn(Pid) -> bool) {
    let entries = std::fs::read_dir(std::env::temp_dir()).expect("the temporary directory");
    for dir in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let pid = rest.split('-').next().and_then(|pid| pid.parse().ok()).map(Pid::from_raw);
        if pid.is_some_and(&is_meant) {
            remove(&dir);
        }
    }
}

/// Stops the PostgreSQL of a directory immediately, waits for it, and deletes its files.
fn remove(dir: &Path) {
    let file = std::fs::read_to_string(dir.join("pg/postmaster.pid")).unwrap_or_default();
    let pid = file.lines().next().and_then(|line| line.parse().ok()).map(Pid::from_raw);
    // After a crash of the machine the process ID may belong to another process.
    if let Some(pid) = pid.filter(|_| matches!(running_cluster(dir), Ok(Some(_))))
        && kill(pid, Signal::SIGQUIT).is_ok()
    {
        for _ in 0..100 {
            // A child that has ended exists until somebody waits for it.
            let is_reaped =
                waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some());
            if is_reaped || kill(pid, None).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    std::fs::remove_dir_all(dir).ok();
}
