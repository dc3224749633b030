//! The issuer's public keys (JWKS): fetched on first use, cached, and refreshed when a token names an unknown
//! key.
//!
//! - One fetch runs at a time; other callers wait for it. It runs in its own task, so a client that
//!   disconnects does not cancel it.
//! - Clients choose `kid`, so unknown ones cause at most one request per 10 s.
//! - A failed fetch keeps the keys; retries back off exponentially with jitter.
//! - Keys older than 10 minutes are refreshed in the background, so that withdrawn keys expire.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use reqwest::{Client, StatusCode, Url, redirect};
use serde::Deserialize;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    AuthError, JwksError,
    key::{VerifyingKey, parse_jwk, verifying_key},
    token::SigningAlgorithm,
};
use crate::backoff::Backoff;
use crate::lifecycle::ErrorChain;

/// Timeout of a fetch, including DNS lookup and body.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of the connection within a fetch.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum size of a key set in bytes; large public ones have about 20,000.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// Maximum number of cached keys.
const MAX_KEYS: usize = 64;

/// How often keys are fetched.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefreshPolicy {
    /// After a success: the minimum time until an unknown `kid` causes another fetch. After a failure with
    /// cached keys: the first backoff delay, doubled each time.
    pub(super) retry_with_keys: Duration,
    /// After a failure without cached keys: the first backoff delay, doubled each time.
    pub(super) retry_without_keys: Duration,
    /// Maximum backoff delay before jitter.
    pub(super) max_retry: Duration,
    /// Age at which keys are refreshed in the background.
    pub(super) max_age: Duration,
}

impl Default for RefreshPolicy {
    fn default() -> Self {
        Self {
            retry_with_keys: Duration::from_secs(10),
            retry_without_keys: Duration::from_secs(1),
            max_retry: Duration::from_secs(30),
            max_age: Duration::from_secs(600),
        }
    }
}

impl RefreshPolicy {
    /// Delay after `failures` failures in a row (0: after a success).
    fn delay(self, failures: u32, have_keys: bool) -> Duration {
        if failures == 0 {
            return self.retry_with_keys;
        }
        let first = if have_keys { self.retry_with_keys } else { self.retry_without_keys };
        Backoff::new(first, self.max_retry).delay_for(failures)
    }
}

/// Keys of one issuer.
#[derive(Clone)]
pub(super) struct Jwks {
    shared: Arc<Shared>,
    /// Locked during a fetch.
    fetch_state: Arc<Mutex<FetchState>>,
}

struct Shared {
    url: Url,
    client: Client,
    policy: RefreshPolicy,
    /// Called when the keys change, to clear caches.
    on_change: Box<dyn Fn() + Send + Sync>,
    keys: RwLock<KeySet>,
}

#[derive(Default)]
pub(super) struct KeySet {
    keys: Vec<(Option<String>, VerifyingKey)>,
    /// The body they were parsed from, to detect changes.
    text: Vec<u8>,
    /// `None` before the first success.
    fetched_at: Option<Instant>,
}

impl KeySet {
    /// A set that is never fetched.
    pub(super) fn fixed(text: &str) -> Result<Self, JwksError> {
        Ok(Self { keys: parse_key_set(text.as_bytes())?, text: Vec::new(), fetched_at: Some(Instant::now()) })
    }

    /// Only [`AuthError::UnknownKey`] justifies a fetch.
    pub(super) fn look_up(
        &self,
        kid: Option<&str>,
        algorithm: SigningAlgorithm,
    ) -> Result<VerifyingKey, AuthError> {
        if self.fetched_at.is_none() {
            return Err(AuthError::UnknownKey);
        }
        let matches_kid =
            |entry: &&(Option<String>, VerifyingKey)| kid.is_none() || entry.0.as_deref() == kid;
        let mut matching = self.keys.iter().filter(matches_kid).filter(|(_, key)| key.supports(algorithm));
        match (matching.next(), matching.next()) {
            (Some((_, key)), None) => Ok(key.clone()),
            // Trying several keys would let a client multiply the cost of a token.
            (Some(_), Some(_)) => {
                Err(AuthError::Malformed("header has no key ID (kid), and several keys match"))
            }
            (None, _) if self.keys.iter().any(|entry| matches_kid(&entry)) => {
                Err(AuthError::AlgorithmNotAllowed)
            }
            (None, _) => Err(AuthError::UnknownKey),
        }
    }
}

struct FetchState {
    next_fetch_at: Instant,
    failures: u32,
    /// Error of the last fetch; `None` after a success.
    error: Option<Arc<JwksError>>,
}

impl FetchState {
    fn outcome(&self) -> Result<(), AuthError> {
        self.error.clone().map_or(Ok(()), |error| Err(AuthError::KeysUnavailable(error)))
    }
}

#[derive(Deserialize)]
struct KeySetDocument {
    keys: Vec<serde_json::Value>,
}

