//! The one PostgreSQL of a run, with a migrated database that tests copy.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{sys::signal::kill, unistd::Pid};
use rollcall::{
    config::Secret,
    pg::{
        embedded::{ClusterUrls, EmbeddedCluster, running_cluster},
        migrate::{Sources, Target, prepare},
    },
};
use tokio::{sync::Mutex, time::sleep};
use tokio_postgres::{Client, NoTls};

/// The database that tests copy.
const TEMPLATE: &str = "it_template";
/// Directories of runs are called this and the process's id.
const PREFIX: &str = "rollcall-it-";

/// Durability costs time and proves nothing here; deadlocks should show at once.
const FAST: [&str; 4] = [
    "alter system set fsync = off",
    "alter system set full_page_writes = off",
    "alter system set deadlock_timeout = '50ms'",
    "select pg_reload_conf()",
];

/// A cluster in a temporary directory.
pub struct Cluster {
    dir: PathBuf,
    urls: ClusterUrls,
    server: Mutex<Option<EmbeddedCluster>>,
    /// The superuser, in the database `postgres`. One copy at a time: each locks the template.
    admin: Mutex<Client>,
}

impl Cluster {
    /// Starts the cluster and migrates the template. Removes what runs that were killed have left.
    pub async fn start() -> Self {
        remove_leftovers().await;
        let cluster = Self::start_in(&format!("{PREFIX}{}", std::process::id())).await;
        cluster.make_template().await;
        cluster.stop_on_signals();
        cluster
    }

    /// Starts a further cluster with a migrated template, for a test that wants to break one.
    pub async fn start_private(name: &str) -> Self {
        let cluster = Self::start_in(&format!("{PREFIX}{}-{name}", std::process::id())).await;
        cluster.make_template().await;
        cluster
    }

    async fn start_in(name: &str) -> Self {
        let dir = std::env::temp_dir().join(name);
        let server = EmbeddedCluster::start(&dir).await.expect("PostgreSQL starts");
        let urls = server.urls().clone();
        let admin = connect(urls.admin_url.expose()).await;
        for statement in FAST {
            admin.batch_execute(statement).await.expect("a setting");
        }
        Self { dir, urls, server: Mutex::new(Some(server)), admin: Mutex::new(admin) }
    }

    async fn make_template(&self) {
        self.create(TEMPLATE, "template0").await;
        let target = Target {
            url: Secret::new(self.url(TEMPLATE)),
            admin_url: Some(Secret::new(in_database(self.urls.admin_url.expose(), TEMPLATE))),
        };
        prepare(&target, &Sources::built_in(), false).await.expect("the migrations apply");
    }

    /// Copies the template.
    pub async fn create_database(&self, name: &str) {
        self.create(name, TEMPLATE).await;
    }

    async fn create(&self, name: &str, template: &str) {
        let admin = self.admin.lock().await;
        let statement = format!("create database {name} template {template} owner postgres");
        // The connections that made the template may take a moment to go.
        for _ in 0..100 {
            match admin.batch_execute(&statement).await {
                Ok(()) => return,
                Err(error) if error.code().is_some_and(|code| code.code() == "55006") => {
                    sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{statement}: {error:?}"),
            }
        }
        panic!("somebody stays connected to {template}");
    }

    /// Drops a database, with whoever is still connected.
    pub async fn drop_database(&self, name: &str) {
        let admin = self.admin.lock().await;
        // A cluster that a test has broken beyond this goes as a whole at the end.
        admin.batch_execute(&format!("drop database if exists {name} with (force)")).await.ok();
    }

    /// Lets nobody connect to a database any more, and ends who is; or lets them again.
    pub async fn allow_connections(&self, name: &str, allowed: bool) {
        let admin = self.admin.lock().await;
        let alter = format!("alter database {name} allow_connections {allowed}");
        admin.batch_execute(&alter).await.expect("a superuser may");
        if !allowed {
            let end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
            admin.execute(end, &[&name]).await.expect("a superuser may");
        }
    }

    /// The URL of a database, as the role that servers use.
    pub fn url(&self, database: &str) -> String {
        in_database(self.urls.url.expose(), database)
    }

    /// The URL of a database, as the superuser.
    pub fn admin_url(&self, database: &str) -> String {
        in_database(self.urls.admin_url.expose(), database)
    }

    /// The process id of PostgreSQL's first process, of which all others are children.
    pub fn postmaster(&self) -> Pid {
        let file = std::fs::read_to_string(self.dir.join("pg/postmaster.pid")).expect("it runs");
        Pid::from_raw(file.lines().next().and_then(|line| line.parse().ok()).expect("begins with the id"))
    }

    /// Stops PostgreSQL and removes its files. The second call does nothing.
    pub async fn stop(&self) {
        let Some(server) = self.server.lock().await.take() else { return };
        server.stop().await.expect("PostgreSQL stops");
        std::fs::remove_dir_all(&self.dir).expect("the files go");
    }

    /// On ctrl-C nothing stays behind either.
    fn stop_on_signals(&self) {
        let dir = self.dir.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                // The keeper of the cluster may be anywhere; the next start with its directory would adopt it, so
                // ending PostgreSQL itself is enough.
                stop_postgres(&dir.join("pg")).await;
                std::fs::remove_dir_all(&dir).ok();
                std::process::exit(130);
            }
        });
    }
}

/// Opens a connection whose second half runs by itself.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("PostgreSQL answers");
    tokio::spawn(connection);
    client
}

/// The same server's other database.
pub fn in_database(url: &str, database: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("a URL ends with its database");
    format!("{server}/{database}")
}

/// Ends the clusters of runs that did not get to do it, and removes their directories.
async fn remove_leftovers() {
    let entries = std::fs::read_dir(std::env::temp_dir()).expect("the temporary directory");
    for dir in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let Some(pid) = rest.split('-').next().and_then(|pid| pid.parse().ok()) else { continue };
        if kill(Pid::from_raw(pid), None).is_ok() {
            continue; // Another run.
        }
        if matches!(running_cluster(&dir), Ok(Some(_))) {
            stop_postgres(&dir.join("pg")).await;
        }
        std::fs::remove_dir_all(&dir).ok();
    }
}

/// Asks the PostgreSQL of a directory to end at once, and waits for it.
async fn stop_postgres(pg_dir: &Path) {
    let file = std::fs::read_to_string(pg_dir.join("postmaster.pid")).unwrap_or_default();
    let Some(pid) = file.lines().next().and_then(|line| line.parse().ok()).map(Pid::from_raw) else { return };
    if kill(pid, nix::sys::signal::Signal::SIGQUIT).is_err() {
        return;
    }
    for _ in 0..100 {
        if kill(pid, None).is_err() {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}
