//! Builds every handle and spawns every long task; the only module that knows everyone.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
use futures_util::{FutureExt, future::BoxFuture};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{Role, Verifier, VerifierSettings},
    channels::{
        Broadcaster, ChannelLimits, LocalBroadcaster, NodeLimits,
        authorization::authorizer,
        broadcast_from_db::{broadcast_reader, partitions::partition_maintainer},
        bus::{Peers, postgres::postgres_bus},
        diff_sink::HubDiffSink,
        postgres_changes::{PostgresChanges, PostgresChangesSettings},
        presence::{
            ChannelPresence,
            remote::{RemoteChanges, RemotePresence, RemotePresenceNotifications},
            store::{PresenceRowWriter, PresenceStore},
        },
        replay::{DatabaseBroadcastSink, ReplayBuffers},
    },
    clock::Clock,
    config::{self, AllowedOrigins, Config},
    console,
    context::{
        ContextSettings, context_engine,
        provider::{Embedder, Providers},
    },
    http::demo_tokens::DemoTokens,
    http::{
        self, GatewayPolicy, HttpState,
        middleware::{CorsOrigins, HttpSettings},
        sockets::Sockets,
        system::{CheckResult, HealthCheck, System},
    },
    hub::{Hub, HubSettings, ShutdownPlan, UserIndex},
    lifecycle::{Shutdown, TaskFailure, Tasks},
    limits::{LimitSettings, RateLimiter},
    model::NodeId,
    pg::{Database, listener},
    presence::{
        PresenceService,
        channel_users::ChannelUsers,
        context_sync::context_sync,
        devices::{DeviceTimeouts, DeviceTracker, NodeLease},
        outbox_relay::{OutboxNotifications, OutboxRelay, PendingIds},
        typing::run_expiry,
        visibility::{PendingChanges, VisibilityNotifications, visibility},
        writer::writer,
    },
    session::{channels::Services, presence::PresenceServices},
    transport::{self, AcceptSettings},
};

/// How long a node that starts waits for the others.
const PEER_SYNC_TIMEOUT: Duration = Duration::from_secs(3);
/// How long background tasks get to end after that.
const TASK_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// What a running server needs from outside.
pub struct Environment {
    /// The database; the configuration's own URL, or the embedded cluster's.
    pub database_url: String,
    /// For LISTEN; the same unless a pooler stands between.
    pub direct_url: Option<String>,
    /// The secret of HS256 tokens.
    pub jwt_secret: Option<String>,
    /// Prints the metrics, if a recorder is installed.
    pub metrics: Option<PrometheusHandle>,
    /// Whether the server is a demo, whose console hands out tokens of its people; only with a secret, on loopback.
    pub demo: bool,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
}

/// A server with its port bound and its tasks running.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it listens for context sockets alone, if it does.
    pub context_address: Option<SocketAddr>,
    /// Its id among the nodes.
    pub node: NodeId,
    tasks: Tasks,
    /// Cancelled when no more connections are to be accepted: later than the soft stop, so that whoever asks in between
    /// learns that this server is stopping.
    stop_accepting: CancellationToken,
    hub: Hub,
    lease: NodeLease,
    database: Database,
}

