//! Routes for health and metrics.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{FromRef, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::{BoxFuture, join_all};
use jiff::Timestamp;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{ApiError, identity::Authenticated, identity::GatewayPolicy};
use crate::{auth::Verifier, clock::Clock};

/// Timeout of one health check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for which a health report is reused. The route is public, so requests must not load the database.
const MAX_REPORT_AGE: Duration = Duration::from_secs(1);

/// Health check of a dependency.
pub trait HealthCheck: Send + Sync + 'static {
    /// Key in the report, such as `database`.
    fn name(&self) -> &'static str;

    /// Runs the check. After two seconds it counts as failed.
    fn check(&self) -> BoxFuture<'_, CheckResult>;
}

/// Result of a health check. It is public: it must not contain addresses, SQL or error texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckResult {
    /// Whether the dependency is available.
    pub ok: bool,
    /// Further fields, such as `lag_ms`.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

impl CheckResult {
    #[must_use]
    pub fn healthy() -> Self {
        Self { ok: true, details: Map::new() }
    }

    /// A failed check with a public message.
    #[must_use]
    pub fn unhealthy(message: &'static str) -> Self {
        Self { ok: false, details: Map::new() }.with("message", message)
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

#[derive(Debug, Clone, Serialize)]
struct Report {
    status: &'static str,
    version: &'static str,
    checks: BTreeMap<&'static str, CheckResult>,
    timestamp: Timestamp,
}

/// State of the health and metrics routes.
pub struct System {
    health_checks: Vec<Arc<dyn HealthCheck>>,
    metrics: Option<PrometheusHandle>,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
    latest: Mutex<Option<(Instant, Report)>>,
}

impl System {
    /// Creates the state; `metrics` is `None` when no recorder is installed.
    #[must_use]
    pub fn new(
        probes: Vec<Arc<dyn HealthCheck>>,
        metrics: Option<PrometheusHandle>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            health_checks: probes,
            metrics,
            clock,
            stopping: CancellationToken::new(),
            latest: Mutex::new(None),
        }
    }

    /// Reports `draining` once `stopping` is cancelled.
    #[must_use]
    pub fn with_shutdown(self, stopping: CancellationToken) -> Self {
        Self { stopping, ..self }
    }

    /// Whether the health check with this name passes.
    pub async fn is_healthy(&self, probe: &str) -> bool {
        self.report().await.checks.get(probe).is_some_and(|reading| reading.ok)
    }

    /// The report, with status `draining` while the server stops.
    async fn readiness(&self) -> Report {
        let report = self.report().await;
        if self.stopping.is_cancelled() { Report { status: "draining", ..report } } else { report }
    }

    /// The latest report, at most [`MAX_REPORT_AGE`] old. Concurrent callers share one.
    async fn report(&self) -> Report {
        let mut latest = self.latest.lock().await;
        if let Some((at, report)) = &*latest
            && at.elapsed() < MAX_REPORT_AGE
        {
            return report.clone();
        }
        let checks = self.health_checks.iter().map(|probe| async {
            let started = Instant::now();
            let reading = timeout(CHECK_TIMEOUT, probe.check()).await;
            let reading = reading.unwrap_or_else(|_| CheckResult::unhealthy("timed out"));
            let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            (probe.name(), reading.with("latency_ms", milliseconds))
        });
        let checks: BTreeMap<_, _> = join_all(checks).await.into_iter().collect();
        let is_healthy = checks.values().all(|reading| reading.ok);
        let report = Report {
            status: if is_healthy { "ok" } else { "unavailable" },
            version: env!("CARGO_PKG_VERSION"),
            checks,
            timestamp: self.clock.now(),
        };
        *latest = Some((Instant::now(), report.clone()));
        report
    }
}

/// Routes `/healthcheck`, `/realtime/v1/api/health`, `/api/v1/system/health`, `/api/v1/system/metrics` and
/// `/metrics`.
///
/// Only `/api/v1/system/metrics` requires a token; load balancers and scrapers have none.
pub fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Arc<System>: FromRef<S>,
    Arc<Verifier>: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
{
    Router::new()
        .route("/healthcheck", get(|| async { "ok" }))
        .route("/realtime/v1/api/health", get(health))
        .route("/api/v1/system/health", get(health))
        .route("/api/v1/system/metrics", get(|_: Authenticated, system| metrics(system)))
        .route("/metrics", get(metrics))
}

async fn health(State(system): State<Arc<System>>) -> Response {
    let report = system.readiness().await;
    let status = if report.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, no_store, axum::Json(report)).into_response()
}

async fn metrics(State(system): State<Arc<System>>) -> Result<Response, ApiError> {
    let handle = system.metrics.as_ref().ok_or(ApiError::NotFound)?;
    let text = [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"))];
    Ok((text, handle.render()).into_response())
}
