//! Identification of callers, and rate limits.

use super::*;

#[tokio::test]
async fn callers_are_identified_by_token_or_trusted_gateway() {
    let token = token::mint(SECRET, &json!({"sub": SUB, "exp": 4_000_000_000_u64})).expect("signs");
    let bearer = with_header(get_request("/who"), "authorization", &format!("bearer {token}"));
    let (_, _, body) = send(router(), bearer).await;
    assert_eq!(body, format!("authenticated {SUB}"));

    let from_gateway = |peer: &str| from_peer(with_header(get_request("/who"), "x-user-id", SUB), peer);
    let (status, _, body) = send(router(), from_gateway("127.0.0.1:9")).await;
    assert_eq!((status, body), (StatusCode::OK, format!("authenticated {SUB}")));
    expect_error(router(), from_gateway("192.0.2.1:9"), (401, "UNAUTHORIZED")).await;
    // Without a known peer address.
    expect_error(router(), with_header(get_request("/who"), "x-user-id", SUB), (401, "UNAUTHORIZED")).await;
    // The header of an untrusted peer is ignored.
    let mut both = from_gateway("192.0.2.1:9");
    both.headers_mut().insert("apikey", "sb_anon".parse().expect("is a value"));
    assert_eq!(send(router(), both).await.2, "anon ");

    let repeated = with_header(from_gateway("127.0.0.1:9"), "x-user-id", SUB);
    expect_error(router(), repeated, (400, "INVALID_REQUEST")).await;
    let malformed = from_peer(with_header(get_request("/who"), "x-user-id", "root"), "127.0.0.1:9");
    expect_error(router(), malformed, (400, "INVALID_REQUEST")).await;
}

#[tokio::test]
async fn a_user_over_the_limit_is_told_when_to_come_back() {
    let token = token::mint(SECRET, &json!({"sub": SUB, "exp": 4_000_000_000_u64})).expect("signs");
    let request = || with_header(get_request("/limited"), "authorization", &format!("Bearer {token}"));
    let router = router();
    for remaining in (0..10).rev() {
        let (status, headers, _) = send(router.clone(), request()).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers["ratelimit-limit"], "10");
        assert_eq!(headers["ratelimit-remaining"], remaining.to_string());
    }
    let (_, headers) = expect_error(router, request(), (429, "RATE_LIMITED")).await;
    assert_eq!(headers[header::RETRY_AFTER], "6");
    assert_eq!(headers["ratelimit-remaining"], "0");
    assert_eq!(headers["ratelimit-reset"], "60");
}
