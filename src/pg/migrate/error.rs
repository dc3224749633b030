//! Errors of installing, upgrading and removing Rollcall.

use tokio_postgres::error::SqlState;

use crate::{model::Modules, pg::ConnectError};

/// The database could not be prepared for the server.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] ConnectError),
    /// The database did not accept the connection.
    #[error("cannot connect to the database{}", hint(.0))]
    Connect(#[source] tokio_postgres::Error),
    /// The connection broke, or the history cannot be read.
    #[error("cannot bring the database up to date")]
    History(#[from] tokio_postgres::Error),
    /// A statement failed; the whole transaction was rolled back.
    #[error("{file}{}: {}", at(.line), message(.source))]
    Statement {
        file: String,
        /// From 1; `None` where the database gives no position.
        line: Option<usize>,
        source: tokio_postgres::Error,
    },
    /// A migration is not named `<version>_<name>.sql`.
    #[error("migration {0}: must be named <14 digits>_<name>.sql")]
    Name(String),
    /// A migration did not insert its row into `rollcall.schema_migrations`.
    #[error("migration {0}: must insert its version into rollcall.schema_migrations")]
    Unrecorded(String),
    /// The check found obstacles; nothing was written.
    #[error("the database is not ready, nothing was changed:{}", list(.0))]
    Blocked(Vec<String>),
    /// The demo data needs every module.
    #[error("--seed: needs all modules, and only {0} are to be installed")]
    SeedNeedsModules(Modules),
    /// The two connections go to different databases.
    #[error("the superuser's connection goes to the database {admin}, DATABASE_URL to {own}")]
    OtherDatabase {
        /// Database of `DATABASE_URL`.
        own: String,
        /// Database of the superuser's URL.
        admin: String,
    },
    /// The installation took too long.
    #[error("the database did not answer within {0} s")]
    Timeout(u64),
}

/// What to do about the most common refusals.
fn hint(error: &tokio_postgres::Error) -> &'static str {
    match error.code() {
        Some(code) if *code == SqlState::INVALID_PASSWORD => ": DATABASE_URL has a wrong user or password",
        Some(code) if *code == SqlState::INVALID_CATALOG_NAME => {
            ": DATABASE_URL names one that does not exist"
        }
        Some(_) => "",
        None => ": is it running, and is DATABASE_URL right?",
    }
}

fn at(line: &Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line}"))
}

fn list(problems: &[String]) -> String {
    problems.iter().map(|problem| format!("\n- {problem}")).collect()
}

fn message(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || error.to_string(),
        |db| db.hint().map_or_else(|| db.message().to_owned(), |hint| format!("{}. {hint}", db.message())),
    )
}
