//! A NATS server of a test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    net::TcpStream,
    time::{Duration, Instant, sleep},
};
use uuid::Uuid;

use crate::harness::{WAIT_TIMEOUT, free_ports};

/// A `nats-server` on a free port. It is killed when this is dropped.
pub struct NatsServer {
    port: u16,
    monitoring_port: u16,
    dir: PathBuf,
    process: Mutex<Option<Child>>,
}

impl NatsServer {
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts a server with further lines of its configuration.
    pub async fn start_with(configuration: &str) -> Self {
        let [port, monitoring_port] = free_ports();
        let dir = std::env::temp_dir().join(format!("rollcall-nats-{}", Uuid::new_v4()));
        fs::create_dir(&dir).expect("a directory");
        let fixed = format!("listen: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitoring_port}\"\n");
        let text = format!("{fixed}{}", configuration.replace("$DIR", &dir.display().to_string()));
        fs::write(dir.join("nats.conf"), text).expect("a file");
        let server = Self { port, monitoring_port, dir, process: Mutex::default() };
        server.restart().await;
        server
    }

    /// Starts the server again on the same ports.
    pub async fn restart(&self) {
        self.kill();
        let program = program().expect(".ci/install --test unpacks nats-server");
        let process = Command::new(program)
            .arg("-c")
            .arg(self.dir.join("nats.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server runs");
        *self.process.lock() = Some(process);
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            assert!(started.elapsed() < WAIT_TIMEOUT, "nats-server does not listen");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the process with SIGKILL.
    pub fn kill(&self) {
        if let Some(mut process) = self.process.lock().take() {
            // Both fail only if it has ended.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Process ID, unless it was killed.
    pub fn pid(&self) -> Option<u32> {
        self.process.lock().as_ref().map(Child::id)
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// The directory of its configuration, `$DIR` in it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the server reports under a path of its monitoring port, such as `/connz`.
    pub async fn monitor(&self, path: &str) -> Value {
        let client = reqwest::Client::builder().no_proxy().timeout(WAIT_TIMEOUT).build().expect("a client");
        let url = format!("http://127.0.0.1:{}{path}", self.monitoring_port);
        client.get(url).send().await.expect("a response").json().await.expect("JSON")
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The program that `.ci/install --test` unpacked, or one of the system.
pub fn program() -> Option<PathBuf> {
    let executable = std::env::current_exe().expect("the path of this test");
    let unpacked = executable.ancestors().map(|folder| folder.join("tools/deploy/usr/sbin/nats-server"));
    let system = ["/usr/sbin/nats-server", "/usr/local/bin/nats-server"].map(PathBuf::from);
    unpacked.chain(system).find(|path| path.exists())
}
