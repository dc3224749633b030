//! Installs, upgrades and removes Rollcall in a database.
//!
//! [`prepare`] first runs a check that reports every obstacle at once and writes nothing. Then it runs everything that
//! is pending in one transaction under an advisory lock, so any number of servers may start at once: what Supabase
//! provides and this database lacks, the migrations, what needs a superuser after them, and demo data. Each migration
//! inserts its own row into `rollcall.schema_migrations`. [`remove`] takes all of it back.

mod error;
mod source;
#[cfg(test)]
mod tests;

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::{Client, Transaction};
use tracing::{debug, info};

use crate::config::Secret;
use crate::model::{Module, Modules};
use crate::pg::Connector;
use crate::pg::session::StatementLimits;

pub use error::MigrateError;
pub use source::{Sources, SqlFile};

/// Timeout of the whole installation.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(600);
/// The path under which the demo data is recorded.
const SEED_PATH: &str = "supabase/seed.sql";

const DATABASE_STATE: &str = include_str!("../../../sql/migrate/situation.sql");
const CHECK: &str = include_str!("../../../sql/migrate/check.sql");
const IS_INSTALLED: &str = include_str!("../../../sql/migrate/is_installed.sql");
const APPLIED: &str = include_str!("../../../sql/migrate/applied.sql");
const LOCK: &str = include_str!("../../../sql/migrate/lock.sql");
const RECORD_SEED: &str = include_str!("../../../sql/migrate/record_seed.sql");
const DOWN: &str = include_str!("../../../sql/migrate/down.sql");

/// The database to migrate, and the roles to use.
#[derive(Debug, Clone)]
pub struct MigrationTarget {
    /// Connects as the role that the server will use; it owns the schemas.
    pub url: Secret,
    /// Connects to the same database as a superuser, where there is one.
    pub admin_url: Option<Secret>,
}

/// What [`prepare`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// File names of the migrations that were applied, in order; none if the schema was up to date.
    pub applied: Vec<String>,
    /// Whether demo data was loaded.
    pub seeded: bool,
}

/// What [`remove`] left in place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removal {
    /// Statements that failed because other objects still use what they would remove, each with the reason.
    pub kept: Vec<(String, String)>,
}

/// What a connection finds in a database.
#[derive(Debug, Clone)]
struct DatabaseState {
    role: String,
    database: String,
    /// Supabase's services run there, so Supabase provides roles and schemas.
    is_supabase: bool,
}

impl DatabaseState {
    async fn read(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let row = client.query_one(DATABASE_STATE, &[]).await?;
        Ok(Self {
            role: row.try_get("role")?,
            database: row.try_get("database")?,
            is_supabase: row.try_get("is_supabase")?,
        })
    }
}

/// A connection that runs an installation, and the role that will own the schemas.
struct Installer {
    client: Client,
    owner: String,
    /// Whether the connection's role is another one than the owner, which it can become.
    is_other_role: bool,
    is_supabase: bool,
}

impl Installer {
    async fn connect(target: &MigrationTarget) -> Result<Self, MigrateError> {
        let client = connect(&target.url).await?;
        let state = DatabaseState::read(&client).await?;
        let owner = state.role.clone();
        let Some(admin_url) = target.admin_url.as_ref().filter(|_| !state.is_supabase) else {
            return Ok(Self { client, owner, is_other_role: false, is_supabase: state.is_supabase });
        };
        let admin = connect(admin_url).await?;
        let admin_state = DatabaseState::read(&admin).await?;
        if admin_state.database != state.database {
            return Err(MigrateError::OtherDatabase { own: state.database, admin: admin_state.database });
        }
        let is_other_role = admin_state.role != owner;
        Ok(Self { client: admin, owner, is_other_role, is_supabase: false })
    }

    /// Everything that stands in the way of an installation.
    async fn check(&self, files: &[SqlFile]) -> Result<(), MigrateError> {
        // A function of the application could match better than one of pg_catalog.
        self.client.batch_execute("set search_path = ''").await?;
        let rows = self.client.query(CHECK, &[&self.owner]).await?;
        self.client.batch_execute("reset search_path").await?;
        let mut problems: Vec<String> = rows.iter().map(|row| row.get("problem")).collect();
        let last = files.iter().map(Migration::parse).collect::<Result<Vec<_>, _>>()?;
        if let Some(last) = last.iter().map(|migration| migration.version).max() {
            let history = History::read(&self.client).await;
            // A schema of another role, which is among the problems, may not be readable.
            let applied = if problems.is_empty() { history? } else { history.unwrap_or_default() }.versions;
            problems.extend(applied.iter().filter(|version| version.as_str() > last).map(|version| {
                format!("migration {version}: was applied by a newer version of Rollcall; run that version")
            }));
        }
        if problems.is_empty() { Ok(()) } else { Err(MigrateError::Blocked(problems)) }
    }

