//! Assembles the server: builds the services, binds the ports and spawns the background tasks. Only this
//! module depends on all others.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
use futures_util::{FutureExt, future::BoxFuture};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{Verifier, VerifierSettings},
    channels::{
        Broadcaster, LocalBroadcaster, NodeLimits,
        authorization::authorizer,
        broadcast_from_db::{broadcast_reader, partitions::partition_maintainer},
        bus::{Peers, postgres::postgres_bus},
        diff_sink::HubDiffSink,
        postgres_changes::PostgresChanges,
        presence::{
            ChannelPresence,
            remote::{RemoteChanges, RemotePresence, RemotePresenceNotifications},
            store::{PresenceRowWriter, PresenceStore},
        },
        replay::{DatabaseBroadcastSink, ReplayBuffers},
    },
    clock::Clock,
    config::{self, Config},
    console,
    context::context_engine,
    http::demo_tokens::DemoTokens,
    http::{
        self, GatewayPolicy, HttpState,
        detached::DetachedWrites,
        middleware::{CorsSettings, HttpSettings},
        sockets::Sockets,
        system::{CheckResult, HealthCheck, System},
    },
    hub::{Hub, ShutdownPlan, UserIndex},
    lifecycle::{Shutdown, TaskFailure, Tasks},
    limits::RateLimiter,
    model::{Module, Modules, NodeId, Secret},
    pg::{Database, Writability, listener, queries::node, relay::Relay},
    presence::{
        PresenceService,
        channel_users::ChannelUsers,
        context_sync::context_sync,
        devices::{DeviceTracker, NodeLease},
        outbox_relay::{OutboxNotifications, OutboxRelay, PendingIds},
        typing::run_expiry,
        visibility::{PendingChanges, VisibilityNotifications, visibility},
        writer::writer,
    },
    session::{channels::Services, presence::PresenceServices},
    transport::{self, AcceptSettings, Admission, descriptors},
};

/// Maximum time that startup waits for the channel state of the other nodes.
const PEER_SYNC_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout of the query of the installed modules.
const MODULES_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of the database's health check, below that of all health checks.
const WRITABLE_TIMEOUT: Duration = Duration::from_millis(1_800);
/// Maximum time that background tasks may take to end after the soft stop.
const TASK_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum open sockets of the admin port; they are within the reserve of file descriptors.
const MAX_ADMIN_CONNECTIONS: usize = 32;

/// Inputs of [`Server::start`] that do not come from the configuration.
pub struct Environment {
    /// URL of the database: the configured one or that of the embedded cluster.
    pub database_url: String,
    /// Direct URL for LISTEN and replication when `database_url` points at a pooler.
    pub direct_url: Option<String>,
    /// Secret of HS256 tokens.
    pub jwt_secret: Option<Secret>,
    /// Renders the metrics; `None` when no recorder is installed.
    pub metrics: Option<PrometheusHandle>,
    /// Whether the console may hand out tokens of the demo users to the browser that opens
    /// [`Server::demo_link`]. Has an effect only with `jwt_secret` and on
    /// a loopback address.
    pub demo: bool,
    pub clock: Arc<dyn Clock>,
}

/// A running server: its ports are bound and its tasks are spawned.
pub struct Server {
    /// Address of the main port.
    pub address: SocketAddr,
    /// Address of the second port, which serves only the context socket.
    pub context_address: Option<SocketAddr>,
    /// Address of the admin port.
    pub admin_address: Option<SocketAddr>,
    pub node: NodeId,
    /// Path of the link that opens the console with tokens of the demo users, once; `None` without demo.
    pub demo_link: Option<String>,
    tasks: Tasks,
    /// Cancelled when no more connections are accepted. This happens after the soft stop, so that health
    /// checks see the draining state.
    stop_accepting: CancellationToken,
    hub: Hub,
    lease: NodeLease,
    database: Database,
}

