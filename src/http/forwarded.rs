//! Recognizes requests that a proxy forwarded.

use axum::http::HeaderMap;

/// Headers that a proxy adds, besides those that begin with `x-forwarded`.
const PROXY_HEADERS: [&str; 7] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-original-forwarded-for",
];

/// Whether a proxy added a header. The address of the direct peer is then not that of the client.
pub(super) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .map(|name| name.as_str())
        .any(|name| name.starts_with("x-forwarded") || PROXY_HEADERS.contains(&name))
}