    /// The statement that makes the owner own what follows, where another role runs the installation.
    fn become_owner(&self) -> Option<String> {
        self.is_other_role.then(|| format!("set local role {};", quote_identifier(&self.owner)))
    }
}

/// Installs or upgrades Rollcall. Does nothing where nothing is pending.
///
/// Runs as `admin_url`, if that is given, and creates the schemas for the role of `url`; otherwise as `url`. On Supabase
/// only the migrations run.
///
/// # Errors
/// [`MigrateError::Blocked`] with every obstacle, or the file and line that failed; either way nothing was changed.
pub async fn prepare(
    target: &MigrationTarget,
    sources: &Sources,
    with_seed: bool,
) -> Result<Report, MigrateError> {
    within_timeout(async {
        let mut installer = Installer::connect(target).await?;
        installer.check(&sources.migrations).await?;
        install(&mut installer, sources, with_seed).await
    })
    .await
}

async fn install(
    installer: &mut Installer,
    sources: &Sources,
    with_seed: bool,
) -> Result<Report, MigrateError> {
    let become_owner = installer.become_owner();
    let uses_bootstrap = !installer.is_supabase;
    let transaction = begin(&mut installer.client).await?;
    let modules = History::read(&transaction).await?.modules_with(sources.modules);
    if with_seed && sources.seed.is_some() && leaves_out_a_module(&sources.migrations, modules) {
        return Err(MigrateError::SeedNeedsModules(modules));
    }
    if uses_bootstrap {
        let settings =
            "select set_config('rollcall.owner', $1, true), set_config('rollcall.modules', $2, true)";
        transaction.query_one(settings, &[&installer.owner, &modules.to_string()]).await?;
        run_all(&transaction, &sources.bootstrap).await?;
    }
    if let Some(statement) = &become_owner {
        transaction.batch_execute(statement).await?;
    }
    let applied = apply_in(&transaction, &sources.migrations, modules).await?;
    if become_owner.is_some() {
        transaction.batch_execute("reset role").await?;
    }
    if uses_bootstrap {
        run_all(&transaction, &sources.after).await?;
    }
    if let Some(statement) = &become_owner {
        transaction.batch_execute(statement).await?;
    }
    let seeded = match &sources.seed {
        Some(file) if with_seed => seed(&transaction, file).await?,
        _ => false,
    };
    transaction.commit().await?;
    for file in &applied {
        info!(%file, "migration applied");
    }
    Ok(Report { applied, seeded })
}

/// The SQL that [`prepare`] would run, as a script for psql. Changes nothing.
///
/// # Errors
/// As [`prepare`].
pub async fn dry_run(target: &MigrationTarget, sources: &Sources) -> Result<String, MigrateError> {
    within_timeout(async {
        let installer = Installer::connect(target).await?;
        installer.check(&sources.migrations).await?;
        let pending = pending(&installer.client, sources).await?;
        let mut script = format!("begin;\n{LOCK}");
        let mut add = |files: &mut dyn Iterator<Item = &SqlFile>| {
            for file in files {
                script.push_str(&format!("\n-- {}\n{}", file.name, file.text));
            }
        };
        if installer.is_supabase {
            add(&mut sources.migrations.iter().filter(|file| pending.contains(&&*file.name)));
        } else {
            let owner = installer.owner.replace('\'', "''");
            let modules = History::read(&installer.client).await?.modules_with(sources.modules);
            let set_owner = SqlFile {
                name: "the role that will own the schemas, and the modules".into(),
                text: format!(
                    "select set_config('rollcall.owner', '{owner}', true), \
                     set_config('rollcall.modules', '{modules}', true);\n"
                )
                .into(),
            };
            let role = |name: &'static str, text: Option<String>| {
                text.map(|text| SqlFile { name: name.into(), text: format!("{text}\n").into() })
            };
            let become_owner = role("as the owner", installer.become_owner());
            let reset = role("as the installing role", become_owner.as_ref().map(|_| "reset role;".into()));
            add(&mut [set_owner].iter());
            add(&mut sources.bootstrap.iter());
            add(&mut become_owner.iter());
            add(&mut sources.migrations.iter().filter(|file| pending.contains(&&*file.name)));
            add(&mut reset.iter());
            add(&mut sources.after.iter());
        }
        script.push_str("\ncommit;\n");
        Ok(script)
    })
    .await
}

