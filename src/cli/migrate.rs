//! `rollcall migrate`: brings the database schema up to date.

use std::process::ExitCode;

use rollcall::config::{Config, MigrateArgs};
use rollcall::database_target::DatabaseTarget;
use rollcall::pg::migrate::{Sources, prepare};

pub(super) async fn run(args: &MigrateArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let provided = DatabaseTarget::for_command(config).await?;
    let outcome = prepare(&provided.migration_target(), &Sources::built_in(), args.seed).await;
    // A PostgreSQL that was started for this command is stopped on success and on failure.
    provided.stop().await?;
    let report = outcome?;
    for file in &report.applied {
        println!("applied {file}");
    }
    if report.seeded {
        println!("demo data loaded");
    }
    if report.applied.is_empty() && !report.seeded {
        println!("database is up to date");
    }
    Ok(ExitCode::SUCCESS)
}
