//! Settings of logs and traces.

use crate::model::Secret;

/// What to log, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Directives of tracing's `EnvFilter`; `None` for the defaults.
    pub filter: Option<String>,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line, for machines.
    Json,
}

/// Where traces go.
#[derive(Debug, Clone)]
pub struct TracesConfig {
    /// The collector's base URL; traces go to `/v1/traces` under it.
    pub endpoint: String,
    /// What the collector wants to see in headers, such as its key.
    pub headers: Vec<(String, Secret)>,
    /// What the server calls itself.
    pub service_name: String,
    /// The share of traces that is kept, where the caller has not decided.
    pub sample_ratio: f64,
}
