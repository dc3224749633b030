//! Why a caller is not believed.

use std::sync::Arc;

use super::jwks::JwksError;

/// Why a token was refused. The texts are for people and stable; none of them carries the token or a part of it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthError {
    /// Nothing was presented.
    #[error("authentication is required")]
    Missing,
    /// Not a token at all, or a claim of the wrong type; says which part.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// Over [`super::token::MAX_BYTES`].
    #[error("the token is too long")]
    TooLong,
    /// `exp` is past; there is no leeway.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// The signature does not belong to the token and the key.
    #[error("the token's signature is not valid")]
    BadSignature,
    /// `alg` is `none`, is not supported, or is not what the key is for.
    #[error("the token's signing algorithm is not allowed")]
    AlgorithmNotAllowed,
    /// `kid` names no key, or is absent where there are several keys.
    #[error("the token's signing key is not known")]
    UnknownKey,
    /// `exp` is absent.
    #[error("the token has no expiry (exp)")]
    MissingExp,
    /// `iss` is not the configured issuer.
    #[error("the token's issuer is not accepted")]
    WrongIssuer,
    /// `aud` does not hold the configured audience.
    #[error("the token's audience is not accepted")]
    WrongAudience,
    /// `role` is none of the three.
    #[error("the token's role is not one of anon, authenticated, service_role")]
    UnknownRole,
    /// An `authenticated` token without `sub`.
    #[error("the token names no user (sub)")]
    NoSubject,
    /// `sub` is not a UUID.
    #[error("the token's user id (sub) is not a UUID")]
    InvalidSubject,
    /// The caller is believed, but is no user: an anon key, or the service itself.
    #[error("this needs a signed-in user")]
    UserRequired,
    /// The signing keys could not be fetched, so nothing can be said about the token.
    #[error("the signing keys are out of reach, try again soon")]
    KeysUnavailable(#[source] Arc<JwksError>),
}

impl AuthError {
    /// Whether another try with the same token may succeed: the fault is on the server's side.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::KeysUnavailable(_))
    }
}
