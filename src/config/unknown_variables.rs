//! Rejects environment variables that look like settings but are unknown. They are usually misspelled, and
//! the default would apply silently.

use super::{ALIASES, database_variables, error::ConfigError, texts};
use crate::settings::Problem;

/// Variables with these prefixes are meant for this server.
const PREFIXES: [&str; 3] = ["ROLLCALL_", "REALTIME_", "PRESENCE_"];

/// Variables that are not settings but are set by the generated `env` file.
const ALLOWED: [&str; 1] = ["ROLLCALL_URL"];

/// Variables that clients of this server, or programs beside it, read from the same file.
const FOREIGN: [&str; 6] =
    ["ANON_KEY", "SERVICE_ROLE_KEY", "POSTGRES_PASSWORD", "ROLLCALL_PASSWORD", "NODE_ENV", "RUST_BACKTRACE"];

/// # Errors
/// Names each unknown variable and the most similar setting.
pub fn check_process_environment() -> Result<(), ConfigError> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    check(std::env::vars_os().map(|(name, value)| (text(name), text(value))))
}

fn check(variables: impl Iterator<Item = (String, String)>) -> Result<(), ConfigError> {
    let declared = texts::declared();
    let aliases = ALIASES.iter().map(|(alias, _)| *alias);
    let known: Vec<_> = declared.iter().map(texts::variable).chain(aliases).collect();
    let problem = |(name, value): (String, String)| {
        let is_ours = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let is_known = ALLOWED.contains(&name.as_str())
            || known.contains(&name.as_str())
            || database_variables::is_unused(&name);
        if !is_ours || is_known || is_kubernetes_service(&name, &value) {
            return None;
        }
        let hint = hint(&name, &known);
        Some(Problem::new(name, format!("unknown setting{hint}")))
    };
    ConfigError::from_problems(variables.filter_map(problem).collect())
}

/// A line of the log about variables of `.env` that are no settings; `None` if all are. It is no error: an application
/// may keep its own variables in the file. [`check_process_environment`] refuses those that are meant for this server.
pub fn notice_of_dotenv(names: &[String]) -> Option<String> {
    let declared = texts::declared();
    let known: Vec<_> =
        declared.iter().map(texts::variable).chain(ALIASES.iter().map(|(alias, _)| *alias)).collect();
    let is_unknown = |name: &&String| {
        !known.contains(&name.as_str())
            && !ALLOWED.contains(&name.as_str())
            && !FOREIGN.contains(&name.as_str())
            && !database_variables::is_known(name)
    };
    let unknown: Vec<_> =
        names.iter().filter(is_unknown).map(|name| format!("{name}{}", hint(name, &known))).collect();
    (!unknown.is_empty()).then(|| format!(".env has variables that are no settings: {}", unknown.join(", ")))
}

/// The setting that was probably meant, as the end of a message; empty if none is similar. A setting that begins with
/// the name, or without a prefix of ours is the name, is nearer than one with few different letters.
fn hint(name: &str, known: &[&str]) -> String {
    let without_prefix = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    let same = known.iter().find(|candidate| **candidate == without_prefix);
    let is_longer = |candidate: &&&str| {
        [name, without_prefix].iter().any(|name| name.len() >= 4 && candidate.starts_with(name))
            || (candidate.len() >= 4 && name.starts_with(&format!("{candidate}_")))
    };
    let by_prefix =
        || known.iter().filter(is_longer).min_by_key(|candidate| candidate.len().abs_diff(name.len()));
    let by_letters = || {
        let distance = |candidate: &&&str| strsim::damerau_levenshtein(candidate, name);
        known.iter().min_by_key(distance).filter(|candidate| distance(candidate) * 3 <= name.len())
    };
    let nearest = same.or_else(by_prefix).or_else(by_letters);
    nearest.map_or_else(String::new, |nearest| format!(" (did you mean {nearest}?)"))
}

