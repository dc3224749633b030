//! The database of one test, test servers on it, and test users.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusBuilder;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parking_lot::Mutex;
use rollcall::{
    app::{Environment, Server},
    auth::token,
    auth::{Principal, Role},
    clock::SystemClock,
    config::{Config, Settings},
    lifecycle::{Shutdown, TaskFailure},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, Row, types::ToSql};
use uuid::Uuid;

use crate::cluster::{Cluster, connect};

/// Secret that signs the test tokens.
pub const SECRET: &str = "integration-tests-only-0123456789abcdef";
/// Time until a condition must hold. Far above the expected time, because the machine may be busy, and because a new
/// replication slot waits for the open transactions of all tests.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The database of one test and its servers.
pub struct TestDatabase {
    cluster: Arc<Cluster>,
    database: String,
    /// URL of the database with the role that servers use.
    pub url: String,
    /// Connection as the owner of the tables, which is not a superuser.
    pub sql: Client,
    servers: Mutex<Vec<Arc<TestServer>>>,
}

impl TestDatabase {
    /// Creates a database without servers.
    pub async fn new(cluster: Arc<Cluster>) -> Arc<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let database = format!("it_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        cluster.create_database(&database).await;
        let url = cluster.url(&database);
        let sql = connect(&url).await;
        Arc::new(Self { cluster, database, url, sql, servers: Mutex::default() })
    }

    /// Starts a server with short intervals and no update limit.
    pub async fn start_server(&self) -> Arc<TestServer> {
        self.start_server_with(|_| {}).await
    }

    /// Starts a server with further settings.
    pub async fn start_server_with(&self, change: impl FnOnce(&mut Settings)) -> Arc<TestServer> {
        let node = Arc::new(TestServer::start(&self.url, change).await);
        self.servers.lock().push(node.clone());
        node
    }

    /// Starts a server with a changed configuration, which has more fields than there are settings.
    pub async fn start_server_configured(&self, configure: impl FnOnce(&mut Config)) -> Arc<TestServer> {
        let node = Arc::new(TestServer::start_on(&self.url, None, |_| {}, configure).await);
        self.servers.lock().push(node.clone());
        node
    }

    /// Starts a server in its own process, as an operator would.
    pub async fn start_server_process(&self) -> Arc<TestServer> {
        self.start_server_process_after("true").await
    }

    /// Starts a server in its own process, after a shell has executed `prelude` (such as `ulimit`).
    pub async fn start_server_process_after(&self, prelude: &str) -> Arc<TestServer> {
        let node = Arc::new(TestServer::start_process(&self.url, prelude).await);
        self.servers.lock().push(node.clone());
        node
    }

    /// URL of the database with the superuser role.
    pub fn admin_url(&self) -> String {
        self.cluster.admin_url(&self.database)
    }

    /// Opens another connection as the owner of the tables.
    pub async fn connect(&self) -> Client {
        connect(&self.url).await
    }

