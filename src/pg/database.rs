//! Three pools: one that requests share, one for the server's own work and one for asking policies, so that no number of
//! slow requests or joins can keep a presence change from being written or told.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime,
};

use super::{ConnectError, Connection, Connector, PgError, connection::ParameterTypes};

/// How long a request waits for a connection.
const POOL_TIMEOUT: Duration = Duration::from_secs(3);

const SESSION_SETTINGS: &str = include_str!("../../sql/node/plan_once.sql");

/// Connections for the server's own work: the writer, the pump, the lease, and the look-ups of visibility.
const SERVER_CONNECTIONS: usize = 6;

/// Connections for asking the policies of private channels: joins must not wait for requests, nor requests for joins.
pub const AUTHORIZATION_CONNECTIONS: usize = 5;

/// The database: pools for statements, a connector for the connections that last.
#[derive(Clone)]
pub struct Database {
    request_pool: Pool,
    server_pool: Pool,
    authorization_pool: Pool,
    direct_connector: Connector,
    /// Where a pooler stands between: statements go unnamed.
    parameter_types: Option<Arc<ParameterTypes>>,
}

impl Database {
    /// Prepares a pool of at most `size` connections to `url` for requests, beside the server's own; `direct_url` is where LISTEN and replication go,
    /// which a pooler in transaction mode cannot carry: where it is another, `url` is taken for such a pooler's.
    /// Opens nothing yet.
    ///
    /// # Errors
    ///
    /// When a URL cannot be used.
    pub fn new(url: &str, direct_url: Option<&str>, size: usize) -> Result<Self, ConnectError> {
        let connector = Connector::new(url)?;
        let direct_url = direct_url.filter(|direct| *direct != url);
        let direct = direct_url.map_or_else(|| Ok(connector.clone()), Connector::new)?;
        let types = direct_url.map(|_| Arc::new(ParameterTypes::new(direct.clone())));
        let is_pooled = types.is_some();
        Ok(Self {
            request_pool: pool(&connector, "request", size, is_pooled),
            server_pool: pool(&connector, "server", SERVER_CONNECTIONS, is_pooled),
            authorization_pool: pool(&connector, "rights", AUTHORIZATION_CONNECTIONS, is_pooled),
            direct_connector: direct,
            parameter_types: types,
        })
    }

    /// A pooled connection with the login role's own rights, for the server's own bookkeeping.
    ///
    /// # Errors
    ///
    /// [`PgError::Unavailable`] when none comes free in time.
    pub async fn server_connection(&self) -> Result<Connection, PgError> {
        Ok(Connection::new(self.server_pool.get().await?, self.parameter_types.clone()))
    }

    /// A pooled connection for a request. Use it through `tx`, which takes on the caller's role.
    pub(super) async fn request_connection(&self) -> Result<Connection, PgError> {
        Ok(Connection::new(self.request_pool.get().await?, self.parameter_types.clone()))
    }

    /// A pooled connection for asking policies. Use it through `tx`, which takes back what a probe writes.
    pub(super) async fn authorization_connection(&self) -> Result<Connection, PgError> {
        Ok(Connection::new(self.authorization_pool.get().await?, self.parameter_types.clone()))
    }

    /// Makes connections outside of the pool.
    #[must_use]
    pub const fn direct_connector(&self) -> &Connector {
        &self.direct_connector
    }

    /// Closes every connection as it comes back.
    pub fn close(&self) {
        self.request_pool.close();
        self.server_pool.close();
        self.authorization_pool.close();
    }
}

fn pool(connector: &Connector, purpose: &str, size: usize, is_pooled: bool) -> Pool {
    // Every use is a transaction that sets what it needs for itself (see `tx`), so there is nothing to reset.
    let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(connector.config(purpose), connector.tls(), manager_config);
    let plan_once = Hook::async_fn(|connection: &mut ClientWrapper, _| {
        Box::pin(async move { connection.batch_execute(SESSION_SETTINGS).await.map_err(HookError::Backend) })
    });
    let mut builder = Pool::builder(manager).max_size(size);
    // A setting of the session would be left to whoever gets the pooler's connection next; and without names there are no
    // plans to keep.
    if !is_pooled {
        builder = builder.post_create(plan_once);
    }
    builder
        .wait_timeout(Some(POOL_TIMEOUT))
        .create_timeout(Some(POOL_TIMEOUT))
        .recycle_timeout(Some(POOL_TIMEOUT))
        .runtime(Runtime::Tokio1)
        .build()
        .expect("a runtime is given, which is all that the builder asks")
}