impl Server {
    /// Builds everything, binds the port and begins to serve.
    ///
    /// # Errors
    ///
    /// When the port is taken, a setting cannot be used, or the database does not answer.
    pub async fn start(
        config: &Config,
        environment: Environment,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        let config::Listen { host, port, ws_port } = &config.listen;
        let (listener, address) = bind(host, *port, "PORT").await?;
        let second = match ws_port {
            Some(port) => Some(bind(host, *port, "WS_PORT").await?),
            None => None,
        };
        let context_address = second.as_ref().map(|(_, address)| *address);
        let tasks = Tasks::new(shutdown);
        let Environment { database_url, direct_url, jwt_secret, metrics, demo, clock } = environment;
        let database = Database::new(&database_url, direct_url.as_deref(), config.database.pool_size)?;
        let node = NodeId::random();

        let sockets = TaskTracker::new();
        let hub = Hub::start(&HubSettings { shards: config.hub_shards, ..HubSettings::default() }, &sockets);
        let inbox = Arc::new(PendingChanges::default());
        let (writer, writer_task) = writer(database.clone());
        let roster = UserIndex::default();
        let guests = ChannelUsers::default();
        let errands = Arc::new(PendingIds::default());
        let (visibility, pump) = visibility(database.clone(), hub.clone(), inbox.clone());
        let times = DeviceTimeouts {
            grace: config.timeouts.disconnect_grace,
            idle_after: config.timeouts.idle_after,
            lease: config.timeouts.node_lease,
        };
        let liveness = DeviceTracker::new(writer.clone(), node, times);
        let lease = NodeLease::new(database.clone(), liveness.clone(), inbox.clone());
        lease.acquire().await.context("taking the node's lease")?;

        let limits = Arc::new(RateLimiter::new(LimitSettings {
            presence_updates_per_minute: config.limits.presence_updates_per_minute,
            context_requests_per_minute: config.limits.context_requests_per_minute,
            chat_requests_per_minute: config.limits.chat_requests_per_minute,
            manage_requests_per_minute: config.limits.manage_requests_per_minute,
        }));
        let (context_ears, context_sync) = context_sync(database.clone(), hub.clone(), roster.clone());
        let (context, context_bell, context_tasks) =
            context_engine(database.clone(), hub.clone(), roster.clone(), context_settings(&config.context));
        let presence = Arc::new(PresenceService::new(
            database.clone(),
            writer,
            liveness.clone(),
            roster.clone(),
            visibility,
            limits.clone(),
        ));
        let demo = jwt_secret.as_ref().filter(|_| demo && address.ip().is_loopback());
        let demo =
            demo.map(|secret| DemoTokens { secret: config::Secret::new(secret), clock: clock.clone() });
        let verifier = Arc::new(Verifier::new(verifier_settings(&config.auth, jwt_secret), clock.clone())?);
        let probes: Vec<Arc<dyn HealthCheck>> =
            vec![Arc::new(DatabaseCheck(database.clone())), Arc::new(ListenerCheck(inbox.clone()))];
        let rows = PresenceStore::default();
        let outlet = Arc::new(HubDiffSink::new(hub.clone()));
        let channel_presence = ChannelPresence::new(node, clock.clone(), outlet, rows.clone());
        let mirror_inbox = Arc::new(RemoteChanges::default());
        let neighbours = Peers::new(config.timeouts.node_lease);
        let mirror = RemotePresence::new(
            node,
            channel_presence.clone(),
            rows.clone(),
            database.clone(),
            mirror_inbox.clone(),
            neighbours.clone(),
            config.timeouts.node_lease,
        );
        let local_rooms = LocalBroadcaster::new(hub.clone());
        let (bus, bus_sender, bus_receiver, bus_ears) =
            postgres_bus(node, &database, neighbours.clone(), local_rooms.clone());
        let ready = (mirror.ready(), bus_receiver.ready());
        let rows_task = PresenceRowWriter::new(rows, channel_presence.clone(), database.clone(), node);
        let (authorizer, asker, rights_ears) = authorizer(database.clone());
        let (partition_keeper, partition_ears) = partition_maintainer(database.clone());
        let replays = ReplayBuffers::default();
        let channel_limits = channel_limits(&config.limits);
        let (messages_source, messages, messages_ears) = broadcast_reader(
            database.clone(),
            channel_limits.payload_bytes.unwrap_or(usize::MAX),
            DatabaseBroadcastSink::new(local_rooms.clone(), replays.clone(), authorizer.clone()),
        );
        let (changes, changes_engine) =
            PostgresChanges::new(database.clone(), Arc::new(hub.clone()), changes_settings(config));
        let channels = Arc::new(Services {
            changes,
            hub: hub.clone(),
            users: guests.clone(),
            verifier: verifier.clone(),
            clock: clock.clone(),
            broadcaster: Broadcaster::new(local_rooms, Arc::new(bus), neighbours),
            presence: channel_presence,
            authorizer,
            messages,
            replay_buffers: replays,
            private_only: config.private_channels_only,
            limits: Arc::new(NodeLimits::new(channel_limits, hub.clone())),
            tasks: sockets.clone(),
            stopping: tasks.shutdown().soft().clone(),
        });
        let shared =
            PresenceServices { presence: presence.clone(), verifier: verifier.clone(), clock: clock.clone() };
        let state = HttpState {
            presence,
            context: context.clone(),
            database: database.clone(),
            limits,
            verifier,
            gateway: Arc::new(GatewayPolicy {
                trust: config.gateway.trust_headers,
                networks: config.gateway.networks.clone(),
            }),
            system: Arc::new(
                System::new(probes, metrics, clock.clone()).with_shutdown(tasks.shutdown().soft().clone()),
            ),
            sockets: Sockets { hub: hub.clone(), shared },
            channels,
            demo_tokens: demo,
            clock,
        };
        let settings = http_settings(config, tasks.shutdown().soft().clone())?;
        let second_router =
            http::middleware::apply(http::sockets::second_port_routes().with_state(state.clone()), &settings);
        let router = http::middleware::apply(router().with_state(state), &settings);

        let stop = tasks.shutdown().soft().clone();
        let expiry = run_expiry(database.clone(), inbox.clone(), stop.clone());
        // Rights before broadcasts: what was taken away is noted before what comes after it is read.
        let channel_ears = (
            (RemotePresenceNotifications(mirror_inbox), bus_ears),
            ((rights_ears, partition_ears), messages_ears),
        );
        let audience = (
            (VisibilityNotifications(inbox), context_ears),
            ((OutboxNotifications(errands.clone()), context_bell), channel_ears),
        );
        let courier =
            OutboxRelay::new(database.clone(), hub.clone(), roster, guests, liveness.clone(), errands);
        tasks.spawn(
            "listener",
            infallible(listener::run(database.direct_connector().clone(), audience, stop.clone())),
        );
        tasks.spawn("visibility", infallible(pump.run(stop.clone())));
        tasks.spawn("typing", infallible(expiry));
        tasks.spawn("context sync", infallible(context_sync.run(stop.clone())));
        tasks.spawn("changes", infallible(changes_engine.run(stop.clone())));
        tasks.spawn("context engine", infallible(context_tasks.run(stop.clone())));
        tasks.spawn("context workers", infallible(context.clone().run_workers(stop.clone())));
        tasks.spawn("context house", infallible(context.clone().run_maintenance(stop.clone())));
        tasks.spawn("context meaning", infallible(context.clone().run_embedding_worker(stop.clone())));
        tasks.spawn("roll-ups", infallible(context.clone().run_roll_ups(stop.clone())));
        tasks.spawn("chats", infallible(context.drain_turns(stop.clone())));
        tasks.spawn("courier", infallible(courier.run(stop.clone())));
        tasks.spawn("graces", infallible(liveness.run_grace_expiry(stop.clone())));
        tasks.spawn("lease", infallible(lease.clone().run(stop.clone())));
        tasks.spawn("channel presence rows", infallible(rows_task.run(stop.clone())));
        tasks.spawn("rights", infallible(asker.run(stop.clone())));
        tasks.spawn("partitions of messages", infallible(partition_keeper.run(stop.clone())));
        tasks.spawn("broadcasts from the database", infallible(messages_source.run(stop.clone())));
        tasks.spawn("bus sender", infallible(bus_sender.run(stop.clone())));
        tasks.spawn("bus receiver", infallible(bus_receiver.run(stop.clone())));
        tasks.spawn("channel presence mirror", infallible(mirror.run(stop.clone())));
        tasks.spawn("writer", infallible(writer_task.run(stop.clone())));
        wait_for_peers(ready).await;
        let closing = CancellationToken::new();
        if let Some((listener, _)) = second {
            let served =
                transport::serve(listener, second_router, closing.clone(), AcceptSettings::default());
            tasks.spawn("http on the second port", served);
        }
        let served = transport::serve(listener, router, closing.clone(), AcceptSettings::default());
        tasks.spawn("http", served);
        Ok(Self { address, context_address, node, tasks, stop_accepting: closing, hub, lease, database })
    }

