//! The `rollcall` command: loads the settings and runs a subcommand.

#![deny(unreachable_pub)]

mod cli;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use rollcall::lifecycle::ErrorChain;

/// glibc's allocator keeps what a flood of requests or subscriptions used (`docs/decisions/0011-allocator.md`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Maximum time that blocking threads may take to end after the subcommand.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        let error: &(dyn Error + 'static) = error.as_ref();
        eprintln!("rollcall: {}", ErrorChain(error));
        ExitCode::FAILURE
    })
}

fn run() -> anyhow::Result<ExitCode> {
    let cli::Loaded { command, config, dotenv_notice } = cli::load()?;
    let traces = rollcall::telemetry::init_tracing(&config.log, &config.traces)?;
    if let Some(notice) = &config.notice {
        tracing::info!("{notice}");
    }
    if let Some(notice) = &dotenv_notice {
        tracing::warn!("{notice}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(cli::run(command, config));
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
    traces.finish();
    outcome
}