/// Removes the schemas of Rollcall and everything that an installation created outside of them, in one transaction.
///
/// # Errors
/// When Rollcall is not installed, or other objects depend on it; then nothing was changed.
pub async fn remove(target: &MigrationTarget) -> Result<Removal, MigrateError> {
    within_timeout(async {
        let mut installer = Installer::connect(target).await?;
        let transaction = begin(&mut installer.client).await?;
        let file = SqlFile { name: "down.sql".into(), text: DOWN.into() };
        run(&transaction, &file).await?;
        let rows = transaction.query("select statement, reason from pg_temp.rollcall_kept", &[]).await?;
        let kept = rows.iter().map(|row| (row.get("statement"), row.get("reason"))).collect();
        transaction.commit().await?;
        Ok(Removal { kept })
    })
    .await
}

async fn within_timeout<T>(work: impl Future<Output = Result<T, MigrateError>>) -> Result<T, MigrateError> {
    tokio::time::timeout(TOTAL_TIMEOUT, work)
        .await
        .unwrap_or(Err(MigrateError::Timeout(TOTAL_TIMEOUT.as_secs())))
}

async fn connect(url: &Secret) -> Result<Client, MigrateError> {
    Connector::new(url.expose())?
        .client_with_limits("migrate", StatementLimits::NONE)
        .await
        .map_err(MigrateError::Connect)
}

/// A migration, as its file name says.
pub(super) struct Migration<'a> {
    pub(super) version: &'a str,
    /// `None`: it belongs to every installation.
    pub(super) module: Option<Module>,
}

/// The module that the name of a migration begins with.
pub(super) fn module_of(name: &str) -> Option<Module> {
    Module::from_name(name.split('_').next().unwrap_or_default())
}

/// The modules that the names of applied migrations stand for.
pub fn modules_of<'a>(names: impl IntoIterator<Item = &'a str>) -> Modules {
    let modules = names.into_iter().filter_map(module_of).map(Modules::up_to);
    modules.fold(Modules::CHANNELS, Modules::with)
}

impl<'a> Migration<'a> {
    pub(super) fn parse(file: &'a SqlFile) -> Result<Self, MigrateError> {
        let stem = file.name.strip_suffix(".sql");
        stem.and_then(|stem| stem.split_once('_'))
            .filter(|(version, _)| version.len() == 14 && version.bytes().all(|byte| byte.is_ascii_digit()))
            .map(|(version, name)| Self { version, module: module_of(name) })
            .ok_or_else(|| MigrateError::Name(file.name.clone().into_owned()))
    }
}

/// What was applied to a database.
#[derive(Debug, Default)]
struct History {
    versions: Vec<String>,
    /// `None` without Rollcall.
    modules: Option<Modules>,
}

impl History {
    async fn read(client: &impl tokio_postgres::GenericClient) -> Result<Self, tokio_postgres::Error> {
        if !client.query_one(IS_INSTALLED, &[]).await?.try_get::<_, bool>(0)? {
            return Ok(Self::default());
        }
        let rows = client.query(APPLIED, &[]).await?;
        let names = rows.iter().map(|row| row.try_get("name")).collect::<Result<Vec<&str>, _>>()?;
        let versions = rows.iter().map(|row| row.try_get("version")).collect::<Result<_, _>>()?;
        Ok(Self { versions, modules: Some(modules_of(names)) })
    }

    /// The modules that are installed after `wanted` are.
    fn modules_with(&self, wanted: Option<Modules>) -> Modules {
        match (wanted, self.modules) {
            (Some(wanted), Some(installed)) => installed.with(wanted),
            (Some(modules), None) | (None, Some(modules)) => modules,
            (None, None) => Modules::ALL,
        }
    }

