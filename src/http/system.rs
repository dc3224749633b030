//! Routes about the server itself: is it well, and what does it count.

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

/// The longest that one probe may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a report is handed out again: anybody may ask, and nobody should be able to keep the database busy so.
const MAX_REPORT_AGE: Duration = Duration::from_secs(1);

/// Something that the server depends on and can be asked after.
pub trait HealthCheck: Send + Sync + 'static {
    /// The key in the report, such as `database`.
    fn name(&self) -> &'static str;

    /// Asks. May take two seconds, then it counts as not well.
    fn check(&self) -> BoxFuture<'_, CheckResult>;
}

/// What a probe found. The report is public: no addresses, no SQL, no error texts of others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckResult {
    /// Whether the server can do its work with this.
    pub ok: bool,
    /// Whatever else may be told, as `lag_ms`.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

impl CheckResult {
    /// All is well.
    #[must_use]
    pub fn healthy() -> Self {
        Self { ok: true, details: Map::new() }
    }

    /// Not well, in words that may be told.
    #[must_use]
    pub fn unhealthy(message: &'static str) -> Self {
        Self { ok: false, details: Map::new() }.with("message", message)
    }

    /// The same with one more fact.
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

/// What the routes here need.
pub struct System {
    health_checks: Vec<Arc<dyn HealthCheck>>,
    metrics: Option<PrometheusHandle>,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
    latest: Mutex<Option<(Instant, Report)>>,
}

impl System {
    /// With the probes to ask, and the metrics to print if a recorder is installed.
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

    /// The same, and not ready any more once the server is asked to stop.
    #[must_use]
    pub fn with_shutdown(self, stopping: CancellationToken) -> Self {
        Self { stopping, ..self }
    }

    /// Whether the server can do its work with what a probe looks after.
    pub async fn is_healthy(&self, probe: &str) -> bool {
        self.report().await.checks.get(probe).is_some_and(|reading| reading.ok)
    }

    /// The report; one of a server that stops says so, however well it is.
    async fn readiness(&self) -> Report {
        let report = self.report().await;
        if self.stopping.is_cancelled() { Report { status: "draining", ..report } } else { report }
    }

    /// What was found, at most a second ago; those who ask at the same time share one.
    async fn report(&self) -> Report {
        let mut latest = self.latest.lock().await;
        if let Some((at, report)) = &*latest
            && at.elapsed() < MAX_REPORT_AGE
        {
            return report.clone();
        }
        let asked = self.health_checks.iter().map(|probe| async {
            let started = Instant::now();
            let reading = timeout(CHECK_TIMEOUT, probe.check()).await;
            let reading = reading.unwrap_or_else(|_| CheckResult::unhealthy("no answer in time"));
            let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            (probe.name(), reading.with("latency_ms", milliseconds))
        });
        let checks: BTreeMap<_, _> = join_all(asked).await.into_iter().collect();
        let well = checks.values().all(|reading| reading.ok);
        let report = Report {
            status: if well { "ok" } else { "unavailable" },
            version: env!("CARGO_PKG_VERSION"),
            checks,
            timestamp: self.clock.now(),
        };
        *latest = Some((Instant::now(), report.clone()));
        report
    }
}

/// `GET /healthcheck`, `/realtime/v1/api/health`, `/api/v1/system/health`, `/api/v1/system/metrics` and `/metrics`.
///
/// The first two and the last are open, as balancers and scrapers have no token; `/api/v1` asks for one.
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