impl Jwks {
    /// Creates an empty key set; the first lookup fetches the keys.
    pub(super) fn new(
        url: Url,
        on_change: impl Fn() + Send + Sync + 'static,
        pacing: RefreshPolicy,
    ) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(FETCH_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("rollcall/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let shared =
            Shared { url, client, policy: pacing, on_change: Box::new(on_change), keys: RwLock::default() };
        let fetching = FetchState { next_fetch_at: Instant::now(), failures: 0, error: None };
        Ok(Self { shared: Arc::new(shared), fetch_state: Arc::new(Mutex::new(fetching)) })
    }

    /// Finds the key that `kid` names, if it supports `algorithm`.
    ///
    /// # Errors
    /// [`AuthError::KeysUnavailable`] when the keys must be fetched and the fetch fails.
    pub(super) async fn find(
        &self,
        kid: Option<&str>,
        algorithm: SigningAlgorithm,
    ) -> Result<VerifyingKey, AuthError> {
        match self.shared.look_up(kid, algorithm) {
            Err(AuthError::UnknownKey) => {}
            found => return found,
        }
        let guard = Arc::clone(&self.fetch_state).lock_owned().await;
        // Another task may have fetched it in the meantime.
        match self.shared.look_up(kid, algorithm) {
            Err(AuthError::UnknownKey) => {}
            found => return found,
        }
        if Instant::now() < guard.next_fetch_at {
            guard.outcome()?;
        } else {
            let fetch = tokio::spawn(fetch(Arc::clone(&self.shared), guard));
            fetch.await.unwrap_or_else(|_| Err(AuthError::KeysUnavailable(Arc::new(JwksError::Aborted))))?;
        }
        self.shared.look_up(kid, algorithm)
    }

    /// Starts a background fetch if the keys are stale. Must run in a Tokio runtime.
    pub(super) fn refresh_if_stale(&self) {
        let age = self.shared.keys.read().fetched_at.map(|at| at.elapsed());
        if age.is_none_or(|age| age < self.shared.policy.max_age) {
            return;
        }
        if let Ok(guard) = Arc::clone(&self.fetch_state).try_lock_owned()
            && Instant::now() >= guard.next_fetch_at
        {
            tokio::spawn(fetch(Arc::clone(&self.shared), guard));
        }
    }
}

impl Shared {
    fn look_up(&self, kid: Option<&str>, algorithm: SigningAlgorithm) -> Result<VerifyingKey, AuthError> {
        self.keys.read().look_up(kid, algorithm)
    }

    fn replace_keys(&self, text: Vec<u8>, keys: Vec<(Option<String>, VerifyingKey)>) {
        let mut set = self.keys.write();
        let changed = set.text != text;
        *set = KeySet { keys, text, fetched_at: Some(Instant::now()) };
        if changed {
            tracing::info!(keys = set.keys.len(), "signing keys changed");
            (self.on_change)();
        }
    }

    async fn download(&self) -> Result<Vec<u8>, JwksError> {
        // The URL is removed because it may hold credentials.
        let failed = |error: reqwest::Error| JwksError::Request(error.without_url());
        let mut response = self.client.get(self.url.clone()).send().await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            return Err(JwksError::Status(response.status()));
        }
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if text.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(JwksError::TooLarge);
            }
            text.extend_from_slice(&chunk);
        }
        Ok(text)
    }
}

/// Fetches the keys and updates the key set and the fetch state.
async fn fetch(shared: Arc<Shared>, mut fetching: OwnedMutexGuard<FetchState>) -> Result<(), AuthError> {
    let fetched = shared.download().await.and_then(|text| Ok((parse_key_set(&text)?, text)));
    match fetched {
        Ok((keys, text)) => {
            shared.replace_keys(text, keys);
            fetching.failures = 0;
            fetching.error = None;
        }
        Err(error) => {
            fetching.failures = fetching.failures.saturating_add(1);
            let error: Arc<JwksError> = Arc::new(error);
            tracing::warn!(
                error = &*error as &dyn std::error::Error,
                failures = fetching.failures,
                "signing key fetch failed"
            );
            fetching.error = Some(error);
        }
    }
    let have_keys = shared.keys.read().fetched_at.is_some();
    fetching.next_fetch_at = Instant::now() + shared.policy.delay(fetching.failures, have_keys);
    fetching.outcome()
}

/// Parses the usable keys of a set; unusable ones are skipped.
fn parse_key_set(text: &[u8]) -> Result<Vec<(Option<String>, VerifyingKey)>, JwksError> {
    let document: KeySetDocument = serde_json::from_slice(text).map_err(JwksError::InvalidKeySet)?;
    let usable = document.keys.into_iter().filter_map(|entry| {
        let jwk = parse_jwk(entry)
            .inspect_err(|error| tracing::debug!(error = %ErrorChain(error), "invalid JWK skipped"))
            .ok()?;
        let kid = jwk.common.key_id.clone();
        verifying_key(&jwk)
            .inspect_err(|reason| tracing::debug!(%reason, kid, "unusable JWK skipped"))
            .ok()
            .map(|key| (kid.clone(), key))
    });
    Ok(usable.take(MAX_KEYS).collect())
}