    /// Serves until told to stop, then takes leave of the sockets and waits for the tasks.
    ///
    /// # Errors
    ///
    /// When a task died, or did not end in time.
    pub async fn run(self) -> Result<(), TaskFailure> {
        self.tasks.shutdown().soft().cancelled().await;
        let sockets = self.hub.stats().connections;
        tracing::info!(sockets, "not ready any more; telling sockets to come back elsewhere");
        self.hub.shutdown(ShutdownPlan::default()).await;
        tracing::info!("no socket is left; finishing requests and background work");
        self.stop_accepting.cancel();
        let ended = self.tasks.run(TASK_SHUTDOWN_TIMEOUT).await;
        self.lease.release().await;
        self.database.close();
        ended
    }
}

/// Every route.
pub(crate) fn router() -> Router<HttpState> {
    Router::new()
        .merge(http::presence::routes())
        .merge(http::settings::routes())
        .merge(http::contacts::routes())
        .merge(http::conversations::routes())
        .merge(http::context::routes())
        .merge(http::devices::routes())
        .merge(http::people::routes())
        .merge(http::privacy::routes())
        .merge(http::broadcast::routes())
        .merge(http::sockets::routes())
        .merge(http::realtime::routes())
        .merge(http::system::routes())
        .merge(http::openapi::routes())
        .merge(http::operator::routes())
        .merge(console::routes())
}

