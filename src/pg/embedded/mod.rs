//! A PostgreSQL of the server's own, for a first run without any set-up.
//!
//! [`EmbeddedCluster::start`] finds the installed programs, makes a cluster in the data directory, starts it and
//! keeps it up. What it leaves there:
//!
//! | path | what |
//! | --- | --- |
//! | `pg/` | PostgreSQL's data, unless its user cannot enter the data directory |
//! | `run/` | its Unix socket |
//! | `postgres.log` | its log |
//! | `cluster.json` | port and passwords |
//! | `env` | what a shell needs to work with the server |
//! | `lock` | held while a server runs |
//!
//! When the server is killed, PostgreSQL stays, and the next start finds it and goes on with it.
//! Read `home` for where and whose the files are, `postmaster` for the process, `supervisor` for its restarts.

mod account;
mod binaries;
mod cluster_files;
mod env_file;
mod error;
mod postmaster;
mod private_files;
mod record;
mod supervisor;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::model::Secret;
use cluster_files::ClusterFiles;
use postmaster::Postmaster;
use private_files::DataDirLock;
use record::ClusterRecord;
use supervisor::CurrentPid;

pub use env_file::Keys;
pub use error::EmbeddedError;

/// The oldest major version of PostgreSQL that will do.
pub const MINIMUM_MAJOR: u32 = 15;
/// The superuser, named as on Supabase.
const ADMIN_ROLE: &str = "supabase_admin";
/// The role that the server and its DBA use: no superuser, as on Supabase.
const SERVER_ROLE: &str = "postgres";
/// Tries of the first start. Another program may take the port, and shared memory of a cluster that was killed
/// takes a moment to go.
const MAX_START_ATTEMPTS: u32 = 6;

/// How to reach a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterUrls {
    /// As the role `postgres`, which is what `DATABASE_URL` is.
    pub url: Secret,
    /// As the superuser, for the bootstrap.
    pub admin_url: Secret,
}

/// A PostgreSQL that belongs to this process: started or found running, watched, ended by [`stop`](Self::stop).
#[derive(Debug)]
pub struct EmbeddedCluster {
    urls: ClusterUrls,
    files: ClusterFiles,
    current_pid: Arc<CurrentPid>,
    stop: CancellationToken,
    supervisor: Option<JoinHandle<()>>,
    _lock: DataDirLock,
}

impl EmbeddedCluster {
    /// Starts the cluster of `data_dir`, making whatever is missing; returns when it answers.
    ///
    /// # Errors
    /// Each is one sentence that says what to do.
    pub async fn start(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let given = data_dir.to_owned();
        let (lock, home, record) = spawn_blocking(move || {
            let lock = DataDirLock::acquire(&cluster_files::open_data_dir(&given)?)?;
            let (home, record) = ClusterFiles::open(&given)?;
            Ok::<_, EmbeddedError>((lock, home, record))
        })
        .await??;

        let (record, postmaster) = Self::start_postgres(&home, record).await?;
        let current = Arc::new(CurrentPid::default());
        current.set(postmaster.pid);
        let stop = CancellationToken::new();
        let watching = supervisor::supervise(
            home.clone(),
            record.clone(),
            postmaster,
            Arc::clone(&current),
            stop.clone(),
        );
        let cluster = Self {
            urls: ClusterUrls { url: record.url(), admin_url: record.admin_url() },
            files: home,
            current_pid: current,
            stop,
            supervisor: Some(tokio::spawn(watching)),
            _lock: lock,
        };
        prepare_roles(&record).await.map_err(EmbeddedError::Roles)?;
        Ok(cluster)
    }

