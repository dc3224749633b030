//! The postmaster process: start, find, wait until ready, stop.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use super::EmbeddedError;
use super::cluster_files::{ClusterFiles, reports_full_disk};
use super::private_files::open_private_log;
use super::record::ClusterRecord;

/// Timeout of a start. Long, because crash recovery replays the WAL.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Timeout of one connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Poll interval for readiness, and for the exit of a process that is not our child.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A fast shutdown writes a checkpoint.
const FAST_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(15);
const IMMEDIATE_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// A larger log is rotated at the next start; one old file is kept.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;
/// Length of the log tail that is searched for the reason of a failed start.
const LOG_TAIL_BYTES: u64 = 64 * 1024;

pub(super) struct Postmaster {
    pub(super) pid: Pid,
    /// `None` if the process was started by an earlier run of the server or manually.
    child: Option<Child>,
    /// Length of the log at the start; later bytes belong to this process.
    log_start: u64,
}

impl Postmaster {
    /// Starts PostgreSQL in its own process group, so that Ctrl-C in the terminal reaches only this process, which then
    /// shuts PostgreSQL down.
    pub(super) fn spawn(files: &ClusterFiles) -> Result<Self, EmbeddedError> {
        let pg_dir = files.pg_dir();
        remove_stale_pid_file(&pg_dir)?;
        files.clear_stale_sockets()?;
        let log_path = files.log_path();
        let file_error = |error| EmbeddedError::file("write", &log_path, error);
        if fs::metadata(&log_path).is_ok_and(|log| log.len() > MAX_LOG_BYTES) {
            fs::rename(&log_path, log_path.with_extension("log.1")).map_err(file_error)?;
        }
        let log = open_private_log(&log_path)?;
        let log_start = log.metadata().map_err(file_error)?.len();

        let program = files.binaries.postgres();
        let mut command = files.account.command(&program);
        command.arg("-D").arg(&pg_dir).current_dir(&pg_dir);
        command.stdout(log.try_clone().map_err(file_error)?).stderr(log);
        let child = Command::from(command)
            .process_group(0)
            .spawn()
            .map_err(|source| EmbeddedError::Spawn { program, source })?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let pid = pid.expect("a child that was not waited for has a process id");
        Ok(Self { pid, child: Some(child), log_start })
    }

    /// Finds a postmaster that already runs on the cluster.
    pub(super) fn find_running(files: &ClusterFiles) -> Option<Self> {
        let pid = running_pid(&files.pg_dir())?;
        let log_start = fs::metadata(files.log_path()).map_or(0, |log| log.len());
        Some(Self { pid, child: None, log_start })
    }

    /// Waits until the superuser can connect and returns the connection.
    pub(super) async fn wait_until_ready(
        &mut self,
        files: &ClusterFiles,
        record: &ClusterRecord,
    ) -> Result<Client, EmbeddedError> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            match timeout(CONNECT_TIMEOUT, connect(record)).await {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(error)) if is_password_rejection(&error) => {
                    return Err(EmbeddedError::PasswordRejected {
                        record: files.record_path(),
                        cluster: files.pg_dir(),
                    });
                }
                // Not listening yet, or still replaying the WAL.
                Ok(Err(_)) | Err(_) => {}
            }
            if timeout(POLL_INTERVAL, self.wait_for_exit()).await.is_ok() {
                return Err(self.exit_error(files));
            }
            if Instant::now() >= deadline {
                return Err(EmbeddedError::NotReady {
                    seconds: READY_TIMEOUT.as_secs(),
                    log: files.log_path(),
                });
            }
        }
    }

    /// Waits for the process to exit. Cancel-safe.
    pub(super) async fn wait_for_exit(&mut self) -> Option<ExitStatus> {
        match &mut self.child {
            Some(child) => child.wait().await.ok(),
            None => {
                while is_alive(self.pid) {
                    sleep(POLL_INTERVAL).await;
                }
                None
            }
        }
    }

    /// Requests a fast shutdown of a child process that is not usable.
    pub(super) fn stop_child(&self) {
        if self.child.is_some() {
            send_signal(self.pid, Signal::SIGINT);
        }
    }

    fn exit_error(&self, files: &ClusterFiles) -> EmbeddedError {
        let output = read_log_from(&files.log_path(), self.log_start).unwrap_or_default();
        if reports_full_disk(&output) {
            return EmbeddedError::DiskFull { dir: files.pg_dir() };
        }
        let reason = output
            .lines()
            .rev()
            // Logged for connection attempts during startup or shutdown, including our own.
            .filter(|line| !line.contains("the database system is "))
            .find_map(|line| ["FATAL:", "PANIC:"].iter().find_map(|mark| line.split_once(mark)))
            .map(|(_, reason)| reason.trim());
        let message = reason.or(output.lines().last()).unwrap_or("no reason given").to_owned();
        EmbeddedError::StartFailed { message, log: files.log_path() }
    }
}

