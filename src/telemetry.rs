//! Sets up logging, traces and metrics.

#[cfg(test)]
mod docs;
mod error;
pub mod metric;
mod process;
mod settings;
pub mod traces;

use std::io::IsTerminal;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::{Metadata, level_filters::LevelFilter};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

pub use error::TelemetryError;
use metric::Kind;
pub use process::record_usage;
pub use settings::{LogConfig, LogFormat, TracesConfig};
use traces::Traces;

/// Log filter without `RUST_LOG`. `deadpool_postgres` logs each connection that a PostgreSQL restart closed;
/// the listener logs the restart once.
const DEFAULT_FILTER: &str = "warn,rollcall=info,deadpool_postgres=error";
/// Interval at which [`run_upkeep`] folds new samples into the histograms. Rendering folds them too, so
/// values are never stale.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Histogram buckets in seconds for transactions, queries and requests.
const LATENCY_BUCKETS: [f64; 14] =
    [0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Histogram buckets for batch sizes.
const BATCH_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];

/// Starts logging to standard error (standard output holds the output of commands), and traces when
/// `traces` has an endpoint. Call it before a runtime is started.
///
/// # Errors
/// When logging is already set up or the collector's endpoint is invalid.
pub fn init_tracing(config: &LogConfig, traces: &TracesConfig) -> Result<Traces, TelemetryError> {
    let filter = EnvFilter::new(config.filter.as_deref().unwrap_or(DEFAULT_FILTER));
    // The hint is that of the filter: this condition adds none.
    let filter = filter.and(filter_fn(is_free_of_content).with_max_level_hint(LevelFilter::TRACE));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && config.format == LogFormat::Pretty);
    let lines = match config.format {
        LogFormat::Pretty => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let Some(endpoint) = &traces.endpoint else {
        Registry::default().with(lines.with_filter(filter)).try_init()?;
        return Ok(Traces::disabled());
    };
    // Logs and traces have separate filters.
    let (traces, layer) = Traces::start(endpoint, traces)?;
    Registry::default().with(lines.with_filter(filter)).with(layer).try_init()?;
    Ok(traces)
}

/// Whether an event or span may be logged: those of the server, and from other crates at least level INFO. Below INFO,
/// other crates log parameters of statements, bytes of requests and headers, which contain claims, tokens and texts.
fn is_free_of_content(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= LevelFilter::INFO || metadata.target().split("::").next() == Some("rollcall")
}

/// Starts collecting metrics, with HELP lines, and counters at zero. The handle renders them as Prometheus text. The
/// caller must run [`run_upkeep`], and [`record_usage`] before it renders.
///
/// # Errors
/// When a metrics recorder is already installed.
pub fn install_metrics() -> Result<PrometheusHandle, TelemetryError> {
    let full = |name: &str| Matcher::Full(name.to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets(&LATENCY_BUCKETS)?
        .set_buckets_for_metric(full(metric::WRITER_BATCH_SIZE), &BATCH_BUCKETS)?
        .set_buckets_for_metric(full(metric::POSTGRES_CHANGES_BATCH_SIZE), &BATCH_BUCKETS)?
        .set_buckets_for_metric(full(metric::CHANNEL_PRESENCE_BATCH_SIZE), &BATCH_BUCKETS)?
        .set_buckets_for_metric(full(metric::BUS_BATCH_SIZE), &BATCH_BUCKETS)?
        .install_recorder()?;
    register_metrics();
    process::record_start();
    Ok(handle)
}

/// Describes all metrics, and creates the counters and gauges whose labels are known.
fn register_metrics() {
    for metric in metric::ALL {
        let (name, unit, meaning) = (metric.name, metric.unit, metric.meaning.trim());
        match metric.kind {
            Kind::Counter => {
                metrics::describe_counter!(name, unit, meaning);
                for labels in metric.series() {
                    metrics::counter!(name, &labels).absolute(0);
                }
            }
            Kind::Gauge => {
                metrics::describe_gauge!(name, unit, meaning);
                for labels in metric.series() {
                    metrics::gauge!(name, &labels).set(0.0);
                }
            }
            Kind::Histogram => metrics::describe_histogram!(name, unit, meaning),
        }
    }
}

/// Folds samples into histograms periodically, so that memory stays bounded when nothing scrapes the metrics.
/// Never returns.
pub async fn run_upkeep(handle: PrometheusHandle) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_buckets_match_their_unit() {
        let handle = install_metrics().unwrap();
        metrics::histogram!(metric::WRITER_LATENCY).record(0.003);
        metrics::histogram!(metric::WRITER_BATCH_SIZE).record(100.0);
        let text = handle.render();
        assert!(text.contains("rollcall_writer_latency_seconds_bucket{le=\"0.004\"} 1"), "{text}");
        assert!(text.contains("rollcall_writer_batch_size_bucket{le=\"128\"} 1"), "{text}");

        // Counters exist before they are counted, also those with labels, and every metric has a HELP line.
        for series in [
            "rollcall_relay_failures_total 0",
            "rollcall_bus_dropped_total{cause=\"full\"} 0",
            "rollcall_context_actions_total{what=\"warm_up\",outcome=\"failed\"} 0",
            "rollcall_build_info{version=\"",
            "# HELP rollcall_writer_batch_size Rows per batch of the presence writer.",
        ] {
            assert!(text.contains(series), "{series}: {text}");
        }
        record_usage();
        let text = handle.render();
        let value = |name: &str| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or_default();
            line.parse::<f64>().unwrap_or_default()
        };
        for name in [metric::PROCESS_MEMORY, metric::PROCESS_FDS, metric::PROCESS_MAX_FDS] {
            assert!(value(name) > 0.0, "{name}: {text}");
        }
        assert!(value(metric::PROCESS_START_TIME) > 1.7e9, "{text}");
    }
}
