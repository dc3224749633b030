//! The database handle with five connection pools: for requests, for the server's own work, for channel authorization,
//! for events and webhooks, and for liveness. Slow requests or joins therefore cannot delay writes or deliveries, and nothing can delay the lease
//! of the node.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    ConnectError, Connection, Connector, PgError,
    connect::MakeTls,
    connection::ParameterTypes,
    disk_space::DiskSpace,
    failing_policies::LastEvaluation,
    session::{self, CALLER_STATEMENT_TIMEOUT, StatementLimits, server_timeout},
};

/// Maximum wait for a pooled connection, and for creating or recycling one.
const POOL_TIMEOUT: Duration = Duration::from_secs(3);

const PLAN_ONCE: &str = include_str!("../../sql/node/plan_once.sql");

const SERVER_POOL: &str = "server";

/// For the server's own transactions, which are few and batched: the relay would only delay their notifications.
const NOTIFY_DIRECTLY: &str = "set rollcall.notify = 'directly'";

/// Limits of the request pool. A request that waits for a lock gives its connection back before other requests give up
/// waiting for one.
const REQUEST_LIMITS: StatementLimits =
    StatementLimits { statement_timeout: CALLER_STATEMENT_TIMEOUT, lock_timeout: Duration::from_secs(1) };
/// Limits of the authorization pool. Probes set a shorter `statement_timeout`; this one bounds their preparation.
const AUTHORIZATION_LIMITS: StatementLimits =
    StatementLimits { statement_timeout: Duration::from_secs(1), lock_timeout: Duration::ZERO };

/// Pool size for the server's own work: writer, visibility look-ups, lease, context engine.
const SERVER_CONNECTIONS: usize = 6;

/// Pool size for liveness: the lease and the health check.
const LIVENESS_CONNECTIONS: usize = 2;

/// Pool size for events and webhooks, whose statements may be long and need no answer soon.
const DELIVERY_CONNECTIONS: usize = 2;

/// Pool size for authorization of private channels.
pub const AUTHORIZATION_CONNECTIONS: usize = 5;

