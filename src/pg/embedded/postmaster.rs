//! PostgreSQL's first process: starting it, finding one that runs already, waiting for it, ending it.

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

/// How long a start may take. Long, because recovery after a crash replays the log.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often we look whether it is ready, or whether a process that is not our child still lives.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long a fast shutdown may take; it writes a checkpoint.
const FAST_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an immediate one may take.
const IMMEDIATE_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// The log is begun anew at a start when it is larger, in bytes; one older one is kept.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;
/// How much of the log is read for the reason of a failed start, in bytes.
const LOG_TAIL_BYTES: u64 = 64 * 1024;

/// A running PostgreSQL.
pub(super) struct Postmaster {
    pub(super) pid: Pid,
    /// `None`: started by somebody else, or by an earlier run of ours that was killed.
    child: Option<Child>,
    /// Length of the log when it started: what comes after is its own.
    log_start: u64,
}

impl Postmaster {
    /// Starts one, in a process group of its own, so that a Ctrl-C in the terminal reaches us alone and we end
    /// it in order.
    pub(super) fn spawn(home: &ClusterFiles) -> Result<Self, EmbeddedError> {
        let pg_dir = home.pg_dir();
        remove_stale_pid_file(&pg_dir)?;
        home.clear_stale_sockets()?;
        let log_path = home.log_path();
        let failed = |error| EmbeddedError::file("write", &log_path, error);
        if fs::metadata(&log_path).is_ok_and(|log| log.len() > MAX_LOG_BYTES) {
            fs::rename(&log_path, log_path.with_extension("log.1")).map_err(failed)?;
        }
        let log = open_private_log(&log_path)?;
        let log_start = log.metadata().map_err(failed)?.len();

        let program = home.binaries.postgres();
        let mut command = home.account.command(&program);
        command.arg("-D").arg(&pg_dir).current_dir(&pg_dir);
        command.stdout(log.try_clone().map_err(failed)?).stderr(log);
        let child = Command::from(command)
            .process_group(0)
            .spawn()
            .map_err(|source| EmbeddedError::Spawn { program, source })?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let pid = pid.expect("a child that was not waited for has a process id");
        Ok(Self { pid, child: Some(child), log_start })
    }

    /// The one that runs on the cluster already, if any.
    pub(super) fn find_running(home: &ClusterFiles) -> Option<Self> {
        let pid = running_pid(&home.pg_dir())?;
        let log_start = fs::metadata(home.log_path()).map_or(0, |log| log.len());
        Some(Self { pid, child: None, log_start })
    }

    /// Waits until it answers the superuser and returns that connection.
    pub(super) async fn wait_until_ready(
        &mut self,
        home: &ClusterFiles,
        record: &ClusterRecord,
    ) -> Result<Client, EmbeddedError> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            match timeout(CONNECT_TIMEOUT, connect(record)).await {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(error)) if is_password_rejection(&error) => {
                    return Err(EmbeddedError::PasswordRejected {
                        record: home.record_path(),
                        cluster: home.pg_dir(),
                    });
                }
                // Not listening yet, or still replaying its log.
                Ok(Err(_)) | Err(_) => {}
            }
            if timeout(POLL_INTERVAL, self.wait_for_exit()).await.is_ok() {
                return Err(self.exit_error(home));
            }
            if Instant::now() >= deadline {
                return Err(EmbeddedError::NotReady {
                    seconds: READY_TIMEOUT.as_secs(),
                    log: home.log_path(),
                });
            }
        }
    }

    /// Waits for its end. Cancel-safe.
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

    /// Asks it to end if it is ours and cannot be used, so that it is not left behind.
    pub(super) fn stop_child(&self) {
        if self.child.is_some() {
            send_signal(self.pid, Signal::SIGINT);
        }
    }

    fn exit_error(&self, home: &ClusterFiles) -> EmbeddedError {
        let said = read_log_from(&home.log_path(), self.log_start).unwrap_or_default();
        if reports_full_disk(&said) {
            return EmbeddedError::DiskFull { dir: home.pg_dir() };
        }
        let reason = said
            .lines()
            .rev()
            // Said to whoever connects too early or too late, ourselves included.
            .filter(|line| !line.contains("the database system is "))
            .find_map(|line| ["FATAL:", "PANIC:"].iter().find_map(|mark| line.split_once(mark)))
            .map(|(_, reason)| reason.trim());
        let said = reason.or(said.lines().last()).unwrap_or("it gave no reason").to_owned();
        EmbeddedError::StartFailed { said, log: home.log_path() }
    }
}

/// Ends the process: a fast shutdown, and if that takes too long an immediate one.
pub(super) async fn stop(pid: Pid) -> Result<(), EmbeddedError> {
    for (signal, patience) in
        [(Signal::SIGINT, FAST_SHUTDOWN_TIMEOUT), (Signal::SIGQUIT, IMMEDIATE_SHUTDOWN_TIMEOUT)]
    {
        if !is_alive(pid) {
            return Ok(());
        }
        send_signal(pid, signal);
        let gone = async {
            while is_alive(pid) {
                sleep(POLL_INTERVAL).await;
            }
        };
        if timeout(patience, gone).await.is_ok() {
            return Ok(());
        }
    }
    Err(EmbeddedError::StopTimeout { pid: pid.as_raw() })
}

/// Sends a signal; a process that is gone already is as good.
pub(super) fn send_signal(pid: Pid, signal: Signal) {
    let _ = kill(pid, signal);
}

/// Opens a connection as the superuser. Its driver runs until the client is dropped.
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

/// The process that runs on a cluster, if its pid file tells the truth.
pub(super) fn running_pid(pg_dir: &Path) -> Option<Pid> {
    let pid = read_pid_file(pg_dir)?;
    (is_alive(pid) && has_working_dir(pid, pg_dir)).then_some(pid)
}

fn read_pid_file(pg_dir: &Path) -> Option<Pid> {
    let text = fs::read_to_string(pg_dir.join("postmaster.pid")).ok()?;
    // A negative number is that of a single-user process.
    text.lines().next()?.trim().parse().ok().filter(|&pid| pid > 1).map(Pid::from_raw)
}

/// PostgreSQL overwrites a stale file by itself, unless the number in it has come to belong to another process
/// of the same user: then it would refuse to start for ever.
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

/// Whether a process lives; one that ended and was not yet waited for does not.
fn is_alive(pid: Pid) -> bool {
    match kill(pid, None) {
        Ok(()) | Err(Errno::EPERM) => !is_zombie(pid),
        Err(_) => false,
    }
}

/// Known on Linux only; elsewhere nobody is.
fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the state is in parentheses and may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// PostgreSQL's working directory is its data directory. Where that cannot be seen, the pid file is believed.
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
        // This test process lives, but does not work in that directory.
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
