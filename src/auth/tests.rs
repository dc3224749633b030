//! Valid and invalid tokens of every algorithm, against a key server on loopback.
//!
//! The private keys in `tests/fixtures/keys` were generated for these tests and are used nowhere else.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use jiff::{Timestamp, ToSpan};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{jwks::RefreshPolicy, *};
use crate::{clock::Clock, model::Secret};

const SECRET: &str = "a-secret-of-more-than-32-bytes-for-tests";
const SUB: &str = "6f1c2b1e-0000-4000-8000-000000000001";
const RSA: &str = include_str!("../../tests/fixtures/keys/rsa.pem");
const OTHER_RSA: &str = include_str!("../../tests/fixtures/keys/rsa-other.pem");
const P256: &str = include_str!("../../tests/fixtures/keys/p256.pem");
const ED25519: &str = include_str!("../../tests/fixtures/keys/ed25519.pem");

/// A clock that tests set.
struct StoppedClock(Mutex<Timestamp>);

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
}

fn clock_at(second: i64) -> Arc<StoppedClock> {
    Arc::new(StoppedClock(Mutex::new(Timestamp::from_second(second).expect("within the calendar"))))
}

/// Key server with a configurable response and a request counter.
#[derive(Default)]
struct KeyServer {
    response: Mutex<(StatusCode, String)>,
    requests: AtomicUsize,
    delay: Mutex<Duration>,
}

impl KeyServer {
    async fn start(keys: Vec<Value>) -> (Arc<Self>, String) {
        let server = Arc::new(Self::default());
        server.publish(keys);
        let router = Router::new().route("/jwks", get(Self::serve)).with_state(Arc::clone(&server));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}/jwks", listener.local_addr().expect("is bound"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (server, url)
    }

    async fn serve(State(server): State<Arc<Self>>) -> impl IntoResponse {
        server.requests.fetch_add(1, Ordering::SeqCst);
        let delay = *server.delay.lock();
        tokio::time::sleep(delay).await;
        server.response.lock().clone()
    }

    fn publish(&self, keys: Vec<Value>) {
        *self.response.lock() = (StatusCode::OK, json!({ "keys": keys }).to_string());
    }

    fn fail(&self) {
        *self.response.lock() = (StatusCode::INTERNAL_SERVER_ERROR, "internal detail".into());
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn encoding_key(algorithm: Algorithm, pem: &str) -> EncodingKey {
    let key = match algorithm {
        Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
        _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
    };
    key.expect("the fixture is such a key")
}

fn jwk(kid: &str, algorithm: Algorithm, pem: &str) -> Value {
    let jwk = Jwk::from_encoding_key(&encoding_key(algorithm, pem), algorithm).expect("has a public half");
    let mut jwk = serde_json::to_value(jwk).expect("serializes");
    jwk["kid"] = kid.into();
    jwk["use"] = "sig".into();
    jwk
}

fn every_key() -> Vec<Value> {
    vec![
        jwk("rsa", Algorithm::RS256, RSA),
        jwk("p256", Algorithm::ES256, P256),
        jwk("ed", Algorithm::EdDSA, ED25519),
        json!({"kty": "oct", "kid": "oct", "k": B64.encode(SECRET)}),
        json!("not a key"),
    ]
}

fn sign(algorithm: Algorithm, pem: &str, kid: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &encoding_key(algorithm, pem)).expect("signs")
}

fn sign_hmac(algorithm: Algorithm, secret: &[u8], kid: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret)).expect("signs")
}

/// A token with the given header and signature.
fn unsigned(header: &Value, claims: &Value, signature: &str) -> String {
    format!("{}.{}.{signature}", B64.encode(header.to_string()), B64.encode(claims.to_string()))
}

fn valid_claims() -> Value {
    json!({ "sub": SUB, "exp": 2_000 })
}

/// Long delays, so that timing on a slow machine does not matter.
fn refresh_policy() -> RefreshPolicy {
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(50));
    RefreshPolicy { retry_with_keys: long, retry_without_keys: short, max_retry: long, max_age: long }
}

