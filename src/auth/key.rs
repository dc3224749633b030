//! A verification key and the algorithms that it may be used with.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

use super::{
    AuthError,
    token::{SigningAlgorithm, TokenParts},
};

/// Minimum RSA modulus in bytes (2,048 bits; RFC 7518, section 3.3).
const MIN_RSA_MODULUS_BYTES: usize = 256;
/// Maximum RSA modulus in bytes (8,192 bits): verification with a larger one is too slow.
const MAX_RSA_MODULUS_BYTES: usize = 1024;

/// A key pinned to its algorithms, so that a token cannot choose the kind of a key. The algorithms of one key
/// differ only in the hash.
#[derive(Clone)]
pub(super) struct VerifyingKey {
    algorithms: &'static [SigningAlgorithm],
    key: DecodingKey,
}

impl VerifyingKey {
    /// The shared secret, for HS256, HS384 and HS512 only.
    pub(super) fn from_secret(secret: &str) -> Self {
        const HMAC: &[SigningAlgorithm] =
            &[SigningAlgorithm::Hs256, SigningAlgorithm::Hs384, SigningAlgorithm::Hs512];
        Self { algorithms: HMAC, key: DecodingKey::from_secret(secret.as_bytes()) }
    }

    /// Whether the key may be used with `algorithm`.
    pub(super) fn supports(&self, algorithm: SigningAlgorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Verifies the signature over a token's header and payload.
    pub(super) fn verify(&self, parts: &TokenParts<'_>) -> Result<(), AuthError> {
        if !self.supports(parts.algorithm) {
            return Err(AuthError::AlgorithmNotAllowed);
        }
        let algorithm = parts.algorithm.as_jwa();
        match jsonwebtoken::crypto::verify(
            parts.signature,
            parts.signing_input.as_bytes(),
            &self.key,
            algorithm,
        ) {
            Ok(true) => Ok(()),
            // An error means that the signature is not base64url or that the key is not a point on its curve.
            Ok(false) | Err(_) => Err(AuthError::BadSignature),
        }
    }
}

/// The fields of a JSON Web Key (RFC 7517) that are used.
#[derive(Debug, Deserialize)]
pub(super) struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    public_use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Why a key of the set is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnusableJwk {
    #[error("not usable for signature verification")]
    NotForVerification,
    #[error("key type, curve or algorithm is not supported")]
    Unsupported,
    #[error("key material is missing or has the wrong size")]
    InvalidKeyMaterial,
}

impl Jwk {
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Converts the entry to a key for its `alg`, or for all algorithms of its kind. Symmetric entries are
    /// rejected, because a published secret is not secret.
    pub(super) fn verifying_key(&self) -> Result<VerifyingKey, UnusableJwk> {
        let is_signature_key = self.public_use.as_deref().is_none_or(|purpose| purpose == "sig");
        let allows_verify = self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !is_signature_key || !allows_verify {
            return Err(UnusableJwk::NotForVerification);
        }
        let alg = self.alg.as_deref();
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                use SigningAlgorithm::{Rs256, Rs384, Rs512};
                match alg {
                    None => self.rsa(&[Rs256, Rs384, Rs512]),
                    Some("RS256") => self.rsa(&[Rs256]),
                    Some("RS384") => self.rsa(&[Rs384]),
                    Some("RS512") => self.rsa(&[Rs512]),
                    Some(_) => Err(UnusableJwk::Unsupported),
                }
            }
            ("EC", Some("P-256")) if matches!(alg, None | Some("ES256")) => {
                self.ec::<32>(&[SigningAlgorithm::Es256])
            }
            ("EC", Some("P-384")) if matches!(alg, None | Some("ES384")) => {
                self.ec::<48>(&[SigningAlgorithm::Es384])
            }
            ("OKP", Some("Ed25519")) if matches!(alg, None | Some("EdDSA" | "Ed25519")) => self.ed25519(),
            _ => Err(UnusableJwk::Unsupported),
        }
    }

    fn rsa(&self, algorithms: &'static [SigningAlgorithm]) -> Result<VerifyingKey, UnusableJwk> {
        let (n, e) = (decode_base64url(self.n.as_deref())?, decode_base64url(self.e.as_deref())?);
        let modulus = n.iter().skip_while(|byte| **byte == 0).count();
        if !(MIN_RSA_MODULUS_BYTES..=MAX_RSA_MODULUS_BYTES).contains(&modulus) || e.len() > 8 {
            return Err(UnusableJwk::InvalidKeyMaterial);
        }
        let key = DecodingKey::from_rsa_raw_components(&n, &e);
        Ok(VerifyingKey { algorithms, key })
    }

    /// Builds an EC key; each coordinate has `N` bytes.
    fn ec<const N: usize>(
        &self,
        algorithms: &'static [SigningAlgorithm],
    ) -> Result<VerifyingKey, UnusableJwk> {
        let (x, y) = (decode_array::<N>(self.x.as_deref())?, decode_array::<N>(self.y.as_deref())?);
        // SEC 1: an uncompressed point is 0x04, x, y.
        let point = [&[4][..], &x, &y].concat();
        Ok(VerifyingKey { algorithms, key: DecodingKey::from_ec_der(&point) })
    }

    fn ed25519(&self) -> Result<VerifyingKey, UnusableJwk> {
        let x = decode_array::<32>(self.x.as_deref())?;
        Ok(VerifyingKey { algorithms: &[SigningAlgorithm::EdDsa], key: DecodingKey::from_ed_der(&x) })
    }
}

