//! Which database the configuration means: the one of `DATABASE_URL`, or the server's own.

use crate::config::{Config, Secret};

use crate::pg::embedded::{self, ClusterUrls, EmbeddedCluster, EmbeddedError};
use crate::pg::migrate::MigrationTarget;

/// A database to work with, and the PostgreSQL behind it if it is ours to end.
#[derive(Debug)]
pub struct DatabaseTarget {
    /// For statements; maybe through a pooler.
    pub url: Secret,
    /// For LISTEN, replication and migrations, where a pooler would be in the way.
    pub direct_url: Option<Secret>,
    admin_url: Option<Secret>,
    /// The server's own PostgreSQL, started here.
    pub cluster: Option<EmbeddedCluster>,
}

impl DatabaseTarget {
    /// For a server: starts its own PostgreSQL unless another one is configured.
    ///
    /// # Errors
    /// When that does not start.
    pub async fn for_server(config: &Config) -> Result<Self, EmbeddedError> {
        if let Some(other) = Self::from_config(config) {
            return Ok(other);
        }
        let cluster = EmbeddedCluster::start(&config.data_dir).await?;
        Ok(Self::embedded(cluster.urls().clone(), Some(cluster)))
    }

    /// For a command: uses the server's own PostgreSQL where it runs already, else starts it for a while.
    ///
    /// # Errors
    /// When that does not start.
    pub async fn for_command(config: &Config) -> Result<Self, EmbeddedError> {
        if let Some(other) = Self::from_config(config) {
            return Ok(other);
        }
        match embedded::running_cluster(&config.data_dir)? {
            Some(urls) => Ok(Self::embedded(urls, None)),
            None => Self::for_server(config).await,
        }
    }

    /// `DATABASE_URL`, unless it is our own, as in a shell that sourced the data directory's `env` file.
    fn from_config(config: &Config) -> Option<Self> {
        let url = config.database.url.clone()?;
        (!embedded::is_own_url(&config.data_dir, &url)).then(|| Self {
            url,
            direct_url: config.database.direct_url.clone(),
            admin_url: None,
            cluster: None,
        })
    }

    fn embedded(urls: ClusterUrls, cluster: Option<EmbeddedCluster>) -> Self {
        Self { url: urls.url, direct_url: None, admin_url: Some(urls.admin_url), cluster }
    }

    /// What to migrate, as whom.
    pub fn migration_target(&self) -> MigrationTarget {
        let url = self.direct_url.as_ref().unwrap_or(&self.url).clone();
        MigrationTarget { url, admin_url: self.admin_url.clone() }
    }

    /// Ends the PostgreSQL that was started here, if any.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        match self.cluster {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }
}
