//! Brings a database up to date: what Supabase provides, our schema, what needs a superuser after it.
//!
//! [`prepare`] does it all; [`bootstrap`], [`apply`] and [`seed`] are its steps. Migrations are recorded in the
//! Supabase CLI's own history table, so that `supabase db push` and `rollcall migrate` agree on what was done.
//! Every file runs in a transaction of its own that takes one advisory lock first: any number of servers may
//! start at once.

mod error;
mod source;
mod statement;
#[cfg(test)]
mod tests;

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::{Client, Transaction};
use tracing::{debug, info};

use crate::model::Secret;
use crate::pg::Connector;
use crate::pg::embedded::MINIMUM_MAJOR;
use crate::pg::session::StatementLimits;
use statement::Statement;

pub use error::MigrateError;
pub use source::{Sources, SqlFile};

/// How long all of it may take.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(600);
/// The path under which the Supabase CLI records the demo data.
const SEED_PATH: &str = "supabase/seed.sql";

/// Which database, and who may do what there.
#[derive(Debug, Clone)]
pub struct MigrationTarget {
    /// The role that the server will use; it owns the schema.
    pub url: Secret,
    /// A superuser, where there is one.
    pub admin_url: Option<Secret>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The migrations that were applied, by file name, in order; none if the schema was up to date.
    pub applied: Vec<String>,
    /// Whether demo data was loaded.
    pub seeded: bool,
}

/// What [`prepare`] finds in a database before it begins.
#[derive(Debug, Clone)]
struct DatabaseState {
    role: String,
    major: i32,
    is_superuser: bool,
    /// Supabase itself looks after roles and schemas there.
    is_supabase: bool,
    /// Roles and schemas that the bootstrap would make, as words for people.
    missing: Vec<String>,
}

/// Makes the database fit for the server. Does nothing where nothing is to be done.
///
/// The bootstrap runs as `admin_url`, or as `url` if that is a superuser's; on Supabase it does not run at all.
///
/// # Errors
/// What went wrong and where; each file is applied as a whole or not at all.
pub async fn prepare(
    target: &MigrationTarget,
    sources: &Sources,
    with_seed: bool,
) -> Result<Report, MigrateError> {
    tokio::time::timeout(TOTAL_TIMEOUT, prepare_unbounded(target, sources, with_seed))
        .await
        .unwrap_or(Err(MigrateError::Timeout(TOTAL_TIMEOUT.as_secs())))
}

async fn prepare_unbounded(
    target: &MigrationTarget,
    sources: &Sources,
    with_seed: bool,
) -> Result<Report, MigrateError> {
    let mut client = connect(&target.url).await?;
    let mut admin = match &target.admin_url {
        Some(url) => Some(connect(url).await?),
        None => None,
    };
    let situation = DatabaseState::read(&client).await?;
    if situation.major < i32::try_from(MINIMUM_MAJOR).expect("a small number") {
        return Err(MigrateError::TooOld(situation.major));
    }
    let bootstraps = !situation.is_supabase && (admin.is_some() || situation.is_superuser);
    if bootstraps {
        bootstrap(admin.as_mut().unwrap_or(&mut client), &sources.bootstrap).await?;
    } else if !situation.missing.is_empty() {
        let missing = situation.missing.join(", ");
        return Err(MigrateError::NeedsSuperuser { missing, role: situation.role });
    }
    let applied = apply(&mut client, &sources.migrations).await?;
    if bootstraps {
        bootstrap(admin.as_mut().unwrap_or(&mut client), &sources.after).await?;
    }
    let seeded = match &sources.seed {
        Some(file) if with_seed => seed(&mut client, file).await?,
        _ => false,
    };
    Ok(Report { applied, seeded })
}

async fn connect(url: &Secret) -> Result<Client, MigrateError> {
    Connector::new(url.expose())?
        .client_with_limits("migrate", StatementLimits::NONE)
        .await
        .map_err(MigrateError::Connect)
}

impl DatabaseState {
    async fn read(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let row = client.query_one(include_str!("../../../sql/migrate/situation.sql"), &[]).await?;
        Ok(Self {
            role: row.try_get("role")?,
            major: row.try_get("major")?,
            is_superuser: row.try_get("is_superuser")?,
            is_supabase: row.try_get("is_supabase")?,
            missing: row.try_get("missing")?,
        })
    }
}

/// Runs files that may run any number of times, each in a transaction of its own.
///
/// # Errors
/// The file and line that failed.
pub async fn bootstrap(admin: &mut Client, files: &[SqlFile]) -> Result<(), MigrateError> {
    for file in files {
        let transaction = begin(admin).await?;
        run(&transaction, &file.name, &statement::split(&file.text)).await?;
        transaction.commit().await?;
        debug!(file = %file.name, "ran");
    }
    Ok(())
}

/// A migration, as its file's name tells.
pub(super) struct Migration<'a> {
    /// Fourteen digits.
    pub(super) version: &'a str,
    /// The rest of the name.
    pub(super) name: &'a str,
}

