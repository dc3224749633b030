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
use serde_json::{Map, Value, json};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    ApiError,
    alias::Alias,
    identity::GatewayPolicy,
    metrics_access::{MetricsPolicy, MetricsReader},
};
use crate::{auth::Verifier, clock::Clock, model::milliseconds, telemetry};

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

/// Health of the server and its dependencies.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Health)]
struct Report {
    /// `unavailable` if a check failed, `draining` while the server stops.
    #[schema(value_type = HealthStatus)]
    status: &'static str,
    /// Version of the server.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// Results of the checks, by dependency.
    #[schema(schema_with = checks_schema)]
    checks: BTreeMap<&'static str, CheckResult>,
    /// Time of the report.
    #[serde(serialize_with = "milliseconds::serialize")]
    timestamp: Timestamp,
}

/// Whether the server can serve requests.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the values of `Report::status`")]
enum HealthStatus {
    Ok,
    Unavailable,
    Draining,
}

/// Schema of the checks: some have further fields, such as `lag_ms`.
fn checks_schema() -> RefOr<Schema> {
    let check = json!({
        "type": "object",
        "required": ["ok", "latency_ms"],
        "properties": {
            "ok": { "type": "boolean", "description": "Whether the dependency is available." },
            "latency_ms": {
                "type": "integer", "minimum": 0, "description": "Duration of the check in milliseconds.",
            },
            "message": { "type": "string", "description": "Reason why the check failed." },
        },
        "additionalProperties": true,
    });
    let description = "Results of the checks, by dependency.";
    let schema = json!({ "type": "object", "description": description, "additionalProperties": check });
    serde_json::from_value(schema).expect("is a schema")
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

const CHANNELS_HEALTH: Alias = Alias {
    of: "/api/v1/system/health",
    path: "/realtime/v1/api/health",
    operation_id: "channelsHealth",
    description: "The path that clients of Supabase Realtime use; same as `/api/v1/system/health`.",
};

const LIVEZ: Alias = Alias {
    of: "/healthcheck",
    path: "/livez",
    operation_id: "livez",
    description: "Same as `/healthcheck`, for liveness probes: an unavailable database does not affect it.",
};
const READYZ: Alias = Alias {
    of: "/api/v1/system/health",
    path: "/readyz",
    operation_id: "readyz",
    description: "Same as `/api/v1/system/health`, for readiness probes: 503 while a check fails or the server stops.",
};

/// Routes of health, version and metrics.
///
/// Health requires no token; load balancers have none. Metrics require what [`MetricsReader`] checks.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Arc<System>: FromRef<S>,
    Arc<Verifier>: FromRef<S>,
    Arc<GatewayPolicy>: FromRef<S>,
    Arc<MetricsPolicy>: FromRef<S>,
{
    let router = OpenApiRouter::default()
        .routes(routes!(health))
        .routes(routes!(healthcheck))
        .routes(routes!(version))
        .routes(routes!(metrics));
    let router = READYZ.add_to(CHANNELS_HEALTH.add_to(router, get(health)), get(health));
    METRICS_OF_SYSTEM.add_to(LIVEZ.add_to(router, get(healthcheck)), get(metrics))
}

/// Routes of the admin port: `/metrics`, `/livez`, `/readyz` and `/version`. They require no token; the port's address decides who
/// reaches them.
pub fn admin_routes(system: Arc<System>) -> Router {
    Router::new()
        .route("/metrics", get(render_metrics))
        .route("/livez", get(healthcheck))
        .route("/readyz", get(health))
        .route("/version", get(version))
        .with_state(system)
}

/// Answers `ok` while the server runs.
#[utoipa::path(
    get, path = "/healthcheck", operation_id = "alive", tag = "System",
    responses((status = 200, description = "The server runs: the text `ok`.", body = String,
        content_type = "text/plain")),
    extensions(("x-access" = json!("open"))),
)]
async fn healthcheck() -> &'static str {
    "ok"
}

/// Version of the server.
#[derive(Serialize, ToSchema)]
struct Version {
    /// Name of the program: always `rollcall`.
    #[schema(example = "rollcall")]
    name: &'static str,
    /// Version of the server, as in Semantic Versioning.
    #[schema(example = "0.1.0")]
    version: &'static str,
}

/// Returns the version of the server.
#[utoipa::path(
    get, path = "/version", operation_id = "version", tag = "System",
    responses((status = 200, description = "The version of the server.", body = Version,
        example = json!({ "name": "rollcall", "version": "0.1.0" }))),
    extensions(("x-access" = json!("open"))),
)]
async fn version() -> axum::Json<Version> {
    axum::Json(Version { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") })
}

/// Returns the health of the server and its dependencies.
///
/// Requires no token, because load balancers have none. The dependencies are checked at most once per second.
#[utoipa::path(
    get, path = "/api/v1/system/health", operation_id = "health", tag = "System",
    responses(
        (status = 200, description = "All health checks passed.", body = Report, example = json!({
            "status": "ok", "version": "0.1.0", "timestamp": "2026-11-21T12:00:00.000Z",
            "checks": { "database": { "ok": true, "latency_ms": 1 }, "listener": { "ok": true, "latency_ms": 0 } },
        })),
        (status = 503, description = "A check failed, or the server stops.", body = Report, example = json!({
            "status": "unavailable", "version": "0.1.0", "timestamp": "2026-11-21T12:00:00.000Z",
            "checks": { "database": { "ok": false, "message": "timed out", "latency_ms": 2000 } },
        })),
    ),
    extensions(("x-access" = json!("open"))),
)]
async fn health(State(system): State<Arc<System>>) -> Response {
    let report = system.readiness().await;
    let status = if report.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, no_store, axum::Json(report)).into_response()
}

/// Returns the metrics of the server.
///
/// Metrics of sockets, deliveries, latencies and requests in the text format of Prometheus. Requests without a token
/// are answered if they come directly from a network in `METRICS_NETWORKS`, by default from the same machine, and not
/// through a proxy or from a web page. The admin port (`ADMIN_PORT`) serves the same without a token.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "System",
    responses((status = 200, description = "Metrics in the text format of Prometheus.", body = String,
        content_type = "text/plain")),
    extensions(("x-access" = json!("service")), ("x-errors" = json!([404]))),
)]
async fn metrics(_: MetricsReader, system: State<Arc<System>>) -> Result<Response, ApiError> {
    render_metrics(system).await
}

const METRICS_OF_SYSTEM: Alias = Alias {
    of: "/metrics",
    path: "/api/v1/system/metrics",
    operation_id: "metricsWithToken",
    description: "Same as `/metrics`.",
};

async fn render_metrics(State(system): State<Arc<System>>) -> Result<Response, ApiError> {
    let handle = system.metrics.as_ref().ok_or(ApiError::NotFound)?;
    telemetry::record_usage();
    let text = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((text, handle.render()).into_response())
}
