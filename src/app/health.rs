//! Health checks of the server's dependencies.

use std::{future, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use metrics_exporter_prometheus::PrometheusHandle;

use super::{dependencies::Dependencies, presence::Presence};
use crate::{
    channels::bus::nats::NatsStatus,
    http::system::{CheckResult, HealthCheck, System},
    pg::{Database, Writability},
    presence::visibility::PendingChanges,
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
    let mut checks: Vec<Arc<dyn HealthCheck>> = vec![
        Arc::new(DatabaseCheck(deps.database.clone())),
        Arc::new(ListenerCheck(presence.pending_changes.clone())),
    ];
    if let Some(status) = nats {
        checks.push(Arc::new(NatsCheck(status)));
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

/// Health check: the LISTEN connection is up.
struct ListenerCheck(Arc<PendingChanges>);

impl HealthCheck for ListenerCheck {
    fn name(&self) -> &'static str {
        "listener"
    }

    fn check(&self) -> BoxFuture<'_, CheckResult> {
        let result = if self.0.is_connected() {
            CheckResult::healthy()
        } else {
            CheckResult::unhealthy("not connected")
        };
        future::ready(result).boxed()
    }
}

/// Health check: the connection to NATS is up.
struct NatsCheck(NatsStatus);

impl HealthCheck for NatsCheck {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn check(&self) -> BoxFuture<'_, CheckResult> {
        let result = if self.0.is_connected() {
            CheckResult::healthy()
        } else {
            CheckResult::unhealthy("not connected")
        };
        future::ready(result).boxed()
    }
}
