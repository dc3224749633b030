//! Errors of the set-up of logs, traces and metrics.

use metrics_exporter_prometheus::BuildError;
use tracing_subscriber::util::TryInitError;

/// Logging, traces or metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A global subscriber is already installed.
    #[error("logging is already set up")]
    Tracing(#[from] TryInitError),
    /// A metrics recorder is already installed.
    #[error("metrics could not be set up")]
    Metrics(#[from] BuildError),
    /// The collector's endpoint or headers are invalid.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: the endpoint or the headers are invalid")]
    Traces(#[from] opentelemetry_otlp::ExporterBuildError),
}
