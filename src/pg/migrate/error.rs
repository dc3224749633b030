//! What can keep a schema from being brought up to date.

use tokio_postgres::error::SqlState;

use crate::pg::ConnectError;

/// The database could not be made fit for the server.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] ConnectError),
    /// Nobody answers, or refuses us.
    #[error("cannot connect to the database{}", hint(.0))]
    Connect(#[source] tokio_postgres::Error),
    /// The connection broke, or the history table is out of reach.
    #[error("cannot bring the database up to date")]
    History(#[from] tokio_postgres::Error),
    /// A statement failed; nothing of its file was kept.
    #[error("{file}, line {line}: {}", message(.source))]
    Statement {
        /// The file's name.
        file: String,
        /// From 1.
        line: usize,
        /// What the database said.
        source: tokio_postgres::Error,
    },
    /// A migration is not named `<version>_<name>.sql`.
    #[error("the migration {0} is not named <14 digits>_<name>.sql")]
    Name(String),
    /// What Supabase would provide is missing, and only a superuser can make it.
    #[error(
        "the database lacks {missing}, and the role {role} may not make that: give a superuser's DATABASE_URL"
    )]
    NeedsSuperuser {
        /// What is not there.
        missing: String,
        /// The role of `DATABASE_URL`.
        role: String,
    },
    /// A server that is too old.
    #[error("the database is PostgreSQL {0} and 15 or newer is needed")]
    TooOld(i32),
    /// It takes too long: the database hangs.
    #[error("the database did not answer within {0} s")]
    Timeout(u64),
}

/// What to do about the two most common refusals.
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

fn message(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned())
}