fn decode_base64url(part: Option<&str>) -> Result<Vec<u8>, UnusableJwk> {
    let text = part.ok_or(UnusableJwk::InvalidKeyMaterial)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| UnusableJwk::InvalidKeyMaterial)
}

fn decode_array<const N: usize>(part: Option<&str>) -> Result<[u8; N], UnusableJwk> {
    decode_base64url(part)?.try_into().map_err(|_| UnusableJwk::InvalidKeyMaterial)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unusable(jwk: serde_json::Value) -> UnusableJwk {
        let jwk: Jwk = serde_json::from_value(jwk).expect("has a kty");
        jwk.verifying_key().err().expect("is unusable")
    }

    #[test]
    fn unsupported_or_incomplete_keys_are_rejected() {
        use UnusableJwk::{InvalidKeyMaterial, NotForVerification, Unsupported};
        let b32 = URL_SAFE_NO_PAD.encode([1; 32]);
        let b128 = URL_SAFE_NO_PAD.encode([1; 128]);
        for (jwk, expected) in [
            (json!({"kty": "oct", "k": b32}), Unsupported),
            (json!({"kty": "RSA", "alg": "PS256", "n": b128, "e": "AQAB"}), Unsupported),
            (json!({"kty": "RSA", "use": "enc", "n": b128, "e": "AQAB"}), NotForVerification),
            (json!({"kty": "RSA", "key_ops": ["sign"], "n": b128, "e": "AQAB"}), NotForVerification),
            (json!({"kty": "RSA", "n": b128, "e": "AQAB"}), InvalidKeyMaterial),
            (json!({"kty": "RSA", "e": "AQAB"}), InvalidKeyMaterial),
            (json!({"kty": "EC", "crv": "P-521", "x": b32, "y": b32}), Unsupported),
            (json!({"kty": "EC", "crv": "P-384", "x": b32, "y": b32}), InvalidKeyMaterial),
            (json!({"kty": "EC", "crv": "P-256", "x": b32}), InvalidKeyMaterial),
            (json!({"kty": "EC", "crv": "P-256", "x": b32, "y": "!"}), InvalidKeyMaterial),
            (json!({"kty": "OKP", "crv": "X25519", "x": b32}), Unsupported),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"}), InvalidKeyMaterial),
        ] {
            assert_eq!(unusable(jwk.clone()), expected, "{jwk}");
        }
    }
}
