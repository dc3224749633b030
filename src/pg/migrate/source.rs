//! The SQL files to run: those in the binary, or others for tests.

use std::borrow::Cow;

/// What the build script found.
mod built_in {
    include!(concat!(env!("OUT_DIR"), "/sql_files.rs"));
}

/// A file of SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlFile {
    /// Its name without directories.
    pub name: Cow<'static, str>,
    /// What is in it.
    pub text: Cow<'static, str>,
}

/// Everything that makes a database fit for the server, each list in the order to run it.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// What Supabase provides and plain PostgreSQL lacks; run by a superuser; may run any number of times.
    pub bootstrap: Vec<SqlFile>,
    /// `<version>_<name>.sql`, as in a Supabase CLI project; each runs once.
    pub migrations: Vec<SqlFile>,
    /// What needs a superuser and the migrated schema; may run any number of times.
    pub after: Vec<SqlFile>,
    /// Demo data; runs once, and only when asked for.
    pub seed: Option<SqlFile>,
}

impl Sources {
    /// The files in the binary.
    pub fn built_in() -> Self {
        let list = |files: &'static [(&str, &str)]| {
            files.iter().map(|&(name, text)| SqlFile { name: name.into(), text: text.into() }).collect()
        };
        Self {
            bootstrap: list(built_in::BOOTSTRAP),
            migrations: list(built_in::MIGRATIONS),
            after: list(built_in::AFTER),
            seed: built_in::SEED.map(|text| SqlFile { name: "seed.sql".into(), text: text.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::migrate::Migration;

    #[test]
    fn built_in_migrations_are_well_named_and_ordered() {
        let files = Sources::built_in().migrations;
        let versions: Vec<_> =
            files.iter().map(|file| Migration::parse(file).unwrap().version.to_owned()).collect();
        assert!(versions.is_sorted() && versions.windows(2).all(|pair| pair[0] != pair[1]), "{versions:?}");
    }
}