fn verifier_at_1000(jwks_url: Option<String>, pacing: RefreshPolicy) -> Verifier {
    let settings = VerifierSettings {
        jwt_secret: Some(SECRET.into()),
        jwks_url,
        api_keys: HashMap::from([("sb_anon".into(), Role::Anon), ("sb_service".into(), Role::ServiceRole)]),
        ..VerifierSettings::default()
    };
    Verifier::with_refresh_policy(settings, clock_at(1_000), pacing).expect("are valid settings")
}

/// Name of the error variant, or `ok`.
fn outcome(result: Result<Principal, AuthError>) -> String {
    match result {
        Ok(_) => "ok".into(),
        Err(error) => {
            let name = format!("{error:?}");
            name.split('(').next().unwrap_or_default().to_owned()
        }
    }
}

#[tokio::test]
async fn valid_tokens_of_every_algorithm_are_accepted() {
    let (_server, url) = KeyServer::start(every_key()).await;
    let verifier = verifier_at_1000(Some(url), refresh_policy());
    let claims = valid_claims();
    for token in [
        token::mint(SECRET, &claims).expect("signs"),
        sign_hmac(Algorithm::HS256, SECRET.as_bytes(), Some("whatever"), &claims),
        sign(Algorithm::RS256, RSA, Some("rsa"), &claims),
        sign(Algorithm::ES256, P256, Some("p256"), &claims),
        sign(Algorithm::EdDSA, ED25519, Some("ed"), &claims),
        // Without `kid`, exactly one key matches.
        sign(Algorithm::RS256, RSA, None, &claims),
    ] {
        for round in ["first", "cached"] {
            let caller = verifier.verify(&token).await.expect(round);
            assert_eq!(caller.user_id, SUB.parse().ok());
            assert_eq!(caller.role, Role::Authenticated);
            assert_eq!(caller.expires_at.as_second(), 2_000);
        }
    }
}

#[tokio::test]
async fn forged_tokens_are_rejected() {
    let (_server, url) = KeyServer::start(every_key()).await;
    let verifier = verifier_at_1000(Some(url), refresh_policy());
    let claims = valid_claims();
    let modulus = B64.decode(every_key()[0]["n"].as_str().expect("has one")).expect("is base64url");
    let tampered = {
        let token = sign(Algorithm::RS256, RSA, Some("rsa"), &claims);
        let mut parts: Vec<&str> = token.split('.').collect();
        let payload = B64.encode(json!({"sub": SUB, "exp": 2_000, "role": "service_role"}).to_string());
        parts[1] = &payload;
        parts.join(".")
    };
    let good = token::mint(SECRET, &claims).expect("signs");
    for (token, expected) in [
        (unsigned(&json!({"alg": "none"}), &claims, ""), "AlgorithmNotAllowed"),
        (unsigned(&json!({"alg": "NonE"}), &claims, ""), "AlgorithmNotAllowed"),
        (unsigned(&json!({"alg": "none", "kid": "rsa"}), &claims, "AA"), "AlgorithmNotAllowed"),
        (unsigned(&json!({"alg": "HS256"}), &claims, ""), "BadSignature"),
        (unsigned(&json!({"alg": "RS256", "kid": "rsa"}), &claims, ""), "BadSignature"),
        (unsigned(&json!({"alg": "ES256", "kid": "p256"}), &claims, "AAAA"), "BadSignature"),
        (unsigned(&json!({"alg": "ES256", "kid": "p256"}), &claims, &B64.encode([0; 64])), "BadSignature"),
        (unsigned(&json!({"alg": "EdDSA", "kid": "ed"}), &claims, &B64.encode([0; 64])), "BadSignature"),
        (unsigned(&json!({"alg": "EdDSA", "kid": "ed"}), &claims, "=!"), "BadSignature"),
        // The public key used as an HMAC secret, in two encodings.
        (sign_hmac(Algorithm::HS256, &modulus, Some("rsa"), &claims), "BadSignature"),
        (sign_hmac(Algorithm::HS256, RSA.as_bytes(), Some("rsa"), &claims), "BadSignature"),
        (sign_hmac(Algorithm::HS256, b"another secret", None, &claims), "BadSignature"),
        (sign_hmac(Algorithm::HS512, SECRET.as_bytes(), None, &claims), "AlgorithmNotAllowed"),
        (sign(Algorithm::RS512, RSA, Some("rsa"), &claims), "AlgorithmNotAllowed"),
        (sign(Algorithm::PS256, RSA, Some("rsa"), &claims), "AlgorithmNotAllowed"),
        // `kid` names a key of another algorithm.
        (sign(Algorithm::RS256, RSA, Some("p256"), &claims), "AlgorithmNotAllowed"),
        (sign(Algorithm::EdDSA, ED25519, Some("rsa"), &claims), "AlgorithmNotAllowed"),
        (sign(Algorithm::RS256, RSA, Some("oct"), &claims), "UnknownKey"),
        (sign(Algorithm::RS256, OTHER_RSA, Some("rsa"), &claims), "BadSignature"),
        (sign(Algorithm::RS256, RSA, Some("unknown"), &claims), "UnknownKey"),
        (tampered, "BadSignature"),
        (unsigned(&json!({"alg": "HS256", "crit": ["b64"], "b64": false}), &claims, "AA"), "Malformed"),
        (unsigned(&json!({"alg": 7}), &claims, "AA"), "Malformed"),
        (unsigned(&json!([]), &claims, "AA"), "Malformed"),
        (format!("{good}="), "BadSignature"),
        (format!("{good}.x"), "Malformed"),
        (format!(" {good}"), "Malformed"),
        (good.replacen('.', "..", 1), "Malformed"),
        (good.rsplit_once('.').expect("has dots").0.to_owned(), "Malformed"),
        ("x".into(), "Malformed"),
        ("..".into(), "Malformed"),
        ("é.é.é".into(), "Malformed"),
        ("\0".into(), "Malformed"),
        (String::new(), "Missing"),
        ("x".repeat(8 * 1024), "Malformed"),
        ("x".repeat(8 * 1024 + 1), "TooLong"),
    ] {
        assert_eq!(outcome(verifier.verify(&token).await), expected, "{token}");
    }
}

