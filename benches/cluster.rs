//! The PostgreSQL of a benchmark run: durable, in its own directory.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use rollcall::{
    config::Secret,
    pg::{
        embedded::EmbeddedCluster,
        migrate::{MigrationTarget, Sources, prepare},
    },
};
use tokio::process::Command;
use tokio_postgres::{Client, Config, NoTls};

/// A single-row upsert for pgbench.
const UPSERT: &str = include_str!("sql/upsert.sql");
const BASELINE: &str = include_str!("sql/baseline.sql");

/// A PostgreSQL cluster in a temporary directory.
pub struct Cluster {
    dir: PathBuf,
    server: EmbeddedCluster,
}

pub struct Database {
    /// URL with the role that servers use.
    pub url: String,
    /// URL with the superuser role.
    admin_url: String,
    /// Directory for server logs.
    pub dir: PathBuf,
}

impl Cluster {
    /// Creates and starts a cluster with the default durability settings of PostgreSQL.
    pub async fn start() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("rollcall-bench-{}", std::process::id()));
        let server = EmbeddedCluster::start(&dir).await?;
        let cluster = Self { dir, server };
        let settings = connect(cluster.server.urls().admin_url.expose()).await?;
        let row = settings.query_one(include_str!("sql/durability.sql"), &[]).await?;
        ensure!(row.get::<_, bool>(0), "the cluster is not durable");
        Ok(cluster)
    }

    /// Creates and migrates a database that also has the baseline table.
    pub async fn database(&self, name: &str) -> Result<Database> {
        let urls = self.server.urls();
        let admin = connect(urls.admin_url.expose()).await?;
        admin.batch_execute(&include_str!("sql/create_database.sql").replace("$name", name)).await?;
        let database = Database {
            url: in_database(urls.url.expose(), name)?,
            admin_url: in_database(urls.admin_url.expose(), name)?,
            dir: self.dir.clone(),
        };
        let target = MigrationTarget {
            url: Secret::new(database.url.clone()),
            admin_url: Some(Secret::new(database.admin_url.clone())),
        };
        prepare(&target, &Sources::built_in(), false).await?;
        database.connect().await?.batch_execute(BASELINE).await?;
        Ok(database)
    }

    pub async fn drop_database(&self, name: &str) -> Result<()> {
        let admin = connect(self.server.urls().admin_url.expose()).await?;
        Ok(admin.batch_execute(&include_str!("sql/drop_database.sql").replace("$name", name)).await?)
    }

    /// Returns PostgreSQL's version text.
    pub async fn version(&self) -> Result<String> {
        let client = connect(self.server.urls().url.expose()).await?;
        Ok(client.query_one(include_str!("sql/version.sql"), &[]).await?.get(0))
    }

    /// Stops PostgreSQL and deletes its files.
    pub async fn stop(self) -> Result<()> {
        self.server.stop().await?;
        Ok(std::fs::remove_dir_all(&self.dir)?)
    }
}

impl Database {
    /// Connects as the role that servers use.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.url).await
    }

    /// Connects as the superuser.
    pub async fn admin(&self) -> Result<Client> {
        connect(&self.admin_url).await
    }

    pub fn admin_url(&self) -> &str {
        &self.admin_url
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

/// Opens a connection and spawns its I/O task.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn in_database(url: &str, database: &str) -> Result<String> {
    let (server, _) = url.rsplit_once('/').context("a URL ends with its database")?;
    Ok(format!("{server}/{database}"))
}
