//! Tokens of the demo users and the service role, for the console of a local demo server.
//!
//! They are served only with an embedded PostgreSQL and `--seed`, on a loopback address, and only to the browser that
//! opened the link which the server printed at its start. The link works once and sets a cookie. Request headers are
//! checked too: foreign pages, including pages with DNS rebinding, can reach loopback, and a reverse proxy makes
//! strangers look local.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use rand::RngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};

use crate::{
    auth::{Role, token::mint},
    clock::Clock,
    http::{ApiError, Json, Query, forwarded::is_forwarded},
    model::{Secret, UserId},
};

/// Lifetime of the tokens in seconds.
const TOKEN_LIFETIME_SECONDS: i64 = 12 * 3_600;
/// Names of the users in `supabase/seed.sql`, in the order of their IDs.
const DEMO_USERS: [&str; 6] = ["Alice", "Bob", "Carol", "Dave", "Erin", "Frank"];

/// Path of the link that is printed at the start.
const LINK_PATH: &str = "/console/demo/link";
/// Cookie of the browser that opened the link.
const COOKIE: &str = "rollcall_demo";

/// Signs tokens of the demo users for one browser.
#[derive(Clone)]
pub struct DemoTokens {
    secret: Secret,
    /// Clock for the expiry.
    clock: Arc<dyn Clock>,
    access: Arc<Mutex<Access>>,
}

/// Who may read the tokens. Values are kept as digests, so that a comparison reveals nothing by its time.
enum Access {
    /// Holder of the link's code.
    Link([u8; 32]),
    /// Browser with this cookie.
    Browser([u8; 32]),
}

impl DemoTokens {
    /// Returns the signer and the path of the link to print. `secret` signs the tokens.
    pub fn new(secret: Secret, clock: Arc<dyn Clock>) -> (Self, String) {
        let code = random_text();
        let access = Arc::new(Mutex::new(Access::Link(digest(&code))));
        (Self { secret, clock, access }, format!("{LINK_PATH}?code={code}"))
    }

    /// Exchanges the link's code for the value of the cookie. Works once.
    fn open(&self, code: &str) -> Option<String> {
        let mut access = self.access.lock();
        if !matches!(&*access, Access::Link(expected) if *expected == digest(code)) {
            return None;
        }
        let cookie = random_text();
        *access = Access::Browser(digest(&cookie));
        Some(cookie)
    }

    /// Whether the request has the cookie of the browser that opened the link.
    fn is_bound_to(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let access = self.access.lock();
        pairs.any(|(name, value)| {
            name == COOKIE && matches!(&*access, Access::Browser(expected) if *expected == digest(value))
        })
    }
}

/// 256 random bits as text for URLs and cookies.
fn random_text() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// Query parameters of the link.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LinkQuery {
    /// Code that the server printed at its start.
    code: String,
}

/// Opens the console of a demo server as its operator.
///
/// The server prints the link at its start. It works once, and sets a cookie with which the console reads the tokens of
/// the demo users. Other servers answer 404, and so do requests with a wrong or used code or through a proxy.
#[utoipa::path(
    get, path = "/console/demo/link", operation_id = "demoLink", tag = "Console",
    params(LinkQuery),
    responses((status = 303, description = "The cookie is set; the console follows.")),
    extensions(("x-access" = json!("open")), ("x-errors" = json!([400, 404]))),
)]
pub async fn open_link(
    State(demo): State<Option<DemoTokens>>,
    Query(query): Query<LinkQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let demo = demo.filter(|_| is_same_origin_on_loopback(&headers)).ok_or(ApiError::NotFound)?;
    let cookie = demo.open(&query.code).ok_or(ApiError::NotFound)?;
    let cookie = format!("{COOKIE}={cookie}; Path=/console/demo; HttpOnly; SameSite=Strict");
    let cookie = HeaderValue::from_str(&cookie).map_err(|error| ApiError::Internal(error.into()))?;
    let headers = [
        (header::SET_COOKIE, cookie),
        (header::LOCATION, HeaderValue::from_static("/")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

/// A user of the demo data.
#[derive(Serialize, ToSchema)]
struct DemoUser {
    /// Name of the demo user.
    name: &'static str,
    /// ID of the demo user (UUID).
    #[schema(value_type = UserId)]
    user_id: String,
    /// Token of the user, valid for 12 hours.
    token: String,
}

/// Tokens of a demo server.
#[derive(Serialize, ToSchema)]
#[schema(as = Demo)]
struct DemoTokensAnswer {
    /// Users of the demo data.
    people: Vec<DemoUser>,
    /// A token of the service role.
    service_token: String,
}

/// Claims of a demo token.
#[derive(Serialize)]
struct DemoClaims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    role: Role,
    exp: i64,
}

/// Returns tokens of the demo users.
///
/// Available only on a demo server on a loopback address, to the browser that opened the link which the server printed
/// at its start, and not through a proxy. Other requests are answered with 404.
#[utoipa::path(
    get, path = "/console/demo", operation_id = "demo", tag = "Console",
    responses((status = 200, description = "Tokens of the demo users.", body = DemoTokensAnswer, example = json!({
        "people": [], "service_token": "eyJhbGciOiJIUzI1NiJ9.e30.x",
    }))),
    extensions(("x-access" = json!("open")), ("x-errors" = json!([404, 500]))),
)]
pub async fn get_tokens(
    State(demo): State<Option<DemoTokens>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let demo = demo
        .filter(|demo| is_same_origin_on_loopback(&headers) && demo.is_bound_to(&headers))
        .ok_or(ApiError::NotFound)?;
    let expires_at = demo.clock.now().as_second() + TOKEN_LIFETIME_SECONDS;
    let sign = |sub: Option<&str>, role: Role| {
        let claims = serde_json::to_value(DemoClaims { sub, role, exp: expires_at })
            .map_err(|error| ApiError::Internal(error.into()))?;
        mint(demo.secret.expose(), &claims).map_err(|error| ApiError::Internal(error.into()))
    };
    let mut users = Vec::with_capacity(DEMO_USERS.len());
    for (index, name) in DEMO_USERS.into_iter().enumerate() {
        let user_id = format!("a0000000-0000-4000-8000-{:012}", index + 1);
        let token = sign(Some(&user_id), Role::Authenticated)?;
        users.push(DemoUser { name, user_id, token });
    }
    let service = sign(None, Role::ServiceRole)?;
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, Json(DemoTokensAnswer { people: users, service_token: service })).into_response())
}