/// Stops the process with a fast shutdown, then with an immediate one.
pub(super) async fn stop(pid: Pid) -> Result<(), EmbeddedError> {
    for (signal, limit) in
        [(Signal::SIGINT, FAST_SHUTDOWN_TIMEOUT), (Signal::SIGQUIT, IMMEDIATE_SHUTDOWN_TIMEOUT)]
    {
        if !is_alive(pid) {
            return Ok(());
        }
        send_signal(pid, signal);
        let exited = async {
            while is_alive(pid) {
                sleep(POLL_INTERVAL).await;
            }
        };
        if timeout(limit, exited).await.is_ok() {
            return Ok(());
        }
    }
    Err(EmbeddedError::StopTimeout { pid: pid.as_raw() })
}

/// Sends a signal; ignores a process that no longer exists.
pub(super) fn send_signal(pid: Pid, signal: Signal) {
    let _ = kill(pid, signal);
}

/// Connects as the superuser. A spawned task polls the connection until the client is dropped.
pub(super) async fn connect(record: &ClusterRecord) -> Result<Client, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = record.admin_url().expose().parse()?;
    config.application_name("rollcall set-up").connect_timeout(CONNECT_TIMEOUT);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn is_password_rejection(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(code) if *code == SqlState::INVALID_PASSWORD
        || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// The process named by the cluster's pid file, if it is alive and works in the cluster's directory.
pub(super) fn running_pid(pg_dir: &Path) -> Option<Pid> {
    let pid = read_pid_file(pg_dir)?;
    (is_alive(pid) && has_working_dir(pid, pg_dir)).then_some(pid)
}

fn read_pid_file(pg_dir: &Path) -> Option<Pid> {
    let text = fs::read_to_string(pg_dir.join("postmaster.pid")).ok()?;
    // A negative number belongs to a single-user process.
    text.lines().next()?.trim().parse().ok().filter(|&pid| pid > 1).map(Pid::from_raw)
}

/// Removes a stale pid file. PostgreSQL overwrites it itself, unless the process ID was reused by another process of the
/// same user: then PostgreSQL would never start.
fn remove_stale_pid_file(pg_dir: &Path) -> Result<(), EmbeddedError> {
    let path = pg_dir.join("postmaster.pid");
    let Some(pid) = read_pid_file(pg_dir) else { return Ok(()) };
    if is_alive(pid) && has_working_dir(pid, pg_dir) {
        return Ok(());
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(EmbeddedError::file("remove", &path, error))
        }
        _ => Ok(()),
    }
}

/// Whether a process is alive; a zombie is not.
fn is_alive(pid: Pid) -> bool {
    match kill(pid, None) {
        Ok(()) | Err(Errno::EPERM) => !is_zombie(pid),
        Err(_) => false,
    }
}

/// Always false outside Linux.
fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The process name precedes the state in parentheses and may contain any character.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// Whether the process works in `pg_dir`, as a postmaster does. True if that cannot be determined.
fn has_working_dir(pid: Pid, pg_dir: &Path) -> bool {
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(cwd) => pg_dir.canonicalize().is_ok_and(|pg_dir| cwd == pg_dir),
        Err(_) => true,
    }
}

fn read_log_from(path: &Path, start: u64) -> std::io::Result<String> {
    let mut log = fs::File::open(path)?;
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(start.max(length.saturating_sub(LOG_TAIL_BYTES))))?;
    let mut bytes = Vec::new();
    log.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster_with_pid(pid: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("rollcall-pid-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("postmaster.pid"), format!("{pid}\n{}\n", dir.display())).unwrap();
        dir
    }

    #[test]
    fn the_pid_file_of_a_dead_process_is_removed() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let dir = cluster_with_pid(&pid.to_string());
        assert_eq!(running_pid(&dir), None);
        remove_stale_pid_file(&dir).unwrap();
        assert!(!dir.join("postmaster.pid").exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_pid_reused_by_another_program_is_stale() {
        // This test process is alive, but works in another directory.
        let dir = cluster_with_pid(&std::process::id().to_string());
        assert_eq!(running_pid(&dir), None);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_invalid_pid_file_names_no_process() {
        for text in ["", "-12", "0", "postgres"] {
            let dir = cluster_with_pid(text);
            assert_eq!(running_pid(&dir), None, "{text}");
            fs::remove_dir_all(dir).unwrap();
        }
    }
}
