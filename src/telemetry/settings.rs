//! Settings of logs and traces.

use crate::{
    model::Secret,
    settings::{ParseResult, comma_separated, http_url, ratio},
};

#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Logs and traces")]
pub struct LogConfig {
    /// Log filter in the syntax of tracing's EnvFilter. The levels debug and trace apply to rollcall only, because other
    /// crates log claims and texts there. Default: info for rollcall, warn for other crates
    #[arg(id = "log-filter", long = "log", env = "RUST_LOG", value_parser = log_filter)]
    pub filter: Option<String>,
    /// Format of log lines: pretty is text, json is one object per line
    #[arg(
        id = "log-format",
        long = "log-format",
        env = "LOG_FORMAT",
        default_value = "pretty",
        value_parser = log_format
    )]
    pub format: LogFormat,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Human-readable text, one line per event.
    Pretty,
    /// One JSON object per line.
    Json,
}

/// Settings of the OTLP trace exporter.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Logs and traces")]
pub struct TracesConfig {
    /// URL of a trace collector (OTLP over HTTP), such as http://127.0.0.1:4318; traces are sent to /v1/traces under it.
    /// Default: no traces
    #[arg(
        id = "otlp-endpoint",
        long = "otlp-endpoint",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_parser = http_url
    )]
    pub endpoint: Option<String>,
    /// Headers sent to the collector, such as its API key: name=value,name=value
    #[arg(
        id = "otlp-headers",
        long = "otlp-headers",
        env = "OTEL_EXPORTER_OTLP_HEADERS",
        default_value = "",
        value_parser = headers
    )]
    pub headers: Headers,
    /// Service name in traces
    #[arg(long, env = "OTEL_SERVICE_NAME", default_value = "rollcall")]
    pub service_name: String,
    /// Share of traces to keep when the caller has not decided
    #[arg(
        id = "trace-ratio",
        long = "trace-ratio",
        env = "OTEL_TRACES_SAMPLER_ARG",
        default_value = "1",
        value_parser = ratio
    )]
    pub sample_ratio: f64,
}

/// Names and values of headers. An alias, because clap takes a field of type `Vec` for several arguments.
type Headers = Vec<(String, Secret)>;

fn log_filter(text: &str) -> ParseResult<String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("must be a log filter such as info or rollcall=debug (got \"{text}\")")),
    }
}

fn log_format(text: &str) -> ParseResult<LogFormat> {
    match text {
        "pretty" => Ok(LogFormat::Pretty),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("must be pretty or json (got \"{text}\")")),
    }
}

/// Parses `name=value` pairs, the OpenTelemetry form of headers. Errors do not repeat values, which may be
/// secrets.
fn headers(text: &str) -> ParseResult<Headers> {
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
    }
}
