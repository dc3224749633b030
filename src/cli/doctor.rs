//! `rollcall doctor`

use std::process::ExitCode;

use rollcall::config::{Config, DoctorArgs};
use rollcall::database_target::DatabaseTarget;
use rollcall::pg::doctor::{Check, run_checks};
use rollcall::pg::embedded::has_cluster;
use rollcall::pg::migrate::Sources;

/// Succeeds if every check does.
pub(super) async fn run(args: &DoctorArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if config.database.url.is_none() && !has_cluster(&config.data_dir) {
        anyhow::bail!(
            "there is no database yet: set DATABASE_URL, or run `rollcall serve`, which makes one in {}",
            config.data_dir.display()
        );
    }
    let provided = DatabaseTarget::for_command(config).await?;
    let checks = run_checks(&provided.url, provided.direct_url.as_ref(), &Sources::built_in()).await;
    provided.stop().await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&checks)?);
    } else {
        checks.iter().for_each(print_check);
    }
    let all_well = checks.iter().all(|check| check.ok);
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_check(check: &Check) {
    println!("{:<4} {}: {}", if check.ok { "ok" } else { "FAIL" }, check.name, check.finding);
    if let Some(remedy) = &check.remedy_sql {
        println!("     mend it with: {remedy}");
    }
}
