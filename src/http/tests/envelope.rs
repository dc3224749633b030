//! Every error uses the envelope.

use super::*;

#[tokio::test]
async fn errors_use_the_envelope_and_name_the_field() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let untyped = Request::post("/update").body(Body::from(r#"{"status":"away"}"#)).expect("is a request");
    let plain = with_header(
        Request::post("/update").body(Body::from(r#"{"status":"away"}"#)).expect("is a request"),
        "content-type",
        "text/plain",
    );
    let delete = Request::delete("/list").body(Body::empty()).expect("is a request");
    const BAD: (u16, &str) = (400, "INVALID_REQUEST");
    const OUTSIDE: (u16, &str) = (422, "UNPROCESSABLE");
    for (request, expected, field) in [
        (post_json("/update", ""), BAD, None),
        (post_json("/update", "{"), BAD, None),
        (post_json("/update", r#"{"status":"away"} x"#), BAD, None),
        (post_json("/update", "{status: 1}"), BAD, None),
        (post_json("/update", "[1]"), BAD, Some("")),
        (post_json("/update", r#" ["away"]"#), BAD, Some("")),
        (post_json("/update", "null"), BAD, Some("")),
        (post_json("/update", "{}"), BAD, Some("status")),
        (post_json("/update", r#"{"status":5}"#), BAD, Some("status")),
        (post_json("/update", r#"{"status":"away","status":"dnd"}"#), BAD, Some("status")),
        (post_json("/update", r#"{"status":null}"#), BAD, Some("status")),
        (post_json("/update", r#"{"status":["away"]}"#), BAD, Some("status")),
        (post_json("/update", r#"{"status":{"away":1}}"#), BAD, Some("status")),
        (post_json("/update", r#"{"status":{"$ne":null}}"#), BAD, Some("status")),
        (post_json("/update", r#"{"status":"away","pages":[["/"]]}"#), BAD, Some("pages[0]")),
        (post_json("/update", r#"{"status":away}"#), BAD, None),
        (post_json("/update", r#"{"status":"idle"}"#), OUTSIDE, Some("status")),
        (post_json("/update", format!(r#"{{"status":"{}"}}"#, "x".repeat(10_000))), OUTSIDE, Some("status")),
        (post_json("/update", r#"{"status":"away","custom_status":7}"#), BAD, Some("custom_status")),
        (post_json("/update", r#"{"status":"away","custom_status":"123456"}"#), BAD, Some("custom_status")),
        (post_json("/update", r#"{"status":"away","custom_status":"a\u0000"}"#), BAD, None),
        (post_json("/update", r#"{"status":"away","pages":[{"path":"/"},{}]}"#), BAD, Some("pages[1].path")),
        (post_json("/update", r#"{"status":"away","pages":[{"path":1}]}"#), BAD, Some("pages[0].path")),
        (post_json("/update", r#"{"status":"away","pages":[{"path":""}]}"#), BAD, Some("pages[0].path")),
        (post_json("/update", &b"{\"status\":\"\xff\"}"[..]), BAD, None),
        (post_json("/update", &b"{\"status\":\"away\",\"unknown\":\"\xff\"}"[..]), BAD, None),
        (post_json("/update", deep(10_000)), BAD, Some("")),
        (post_json("/update", format!(r#"{{"status":{}}}"#, deep(10_000))), BAD, Some("status")),
        (post_json("/any", format!(r#"{{"a":{}}}"#, deep(10_000))), BAD, None),
        (post_json("/update", format!(r#"{{"status":"away","unknown":{}}}"#, deep(129))), BAD, None),
        (post_json("/any", format!(r#"{{"a":{}"#, "[".repeat(10_000))), BAD, None),
        (post_json("/any", format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000))), BAD, None),
        (post_json("/any", r#"{"a":"\ud800"}"#), BAD, None),
        (post_json("/any", "1e999"), BAD, None),
        (post_json("/any", format!("\"{}\"", "x".repeat(64 * 1024))), (413, "PAYLOAD_TOO_LARGE"), None),
        (post_json("/large", format!("\"{}\"", "x".repeat(1024 * 1024))), (413, "PAYLOAD_TOO_LARGE"), None),
        (untyped, (415, "UNSUPPORTED_MEDIA_TYPE"), None),
        (plain, (415, "UNSUPPORTED_MEDIA_TYPE"), None),
        (get_request("/list"), BAD, Some("limit")),
        (get_request("/list?limit=x"), BAD, Some("limit")),
        (get_request("/list?limit=-1"), BAD, Some("limit")),
        (get_request("/list?limit=1&limit=2"), BAD, Some("limit")),
        (get_request("/list?limit=1&x=%00"), BAD, None),
        (get_request("/users/bob"), BAD, Some("user_id")),
        (get_request("/users/%ff"), BAD, Some("user_id")),
        (get_request("/users/%00"), BAD, None),
        (get_request("/nowhere"), (404, "NOT_FOUND"), None),
        (delete, (405, "METHOD_NOT_ALLOWED"), None),
        (get_request("/who"), (401, "UNAUTHORIZED"), None),
        (with_header(get_request("/who"), "authorization", "Bearer x"), (401, "INVALID_TOKEN"), None),
        (with_header(get_request("/who"), "authorization", "Basic eDp5"), (401, "INVALID_TOKEN"), None),
        (with_header(get_request("/limited"), "apikey", "sb_anon"), (401, "UNAUTHORIZED"), None),
        (with_header(get_request("/device"), "x-device-id", &"x".repeat(256)), BAD, Some("X-Device-ID")),
        (with_header(get_request("/device"), "x-device-id", ""), BAD, Some("X-Device-ID")),
        (get_request("/panic"), (500, "INTERNAL_ERROR"), None),
        (get_request("/internal"), (500, "INTERNAL_ERROR"), None),
        (get_request("/database"), (503, "DATABASE_CONNECTION_ERROR"), None),
        (get_request("/metrics"), (401, "UNAUTHORIZED"), None),
        (from_peer(get_request("/metrics"), "127.0.0.1:1"), (404, "NOT_FOUND"), None),
        (get_request("/api/v1/system/metrics"), (401, "UNAUTHORIZED"), None),
    ] {
        let what = request.uri().to_string();
        let (envelope, headers) = expect_error(router(), request, expected).await;
        assert!(envelope.to_string().len() < 1_000, "{what} answers at length: {envelope}");
        for secret in ["hunter2", "10.0.0.7", "ingredient", "src/"] {
            assert!(!envelope.to_string().contains(secret), "{what}: {envelope}");
        }
        assert_eq!(headers.contains_key(header::WWW_AUTHENTICATE), expected.0 == 401, "{what}");
        match field {
            // The error is about the whole body.
            Some("") => assert_eq!(envelope["details"][0]["field"], "", "{what}: {envelope}"),
            Some(field) => {
                let reported = envelope["details"][0]["field"].as_str().unwrap_or_default();
                assert_eq!(reported, field, "{what}: {envelope}");
                assert!(envelope["details"][0]["message"].as_str().is_some_and(|text| !text.is_empty()));
            }
            None => assert_eq!(envelope.get("details"), None, "{what}: {envelope}"),
        }
    }
}

#[tokio::test]
async fn valid_requests_succeed() {
    for (request, expected) in [
        (post_json("/update", r#"{"status":"dnd","custom_status":"tea","extra":{"x":[1]}}"#), "dnd"),
        (post_json("/any", format!(r#"{{"a":{}{}}}"#, "[".repeat(100), "]".repeat(100))), r#"{"a":[["#),
        (post_json("/large", format!("\"{}\"", "x".repeat(1000 * 1024))), "\"x"),
        (get_request("/list?limit=5&more=1"), "ok"),
        (get_request(&format!("/users/{SUB}")), SUB),
        (with_header(get_request("/device"), "x-device-id", "web-1"), "web-1"),
        (get_request("/device"), ""),
        (get_request("/healthcheck"), "ok"),
        (with_header(get_request("/who"), "apikey", "sb_anon"), "anon"),
    ] {
        let what = request.uri().to_string();
        let (status, _, body) = send(router(), request).await;
        assert_eq!(status, StatusCode::OK, "{what}: {body}");
        assert!(body.starts_with(expected), "{what}");
    }
}

#[tokio::test]
async fn method_not_allowed_lists_allowed_methods() {
    let (_, headers) = expect_error(router(), get_request("/update"), (405, "METHOD_NOT_ALLOWED")).await;
    assert_eq!(headers[header::ALLOW], "POST");
}

#[tokio::test]
async fn client_can_read_413_after_an_oversized_body() {
    // Without draining, the connection is reset.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let url = format!("http://{}/any", listener.local_addr().expect("is bound"));
    let server = tokio::spawn(async move { axum::serve(listener, router()).await });
    // Building a client needs the process's TLS provider, which `Verifier` installs.
    app(Vec::new());
    let response = reqwest::Client::new()
        .post(url)
        .header("content-type", "application/json")
        .body(vec![b'x'; 4 * 1024 * 1024])
        .send()
        .await
        .expect("is answered");
    assert_eq!(response.status().as_u16(), 413);
    let envelope: Value = response.json().await.expect("is the envelope");
    assert_eq!(envelope["error"], "PAYLOAD_TOO_LARGE");
    server.abort();
}

#[test]
fn error_codes_map_to_their_status() {
    let cause = || anyhow::anyhow!("a cause");
    for (error, code, status) in [
        (ApiError::bad_request("x"), "INVALID_REQUEST", 400),
        (ApiError::unprocessable("status", "x"), "UNPROCESSABLE", 422),
        (AuthError::Missing.into(), "UNAUTHORIZED", 401),
        (AuthError::Expired.into(), "INVALID_TOKEN", 401),
        (ApiError::forbidden("x"), "FORBIDDEN", 403),
        (ApiError::NotFound, "NOT_FOUND", 404),
        (ApiError::Conflict("x".into()), "CONFLICT", 409),
        (ApiError::DuplicatePresence, "DUPLICATE_PRESENCE", 409),
        (ApiError::TooManyDevices, "TOO_MANY_DEVICES", 409),
        (ApiError::InvalidReference("x".into()), "INVALID_REFERENCE", 400),
        (ApiError::PayloadTooLarge { limit: 1 }, "PAYLOAD_TOO_LARGE", 413),
        (ApiError::Internal(cause()), "INTERNAL_ERROR", 500),
        (ApiError::unavailable("x"), "SERVICE_UNAVAILABLE", 503),
        (ApiError::ContextEngine { source: cause() }, "CONTEXT_ENGINE_ERROR", 503),
        (ApiError::SimpleEngine { source: cause() }, "LEGACY_ENGINE_ERROR", 500),
        (ApiError::DatabaseUnavailable { source: cause() }, "DATABASE_CONNECTION_ERROR", 503),
    ] {
        let (found, with) = error.code_and_status();
        assert_eq!((found.as_str(), with.as_u16()), (code, status));
        assert_eq!(found.status(), Some(status));
    }
}
