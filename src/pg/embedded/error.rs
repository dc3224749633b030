//! What can keep the server's own PostgreSQL from running: one sentence each, saying what to do.

use std::io;
use std::path::{Path, PathBuf};

use super::MINIMUM_MAJOR;

/// The server's own PostgreSQL could not be started, opened or stopped.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No PostgreSQL on this machine.
    #[error(
        "PostgreSQL is not installed: install it (Debian, Ubuntu: apt-get install postgresql), or set \
         DATABASE_URL to use one elsewhere"
    )]
    NotInstalled,
    /// There is one, but too old.
    #[error(
        "only PostgreSQL {found} is installed and {MINIMUM_MAJOR} or newer is needed: install a newer one, or set \
         DATABASE_URL to use one elsewhere"
    )]
    TooOld {
        /// The newest major version found.
        found: u32,
    },
    /// The data belongs to a major version that is not installed (any more).
    #[error(
        "the data in {} was made by PostgreSQL {wanted}, which is not installed: install it \
         (Debian, Ubuntu: apt-get install postgresql-{wanted}), or move the directory away to begin anew", dir.display()
    )]
    VersionNotInstalled {
        /// The cluster's directory.
        dir: PathBuf,
        /// Its major version.
        wanted: u32,
    },
    /// We are root, PostgreSQL refuses to be, and there is nobody to become.
    #[error(
        "PostgreSQL does not run as root and there is no user \"postgres\" to run it as: create one \
         (apt-get install postgresql does), or run rollcall as an ordinary user"
    )]
    NoServiceUser,
    /// Another server owns the data directory.
    #[error(
        "another rollcall{} is running in {}: stop it, or give this one a directory of its own with \
         ROLLCALL_DATA_DIR", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), dir.display()
    )]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// The other process, if it said.
        pid: Option<i32>,
    },
    /// No room.
    #[error("the disk that holds {} is full: make room and start again", dir.display())]
    DiskFull {
        /// A directory on that disk.
        dir: PathBuf,
    },
    /// A file or directory of ours cannot be made, read or written.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file with ports and passwords does not make sense.
    #[error("{} is damaged: restore it, or move {} away to begin anew", record.display(), cluster.display())]
    RecordDamaged {
        /// The file.
        record: PathBuf,
        /// The cluster that it opens.
        cluster: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The file with ports and passwords is gone.
    #[error(
        "{} is gone, and with it the passwords of the cluster in {}: restore it, or move the cluster away to \
         begin anew", record.display(), cluster.display()
    )]
    RecordMissing {
        /// The file.
        record: PathBuf,
        /// The cluster that it opens.
        cluster: PathBuf,
    },
    /// The cluster does not know the password that we kept.
    #[error("the cluster in {} refuses the password kept in {}", cluster.display(), record.display())]
    PasswordRejected {
        /// The file with the password.
        record: PathBuf,
        /// The cluster.
        cluster: PathBuf,
    },
    /// A program of PostgreSQL could not be run.
    #[error("cannot run {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `initdb` failed.
    #[error("PostgreSQL could not set up a cluster in {}: {said}", dir.display())]
    Initdb {
        /// Where.
        dir: PathBuf,
        /// Its last line.
        said: String,
    },
    /// PostgreSQL ended while it was starting.
    #[error("PostgreSQL did not start: {said} (see {})", log.display())]
    StartFailed {
        /// What it logged last.
        said: String,
        /// Its log.
        log: PathBuf,
    },
    /// PostgreSQL runs and does not answer.
    #[error("PostgreSQL did not answer within {seconds} s (see {})", log.display())]
    NotReady {
        /// How long we waited.
        seconds: u64,
        /// Its log.
        log: PathBuf,
    },
    /// The role that the server uses could not be made.
    #[error("cannot prepare the roles of the new cluster")]
    Roles(#[source] tokio_postgres::Error),
    /// The keys of the `env` file could not be signed.
    #[error("cannot sign the keys for the env file")]
    Keys(#[from] crate::auth::token::MintError),
    /// No port free in the range that is searched.
    #[error("no free port between {first} and {last} for PostgreSQL")]
    NoPort {
        /// The range's first.
        first: u16,
        /// The range's last.
        last: u16,
    },
    /// PostgreSQL does not go away.
    #[error("PostgreSQL (process {pid}) did not stop")]
    StopTimeout {
        /// Its first process.
        pid: i32,
    },
    /// A helper thread or task of ours died: a bug.
    #[error("a task of the embedded PostgreSQL died")]
    TaskFailed(#[from] tokio::task::JoinError),
}

impl EmbeddedError {
    /// An I/O error on a path of ours; a full disk gets its own sentence.
    pub(super) fn file(verb: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { dir: path.parent().unwrap_or(path).to_owned() }
            }
            _ => Self::File { verb, path: path.to_owned(), source },
        }
    }
}
