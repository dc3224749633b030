//! Sets up logging, traces and metrics; holds the metric names.

mod error;
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

/// Metric names. They end with the unit, counters with `_total`.
pub mod metric {
    /// Gauge: visibility edges held in memory (viewer to subject).
    pub const VISIBILITY_EDGES: &str = "rollcall_visibility_edges";
    /// Histogram: rows per batch of the presence writer.
    pub const WRITER_BATCH_SIZE: &str = "rollcall_writer_batch_size";
    /// Histogram, seconds: from queueing a write to its commit.
    pub const WRITER_LATENCY: &str = "rollcall_writer_latency_seconds";
    /// Histogram, seconds: from commit to receipt of the notification.
    pub const NOTIFY_LAG: &str = "rollcall_notify_lag_seconds";
    /// Counter: connected devices that were missing in the database and were written again.
    pub const DEVICES_RECONCILED: &str = "rollcall_devices_reconciled_total";
    /// Counter: notifications that were ignored, by `cause` (`forged`, `repeated`,
    /// `invalid`).
    pub const NOTIFICATIONS_REJECTED: &str = "rollcall_notifications_rejected_total";
    /// Gauge: 1 on the node that relays notifications, else 0.
    pub const RELAY_ACTIVE: &str = "rollcall_relay_active";
    /// Counter: notifications that this node relayed from the write-ahead log.
    pub const RELAYED_NOTIFICATIONS: &str = "rollcall_relayed_notifications_total";
    /// Counter: failures of this node to start or keep the relay of notifications.
    pub const RELAY_FAILURES: &str = "rollcall_relay_failures_total";
    /// Counter: full reads of all visible presence after a lost LISTEN connection or a policy change, by
    /// `cause`.
    pub const VISIBILITY_RESYNCS: &str = "rollcall_visibility_resyncs_total";
    /// Histogram, seconds: queries that check row-level security.
    pub const RLS_QUERY: &str = "rollcall_rls_query_seconds";
    /// Counter: outbox messages dropped because too many were pending.
    pub const OUTBOX_MESSAGES_DROPPED: &str = "rollcall_outbox_messages_dropped_total";
    /// Histogram: channels per batch written to `rollcall.presence`.
    pub const CHANNEL_PRESENCE_BATCH_SIZE: &str = "rollcall_channel_presence_batch_size";
    /// Histogram, seconds: writes to `rollcall.presence`.
    pub const CHANNEL_PRESENCE_WRITE: &str = "rollcall_channel_presence_write_seconds";
    /// Counter: rewrites of all channel presence rows of this node, by `cause`.
    pub const CHANNEL_PRESENCE_REWRITES: &str = "rollcall_channel_presence_rewrites_total";
    /// Counter: channels whose presence the database rejected.
    pub const CHANNEL_PRESENCE_REFUSED: &str = "rollcall_channel_presence_refused_total";
    /// Counter: full reads of the channel presence of another node.
    pub const CHANNEL_PRESENCE_RESYNCS: &str = "rollcall_channel_presence_resyncs_total";
    /// Counter: channel messages sent to other nodes.
    pub const BUS_MESSAGES_SENT: &str = "rollcall_bus_messages_sent_total";
    /// Histogram: channel messages per bus notification.
    pub const BUS_BATCH_SIZE: &str = "rollcall_bus_batch_size";
    /// Counter: channel messages received from other nodes.
    pub const BUS_MESSAGES_RECEIVED: &str = "rollcall_bus_messages_received_total";
    /// Counter: channel messages that did not reach other nodes, by `cause`. Counts notifications where the
    /// number of messages is unknown.
    pub const BUS_DROPPED: &str = "rollcall_bus_dropped_total";
    /// Histogram, seconds: checks of private-channel policies, per batch.
    pub const CHANNEL_AUTHORIZATION_CHECK_SECONDS: &str = "rollcall_channel_authorization_check_seconds";
    /// Counter: principals checked for private channels, by reason (join, recheck).
    pub const CHANNEL_AUTHORIZATION_CHECKS: &str = "rollcall_channel_authorization_checks_total";
    /// Gauge: subscriptions to channel authorization (principal and channel).
    pub const CHANNEL_AUTHORIZATION_SUBSCRIPTIONS: &str = "rollcall_channel_authorization_subscriptions";
    /// Counter: timeouts of broadcasts from the database while waiting for channel authorization.
    pub const CHANNEL_AUTHORIZATION_WAIT_TIMEOUTS: &str =
        "rollcall_channel_authorization_wait_timeouts_total";
    /// Counter: broadcasts from the database that were delivered.
    pub const DATABASE_BROADCASTS: &str = "rollcall_database_broadcasts_total";
    /// Counter: rows of `realtime.messages` that are not broadcasts or could not be delivered, by `reason`.
    pub const DATABASE_BROADCASTS_SKIPPED: &str = "rollcall_database_broadcasts_skipped_total";
    /// Gauge, bytes: write-ahead log retained for changes that this node has not processed.
    pub const REPLICATION_LAG: &str = "rollcall_replication_lag_bytes";
    /// Gauge, bytes: largest amount of write-ahead log retained by a persistent slot of this installation.
    pub const REPLICATION_RETAINED: &str = "rollcall_replication_retained_bytes";
    /// Counter: slots of dead nodes that were dropped because they exceeded the retention limit.
    pub const REPLICATION_SLOTS_DROPPED: &str = "rollcall_replication_slots_dropped_total";
    /// Counter: replication streams that failed or did not start.
    pub const REPLICATION_INTERRUPTIONS: &str = "rollcall_replication_interruptions_total";
    /// Gauge: channels subscribed to `postgres_changes`.
    pub const POSTGRES_CHANGES_SUBSCRIPTIONS: &str = "rollcall_postgres_changes_subscriptions";
    /// Histogram: row changes per delivery pass.
    pub const POSTGRES_CHANGES_BATCH_SIZE: &str = "rollcall_postgres_changes_batch_size";
    /// Counter: database connections closed instead of reused, by `cause`: interrupted (a statement was given up) or
    /// unusable.
    pub const DATABASE_CONNECTIONS_DISCARDED: &str = "rollcall_database_connections_discarded_total";
    /// Counter: connections refused when they were accepted, by `reason`: full (`MAX_CONNECTIONS`) or address
    /// (`MAX_SILENT_CONNECTIONS_PER_ADDRESS`).
    pub const REJECTED_CONNECTIONS: &str = "rollcall_rejected_connections_total";
    /// Counter: HTTP requests, by route, method and status.
    pub const HTTP_REQUESTS: &str = "rollcall_http_requests_total";
    /// Histogram, seconds: HTTP requests, by route and method.
    pub const HTTP_REQUEST_SECONDS: &str = "rollcall_http_request_seconds";
}

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

/// Starts collecting metrics. The handle renders them as Prometheus text. The caller must run [`run_upkeep`].
///
/// # Errors
/// When a metrics recorder is already installed.
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
    }
}
