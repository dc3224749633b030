//! Where the cluster's files are, and making them.
//!
//! A cluster is made in `pg.new.*` and renamed to `pg` when it is whole, so that an interrupted `initdb` leaves
//! nothing behind that could be taken for a cluster.

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
use super::{ADMIN_ROLE, EmbeddedError};

/// What the directory of a cluster in the making is called, with our process id behind.
const UNFINISHED_PREFIX: &str = "pg.new.";
/// Where clusters go whose data directory the `postgres` user cannot enter, as below root's home.
const FALLBACK_ROOT: &str = "/var/lib/rollcall";
/// How long `initdb` may take, its final sync on a slow disk included. It takes about a second.
const INITDB_TIMEOUT: Duration = Duration::from_secs(180);
/// Unix socket addresses have 108 bytes on Linux and 104 on macOS, with `/.s.PGSQL.12345` in them.
const MAX_SOCKET_DIR_BYTES: usize = 85;

/// A cluster's files and whom they belong to.
#[derive(Debug, Clone)]
pub(super) struct ClusterFiles {
    /// The server's data directory, absolute.
    pub(super) data_dir: PathBuf,
    /// Directory of `pg`: the data directory, or one outside.
    root: PathBuf,
    /// Whom PostgreSQL runs as.
    pub(super) account: Account,
    /// Its programs, of the cluster's version.
    pub(super) binaries: Binaries,
}

