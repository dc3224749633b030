//! JWT encoding: parses the three parts of a token without trusting them, and signs tokens for the CLI and
//! tests.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::AuthError;

/// Maximum size of a token in bytes. Tokens travel in headers and URLs, where proxies limit them to 8 KiB.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

#[derive(Debug, thiserror::Error)]
#[error("the token could not be signed")]
pub struct MintError(#[from] jsonwebtoken::errors::Error);

/// Signs `claims` with HS256 and `secret`.
///
/// # Errors
/// When `claims` cannot be serialized to JSON.
pub fn mint<C: Serialize>(secret: &str, claims: &C) -> Result<String, MintError> {
    let header = Header::new(Algorithm::HS256);
    Ok(jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes()))?)
}

/// A signing algorithm that the server can verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SigningAlgorithm {
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
    /// Parses `alg`, case-sensitively as RFC 7515 requires. `None` for `none` and any unknown algorithm.
    pub(super) fn from_name(text: &str) -> Option<Self> {
        match text {
            "HS256" => Some(Self::Hs256),
            "HS384" => Some(Self::Hs384),
            "HS512" => Some(Self::Hs512),
            "RS256" => Some(Self::Rs256),
            "RS384" => Some(Self::Rs384),
            "RS512" => Some(Self::Rs512),
            "ES256" => Some(Self::Es256),
            "ES384" => Some(Self::Es384),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }

    /// Whether it uses a shared secret.
    pub(super) const fn is_symmetric(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

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

/// Parts of a token that is not verified yet.
#[derive(Debug)]
pub(super) struct TokenParts<'a> {
    /// Algorithm in the header. It does not select the key by itself.
    pub(super) algorithm: SigningAlgorithm,
    /// Key ID in the header.
    pub(super) kid: Option<String>,
    /// Header and payload as sent: the text that is signed.
    pub(super) signing_input: &'a str,
    /// Signature in base64url.
    pub(super) signature: &'a str,
    /// Payload: JSON in bytes.
    pub(super) payload: Vec<u8>,
}

#[derive(Deserialize)]
struct RawHeader {
    alg: String,
    kid: Option<String>,
    /// RFC 7515, section 4.1.11: unknown critical extensions must be rejected; none are supported.
    crit: Option<IgnoredAny>,
}

/// Splits and decodes a token.
pub(super) fn parse(token: &str) -> Result<TokenParts<'_>, AuthError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(AuthError::Malformed("not a JWT"))?;
    let (header, payload) = signed.split_once('.').ok_or(AuthError::Malformed("not a JWT"))?;
    let header =
        URL_SAFE_NO_PAD.decode(header).map_err(|_| AuthError::Malformed("header is not base64url"))?;
    let header: RawHeader =
        serde_json::from_slice(&header).map_err(|_| AuthError::Malformed("header is not a JWT header"))?;
    let algorithm = SigningAlgorithm::from_name(&header.alg).ok_or(AuthError::AlgorithmNotAllowed)?;
    if header.crit.is_some() {
        return Err(AuthError::Malformed("header has critical extensions"));
    }
    let payload =
        URL_SAFE_NO_PAD.decode(payload).map_err(|_| AuthError::Malformed("payload is not base64url"))?;
    Ok(TokenParts { algorithm, kid: header.kid, signing_input: signed, signature, payload })
}
