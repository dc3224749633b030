//! Assembles the server: builds the services of each domain, binds the ports and spawns the background tasks. Only this
//! module depends on all others.
//!
//! Each component is built by `X::new(dependencies)`, which returns its handle, its notification handler and its task,
//! where it has them. The modules [`presence`], [`context`] and [`channels`] do the same for a whole domain.

mod bus;
mod channels;
mod context;
mod dependencies;
mod health;
mod operator;
mod ports;
mod presence;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

pub use self::dependencies::Environment;
#[cfg(test)]
pub(crate) use self::ports::router;
use self::{
    dependencies::{Dependencies, gateway_policy},
    ports::Ports,
};
use crate::{
    config::{Config, Listen},
    console,
    http::{self, HttpState, detached::DetachedWrites, sockets::Sockets},
    hub::{Hub, ShutdownPlan},
    lifecycle::{Shutdown, TaskFailure, Tasks},
    model::NodeId,
    pg::{Database, listener, relay::Relay},
    presence::lease::NodeLease,
    session::presence::PresenceServices,
    webhooks::{Dispatcher, WebhookClient},
};

/// Maximum time that background tasks may take to end after the soft stop.
const TASK_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

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
        let ports = Ports::bind(&config.listen).await?;
        let tasks = Tasks::new(shutdown);
        let metrics = environment.metrics.clone();
        let addresses = ports.addresses();
        let demo = environment.demo && addresses.main.ip().is_loopback();
        let (deps, demo_tokens, demo_link) =
            Dependencies::new(config, Environment { demo, ..environment }, &tasks).await?;

        let (presence, presence_handler, presence_tasks) = presence::new(config, &deps).await?;
        let (context, context_handler, context_tasks) = context::new(config, &deps)?;
        let (channels, channel_handler, nats, channel_tasks) =
            channels::new(config, &deps, &presence).await?;
        let (operator, operator_handler, operator_tasks) = operator::new(&deps, &presence, &channels);
        let webhooks = WebhookClient::new(&config.webhooks, deps.clock.clone());
        let state = HttpState {
            webhooks: webhooks.clone(),
            presence: presence.service.clone(),
            context,
            database: deps.database.clone(),
            limits: deps.limits.clone(),
            detached: DetachedWrites::default(),
            verifier: deps.verifier.clone(),
            gateway: Arc::new(gateway_policy(config)),
            metrics: Arc::new(config.metrics.clone()),
            system: health::system(&deps, &presence, nats, metrics),
            sockets: Sockets {
                hub: deps.hub.clone(),
                shared: PresenceServices {
                    presence: presence.service,
                    verifier: deps.verifier.clone(),
                    clock: deps.clock.clone(),
                },
            },
            channels,
            demo_tokens,
            clock: deps.clock.clone(),
            operator,
            operator_settings: config.operator,
            modules: deps.modules,
        };

        // Presence comes first. Channel authorization comes before broadcasts: an invalidation is recorded before a
        // later message is read.
        let handlers = ((presence_handler, operator_handler), (context_handler, channel_handler));
        let connector = deps.database.direct_connector().clone();
        tasks.spawn_until_stopped("listener", |stop| listener::run(connector, handlers, stop));
        if config.database.notification_relay {
            let relay = Relay::new(deps.database.clone(), deps.node);
            tasks.spawn_until_stopped("notification relay", |stop| relay.run(stop));
        }
        presence_tasks.spawn(&tasks, deps.modules);
        context_tasks.spawn(&tasks, deps.modules);
        operator_tasks.spawn(&tasks);
        let peers_ready = channel_tasks.spawn(&tasks);
        let (database, clock) = (deps.database.clone(), deps.clock.clone());
        let dispatcher = Dispatcher::new(database, deps.node, webhooks, clock, config.webhooks.clone());
        tasks.spawn_until_stopped("webhooks", |stop| dispatcher.run(stop));
        peers_ready.wait().await;

        let stop_accepting = CancellationToken::new();
        ports.serve(config, state, &deps, &tasks, &stop_accepting);
        Ok(Self {
            address: addresses.main,
            context_address: addresses.second,
            admin_address: addresses.admin,
            node: deps.node,
            demo_link,
            tasks,
            stop_accepting,
            hub: deps.hub,
            lease: presence.lease,
            database: deps.database,
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
pub async fn check_ports(listen: &Listen) -> anyhow::Result<()> {
    Ports::bind(listen).await.map(drop)
}
