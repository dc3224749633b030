//! tmp
use clap::Parser;
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = rollcall::config::Cli::parse();
    
    let config = rollcall::config::Config::from_settings(&cli.settings)?;
    rollcall::telemetry::init_tracing(&config.log)?;
    let metrics = rollcall::telemetry::install_metrics()?;
    let shutdown = rollcall::lifecycle::Shutdown::new();
    shutdown.on_signals()?;
    let env = rollcall::app::Environment {
        database_url: config.database.url.as_ref().unwrap().expose().to_owned(), direct_url: None,
        jwt_secret: config.auth.jwt_secret.as_ref().map(|s| s.expose().to_owned()), metrics: Some(metrics),
        clock: std::sync::Arc::new(rollcall::clock::SystemClock),
    };
    let server = rollcall::app::Server::start(&config, env, shutdown).await?;
    println!("listening on {}", server.address);
    server.run().await?;
    Ok(())
}
