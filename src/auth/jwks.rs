//! The issuer's published keys: fetched when first needed, kept, and fetched again when a token names a new one.
//!
//! - One fetch at a time; whoever needs it meanwhile waits for that one. It runs in a task of its own, so a client
//!   that hangs up does not cancel it for the others.
//! - Strangers choose `kid`, so an unknown one costs the issuer at most one request in 10 s.
//! - A failed fetch leaves the keys as they were; the next try comes after a growing, jittered pause.
//! - Keys older than 10 minutes are fetched again in the background, so that a withdrawn one ceases to count.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use reqwest::{Client, StatusCode, Url, redirect};
use serde::Deserialize;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    AuthError,
    key::{Jwk, VerifyingKey},
    token::SigningAlgorithm,
};

/// A whole fetch, from the name look-up to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Of that, for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest key set that is read, in bytes; the large ones in the wild have about 20,000.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// The most keys that are kept.
const MAX_KEYS: usize = 64;

/// Why the keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// No answer, or not a whole one.
    #[error("the key set could not be fetched")]
    Request(#[source] reqwest::Error),
    /// An answer other than 200. Redirects are not followed.
    #[error("the key set's server answered {0}")]
    Status(StatusCode),
    /// Over 256 KiB.
    #[error("the key set is too large")]
    TooLarge,
    /// Not a JSON Web Key Set.
    #[error("the key set does not parse")]
    InvalidKeySet(#[source] serde_json::Error),
    /// The server is shutting down.
    #[error("the fetch was aborted")]
    Aborted,
}

/// How often the issuer is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefreshPolicy {
    /// After a success: the shortest time until an unknown `kid` causes another fetch. After a failure with keys
    /// in hand: the first pause, doubled each time.
    pub(super) retry_with_keys: Duration,
    /// After a failure with no keys in hand yet: the first pause, doubled each time.
    pub(super) retry_without_keys: Duration,
    /// The longest pause, before jitter.
    pub(super) max_retry: Duration,
    /// The age from which keys are fetched again without anybody asking.
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
    /// The pause after the `failures`th failure in a row (0: a success), with up to a half on top at random, so
    /// that nodes which failed together do not come back together.
    fn delay(self, failures: u32, have_keys: bool) -> Duration {
        if failures == 0 {
            return self.retry_with_keys;
        }
        let first = if have_keys { self.retry_with_keys } else { self.retry_without_keys };
        let doubled = first.saturating_mul(1 << (failures - 1).min(16)).min(self.max_retry);
        doubled.mul_f64(1.0 + rand::random::<f64>() / 2.0)
    }
}

/// The keys of one issuer.
#[derive(Clone)]
pub(super) struct Jwks {
    shared: Arc<Shared>,
    /// Held by whoever fetches.
    fetch_state: Arc<Mutex<FetchState>>,
}

struct Shared {
    url: Url,
    client: Client,
    policy: RefreshPolicy,
    /// Called whenever the keys change, to forget what was reached with the old ones.
    on_change: Box<dyn Fn() + Send + Sync>,
    keys: RwLock<KeySet>,
}

#[derive(Default)]
struct KeySet {
    keys: Vec<(Option<String>, VerifyingKey)>,
    /// The text they were read from; says whether anything changed.
    text: Vec<u8>,
    /// `None` until the first success.
    fetched_at: Option<Instant>,
}

struct FetchState {
    next_fetch_at: Instant,
    failures: u32,
    /// Of the last fetch; `None` after a success.
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
    /// Knows no key yet; fetches nothing before somebody asks.
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

    /// The key that `kid` names, if it is for `algorithm`.
    ///
    /// # Errors
    /// [`AuthError::KeysUnavailable`] where the keys would have to be fetched and cannot be.
    pub(super) async fn find(
        &self,
        kid: Option<&str>,
        algorithm: SigningAlgorithm,
    ) -> Result<VerifyingKey, AuthError> {
        match self.shared.look_up(kid, algorithm) {
            Err(AuthError::UnknownKey) => {}
            known => return known,
        }
        let guard = Arc::clone(&self.fetch_state).lock_owned().await;
        // Somebody may have fetched it while we waited.
        match self.shared.look_up(kid, algorithm) {
            Err(AuthError::UnknownKey) => {}
            known => return known,
        }
        if Instant::now() < guard.next_fetch_at {
            guard.outcome()?;
        } else {
            let fetch = tokio::spawn(fetch(Arc::clone(&self.shared), guard));
            fetch.await.unwrap_or_else(|_| Err(AuthError::KeysUnavailable(Arc::new(JwksError::Aborted))))?;
        }
        self.shared.look_up(kid, algorithm)
    }

    /// Starts a fetch in the background if the keys are old. Needs a Tokio runtime.
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
    /// [`AuthError::UnknownKey`] alone is worth a fetch.
    fn look_up(&self, kid: Option<&str>, algorithm: SigningAlgorithm) -> Result<VerifyingKey, AuthError> {
        let set = self.keys.read();
        if set.fetched_at.is_none() {
            return Err(AuthError::UnknownKey);
        }
        let named = |entry: &&(Option<String>, VerifyingKey)| kid.is_none() || entry.0.as_deref() == kid;
        let mut fitting = set.keys.iter().filter(named).filter(|(_, key)| key.supports(algorithm));
        match (fitting.next(), fitting.next()) {
            (Some((_, key)), None) => Ok(key.clone()),
            // Trying one after the other would let a stranger choose how much work a token is.
            (Some(_), Some(_)) => Err(AuthError::Malformed("header does not say which key (kid)")),
            (None, _) if set.keys.iter().any(|entry| named(&entry)) => Err(AuthError::AlgorithmNotAllowed),
            (None, _) => Err(AuthError::UnknownKey),
        }
    }

    fn replace_keys(&self, text: Vec<u8>, keys: Vec<(Option<String>, VerifyingKey)>) {
        let mut set = self.keys.write();
        let changed = set.text != text;
        *set = KeySet { keys, text, fetched_at: Some(Instant::now()) };
        if changed {
            tracing::info!(keys = set.keys.len(), "the signing keys have changed");
            (self.on_change)();
        }
    }

    async fn download(&self) -> Result<Vec<u8>, JwksError> {
        // Without the URL, which may carry credentials.
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

/// One fetch, and what follows from it.
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
                "the signing keys could not be fetched"
            );
            fetching.error = Some(error);
        }
    }
    let have_keys = shared.keys.read().fetched_at.is_some();
    fetching.next_fetch_at = Instant::now() + shared.policy.delay(fetching.failures, have_keys);
    fetching.outcome()
}

/// The usable keys of a set; a key that we cannot use is no reason to do without the others.
fn parse_key_set(text: &[u8]) -> Result<Vec<(Option<String>, VerifyingKey)>, JwksError> {
    let document: KeySetDocument = serde_json::from_slice(text).map_err(JwksError::InvalidKeySet)?;
    let usable = document.keys.into_iter().filter_map(|entry| {
        let jwk: Jwk = serde_json::from_value(entry)
            .inspect_err(|error| tracing::debug!(%error, "passing over what is no key"))
            .ok()?;
        let kid = jwk.kid().map(str::to_owned);
        jwk.verifying_key()
            .inspect_err(|reason| tracing::debug!(%reason, kid, "passing over a key"))
            .ok()
            .map(|key| (kid.clone(), key))
    });
    Ok(usable.take(MAX_KEYS).collect())
}
