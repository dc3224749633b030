//! A small application that uses the extractors and middleware.

mod envelope;
mod health;
mod identification;
mod request_pipeline;

use std::{collections::HashMap, io::Write, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, FromRef, State},
    http::{HeaderMap, Method, Request, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::{FutureExt, future::BoxFuture};
use garde::Validate;
use metrics_exporter_prometheus::PrometheusBuilder;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt;
use utoipa::ToSchema;

use super::{
    body::BodyLimit,
    middleware::{CorsSettings, HttpSettings, RequestId, apply},
    system::{CheckResult, HealthCheck, System},
    *,
};
use crate::{
    auth::{AuthError, Role, Verifier, VerifierSettings, token},
    clock::SystemClock,
    limits::{LimitClass, LimitSettings, RateLimiter},
    model::{Status, UserId},
};

const SECRET: &str = "a-secret-of-more-than-32-bytes-for-tests";
const SUB: &str = "6f1c2b1e-0000-4000-8000-000000000001";

#[derive(Clone)]
struct App {
    verifier: Arc<Verifier>,
    gateway: Arc<GatewayPolicy>,
    metrics: Arc<MetricsPolicy>,
    system: Arc<System>,
    limits: Arc<RateLimiter>,
}

macro_rules! part_of_app {
    ($($field:ident: $type:ty),*) => {$(
        impl FromRef<App> for Arc<$type> {
            fn from_ref(app: &App) -> Self {
                Arc::clone(&app.$field)
            }
        }
    )*};
}
part_of_app!(verifier: Verifier, gateway: GatewayPolicy, metrics: MetricsPolicy, system: System, limits: RateLimiter);

#[derive(Debug, Deserialize, Validate, ToSchema)]
struct Update {
    #[garde(skip)]
    status: Status,
    #[garde(length(chars, max = 5))]
    custom_status: Option<String>,
    #[garde(dive)]
    pages: Option<Vec<Page>>,
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
struct Page {
    #[garde(length(min = 1))]
    path: String,
}

#[derive(Debug, Deserialize)]
struct Filter {
    #[expect(dead_code, reason = "it is read for its errors")]
    limit: u32,
}

async fn limited(
    Authenticated(caller): Authenticated,
    State(limits): State<Arc<RateLimiter>>,
) -> Result<impl IntoResponse, ApiError> {
    let allowance = limits.check(LimitClass::PresenceUpdate, caller.require_user()?)?;
    Ok((allowance, "ok"))
}

fn app(probes: Vec<Arc<dyn HealthCheck>>) -> App {
    let settings = VerifierSettings {
        jwt_secret: Some(SECRET.into()),
        api_keys: HashMap::from([("sb_anon".into(), Role::Anon)]),
        ..VerifierSettings::default()
    };
    App {
        verifier: Arc::new(Verifier::new(settings, Arc::new(SystemClock)).expect("are good settings")),
        gateway: Arc::new(GatewayPolicy { trust: true, ..GatewayPolicy::default() }),
        metrics: Arc::new(MetricsPolicy::default()),
        system: Arc::new(System::new(probes, None, Arc::new(SystemClock))),
        limits: Arc::new(RateLimiter::new(LimitSettings::default())),
    }
}

fn router_with(probes: Vec<Arc<dyn HealthCheck>>, settings: &HttpSettings) -> Router {
    let router = Router::new()
        .route("/update", post(|ValidJson(update): ValidJson<Update>| async move { update.status.as_str() }))
        .route("/any", post(|Json(value): Json<Value>| async move { Json(value) }))
        .route(
            "/large",
            post(|Json(value): Json<Value>| async move { Json(value) }).layer(BodyLimit(1024 * 1024).layer()),
        )
        .route("/list", get(|Query(_): Query<Filter>| async { "ok" }))
        .route("/users/{user_id}", get(|Path(id): Path<UserId>| async move { id.to_string() }))
        .route(
            "/who",
            get(|Authenticated(caller): Authenticated| async move {
                format!("{} {}", caller.role, caller.user_id.map(|id| id.to_string()).unwrap_or_default())
            }),
        )
        .route(
            "/device",
            get(|DeviceHeader(device): DeviceHeader| async move {
                device.map(|device| device.to_string()).unwrap_or_default()
            }),
        )
        .route("/limited", get(limited))
        .route("/panic", get(|| async { panic_on_purpose() }))
        .route(
            "/internal",
            get(|| async { Err::<(), _>(ApiError::Internal(anyhow::anyhow!("password=hunter2"))) }),
        )
        .route(
            "/database",
            get(|| async {
                Err::<(), _>(ApiError::DatabaseUnavailable { source: anyhow::anyhow!("10.0.0.7 refused") })
            }),
        )
        .route("/slow", get(|| async { tokio::time::sleep(Duration::from_millis(300)).await }))
        .route("/slower", get(|| async { tokio::time::sleep(Duration::from_millis(300)).await }))
        .route("/id", get(|axum::Extension(RequestId(id)): axum::Extension<RequestId>| async move { id }))
        .merge(Router::from(system::routes()))
        .with_state(app(probes));
    apply(router, settings)
}

fn router() -> Router {
    router_with(Vec::new(), &HttpSettings::default())
}

fn panic_on_purpose() -> &'static str {
    panic!("the secret ingredient")
}

async fn send(router: Router, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
    let response: Response = router.oneshot(request).await.expect("is infallible");
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("is in memory");
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).expect("is text"))
}

fn get_request(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).expect("is a request")
}

fn post_json(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.into())
        .expect("is a request")
}

fn with_header(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().append(name, value.parse().expect("is a value"));
    request
}

fn from_peer(mut request: Request<Body>, peer: &str) -> Request<Body> {
    let peer: SocketAddr = peer.parse().expect("is an address");
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

/// Asserts the properties of every error response; returns the envelope and the headers.
async fn expect_error(router: Router, request: Request<Body>, expected: (u16, &str)) -> (Value, HeaderMap) {
    let what = format!("{} {}", request.method(), request.uri());
    let (status, headers, body) = send(router, request).await;
    let envelope: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{what}: {body}"));
    let found = (status.as_u16(), envelope["error"].as_str().unwrap_or_default());
    assert_eq!(found, expected, "{what}: {body}");
    assert_eq!(envelope["success"], false, "{what}");
    assert_eq!(envelope["statusCode"], status.as_u16(), "{what}");
    assert_eq!(envelope["doc_url"], format!("/docs/errors#{}", found.1), "{what}");
    assert!(envelope["message"].as_str().is_some_and(|text| !text.is_empty()), "{what}");
    assert_eq!(headers[header::CONTENT_TYPE], "application/json", "{what}");
    assert!(headers.contains_key("x-request-id"), "{what}");
    assert_eq!(headers["access-control-allow-origin"], "*", "{what}");
    assert_eq!(headers.contains_key(header::RETRY_AFTER), matches!(status.as_u16(), 429 | 503), "{what}");
    (envelope, headers)
}
