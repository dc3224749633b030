//! The server under test: the release binary in its own process.

use std::{
    ffi::OsString,
    fs::File,
    net::{SocketAddr, TcpListener},
    ops::Range,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{sys::signal, unistd::Pid};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

use testkit::harness::{SECRET, server_binary};

use crate::cluster::Database;

/// Linux reports CPU time in hundredths of a second.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Settings that disable rate limits, since one client generates the load of thousands.
const UNLIMITED: [&str; 8] = [
    "CONTEXT_REQUESTS_PER_MINUTE",
    "PRESENCE_UPDATES_PER_MINUTE",
    "REALTIME_MAX_CLIENT_EVENTS_PER_SECOND",
    "REALTIME_MAX_CONNECTIONS",
    "REALTIME_MAX_EVENTS_PER_SECOND",
    "REALTIME_MAX_JOINS_PER_SECOND",
    "REALTIME_MAX_PRESENCE_EVENTS_PER_SECOND",
    "REALTIME_PRESENCE_CALLS",
];
/// Environment variable with the path of another binary to measure.
const BINARY_VARIABLE: &str = "BENCH_BINARY";
const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server process.
pub struct Server {
    child: Child,
    pid: u32,
    /// Address it listens on.
    pub address: SocketAddr,
}

impl Server {
    /// Starts a server with default settings but without rate limits.
    pub async fn start(database: &Database) -> Result<Self> {
        Self::start_with(database, &[]).await
    }

    /// [`start`](Self::start) with further settings.
    pub async fn start_with(database: &Database, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_command(Command::new(binary()), database, settings).await
    }

    /// [`start_with`](Self::start_with) on one core, so that the server has one worker thread and one hub shard.
    pub async fn start_on_core(database: &Database, settings: &[(&str, &str)], core: usize) -> Result<Self> {
        // taskset executes the server in its own process.
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &core.to_string()]).arg(binary());
        Self::start_command(command, database, settings).await
    }

    async fn start_command(
        mut command: Command,
        database: &Database,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let log = File::options().create(true).append(true).open(database.dir.join("server.log"))?;
        let child = command
            .arg("serve")
            .env("DATABASE_URL", &database.url)
            .env("JWT_SECRET", SECRET)
            .env("PORT", port.to_string())
            .envs(UNLIMITED.map(|name| (name, "0")))
            .envs(settings.iter().copied())
            .env_remove("RUST_LOG")
            .current_dir(&database.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().context("a running process has an ID")?;
        let mut server = Self { child, pid, address: ([127, 0, 0, 1], port).into() };
        let started = Instant::now();
        while TcpStream::connect(server.address).await.is_err() {
            ensure!(server.child.try_wait()?.is_none(), "the server ended; see server.log");
            ensure!(started.elapsed() < START_TIMEOUT, "the server does not listen");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    /// Returns the CPU time used so far.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(self.pid)
    }

    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the resident memory, in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }

    /// Ends the server with SIGKILL.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Stops the server gracefully.
    pub async fn stop(mut self) -> Result<()> {
        signal::kill(Pid::from_raw(i32::try_from(self.pid)?), signal::Signal::SIGTERM)?;
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }
}

fn binary() -> OsString {
    std::env::var_os(BINARY_VARIABLE).unwrap_or_else(|| server_binary().into())
}

/// Returns the CPU time of all threads of a process (user and system), in steps of 10 ms.
pub fn cpu_of(pid: u32) -> Result<Duration> {
    ticks(pid, 11..13)
}

/// Returns the CPU time of PostgreSQL: of the postmaster and its children, in nanoseconds, and of the children that have
/// ended, in steps of 10 ms.
pub fn cpu_of_postgres(postmaster: u32) -> Result<Duration> {
    let mut sum = cpu_of_threads(postmaster)? + ticks(postmaster, 13..15)?;
    for entry in std::fs::read_dir("/proc")? {
        let Some(child) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may end meanwhile.
        if parent_of(child).is_ok_and(|parent| parent == postmaster) {
            sum += cpu_of_threads(child).unwrap_or_default();
        }
    }
    Ok(sum)
}

/// Returns the CPU time of the running threads of a process, in nanoseconds. Threads that have ended do not count.
pub fn cpu_of_threads(pid: u32) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanos = text.split_whitespace().next().context("CPU time in schedstat")?;
        sum += Duration::from_nanos(nanos.parse()?);
    }
    Ok(sum)
}

/// Returns the ID of the parent of a process.
pub fn parent_of(pid: u32) -> Result<u32> {
    Ok(fields(pid, 1..2)?[0])
}

fn ticks(pid: u32, range: Range<usize>) -> Result<Duration> {
    Ok(POLL_INTERVAL * fields(pid, range)?.into_iter().sum::<u32>())
}

/// Reads numbers of `/proc/<pid>/stat`, counted from after the process name, which may contain spaces: 1 is the parent,
/// 11 to 12 the CPU times of the process, 13 to 14 those of its ended children.
fn fields(pid: u32, range: Range<usize>) -> Result<Vec<u32>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
    let fields = fields.split_whitespace().skip(range.start).take(range.len()).map(str::parse);
    Ok(fields.collect::<Result<_, _>>()?)
}
