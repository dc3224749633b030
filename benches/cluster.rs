//! The PostgreSQL of a run: durable, in a directory of its own.

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

/// A single-row upsert, as pgbench runs it.
const UPSERT: &str = include_str!("sql/upsert.sql");
const BASELINE: &str = include_str!("sql/yardstick.sql");

/// A cluster in a temporary directory.
pub struct Cluster {
    dir: PathBuf,
    server: EmbeddedCluster,
}

/// A migrated database.
pub struct Database {
    /// As the role that servers use.
    pub url: String,
    /// As the superuser.
    admin_url: String,
    /// Where servers may log.
    pub dir: PathBuf,
}

impl Cluster {
    /// Makes and starts one, with PostgreSQL's own defaults of durability.
    pub async fn start() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("rollcall-bench-{}", std::process::id()));
        let server = EmbeddedCluster::start(&dir).await?;
        let cluster = Self { dir, server };
        let settings = connect(cluster.server.urls().admin_url.expose()).await?;
        let row = settings.query_one(include_str!("sql/durability.sql"), &[]).await?;
        ensure!(row.get::<_, bool>(0), "the cluster is not durable");
        Ok(cluster)
    }

    /// Creates and migrates a database, with the yardstick's table in it.
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

    /// Drops a database that is not needed any more.
    pub async fn drop_database(&self, name: &str) -> Result<()> {
        let admin = connect(self.server.urls().admin_url.expose()).await?;
        Ok(admin.batch_execute(&include_str!("sql/drop_database.sql").replace("$name", name)).await?)
    }

    /// What PostgreSQL calls itself.
    pub async fn version(&self) -> Result<String> {
        let client = connect(self.server.urls().url.expose()).await?;
        Ok(client.query_one(include_str!("sql/version.sql"), &[]).await?.get(0))
    }

    /// Stops PostgreSQL and removes its files.
    pub async fn stop(self) -> Result<()> {
        self.server.stop().await?;
        Ok(std::fs::remove_dir_all(&self.dir)?)
    }
}

impl Database {
    /// A connection as the role that servers use.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.url).await
    }

    /// A connection as the superuser.
    pub async fn admin(&self) -> Result<Client> {
        connect(&self.admin_url).await
    }

    /// The superuser's URL.
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// Upserts a second by pgbench with so many connections: prepared, one row a transaction, durable.
    pub async fn pgbench(&self, clients: usize, seconds: u64) -> Result<f64> {
        self.pgbench_with(UPSERT, clients, seconds, "").await
    }

    /// Transactions a second of a script by pgbench, prepared, with further settings of PostgreSQL as `-c name=value`.
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
            .context("pgbench cannot be run; it comes with PostgreSQL")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        tps.with_context(|| format!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Opens a connection whose second half runs by itself.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn in_database(url: &str, database: &str) -> Result<String> {
    let (server, _) = url.rsplit_once('/').context("a URL ends with its database")?;
    Ok(format!("{server}/{database}"))
}
