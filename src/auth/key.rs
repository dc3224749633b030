//! A verification key and the algorithms that it may be used with.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    DecodingKey,
    jwk::{
        AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
        RSAKeyParameters,
    },
};
use serde_json::Value;

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

/// Parses an entry of a key set.
pub(super) fn parse_jwk(mut entry: Value) -> Result<Jwk, serde_json::Error> {
    // RFC 9864 renamed the algorithm; the library knows the earlier name.
    if entry["alg"] == "Ed25519" {
        entry["alg"] = "EdDSA".into();
    }
    serde_json::from_value(entry)
}

/// Converts an entry of a key set to a key for its `alg`, or for all algorithms of its kind. Symmetric entries are
/// rejected, because a published secret is not secret.
pub(super) fn verifying_key(jwk: &Jwk) -> Result<VerifyingKey, UnusableJwk> {
    let CommonParameters { public_key_use, key_operations, key_algorithm: alg, .. } = &jwk.common;
    let is_signature_key = public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let allows_verify = key_operations.as_ref().is_none_or(|ops| ops.contains(&KeyOperations::Verify));
    if !is_signature_key || !allows_verify {
        return Err(UnusableJwk::NotForVerification);
    }
    let algorithms: &'static [SigningAlgorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            use SigningAlgorithm::{Rs256, Rs384, Rs512};
            check_rsa(rsa)?;
            match alg {
                None => &[Rs256, Rs384, Rs512],
                Some(KeyAlgorithm::RS256) => &[Rs256],
                Some(KeyAlgorithm::RS384) => &[Rs384],
                Some(KeyAlgorithm::RS512) => &[Rs512],
                Some(_) => return Err(UnusableJwk::Unsupported),
            }
        }
        AlgorithmParameters::EllipticCurve(ec) => {
            let (algorithms, bytes): (&[_], _) = match (&ec.curve, alg) {
                (EllipticCurve::P256, None | Some(KeyAlgorithm::ES256)) => (&[SigningAlgorithm::Es256], 32),
                (EllipticCurve::P384, None | Some(KeyAlgorithm::ES384)) => (&[SigningAlgorithm::Es384], 48),
                _ => return Err(UnusableJwk::Unsupported),
            };
            for coordinate in [&ec.x, &ec.y] {
                check_length(coordinate, bytes)?;
            }
            algorithms
        }
        AlgorithmParameters::OctetKeyPair(pair) => match (&pair.curve, alg) {
            (EllipticCurve::Ed25519, None | Some(KeyAlgorithm::EdDSA)) => {
                check_length(&pair.x, 32)?;
                &[SigningAlgorithm::EdDsa]
            }
            _ => return Err(UnusableJwk::Unsupported),
        },
        // An unknown type or curve, or a field that is missing.
        _ => return Err(UnusableJwk::Unsupported),
    };
    let key = DecodingKey::from_jwk(jwk).map_err(|_| UnusableJwk::InvalidKeyMaterial)?;
    Ok(VerifyingKey { algorithms, key })
}

fn check_rsa(rsa: &RSAKeyParameters) -> Result<(), UnusableJwk> {
    let (n, e) = (decode_base64url(&rsa.n)?, decode_base64url(&rsa.e)?);
    let modulus = n.iter().skip_while(|byte| **byte == 0).count();
    if (MIN_RSA_MODULUS_BYTES..=MAX_RSA_MODULUS_BYTES).contains(&modulus) && e.len() <= 8 {
        Ok(())
    } else {
        Err(UnusableJwk::InvalidKeyMaterial)
    }
}

/// A coordinate of another length is no point on the curve.
fn check_length(coordinate: &str, bytes: usize) -> Result<(), UnusableJwk> {
    if decode_base64url(coordinate)?.len() == bytes { Ok(()) } else { Err(UnusableJwk::InvalidKeyMaterial) }
}

fn decode_base64url(text: &str) -> Result<Vec<u8>, UnusableJwk> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| UnusableJwk::InvalidKeyMaterial)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unusable(jwk: serde_json::Value) -> UnusableJwk {
        let jwk = parse_jwk(jwk).expect("is an object");
        verifying_key(&jwk).err().expect("is unusable")
    }

    #[test]
    fn keys_of_each_kind_are_accepted() {
        let part = |bytes: usize| URL_SAFE_NO_PAD.encode(vec![1; bytes]);
        for (jwk, algorithm) in [
            (json!({"kty": "RSA", "n": part(256), "e": "AQAB", "use": "sig"}), SigningAlgorithm::Rs384),
            (json!({"kty": "RSA", "n": part(256), "e": "AQAB", "alg": "RS512"}), SigningAlgorithm::Rs512),
            (json!({"kty": "EC", "crv": "P-256", "x": part(32), "y": part(32)}), SigningAlgorithm::Es256),
            (
                json!({"kty": "EC", "crv": "P-384", "x": part(48), "y": part(48), "x5t": "?"}),
                SigningAlgorithm::Es384,
            ),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": part(32), "alg": "EdDSA"}), SigningAlgorithm::EdDsa),
            (
                json!({"kty": "OKP", "crv": "Ed25519", "x": part(32), "alg": "Ed25519"}),
                SigningAlgorithm::EdDsa,
            ),
        ] {
            let key = verifying_key(&parse_jwk(jwk.clone()).expect("is an object"));
            assert!(key.is_ok_and(|key| key.supports(algorithm)), "{jwk}");
        }
    }

    #[test]
    fn unsupported_or_incomplete_keys_are_rejected() {
        use UnusableJwk::{InvalidKeyMaterial, NotForVerification, Unsupported};
        let b32 = URL_SAFE_NO_PAD.encode([1; 32]);
        let b128 = URL_SAFE_NO_PAD.encode([1; 128]);
        let b256 = URL_SAFE_NO_PAD.encode([1; 256]);
        for (jwk, expected) in [
            (json!({"kty": "oct", "k": b32}), Unsupported),
            (json!({"kty": "RSA", "alg": "PS256", "n": b256, "e": "AQAB"}), Unsupported),
            (json!({"kty": "RSA", "use": "enc", "n": b128, "e": "AQAB"}), NotForVerification),
            (json!({"kty": "RSA", "key_ops": ["sign"], "n": b128, "e": "AQAB"}), NotForVerification),
            (json!({"kty": "RSA", "n": b128, "e": "AQAB"}), InvalidKeyMaterial),
            (json!({"kty": "RSA", "e": "AQAB"}), Unsupported),
            (json!({"kty": "EC", "crv": "P-521", "x": b32, "y": b32}), Unsupported),
            (json!({"kty": "EC", "crv": "P-384", "x": b32, "y": b32}), InvalidKeyMaterial),
            (json!({"kty": "EC", "crv": "P-256", "x": b32}), Unsupported),
            (json!({"kty": "EC", "crv": "P-256", "x": b32, "y": "!"}), InvalidKeyMaterial),
            (json!({"kty": "OKP", "crv": "X25519", "x": b32}), Unsupported),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"}), InvalidKeyMaterial),
        ] {
            assert_eq!(unusable(jwk.clone()), expected, "{jwk}");
        }
    }
}
