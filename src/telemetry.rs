//! Tracing set-up, metric and field names.

mod settings;
pub mod traces;

use std::io::IsTerminal;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry};

pub use settings::{LogConfig, LogFormat, TracesConfig};
use traces::Traces;

/// What is logged unless `RUST_LOG` says otherwise. The pool warns of each connection that a restart of PostgreSQL
/// closed; the listener says that once.
const DEFAULT_FILTER: &str = "warn,rollcall=info,deadpool_postgres=error";
/// How often [`upkeep`] folds new samples into the histograms; also the staleness that a reader may see in
/// memory use, not in values: rendering folds too.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Upper bounds in seconds, for what takes a transaction, a query or a request.
const LATENCY_BUCKETS: [f64; 14] =
    [0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Upper bounds in rows of a batch.
const BATCH_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];

/// Names of metrics. The unit is the name's last word but for counters, which count events.
pub mod metric {
    /// Gauge: visibility edges held in memory (viewer to subject).
    pub const VISIBILITY_EDGES: &str = "rollcall_edges";
    /// Histogram: rows in a batch of the group-commit writer.
    pub const WRITER_BATCH_SIZE: &str = "rollcall_writer_batch_size";
    /// Histogram, seconds: from handing a write over to its commit.
    pub const WRITER_LATENCY: &str = "rollcall_writer_latency_seconds";
    /// Histogram, seconds: from commit to the notification's arrival.
    pub const NOTIFY_LAG: &str = "rollcall_notify_lag_seconds";
    /// Counter: full re-reads after a lost LISTEN connection or a policy change, by cause.
    pub const VISIBILITY_RESYNCS: &str = "rollcall_resyncs_total";
    /// Histogram, seconds: queries that ask row-level security who sees whom.
    pub const RLS_QUERY: &str = "rollcall_rls_query_seconds";
    /// Counter: errands for sockets that were given up because too many waited.
    pub const OUTBOX_MESSAGES_DROPPED: &str = "rollcall_errands_dropped_total";
    /// Histogram: channels in a batch of rows of `rollcall.presence`.
    pub const CHANNEL_PRESENCE_BATCH_SIZE: &str = "rollcall_channel_presence_batch_size";
    /// Histogram, seconds: writing such a batch.
    pub const CHANNEL_PRESENCE_WRITE: &str = "rollcall_channel_presence_write_seconds";
    /// Counter: times that a node wrote all of its rows anew, by cause.
    pub const CHANNEL_PRESENCE_REWRITES: &str = "rollcall_channel_presence_rewrites_total";
    /// Counter: channels whose presence the database does not take as a row.
    pub const CHANNEL_PRESENCE_REFUSED: &str = "rollcall_channel_presence_refused_total";
    /// Counter: times that the presence of another node was read as a whole.
    pub const CHANNEL_PRESENCE_RESYNCS: &str = "rollcall_channel_presence_resyncs_total";
    /// Counter: messages of rooms that were told to other nodes.
    pub const BUS_MESSAGES_SENT: &str = "rollcall_bus_sent_total";
    /// Histogram: such messages in one piece.
    pub const BUS_BATCH_SIZE: &str = "rollcall_bus_batch_size";
    /// Counter: messages of rooms that other nodes told.
    pub const BUS_MESSAGES_RECEIVED: &str = "rollcall_bus_heard_total";
    /// Counter: messages (or, where nobody knows how many, pieces) that did not cross nodes, by cause.
    pub const BUS_DROPPED: &str = "rollcall_bus_dropped_total";
    /// Histogram, seconds: asking the policies of private channels, a batch of callers at a time.
    pub const CHANNEL_AUTHORIZATION_CHECK_SECONDS: &str = "rollcall_rights_probe_seconds";
    /// Counter: callers asked about in private channels, by why: join, recheck.
    pub const CHANNEL_AUTHORIZATION_CHECKS: &str = "rollcall_rights_asked_total";
    /// Gauge: private channels whose rights are watched, by caller and channel.
    pub const CHANNEL_AUTHORIZATION_SUBSCRIPTIONS: &str = "rollcall_rights_watched";
    /// Counter: times that broadcasts from the database waited for policies in vain.
    pub const CHANNEL_AUTHORIZATION_WAIT_TIMEOUTS: &str = "rollcall_rights_unsettled_total";
    /// Counter: broadcasts from the database handed on.
    pub const DATABASE_BROADCASTS: &str = "rollcall_database_broadcasts_total";
    /// Counter: rows of `realtime.messages` that are no broadcast or could not be delivered, by reason.
    pub const DATABASE_BROADCASTS_SKIPPED: &str = "rollcall_database_broadcasts_skipped_total";
    /// Gauge, bytes: write-ahead log that PostgreSQL keeps until its changes have been told here.
    pub const REPLICATION_LAG: &str = "rollcall_replication_lag_bytes";
    /// Gauge, bytes: the most write-ahead log that a persistent slot of this installation keeps.
    pub const REPLICATION_RETAINED: &str = "rollcall_replication_retained_bytes";
    /// Counter: slots of nodes that are gone, dropped because they kept more than they may.
    pub const REPLICATION_SLOTS_DROPPED: &str = "rollcall_replication_slots_dropped_total";
    /// Counter: streams of changes that broke or did not start.
    pub const REPLICATION_INTERRUPTIONS: &str = "rollcall_replication_interruptions_total";
    /// Gauge: channels that hear changes.
    pub const POSTGRES_CHANGES_SUBSCRIPTIONS: &str = "rollcall_change_channels";
    /// Histogram: changes told in one pass.
    pub const POSTGRES_CHANGES_BATCH_SIZE: &str = "rollcall_changes_batch_size";
    /// Counter: HTTP requests, by route, method and status.
    pub const HTTP_REQUESTS: &str = "rollcall_http_requests_total";
    /// Histogram, seconds: HTTP requests, by route and method.
    pub const HTTP_REQUEST_SECONDS: &str = "rollcall_http_request_seconds";
}

