//! The PostgreSQL of a benchmark run: durable, in its own directory.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use testkit::cluster::{self, connect};
use tokio::process::Command;
use tokio_postgres::{Client, Config};

use crate::server::cpu_of_postgres;

/// A single-row upsert for pgbench.
const UPSERT: &str = include_str!("sql/upsert.sql");
const BASELINE: &str = include_str!("sql/baseline.sql");

/// PostgreSQL reports what a session did at most once a second.
pub const STATISTICS_DELAY: Duration = Duration::from_secs(2);

/// A PostgreSQL cluster in a temporary directory.
pub struct Cluster(cluster::Cluster);

pub struct Database {
    /// URL with the role that servers use.
    pub url: String,
    /// URL with the superuser role.
    pub admin_url: String,
    /// Directory for server logs.
    pub dir: PathBuf,
}

impl Cluster {
    /// Creates and starts a cluster with the default durability settings of PostgreSQL.
    pub async fn start() -> Result<Self> {
        let cluster = cluster::Cluster::start_durable().await;
        let settings = connect(&cluster.admin_url("postgres")).await;
        let row = settings.query_one(include_str!("sql/durability.sql"), &[]).await?;
        ensure!(row.get::<_, bool>(0), "the cluster is not durable");
        Ok(Self(cluster))
    }

    /// Creates and migrates a database that also has the baseline table.
    pub async fn database(&self, name: &str) -> Result<Database> {
        self.0.create_migrated_database(name).await;
        let database = Database {
            url: self.0.url(name),
            admin_url: self.0.admin_url(name),
            dir: self.0.dir().to_owned(),
        };
        database.connect().await.batch_execute(BASELINE).await?;
        Ok(database)
    }

    pub async fn drop_database(&self, name: &str) {
        self.0.drop_database(name).await;
    }

    /// Returns the CPU time that all processes of PostgreSQL used so far.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of_postgres(self.0.postmaster_pid().as_raw().unsigned_abs())
    }

    /// Returns PostgreSQL's version text.
    pub async fn version(&self) -> Result<String> {
        let client = connect(&self.0.url("postgres")).await;
        Ok(client.query_one(include_str!("sql/version.sql"), &[]).await?.get(0))
    }

    /// Stops PostgreSQL and deletes its files.
    pub async fn stop(&self) {
        self.0.stop().await;
    }
}

impl Database {
    /// Connects as the role that servers use.
    pub async fn connect(&self) -> Client {
        connect(&self.url).await
    }

    /// Connects as the superuser.
    pub async fn admin(&self) -> Client {
        connect(&self.admin_url).await
    }

    /// Returns upserts per second of pgbench: prepared statements, one row per transaction, durable.
    pub async fn pgbench(&self, clients: usize, seconds: u64) -> Result<f64> {
        self.pgbench_with(UPSERT, clients, seconds, "").await
    }

    /// Returns transactions per second of a pgbench script with prepared statements. `options` holds PostgreSQL
    /// settings as `-c name=value`.
    pub async fn pgbench_with(&self, text: &str, clients: usize, seconds: u64, options: &str) -> Result<f64> {
        let script = self.dir.join("script.sql");
        std::fs::write(&script, text)?;
        let config: Config = self.url.parse()?;
        let password = String::from_utf8(config.get_password().unwrap_or_default().to_vec())?;
        let port = config.get_ports().first().context("a port")?.to_string();
        let output = Command::new("pgbench")
            .args(["--no-vacuum", "--protocol=prepared", "--host=127.0.0.1"])
            .args(["--file".as_ref(), script.as_os_str()])
            .arg(format!("--client={clients}"))
            .arg(format!("--time={seconds}"))
            .env("PGPORT", port)
            .env("PGUSER", config.get_user().unwrap_or_default())
            .env("PGPASSWORD", password)
            .env("PGDATABASE", config.get_dbname().unwrap_or_default())
            .env("PGOPTIONS", options)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot run pgbench, which is part of PostgreSQL")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        tps.with_context(|| format!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// How long statements in the database of a client were active so far, up to [`STATISTICS_DELAY`] ago.
pub async fn active_time(client: &Client) -> Result<Duration> {
    let ms: f64 = client
        .query_one(include_str!("sql/active_time.sql"), &[])
        .await
        .context("reading statistics")?
        .get(0);
    Ok(Duration::from_secs_f64(ms / 1_000.0))
}
