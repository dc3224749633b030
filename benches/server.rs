//! The server under test: the release binary, in a process of its own.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
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

use crate::{cluster::Database, users::SECRET};

/// Linux counts processor time in hundredths of a second, whatever the kernel's own clock.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Limits that a benchmark would hit, since it is one client that does what thousands do.
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
/// Names another binary to measure, to compare one build with another.
const BINARY_VARIABLE: &str = "BENCH_BINARY";
const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server.
pub struct Server {
    child: Child,
    pid: u32,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts one with its default settings, but without limits on how often something is done.
    pub async fn start(database: &Database) -> Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let log = File::options().create(true).append(true).open(database.dir.join("server.log"))?;
        let binary =
            std::env::var_os(BINARY_VARIABLE).unwrap_or_else(|| env!("CARGO_BIN_EXE_rollcall").into());
        let child = Command::new(binary)
            .arg("serve")
            .env("DATABASE_URL", &database.url)
            .env("JWT_SECRET", SECRET)
            .env("PORT", port.to_string())
            .envs(UNLIMITED.map(|name| (name, "0")))
            .env_remove("RUST_LOG")
            .current_dir(&database.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().context("a process that runs has an id")?;
        let mut server = Self { child, pid, address: ([127, 0, 0, 1], port).into() };
        let begun = Instant::now();
        while TcpStream::connect(server.address).await.is_err() {
            ensure!(server.child.try_wait()?.is_none(), "the server ended; see server.log");
            ensure!(begun.elapsed() < START_TIMEOUT, "the server does not listen");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    /// Processor time used so far.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(self.pid)
    }

    /// Its process.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }

    /// Stops it in order.
    pub async fn stop(mut self) -> Result<()> {
        signal::kill(Pid::from_raw(i32::try_from(self.pid)?), signal::Signal::SIGTERM)?;
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }
}

/// Processor time that a process has used so far, by all threads, user and system, in steps of 10 ms.
pub fn cpu_of(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name and may hold anything; after it the 12th and 13th are what is wanted.
    let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
    let fields = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    let ticks = fields.sum::<Result<u32, _>>()?;
    Ok(POLL_INTERVAL * ticks)
}
