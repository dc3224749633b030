//! `rollcall serve`

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use rollcall::app::{Environment, Server};
use rollcall::clock::SystemClock;
use rollcall::config::{Config, Secret, ServeArgs};
use rollcall::database_target::DatabaseTarget;
use rollcall::lifecycle::Shutdown;
use rollcall::pg::embedded::Keys;
use rollcall::pg::migrate::{Sources, prepare};
use rollcall::telemetry;
use tracing::info;

pub(super) async fn run(args: &ServeArgs, config: Config) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::new();
    shutdown.listen_for_signals()?;
    let metrics = telemetry::install_metrics()?;
    let folding = tokio::spawn(telemetry::run_upkeep(metrics.clone()));

    let database = tokio::select! {
        // A second signal does not wait for a PostgreSQL that takes its time; the next start goes on with it.
        () = shutdown.hard().cancelled() => bail!("stopped while PostgreSQL was starting"),
        database = DatabaseTarget::for_server(&config) => database?,
    };
    let served = Box::pin(serve(args, &config, &database, metrics, shutdown)).await;
    folding.abort();
    // Whatever came of it, a PostgreSQL that belongs to this server ends with it.
    database.stop().await?;
    served?;
    info!("stopped");
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
    prepare(&database.migration_target(), &Sources::built_in(), args.seed).await?;
    let text = |secret: &Secret| secret.expose().to_owned();
    let jwt_secret = keys.as_ref().map(|keys| &keys.jwt_secret).or(config.auth.jwt_secret.as_ref());
    let environment = Environment {
        database_url: text(&database.url),
        direct_url: database.direct_url.as_ref().map(text),
        jwt_secret: jwt_secret.map(text),
        metrics: Some(metrics),
        // The demo data's people are nobody: their tokens open nothing but the demo.
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
        info!("keys and URLs for your shell: set -a; . {}; set +a", env.display());
    }
    info!("rollcall is ready at {url}");
    Ok(server.run().await?)
}

/// The keys of a server with a PostgreSQL of its own. With another one the operator has to say whom to believe.
fn keys(config: &Config, database: &DatabaseTarget) -> anyhow::Result<Option<Keys>> {
    if let Some(cluster) = &database.cluster {
        return Ok(Some(cluster.keys(config.auth.jwt_secret.as_ref())?));
    }
    let auth = &config.auth;
    if auth.jwt_secret.is_none() && auth.jwks_url.is_none() && auth.api_keys.is_empty() {
        bail!("JWT_SECRET: with DATABASE_URL the server needs to know whom to believe; set it, or JWKS_URL");
    }
    Ok(None)
}
