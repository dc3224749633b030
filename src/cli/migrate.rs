//! `rollcall migrate`

use std::process::ExitCode;

use rollcall::config::{Config, MigrateArgs};
use rollcall::database_target::DatabaseTarget;
use rollcall::pg::migrate::{MigrateError, MigrationTarget, Sources, dry_run, prepare, remove};

pub(super) async fn run(args: &MigrateArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let database = DatabaseTarget::for_command(config).await?;
    let sources = database.sources(config);
    let outcome = migrate(args, &database.migration_target(), &sources).await;
    // An embedded PostgreSQL that was started for this command stops in any case.
    database.stop().await?;
    outcome?;
    Ok(ExitCode::SUCCESS)
}

async fn migrate(
    args: &MigrateArgs,
    target: &MigrationTarget,
    sources: &Sources,
) -> Result<(), MigrateError> {
    if args.dry_run {
        print!("{}", dry_run(target, sources).await?);
        return Ok(());
    }
    if args.down {
        let removal = remove(target).await?;
        println!("removed Rollcall");
        for (statement, reason) in &removal.kept {
            println!("kept, because other objects use it: {statement}; ({reason})");
        }
        return Ok(());
    }
    let report = prepare(target, sources, args.seed).await?;
    for file in &report.applied {
        println!("applied {file}");
    }
    if report.seeded {
        println!("loaded the demo data");
    }
    if report.applied.is_empty() && !report.seeded {
        println!("the database is up to date, nothing to do");
    }
    Ok(())
}