#[tokio::test]
async fn invalid_claims_are_rejected_despite_a_valid_signature() {
    let verifier = verifier_at_1000(None, refresh_policy());
    for (claims, expected) in [
        (json!({"sub": SUB}), "MissingExp"),
        (json!({"sub": SUB, "exp": 999}), "Expired"),
        (json!({"sub": SUB, "exp": 1_000}), "Expired"),
        (json!({"sub": SUB, "exp": 1_000.5}), "ok"),
        (json!({"sub": SUB, "exp": 2_000, "nbf": 1_001}), "NotYetValid"),
        (json!({"sub": SUB, "exp": 2_000, "nbf": 1_000}), "ok"),
        (json!({"exp": 2_000}), "NoSubject"),
        (json!({"exp": 2_000, "sub": "42"}), "InvalidSubject"),
        (json!({"exp": 2_000, "sub": SUB, "role": "postgres"}), "UnknownRole"),
        (json!({"exp": 2_000, "role": "service_role"}), "ok"),
        (json!({"exp": 2_000, "role": "anon"}), "ok"),
        (json!({"exp": 2_000, "userId": SUB}), "ok"),
        (json!(7), "Malformed"),
    ] {
        let token = sign_hmac(Algorithm::HS256, SECRET.as_bytes(), None, &claims);
        assert_eq!(outcome(verifier.verify(&token).await), expected, "{claims}");
    }
}

