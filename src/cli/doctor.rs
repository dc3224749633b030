//! `rollcall doctor`: checks the database and prints findings with the SQL that fixes them.

use std::process::ExitCode;

use rollcall::config::{Config, DoctorArgs};
use rollcall::database_target::DatabaseTarget;
use rollcall::pg::doctor::{Check, Suggestion, run_checks, suggest};
use rollcall::pg::embedded::has_cluster;
use rollcall::pg::migrate::Sources;

/// Returns success when every check passes.
pub(super) async fn run(args: &DoctorArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if config.database.url.is_none() && !has_cluster(&config.data_dir) {
        anyhow::bail!(
            "no database: set DATABASE_URL, or run `rollcall serve` to create one in {}",
            config.data_dir.display()
        );
    }
    let provided = DatabaseTarget::for_command(config).await?;
    if args.suggest {
        let suggestions = suggest(provided.direct_url.as_ref().unwrap_or(&provided.url)).await;
        provided.stop().await?;
        print_suggestions(
            &suggestions.map_err(|error| anyhow::anyhow!(error).context("cannot read the tables"))?,
        );
        return Ok(ExitCode::SUCCESS);
    }
    let checks = run_checks(
        &provided.url,
        provided.direct_url.as_ref(),
        &Sources::of_modules(config.database.modules),
    )
    .await;
    provided.stop().await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&checks)?);
    } else {
        checks.iter().for_each(print_check);
    }
    let all_ok = checks.iter().all(|check| check.ok);
    Ok(if all_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_suggestions(suggestions: &[Suggestion]) {
    if suggestions.is_empty() {
        println!("-- nothing to declare; docs/adopt.md and docs/sql.md say what can be");
    }
    for Suggestion { statement, reason } in suggestions {
        println!("-- {reason}");
        if let Some(statement) = statement {
            println!("{statement}");
        }
    }
}

fn print_check(check: &Check) {
    println!("{:<4} {}: {}", if check.ok { "ok" } else { "FAIL" }, check.name, check.finding);
    if let Some(remedy) = &check.remedy_sql {
        println!("     fix: {remedy}");
    }
}
