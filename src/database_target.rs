//! Selects the database: the one from `DATABASE_URL`, or the embedded PostgreSQL.

use crate::config::{Config, Secret};

use crate::pg::embedded::{self, ClusterUrls, EmbeddedCluster, EmbeddedError};
use crate::pg::migrate::{MigrationTarget, Sources};

/// URLs of the selected database, and the embedded PostgreSQL if this process owns it.
#[derive(Debug)]
pub struct DatabaseTarget {
    /// URL for statements; may lead through a pooler.
    pub url: Secret,
    /// URL for LISTEN, replication and migrations; must not lead through a pooler. `None`: use `url`.
    pub direct_url: Option<Secret>,
    admin_url: Option<Secret>,
    /// The embedded PostgreSQL, if this process started or adopted it.
    pub cluster: Option<EmbeddedCluster>,
}

impl DatabaseTarget {
    /// Target of `rollcall serve`: starts the embedded PostgreSQL unless `DATABASE_URL` is set.
    pub async fn for_server(config: &Config) -> Result<Self, EmbeddedError> {
        if let Some(target) = Self::from_config(config) {
            return Ok(target);
        }
        if let Some(reason) = config.embedded_refusal() {
            return Err(EmbeddedError::Refused(reason));
        }
        let cluster = EmbeddedCluster::start(&config.data_dir).await?;
        Ok(Self::embedded(cluster.urls().clone(), Some(cluster)))
    }

    /// Target of a one-off command: uses the embedded PostgreSQL if it runs, otherwise starts it.
    pub async fn for_command(config: &Config) -> Result<Self, EmbeddedError> {
        if let Some(target) = Self::from_config(config) {
            return Ok(target);
        }
        match embedded::running_cluster(&config.data_dir)? {
            Some(urls) => Ok(Self::embedded(urls, None)),
            None => Self::for_server(config).await,
        }
    }

    /// Target from `DATABASE_URL`. `None` if that is unset, or names the embedded cluster because the shell sourced the
    /// data directory's `env` file.
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

    /// The SQL files for this database.
    pub fn sources(&self, config: &Config) -> Sources {
        let sources = Sources::of_modules(config.database.modules);
        // Only an embedded PostgreSQL has a superuser's URL.
        if self.admin_url.is_some() { sources.for_own_cluster() } else { sources }
    }

    pub fn migration_target(&self) -> MigrationTarget {
        let url = self.direct_url.as_ref().unwrap_or(&self.url).clone();
        MigrationTarget { url, admin_url: self.admin_url.clone() }
    }

    /// Stops the embedded PostgreSQL if this process owns it.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        match self.cluster {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }
}