#[tokio::test]
async fn channel_tokens_use_the_configured_algorithms_and_roles() {
    let (_server, url) = KeyServer::start(every_key()).await;
    let settings = VerifierSettings {
        jwt_secret: Some(SECRET.into()),
        jwks_url: Some(url),
        algorithms: "HS256 HS384 HS512 RS256 RS512 ES256 EdDSA"
            .split(' ')
            .filter_map(token::SigningAlgorithm::from_name)
            .collect(),
        channel_roles: vec!["moderator".into()],
        api_keys: HashMap::from([("sb_service".into(), Role::ServiceRole)]),
        ..VerifierSettings::default()
    };
    let verifier = Verifier::with_refresh_policy(settings, clock_at(1_000), refresh_policy());
    let verifier = verifier.expect("are valid settings");
    let strict = verifier_at_1000(None, refresh_policy());
    let claims = json!({"role": "moderator", "exp": 2_000.5});
    let hs = |algorithm, secret: &[u8]| sign_hmac(algorithm, secret, Some("whatever"), &claims);
    for token in [
        hs(Algorithm::HS256, SECRET.as_bytes()),
        hs(Algorithm::HS384, SECRET.as_bytes()),
        hs(Algorithm::HS512, SECRET.as_bytes()),
        sign(Algorithm::RS256, RSA, Some("rsa"), &claims),
        sign(Algorithm::ES256, P256, Some("p256"), &claims),
        sign(Algorithm::EdDSA, ED25519, Some("ed"), &claims),
        format!(" {}\n", hs(Algorithm::HS256, SECRET.as_bytes())),
    ] {
        for round in ["first", "cached"] {
            let token = verifier.verify_channel_token(&token).await.expect(round);
            assert_eq!((token.role.as_str(), token.sub.as_deref()), ("moderator", None));
        }
    }
    let unlisted = strict.verify_channel_token(&hs(Algorithm::HS256, SECRET.as_bytes())).await;
    assert_eq!(unlisted.expect("is signed").role, Role::Denied);
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let refused = strict.verify_channel_token(&hs(algorithm, SECRET.as_bytes())).await;
        assert_eq!(refused, Err(ChannelTokenError::Signer), "{algorithm:?}");
    }
    let service = verifier.verify_channel_token("sb_service").await.expect("is a key");
    assert_eq!((service.role.as_str(), &*service.claims), ("service_role", r#"{"role":"service_role"}"#));
    for (token, expected) in [
        (unsigned(&json!({"alg": "none"}), &claims, ""), ChannelTokenError::Signer),
        (hs(Algorithm::HS512, b"another"), ChannelTokenError::Signature),
        // The published key supports only RS256.
        (sign(Algorithm::RS512, RSA, Some("rsa"), &claims), ChannelTokenError::Signer),
        (
            sign(Algorithm::RS256, RSA, Some("other"), &claims),
            ChannelTokenError::SignerForKey("other".into()),
        ),
        ("sb_other".into(), ChannelTokenError::Malformed),
        (String::new(), ChannelTokenError::Malformed),
    ] {
        assert_eq!(verifier.verify_channel_token(&token).await, Err(expected), "{token}");
    }
}

#[tokio::test]
async fn cached_token_expires_on_time() {
    let clock = clock_at(1_000);
    let settings = VerifierSettings { jwt_secret: Some(SECRET.into()), ..VerifierSettings::default() };
    let verifier = Verifier::new(settings, Arc::clone(&clock) as Arc<dyn Clock>).expect("are valid settings");
    let token = token::mint(SECRET, &valid_claims()).expect("signs");
    assert!(verifier.verify(&token).await.is_ok());

    *clock.0.lock() = Timestamp::from_second(2_000).expect("within the calendar") - 1.millisecond();
    assert!(verifier.verify(&token).await.is_ok());
    *clock.0.lock() += 1.millisecond();
    assert_eq!(outcome(verifier.verify(&token).await), "Expired");
    assert_eq!(outcome(verifier.verify(&token).await), "Expired");
}

#[tokio::test]
async fn algorithms_without_a_configured_key_are_rejected() {
    let (_server, url) = KeyServer::start(every_key()).await;
    let settings = VerifierSettings { jwks_url: Some(url), ..VerifierSettings::default() };
    let only_keys = Verifier::new(settings, clock_at(1_000)).expect("are valid settings");
    let modulus = B64.decode(every_key()[0]["n"].as_str().expect("has one")).expect("is base64url");
    let confused = sign_hmac(Algorithm::HS256, &modulus, Some("rsa"), &valid_claims());
    assert_eq!(outcome(only_keys.verify(&confused).await), "AlgorithmNotAllowed");

    let only_secret = verifier_at_1000(None, refresh_policy());
    let published = sign(Algorithm::RS256, RSA, Some("rsa"), &valid_claims());
    assert_eq!(outcome(only_secret.verify(&published).await), "AlgorithmNotAllowed");
}

#[tokio::test]
async fn api_keys_map_to_their_role() {
    let verifier = verifier_at_1000(None, refresh_policy());
    let service = verifier.verify("sb_service").await.expect("is a key");
    assert!(service.is_service() && service.user_id.is_none());
    assert_eq!(verifier.verify("sb_anon").await.expect("is a key").role, Role::Anon);
    assert_eq!(outcome(verifier.verify("sb_other").await), "Malformed");
}

#[tokio::test]
async fn error_texts_do_not_contain_the_token() {
    let verifier = verifier_at_1000(None, refresh_policy());
    let token = sign_hmac(Algorithm::HS256, b"wrong", Some("distinctive-kid"), &valid_claims());
    let error = verifier.verify(&token).await.expect_err("is refused");
    let text = format!("{error} {error:?}");
    assert!(token.split('.').all(|part| !text.contains(part)) && !text.contains("distinctive-kid"));
}

#[tokio::test]
async fn many_unknown_kids_cause_one_fetch() {
    let (server, url) = KeyServer::start(every_key()).await;
    *server.delay.lock() = Duration::from_millis(50);
    let verifier = Arc::new(verifier_at_1000(Some(url), refresh_policy()));
    let requests = (0..50).map(|n| {
        let token = sign(Algorithm::EdDSA, ED25519, Some(&format!("kid-{n}")), &valid_claims());
        let verifier = Arc::clone(&verifier);
        tokio::spawn(async move { outcome(verifier.verify(&token).await) })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.expect("does not panic"), "UnknownKey");
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn cancelled_caller_does_not_cancel_the_fetch() {
    let (server, url) = KeyServer::start(every_key()).await;
    *server.delay.lock() = Duration::from_millis(100);
    let verifier = verifier_at_1000(Some(url), refresh_policy());
    let token = sign(Algorithm::ES256, P256, Some("p256"), &valid_claims());
    let timed_out = tokio::time::timeout(Duration::from_millis(20), verifier.verify(&token)).await;
    assert!(timed_out.is_err(), "the key server is slower than that");
    assert_eq!(outcome(verifier.verify(&token).await), "ok");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn key_rotation_replaces_cached_tokens() {
    let (server, url) = KeyServer::start(vec![jwk("old", Algorithm::RS256, RSA)]).await;
    let policy = RefreshPolicy { retry_with_keys: Duration::ZERO, ..refresh_policy() };
    let verifier = verifier_at_1000(Some(url), policy);
    let old = sign(Algorithm::RS256, RSA, Some("old"), &valid_claims());
    let new = sign(Algorithm::RS256, OTHER_RSA, Some("new"), &valid_claims());
    assert_eq!(outcome(verifier.verify(&old).await), "ok");
    assert_eq!(outcome(verifier.verify(&old).await), "ok");

    server.publish(vec![jwk("new", Algorithm::RS256, OTHER_RSA)]);
    assert_eq!(outcome(verifier.verify(&new).await), "ok");
    assert_eq!(outcome(verifier.verify(&old).await), "UnknownKey");
}

#[tokio::test]
async fn stale_keys_are_refreshed_in_the_background() {
    let (server, url) = KeyServer::start(vec![jwk("old", Algorithm::RS256, RSA)]).await;
    let policy =
        RefreshPolicy { retry_with_keys: Duration::ZERO, max_age: Duration::ZERO, ..refresh_policy() };
    let verifier = verifier_at_1000(Some(url), policy);
    let old = sign(Algorithm::RS256, RSA, Some("old"), &valid_claims());
    assert_eq!(outcome(verifier.verify(&old).await), "ok");
    server.publish(vec![]);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while outcome(verifier.verify(&old).await) == "ok" {
        assert!(tokio::time::Instant::now() < deadline, "the withdrawn key is still accepted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn known_keys_work_while_the_key_server_is_down() {
    let (server, url) = KeyServer::start(every_key()).await;
    let policy = RefreshPolicy { retry_with_keys: Duration::ZERO, ..refresh_policy() };
    let verifier = verifier_at_1000(Some(url), policy);
    let known = |sub: &str| {
        sign(Algorithm::EdDSA, ED25519, Some("ed"), &json!({"sub": sub, "exp": 2_000, "role": "anon"}))
    };
    assert_eq!(outcome(verifier.verify(&known(SUB)).await), "ok");

    server.fail();
    let unknown = sign(Algorithm::EdDSA, ED25519, Some("new"), &valid_claims());
    let error = verifier.verify(&unknown).await.expect_err("cannot be known");
    assert!(error.is_transient() && !error.to_string().contains("internal detail"), "{error}");
    let another = "6f1c2b1e-0000-4000-8000-000000000002";
    assert_eq!(outcome(verifier.verify(&known(another)).await), "ok");
}

#[tokio::test]
async fn failed_first_fetch_is_retried() {
    for failure in [
        (StatusCode::BAD_GATEWAY, String::new()),
        (StatusCode::FOUND, String::new()),
        (StatusCode::OK, "<html>".into()),
        (StatusCode::OK, r#"{"keys": 7}"#.into()),
        (StatusCode::OK, format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(300_000))),
    ] {
        let (server, url) = KeyServer::start(every_key()).await;
        *server.response.lock() = failure.clone();
        let verifier = verifier_at_1000(Some(url), refresh_policy());
        let token = sign(Algorithm::EdDSA, ED25519, Some("ed"), &valid_claims());
        assert_eq!(outcome(verifier.verify(&token).await), "KeysUnavailable", "{failure:?}");
        server.publish(every_key());
        // Within the backoff (50 to 75 ms) there is no request; after it there is one.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        while outcome(verifier.verify(&token).await) != "ok" {
            assert!(tokio::time::Instant::now() < deadline, "is not retried");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(server.requests(), 2, "{failure:?}");
    }
}

#[tokio::test]
async fn insecure_settings_are_rejected() {
    let with = |change: fn(&mut VerifierSettings)| {
        let mut settings = VerifierSettings::default();
        change(&mut settings);
        Verifier::new(settings, clock_at(0))
    };
    assert!(matches!(with(|s| s.jwt_secret = Some("".into())), Err(VerifierError::EmptySecret)));
    assert!(matches!(with(|s| s.jwks_url = Some("file:///etc".into())), Err(VerifierError::BadJwksUrl)));
    assert!(matches!(
        with(|s| s.api_keys = HashMap::from([("k".into(), Role::Authenticated)])),
        Err(VerifierError::ApiKeyWithoutUser)
    ));
    assert!(matches!(
        with(|s| s.api_keys = HashMap::from([("".into(), Role::ServiceRole)])),
        Err(VerifierError::EmptyApiKey)
    ));
    let settings = VerifierSettings { jwt_secret: Some(SECRET.into()), ..VerifierSettings::default() };
    assert!(!format!("{settings:?}").contains(SECRET));
}

#[tokio::test]
async fn keys_of_the_setting_verify_tokens_and_the_url_supplies_others() {
    let text =
        json!({ "keys": [every_key()[0], { "kty": "oct", "kid": "secret", "k": "c2VjcmV0" }] }).to_string();
    let with_url = |jwks_url| {
        let settings = VerifierSettings {
            jwks: Some(Secret::new(text.clone())),
            jwks_url,
            ..VerifierSettings::default()
        };
        Verifier::new(settings, clock_at(1_000)).expect("are valid settings")
    };
    let token = sign(Algorithm::RS256, RSA, Some("rsa"), &valid_claims());
    assert!(with_url(None).verify(&token).await.is_ok());
    let other = sign(Algorithm::RS256, RSA, Some("other"), &valid_claims());
    assert_eq!(outcome(with_url(None).verify(&other).await), "UnknownKey");
    let (_server, url) = KeyServer::start(vec![jwk("other", Algorithm::RS256, RSA)]).await;
    assert!(with_url(Some(url)).verify(&other).await.is_ok());
}
