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
        Broadcaster, ChannelLimits, LocalRooms, NodeLimits,
        authorization::authorizer,
        bus::{Neighbours, postgres::postgres_bus},
        changes::{Changes, ChangesSettings},
        database::{database_source, partitions::partition_keeper},
        outlet::DiffOutlet,
        presence::{
            ChannelPresence,
            mirror::{Mirror, MirrorEars, MirrorInbox},
            rows::{Rows, RowsTask},
        },
        replay::{DatabaseSink, Replays},
    },
    clock::Clock,
    config::{self, Config, CorsOrigin},
    console::{self, demo::Demo},
    context::{
        ContextSettings, context_engine,
        provider::{Embedder, Providers},
    },
    http::{
        self, GatewayPolicy, HttpState,
        layers::{CorsOrigins, HttpSettings},
        sockets::Sockets,
        system::{Probe, Reading, System},
    },
    hub::{Hub, HubSettings, ShutdownPlan},
    lifecycle::{Shutdown, TaskFailure, Tasks},
    limits::{LimitSettings, Limits},
    model::NodeId,
    pg::{Database, listener},
    presence::{
        PresenceService,
        context_sync::context_sync,
        courier::{Courier, CourierEars, Errands},
        guests::Guests,
        liveness::{Lease, Liveness, Times},
        roster::Roster,
        typing::run_expiry,
        visibility::{Ears, Inbox, visibility},
        writer::writer,
    },
    session::{channels::Services, presence::Shared},
    transport::{self, AcceptSettings},
};