impl Server {
    /// Builds the services, binds the ports and starts serving.
    ///
    /// # Errors
    ///
    /// When a port is in use, a setting cannot be used, or the database does not respond.
    pub async fn start(
        config: &Config,
        environment: Environment,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        let config::Listen { host, port, ws_port, admin_port, admin_host } = &config.listen;
        let (listener, address) = bind(host, *port, "HOST or PORT").await?;
        let second = match ws_port {
            Some(port) => Some(bind(host, *port, "HOST or WS_PORT").await?),
            None => None,
        };
        let admin = match admin_port {
            Some(port) => Some(bind(admin_host, *port, "ADMIN_HOST or ADMIN_PORT").await?),
            None => None,
        };
        let admin_address = admin.as_ref().map(|(_, address)| *address);
        let context_address = second.as_ref().map(|(_, address)| *address);
        let tasks = Tasks::new(shutdown);
        let Environment { database_url, direct_url, jwt_secret, metrics, demo, clock } = environment;
        let database = Database::new(&database_url, direct_url.as_deref(), config.database.pool_size)?;
        let node = NodeId::random();
        let modules = installed_modules(&database).await?;
        let (has_presence, has_context) =
            (modules.contains(Module::Presence), modules.contains(Module::Context));
        if modules != Modules::ALL {
            tracing::info!(%modules, "routes of other modules answer 404");
        }

        let sockets = TaskTracker::new();
        let hub = Hub::start(&config.hub, &sockets);
        let pending_changes = Arc::new(PendingChanges::default());
        let (writer, writer_task) = writer(database.clone());
        let user_index = UserIndex::default();
        let channel_users = ChannelUsers::default();
        let outbox_ids = Arc::new(PendingIds::default());
        let (visibility, visibility_task) =
            visibility(database.clone(), hub.clone(), pending_changes.clone());
        let device_tracker = DeviceTracker::new(writer.clone(), node, config.timeouts);
        let lease =
            NodeLease::new(database.clone(), device_tracker.clone(), pending_changes.clone(), has_presence);
        lease.acquire().await.context("cannot acquire the node lease")?;

        let limits = Arc::new(RateLimiter::new(config.limits));
        let (device_sync_handler, context_sync) =
            context_sync(database.clone(), hub.clone(), user_index.clone());
        let (context, context_handler, context_tasks) =
            context_engine(database.clone(), hub.clone(), user_index.clone(), config.context.clone())?;
        let presence = Arc::new(PresenceService::new(
            database.clone(),
            writer,
            device_tracker.clone(),
            user_index.clone(),
            visibility,
            limits.clone(),
        ));
        let demo_secret = jwt_secret.as_ref().filter(|_| demo && address.ip().is_loopback());
        let (demo_tokens, demo_link) =
            demo_secret.map(|secret| DemoTokens::new(secret.clone(), clock.clone())).unzip();
        let verifier_settings = VerifierSettings { jwt_secret, ..config.auth.clone() };
        let verifier = Arc::new(Verifier::new(verifier_settings, clock.clone())?);
        let health_checks: Vec<Arc<dyn HealthCheck>> =
            vec![Arc::new(DatabaseCheck(database.clone())), Arc::new(ListenerCheck(pending_changes.clone()))];
        let presence_store = PresenceStore::default();
        let diff_sink = Arc::new(HubDiffSink::new(hub.clone()));
        let channel_presence = ChannelPresence::new(node, clock.clone(), diff_sink, presence_store.clone());
        let remote_changes = Arc::new(RemoteChanges::default());
        let peers = Peers::new(config.timeouts.lease);
        let remote_presence = RemotePresence::new(
            node,
            channel_presence.clone(),
            presence_store.clone(),
            database.clone(),
            remote_changes.clone(),
            peers.clone(),
            config.timeouts.lease,
        );
        let local_broadcaster = LocalBroadcaster::new(hub.clone());
        let (bus, bus_sender, bus_receiver, bus_handler) =
            postgres_bus(node, &database, peers.clone(), local_broadcaster.clone());
        let ready = (remote_presence.ready(), bus_receiver.ready());
        let presence_row_writer =
            PresenceRowWriter::new(presence_store, channel_presence.clone(), database.clone(), node);
        let (authorizer, authorization_worker, authorization_handler) = authorizer(database.clone());
        let (partition_worker, partition_handler) = partition_maintainer(database.clone());
        let replay_buffers = ReplayBuffers::default();
        let channel_limits = config.channels.limits;
        let (broadcast_task, messages, broadcast_handler) = broadcast_reader(
            database.clone(),
            channel_limits.payload_bytes().unwrap_or(usize::MAX),
            DatabaseBroadcastSink::new(local_broadcaster.clone(), replay_buffers.clone(), authorizer.clone()),
        );
        let (changes, changes_engine) = PostgresChanges::new(
            database.clone(),
            Arc::new(hub.clone()),
            config.channels.postgres_changes.clone(),
        );
        let channels = Arc::new(Services {
            changes,
            hub: hub.clone(),
            users: channel_users.clone(),
            verifier: verifier.clone(),
            clock: clock.clone(),
            broadcaster: Broadcaster::new(local_broadcaster, Arc::new(bus), peers),
            presence: channel_presence,
            authorizer,
            messages,
            replay_buffers,
            private_only: config.channels.private_only,
            presence_by_default: config.channels.presence_by_default,
            limits: Arc::new(NodeLimits::new(channel_limits, hub.clone())),
            tasks: sockets.clone(),
            stopping: tasks.shutdown().soft().clone(),
        });
        let shared =
            PresenceServices { presence: presence.clone(), verifier: verifier.clone(), clock: clock.clone() };
        let system = Arc::new(
            System::new(health_checks, metrics, clock.clone()).with_shutdown(tasks.shutdown().soft().clone()),
        );
        let state = HttpState {
            presence,
            context: context.clone(),
            database: database.clone(),
            limits,
            detached: DetachedWrites::default(),
            verifier,
            gateway: Arc::new(GatewayPolicy {
                origins: config.cors.origins.listed().to_vec(),
                ..config.gateway.clone()
            }),
            metrics: Arc::new(config.metrics.clone()),
            system: system.clone(),
            sockets: Sockets { hub: hub.clone(), shared },
            channels,
            demo_tokens,
            clock,
        };
        let settings = http_settings(&config.cors, tasks.shutdown().soft().clone());
        let second_router =
            http::middleware::apply(http::second_port_routes(modules).with_state(state.clone()), &settings);
        let router = http::middleware::apply(router(modules).with_state(state), &settings);
        let admin_settings = HttpSettings { cors: CorsSettings::no_origin(), ..settings };
        let admin_router = http::middleware::apply(http::system::admin_routes(system), &admin_settings);

        let stop = tasks.shutdown().soft().clone();
        let expiry = run_expiry(database.clone(), pending_changes.clone(), stop.clone());
        // Authorization comes before broadcasts: an invalidation is recorded before a later message is read.
        let channel_handlers = (
            (RemotePresenceNotifications(remote_changes), bus_handler),
            ((authorization_handler, partition_handler), broadcast_handler),
        );
        let notification_handlers = (
            (VisibilityNotifications(pending_changes), device_sync_handler),
            ((OutboxNotifications(outbox_ids.clone()), context_handler), channel_handlers),
        );
        let outbox_relay = OutboxRelay::new(
            database.clone(),
            hub.clone(),
            user_index,
            channel_users,
            device_tracker.clone(),
            outbox_ids,
        );
        tasks.spawn(
            "listener",
            infallible(listener::run(
                database.direct_connector().clone(),
                notification_handlers,
                stop.clone(),
            )),
        );
        if config.database.notification_relay {
            let relay = Relay::new(database.clone(), node);
            tasks.spawn("notification relay", infallible(relay.run(stop.clone())));
        }
        tasks.spawn("lease", infallible(lease.clone().run(stop.clone())));
        if has_presence {
            tasks.spawn("visibility", infallible(visibility_task.run(stop.clone())));
            tasks.spawn("typing", infallible(expiry));
            tasks.spawn("outbox relay", infallible(outbox_relay.run(stop.clone())));
            tasks.spawn("device grace expiry", infallible(device_tracker.run_grace_expiry(stop.clone())));
            tasks.spawn("presence writer", infallible(writer_task.run(stop.clone())));
            tasks.spawn("context device sync", infallible(context_sync.run(stop.clone())));
        }
        if has_context {
            tasks.spawn("context engine", infallible(context_tasks.run(stop.clone())));
            tasks.spawn("context workers", infallible(context.clone().run_workers(stop.clone())));
            tasks.spawn("context maintenance", infallible(context.clone().run_maintenance(stop.clone())));
            tasks.spawn("context embeddings", infallible(context.clone().run_embedding_worker(stop.clone())));
            tasks.spawn("learning", infallible(context.clone().run_learning(stop.clone())));
            tasks.spawn("roll-ups", infallible(context.clone().run_roll_ups(stop.clone())));
            tasks.spawn("chat turns", infallible(context.drain_turns(stop.clone())));
        }
        tasks.spawn("postgres changes", infallible(changes_engine.run(stop.clone())));
        tasks.spawn("channel presence writer", infallible(presence_row_writer.run(stop.clone())));
        tasks.spawn("channel authorization", infallible(authorization_worker.run(stop.clone())));
        tasks.spawn("message partitions", infallible(partition_worker.run(stop.clone())));
        tasks.spawn("broadcasts from the database", infallible(broadcast_task.run(stop.clone())));
        tasks.spawn("bus sender", infallible(bus_sender.run(stop.clone())));
        tasks.spawn("bus receiver", infallible(bus_receiver.run(stop.clone())));
        tasks.spawn("remote channel presence", infallible(remote_presence.run(stop.clone())));
        wait_for_peers(ready).await;
        let stop_accepting = CancellationToken::new();
        let accept = AcceptSettings {
            max_connections: descriptors::max_connections(
                config.accept.max_connections,
                config.database.pool_size,
            ),
            ..config.accept
        };
        // Both ports take from one limit of descriptors.
        let admission = Admission::new(&accept);
        if let Some((listener, _)) = second {
            let server =
                transport::serve(listener, second_router, stop_accepting.clone(), accept, admission.clone());
            tasks.spawn("http on the second port", server);
        }
        if let Some((listener, _)) = admin {
            // Sockets of its own: clients that use up the other ports do not prevent monitoring.
            let accept = AcceptSettings {
                max_connections: MAX_ADMIN_CONNECTIONS,
                silent_per_address: None,
                ..config.accept
            };
            let admission = Admission::new(&accept);
            let server = transport::serve(listener, admin_router, stop_accepting.clone(), accept, admission);
            tasks.spawn("http on the admin port", server);
        }
        let server = transport::serve(listener, router, stop_accepting.clone(), accept, admission);
        tasks.spawn("http", server);
        Ok(Self {
            address,
            context_address,
            admin_address,
            node,
            demo_link,
            tasks,
            stop_accepting,
            hub,
            lease,
            database,
        })
    }

