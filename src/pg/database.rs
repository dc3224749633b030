//! Three pools: one that requests share, one for the server's own work and one for asking policies, so that no number of
//! slow requests or joins can keep a presence change from being written or told.

use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
};

use super::{ConnectError, Connector, PgError};

/// How long a request waits for a connection.
const POOL_WAIT: Duration = Duration::from_secs(3);

const PLAN_ONCE: &str = include_str!("../../sql/node/plan_once.sql");

/// Connections for the server's own work: the writer, the pump, the lease, and the look-ups of visibility.
const OWN_CONNECTIONS: usize = 6;

/// Connections for asking the policies of private channels: joins must not wait for requests, nor requests for joins.
pub const RIGHTS_CONNECTIONS: usize = 4;

/// The database: pools for statements, a connector for the connections that last.
#[derive(Clone)]
pub struct Database {
    callers: Pool,
    own: Pool,
    rights: Pool,
    direct: Connector,
}

impl Database {
    /// Prepares a pool of at most `size` connections to `url` for requests, beside the server's own; `direct_url` is where LISTEN and replication go,
    /// which a pooler in transaction mode cannot carry. Opens nothing yet.
    ///
    /// # Errors
    ///
    /// When a URL cannot be used.
    pub fn new(url: &str, direct_url: Option<&str>, size: usize) -> Result<Self, ConnectError> {
        let connector = Connector::new(url)?;
        let direct = direct_url.map_or_else(|| Ok(connector.clone()), Connector::new)?;
        Ok(Self {
            callers: pool(&connector, "request", size),
            own: pool(&connector, "server", OWN_CONNECTIONS),
            rights: pool(&connector, "rights", RIGHTS_CONNECTIONS),
            direct,
        })
    }

    /// A pooled connection with the login role's own rights, for the server's own bookkeeping.
    ///
    /// # Errors
    ///
    /// [`PgError::Unavailable`] when none comes free in time.
    pub async fn own(&self) -> Result<Object, PgError> {
        Ok(self.own.get().await?)
    }

    /// A pooled connection for a request. Use it through `tx`, which takes on the caller's role.
    pub(super) async fn for_caller(&self) -> Result<Object, PgError> {
        Ok(self.callers.get().await?)
    }

    /// A pooled connection for asking policies. Use it through `tx`, which takes back what a probe writes.
    pub(super) async fn for_rights(&self) -> Result<Object, PgError> {
        Ok(self.rights.get().await?)
    }

    /// Makes connections outside of the pool.
    #[must_use]
    pub const fn direct(&self) -> &Connector {
        &self.direct
    }

    /// Closes every connection as it comes back.
    pub fn close(&self) {
        self.callers.close();
        self.own.close();
        self.rights.close();
    }
}

fn pool(connector: &Connector, purpose: &str, size: usize) -> Pool {
    // Every use is a transaction that sets what it needs for itself (see `tx`), so there is nothing to reset.
    let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(connector.config(purpose), connector.tls(), manager_config);
    let plan_once = Hook::async_fn(|connection: &mut ClientWrapper, _| {
        Box::pin(async move { connection.batch_execute(PLAN_ONCE).await.map_err(HookError::Backend) })
    });
    Pool::builder(manager)
        .max_size(size)
        .post_create(plan_once)
        .wait_timeout(Some(POOL_WAIT))
        .create_timeout(Some(POOL_WAIT))
        .recycle_timeout(Some(POOL_WAIT))
        .runtime(Runtime::Tokio1)
        .build()
        .expect("a runtime is given, which is all that the builder asks")
}
