//! Tokens of the demo users and the service role, for the console of a local demo server.
//!
//! They are served only with an embedded PostgreSQL and `--seed`, on a loopback address, and only to pages of
//! this server. The request headers are checked because foreign pages, including pages with DNS rebinding,
//! can reach loopback too.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::{Role, token::mint},
    clock::Clock,
    http::{ApiError, Json},
    model::{Secret, UserId},
};

/// Lifetime of the tokens in seconds.
const TOKEN_LIFETIME_SECONDS: i64 = 12 * 3_600;
/// Names of the users in `supabase/seed.sql`, in the order of their IDs.
const DEMO_USERS: [&str; 6] = ["Alice", "Bob", "Carol", "Dave", "Erin", "Frank"];

/// Signs tokens of the demo users.
#[derive(Clone)]
pub struct DemoTokens {
    /// JWT secret that signs the tokens.
    pub secret: Secret,
    /// Clock for the expiry.
    pub clock: Arc<dyn Clock>,
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
/// Available only on a demo server on a loopback address, for its own pages. Other servers answer 404.
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
    let demo = demo.filter(|_| is_same_origin_on_loopback(&headers)).ok_or(ApiError::NotFound)?;
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

/// Whether the request comes from a page of this server under a loopback name.
fn is_same_origin_on_loopback(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text("host").unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
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
        ] {
            assert!(!accepted(pairs), "{pairs:?}");
        }
    }
}
