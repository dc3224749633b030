//! The database handle with three connection pools: for requests, for the server's own work and for channel
//! authorization. Slow requests or joins therefore cannot delay writes or deliveries.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime,
};

use super::{ConnectError, Connection, Connector, PgError, connection::ParameterTypes};

/// Maximum wait for a pooled connection, and for creating or recycling one.
const POOL_TIMEOUT: Duration = Duration::from_secs(3);

const SESSION_SETTINGS: &str = include_str!("../../sql/node/plan_once.sql");

/// Pool size for the server's own work: writer, visibility look-ups, lease, context engine.
const SERVER_CONNECTIONS: usize = 6;

/// Pool size for authorization of private channels.
pub const AUTHORIZATION_CONNECTIONS: usize = 5;

/// Connection pools, and a connector for long-lived connections. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    request_pool: Pool,
    server_pool: Pool,
    authorization_pool: Pool,
    direct_connector: Connector,
    /// Set behind a pooler in transaction mode: statements are then sent unnamed.
    parameter_types: Option<Arc<ParameterTypes>>,
}

impl Database {
    /// Configures the pools without opening a connection. `size` is the maximum size of the request pool.
    ///
    /// LISTEN and replication use `direct_url`. If it differs from `url`, `url` is taken for a pooler in transaction mode.
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

    /// A connection for the server's own work, with the rights of the login role.
    ///
    /// # Errors
    ///
    /// [`PgError::Unavailable`] when no connection becomes free within 3 seconds.
    pub async fn server_connection(&self) -> Result<Connection, PgError> {
        Ok(Connection::new(self.server_pool.get().await?, self.parameter_types.clone()))
    }

    /// A connection for a request. Only `tx` uses it, after setting the caller's role.
    pub(super) async fn request_connection(&self) -> Result<Connection, PgError> {
        Ok(Connection::new(self.request_pool.get().await?, self.parameter_types.clone()))
    }

    /// A connection for policy checks. Only `tx` uses it, in a transaction that is rolled back.
    pub(super) async fn authorization_connection(&self) -> Result<Connection, PgError> {
        Ok(Connection::new(self.authorization_pool.get().await?, self.parameter_types.clone()))
    }

    /// Opens connections outside the pools.
    #[must_use]
    pub const fn direct_connector(&self) -> &Connector {
        &self.direct_connector
    }

    /// Closes the pools; connections in use close when they are returned.
    pub fn close(&self) {
        self.request_pool.close();
        self.server_pool.close();
        self.authorization_pool.close();
    }
}

fn pool(connector: &Connector, purpose: &str, size: usize, is_pooled: bool) -> Pool {
    // Every use is a transaction with its own settings (see `tx`), so a returned connection needs no reset.
    let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(connector.config(purpose), connector.tls(), manager_config);
    let plan_once = Hook::async_fn(|connection: &mut ClientWrapper, _| {
        Box::pin(async move { connection.batch_execute(SESSION_SETTINGS).await.map_err(HookError::Backend) })
    });
    let mut builder = Pool::builder(manager).max_size(size);
    // Behind a pooler, session settings would leak to the next client of the server connection, and unnamed statements
    // have no cached plans.
    if !is_pooled {
        builder = builder.post_create(plan_once);
    }
    builder
        .wait_timeout(Some(POOL_TIMEOUT))
        .create_timeout(Some(POOL_TIMEOUT))
        .recycle_timeout(Some(POOL_TIMEOUT))
        .runtime(Runtime::Tokio1)
        .build()
        .expect("a pool with timeouts has a runtime")
}
