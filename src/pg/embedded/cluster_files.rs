//! Locates, creates and configures the files of a cluster.
//!
//! `initdb` runs in `pg.new.*`, which is renamed to `pg` when it is complete. An interrupted `initdb` therefore leaves
//! nothing that looks like a cluster.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;
use sha2::{Digest, Sha256};
use tokio::process::Command;
use tracing::{info, warn};

use super::account::Account;
use super::binaries::Binaries;
use super::private_files::write_private;
use super::record::ClusterRecord;
use super::{EmbeddedError, constants::ADMIN_ROLE};
use crate::lifecycle::ErrorChain;

/// Prefix of directories in which `initdb` runs; the process ID follows.
const UNFINISHED_PREFIX: &str = "pg.new.";
/// Parent of clusters whose data directory the `postgres` user cannot enter, for example below root's home.
const FALLBACK_ROOT: &str = "/var/lib/rollcall";
/// Timeout of `initdb`, which takes about a second plus its final sync on a slow disk.
const INITDB_TIMEOUT: Duration = Duration::from_secs(180);
/// In bytes. Socket addresses have 108 bytes on Linux and 104 on macOS, including `/.s.PGSQL.12345`.
const MAX_SOCKET_DIR_BYTES: usize = 85;

/// Paths, account and programs of a cluster.
#[derive(Debug, Clone)]
pub(super) struct ClusterFiles {
    /// Absolute path of the server's data directory.
    pub(super) data_dir: PathBuf,
    /// Parent of `pg`: the data directory, or a directory below [`FALLBACK_ROOT`].
    root: PathBuf,
    pub(super) account: Account,
    /// Server programs of the cluster's major version.
    pub(super) binaries: Binaries,
}

/// Creates the data directory if necessary and returns its absolute path.
pub(super) fn open_data_dir(data_dir: &Path) -> Result<PathBuf, EmbeddedError> {
    let file_error = |error| EmbeddedError::file("create the directory", data_dir, error);
    if let Some(parent) = data_dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(file_error)?;
    }
    // The postgres user must be able to pass through root's directory to its own subdirectory.
    let mode = if geteuid().is_root() { 0o711 } else { 0o700 };
    match DirBuilder::new().mode(mode).create(data_dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(file_error(error)),
        _ => {}
    }
    data_dir.canonicalize().map_err(file_error)
}

impl ClusterFiles {
    /// Locates the cluster and selects account and programs. Without a record it chooses the location and writes a record
    /// before it creates anything else, so that an interrupted setup finds the same passwords again.
    pub(super) fn open(data_dir: &Path) -> Result<(Self, ClusterRecord), EmbeddedError> {
        let data_dir = open_data_dir(data_dir)?;
        let Some(record) = ClusterRecord::read(&data_dir)? else {
            let cluster = data_dir.join("pg");
            if is_cluster(&cluster) {
                return Err(EmbeddedError::RecordMissing { record: ClusterRecord::path(&data_dir), cluster });
            }
            let binaries = Binaries::find(None, &cluster)?;
            let account = Account::for_cluster(&cluster)?;
            let fallback =
                (!account.can_access(&data_dir, &binaries.postgres())).then(|| fallback_dir(&data_dir));
            if let Some(fallback) = &fallback {
                info!(
                    data_dir = %data_dir.display(),
                    cluster_dir = %fallback.display(),
                    "the PostgreSQL user cannot enter the data directory, using another cluster directory"
                );
            }
            let record = ClusterRecord::generate(fallback)?;
            record.write(&data_dir)?;
            return Self::from_record(data_dir, record);
        };
        Self::from_record(data_dir, record)
    }