    /// Serves until the soft stop, then closes the sockets and waits for the tasks.
    ///
    /// # Errors
    ///
    /// When a task failed or did not end in time.
    pub async fn run(self) -> Result<(), TaskFailure> {
        self.tasks.shutdown().soft().cancelled().await;
        let sockets = self.hub.stats().connections;
        tracing::info!(sockets, "shutdown started; closing sockets");
        self.hub.shutdown(ShutdownPlan::default()).await;
        tracing::info!("sockets closed; finishing requests and background tasks");
        self.stop_accepting.cancel();
        let result = self.tasks.run(TASK_SHUTDOWN_TIMEOUT).await;
        self.lease.release().await;
        self.database.close();
        result
    }
}

pub(crate) fn router(modules: Modules) -> Router<HttpState> {
    http::routes(modules, console::routes())
}

/// The modules that the database has. The server runs the tasks of these only.
async fn installed_modules(database: &Database) -> anyhow::Result<Modules> {
    let read = |connection| async move { node::installed_modules(&connection).await };
    database.within(MODULES_TIMEOUT, read).await.context("cannot read the installed modules")
}

/// The OpenAPI document that the server serves.
#[must_use]
pub fn openapi_document() -> serde_json::Value {
    http::openapi_document(console::routes())
}

/// Checks that the ports are free, before anything else is done. They are not kept: until the server is ready, clients
/// must be refused rather than wait.
///
/// # Errors
/// Names the settings of a port that is in use.
pub async fn check_ports(listen: &config::Listen) -> anyhow::Result<()> {
    let config::Listen { host, port, ws_port, admin_port, admin_host } = listen;
    bind(host, *port, "HOST or PORT").await?;
    if let Some(port) = ws_port {
        bind(host, *port, "HOST or WS_PORT").await?;
    }
    if let Some(port) = admin_port {
        bind(admin_host, *port, "ADMIN_HOST or ADMIN_PORT").await?;
    }
    Ok(())
}

