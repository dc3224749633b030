//! `rollcall serve`: prepares the database and runs the server until it is stopped.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use rollcall::app::{Environment, Server, check_ports};
use rollcall::clock::SystemClock;
use rollcall::config::{Config, Secret, ServeArgs};
use rollcall::database_target::DatabaseTarget;
use rollcall::lifecycle::Shutdown;
use rollcall::pg::embedded::Keys;
use rollcall::pg::migrate::prepare;
use rollcall::telemetry;
use rollcall::transport::descriptors;
use tracing::info;

pub(super) async fn run(args: &ServeArgs, config: Config) -> anyhow::Result<ExitCode> {
    check_ports(&config.listen).await?;
    // Before PostgreSQL starts, which inherits the limit.
    descriptors::raise_limit();
    let shutdown = Shutdown::new();
    shutdown.listen_for_signals()?;
    let metrics = telemetry::install_metrics()?;
    let metrics_upkeep = tokio::spawn(telemetry::run_upkeep(metrics.clone()));

    let database = tokio::select! {
        // A second signal does not wait for PostgreSQL to start. The next start continues with it.
        () = shutdown.hard().cancelled() => bail!("stopped while PostgreSQL was starting"),
        database = DatabaseTarget::for_server(&config) => database?,
    };
    let served = Box::pin(serve(args, &config, &database, metrics, shutdown)).await;
    metrics_upkeep.abort();
    // An embedded PostgreSQL is stopped on success and on failure.
    database.stop().await?;
    served?;
    info!("server stopped");
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    args: &ServeArgs,
    config: &Config,
    database: &DatabaseTarget,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let keys = keys(config, database)?;
    prepare(&database.migration_target(), &database.sources(config), args.seed).await?;
    let text = |secret: &Secret| secret.expose().to_owned();
    let jwt_secret = keys.as_ref().map(|keys| &keys.jwt_secret).or(config.auth.jwt_secret.as_ref());
    let environment = Environment {
        database_url: text(&database.url),
        direct_url: database.direct_url.as_ref().map(text),
        jwt_secret: jwt_secret.cloned(),
        metrics: Some(metrics),
        // The demo users exist only in the demo data, so their tokens give access to nothing else.
        demo: args.seed
            && database.cluster.is_some()
            && config.auth.issuer.is_none()
            && config.auth.audience.is_none(),
        clock: Arc::new(SystemClock),
    };
    let server = Box::pin(Server::start(config, environment, shutdown)).await?;
    let url = config.listen.local_url(server.address.port());
    if let (Some(cluster), Some(keys)) = (&database.cluster, &keys) {
        cluster.write_env(keys, &url)?;
        let env = config.data_dir.join("env");
        info!("to load keys and URLs into your shell: set -a; . {}; set +a", env.display());
    }
    if let Some(path) = &server.demo_link {
        info!("to open the console as demo users (works once, in one browser): {url}{path}");
    }
    if let Some(address) = server.admin_address {
        info!("metrics and health of the admin port: http://{address}/metrics, /livez, /readyz, /version");
    }
    info!("rollcall is ready at {url}");
    Ok(server.run().await?)
}

/// The generated keys of an embedded PostgreSQL. With another database, the operator must configure how
/// tokens are verified.
fn keys(config: &Config, database: &DatabaseTarget) -> anyhow::Result<Option<Keys>> {
    if let Some(cluster) = &database.cluster {
        return Ok(Some(cluster.keys(config.auth.jwt_secret.as_ref())?));
    }
    let auth = &config.auth;
    if auth.jwt_secret.is_none() && auth.jwks_url.is_none() && auth.api_keys.is_empty() {
        bail!("JWT_SECRET: is required with DATABASE_URL, unless JWKS_URL or API_KEYS is set");
    }
    Ok(None)
}
