//! Who may read the metrics, and what the admin port serves.

use std::sync::Arc;

use reqwest::Method;
use rollcall::app::openapi_document;
use serde_json::json;
use testkit::{
    client::send,
    harness::{TestDatabase, TestServer, User, mint_token, service_user, unix_time_in},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use uuid::Uuid;

const PATHS: [&str; 2] = ["/metrics", "/api/v1/system/metrics"];

/// Status of the response to a request with one header.
async fn status(node: &TestServer, path: &str, header: (&str, &str)) -> u16 {
    send(node.request(Method::GET, path).header(header.0, header.1)).await.status.as_u16()
}

#[testkit::test]
async fn metrics_need_the_service_role_or_a_configured_network(db: Arc<TestDatabase>) {
    let local = db.start_server().await;
    // All requests of this test come from loopback, which is no network of these servers.
    let remote = db.start_server_with(|settings| settings.set("METRICS_NETWORKS", "10.0.0.0/8")).await;
    let closed = db.start_server_with(|settings| settings.set("METRICS_NETWORKS", "none")).await;
    let anon = mint_token(&json!({"role": "anon", "exp": unix_time_in(3_600)}));
    let expired = mint_token(&json!({"role": "service_role", "exp": unix_time_in(-60)}));
    for path in PATHS {
        assert_eq!(status(&local, path, ("accept", "text/plain")).await, 200, "{path}");
        for node in [&remote, &closed] {
            send(node.request(Method::GET, path)).await.expect_error(401, "UNAUTHORIZED");
        }
        for node in [&local, &remote, &closed] {
            assert_eq!(node.get(&service_user(), path).await.status, 200, "{path}");
            node.get(&User::new(), path).await.expect_error(403, "FORBIDDEN");
            send(node.request(Method::GET, path).bearer_auth(&anon)).await.expect_error(403, "FORBIDDEN");
            assert_eq!(status(node, path, ("apikey", &expired)).await, 401, "{path}");
            assert_eq!(status(node, path, ("apikey", "guess")).await, 401, "{path}");
        }
    }
}

#[testkit::test]
async fn proxies_and_pages_on_this_machine_do_not_open_the_metrics(db: Arc<TestDatabase>) {
    let node = db.start_server().await;
    for path in PATHS {
        for header in [
            ("forwarded", "for=192.0.2.1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "presence.example"),
            ("x-real-ip", "192.0.2.1"),
            ("via", "1.1 proxy"),
            ("origin", "https://elsewhere.example"),
            ("sec-fetch-site", "cross-site"),
        ] {
            assert_eq!(status(&node, path, header).await, 401, "{path} {header:?}");
        }
        let proxied = node.request(Method::GET, path).header("x-forwarded-for", "192.0.2.1");
        assert_eq!(send(proxied.bearer_auth(&service_user().token)).await.status, 200, "{path}");

        // As nginx forwards by default: in HTTP/1.0, without a header about the client.
        let mut socket = TcpStream::connect(node.address).await.expect("a connection");
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n", node.address);
        socket.write_all(request.as_bytes()).await.expect("is sent");
        let mut response = String::new();
        socket.read_to_string(&mut response).await.expect("a response");
        assert_eq!(response.split(' ').nth(1), Some("401"), "{path}: {response}");
    }
}

#[testkit::test]
async fn a_user_of_a_trusted_gateway_does_not_read_the_metrics(db: Arc<TestDatabase>) {
    let node = db.start_server_with(|settings| settings.set("TRUST_GATEWAY_HEADERS", "true")).await;
    let user = Uuid::new_v4().to_string();
    for path in PATHS {
        assert_eq!(status(&node, path, ("x-user-id", &user)).await, 403, "{path}");
    }
}

#[testkit::test]
async fn the_admin_port_serves_metrics_and_health_only(db: Arc<TestDatabase>) {
    let node = db
        .start_server_with(|settings| {
            settings.set("ADMIN_PORT", "0");
            settings.set("METRICS_NETWORKS", "none");
        })
        .await;
    let metrics = node.get_admin("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    // Pages of other origins cannot read it.
    assert_eq!(metrics.header("access-control-allow-origin"), None);
    assert_eq!(node.get_admin("/livez").await.status, 200);
    let version = node.get_admin("/version").await.expect_status(200);
    assert_eq!(version, json!({"name": "rollcall", "version": env!("CARGO_PKG_VERSION")}));
    let ready = node.get_admin("/readyz").await.expect_status(200);
    assert_eq!((&ready["status"], &ready["checks"]["database"]["ok"]), (&json!("ok"), &json!(true)));

    let document = openapi_document();
    let paths = document["paths"].as_object().expect("paths").keys().map(String::as_str);
    let served = ["/metrics", "/livez", "/readyz", "/version"];
    for path in paths.filter(|path| !served.contains(path)).chain(["/"]) {
        let path = path.replace(['{', '}'], "");
        node.get_admin(&path).await.expect_error(404, "NOT_FOUND");
    }
    assert!(db.start_server().await.admin_address.is_none());
}
