//! Health checks of the server's dependencies.

use std::{future, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use metrics_exporter_prometheus::PrometheusHandle;

use super::{dependencies::Dependencies, presence::Presence};
use crate::{
    channels::bus::nats::NatsStatus,
    http::system::{CheckResult, HealthCheck, System},
    pg::{Database, Writability},
};

/// Timeout of the database's health check, below that of all health checks.
const WRITABLE_TIMEOUT: Duration = Duration::from_millis(1_800);

/// Health, readiness and metrics of this server.
pub(super) fn system(
    deps: &Dependencies,
    presence: &Presence,
    nats: Option<NatsStatus>,
    metrics: Option<PrometheusHandle>,
) -> Arc<System> {
    let listener = presence.pending_changes.clone();
    let mut checks: Vec<Arc<dyn HealthCheck>> = vec![
        Arc::new(DatabaseCheck(deps.database.clone())),
        Arc::new(ConnectionCheck { name: "listener", is_connected: move || listener.is_connected() }),
    ];
    if let Some(status) = nats {
        checks.push(Arc::new(ConnectionCheck { name: "nats", is_connected: move || status.is_connected() }));
    }
    Arc::new(System::new(checks, metrics, deps.clock.clone()).with_shutdown(deps.stopping.clone()))
}

/// Health check: the database responds and accepts writes.
struct DatabaseCheck(Database);

impl HealthCheck for DatabaseCheck {
    fn name(&self) -> &'static str {
        "database"
    }

    fn check(&self) -> BoxFuture<'_, CheckResult> {
        async {
            match self.0.is_writable(WRITABLE_TIMEOUT).await {
                Ok(Writability::Writable) => CheckResult::healthy(),
                Ok(Writability::Standby) => CheckResult::unhealthy("read-only: the server is a standby"),
                Ok(Writability::ReadOnly) => CheckResult::unhealthy("read-only"),
                Ok(Writability::DiskFull) => CheckResult::unhealthy("no disk space: writes fail"),
                Err(_) => CheckResult::unhealthy("unreachable"),
            }
        }
        .boxed()
    }
}

/// Health check: a connection that a task of its own keeps is up.
struct ConnectionCheck<F> {
    name: &'static str,
    is_connected: F,
}

impl<F: Fn() -> bool + Send + Sync + 'static> HealthCheck for ConnectionCheck<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn check(&self) -> BoxFuture<'_, CheckResult> {
        let result = if (self.is_connected)() {
            CheckResult::healthy()
        } else {
            CheckResult::unhealthy("not connected")
        };
        future::ready(result).boxed()
    }
}
