//! The SQL files to run: those in the binary, or others for tests.

use std::borrow::Cow;

use crate::model::Modules;

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
    /// `<version>_<module>….sql`, as in a Supabase CLI project; each runs once. A name without a module belongs to all.
    pub migrations: Vec<SqlFile>,
    /// What needs a superuser and the migrated schema; may run any number of times.
    pub after: Vec<SqlFile>,
    /// The modules to install; by default all in a new database, otherwise the installed ones.
    pub modules: Option<Modules>,
    /// Demo data; runs once, and only when asked for.
    pub seed: Option<SqlFile>,
}

impl Sources {
    /// The files in the binary, for these modules.
    pub fn of_modules(modules: Option<Modules>) -> Self {
        Self { modules, ..Self::built_in() }
    }

    /// Also gives a new database of the server's own cluster the extensions and privileges of a Supabase project.
    #[must_use]
    pub fn for_own_cluster(mut self) -> Self {
        let text = include_str!("../../../sql/embedded/project.sql");
        self.bootstrap.push(SqlFile { name: "project.sql".into(), text: text.into() });
        self
    }

    /// The files in the binary.
    pub fn built_in() -> Self {
        let list = |files: &'static [(&str, &str)]| {
            files.iter().map(|&(name, text)| SqlFile { name: name.into(), text: text.into() }).collect()
        };
        Self {
            bootstrap: list(built_in::BOOTSTRAP),
            migrations: list(built_in::MIGRATIONS),
            after: list(built_in::AFTER),
            modules: None,
            seed: built_in::SEED.map(|text| SqlFile { name: "seed.sql".into(), text: text.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::migrate::Migration;

    #[test]
    fn every_built_in_migration_names_its_module() {
        for file in Sources::built_in().migrations {
            assert!(Migration::parse(&file).unwrap().module.is_some(), "{}", file.name);
        }
    }

    #[test]
    fn built_in_migrations_are_well_named_and_ordered() {
        let files = Sources::built_in().migrations;
        let versions: Vec<_> =
            files.iter().map(|file| Migration::parse(file).unwrap().version.to_owned()).collect();
        assert!(versions.is_sorted() && versions.windows(2).all(|pair| pair[0] != pair[1]), "{versions:?}");
    }
}