async fn bind(host: &str, port: u16, setting: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((host, port))
        .await
        .with_context(|| format!("cannot listen on {host}:{port}; set HOST or {setting} to another"))?;
    let address = listener.local_addr().context("reading the bound address")?;
    Ok((listener, address))
}

fn verifier_settings(auth: &config::AuthConfig, jwt_secret: Option<String>) -> VerifierSettings {
    let api_keys = auth.api_keys.iter().map(|(key, role)| (key.expose().to_owned(), *role));
    VerifierSettings {
        jwt_secret,
        jwks_url: auth.jwks_url.clone(),
        issuer: auth.issuer.clone(),
        audience: auth.audience.clone(),
        api_keys: api_keys.collect::<std::collections::HashMap<String, Role>>(),
    }
}

fn changes_settings(config: &Config) -> PostgresChangesSettings {
    PostgresChangesSettings {
        slot_name: config.slot_name.clone(),
        max_lag_bytes: config.max_wal_bytes,
        ..PostgresChangesSettings::default()
    }
}

fn channel_limits(limits: &config::Limits) -> ChannelLimits {
    ChannelLimits {
        connections: limits.max_connections,
        joins_per_second: limits.max_joins_per_second,
        events_per_second: limits.max_events_per_second,
        client_events_per_second: limits.max_client_events_per_second,
        client_bytes_per_second: limits.max_client_bytes_per_second,
        channels_per_client: limits.max_channels_per_client,
        // As in the original, half a kilobyte is for what surrounds the user's part.
        payload_bytes: limits.max_payload_kb.map(|kb| kb.get() as usize * 1_000 + 500),
        presence_calls: limits.presence_calls,
        presence_window: limits.presence_window,
        presence_events_per_second: limits.max_presence_events_per_second,
    }
}

fn context_settings(config: &config::ContextConfig) -> ContextSettings {
    ContextSettings {
        use_dynamic: config.use_dynamic,
        fall_back_to_simple: config.fallback,
        providers: Providers::new(&config.providers, config.echo),
        embedder: config.embeddings.as_ref().map(|it| Arc::new(Embedder::new(it))),
        roll_up_interval: config.roll_up_interval,
    }
}

fn http_settings(config: &Config, stopping: CancellationToken) -> anyhow::Result<HttpSettings> {
    let cors_origins = match &config.cors.origins {
        AllowedOrigins::Any => CorsOrigins::Any,
        AllowedOrigins::List(origins) => origins.join(",").parse()?,
    };
    Ok(HttpSettings {
        cors_origins,
        cors_credentials: config.cors.credentials,
        slow_routes: http::context::SLOW_ROUTES.to_vec(),
        stopping,
        ..HttpSettings::default()
    })
}

/// Waits until this node knows who is present on the others and they know of it; not for long, because sockets of this
/// node can do without them.
async fn wait_for_peers((mut mirrored, mut announced): (watch::Receiver<bool>, watch::Receiver<bool>)) {
    let both = async {
        // Should one of the tasks end, its owner notices.
        drop(mirrored.wait_for(|ready| *ready).await);
        drop(announced.wait_for(|ready| *ready).await);
    };
    if timeout(PEER_SYNC_TIMEOUT, both).await.is_err() {
        tracing::warn!("takes sockets before everything of the other nodes is known");
    }
}

/// A task that only ends because it was told to.
async fn infallible(task: impl Future<Output = ()>) -> Result<(), std::convert::Infallible> {
    task.await;
    Ok(())
}

/// Whether the database answers.
struct DatabaseCheck(Database);

impl HealthCheck for DatabaseCheck {
    fn name(&self) -> &'static str {
        "database"
    }

    fn check(&self) -> BoxFuture<'_, CheckResult> {
        async {
            let answered = async { self.0.server_connection().await?.batch_execute("").await };
            match answered.await {
                Ok(()) => CheckResult::healthy(),
                Err(_) => CheckResult::unhealthy("out of reach"),
            }
        }
        .boxed()
    }
}

/// Whether notifications arrive.
struct ListenerCheck(Arc<PendingChanges>);

impl HealthCheck for ListenerCheck {
    fn name(&self) -> &'static str {
        "listener"
    }

    fn check(&self) -> BoxFuture<'_, CheckResult> {
        let reading = if self.0.is_connected() {
            CheckResult::healthy()
        } else {
            CheckResult::unhealthy("not listening")
        };
        std::future::ready(reading).boxed()
    }
}