/// Connection pools, and a connector for long-lived connections. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    request_pool: Pool,
    server_pool: Pool,
    authorization_pool: Pool,
    liveness_pool: Pool,
    delivery_pool: Pool,
    tls: MakeTls,
    disk_space: DiskSpace,
    pub(super) failing_policies: Arc<LastEvaluation>,
    blocked: Arc<BlockedStatements>,
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
        connector.log_ignored();
        if direct_url.is_some() {
            direct.log_ignored();
        }
        let types = direct_url.map(|_| Arc::new(ParameterTypes::new(direct.clone())));
        let is_pooled = types.is_some();
        Ok(Self {
            request_pool: pool(&connector, "request", size, REQUEST_LIMITS, is_pooled),
            server_pool: pool(
                &connector,
                SERVER_POOL,
                SERVER_CONNECTIONS,
                StatementLimits::DEFAULT,
                is_pooled,
            ),
            authorization_pool: pool(
                &connector,
                "rights",
                AUTHORIZATION_CONNECTIONS,
                AUTHORIZATION_LIMITS,
                is_pooled,
            ),
            liveness_pool: pool(
                &connector,
                "liveness",
                LIVENESS_CONNECTIONS,
                StatementLimits::DEFAULT,
                is_pooled,
            ),
            delivery_pool: pool(
                &connector,
                "webhooks",
                DELIVERY_CONNECTIONS,
                StatementLimits::DEFAULT,
                is_pooled,
            ),
            tls: connector.tls(),
            disk_space: DiskSpace::default(),
            failing_policies: Arc::default(),
            blocked: Arc::new(BlockedStatements {
                statements: Mutex::default(),
                connections: Semaphore::new((size / 2).max(1)),
            }),
            direct_connector: direct,
            parameter_types: types,
        })
    }

    /// A connection for the server's own work, with the rights of the login role. A statement may take 15 seconds; use
    /// [`within`](Self::within) for a shorter limit.
    ///
    /// # Errors
    ///
    /// [`PgError::Unavailable`] when no connection becomes free within 3 seconds.
    pub async fn server_connection(&self) -> Result<Connection, PgError> {
        self.limited_server_connection(StatementLimits::DEFAULT).await
    }

    pub(super) async fn limited_server_connection(
        &self,
        limits: StatementLimits,
    ) -> Result<Connection, PgError> {
        let client = self.server_pool.get().await?;
        Ok(self.with_limits_to_set(client, limits))
    }

    /// For a pool whose sessions have no fixed limits: the previous user of the connection may have set others.
    fn with_limits_to_set(&self, client: Object, limits: StatementLimits) -> Connection {
        self.connection(client, limits, false)
    }

    /// For a pool whose sessions were opened with these limits.
    fn with_session_limits(&self, client: Object, limits: StatementLimits) -> Connection {
        self.connection(client, limits, true)
    }

    fn connection(&self, client: Object, limits: StatementLimits, has_limits: bool) -> Connection {
        let (types, disk_space) = (self.parameter_types.clone(), self.disk_space.clone());
        Connection::new(client, types, self.tls.clone(), disk_space, limits, has_limits)
    }

    /// Runs `work` with a connection for the server's own work, for at most `limit`. The server ends a statement earlier.
    /// If the server does not, the statement is cancelled and its connection closed.
    ///
    /// # Errors
    ///
    /// Errors of `work`; [`PgError::Unavailable`] after `limit` or without a connection.
    pub async fn within<T, W>(
        &self,
        limit: Duration,
        work: impl FnOnce(Connection) -> W,
    ) -> Result<T, PgError>
    where
        W: Future<Output = Result<T, PgError>>,
    {
        self.within_pool(&self.server_pool, limit, Duration::ZERO, work).await
    }

    /// [`within`](Self::within), with a maximum wait for each lock.
    ///
    /// # Errors
    ///
    /// As [`within`](Self::within); [`PgError::LockTimeout`] after `lock_timeout`.
    pub async fn within_locks<T, W>(
        &self,
        limit: Duration,
        lock_timeout: Duration,
        work: impl FnOnce(Connection) -> W,
    ) -> Result<T, PgError>
    where
        W: Future<Output = Result<T, PgError>>,
    {
        self.within_pool(&self.server_pool, limit, lock_timeout, work).await
    }

    /// [`within`](Self::within) with a connection that only liveness uses: the lease of the node and the health check.
    ///
    /// # Errors
    ///
    /// As [`within`](Self::within).
    pub async fn within_liveness<T, W>(
        &self,
        limit: Duration,
        work: impl FnOnce(Connection) -> W,
    ) -> Result<T, PgError>
    where
        W: Future<Output = Result<T, PgError>>,
    {
        self.within_pool(&self.liveness_pool, limit, Duration::ZERO, work).await
    }

    /// [`within`](Self::within) with a connection that only events and webhooks use.
    ///
    /// # Errors
    ///
    /// As [`within`](Self::within).
    pub async fn within_delivery<T, W>(
        &self,
        limit: Duration,
        work: impl FnOnce(Connection) -> W,
    ) -> Result<T, PgError>
    where
        W: Future<Output = Result<T, PgError>>,
    {
        self.within_pool(&self.delivery_pool, limit, Duration::ZERO, work).await
    }

    async fn within_pool<T, W>(
        &self,
        pool: &Pool,
        limit: Duration,
        lock_timeout: Duration,
        work: impl FnOnce(Connection) -> W,
    ) -> Result<T, PgError>
    where
        W: Future<Output = Result<T, PgError>>,
    {
        let started = Instant::now();
        let run = async {
            let client = pool.get().await?;
            let left = limit.saturating_sub(started.elapsed());
            let limits = StatementLimits { statement_timeout: server_timeout(left), lock_timeout };
            work(self.with_limits_to_set(client, limits)).await
        };
        // On the heap, because it contains the futures of the statements.
        session::within(limit, Box::pin(run)).await
    }

    /// What a write needs beyond an answer. Takes at most `limit`.
    ///
    /// # Errors
    ///
    /// [`PgError::Unavailable`] if the database does not answer in time.
    pub async fn is_writable(&self, limit: Duration) -> Result<Writability, PgError> {
        self.within_liveness(limit, |connection| async move {
            let row = connection.query_one(include_str!("../../sql/node/is_writable.sql"), &[]).await?;
            Ok(match (row.get("in_recovery"), row.get("read_only")) {
                (true, _) => Writability::Standby,
                (false, true) => Writability::ReadOnly,
                (false, false) if self.disk_space.is_full() => Writability::DiskFull,
                (false, false) => Writability::Writable,
            })
        })
        .await
    }

    /// A connection for a request that runs this statement. Statements whose last run waited in vain for a lock hold at
    /// most half of the pool, so that a locked table does not stop requests for others.
    pub(super) async fn request_connection_for(
        &self,
        statement: &str,
    ) -> Result<(Connection, Option<SemaphorePermit<'_>>), PgError> {
        let mut permit = None;
        loop {
            let connection = self.request_connection().await?;
            // It may have become known while this request waited for a connection.
            if permit.is_some() || !self.blocked.statements.lock().contains(statement) {
                return Ok((connection, permit));
            }
            drop(connection);
            permit = session::within(POOL_TIMEOUT, async {
                let stopping = |_| PgError::Unavailable("the server is shutting down".into());
                self.blocked.connections.acquire().await.map(Some).map_err(stopping)
            })
            .await?;
        }
    }

    /// Records whether the statement waited in vain for a lock.
    pub(super) fn leave_statement<T>(&self, statement: &str, result: &Result<T, PgError>) {
        match result {
            Err(PgError::LockTimeout(_)) => {
                self.blocked.statements.lock().insert(statement.into());
            }
            Ok(_) => {
                let mut statements = self.blocked.statements.lock();
                if !statements.is_empty() {
                    statements.remove(statement);
                }
            }
            Err(_) => {}
        }
    }

    /// A connection for a request. Only `tx` uses it, after setting the caller's role.
    pub(super) async fn request_connection(&self) -> Result<Connection, PgError> {
        Ok(self.with_session_limits(self.request_pool.get().await?, REQUEST_LIMITS))
    }

    /// A connection for policy checks. Only `tx` uses it, in a transaction that is rolled back.
    pub(super) async fn authorization_connection(&self) -> Result<Connection, PgError> {
        Ok(self.with_session_limits(self.authorization_pool.get().await?, AUTHORIZATION_LIMITS))
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
        self.liveness_pool.close();
        self.delivery_pool.close();
    }
}

