//! Rejects environment variables that look like settings but are unknown. They are usually misspelled, and
//! the default would apply silently.

use super::args;
use super::error::{ConfigError, Problem};

/// Variables with these prefixes are meant for this server.
const PREFIXES: [&str; 3] = ["ROLLCALL_", "REALTIME_", "PRESENCE_"];

/// Variables that are not settings but are set by the generated `env` file.
const ALLOWED: [&str; 1] = ["ROLLCALL_URL"];

/// # Errors
/// Names each unknown variable and the most similar setting.
pub fn check_process_environment() -> Result<(), ConfigError> {
    check(std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()))
}

fn check(names: impl Iterator<Item = String>) -> Result<(), ConfigError> {
    let known = args::known_variables();
    let problems: Vec<_> = names
        .filter(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .filter(|name| !ALLOWED.contains(&name.as_str()) && !known.contains(name))
        .map(|name| {
            let nearest = known.iter().min_by_key(|candidate| strsim::damerau_levenshtein(candidate, &name));
            let hint = nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"));
            Problem::new(name, format!("unknown setting{hint}"))
        })
        .collect();
    ConfigError::from_problems(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelled_variable_error_suggests_the_nearest_setting() {
        let error = check(["PRESENCE_UPDATE_PER_MINUTE".to_owned()].into_iter()).unwrap_err().to_string();
        assert!(error.contains("PRESENCE_UPDATE_PER_MINUTE"), "{error}");
        assert!(error.contains("did you mean PRESENCE_UPDATES_PER_MINUTE?"), "{error}");
    }

    #[test]
    fn unrelated_variables_are_accepted() {
        let names = ["PATH", "PGHOST", "ROLLCALL_URL", "ROLLCALL_DATA_DIR", "REALTIME_MAX_CONNECTIONS"];
        check(names.into_iter().map(str::to_owned)).unwrap();
    }
}