    async fn start_postgres(
        home: &ClusterFiles,
        mut record: ClusterRecord,
    ) -> Result<(ClusterRecord, Postmaster), EmbeddedError> {
        if let Some(mut found) = Postmaster::find_running(home) {
            debug!(pid = found.pid.as_raw(), "PostgreSQL is running already");
            match found.wait_until_ready(home, &record).await {
                Ok(_) => return Ok((record, found)),
                // It was about to end; start another one.
                Err(EmbeddedError::StartFailed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if home.ensure_cluster(&record).await? {
            info!("made it; starting PostgreSQL");
        } else {
            info!("starting PostgreSQL with the database in {}", home.pg_dir().display());
        }
        let mut pause = Duration::from_millis(200);
        let mut tries = 0;
        loop {
            if record.replace_taken_port()? {
                info!(port = record.port, "another program has PostgreSQL's port, taking a new one");
                record.write(&home.data_dir)?;
            }
            home.write_settings(record.port)?;
            tries += 1;
            match supervisor::attach_or_start(home, &record, &CurrentPid::default()).await {
                Ok(postmaster) => return Ok((record, postmaster)),
                Err(error @ EmbeddedError::StartFailed { .. }) if tries < MAX_START_ATTEMPTS => {
                    debug!(%error, "trying again");
                    tokio::time::sleep(supervisor::with_jitter(pause)).await;
                    pause *= 2;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How to reach it. Stays the same while this server runs.
    pub fn urls(&self) -> &ClusterUrls {
        &self.urls
    }

    /// PostgreSQL's log.
    pub fn log_path(&self) -> PathBuf {
        self.files.log_path()
    }

    /// The secret for tokens, with the two API keys signed by it: those that were kept in `<data_dir>/env`, unless
    /// the operator configured another secret; made at the first start.
    ///
    /// # Errors
    /// When the keys cannot be signed.
    pub fn keys(&self, configured: Option<&Secret>) -> Result<Keys, EmbeddedError> {
        Keys::load_or_generate(&self.files.data_dir, configured)
    }

    /// Writes `<data_dir>/env`: how to reach database and server, and the keys.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_env(&self, keys: &Keys, rollcall_url: &str) -> Result<(), EmbeddedError> {
        env_file::write(&self.files.data_dir, &self.urls.url, keys, rollcall_url)
    }

    /// Ends PostgreSQL and waits for that: a fast shutdown, after 15 s an immediate one.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        self.stop.cancel();
        let supervised = match self.supervisor.take() {
            Some(supervisor) => supervisor.await,
            None => Ok(()),
        };
        // One that the supervisor was just about to adopt is in the pid file only.
        let pid = postmaster::running_pid(&self.files.pg_dir()).or_else(|| self.current_pid.get());
        if let Some(pid) = pid {
            postmaster::stop(pid).await?;
        }
        Ok(supervised?)
    }
}

impl Drop for EmbeddedCluster {
    /// Asks PostgreSQL to end when nobody waited for it, as when the start fails half-way.
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(pid) = self.supervisor.take().and_then(|_| self.current_pid.get()) {
            postmaster::send_signal(pid, Signal::SIGINT);
        }
    }
}

/// How to reach the cluster of `data_dir` if a server runs it now; `None` if not.
///
/// # Errors
/// When the file with port and passwords cannot be read.
pub fn running_cluster(data_dir: &Path) -> Result<Option<ClusterUrls>, EmbeddedError> {
    let Some(record) = ClusterRecord::read(data_dir)? else { return Ok(None) };
    let root = record.home.clone().unwrap_or_else(|| data_dir.to_owned());
    let running = postmaster::running_pid(&root.join("pg")).is_some();
    Ok(running.then(|| ClusterUrls { url: record.url(), admin_url: record.admin_url() }))
}

/// Whether there is a cluster in `data_dir`, running or not.
pub fn has_cluster(data_dir: &Path) -> bool {
    ClusterRecord::path(data_dir).is_file()
}

/// Whether `url` is that of the cluster of `data_dir`, as when somebody sourced its `env` file before starting
/// the server: then the cluster has to be started, not only used.
pub fn is_own_url(data_dir: &Path, url: &Secret) -> bool {
    env_file::database_url(data_dir).is_some_and(|own| own == *url)
}

/// Makes the role that the server uses, if it is not there yet.
async fn prepare_roles(record: &ClusterRecord) -> Result<(), tokio_postgres::Error> {
    let mut client = postmaster::connect(record).await?;
    let transaction = client.transaction().await?;
    transaction.execute(include_str!("../../../sql/embedded/set_password.sql"), &[&record.password]).await?;
    transaction.batch_execute(include_str!("../../../sql/embedded/roles.sql")).await?;
    transaction.commit().await
}