    /// The files of these modules that are not applied.
    fn pending<'a>(&self, files: &'a [SqlFile], modules: Modules) -> Result<Vec<&'a SqlFile>, MigrateError> {
        let mut pending = Vec::new();
        for file in files {
            let migration = Migration::parse(file)?;
            let is_meant = migration.module.is_none_or(|module| modules.contains(module));
            if is_meant && !self.versions.iter().any(|known| known == migration.version) {
                pending.push(file);
            }
        }
        Ok(pending)
    }
}

/// Applies the pending migrations in one transaction, as the role of the connection. Returns their file names.
///
/// # Errors
/// The file and line that failed; then nothing was changed.
pub async fn apply(client: &mut Client, files: &[SqlFile]) -> Result<Vec<String>, MigrateError> {
    let transaction = begin(client).await?;
    let applied = apply_in(&transaction, files, Modules::ALL).await?;
    transaction.commit().await?;
    Ok(applied)
}

/// As [`apply`], for some modules. The caller holds the lock, so no other server applies them meanwhile.
async fn apply_in(
    transaction: &Transaction<'_>,
    files: &[SqlFile],
    modules: Modules,
) -> Result<Vec<String>, MigrateError> {
    let mut applied = Vec::new();
    for file in History::read(transaction).await?.pending(files, modules)? {
        run(transaction, file).await?;
        applied.push(file.name.clone().into_owned());
    }
    // A migration that does not record itself would run again with the next start.
    match History::read(transaction).await?.pending(files, modules)?.first() {
        Some(file) => Err(MigrateError::Unrecorded(file.name.clone().into_owned())),
        None => Ok(applied),
    }
}

/// File names of the migrations that are not applied.
///
/// # Errors
/// When the history cannot be read, or a file has a wrong name.
pub async fn pending<'a>(client: &Client, sources: &'a Sources) -> Result<Vec<&'a str>, MigrateError> {
    let history = History::read(client).await?;
    let pending = history.pending(&sources.migrations, history.modules_with(sources.modules))?;
    Ok(pending.into_iter().map(|file| &*file.name).collect())
}

/// The modules that are installed; `None` without Rollcall.
///
/// # Errors
/// When the history cannot be read.
pub async fn installed_modules(client: &Client) -> Result<Option<Modules>, tokio_postgres::Error> {
    Ok(History::read(client).await?.modules)
}

/// Whether one of the files belongs to a module that is not among these.
fn leaves_out_a_module(files: &[SqlFile], modules: Modules) -> bool {
    let mut parsed = files.iter().filter_map(|file| Migration::parse(file).ok()?.module);
    parsed.any(|module| !modules.contains(module))
}

/// Loads demo data once; a file that has changed since is not loaded again. Whether it did.
async fn seed(transaction: &Transaction<'_>, file: &SqlFile) -> Result<bool, MigrateError> {
    let hash: String =
        Sha256::digest(file.text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let is_new: bool = transaction.query_one(RECORD_SEED, &[&SEED_PATH, &hash]).await?.try_get(0)?;
    if is_new {
        run(transaction, file).await?;
    }
    Ok(is_new)
}

/// Begins a transaction that waits for the lock of installations.
async fn begin(client: &mut Client) -> Result<Transaction<'_>, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(LOCK).await?;
    Ok(transaction)
}

async fn run_all(transaction: &Transaction<'_>, files: &[SqlFile]) -> Result<(), MigrateError> {
    for file in files {
        run(transaction, file).await?;
        debug!(file = %file.name, "bootstrap file executed");
    }
    Ok(())
}

/// Sends a whole file as one message of the simple query protocol.
async fn run(transaction: &Transaction<'_>, file: &SqlFile) -> Result<(), MigrateError> {
    transaction.batch_execute(&file.text).await.map_err(|source| MigrateError::Statement {
        file: file.name.clone().into_owned(),
        line: error_line(&file.text, &source),
        source,
    })
}

/// The line, from 1, that the database points at, if it does.
fn error_line(text: &str, error: &tokio_postgres::Error) -> Option<usize> {
    match error.as_db_error()?.position()? {
        ErrorPosition::Original(position) => {
            let before = text.chars().take((*position as usize).saturating_sub(1));
            Some(1 + before.filter(|&character| character == '\n').count())
        }
        ErrorPosition::Internal { .. } => None,
    }
}

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
