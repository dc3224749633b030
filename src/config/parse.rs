//! Parsers of setting values, one function per kind. An error is the second half of a sentence that begins
//! with the variable's name.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::Secret;

/// Result of a parser; the error is the reason.
pub(super) type ParseResult<T> = Result<T, String>;

pub(super) fn port(text: &str) -> ParseResult<u16> {
    text.parse().map_err(|_| format!("must be a port number from 0 to 65535 (got \"{text}\")"))
}

pub(super) fn count(text: &str, range: RangeInclusive<usize>) -> ParseResult<usize> {
    let (low, high) = (*range.start(), *range.end());
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("must be a whole number from {low} to {high} (got \"{text}\")")),
    }
}

/// Parses a limit; 0 disables it.
pub(super) fn limit(text: &str) -> ParseResult<Option<NonZeroU32>> {
    text.parse()
        .map(NonZeroU32::new)
        .map_err(|_| format!("must be a whole number from 0 (no limit) to {} (got \"{text}\")", u32::MAX))
}

/// Parses a name of replication slots. 60 characters leave room for a suffix within PostgreSQL's 63.
pub(super) fn slot_name(text: &str) -> ParseResult<String> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if (1..=60).contains(&text.len()) && text.chars().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("must have 1 to 60 characters of a-z, 0-9 and _ (got \"{text}\")"))
    }
}

pub(super) fn boolean(text: &str) -> ParseResult<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("must be true or false (got \"{text}\")")),
    }
}

/// Parses a duration: a number of seconds, or a number with one of the units `ms`, `s`, `m`, `h`, `d`.
pub fn duration(text: &str) -> ParseResult<Duration> {
    let unit_start = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_start);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(not_a_duration(text)),
    };
    let number: f64 = number.trim().parse().map_err(|_| not_a_duration(text))?;
    Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|_| not_a_duration(text))
}

fn not_a_duration(text: &str) -> String {
    format!("must be seconds, or a number with a unit such as 500ms, 90s, 5m, 1h, 30d (got \"{text}\")")
}

pub(super) fn duration_within(text: &str, range: RangeInclusive<Duration>) -> ParseResult<Duration> {
    let value = duration(text)?;
    if range.contains(&value) {
        return Ok(value);
    }
    let (low, high) = (range.start().as_secs_f64(), range.end().as_secs_f64());
    Err(format!("must be from {low} to {high} seconds (got \"{text}\")"))
}

pub(super) fn host(text: &str) -> ParseResult<String> {
    let is_valid = text.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]%_".contains(c));
    if !is_valid {
        return Err(format!("must be an IP address or a host name (got \"{text}\")"));
    }
    // URLs write IPv6 addresses as `[::1]`; sockets need them without brackets.
    Ok(text.trim_start_matches('[').trim_end_matches(']').to_owned())
}

/// Parses a comma-separated list of networks in CIDR form or single addresses.
pub(super) fn networks(text: &str) -> ParseResult<Vec<IpNet>> {
    comma_separated(text)
        .map(|item| {
            item.parse::<IpNet>().or_else(|_| item.parse::<std::net::IpAddr>().map(IpNet::from)).map_err(
                |_| {
                    format!(
                        "must be networks in CIDR notation such as 10.0.0.0/8 or ::1/128 (got \"{item}\")"
                    )
                },
            )
        })
        .collect()
}

/// Parses a URL with one of the schemes. Errors do not repeat the value, which may hold credentials.
pub(super) fn url(text: &str, schemes: &[&str]) -> ParseResult<String> {
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme)?.strip_prefix("://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace) => {
            Ok(text.to_owned())
        }
        _ => Err(format!("must be a URL that begins with {}://", schemes.join(":// or "))),
    }
}

/// Splits a comma-separated list: items are trimmed, empty ones are skipped.
pub(super) fn comma_separated(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Parses `name=value` pairs, the OpenTelemetry form of headers. Errors do not repeat values, which may be
/// secrets.
pub(super) fn headers(text: &str) -> ParseResult<Vec<(String, Secret)>> {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    comma_separated(text)
        .map(|pair| match pair.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            Some((name, value)) if is_name(name) && value.chars().all(|c| matches!(c, ' '..='~')) => {
                Ok((name.to_owned(), Secret::new(value)))
            }
            _ => Err("must have the form name=value,name=value".to_owned()),
        })
        .collect()
}

/// Parses a number from 0 to 1.
pub(super) fn ratio(text: &str) -> ParseResult<f64> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err(format!("must be a number from 0 to 1 (got \"{text}\")")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_errors_do_not_repeat_values() {
        let parsed = headers("api-key=a=b , x=").unwrap();
        assert_eq!(parsed, [("api-key".to_owned(), Secret::new("a=b")), ("x".to_owned(), Secret::new(""))]);
        for invalid in ["hunter2", "=hunter2", "a b=hunter2", "a=hunter2\u{7}"] {
            assert!(!headers(invalid).unwrap_err().contains("hunter2"), "{invalid}");
        }
        assert_eq!((ratio("0.25"), ratio("2").is_err(), ratio("NaN").is_err()), (Ok(0.25), true, true));
    }

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
    fn single_address_is_a_network() {
        assert_eq!(networks("10.0.0.0/8, ::1").unwrap().len(), 2);
        assert!(networks("10.0.0.0/33").is_err());
    }

    #[test]
    fn url_errors_do_not_repeat_the_url() {
        let error = url("mysql://root:hunter2@db/x", &["postgres", "postgresql"]).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(url("postgresql://db/x", &["postgres", "postgresql"]).is_ok());
        assert!(url("https://", &["https"]).is_err());
    }
}
