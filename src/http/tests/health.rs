//! Health route.

use super::*;

struct FixedCheck(&'static str, CheckResult);

impl HealthCheck for FixedCheck {
    fn name(&self) -> &'static str {
        self.0
    }

    fn check(&self) -> BoxFuture<'_, CheckResult> {
        async { self.1.clone() }.boxed()
    }
}

struct HangingCheck;

impl HealthCheck for HangingCheck {
    fn name(&self) -> &'static str {
        "listener"
    }

    fn check(&self) -> BoxFuture<'_, CheckResult> {
        std::future::pending().boxed()
    }
}

#[tokio::test]
async fn health_combines_all_checks() {
    let healthy =
        || Arc::new(FixedCheck("database", CheckResult::healthy().with("pool", 4))) as Arc<dyn HealthCheck>;
    let unhealthy =
        Arc::new(FixedCheck("listener", CheckResult::unhealthy("disconnected"))) as Arc<dyn HealthCheck>;
    for (checks, expected, status_text) in [
        (vec![healthy()], StatusCode::OK, "ok"),
        (vec![healthy(), unhealthy], StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    ] {
        let router = router_with(checks, &HttpSettings::default());
        let (status, headers, body) = send(router, get_request("/api/v1/system/health")).await;
        let report: Value = serde_json::from_str(&body).expect("is JSON");
        assert_eq!((status, report["status"].as_str()), (expected, Some(status_text)));
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(report["checks"]["database"]["ok"], true);
        assert_eq!(report["checks"]["database"]["pool"], 4);
        assert!(report["checks"]["database"]["latency_ms"].is_u64());
        assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
        assert!(report["timestamp"].as_str().is_some_and(|text| text.ends_with('Z')));
    }
}

#[tokio::test]
async fn hanging_check_times_out() {
    let router = router_with(vec![Arc::new(HangingCheck)], &HttpSettings::default());
    let (status, _, body) = send(router, get_request("/api/v1/system/health")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("timed out"), "{body}");
}
