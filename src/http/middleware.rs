//! Middleware of all requests: see [`apply`].

use std::{str::FromStr, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, Version, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use clap::ArgAction;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};
use tracing::{Instrument, field};
use uuid::Uuid;

use super::{ApiError, body::BodyLimit};
use crate::{
    settings::{boolean, comma_separated, defaults},
    telemetry::{metric, traces},
};

const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Maximum length in bytes of a request ID that a client sends.
const MAX_REQUEST_ID_BYTES: usize = 64;
/// Time that browsers may cache a preflight response.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// Origins that browsers may call from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// All origins, written as `*`.
    Any,
    List(Vec<HeaderValue>),
}

impl CorsOrigins {
    /// The listed origins; none for [`CorsOrigins::Any`].
    #[must_use]
    pub fn listed(&self) -> &[HeaderValue] {
        match self {
            Self::Any => &[],
            Self::List(origins) => origins,
        }
    }
}

/// Settings for calls from browsers.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Browsers")]
pub struct CorsSettings {
    /// Comma-separated origins that browsers may call from, or * for all
    #[arg(
        id = "cors-origins",
        long = "cors-origins",
        alias = "cors-origin",
        env = "CORS_ORIGINS",
        default_value = "*"
    )]
    pub origins: CorsOrigins,
    /// Allow browsers to send credentials; requires CORS_ORIGINS to list origins
    // With `CorsOrigins::Any`, the request's origin is echoed; `config` rejects the combination.
    #[arg(
        id = "cors-credentials",
        long = "cors-credentials",
        env = "CORS_CREDENTIALS",
        default_value = "false",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub credentials: bool,
}

impl CorsSettings {
    /// No page of another origin may read responses.
    #[must_use]
    pub const fn no_origin() -> Self {
        Self { origins: CorsOrigins::List(Vec::new()), credentials: false }
    }
}

/// The text is neither `*` nor a list of origins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be * or a comma-separated list of origins such as https://app.example.com (got {0:?})")]
pub struct InvalidOrigin(String);

impl FromStr for CorsOrigins {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let origins: Vec<_> = comma_separated(text).map(parse_origin).collect::<Result<_, _>>()?;
        if origins.is_empty() { Err(InvalidOrigin(text.into())) } else { Ok(Self::List(origins)) }
    }
}

/// Parses an origin as browsers send it: scheme, host and optional port.
fn parse_origin(origin: &str) -> Result<HeaderValue, InvalidOrigin> {
    let invalid = || InvalidOrigin(origin.into());
    // Browsers send origins without a trailing slash, but users often write one.
    let origin = origin.strip_suffix('/').unwrap_or(origin);
    let (scheme, host) = origin.split_once("://").ok_or_else(invalid)?;
    let is_host = !host.is_empty() && !host.contains(['/', '?', '#', '@', '*', ' ']);
    let is_scheme =
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if !is_host || !is_scheme {
        return Err(invalid());
    }
    HeaderValue::from_str(&origin.to_ascii_lowercase()).map_err(|_| invalid())
}

/// Settings of the middleware; see [`apply`].
#[derive(Debug, Clone)]
pub struct HttpSettings {
    pub cors: CorsSettings,
    pub body_limit: BodyLimit,
    /// Timeout until the response head; streams and sockets may continue after it.
    pub request_timeout: Duration,
    /// Routes (as registered, such as `/api/v1/ai/chat`) with a longer timeout.
    pub slow_routes: Vec<(&'static str, Duration)>,
    /// Cancelled when the server stops accepting new work.
    pub stopping: CancellationToken,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            cors: defaults(),
            body_limit: BodyLimit::default(),
            request_timeout: Duration::from_secs(30),
            slow_routes: Vec::new(),
            stopping: CancellationToken::new(),
        }
    }
}

/// ID of a request, in its extensions and in the response header `x-request-id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub String);

/// Applies the middleware to a complete router. From outermost to innermost:
///
/// 1. ID, span and metrics, which cover all responses, including rejections;
/// 2. CORS, so that pages can read errors too;
/// 3. rejection while stopping, 4. panics, 5. timeout, 6. body limit, 7. routes, with 404 and 405 in the
///    error envelope.
///
/// Call it last: routes added later do not get the middleware.
pub fn apply(router: Router, settings: &HttpSettings) -> Router {
    let timeouts = RequestTimeouts { default: settings.request_timeout, slow: settings.slow_routes.clone() };
    router
        .fallback(|| async { ApiError::NotFound })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .layer(settings.body_limit.layer())
        // For axum's own extractors.
        .layer(DefaultBodyLimit::max(settings.body_limit.0))
        .layer(middleware::from_fn_with_state(timeouts, enforce_timeout))
        .layer(CatchPanicLayer::custom(panic_response))
        .layer(middleware::from_fn_with_state(settings.stopping.clone(), reject_while_stopping))
        .layer(cors(&settings.cors))
        .layer(middleware::from_fn(instrument_request))
}