/// Makes the data directory if need be and returns its absolute path.
pub(super) fn open_data_dir(data_dir: &Path) -> Result<PathBuf, EmbeddedError> {
    let failed = |error| EmbeddedError::file("make the directory", data_dir, error);
    if let Some(parent) = data_dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    // Root's has to let the postgres user through, to a directory of that user's own.
    let mode = if geteuid().is_root() { 0o711 } else { 0o700 };
    match DirBuilder::new().mode(mode).create(data_dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    data_dir.canonicalize().map_err(failed)
}

impl ClusterFiles {
    /// Finds the cluster's place, account and programs. With no record yet it decides the place and writes one,
    /// before anything else is made: what follows may be interrupted and has to find the same passwords again.
    pub(super) fn open(data_dir: &Path) -> Result<(Self, ClusterRecord), EmbeddedError> {
        let data_dir = open_data_dir(data_dir)?;
        let Some(record) = ClusterRecord::read(&data_dir)? else {
            let cluster = data_dir.join("pg");
            if is_cluster(&cluster) {
                return Err(EmbeddedError::RecordMissing { record: ClusterRecord::path(&data_dir), cluster });
            }
            let binaries = Binaries::find(None, &cluster)?;
            let account = Account::for_cluster(&cluster)?;
            let outside =
                (!account.can_access(&data_dir, &binaries.postgres())).then(|| fallback_dir(&data_dir));
            if let Some(outside) = &outside {
                info!(
                    "the user that PostgreSQL runs as cannot enter {}, so the database lives in {}",
                    data_dir.display(),
                    outside.display()
                );
            }
            let record = ClusterRecord::generate(outside)?;
            record.write(&data_dir)?;
            return Self::from_record(data_dir, record);
        };
        Self::from_record(data_dir, record)
    }

    fn from_record(data_dir: PathBuf, record: ClusterRecord) -> Result<(Self, ClusterRecord), EmbeddedError> {
        let root = record.home.clone().unwrap_or_else(|| data_dir.clone());
        let cluster = root.join("pg");
        if record.home.is_some() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&root)
                .map_err(|error| EmbeddedError::file("make the directory", &root, error))?;
        }
        let wanted = is_cluster(&cluster).then(|| cluster_major_version(&cluster)).flatten();
        let binaries = Binaries::find(wanted, &cluster)?;
        let account = Account::for_cluster(&cluster)?;
        Ok((Self { data_dir, root, account, binaries }, record))
    }

    /// PostgreSQL's data directory.
    pub(super) fn pg_dir(&self) -> PathBuf {
        self.root.join("pg")
    }

    /// PostgreSQL's log, ours to read.
    pub(super) fn log_path(&self) -> PathBuf {
        self.data_dir.join("postgres.log")
    }

    /// The file with port and passwords.
    pub(super) fn record_path(&self) -> PathBuf {
        ClusterRecord::path(&self.data_dir)
    }

    /// Makes the cluster if there is none. True if it did.
    pub(super) async fn ensure_cluster(&self, record: &ClusterRecord) -> Result<bool, EmbeddedError> {
        let pg_dir = self.pg_dir();
        if is_cluster(&pg_dir) {
            return Ok(false);
        }
        if pg_dir.exists() {
            let aside = self.root.join(format!("pg.broken-{}", jiff::Timestamp::now().as_second()));
            warn!("{} is not a whole cluster; moved to {}", pg_dir.display(), aside.display());
            fs::rename(&pg_dir, &aside).map_err(|error| EmbeddedError::file("move away", &pg_dir, error))?;
        }
        if self.remove_unfinished() {
            info!("an earlier set-up of the database was interrupted, beginning again");
        }
        info!("making a database in {}; this takes a few seconds, once", pg_dir.display());
        // A name of its own: the `initdb` of a server that was killed may still be writing.
        let unfinished = self.root.join(format!("{UNFINISHED_PREFIX}{}", std::process::id()));
        self.make_private_dir(&unfinished)?;
        self.initdb(&unfinished, record).await?;
        fs::rename(&unfinished, &pg_dir)
            .map_err(|error| EmbeddedError::file("rename to pg", &unfinished, error))?;
        Ok(true)
    }

    /// Removes what interrupted set-ups left, as far as it can be. True if there was anything.
    fn remove_unfinished(&self) -> bool {
        let mut found = false;
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED_PREFIX) {
                found = true;
                if let Err(error) = fs::remove_dir_all(entry.path()) {
                    warn!(%error, "cannot remove {}", entry.path().display());
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
                // Bytewise order and Unicode's letters; glibc has it built in, other systems know only C.
                .arg(if cfg!(target_os = "linux") { "--locale=C.UTF-8" } else { "--locale=C" })
                .arg("--no-instructions")
                .arg("--pwfile")
                .arg(&password_file);
            let running = Command::from(command).kill_on_drop(true).output();
            let output = match tokio::time::timeout(INITDB_TIMEOUT, running).await {
                Ok(Ok(output)) => output,
                Ok(Err(source)) => return Err(EmbeddedError::Spawn { program, source }),
                Err(_) => {
                    let said = format!("it took more than {} s", INITDB_TIMEOUT.as_secs());
                    return Err(EmbeddedError::Initdb { dir: pg_dir.to_owned(), said });
                }
            };
            if output.status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&output.stderr);
            if reports_full_disk(&said) {
                return Err(EmbeddedError::DiskFull { dir: self.root.clone() });
            }
            let said = said.lines().find(|line| line.contains("error:") || line.contains("FATAL:"));
            let said = said.unwrap_or("it gave no reason").trim().to_owned();
            Err(EmbeddedError::Initdb { dir: pg_dir.to_owned(), said })
        }
        .await;
        let _ = fs::remove_file(&password_file);
        outcome
    }

    /// Writes the settings that are ours. In a file of the cluster, not on a command line, so that they hold too
    /// when somebody restarts it with `pg_ctl`.
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
        let failed = |error| EmbeddedError::file("write", &main, error);
        let content = fs::read_to_string(&main).map_err(failed)?;
        let include = "include 'rollcall.conf'";
        if !content.lines().any(|line| line == include) {
            write_private(&main, &format!("{content}\n{include}\n"))?;
            self.account.give_ownership(&main)?;
        }
        Ok(())
    }

    /// The directory of the Unix socket: beside the cluster, or a temporary one where that path is too long for
    /// a socket's address or has characters that would need quoting.
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
            // Somebody else's, in a directory where everybody may write: never use it.
            Ok(_) if !usable => {
                let source = io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user");
                return Err(EmbeddedError::File { verb: "use", path: dir, source });
            }
            Ok(_) => self.account.give_ownership(&dir)?,
            Err(_) => self.make_private_dir(&dir)?,
        }
        Ok(dir)
    }

    /// Removes sockets that a killed PostgreSQL left. Their lock files name a process, and if that number belongs
    /// to another one by now, or nobody waited for the dead (as in a container without an init), PostgreSQL would
    /// not start. To be called only when none runs on this cluster.
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
            .map_err(|error| EmbeddedError::file("make the directory", dir, error))?;
        self.account.give_ownership(dir)
    }
}

/// Whether PostgreSQL complains of a full disk. A file that could be extended in part gets the second, as a hint.
pub(super) fn reports_full_disk(said: &str) -> bool {
    said.contains("No space left on device") || said.contains("Check free disk space")
}

/// Whether `initdb` came to its end there. It writes the control file early, so a directory that was not made
/// by us under another name first might pass that is not whole; ours are renamed when they are.
fn is_cluster(pg_dir: &Path) -> bool {
    pg_dir.join("PG_VERSION").is_file() && pg_dir.join("global/pg_control").is_file()
}

fn cluster_major_version(pg_dir: &Path) -> Option<u32> {
    fs::read_to_string(pg_dir.join("PG_VERSION")).ok()?.trim().parse().ok()
}

fn fallback_dir(data_dir: &Path) -> PathBuf {
    Path::new(FALLBACK_ROOT).join(path_hash(data_dir))
}

/// Sixteen hexadecimal digits that stand for a path.
fn path_hash(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