/// Whether Kubernetes sets the variable for a service, such as one called `rollcall`: `ROLLCALL_SERVICE_HOST`,
/// `ROLLCALL_SERVICE_PORT`, `ROLLCALL_SERVICE_PORT_HTTP`, `ROLLCALL_PORT=tcp://10.0.0.1:4000`,
/// `ROLLCALL_PORT_4000_TCP` and this with `_PROTO`, `_PORT` and `_ADDR`.
fn is_kubernetes_service(name: &str, value: &str) -> bool {
    let is_protocol = |text: &str| ["tcp", "udp", "sctp"].contains(&text.to_ascii_lowercase().as_str());
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
        return true;
    }
    if name.ends_with("_PORT") && value.split_once("://").is_some_and(|(scheme, _)| is_protocol(scheme)) {
        return true;
    }
    let Some((_, rest)) = name.split_once("_PORT_") else { return false };
    let parts: Vec<_> = rest.split('_').collect();
    let is_number = |text: &str| text.parse::<u16>().is_ok();
    match parts[..] {
        [port, protocol] => is_number(port) && is_protocol(protocol),
        [port, protocol, part] => {
            is_number(port) && is_protocol(protocol) && ["PROTO", "PORT", "ADDR"].contains(&part)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_all(variables: &[(&str, &str)]) -> Result<(), String> {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        check(owned).map_err(|error| error.to_string())
    }

    #[test]
    fn misspelled_variable_error_suggests_the_nearest_setting() {
        let error = check_all(&[("PRESENCE_UPDATE_PER_MINUTE", "1")]).unwrap_err();
        assert!(error.contains("PRESENCE_UPDATE_PER_MINUTE"), "{error}");
        assert!(error.contains("did you mean PRESENCE_UPDATES_PER_MINUTE?"), "{error}");
        for (name, meant) in [
            ("PRESENCE_UPDATES", "PRESENCE_UPDATES_PER_MINUTE"),
            ("REALTIME_MAX_WAL", "REALTIME_MAX_WAL_MB"),
            ("REALTIME_MAX_WAL_MB_TOTAL", "REALTIME_MAX_WAL_MB"),
            ("ROLLCALL_JWT_SECRET", "JWT_SECRET"),
            ("ROLLCALL_PORT", "PORT"),
            ("ROLLCALL_ADMIN", "ADMIN_PORT"),
        ] {
            let error = check_all(&[(name, "1")]).unwrap_err();
            assert_eq!(error, format!("{name}: unknown setting (did you mean {meant}?)"));
        }
        let error = check_all(&[("ROLLCALL_ZZZZZZZZ", "1")]).unwrap_err();
        assert_eq!(error, "ROLLCALL_ZZZZZZZZ: unknown setting");
    }

    #[test]
    fn unknown_names_of_the_env_file_are_named() {
        let notice = |names: &[&str]| {
            notice_of_dotenv(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(notice(&["JWT_SECRET", "PGHOST", "DB_HOST", "ROLLCALL_URL", "ANON_KEY", "SHARDS"]), None);
        let text = notice(&["JWT_SECERT", "PORT", "STRIPE_WEBHOOK"]).expect("a notice");
        assert_eq!(
            text,
            ".env has variables that are no settings: JWT_SECERT (did you mean JWT_SECRET?), STRIPE_WEBHOOK"
        );
    }

    #[test]
    fn unrelated_variables_are_accepted() {
        let names = [
            "PATH",
            "PGHOST",
            "ROLLCALL_URL",
            "ROLLCALL_DATA_DIR",
            "REALTIME_MAX_CONNECTIONS",
            "REALTIME_SLOT",
            "REALTIME_IP_VERSION",
            "PRESENCE_POOL_SIZE",
        ];
        check_all(&names.map(|name| (name, "x"))).unwrap();
    }

    #[test]
    fn kubernetes_service_variables_are_ignored() {
        check_all(&[
            ("ROLLCALL_PORT", "tcp://10.96.0.12:4000"),
            ("ROLLCALL_SERVICE_HOST", "10.96.0.12"),
            ("ROLLCALL_SERVICE_PORT", "4000"),
            ("ROLLCALL_SERVICE_PORT_HTTP", "4000"),
            ("ROLLCALL_PORT_4000_TCP", "tcp://10.96.0.12:4000"),
            ("ROLLCALL_PORT_4000_TCP_PROTO", "tcp"),
            ("ROLLCALL_PORT_4000_TCP_PORT", "4000"),
            ("ROLLCALL_PORT_4000_TCP_ADDR", "10.96.0.12"),
            ("REALTIME_DEV_PORT", "udp://10.96.0.13:53"),
        ])
        .unwrap();
        for (name, value) in
            [("ROLLCALL_PORT", "5000"), ("ROLLCALL_PORT_HTTP", "5000"), ("ROLLCALL_HOST", "::")]
        {
            let error = check_all(&[(name, value)]).unwrap_err();
            assert!(error.starts_with(&format!("{name}: unknown setting")), "{error}");
        }
    }
}