/// The process's tracing or metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Something else in the process logs already.
    #[error("logging is set up already")]
    Tracing(#[from] TryInitError),
    /// Something else in the process collects metrics already.
    #[error("metrics could not be set up")]
    Metrics(#[from] BuildError),
    /// The collector's address or headers cannot be used.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: traces cannot be sent there")]
    Traces(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Starts logging, to standard error: standard output belongs to what a command prints. With a collector, traces too.
/// To be called before any runtime is started.
///
/// # Errors
/// If the process logs already, or the collector's address cannot be used.
pub fn init_tracing(config: &LogConfig, collector: Option<&TracesConfig>) -> Result<Traces, TelemetryError> {
    let filter = EnvFilter::new(config.filter.as_deref().unwrap_or(DEFAULT_FILTER));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && config.format == LogFormat::Pretty);
    let lines = match config.format {
        LogFormat::Pretty => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let Some(collector) = collector else {
        Registry::default().with(lines).with(filter).try_init()?;
        return Ok(Traces::disabled());
    };
    // What is logged and what is traced are two decisions, so each has a filter of its own.
    let (traces, layer) = Traces::start(collector)?;
    Registry::default().with(lines.with_filter(filter)).with(layer).try_init()?;
    Ok(traces)
}

/// Starts collecting metrics. The handle renders them as Prometheus text; somebody has to run [`upkeep`].
///
/// # Errors
/// If the process collects metrics already.
pub fn install_metrics() -> Result<PrometheusHandle, TelemetryError> {
    let full = |name: &str| Matcher::Full(name.to_owned());
    Ok(PrometheusBuilder::new()
        .set_buckets(&LATENCY_BUCKETS)?
        .set_buckets_for_metric(full(metric::WRITER_BATCH_SIZE), &BATCH_BUCKETS)?
        .set_buckets_for_metric(full(metric::POSTGRES_CHANGES_BATCH_SIZE), &BATCH_BUCKETS)?
        .set_buckets_for_metric(full(metric::CHANNEL_PRESENCE_BATCH_SIZE), &BATCH_BUCKETS)?
        .set_buckets_for_metric(full(metric::BUS_BATCH_SIZE), &BATCH_BUCKETS)?
        .install_recorder()?)
}

/// Folds samples away now and then, for ever, so that memory stays bounded when nobody scrapes.
pub async fn run_upkeep(handle: PrometheusHandle) {
    let mut every = tokio::time::interval(UPKEEP_INTERVAL);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
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
    }
}
