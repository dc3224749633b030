//! What the domains share: database, hub, node and tokens.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{Verifier, VerifierSettings},
    clock::Clock,
    config::Config,
    http::{GatewayPolicy, demo_tokens::DemoTokens},
    hub::{Hub, UserIndex},
    lifecycle::Tasks,
    limits::RateLimiter,
    model::{Modules, NodeId, Secret},
    pg::{Database, queries::node},
};

/// Timeout of the query of the installed modules.
const MODULES_TIMEOUT: Duration = Duration::from_secs(10);

/// Inputs of [`Server::start`](super::Server::start) that do not come from the configuration.
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
    /// [`Server::demo_link`](super::Server::demo_link). Has an effect only with `jwt_secret` and on
    /// a loopback address.
    pub demo: bool,
    pub clock: Arc<dyn Clock>,
}

/// Handles that every domain needs. Clones share them.
#[derive(Clone)]
pub(super) struct Dependencies {
    pub(super) database: Database,
    pub(super) hub: Hub,
    pub(super) node: NodeId,
    pub(super) clock: Arc<dyn Clock>,
    /// Modules that the database has. The server runs the tasks of these only.
    pub(super) modules: Modules,
    pub(super) verifier: Arc<Verifier>,
    pub(super) limits: Arc<RateLimiter>,
    pub(super) user_index: UserIndex,
    /// Tracks the tasks of sockets, which may outlive the request.
    pub(super) sockets: TaskTracker,
    /// Cancelled when the server stops.
    pub(super) stopping: CancellationToken,
}

impl Dependencies {
    /// Connects to the database and starts the hub. Also returns the tokens of the demo users and the path of the link
    /// that hands them out, if the environment has a demo.
    pub(super) async fn new(
        config: &Config,
        environment: Environment,
        tasks: &Tasks,
    ) -> anyhow::Result<(Self, Option<DemoTokens>, Option<String>)> {
        let Environment { database_url, direct_url, jwt_secret, demo, clock, metrics: _ } = environment;
        let database = Database::new(&database_url, direct_url.as_deref(), config.database.pool_size)?;
        let modules = installed_modules(&database).await?;
        if modules != Modules::ALL {
            tracing::info!(%modules, "routes of other modules answer 404");
        }
        let (demo_tokens, demo_link) = jwt_secret
            .as_ref()
            .filter(|_| demo)
            .map(|secret| DemoTokens::new(secret.clone(), clock.clone()))
            .unzip();
        let verifier_settings = VerifierSettings { jwt_secret, ..config.auth.clone() };
        let verifier = Arc::new(Verifier::new(verifier_settings, clock.clone())?);
        let sockets = TaskTracker::new();
        let dependencies = Self {
            database,
            hub: Hub::start(&config.hub, &sockets),
            node: NodeId::random(),
            clock,
            modules,
            verifier,
            limits: Arc::new(RateLimiter::new(config.limits)),
            user_index: UserIndex::default(),
            sockets,
            stopping: tasks.shutdown().soft().clone(),
        };
        Ok((dependencies, demo_tokens, demo_link))
    }
}

/// The policy for headers of a gateway, with the origins that CORS allows.
pub(super) fn gateway_policy(config: &Config) -> GatewayPolicy {
    GatewayPolicy { origins: config.cors.origins.listed().to_vec(), ..config.gateway.clone() }
}

async fn installed_modules(database: &Database) -> anyhow::Result<Modules> {
    let read = |connection| async move { node::installed_modules(&connection).await };
    database.within(MODULES_TIMEOUT, read).await.context("cannot read the installed modules")
}