impl<'a> Migration<'a> {
    pub(super) fn parse(file: &'a SqlFile) -> Result<Self, MigrateError> {
        let stem = file.name.strip_suffix(".sql");
        stem.and_then(|stem| stem.split_once('_'))
            .filter(|(version, _)| version.len() == 14 && version.bytes().all(|byte| byte.is_ascii_digit()))
            .map(|(version, name)| Self { version, name })
            .ok_or_else(|| MigrateError::Name(file.name.clone().into_owned()))
    }
}

/// Applies the migrations that the history does not know, in order, each in one transaction with its record.
/// Returns the names of those applied.
///
/// # Errors
/// The file and line that failed; what came before it stays applied.
pub async fn apply(client: &mut Client, files: &[SqlFile]) -> Result<Vec<String>, MigrateError> {
    let transaction = begin(client).await?;
    transaction.batch_execute(include_str!("../../../sql/migrate/history.sql")).await?;
    transaction.commit().await?;

    // How many others may be applying meanwhile nobody knows; it is for whoever watches.
    let awaited = pending(client, files).await?.len();
    if awaited > 0 {
        info!(migrations = awaited, "bringing the database's schema up to date");
    }
    let mut applied = Vec::new();
    for file in files {
        let migration = Migration::parse(file)?;
        let transaction = begin(client).await?;
        // Asked under the lock: another server may have been quicker.
        let known = include_str!("../../../sql/migrate/is_applied.sql");
        if transaction.query_one(known, &[&migration.version]).await?.try_get(0)? {
            continue;
        }
        let statements = statement::split(&file.text);
        run(&transaction, &file.name, &statements).await?;
        let texts: Vec<&str> = statements.iter().map(|statement| statement.text).collect();
        let record = include_str!("../../../sql/migrate/record.sql");
        transaction.execute(record, &[&migration.version, &migration.name, &texts]).await?;
        transaction.commit().await?;
        applied.push(file.name.clone().into_owned());
        info!(file = %file.name, "applied migration {} of {}", applied.len(), awaited.max(applied.len()));
    }
    Ok(applied)
}

/// The migrations that the history does not know.
///
/// # Errors
/// When the history cannot be read, or a file has a bad name.
pub async fn pending<'a>(client: &Client, files: &'a [SqlFile]) -> Result<Vec<&'a str>, MigrateError> {
    let exists = client.query_one(include_str!("../../../sql/migrate/has_history.sql"), &[]).await?;
    let mut pending = Vec::new();
    for file in files {
        let migration = Migration::parse(file)?;
        let applied = exists.try_get(0)?
            && client
                .query_one(include_str!("../../../sql/migrate/is_applied.sql"), &[&migration.version])
                .await?
                .try_get(0)?;
        if !applied {
            pending.push(&*file.name);
        }
    }
    Ok(pending)
}

/// Loads demo data once. As with the Supabase CLI, a file that has changed since is not run again.
///
/// # Errors
/// The line that failed.
pub async fn seed(client: &mut Client, file: &SqlFile) -> Result<bool, MigrateError> {
    let transaction = begin(client).await?;
    transaction.batch_execute(include_str!("../../../sql/migrate/seed_history.sql")).await?;
    let hash: String =
        Sha256::digest(file.text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let record = include_str!("../../../sql/migrate/record_seed.sql");
    let is_new: bool = transaction.query_one(record, &[&SEED_PATH, &hash]).await?.try_get(0)?;
    if is_new {
        run(&transaction, &file.name, &statement::split(&file.text)).await?;
    }
    transaction.commit().await?;
    Ok(is_new)
}

/// Begins a transaction that waits for its turn.
async fn begin(client: &mut Client) -> Result<Transaction<'_>, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(include_str!("../../../sql/migrate/lock.sql")).await?;
    Ok(transaction)
}

async fn run(
    transaction: &Transaction<'_>,
    file: &str,
    statements: &[Statement<'_>],
) -> Result<(), MigrateError> {
    for statement in statements {
        transaction.batch_execute(statement.text).await.map_err(|source| MigrateError::Statement {
            file: file.to_owned(),
            line: error_line(statement, &source),
            source,
        })?;
    }
    Ok(())
}

/// The line that the database points at, or else that of the statement.
fn error_line(statement: &Statement<'_>, error: &tokio_postgres::Error) -> usize {
    let position = match error.as_db_error().and_then(tokio_postgres::error::DbError::position) {
        Some(ErrorPosition::Original(position)) => *position as usize,
        _ => {
            // Comments come first; the statement is what the reader looks for.
            let comments = statement.text.lines().take_while(|line| {
                let line = line.trim_start();
                line.is_empty() || line.starts_with("--")
            });
            return statement.line + comments.count();
        }
    };
    statement.line + statement.text.chars().take(position.saturating_sub(1)).filter(|&c| c == '\n').count()
}
