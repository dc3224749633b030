//! The settings as text, before they are parsed.

use std::collections::BTreeMap;

use clap::{Arg, Args, parser::ValueSource};

use super::{ALIASES, Config, database_variables};
use crate::settings::{Problem, boolean};

/// Settings as text, by the name of their environment variable. Not `Debug`, because some of them are secrets.
/// Surrounding whitespace does not count, and an empty text is an unset setting.
#[derive(Clone, Default)]
pub struct Settings(BTreeMap<String, String>);

/// Result of parsing each setting alone.
pub(super) struct Checked {
    /// The valid settings as arguments of a command line.
    pub arguments: Vec<String>,
    /// Variables of the invalid settings.
    pub invalid: Vec<String>,
    pub problems: Vec<Problem>,
}

impl Settings {
    /// Sets a setting by the name of its variable; an empty text removes it.
    pub fn set(&mut self, variable: &str, text: impl Into<String>) {
        self.0.insert(variable.to_owned(), text.into());
    }

    /// The text of a setting; `None` when it is unset.
    #[must_use]
    pub fn get(&self, variable: &str) -> Option<&str> {
        self.0.get(variable).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    /// The settings that are not empty.
    pub(super) fn non_empty(&self) -> BTreeMap<&str, &str> {
        self.0.keys().filter_map(|name| Some((name.as_str(), self.get(name)?))).collect()
    }

    /// The settings of the command line and, where it has none, of the environment.
    pub(super) fn from_matches(matches: &clap::ArgMatches) -> Self {
        let is_given =
            |id: &str| matches.value_source(id).is_some_and(|source| source != ValueSource::DefaultValue);
        let mut settings = Self::default();
        for arg in declared() {
            let id = arg.get_id().as_str();
            if let Some(text) = is_given(id).then(|| matches.get_one::<String>(id)).flatten() {
                settings.set(variable(&arg), text);
            }
        }
        for (alias, _) in ALIASES {
            if let Ok(text) = std::env::var(alias) {
                settings.set(alias, text);
            }
        }
        let is_foreign = |name: &str| database_variables::is_known(name) && settings.get(name).is_none();
        let foreign: Vec<_> = std::env::vars_os()
            .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
            .filter(|(name, _)| is_foreign(name))
            .collect();
        settings.0.extend(foreign);
        settings
    }

    /// Parses each setting alone, so that all problems are found.
    pub(super) fn check(&self) -> Checked {
        let mut checked = Checked { arguments: Vec::new(), invalid: Vec::new(), problems: Vec::new() };
        let declared = declared();
        let is_database_given = self.get("DATABASE_URL").is_some();
        let is_embedded = self.get("EMBEDDED_DATABASE").is_some_and(|text| boolean(text) == Ok(true));
        let selected = if is_database_given || is_embedded {
            Ok(None)
        } else {
            database_variables::connection_string(&self.non_empty())
        };
        let selected = selected.unwrap_or_else(|problem| {
            checked.invalid.push("DATABASE_URL".to_owned());
            checked.problems.push(problem);
            None
        });
        for arg in &declared {
            let variable = variable(arg);
            let aliases = ALIASES.iter().filter(|(_, name)| *name == variable).map(|(alias, _)| *alias);
            let given =
                std::iter::once(variable).chain(aliases).find_map(|name| Some((name, self.get(name)?)));
            let selected = selected.as_ref().filter(|_| variable == "DATABASE_URL");
            let given = given.or(selected.map(|(origin, text)| (*origin, text.as_str())));
            let Some((name, text)) = given else { continue };
            match parse(arg, text) {
                Ok(argument) => checked.arguments.push(argument),
                Err(message) => {
                    checked.invalid.push(variable.to_owned());
                    checked.problems.push(Problem::new(name, message));
                }
            }
        }
        let is_known = |name: &str| {
            declared.iter().any(|arg| variable(arg) == name)
                || ALIASES.iter().any(|(alias, _)| *alias == name)
                || database_variables::is_known(name)
        };
        let unknown = self.0.keys().filter(|name| !is_known(name));
        checked.problems.extend(unknown.map(|name| Problem::new(name, "unknown setting")));
        checked
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Settings {
    fn from(texts: [(&str, &str); N]) -> Self {
        Self(texts.map(|(variable, text)| (variable.to_owned(), text.to_owned())).into())
    }
}

/// All settings, in the order of their declaration.
pub(super) fn declared() -> Vec<Arg> {
    Config::augment_args(clap::Command::new("settings")).get_arguments().cloned().collect()
}

/// Name of the environment variable of a setting.
pub(super) fn variable(arg: &Arg) -> &str {
    arg.get_env().and_then(std::ffi::OsStr::to_str).unwrap_or_default()
}

/// Parses the text of one setting; returns it as an argument, or the reason why it is invalid.
pub(super) fn parse(arg: &Arg, text: &str) -> Result<String, String> {
    let argument = format!("--{}={text}", arg.get_long().unwrap_or_default());
    let command = clap::Command::new("setting").no_binary_name(true).arg(arg.clone());
    match command.try_get_matches_from([&argument]) {
        Ok(_) => Ok(argument),
        Err(error) => Err(reason(&error)),
    }
}

/// What a parser said, without the text that clap adds: it repeats the value, which may be a secret.
pub(super) fn reason(error: &clap::Error) -> String {
    use std::error::Error;
    error.source().map_or_else(|| error.kind().to_string(), ToString::to_string)
}