/// Whether the request comes from a page of this server under a loopback name, and not through a proxy.
fn is_same_origin_on_loopback(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text("host").unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    !is_forwarded(headers)
        && matches!(name, "localhost" | "127.0.0.1" | "[::1]")
        && text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"))
        && text("origin").is_none_or(|origin| origin.split_once("://").is_some_and(|(_, from)| from == host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_pages_on_loopback_are_accepted() {
        let accepted = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                (header::HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            is_same_origin_on_loopback(&pairs.collect())
        };
        assert!(accepted(&[("host", "127.0.0.1:4000"), ("sec-fetch-site", "same-origin")]));
        assert!(accepted(&[("host", "localhost:4000"), ("origin", "http://localhost:4000")]));
        assert!(accepted(&[("host", "[::1]:4000")]));
        assert!(accepted(&[("host", "localhost")]));
        for pairs in [
            &[][..],
            &[("host", "rebound.example:4000")],
            &[("host", "127.0.0.1.example")],
            &[("host", "127.0.0.1:4000"), ("sec-fetch-site", "cross-site")],
            &[("host", "127.0.0.1:4000"), ("sec-fetch-site", "same-site")],
            &[("host", "127.0.0.1:4000"), ("origin", "https://elsewhere.example")],
            &[("host", "127.0.0.1:4000"), ("origin", "null")],
            &[("host", "127.0.0.1:4000"), ("forwarded", "for=192.0.2.1")],
            &[("host", "127.0.0.1:4000"), ("x-forwarded-for", "192.0.2.1")],
            &[("host", "127.0.0.1:4000"), ("x-forwarded-proto", "https")],
            &[("host", "127.0.0.1:4000"), ("via", "1.1 proxy")],
            &[("host", "127.0.0.1:4000"), ("x-real-ip", "192.0.2.1")],
        ] {
            assert!(!accepted(pairs), "{pairs:?}");
        }
    }

    async fn read(
        demo: &DemoTokens,
        cookie: Option<&str>,
        more: &[(&'static str, &'static str)],
    ) -> StatusCode {
        let mut headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("127.0.0.1:4000"))]);
        if let Some(cookie) = cookie {
            headers.insert(header::COOKIE, HeaderValue::from_str(cookie).expect("a cookie"));
        }
        headers.extend(
            more.iter().map(|(name, value)| {
                (header::HeaderName::from_static(name), HeaderValue::from_static(value))
            }),
        );
        get_tokens(State(Some(demo.clone())), headers).await.into_response().status()
    }

    async fn open(demo: &DemoTokens, code: &str, headers: HeaderMap) -> Response {
        let query = Query(LinkQuery { code: code.to_owned() });
        open_link(State(Some(demo.clone())), query, headers).await.into_response()
    }

    #[tokio::test]
    async fn tokens_are_served_only_to_the_browser_that_opened_the_link() {
        let (demo, link) = DemoTokens::new(Secret::new("s".repeat(32)), Arc::new(crate::clock::SystemClock));
        let (_, code) = link.split_once("?code=").expect("a code");
        let local = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("localhost:4000"))]);

        // Before the link is opened, nobody reads tokens: a local account or a reverse proxy sends the same headers.
        assert_eq!(read(&demo, None, &[]).await, StatusCode::NOT_FOUND);
        assert_eq!(read(&demo, Some(&format!("{COOKIE}={code}")), &[]).await, StatusCode::NOT_FOUND);
        assert_eq!(open(&demo, "guess", local.clone()).await.status(), StatusCode::NOT_FOUND);
        let mut proxied = local.clone();
        proxied.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
        assert_eq!(open(&demo, code, proxied).await.status(), StatusCode::NOT_FOUND);

        let opened = open(&demo, code, local.clone()).await;
        assert_eq!(opened.status(), StatusCode::SEE_OTHER);
        let cookie = opened.headers()[header::SET_COOKIE].to_str().expect("text");
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        let (cookie, _) = cookie.split_once(';').expect("attributes");
        assert_eq!(read(&demo, Some(&format!("other=1; {cookie}")), &[]).await, StatusCode::OK);

        // The link is used, other browsers have no cookie, and a proxy is refused with it too.
        assert_eq!(open(&demo, code, local).await.status(), StatusCode::NOT_FOUND);
        assert_eq!(read(&demo, None, &[]).await, StatusCode::NOT_FOUND);
        assert_eq!(read(&demo, Some("rollcall_demo=guess"), &[]).await, StatusCode::NOT_FOUND);
        for header in
            [("via", "1.1 proxy"), ("forwarded", "for=192.0.2.1"), ("x-forwarded-host", "example.org")]
        {
            assert_eq!(read(&demo, Some(cookie), &[header]).await, StatusCode::NOT_FOUND, "{header:?}");
        }
    }
}
