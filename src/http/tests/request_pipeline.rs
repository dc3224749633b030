//! Middleware: IDs, timeouts, CORS, metrics and the log.

use super::*;

#[tokio::test]
async fn slow_route_times_out_unless_exempt() {
    let settings = HttpSettings {
        request_timeout: Duration::from_millis(50),
        slow_routes: vec![("/slower", Duration::from_secs(30))],
        ..HttpSettings::default()
    };
    let router = router_with(Vec::new(), &settings);
    expect_error(router.clone(), get_request("/slow"), (503, "SERVICE_UNAVAILABLE")).await;
    assert_eq!(send(router, get_request("/slower")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn plain_request_ids_are_kept() {
    let long = "x".repeat(65);
    for (sent, kept) in [("trace-1.a_B", true), ("a b", false), ("a\tb", false), (&long, false), ("", false)]
    {
        let (_, headers, body) = send(router(), with_header(get_request("/id"), "x-request-id", sent)).await;
        assert_eq!(headers["x-request-id"], body.as_str());
        assert_eq!(body == sent, kept, "{sent:?} became {body:?}");
        assert!(!body.is_empty());
    }
}

#[tokio::test]
async fn cors_headers_follow_the_settings() {
    let preflight = |origin: &str| {
        Request::builder()
            .method(Method::OPTIONS)
            .uri("/update")
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,x-device-id")
            .body(Body::empty())
            .expect("is a request")
    };
    for (origins, credentials, origin, allowed) in [
        ("*", false, "https://a.example", Some("*")),
        ("*", true, "https://a.example", Some("https://a.example")),
        ("https://a.example,https://b.example", true, "https://b.example", Some("https://b.example")),
        ("https://a.example", false, "https://evil.example", None),
    ] {
        let settings = HttpSettings {
            cors: CorsSettings { origins: origins.parse().expect("are origins"), credentials },
            ..HttpSettings::default()
        };
        let router = router_with(Vec::new(), &settings);
        let (status, headers, _) = send(router, preflight(origin)).await;
        assert_eq!(status, StatusCode::OK);
        let text = |name: &str| headers.get(name).map(|value| value.to_str().expect("is text"));
        assert_eq!(text("access-control-allow-origin"), allowed, "{origins}");
        assert_eq!(text("access-control-allow-credentials"), credentials.then_some("true"));
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            assert!(text("access-control-allow-methods").is_some_and(|all| all.contains(method)));
        }
        for name in ["content-type", "authorization", "apikey", "x-client-info", "x-use-dynamic-context"] {
            assert!(text("access-control-allow-headers").is_some_and(|all| all.contains(name)), "{name}");
        }
        assert!(text("x-request-id").is_some());
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_pattern() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    send(router(), get_request(&format!("/users/{SUB}?token=secret"))).await;
    send(router(), get_request("/no/such/path")).await;
    let custom_method =
        Request::builder().method("BREW").uri("/list").body(Body::empty()).expect("is a request");
    send(router(), custom_method).await;
    let text = handle.render();
    assert!(
        text.contains(
            r#"rollcall_http_requests_total{route="/users/{user_id}",method="GET",status="200"} 1"#
        ),
        "{text}"
    );
    assert!(text.contains(r#"route="unmatched",method="GET",status="404""#), "{text}");
    assert!(text.contains(r#"method="OTHER",status="405""#), "{text}");
    assert!(text.contains("rollcall_http_request_seconds"), "{text}");
    assert!(!text.contains("secret") && !text.contains(SUB) && !text.contains("BREW"), "{text}");
}

/// Collects the log of this thread.
#[derive(Clone, Default)]
struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn internal_errors_are_logged_once_without_tokens() {
    let log = LogBuffer::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    for path in ["/internal?token=eyJsecret", "/panic"] {
        let request = with_header(get_request(path), "authorization", "Bearer eyJsecret");
        send(router(), with_header(request, "x-request-id", "trace-7")).await;
    }
    drop(guard);
    let text = String::from_utf8(log.0.lock().clone()).expect("is text");
    for cause in ["hunter2", "ingredient"] {
        let lines: Vec<_> = text.lines().filter(|line| line.contains(cause)).collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert!(lines[0].contains("ERROR") && lines[0].contains("trace-7"), "{text}");
    }
    assert!(!text.contains("eyJsecret"), "{text}");
}
