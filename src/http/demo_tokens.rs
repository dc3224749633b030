//! Tokens of the demo data's people and of the service, for whoever looks at a demo server on their own machine.
//!
//! Handed out only by a server with a PostgreSQL of its own and `--seed` that listens on loopback, and only to pages
//! of its own: a page from elsewhere may call a server on loopback, too, and one that has rebound its name to loopback
//! looks as if it were ours, but for the name.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    auth::{Role, token::mint},
    clock::Clock,
    http::{ApiError, Json},
    model::Secret,
};

/// How long the tokens are valid, in seconds.
const TOKEN_LIFETIME_SECONDS: i64 = 12 * 3_600;
/// The people of `supabase/seed.sql`, in the order of their numbers.
const DEMO_USERS: [&str; 6] = ["Alice", "Bob", "Carol", "Dave", "Erin", "Frank"];

/// What a demo server hands out tokens with.
#[derive(Clone)]
pub struct DemoTokens {
    /// What signs them.
    pub secret: Secret,
    /// For their end.
    pub clock: Arc<dyn Clock>,
}

#[derive(Serialize)]
struct DemoUser {
    name: &'static str,
    user_id: String,
    token: String,
}

/// `GET /console/demo`.
pub async fn get_tokens(
    State(demo): State<Option<DemoTokens>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let demo = demo.filter(|_| is_same_origin_on_loopback(&headers)).ok_or(ApiError::NotFound)?;
    let expires_at = demo.clock.now().as_second() + TOKEN_LIFETIME_SECONDS;
    let sign = |claims: serde_json::Value| {
        mint(demo.secret.expose(), &claims).map_err(|error| ApiError::Internal(error.into()))
    };
    let mut people = Vec::with_capacity(DEMO_USERS.len());
    for (place, name) in DEMO_USERS.into_iter().enumerate() {
        let user_id = format!("a0000000-0000-4000-8000-{:012}", place + 1);
        let token = sign(json!({ "sub": user_id, "role": Role::Authenticated, "exp": expires_at }))?;
        people.push(DemoUser { name, user_id, token });
    }
    let service = sign(json!({ "role": Role::ServiceRole, "exp": expires_at }))?;
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, Json(json!({ "people": people, "service_token": service }))).into_response())
}

/// Whether a request comes from a page of this server, reached by a name of loopback.
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
        let asked = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                (header::HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            is_same_origin_on_loopback(&pairs.collect())
        };
        assert!(asked(&[("host", "127.0.0.1:4000"), ("sec-fetch-site", "same-origin")]));
        assert!(asked(&[("host", "localhost:4000"), ("origin", "http://localhost:4000")]));
        assert!(asked(&[("host", "[::1]:4000")]));
        assert!(asked(&[("host", "localhost")]));
        for pairs in [
            &[][..],
            &[("host", "rebound.example:4000")],
            &[("host", "127.0.0.1.example")],
            &[("host", "127.0.0.1:4000"), ("sec-fetch-site", "cross-site")],
            &[("host", "127.0.0.1:4000"), ("sec-fetch-site", "same-site")],
            &[("host", "127.0.0.1:4000"), ("origin", "https://elsewhere.example")],
            &[("host", "127.0.0.1:4000"), ("origin", "null")],
        ] {
            assert!(!asked(pairs), "{pairs:?}");
        }
    }
}
