//! Verifies credentials and caches the results.

use std::{collections::HashMap, fmt, sync::Arc};

use reqwest::Url;
use sha2::{Digest, Sha256};

use super::{
    AuthError, ChannelTokenError, JwksError, Principal, Role,
    cache::{Fingerprint, TokenCache},
    channel_token,
    claims::{self, ClaimRequirements},
    jwks::{Jwks, KeySet, RefreshPolicy},
    key::VerifyingKey,
    settings::{MIN_SECRET_BYTES, VerifierSettings},
    token::{self, SigningAlgorithm, TokenParts},
};
use crate::{clock::Clock, model::Secret};

/// The settings are invalid.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    /// The JWT secret is empty.
    #[error("the JWT secret must not be empty")]
    EmptySecret,
    /// The JWKS URL is not an absolute `http` or `https` URL.
    #[error("the JWKS URL must be an absolute http or https URL")]
    BadJwksUrl,
    /// An API key is empty.
    #[error("an API key must not be empty")]
    EmptyApiKey,
    /// An API key has role `authenticated`, which needs a user.
    #[error("the role of an API key must be anon or service_role")]
    ApiKeyWithoutUser,
    #[error("the JSON Web Key Set is invalid")]
    InvalidKeySet(#[source] JwksError),
    /// The HTTP client for the key set could not be built.
    #[error("the HTTP client for the key set could not be built")]
    Client(#[source] reqwest::Error),
}

/// Verifies JWTs and API keys. One per process; share it in an [`Arc`].
pub struct Verifier {
    secret: Option<VerifyingKey>,
    jwks: Option<Jwks>,
    /// Keys of the setting `JWKS`.
    fixed_keys: Option<KeySet>,
    requirements: ClaimRequirements,
    algorithms: Vec<SigningAlgorithm>,
    /// By SHA-256 of the key, so that the time of a lookup reveals nothing about it.
    api_keys: HashMap<Fingerprint, Role>,
    /// Verified under the rules of the REST API.
    api_cache: Arc<TokenCache>,
    /// Verified under the rules of channels.
    channel_cache: Arc<TokenCache>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("rules", &self.requirements).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Builds the verifier. Does not fetch keys yet.
    ///
    /// # Errors
    /// [`VerifierError`] when the settings are invalid.
    pub fn new(settings: VerifierSettings, clock: Arc<dyn Clock>) -> Result<Self, VerifierError> {
        Self::with_refresh_policy(settings, clock, RefreshPolicy::default())
    }

    pub(super) fn with_refresh_policy(
        settings: VerifierSettings,
        clock: Arc<dyn Clock>,
        pacing: RefreshPolicy,
    ) -> Result<Self, VerifierError> {
        // An error means that a provider is already installed; it is the same one.
        rustls::crypto::ring::default_provider().install_default().ok();

        let VerifierSettings {
            jwt_secret,
            jwks_url,
            jwks: fixed_keys,
            issuer,
            audience,
            algorithms,
            channel_roles,
            api_keys,
        } = settings;
        let secret = match jwt_secret.as_ref().map(Secret::expose) {
            Some("") => return Err(VerifierError::EmptySecret),
            Some(secret) => {
                if secret.len() < MIN_SECRET_BYTES {
                    tracing::warn!(
                        bytes = secret.len(),
                        recommended = MIN_SECRET_BYTES,
                        "JWT secret is shorter than recommended"
                    );
                }
                Some(VerifyingKey::from_secret(secret))
            }
            None => None,
        };
        let api_cache = Arc::new(TokenCache::default());
        let channel_cache = Arc::new(TokenCache::default());
        let fixed_keys = fixed_keys.map(|text| KeySet::fixed(text.expose())).transpose();
        let fixed_keys = fixed_keys.map_err(VerifierError::InvalidKeySet)?;
        let jwks = match jwks_url {
            Some(url) => {
                let url = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
                let url = url.ok_or(VerifierError::BadJwksUrl)?;
                let caches = [api_cache.clone(), channel_cache.clone()];
                let clear_caches = move || caches.iter().for_each(|cache| cache.clear());
                Some(Jwks::new(url, clear_caches, pacing).map_err(VerifierError::Client)?)
            }
            None => None,
        };
        if api_keys.keys().any(|key| key.expose().is_empty()) {
            return Err(VerifierError::EmptyApiKey);
        }
        if api_keys.values().any(|role| *role == Role::Authenticated) {
            return Err(VerifierError::ApiKeyWithoutUser);
        }
        let api_keys = api_keys.into_iter().map(|(key, role)| (fingerprint(key.expose()), role)).collect();
        let rules = ClaimRequirements { issuer, audience, channel_roles };
        Ok(Self {
            secret,
            jwks,
            fixed_keys,
            requirements: rules,
            algorithms,
            api_keys,
            api_cache,
            channel_cache,
            clock,
        })
    }

    /// Verifies `token`, a JWT or an API key.
    ///
    /// # Errors
    /// The reason of the rejection. Only [`AuthError::KeysUnavailable`] is transient.
    pub async fn verify(&self, token: &str) -> Result<Principal, AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        if token.len() > token::MAX_TOKEN_BYTES {
            return Err(AuthError::TooLong);
        }
        let fingerprint = fingerprint(token);
        if let Some(role) = self.api_keys.get(&fingerprint) {
            return Ok(Principal::with_role(role.clone()));
        }
        if let Some(jwks) = &self.jwks {
            jwks.refresh_if_stale();
        }
        if let Some(caller) = self.api_cache.get(&fingerprint) {
            if caller.expires_at <= self.clock.now() {
                self.api_cache.remove(&fingerprint);
                return Err(AuthError::Expired);
            }
            return Ok(caller);
        }

        let parts = token::parse(token)?;
        // Read before the key: a result of a key that is withdrawn meanwhile is not cached.
        let epoch = self.api_cache.epoch();
        self.check(&parts).await?;
        let caller = claims::parse_principal(&parts.payload, &self.requirements, self.clock.now())?;
        self.api_cache.insert(epoch, fingerprint, &caller);
        Ok(caller)
    }

    /// Verifies a channel token, a JWT or an API key.
    ///
    /// # Errors
    /// The reason of the rejection, with the texts of Supabase Realtime.
    pub async fn verify_channel_token(&self, token: &str) -> Result<Principal, ChannelTokenError> {
        let token = channel_token::normalize(token);
        if token.is_empty() || token.len() > token::MAX_TOKEN_BYTES {
            return Err(ChannelTokenError::Malformed);
        }
        let fingerprint = fingerprint(&token);
        if let Some(role) = self.api_keys.get(&fingerprint) {
            return Ok(Principal::with_role(role.clone()));
        }
        if let Some(jwks) = &self.jwks {
            jwks.refresh_if_stale();
        }
        if let Some(known) = self.channel_cache.get(&fingerprint) {
            return known
                .check_expiry(self.clock.now())
                .inspect_err(|_| self.channel_cache.remove(&fingerprint))
                .map(|()| known);
        }
        let parts = token::parse(&token).map_err(|error| ChannelTokenError::from_auth(&error, None))?;
        let epoch = self.channel_cache.epoch();
        let checked = self.check(&parts).await;
        checked.map_err(|error| ChannelTokenError::from_auth(&error, parts.kid.as_deref()))?;
        let principal = channel_token::parse_claims(&parts.payload, &self.requirements, self.clock.now())?;
        self.channel_cache.insert(epoch, fingerprint, &principal);
        Ok(principal)
    }

    /// Verifies algorithm and signature. HMAC tokens use only the secret, whatever their `kid`; others only published
    /// keys.
    async fn check(&self, parts: &TokenParts<'_>) -> Result<(), AuthError> {
        if !self.algorithms.contains(&parts.algorithm) {
            return Err(AuthError::AlgorithmNotAllowed);
        }
        let key = if parts.algorithm.is_symmetric() {
            self.secret.clone().ok_or(AuthError::AlgorithmNotAllowed)?
        } else {
            self.find_public_key(parts).await?
        };
        key.verify(parts)
    }

    async fn find_public_key(&self, parts: &TokenParts<'_>) -> Result<VerifyingKey, AuthError> {
        let fixed = self.fixed_keys.as_ref().map(|keys| keys.look_up(parts.kid.as_deref(), parts.algorithm));
        match fixed {
            Some(Err(AuthError::UnknownKey)) if self.jwks.is_some() => {}
            Some(found) => return found,
            None => {}
        }
        let jwks = self.jwks.as_ref().ok_or(AuthError::AlgorithmNotAllowed)?;
        jwks.find(parts.kid.as_deref(), parts.algorithm).await
    }
}

fn fingerprint(token: &str) -> Fingerprint {
    Sha256::digest(token.as_bytes()).into()
}
