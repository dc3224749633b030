//! Parsers of setting values, and the defaults of structs of settings.
//!
//! A setting is declared once: as a field of a struct that derives [`clap::Args`] and lives with the code that uses it.
//! The field holds its flag, variable, default, parser and meaning. `config` flattens these structs, and
//! `docs/configuration.md` is generated from them.
//!
//! A parser's error is the second half of a sentence that begins with the variable's name: what is expected, then
//! `(got "…")` unless the value may be a secret.

use std::{fmt, num::NonZeroU32, ops::RangeInclusive, time::Duration};

use clap::builder::{OsStr, Resettable};

/// Result of a parser; the error is the reason.
pub type ParseResult<T> = Result<T, String>;

/// A limit that 0 disables. An alias, because clap takes a field of type `Option` for a setting without a default.
pub type Limit = Option<NonZeroU32>;

/// A setting and the reason why it is invalid. Never holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Name of the environment variable.
    pub variable: String,
    /// Reason, as the second half of a sentence that begins with the variable's name.
    pub message: String,
}

impl Problem {
    pub fn new(variable: impl Into<String>, message: impl Into<String>) -> Self {
        Self { variable: variable.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.message)
    }
}

impl std::error::Error for Problem {}

/// The defaults that the struct declares. Does not read the environment.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "a test parses the defaults of all structs")]
pub fn defaults<T: clap::Args>() -> T {
    let matches = definition::<T>().get_matches_from::<_, &str>([]);
    T::from_arg_matches(&matches).expect("defaults are valid")
}

/// A command with the settings of `T` and nothing else. Does not read the environment.
pub fn definition<T: clap::Args>() -> clap::Command {
    T::augment_args(clap::Command::new("settings").no_binary_name(true))
        .mut_args(|arg| arg.env(Resettable::<OsStr>::Reset))
}

pub fn port(text: &str) -> ParseResult<u16> {
    text.parse().map_err(|_| format!("must be a port number from 0 to 65535 (got \"{text}\")"))
}

/// Parser of a whole number within the range.
pub fn count(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> ParseResult<u64> + Clone + Send + Sync + 'static {
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => {
            let (low, high) = (range.start(), range.end());
            Err(format!("must be a whole number from {low} to {high} (got \"{text}\")"))
        }
    }
}

/// Like [`count`] for numbers of other types. The range must fit the type.
pub fn small_count<T: TryFrom<u64> + 'static>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> ParseResult<T> + Clone + Send + Sync + 'static {
    let parse = count(range);
    move |text| T::try_from(parse(text)?).map_err(|_| format!("is too large (got \"{text}\")"))
}

/// Parses a limit; 0 disables it.
pub fn limit(text: &str) -> ParseResult<Limit> {
    text.parse()
        .map(NonZeroU32::new)
        .map_err(|_| format!("must be a whole number from 0 (no limit) to {} (got \"{text}\")", u32::MAX))
}

pub fn boolean(text: &str) -> ParseResult<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("must be true or false (got \"{text}\")")),
    }
}

/// Parses a duration: a number of seconds, or a number with one of the units `ms`, `s`, `m`, `h`, `d`.
pub fn duration(text: &str) -> ParseResult<Duration> {
    parse_duration(text).ok_or_else(|| {
        format!("must be seconds, or a number with a unit such as 500ms, 90s, 5m, 1h, 30d (got \"{text}\")")
    })
}

/// Parser of a duration within the range.
pub fn duration_within(
    range: RangeInclusive<Duration>,
) -> impl Fn(&str) -> ParseResult<Duration> + Clone + Send + Sync + 'static {
    move |text| {
        parse_duration(text).filter(|value| range.contains(value)).ok_or_else(|| {
            let (low, high) = (range.start().as_secs_f64(), range.end().as_secs_f64());
            format!(
                "must be from {low} to {high} seconds, or a number with a unit such as 500ms, 90s, 5m (got \"{text}\")"
            )
        })
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit_start = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_start);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let number: f64 = number.trim().parse().ok()?;
    Duration::try_from_secs_f64(number * seconds_per_unit).ok()
}

/// Parses a number from 0 to 1.
pub fn ratio(text: &str) -> ParseResult<f64> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err(format!("must be a number from 0 to 1 (got \"{text}\")")),
    }
}

/// Parses an HTTP URL. Errors do not repeat the value, which may hold credentials.
pub fn http_url(text: &str) -> ParseResult<String> {
    url(text, &["https", "http"])
}

/// Parses a URL with one of the schemes. Errors do not repeat the value, which may hold credentials.
pub fn url(text: &str, schemes: &[&str]) -> ParseResult<String> {
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme)?.strip_prefix("://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace) => {
            Ok(text.to_owned())
        }
        _ => Err(format!("must be a URL that begins with {}://", schemes.join(":// or "))),
    }
}

/// Splits a comma-separated list: items are trimmed, empty ones are skipped.
pub fn comma_separated(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_default_to_seconds() {
        assert_eq!(duration("300"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3_600)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for bad in ["", "five", "5 fortnights", "-1", "nan", "inf", "1e300d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn zero_limit_disables_it() {
        assert_eq!(limit("0"), Ok(None));
        assert_eq!(limit("7"), Ok(NonZeroU32::new(7)));
        assert!(limit("-1").is_err());
        assert!(limit("4294967296").is_err());
    }

    #[test]
    fn ratio_is_within_zero_and_one() {
        assert_eq!((ratio("0.25"), ratio("2").is_err(), ratio("NaN").is_err()), (Ok(0.25), true, true));
    }

    #[test]
    fn url_errors_do_not_repeat_the_url() {
        let error = url("mysql://root:hunter2@db/x", &["postgres", "postgresql"]).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(url("postgresql://db/x", &["postgres", "postgresql"]).is_ok());
        assert!(url("https://", &["https"]).is_err());
    }
}
