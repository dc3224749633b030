//! Settings of logs and traces.

use crate::model::Secret;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Directives of `tracing_subscriber::EnvFilter`; `None` uses the default filter.
    pub filter: Option<String>,
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
#[derive(Debug, Clone)]
pub struct TracesConfig {
    /// Base URL of the collector; traces are sent to `/v1/traces` under it.
    pub endpoint: String,
    /// Headers sent to the collector, such as its API key.
    pub headers: Vec<(String, Secret)>,
    /// Service name in traces.
    pub service_name: String,
    /// Share of traces to keep, from 0 to 1, when the caller has not decided.
    pub sample_ratio: f64,
}