fn cors(settings: &CorsSettings) -> CorsLayer {
    let origin = match &settings.origins {
        // Browsers reject `*` together with credentials.
        CorsOrigins::Any if settings.credentials => AllowOrigin::mirror_request(),
        CorsOrigins::Any => AllowOrigin::any(),
        CorsOrigins::List(origins) => AllowOrigin::list(origins.iter().cloned()),
    };
    CorsLayer::new()
        .allow_origin(origin)
        .allow_credentials(settings.credentials)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            HeaderName::from_static("apikey"),
            HeaderName::from_static("x-client-info"),
            HeaderName::from_static("x-use-dynamic-context"),
            HeaderName::from_static("x-device-id"),
            HeaderName::from_static("last-event-id"),
        ])
        .expose_headers([
            REQUEST_ID_HEADER,
            header::RETRY_AFTER,
            HeaderName::from_static("ratelimit-limit"),
            HeaderName::from_static("ratelimit-remaining"),
            HeaderName::from_static("ratelimit-reset"),
        ])
        .max_age(PREFLIGHT_MAX_AGE)
}

fn panic_response(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown panic payload");
    ApiError::Internal(anyhow::anyhow!("a handler panicked: {text}")).into_response()
}

/// Routes that still work while the server stops: load balancers and scrapers need them.
const SERVED_WHILE_STOPPING: [&str; 8] = [
    "/healthcheck",
    "/livez",
    "/readyz",
    "/version",
    "/metrics",
    "/api/v1/system/health",
    "/api/v1/system/metrics",
    "/realtime/v1/api/health",
];

/// Rejects requests after the soft stop, before a handler runs.
async fn reject_while_stopping(
    State(stopping): State<CancellationToken>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    if !stopping.is_cancelled() || route.is_some_and(|route| SERVED_WHILE_STOPPING.contains(&route)) {
        return next.run(request).await;
    }
    let error = ApiError::ServiceUnavailable {
        message: "the server is shutting down; try again".into(),
        source: None,
    };
    let mut response = error.into_response();
    // HTTP/2 has no such header; the drain closes its connections.
    if request.version() <= Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[derive(Clone)]
struct RequestTimeouts {
    default: Duration,
    slow: Vec<(&'static str, Duration)>,
}

async fn enforce_timeout(State(timeouts): State<RequestTimeouts>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let slow = timeouts.slow.iter().find(|(path, _)| route == Some(*path));
    let limit = slow.map_or(timeouts.default, |(_, limit)| *limit);
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::ServiceUnavailable {
            message: "the request timed out; try again later".into(),
            source: Some(anyhow::anyhow!("no response within {limit:?}")),
        }
        .into_response(),
    }
}

/// Assigns an ID and a span and records metrics. The span holds the route's pattern, not the path or query
/// string, which may contain IDs and tokens.
async fn instrument_request(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    let method = method_label(request.method());
    // The pattern comes from the router, so clients cannot create label values.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!(
        "http.request",
        http.method = method,
        http.route = route,
        request.id = id,
        http.status = field::Empty,
        duration_ms = field::Empty,
        otel.name = field::Empty,
        otel.kind = field::Empty,
        otel.status_code = field::Empty,
    );
    traces::set_remote_parent(&span, request.headers(), method, &route);
    request.extensions_mut().insert(RequestId(id.clone()));

    let mut response = next.run(request).instrument(span.clone()).await;

    let (status, elapsed) = (response.status().as_u16(), started.elapsed());
    span.record("http.status", status);
    span.record("duration_ms", elapsed.as_secs_f64() * 1_000.0);
    if status >= 500 {
        traces::mark_failed(&span);
    }
    span.in_scope(|| tracing::debug!("request completed"));
    metrics::histogram!(metric::HTTP_REQUEST_SECONDS, "route" => route.clone()).record(elapsed);
    metrics::counter!(metric::HTTP_REQUESTS, "route" => route, "method" => method, "status" => status.to_string())
        .increment(1);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID_HEADER, id);
    }
    response
}

/// The client's request ID if it consists of safe characters, otherwise a new one.
fn request_id(request: &Request) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let client_id = request.headers().get(REQUEST_ID_HEADER).and_then(|value| value.to_str().ok());
    match client_id {
        Some(id) if (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.chars().all(is_safe) => {
            id.to_owned()
        }
        _ => Uuid::now_v7().to_string(),
    }
}

/// Method label; bounded, because clients can invent methods.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_parsed_strictly() {
        assert_eq!("*".parse(), Ok(CorsOrigins::Any));
        let list = |all: &[&'static str]| {
            Ok(CorsOrigins::List(all.iter().map(|one| HeaderValue::from_static(one)).collect()))
        };
        assert_eq!(
            "https://A.example/, http://localhost:3000".parse(),
            list(&["https://a.example", "http://localhost:3000"])
        );
        assert_eq!("tauri://localhost".parse(), list(&["tauri://localhost"]));
        for text in ["", ",", "*,https://a.example", "a.example", "https://a.example/x", "https://*.example"]
        {
            assert!(text.parse::<CorsOrigins>().is_err(), "{text:?}");
        }
    }
}
