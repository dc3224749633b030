//! The three parts of a JWT: taken apart without trusting any of them, and put together for the CLI and tests.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::AuthError;

/// The longest token that is looked at, in bytes. Tokens travel in headers and URLs, where proxies cut at 8 KiB.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A token could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("the token could not be signed")]
pub struct MintError(#[from] jsonwebtoken::errors::Error);

/// Signs `claims` with HS256 and `secret`.
///
/// # Errors
/// When `claims` do not serialize to JSON.
pub fn mint<C: Serialize>(secret: &str, claims: &C) -> Result<String, MintError> {
    let header = Header::new(Algorithm::HS256);
    Ok(jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes()))?)
}

/// The algorithms that a token may be signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum SigningAlgorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    EdDsa,
}

impl SigningAlgorithm {
    /// Reads `alg`. Exact, as RFC 7515 has it: `none` in whatever case is refused like any other stranger.
    fn from_header(text: &str) -> Result<Self, AuthError> {
        match text {
            "HS256" => Ok(Self::Hs256),
            "HS384" => Ok(Self::Hs384),
            "HS512" => Ok(Self::Hs512),
            "RS256" => Ok(Self::Rs256),
            "RS384" => Ok(Self::Rs384),
            "RS512" => Ok(Self::Rs512),
            "ES256" => Ok(Self::Es256),
            "ES384" => Ok(Self::Es384),
            "EdDSA" | "Ed25519" => Ok(Self::EdDsa),
            _ => Err(AuthError::AlgorithmNotAllowed),
        }
    }

    /// Whether it is made with a shared secret.
    pub(super) const fn is_symmetric(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

    /// Whether callers may use it; the others are for channels alone, whose clients bring whatever their issuer signs.
    pub(super) const fn is_allowed_for_api(self) -> bool {
        matches!(self, Self::Hs256 | Self::Rs256 | Self::Es256 | Self::EdDsa)
    }

    /// The same in the words of the library.
    pub(super) const fn as_jwa(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HS256,
            Self::Hs384 => Algorithm::HS384,
            Self::Hs512 => Algorithm::HS512,
            Self::Rs256 => Algorithm::RS256,
            Self::Rs384 => Algorithm::RS384,
            Self::Rs512 => Algorithm::RS512,
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// A token taken apart; nothing of it is verified.
#[derive(Debug)]
pub(super) struct TokenParts<'a> {
    /// What the header says it is signed with. Never decides by itself which key is used.
    pub(super) algorithm: SigningAlgorithm,
    /// Which key it claims.
    pub(super) kid: Option<String>,
    /// Header and payload as sent: what the signature is over.
    pub(super) signing_input: &'a str,
    /// Base64url.
    pub(super) signature: &'a str,
    /// The payload's JSON, in bytes.
    pub(super) payload: Vec<u8>,
}

#[derive(Deserialize)]
struct RawHeader {
    alg: String,
    kid: Option<String>,
    /// RFC 7515, 4.1.11: what is marked critical and not understood has to be refused, and we understand none.
    crit: Option<IgnoredAny>,
}

/// Takes a token apart.
pub(super) fn parse(token: &str) -> Result<TokenParts<'_>, AuthError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(AuthError::Malformed("not a JWT"))?;
    let (header, payload) = signed.split_once('.').ok_or(AuthError::Malformed("not a JWT"))?;
    let header =
        URL_SAFE_NO_PAD.decode(header).map_err(|_| AuthError::Malformed("header is not base64url"))?;
    let header: RawHeader =
        serde_json::from_slice(&header).map_err(|_| AuthError::Malformed("header is not a JWT header"))?;
    let algorithm = SigningAlgorithm::from_header(&header.alg)?;
    if header.crit.is_some() {
        return Err(AuthError::Malformed("header has critical extensions"));
    }
    let payload =
        URL_SAFE_NO_PAD.decode(payload).map_err(|_| AuthError::Malformed("payload is not base64url"))?;
    Ok(TokenParts { algorithm, kid: header.kid, signing_input: signed, signature, payload })
}