    /// Executes statements as the owner. Each `$name` is replaced by the given ID as a literal.
    pub async fn execute(&self, statements: &str, ids: &[(&str, Uuid)]) {
        let text = with_ids(statements, ids);
        self.sql.batch_execute(&text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
    }

    /// Returns one row as the owner.
    pub async fn query_row(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Row {
        let row = self.sql.query_one(statement, params).await;
        row.unwrap_or_else(|error| panic!("{statement}: {error:?}"))
    }

    /// Makes two users accepted contacts.
    pub async fn add_contact(&self, one: &User, other: &User) {
        self.execute(
            "insert into rollcall.contacts (requester_id, addressee_id, accepted_at) values ($one, $other, now())",
            &[("one", one.id), ("other", other.id)],
        )
        .await;
    }

    /// Sets a user's status in SQL, on a device that lives on heartbeats.
    pub async fn set_status(&self, user: &User, status: &str) {
        self.execute(&format!("select rollcall.set_status($user, '{status}')"), &[("user", user.id)]).await;
    }

    /// Executes statements in a transaction that stays open.
    pub async fn begin(&self, statements: &str) -> OpenTransaction {
        let sql = self.connect().await;
        sql.batch_execute(&format!("begin; {statements}")).await.expect("executed");
        OpenTransaction(sql)
    }

    /// Waits until the statement returns one row with the value true.
    pub async fn wait_until(&self, what: &str, statement: &str, ids: &[(&str, Uuid)]) {
        self.wait_until_within(WAIT_TIMEOUT, what, statement, ids).await;
    }

    /// [`wait_until`](Self::wait_until) with a timeout.
    pub async fn wait_until_within(
        &self,
        limit: Duration,
        what: &str,
        statement: &str,
        ids: &[(&str, Uuid)],
    ) {
        let text = with_ids(statement, ids);
        let started = Instant::now();
        let holds = async || {
            let row =
                self.sql.query_opt(&text, &[]).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
            row.and_then(|row| row.get::<_, Option<bool>>(0)).unwrap_or(false)
        };
        while !holds().await {
            assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends all connections to the database and refuses new ones, like a stopped PostgreSQL.
    pub async fn disconnect_clients(&self) {
        self.cluster.allow_connections(&self.database, false).await;
    }

    /// Allows connections again. The own connection stays closed.
    pub async fn allow_connections(&self) {
        self.cluster.allow_connections(&self.database, true).await;
    }

    /// Stops the servers and drops the database; returns the error of the first server that failed.
    pub async fn close(&self) -> Result<(), String> {
        let nodes = std::mem::take(&mut *self.servers.lock());
        let mut failed = Ok(());
        for node in nodes {
            failed = failed.and(node.stop().await);
        }
        self.cluster.drop_database(&self.database).await;
        failed
    }
}

/// A transaction that has executed its statements and was not committed.
pub struct OpenTransaction(Client);

impl OpenTransaction {
    /// Commits it.
    pub async fn commit(self) {
        self.0.batch_execute("commit").await.expect("committed");
    }
}

/// Waits until the condition holds.
pub async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < WAIT_TIMEOUT, "not within {WAIT_TIMEOUT:?}: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

fn with_ids(statements: &str, ids: &[(&str, Uuid)]) -> String {
    ids.iter()
        .fold(statements.to_owned(), |text, (name, id)| text.replace(&format!("${name}"), &format!("'{id}'")))
}

#[derive(Debug, Clone)]
pub struct User {
    pub id: Uuid,
    /// Token that is valid for one hour.
    pub token: String,
}

impl Default for User {
    fn default() -> Self {
        Self::new()
    }
}

impl User {
    /// Creates a user with a random ID.
    pub fn new() -> Self {
        Self::with_claims(json!({}))
    }

    /// Creates `count` users with random IDs.
    pub fn many(count: usize) -> Vec<Self> {
        (0..count).map(|_| Self::new()).collect()
    }

    /// Creates a user whose token has further claims.
    pub fn with_claims(claims: Value) -> Self {
        let id = Uuid::new_v4();
        let mut all = json!({"sub": id, "role": "authenticated", "exp": unix_time_in(3_600)});
        let (all_claims, Value::Object(claims)) = (all.as_object_mut().expect("an object"), claims) else {
            panic!("claims are an object");
        };
        all_claims.extend(claims);
        Self { id, token: mint_token(&all) }
    }

    /// Creates a token for an existing user.
    pub fn with_id(id: Uuid) -> Self {
        Self {
            id,
            token: mint_token(&json!({"sub": id, "role": "authenticated", "exp": unix_time_in(3_600)})),
        }
    }

    /// Returns another token of the user that expires after `seconds`.
    pub fn token_for(&self, seconds: i64) -> String {
        mint_token(&json!({"sub": self.id, "role": "authenticated", "exp": unix_time_in(seconds)}))
    }
}

/// The backend with role `service_role`.
pub fn service_user() -> User {
    User { id: Uuid::nil(), token: mint_token(&json!({"role": "service_role", "exp": unix_time_in(3_600)})) }
}

/// Builds the principal of a role and user.
pub fn principal(role: &str, sub: Option<Uuid>) -> Arc<Principal> {
    let claims = json!({"role": role, "sub": sub}).to_string();
    let sub = sub.map(|sub| sub.to_string());
    Arc::new(Principal::with_claims(Role::named(role), sub.as_deref(), claims.into()))
}

/// Signs claims with the servers' secret.
pub fn mint_token(claims: &Value) -> String {
    token::mint(SECRET, claims).expect("claims serialize")
}

/// Returns the Unix time `seconds` from now.
pub fn unix_time_in(seconds: i64) -> i64 {
    jiff::Timestamp::now().as_second() + seconds
}

/// A port of the loopback interface that nothing listens on. Another program may take it before it is used.
pub fn free_port() -> u16 {
    free_ports::<1>()[0]
}

/// As [`free_port`]; the ports differ.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

/// Path of the server's binary, which Cargo builds before the tests and benchmarks of its package.
pub fn server_binary() -> PathBuf {
    // Executables of tests are in `deps` below it.
    let executable = std::env::current_exe().expect("the path of this test");
    executable.ancestors().nth(2).expect("the folder of the profile").join("rollcall")
}

pub struct TestServer {
    /// Address it listens on.
    pub address: SocketAddr,
    /// Address of its context port, if it has one.
    pub context_address: Option<SocketAddr>,
    /// Address of its admin port, if it has one.
    pub admin_address: Option<SocketAddr>,
    /// Its ID in `presence_nodes`; nil for a process, which does not report it.
    pub id: Uuid,
    running: Mutex<Option<Running>>,
    /// Lines that a process has logged since it was ready.
    log: Arc<Mutex<Vec<String>>>,
}

enum Running {
    /// In this process with its own threads, so that it can be killed.
    InProcess { runtime: Runtime, server: JoinHandle<Result<(), TaskFailure>>, shutdown: Shutdown },
    /// The release binary in its own process.
    ChildProcess(Child),
}

/// Whether the tests run with the relay of notifications, by the variable `TEST_NOTIFICATION_RELAY`.
fn relays_notifications() -> bool {
    std::env::var("TEST_NOTIFICATION_RELAY").is_ok_and(|value| value == "true")
}

impl TestServer {
    /// Starts a server on a database.
    pub async fn start(url: &str, change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_on(url, None, change, |_| {}).await
    }

    /// Starts a server that reaches its database through a pooler.
    pub async fn start_pooled(url: &str, direct_url: &str, change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_on(url, Some(direct_url), change, |_| {}).await
    }

    async fn start_on(
        url: &str,
        direct_url: Option<&str>,
        change: impl FnOnce(&mut Settings),
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let mut settings = Settings::from([
            ("PORT", "0"),
            ("DATABASE_URL", url),
            ("DATABASE_POOL_SIZE", "4"),
            ("HUB_SHARDS", "2"),
            ("JWT_SECRET", SECRET),
            ("PRESENCE_UPDATES_PER_MINUTE", "0"),
            ("DISCONNECT_GRACE", "300ms"),
            ("NODE_LEASE", "2s"),
            // Tests that are not about presence join without it.
            ("REALTIME_PRESENCE_DEFAULT", "false"),
            // The suite runs once with it; the clusters have few replication slots.
            ("NOTIFICATION_RELAY", if relays_notifications() { "true" } else { "false" }),
        ]);
        // The suite runs some tests with it.
        if let Ok(url) = std::env::var("TEST_NATS_URL") {
            settings.set("NATS_URL", &url);
        }
        change(&mut settings);
        let mut config = Config::from_settings(&settings).expect("the settings are valid");
        configure(&mut config);
        let environment = Environment {
            database_url: url.to_owned(),
            direct_url: direct_url.map(str::to_owned),
            jwt_secret: config.auth.jwt_secret.clone(),
            // Renders nothing: it is not installed, because all servers of this process would count in it.
            metrics: Some(PrometheusBuilder::new().build_recorder().handle()),
            demo: false,
            clock: Arc::new(SystemClock),
        };
        let shutdown = Shutdown::new();
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let stop = shutdown.clone();
        let starting =
            runtime.spawn(async move { Box::pin(Server::start(&config, environment, stop)).await });
        let server = starting.await.expect("no panic").expect("the server starts");
        let (address, context_address, admin_address) =
            (server.address, server.context_address, server.admin_address);
        let id = server.node.0;
        let server = runtime.spawn(server.run());
        let running = Running::InProcess { runtime, server, shutdown };
        let running = Mutex::new(Some(running));
        Self { address, context_address, admin_address, id, running, log: Arc::default() }
    }

    /// Starts the binary on a database.
    async fn start_process(url: &str, prelude: &str) -> Self {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("{prelude} && exec \"$0\" serve")])
            .arg(server_binary())
            .current_dir(std::env::temp_dir())
            .env_clear()
            .envs([("DATABASE_URL", url), ("JWT_SECRET", SECRET), ("PORT", "0"), ("NODE_LEASE", "2s")])
            .envs([
                ("DISCONNECT_GRACE", "300ms"),
                ("PRESENCE_UPDATES_PER_MINUTE", "0"),
                ("LOG_FORMAT", "json"),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary runs");
        let mut log = BufReader::new(child.stderr.take().expect("is piped")).lines();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let ready = async {
            while let Some(line) = log.next_line().await.expect("a line") {
                lines.lock().push(line.clone());
                if let Some((_, rest)) = line.split_once("is ready at http://") {
                    let end =
                        rest.find(|c: char| !c.is_ascii_digit() && !".:".contains(c)).unwrap_or(rest.len());
                    return rest[..end].parse().expect("an address");
                }
            }
            panic!("the binary ended before it was ready: {:?}", lines.lock());
        };
        let address = timeout(WAIT_TIMEOUT * 2, ready).await.expect("ready in time");
        // The log is read on, because a full pipe would block the server.
        let read = lines.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                println!("{line}");
                read.lock().push(line);
            }
        });
        Self {
            address,
            context_address: None,
            admin_address: None,
            id: Uuid::nil(),
            running: Mutex::new(Some(Running::ChildProcess(child))),
            log: lines,
        }
    }

    /// Lines that the server's process has logged; none if the server runs in this process.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    /// ID of the server's process; `None` if the server runs in this process or has stopped.
    pub fn process_id(&self) -> Option<u32> {
        match self.running.lock().as_ref() {
            Some(Running::ChildProcess(child)) => child.id(),
            _ => None,
        }
    }

    /// Stops gracefully. Does nothing if the server has stopped or crashed before.
    pub async fn stop(&self) -> Result<(), String> {
        let running = self.running.lock().take();
        let ended = match running {
            None => return Ok(()),
            Some(Running::InProcess { runtime, server, shutdown }) => {
                shutdown.request();
                let ended = timeout(STOP_TIMEOUT, server).await;
                runtime.shutdown_background();
                ended.map(|ended| match ended {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(failure)) => Err(format!("a server failed: {failure:?}")),
                    Err(panic) => Err(format!("a server panicked: {panic}")),
                })
            }
            Some(Running::ChildProcess(mut child)) => {
                let pid = child
                    .id()
                    .and_then(|id| i32::try_from(id).ok())
                    .expect("the child was not waited for yet");
                kill(Pid::from_raw(pid), Signal::SIGTERM)
                    .map_err(|error| format!("the process has ended: {error}"))?;
                timeout(STOP_TIMEOUT, child.wait()).await.map(|ended| match ended {
                    Ok(status) if status.success() => Ok(()),
                    other => Err(format!("the process ended with {other:?}")),
                })
            }
        };
        ended.unwrap_or_else(|_| Err(format!("a server did not stop within {STOP_TIMEOUT:?}")))
    }

    /// Stops like `kill -9`: threads end where they are, and sockets and connections with them.
    pub fn crash(&self) {
        match self.running.lock().take() {
            None => {}
            Some(Running::InProcess { runtime, .. }) => runtime.shutdown_background(),
            Some(Running::ChildProcess(mut child)) => child.start_kill().expect("it runs"),
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.crash();
    }
}
