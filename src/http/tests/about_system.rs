//! Health.

use super::*;

struct Fixed(&'static str, Reading);

impl Probe for Fixed {
    fn name(&self) -> &'static str {
        self.0
    }

    fn check(&self) -> BoxFuture<'_, Reading> {
        async { self.1.clone() }.boxed()
    }
}

struct Hanging;

impl Probe for Hanging {
    fn name(&self) -> &'static str {
        "listener"
    }

    fn check(&self) -> BoxFuture<'_, Reading> {
        std::future::pending().boxed()
    }
}

#[tokio::test]
async fn health_is_the_sum_of_the_probes() {
    let well = || Arc::new(Fixed("database", Reading::well().with("pool", 4))) as Arc<dyn Probe>;
    let unwell = Arc::new(Fixed("listener", Reading::unwell("reconnecting"))) as Arc<dyn Probe>;
    for (probes, expected, word) in [
        (vec![well()], StatusCode::OK, "ok"),
        (vec![well(), unwell], StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    ] {
        let router = router_with(probes, &HttpSettings::default());
        let (status, headers, body) = send(router, get_request("/api/v1/system/health")).await;
        let report: Value = serde_json::from_str(&body).expect("is JSON");
        assert_eq!((status, report["status"].as_str()), (expected, Some(word)));
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(report["checks"]["database"]["ok"], true);
        assert_eq!(report["checks"]["database"]["pool"], 4);
        assert!(report["checks"]["database"]["latency_ms"].is_u64());
        assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
        assert!(report["timestamp"].as_str().is_some_and(|text| text.ends_with('Z')));
    }
}

#[tokio::test]
async fn a_probe_that_hangs_is_not_waited_for() {
    let router = router_with(vec![Arc::new(Hanging)], &HttpSettings::default());
    let (status, _, body) = send(router, get_request("/api/v1/system/health")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("no answer in time"), "{body}");
}
