//! `rollcall migrate`

use std::process::ExitCode;

use rollcall::config::{Config, MigrateArgs};
use rollcall::database_target::DatabaseTarget;
use rollcall::pg::migrate::{Sources, prepare};

pub(super) async fn run(args: &MigrateArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let provided = DatabaseTarget::for_command(config).await?;
    let outcome = prepare(&provided.migration_target(), &Sources::built_in(), args.seed).await;
    // Whatever came of it, the PostgreSQL that was started for it ends.
    provided.stop().await?;
    let report = outcome?;
    for file in &report.applied {
        println!("applied {file}");
    }
    if report.seeded {
        println!("loaded the demo data");
    }
    if report.applied.is_empty() && !report.seeded {
        println!("the database is up to date, nothing to do");
    }
    Ok(ExitCode::SUCCESS)
}
