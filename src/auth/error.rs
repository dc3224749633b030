//! Authentication errors.

use std::{borrow::Cow, sync::Arc};

use axum::http::StatusCode;

/// Why the keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// The request failed or the body was incomplete.
    #[error("the key set could not be fetched")]
    Request(#[source] reqwest::Error),
    /// The status was not 200. Redirects are not followed.
    #[error("the key set request was answered with status {0}")]
    Status(StatusCode),
    /// The body exceeds 256 KiB.
    #[error("the key set exceeds 256 KiB")]
    TooLarge,
    /// The body is not a JSON Web Key Set.
    #[error("the key set is not a JSON Web Key Set")]
    InvalidKeySet(#[source] serde_json::Error),
    #[error("the key set fetch was aborted")]
    Aborted,
}

/// Why a caller is not authenticated. The texts are stable and never contain the token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthError {
    /// No credentials were sent.
    #[error("credentials are missing; send Authorization: Bearer <token> or an apikey header")]
    Missing,
    /// Not a JWT, or a claim has the wrong type; says which part.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// Longer than [`super::token::MAX_TOKEN_BYTES`].
    #[error("the token is too long; the maximum is 8192 bytes")]
    TooLong,
    /// `exp` is in the past; there is no leeway.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is in the future.
    #[error("the token is not valid yet (nbf)")]
    NotYetValid,
    /// The signature does not match the token and the key.
    #[error("the token's signature is invalid")]
    BadSignature,
    /// `alg` is `none`, unsupported, or not allowed for the key.
    #[error("the token's signing algorithm (alg) is not allowed")]
    AlgorithmNotAllowed,
    /// `kid` matches no key, or is absent while there are several keys.
    #[error("the token's signing key (kid) is unknown")]
    UnknownKey,
    #[error("the token has no expiry (exp)")]
    MissingExp,
    #[error("the token's issuer (iss) is not accepted")]
    WrongIssuer,
    /// `aud` does not contain the configured audience.
    #[error("the token's audience (aud) is not accepted")]
    WrongAudience,
    /// `role` is not one of the three roles.
    #[error("the token's role must be one of anon, authenticated, service_role")]
    UnknownRole,
    /// A token with role `authenticated` has no `sub`.
    #[error("the token has no user ID (sub)")]
    NoSubject,
    #[error("the token's user ID (sub) must be a UUID")]
    InvalidSubject,
    /// The credentials are valid but name no user: an anon key or the service role.
    #[error("this request requires the token of a user")]
    UserRequired,
    /// The signing keys could not be fetched, so the token cannot be verified.
    #[error("the signing keys are unavailable; try again later")]
    KeysUnavailable(#[source] Arc<JwksError>),
}

impl AuthError {
    /// Whether a retry with the same token may succeed, because the fault is on the server's side.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::KeysUnavailable(_))
    }
}

/// Why a channel token is rejected. The texts equal those of Supabase Realtime, because clients compare them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelTokenError {
    /// The token is missing or malformed.
    #[error("The token provided is not a valid JWT")]
    Malformed,
    /// The token expired this many seconds ago.
    #[error("Token has expired {0} seconds ago")]
    Expired(i64),
    /// `role` or `exp` is missing.
    #[error("Fields `role` and `exp` are required in JWT")]
    MissingClaims,
    /// `nbf` is in the future.
    #[error("Token is not valid yet")]
    NotYetValid,
    /// `exp` is not a number.
    #[error("Token expiration time is invalid")]
    InvalidExpiry,
    /// The signature does not match the token and the key.
    #[error("Failed to validate JWT signature")]
    Signature,
    /// No key is configured for the token's algorithm.
    #[error("Failed to generate JWT signer, check your JWT secret or JWKS configuration")]
    Signer,
    /// No key has the `kid` of the token.
    #[error(
        "Failed to generate JWT signer for key ID (kid) \"{0}\", check your JWT secret or JWKS configuration"
    )]
    SignerForKey(Box<str>),
}

impl ChannelTokenError {
    /// Code that precedes the text in replies to joins.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "MalformedJWT",
            Self::Expired(_) | Self::NotYetValid | Self::MissingClaims | Self::InvalidExpiry => {
                "InvalidJWTToken"
            }
            Self::Signature => "JwtSignatureError",
            Self::Signer | Self::SignerForKey(_) => "JwtSignerError",
        }
    }

    /// Text in a rejected handshake, which omits the number of seconds.
    #[must_use]
    pub fn handshake_message(&self) -> Cow<'static, str> {
        match self {
            Self::Expired(_) => "Token has expired".into(),
            other => other.to_string().into(),
        }
    }

    /// Converts an error of the signature check.
    pub(super) fn from_auth(error: &AuthError, kid: Option<&str>) -> Self {
        match error {
            AuthError::BadSignature => Self::Signature,
            AuthError::UnknownKey | AuthError::KeysUnavailable(_) => {
                kid.map_or(Self::Signer, |kid| Self::SignerForKey(kid.into()))
            }
            AuthError::AlgorithmNotAllowed => Self::Signer,
            AuthError::NotYetValid => Self::NotYetValid,
            _ => Self::Malformed,
        }
    }
}
