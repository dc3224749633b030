//! Tables that relations are read from.

use std::time::Duration;

use crate::pg::{Connection, Database, PgError};

/// Timeout of a look-up.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A relation that a table of the application may provide, with the names of `rollcall.use_table`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Contacts,
    Blocks,
    Participants,
}

impl Relation {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Contacts => "contacts",
            Self::Blocks => "blocks",
            Self::Participants => "participants",
        }
    }
}

/// The table of the application that provides a relation; `None` if the built-in table does.
///
/// # Errors
///
/// If the database does not answer.
pub async fn own_table(database: &Database, relation: Relation) -> Result<Option<String>, PgError> {
    let read = |connection: Connection| async move {
        let statement = include_str!("../../../sql/relations/own_table.sql");
        Ok(connection.query_opt(statement, &[&relation.name()]).await?.map(|row| row.get(0)))
    };
    database.within(TIMEOUT, read).await
}