/// How long a node that starts waits for the others.
const NODES_PATIENCE: Duration = Duration::from_secs(3);
/// How long background tasks get to end after that.
const TASKS_GRACE: Duration = Duration::from_secs(10);

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
    closing: CancellationToken,
    hub: Hub,
    lease: Lease,
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
        let hub = Hub::start(&HubSettings { shards: config.shards, ..HubSettings::default() }, &sockets);
        let inbox = Arc::new(Inbox::default());
        let (writer, writer_task) = writer(database.clone());
        let roster = Roster::default();
        let guests = Guests::default();
        let errands = Arc::new(Errands::default());
        let (visibility, pump) = visibility(database.clone(), hub.clone(), inbox.clone());
        let times = Times {
            grace: config.times.disconnect_grace,
            idle_after: config.times.idle_after,
            lease: config.times.node_lease,
        };
        let liveness = Liveness::new(writer.clone(), node, times);
        let lease = Lease::new(database.clone(), liveness.clone(), inbox.clone());
        lease.take().await.context("taking the node's lease")?;

        let limits = Arc::new(Limits::new(LimitSettings {
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
        let demo = demo.map(|secret| Demo { secret: config::Secret::new(secret), clock: clock.clone() });
        let verifier = Arc::new(Verifier::new(verifier_settings(&config.auth, jwt_secret), clock.clone())?);
        let probes: Vec<Arc<dyn Probe>> =
            vec![Arc::new(DatabaseProbe(database.clone())), Arc::new(ListenerProbe(inbox.clone()))];
        let rows = Rows::default();
        let outlet = Arc::new(DiffOutlet::new(hub.clone()));
        let channel_presence = ChannelPresence::new(node, clock.clone(), outlet, rows.clone());
        let mirror_inbox = Arc::new(MirrorInbox::default());
        let neighbours = Neighbours::new(config.times.node_lease);
        let mirror = Mirror::new(
            node,
            channel_presence.clone(),
            rows.clone(),
            database.clone(),
            mirror_inbox.clone(),
            neighbours.clone(),
            config.times.node_lease,
        );
        let local_rooms = LocalRooms::new(hub.clone());
        let (bus, bus_sender, bus_receiver, bus_ears) =
            postgres_bus(node, &database, neighbours.clone(), local_rooms.clone());
        let ready = (mirror.ready(), bus_receiver.ready());
        let rows_task = RowsTask::new(rows, channel_presence.clone(), database.clone(), node);
        let (authorizer, asker, rights_ears) = authorizer(database.clone());
        let (partition_keeper, partition_ears) = partition_keeper(database.clone());
        let replays = Replays::default();
        let channel_limits = channel_limits(&config.limits);
        let (messages_source, messages, messages_ears) = database_source(
            database.clone(),
            channel_limits.payload_bytes.unwrap_or(usize::MAX),
            DatabaseSink::new(local_rooms.clone(), replays.clone(), authorizer.clone()),
        );
        let (changes, changes_engine) =
            Changes::new(database.clone(), Arc::new(hub.clone()), changes_settings(config));
        let channels = Arc::new(Services {
            changes,
            hub: hub.clone(),
            guests: guests.clone(),
            verifier: verifier.clone(),
            clock: clock.clone(),
            broadcaster: Broadcaster::new(local_rooms, Arc::new(bus), neighbours),
            presence: channel_presence,
            authorizer,
            messages,
            replays,
            private_only: config.private_channels_only,
            limits: Arc::new(NodeLimits::new(channel_limits, hub.clone())),
            tasks: sockets.clone(),
            stopping: tasks.shutdown().soft().clone(),
        });
        let shared = Shared { presence: presence.clone(), verifier: verifier.clone(), clock: clock.clone() };
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
                System::new(probes, metrics, clock.clone()).until(tasks.shutdown().soft().clone()),
            ),
            sockets: Sockets { hub: hub.clone(), shared },
            channels,
            demo,
            clock,
        };
        let settings = http_settings(config, tasks.shutdown().soft().clone())?;
        let second_router =
            http::layers::wrap(http::sockets::second_port_routes().with_state(state.clone()), &settings);
        let router = http::layers::wrap(router().with_state(state), &settings);

        let stop = tasks.shutdown().soft().clone();
        let expiry = run_expiry(database.clone(), inbox.clone(), stop.clone());
        // Rights before broadcasts: what was taken away is noted before what comes after it is read.
        let channel_ears =
            ((MirrorEars(mirror_inbox), bus_ears), ((rights_ears, partition_ears), messages_ears));
        let audience =
            ((Ears(inbox), context_ears), ((CourierEars(errands.clone()), context_bell), channel_ears));
        let courier = Courier::new(database.clone(), hub.clone(), roster, guests, liveness.clone(), errands);
        tasks.spawn("listener", endless(listener::run(database.direct().clone(), audience, stop.clone())));
        tasks.spawn("visibility", endless(pump.run(stop.clone())));
        tasks.spawn("typing", endless(expiry));
        tasks.spawn("context sync", endless(context_sync.run(stop.clone())));
        tasks.spawn("changes", endless(changes_engine.run(stop.clone())));
        tasks.spawn("context engine", endless(context_tasks.run(stop.clone())));
        tasks.spawn("context workers", endless(context.clone().run_workers(stop.clone())));
        tasks.spawn("context house", endless(context.clone().run_house(stop.clone())));
        tasks.spawn("context meaning", endless(context.clone().run_meaning(stop.clone())));
        tasks.spawn("roll-ups", endless(context.clone().run_roll_ups(stop.clone())));
        tasks.spawn("chats", endless(context.run_turns(stop.clone())));
        tasks.spawn("courier", endless(courier.run(stop.clone())));
        tasks.spawn("graces", endless(liveness.run_graces(stop.clone())));
        tasks.spawn("lease", endless(lease.clone().run(stop.clone())));
        tasks.spawn("channel presence rows", endless(rows_task.run(stop.clone())));
        tasks.spawn("rights", endless(asker.run(stop.clone())));
        tasks.spawn("partitions of messages", endless(partition_keeper.run(stop.clone())));
        tasks.spawn("broadcasts from the database", endless(messages_source.run(stop.clone())));
        tasks.spawn("bus sender", endless(bus_sender.run(stop.clone())));
        tasks.spawn("bus receiver", endless(bus_receiver.run(stop.clone())));
        tasks.spawn("channel presence mirror", endless(mirror.run(stop.clone())));
        tasks.spawn("writer", endless(writer_task.run(stop.clone())));
        until_known(ready).await;
        let closing = CancellationToken::new();
        if let Some((listener, _)) = second {
            let served =
                transport::serve(listener, second_router, closing.clone(), AcceptSettings::default());
            tasks.spawn("http on the second port", served);
        }
        let served = transport::serve(listener, router, closing.clone(), AcceptSettings::default());
        tasks.spawn("http", served);
        Ok(Self { address, context_address, node, tasks, closing, hub, lease, database })
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
        self.closing.cancel();
        let ended = self.tasks.run(TASKS_GRACE).await;
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

fn changes_settings(config: &Config) -> ChangesSettings {
    ChangesSettings {
        slot: config.slot.clone(),
        most_lag_bytes: config.max_wal_bytes,
        ..ChangesSettings::default()
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
        fall_back: config.fall_back,
        providers: Providers::new(&config.providers, config.echo),
        embedder: config.embeddings.as_ref().map(|it| Arc::new(Embedder::new(it))),
        roll_up_every: config.roll_up_every,
    }
}

fn http_settings(config: &Config, stopping: CancellationToken) -> anyhow::Result<HttpSettings> {
    let cors_origins = match &config.cors.origin {
        CorsOrigin::Any => CorsOrigins::Any,
        CorsOrigin::These(origins) => origins.join(",").parse()?,
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
async fn until_known((mut mirrored, mut announced): (watch::Receiver<bool>, watch::Receiver<bool>)) {
    let both = async {
        // Should one of the tasks end, its owner notices.
        drop(mirrored.wait_for(|ready| *ready).await);
        drop(announced.wait_for(|ready| *ready).await);
    };
    if timeout(NODES_PATIENCE, both).await.is_err() {
        tracing::warn!("takes sockets before everything of the other nodes is known");
    }
}

/// A task that only ends because it was told to.
async fn endless(task: impl Future<Output = ()>) -> Result<(), std::convert::Infallible> {
    task.await;
    Ok(())
}

/// Whether the database answers.
struct DatabaseProbe(Database);

impl Probe for DatabaseProbe {
    fn name(&self) -> &'static str {
        "database"
    }

    fn check(&self) -> BoxFuture<'_, Reading> {
        async {
            let answered = async { self.0.own().await?.batch_execute("").await };
            match answered.await {
                Ok(()) => Reading::well(),
                Err(_) => Reading::unwell("out of reach"),
            }
        }
        .boxed()
    }
}

/// Whether notifications arrive.
struct ListenerProbe(Arc<Inbox>);

impl Probe for ListenerProbe {
    fn name(&self) -> &'static str {
        "listener"
    }

    fn check(&self) -> BoxFuture<'_, Reading> {
        let reading = if self.0.hears() { Reading::well() } else { Reading::unwell("not listening") };
        std::future::ready(reading).boxed()
    }
}