async fn bind(host: &str, port: u16, settings: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((host, port))
        .await
        .with_context(|| format!("cannot listen on {host}:{port}; set {settings} to a free address"))?;
    let address = listener.local_addr().context("cannot read the bound address")?;
    Ok((listener, address))
}

fn http_settings(cors: &CorsSettings, stopping: CancellationToken) -> HttpSettings {
    HttpSettings {
        cors: cors.clone(),
        slow_routes: http::context::SLOW_ROUTES.to_vec(),
        stopping,
        ..HttpSettings::default()
    }
}

/// Waits until the channel presence of the other nodes is read and this node is announced on the bus, for at
/// most [`PEER_SYNC_TIMEOUT`]. Sockets work without either.
async fn wait_for_peers((mut presence_ready, mut bus_ready): (watch::Receiver<bool>, watch::Receiver<bool>)) {
    let both = async {
        // An error means that the task ended, which `Tasks` reports.
        drop(presence_ready.wait_for(|ready| *ready).await);
        drop(bus_ready.wait_for(|ready| *ready).await);
    };
    if timeout(PEER_SYNC_TIMEOUT, both).await.is_err() {
        tracing::warn!("accepting connections before remote presence is synchronized");
    }
}

/// Adapts a task that cannot fail for [`Tasks::spawn`].
async fn infallible(task: impl Future<Output = ()>) -> Result<(), std::convert::Infallible> {
    task.await;
    Ok(())
}

/// Health check: the database responds and accepts writes.
struct DatabaseCheck(Database);

impl HealthCheck for DatabaseCheck {
    fn name(&self) -> &'static str {
        "database"
    }

    fn check(&self) -> BoxFuture<'_, CheckResult> {
        async {
            match self.0.is_writable(WRITABLE_TIMEOUT).await {
                Ok(Writability::Writable) => CheckResult::healthy(),
                Ok(Writability::Standby) => CheckResult::unhealthy("read-only: the server is a standby"),
                Ok(Writability::ReadOnly) => CheckResult::unhealthy("read-only"),
                Err(_) => CheckResult::unhealthy("unreachable"),
            }
        }
        .boxed()
    }
}

/// Health check: the LISTEN connection is up.
struct ListenerCheck(Arc<PendingChanges>);

impl HealthCheck for ListenerCheck {
    fn name(&self) -> &'static str {
        "listener"
    }

    fn check(&self) -> BoxFuture<'_, CheckResult> {
        let result = if self.0.is_connected() {
            CheckResult::healthy()
        } else {
            CheckResult::unhealthy("not connected")
        };
        std::future::ready(result).boxed()
    }
}
