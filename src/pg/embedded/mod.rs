//! The embedded PostgreSQL: a local cluster for a first run without any setup.
//!
//! [`EmbeddedCluster::start`] finds the installed programs, creates a cluster in the data directory, starts it and
//! restarts it when it exits. Files in the data directory:
//!
//! | path | content |
//! | --- | --- |
//! | `pg/` | PostgreSQL's data, unless its user cannot enter the data directory |
//! | `run/` | Unix socket |
//! | `postgres.log` | PostgreSQL's log |
//! | `cluster.json` | port and passwords |
//! | `env` | URLs and keys for a shell |
//! | `lock` | locked while a server runs |
//!
//! When the server is killed, PostgreSQL keeps running and the next start adopts it. `cluster_files` manages the files,
//! `postmaster` the process, `supervisor` its restarts.

mod account;
mod binaries;
mod cluster_files;
mod constants;
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

use crate::backoff::Backoff;
use crate::model::Secret;
use cluster_files::ClusterFiles;
use postmaster::Postmaster;
use private_files::DataDirLock;
use record::ClusterRecord;
use supervisor::CurrentPid;

pub use constants::MINIMUM_MAJOR;
pub use env_file::Keys;
pub use error::EmbeddedError;

/// Attempts of the first start. Another program may take the port, and the shared memory of a killed cluster is
/// released with a delay.
const MAX_START_ATTEMPTS: u32 = 6;

/// Connection URLs of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterUrls {
    /// URL for the role `postgres`, used as `DATABASE_URL`.
    pub url: Secret,
    /// URL for the superuser, used to bootstrap.
    pub admin_url: Secret,
}

/// An embedded PostgreSQL owned by this process: started or adopted, supervised, stopped by [`stop`](Self::stop).
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
    /// Starts the cluster in `data_dir`, creating what is missing. Returns when it accepts connections.
    pub async fn start(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let data_dir = data_dir.to_owned();
        let (lock, files, record) = spawn_blocking(move || {
            let lock = DataDirLock::acquire(&cluster_files::open_data_dir(&data_dir)?)?;
            let (files, record) = ClusterFiles::open(&data_dir)?;
            Ok::<_, EmbeddedError>((lock, files, record))
        })
        .await??;

        let (record, postmaster) = Self::start_postgres(&files, record).await?;
        let current_pid = Arc::new(CurrentPid::default());
        current_pid.set(postmaster.pid);
        let stop = CancellationToken::new();
        let supervision = supervisor::supervise(
            files.clone(),
            record.clone(),
            postmaster,
            Arc::clone(&current_pid),
            stop.clone(),
        );
        let cluster = Self {
            urls: ClusterUrls { url: record.url(), admin_url: record.admin_url() },
            files,
            current_pid,
            stop,
            supervisor: Some(tokio::spawn(supervision)),
            _lock: lock,
        };
        prepare_roles(&record).await.map_err(EmbeddedError::Roles)?;
        Ok(cluster)
    }

    async fn start_postgres(
        files: &ClusterFiles,
        mut record: ClusterRecord,
    ) -> Result<(ClusterRecord, Postmaster), EmbeddedError> {
        if let Some(mut postmaster) = Postmaster::find_running(files) {
            debug!(pid = postmaster.pid.as_raw(), "adopting a running PostgreSQL");
            match postmaster.wait_until_ready(files, &record).await {
                Ok(_) => return Ok((record, postmaster)),
                // It was shutting down; start a new one.
                Err(EmbeddedError::StartFailed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if files.ensure_cluster(&record).await? {
            info!("cluster created, starting PostgreSQL");
        } else {
            info!(path = %files.pg_dir().display(), "starting PostgreSQL");
        }
        // Two processes may compete for the cluster.
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut attempts = 0;
        loop {
            if record.replace_taken_port()? {
                info!(port = record.port, "port in use by another program, PostgreSQL moved to a new port");
                record.write(&files.data_dir)?;
            }
            files.write_settings(record.port)?;
            attempts += 1;
            match supervisor::attach_or_start(files, &record, &CurrentPid::default()).await {
                Ok(postmaster) => return Ok((record, postmaster)),
                Err(error @ EmbeddedError::StartFailed { .. }) if attempts < MAX_START_ATTEMPTS => {
                    debug!(%error, "PostgreSQL did not start, retrying");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Connection URLs; they do not change while this server runs.
    pub fn urls(&self) -> &ClusterUrls {
        &self.urls
    }

    pub fn log_path(&self) -> PathBuf {
        self.files.log_path()
    }

    /// The JWT secret and API keys: those stored in `<data_dir>/env`, or new ones if none are stored or `configured` is
    /// another secret.
    pub fn keys(&self, configured: Option<&Secret>) -> Result<Keys, EmbeddedError> {
        Keys::load_or_generate(&self.files.data_dir, configured)
    }

    /// Writes `<data_dir>/env`: URLs of database and server, and the keys.
    pub fn write_env(&self, keys: &Keys, rollcall_url: &str) -> Result<(), EmbeddedError> {
        env_file::write(&self.files.data_dir, &self.urls.url, keys, rollcall_url)
    }

    /// Stops PostgreSQL and waits: fast shutdown first, immediate shutdown after 15 s.
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        self.stop.cancel();
        let joined = match self.supervisor.take() {
            Some(supervisor) => supervisor.await,
            None => Ok(()),
        };
        // A process that the supervisor was about to adopt appears only in the pid file.
        let pid = postmaster::running_pid(&self.files.pg_dir()).or_else(|| self.current_pid.get());
        if let Some(pid) = pid {
            postmaster::stop(pid).await?;
        }
        Ok(joined?)
    }
}

impl Drop for EmbeddedCluster {
    /// Requests a fast shutdown if `stop` was not called, for example when the start failed.
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(pid) = self.supervisor.take().and_then(|_| self.current_pid.get()) {
            postmaster::send_signal(pid, Signal::SIGINT);
        }
    }
}

/// URLs of the cluster in `data_dir` if it runs, otherwise `None`.
pub fn running_cluster(data_dir: &Path) -> Result<Option<ClusterUrls>, EmbeddedError> {
    let Some(record) = ClusterRecord::read(data_dir)? else { return Ok(None) };
    let root = record.cluster_root.clone().unwrap_or_else(|| data_dir.to_owned());
    let running = postmaster::running_pid(&root.join("pg")).is_some();
    Ok(running.then(|| ClusterUrls { url: record.url(), admin_url: record.admin_url() }))
}

/// Whether `data_dir` holds a cluster, running or not.
pub fn has_cluster(data_dir: &Path) -> bool {
    ClusterRecord::path(data_dir).is_file()
}

/// Whether `url` is the URL in the data directory's `env` file, as when a shell sourced that file. The cluster must then
/// be started, not only used.
pub fn is_own_url(data_dir: &Path, url: &Secret) -> bool {
    // Variables of libpq may have completed it.
    env_file::database_url(data_dir).is_some_and(|own| {
        let rest = url.expose().strip_prefix(own.expose());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['?', '&']))
    })
}

/// Creates the role of `DATABASE_URL` and sets its password.
async fn prepare_roles(record: &ClusterRecord) -> Result<(), tokio_postgres::Error> {
    let mut client = postmaster::connect(record).await?;
    let transaction = client.transaction().await?;
    transaction.execute(include_str!("../../../sql/embedded/set_password.sql"), &[&record.password]).await?;
    transaction.batch_execute(include_str!("../../../sql/embedded/roles.sql")).await?;
    transaction.commit().await
}