/// Whether the database accepts writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writability {
    Writable,
    /// The server is in recovery, as a standby is.
    Standby,
    ReadOnly,
    /// A write failed for lack of disk space within the last 15 s.
    DiskFull,
}

/// Statements of requests whose last run waited in vain for a lock. Bounded by the number of statements in the source.
struct BlockedStatements {
    statements: Mutex<HashSet<Box<str>>>,
    /// Connections that they may hold at a time.
    connections: Semaphore,
}

fn pool(connector: &Connector, purpose: &str, size: usize, limits: StatementLimits, is_pooled: bool) -> Pool {
    // Every use is a transaction with its own settings (see `tx`), so a returned connection needs no reset.
    let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(connector.config(purpose), connector.tls(), manager_config);
    let notify = if purpose == SERVER_POOL { NOTIFY_DIRECTLY } else { "" };
    let session_sql: Arc<str> = format!("{}; {PLAN_ONCE}; {notify}", limits.session_sql()).into();
    let set_up = Hook::async_fn(move |connection: &mut ClientWrapper, _| {
        let session_sql = Arc::clone(&session_sql);
        Box::pin(async move { connection.batch_execute(&session_sql).await.map_err(HookError::Backend) })
    });
    let mut builder = Pool::builder(manager).max_size(size);
    // Behind a pooler, session settings would leak to the next client of the server connection, and unnamed statements
    // have no cached plans.
    if !is_pooled {
        builder = builder.post_create(set_up);
    }
    builder
        .wait_timeout(Some(POOL_TIMEOUT))
        .create_timeout(Some(POOL_TIMEOUT))
        .recycle_timeout(Some(POOL_TIMEOUT))
        .runtime(Runtime::Tokio1)
        .build()
        .expect("a pool with timeouts has a runtime")
}
