//! A copy of a cluster's files with a PostgreSQL at a port of its own: a standby, a backup, or the files of a primary that
//! was replaced.

use std::{
    fs::Permissions,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::{
    cluster::{Cluster, connect},
    harness::{WAIT_TIMEOUT, free_port},
};

const MAX_COPY_ATTEMPTS: usize = 5;

/// Files of PostgreSQL beside those of a cluster.
pub struct CopiedCluster {
    programs: PathBuf,
    files: PathBuf,
    /// User and group of the files.
    account: (u32, u32),
    port: u16,
    /// URL of a database of the cluster, whose port this replaces.
    url: String,
}

impl CopiedCluster {
    /// Copies the primary and follows it. Returns when it has what the primary has now.
    pub async fn standby(cluster: &Cluster, admin_url: &str) -> Self {
        let standby = Self::copy(cluster, admin_url, &["--write-recovery-conf"]).await;
        standby.start().await;
        let primary = connect(admin_url).await;
        let position: String =
            primary.query_one("select pg_current_wal_lsn()::text", &[]).await.expect("a position").get(0);
        let follows = format!("select pg_last_wal_replay_lsn() >= '{position}'");
        let follower = standby.connect().await;
        let started = Instant::now();
        while follower.query_one(&follows, &[]).await.expect("an answer").get::<_, Option<bool>>(0)
            != Some(true)
        {
            assert!(started.elapsed() < WAIT_TIMEOUT, "the standby follows");
            sleep(Duration::from_millis(20)).await;
        }
        standby
    }

    /// Copies the primary as `pg_basebackup` does. The copy does not run.
    pub async fn backup(cluster: &Cluster, admin_url: &str) -> Self {
        Self::copy(cluster, admin_url, &[]).await
    }

    async fn copy(cluster: &Cluster, admin_url: &str, options: &[&str]) -> Self {
        let copy = Self::beside(cluster, admin_url, "copy").await;
        for attempt in 1.. {
            std::fs::create_dir_all(&copy.files).expect("a folder");
            for folder in [copy.files.as_path(), copy.folder()] {
                chown(folder, Some(copy.account.0), Some(copy.account.1)).expect("an owner");
                std::fs::set_permissions(folder, Permissions::from_mode(0o700)).expect("permissions");
            }
            let mut backup = copy.command("pg_basebackup");
            backup
                .args(["--checkpoint=fast", "--dbname", admin_url, "--pgdata"])
                .arg(&copy.files)
                .args(options);
            match run(backup).await {
                Ok(()) => break,
                // PostgreSQL takes a sender of the log for stuck when the clock jumps.
                Err(error) => assert!(attempt < MAX_COPY_ATTEMPTS, "{error}"),
            }
            std::fs::remove_dir_all(&copy.files).ok();
        }
        copy
    }

    async fn beside(cluster: &Cluster, admin_url: &str, name: &str) -> Self {
        let query = "select setting from pg_catalog.pg_config() where name = 'BINDIR'";
        let admin = connect(admin_url).await;
        let programs: String = admin.query_one(query, &[]).await.expect("a folder").get(0);
        let owner = std::fs::metadata(cluster.dir().join("pg")).expect("the files");
        Self {
            programs: programs.into(),
            files: cluster.dir().with_extension(name).join("pg"),
            account: (owner.uid(), owner.gid()),
            port: free_port(),
            url: admin_url.to_owned(),
        }
    }

    /// The folder of the files, which the account may enter.
    fn folder(&self) -> &Path {
        self.files.parent().expect("a folder")
    }

    /// Exchanges the files with those of a stopped cluster.
    pub fn exchange(&self, files: &Path) {
        let aside = self.folder().join("aside");
        std::fs::rename(files, &aside).expect("moved");
        std::fs::rename(&self.files, files).expect("moved");
        std::fs::rename(&aside, &self.files).expect("moved");
    }

    /// A program of PostgreSQL, as the owner of the files.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.files).stdin(Stdio::null());
        if nix::unistd::geteuid().is_root() {
            command.uid(self.account.0).gid(self.account.1);
        }
        command
    }

    async fn control(&self, action: &str, options: &[&str]) {
        let mut command = self.command("pg_ctl");
        command.arg("--pgdata").arg(&self.files).args(["--wait", action]).args(options);
        run(command).await.expect("pg_ctl succeeds");
    }

    /// Starts PostgreSQL on the files.
    pub async fn start(&self) {
        let log = self.files.join("copy.log");
        let options = format!("-p {} -c unix_socket_directories=''", self.port);
        self.control("start", &["--options", &options, "--log", log.to_str().expect("UTF-8")]).await;
    }

    /// Ends recovery: the standby becomes a primary with a timeline of its own.
    pub async fn promote(&self) {
        self.control("promote", &[]).await;
    }

    pub async fn stop(&self) {
        self.control("stop", &["--mode", "fast"]).await;
    }

    /// Opens a connection as the superuser.
    pub async fn connect(&self) -> Client {
        let mut url = reqwest::Url::parse(&self.url).expect("a URL");
        url.set_port(Some(self.port)).expect("a URL with a host");
        connect(url.as_str()).await
    }
}

impl Drop for CopiedCluster {
    /// A failed test has not stopped PostgreSQL.
    fn drop(&mut self) {
        if self.files.join("postmaster.pid").exists() {
            let mut command = self.command("pg_ctl");
            command.arg("--pgdata").arg(&self.files).args(["--wait", "stop", "--mode", "immediate"]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
        }
        std::fs::remove_dir_all(self.folder()).ok();
    }
}

/// Runs a program without blocking other tasks, such as the connections that a backup waits for.
async fn run(mut command: Command) -> Result<(), String> {
    let work = move || {
        let output = command.output().expect("the program runs");
        let error = || format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(()) } else { Err(error()) }
    };
    tokio::task::spawn_blocking(work).await.expect("no panic")
}