    fn from_record(data_dir: PathBuf, record: ClusterRecord) -> Result<(Self, ClusterRecord), EmbeddedError> {
        let root = record.cluster_root.clone().unwrap_or_else(|| data_dir.clone());
        let cluster = root.join("pg");
        if record.cluster_root.is_some() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&root)
                .map_err(|error| EmbeddedError::file("create the directory", &root, error))?;
        }
        let major = is_cluster(&cluster).then(|| cluster_major_version(&cluster)).flatten();
        let binaries = Binaries::find(major, &cluster)?;
        let account = Account::for_cluster(&cluster)?;
        Ok((Self { data_dir, root, account, binaries }, record))
    }

    pub(super) fn pg_dir(&self) -> PathBuf {
        self.root.join("pg")
    }

    /// PostgreSQL's log, readable by this process.
    pub(super) fn log_path(&self) -> PathBuf {
        self.data_dir.join("postgres.log")
    }

    /// Path of `cluster.json`.
    pub(super) fn record_path(&self) -> PathBuf {
        ClusterRecord::path(&self.data_dir)
    }

    /// Creates the cluster if it does not exist; returns whether it did.
    pub(super) async fn ensure_cluster(&self, record: &ClusterRecord) -> Result<bool, EmbeddedError> {
        let pg_dir = self.pg_dir();
        if is_cluster(&pg_dir) {
            return Ok(false);
        }
        if pg_dir.exists() {
            let aside = self.root.join(format!("pg.broken-{}", jiff::Timestamp::now().as_second()));
            warn!(path = %pg_dir.display(), moved_to = %aside.display(), "incomplete cluster moved away");
            fs::rename(&pg_dir, &aside).map_err(|error| EmbeddedError::file("move away", &pg_dir, error))?;
        }
        if self.remove_unfinished() {
            info!("removed files of an interrupted initdb");
        }
        info!(path = %pg_dir.display(), "creating the embedded PostgreSQL cluster, which takes a few seconds");
        // The name is unique per process: the `initdb` of a killed server may still be writing.
        let unfinished = self.root.join(format!("{UNFINISHED_PREFIX}{}", std::process::id()));
        self.make_private_dir(&unfinished)?;
        self.initdb(&unfinished, record).await?;
        fs::rename(&unfinished, &pg_dir)
            .map_err(|error| EmbeddedError::file("rename to pg", &unfinished, error))?;
        Ok(true)
    }

    /// Removes directories of interrupted `initdb` runs as far as possible; returns whether there were any.
    fn remove_unfinished(&self) -> bool {
        let mut found = false;
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED_PREFIX) {
                found = true;
                if let Err(error) = fs::remove_dir_all(entry.path()) {
                    warn!(error = %ErrorChain(&error), path = %entry.path().display(), "removing an unfinished cluster failed");
                }
            }
        }
        found
    }

    async fn initdb(&self, pg_dir: &Path, record: &ClusterRecord) -> Result<(), EmbeddedError> {
        let password_file = self.root.join("pg.password");
        write_private(&password_file, &record.admin_password)?;
        let outcome = async {
            self.account.give_ownership(&password_file)?;
            let program = self.binaries.initdb();
            let mut command = self.account.command(&program);
            command
                .current_dir(pg_dir)
                .arg("--pgdata")
                .arg(pg_dir)
                .args(["--username", ADMIN_ROLE, "--auth=scram-sha-256", "--encoding=UTF8"])
                // Bytewise order with Unicode character classes; only glibc has C.UTF-8 built in.
                .arg(if cfg!(target_os = "linux") { "--locale=C.UTF-8" } else { "--locale=C" })
                .arg("--no-instructions")
                .arg("--pwfile")
                .arg(&password_file);
            let running = Command::from(command).kill_on_drop(true).output();
            let output = match tokio::time::timeout(INITDB_TIMEOUT, running).await {
                Ok(Ok(output)) => output,
                Ok(Err(source)) => return Err(EmbeddedError::Spawn { program, source }),
                Err(_) => {
                    let message = format!("timeout after {} s", INITDB_TIMEOUT.as_secs());
                    return Err(EmbeddedError::Initdb { dir: pg_dir.to_owned(), message });
                }
            };
            if output.status.success() {
                return Ok(());
            }
            let stderr = String::from_utf8_lossy(&output.stderr);
            if reports_full_disk(&stderr) {
                return Err(EmbeddedError::DiskFull { dir: self.root.clone() });
            }
            let reason = stderr.lines().find(|line| line.contains("error:") || line.contains("FATAL:"));
            let message = reason.unwrap_or("no reason given").trim().to_owned();
            Err(EmbeddedError::Initdb { dir: pg_dir.to_owned(), message })
        }
        .await;
        let _ = fs::remove_file(&password_file);
        outcome
    }

    /// Writes the server's PostgreSQL settings to a file in the cluster, so that they also apply after a manual
    /// `pg_ctl restart`.
    pub(super) fn write_settings(&self, port: u16) -> Result<(), EmbeddedError> {
        let pg_dir = self.pg_dir();
        let settings = pg_dir.join("rollcall.conf");
        let socket_dir = self.socket_dir()?;
        let text = format!(
            "{}port = {port}\nunix_socket_directories = '{}'\n",
            include_str!("rollcall.conf"),
            socket_dir.display()
        );
        write_private(&settings, &text)?;
        self.account.give_ownership(&settings)?;

        let main = pg_dir.join("postgresql.conf");
        let file_error = |error| EmbeddedError::file("write", &main, error);
        let content = fs::read_to_string(&main).map_err(file_error)?;
        let include = "include 'rollcall.conf'";
        if !content.lines().any(|line| line == include) {
            write_private(&main, &format!("{content}\n{include}\n"))?;
            self.account.give_ownership(&main)?;
        }
        Ok(())
    }

    /// Directory of the Unix socket: `run` next to the cluster, or a temporary directory if that path is too long for a
    /// socket address or contains characters that need quoting.
    fn socket_dir(&self) -> Result<PathBuf, EmbeddedError> {
        let beside = self.root.join("run");
        let usable = beside.to_str().is_some_and(|path| {
            path.len() <= MAX_SOCKET_DIR_BYTES
                && !path.contains(['\'', ',', '"', '\\'])
                && !path.starts_with('@')
        });
        let dir = if usable {
            beside
        } else {
            std::env::temp_dir().join(format!("rollcall-{}", path_hash(&self.root)))
        };
        match fs::symlink_metadata(&dir) {
            Ok(found) if found.is_dir() && self.is_owned_by_cluster_user(&found) => {}
            // Another user's directory in a world-writable parent must not be used.
            Ok(_) if !usable => {
                let source = io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user");
                return Err(EmbeddedError::File { verb: "use", path: dir, source });
            }
            Ok(_) => self.account.give_ownership(&dir)?,
            Err(_) => self.make_private_dir(&dir)?,
        }
        Ok(dir)
    }

    /// Removes socket lock files left by a killed PostgreSQL. Each names a process ID, and PostgreSQL does not start if that
    /// ID now belongs to another process or to a zombie, as in a container without an init process. Call this only while no
    /// PostgreSQL runs on the cluster.
    pub(super) fn clear_stale_sockets(&self) -> Result<(), EmbeddedError> {
        for entry in fs::read_dir(self.socket_dir()?).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".s.PGSQL.") {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    fn is_owned_by_cluster_user(&self, found: &fs::Metadata) -> bool {
        fs::metadata(self.pg_dir()).is_ok_and(|cluster| cluster.uid() == found.uid())
    }

    fn make_private_dir(&self, dir: &Path) -> Result<(), EmbeddedError> {
        DirBuilder::new()
            .mode(0o700)
            .create(dir)
            .map_err(|error| EmbeddedError::file("create the directory", dir, error))?;
        self.account.give_ownership(dir)
    }
}

/// Whether a message reports a full disk. The second text is the hint when a file could be extended only in part.
pub(super) fn reports_full_disk(message: &str) -> bool {
    message.contains("No space left on device") || message.contains("Check free disk space")
}

/// Whether the directory holds a cluster. `initdb` writes the control file early, so this is reliable only for
/// directories that were renamed after `initdb` completed, as ours are.
fn is_cluster(pg_dir: &Path) -> bool {
    pg_dir.join("PG_VERSION").is_file() && pg_dir.join("global/pg_control").is_file()
}

fn cluster_major_version(pg_dir: &Path) -> Option<u32> {
    fs::read_to_string(pg_dir.join("PG_VERSION")).ok()?.trim().parse().ok()
}

fn fallback_dir(data_dir: &Path) -> PathBuf {
    Path::new(FALLBACK_ROOT).join(path_hash(data_dir))
}

/// The first 8 bytes of the path's SHA-256, in hexadecimal.
fn path_hash(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
