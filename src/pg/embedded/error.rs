//! Errors of the embedded PostgreSQL. Each message says what is wrong and what to do.

use std::io;
use std::path::{Path, PathBuf};

use super::constants::MINIMUM_MAJOR;

#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error(
        "PostgreSQL is not installed: install it (Debian, Ubuntu: apt-get install postgresql), or set \
         DATABASE_URL to use one elsewhere"
    )]
    NotInstalled,
    /// The configuration or the surroundings do not allow an embedded PostgreSQL.
    #[error("{0}; set EMBEDDED_DATABASE=true to start an embedded PostgreSQL in ROLLCALL_DATA_DIR")]
    Refused(String),
    #[error(
        "only PostgreSQL {found} is installed and {MINIMUM_MAJOR} or newer is needed: install a newer one, or set \
         DATABASE_URL to use one elsewhere"
    )]
    TooOld { found: u32 },
    /// The data directory belongs to a major version that is not installed.
    #[error(
        "the data in {} was created by PostgreSQL {major}, which is not installed: install it \
         (Debian, Ubuntu: apt-get install postgresql-{major}), or move the directory away to start with an empty database", dir.display()
    )]
    VersionNotInstalled { dir: PathBuf, major: u32 },
    /// The process runs as root, and there is no `postgres` user to run PostgreSQL as.
    #[error(
        "PostgreSQL does not run as root and there is no user \"postgres\" to run it as: create one \
         (apt-get install postgresql does), or run rollcall as an ordinary user"
    )]
    NoServiceUser,
    #[error(
        "another rollcall server{} uses {}: stop it, or set another data directory with \
         ROLLCALL_DATA_DIR", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), dir.display()
    )]
    InUse {
        dir: PathBuf,
        /// Process ID of the other server, if its lock file names it.
        pid: Option<i32>,
    },
    #[error("the disk that holds {} is full: free some space and start again", dir.display())]
    DiskFull { dir: PathBuf },
    /// A file operation in the data directory failed.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// The failed operation, as in "cannot write …".
        verb: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// `cluster.json` cannot be parsed.
    #[error("{} is damaged: restore it, or move {} away to start with an empty database", record.display(), cluster.display())]
    RecordDamaged { record: PathBuf, cluster: PathBuf, source: serde_json::Error },
    /// `cluster.json` is missing although a cluster exists.
    #[error(
        "{} is missing, and with it the passwords of the cluster in {}: restore it, or move the cluster away to \
         start with an empty database", record.display(), cluster.display()
    )]
    RecordMissing { record: PathBuf, cluster: PathBuf },
    /// The cluster rejects the password in `cluster.json`.
    #[error("the cluster in {} rejects the password stored in {}: restore the password or the file", cluster.display(), record.display())]
    PasswordRejected { record: PathBuf, cluster: PathBuf },
    #[error("cannot run {}", program.display())]
    Spawn { program: PathBuf, source: io::Error },
    #[error("initdb failed in {}: {message}", dir.display())]
    Initdb { dir: PathBuf, message: String },
    /// PostgreSQL exited during startup.
    #[error("PostgreSQL did not start: {message} (see {})", log.display())]
    StartFailed { message: String, log: PathBuf },
    /// PostgreSQL runs and accepts no connections.
    #[error("PostgreSQL accepted no connections within {seconds} s (see {})", log.display())]
    NotReady { seconds: u64, log: PathBuf },
    #[error("cannot create the roles of the cluster")]
    Roles(#[source] tokio_postgres::Error),
    #[error("cannot sign the keys for the env file")]
    Keys(#[from] crate::auth::token::MintError),
    #[error("no free port for PostgreSQL between {first} and {last}")]
    NoPort { first: u16, last: u16 },
    /// PostgreSQL still runs after an immediate shutdown.
    #[error("PostgreSQL (process {pid}) did not stop after an immediate shutdown")]
    StopTimeout {
        /// Process ID of the postmaster.
        pid: i32,
    },
    /// A background task panicked or was cancelled.
    #[error("a background task of the embedded PostgreSQL failed")]
    TaskFailed(#[from] tokio::task::JoinError),
}

impl EmbeddedError {
    /// Wraps an I/O error; a full disk becomes [`DiskFull`](Self::DiskFull).
    pub(super) fn file(verb: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { dir: path.parent().unwrap_or(path).to_owned() }
            }
            _ => Self::File { verb, path: path.to_owned(), source },
        }
    }
}
