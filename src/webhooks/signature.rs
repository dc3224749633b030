//! Signatures of Standard Webhooks: HMAC-SHA256 over ID, time and body.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use rand::RngCore;
use sha2::Sha256;

use crate::model::Secret;

const PREFIX: &str = "whsec_";

/// A random secret: `whsec_` and the base64 text of 32 bytes.
#[must_use]
pub fn new_secret() -> Secret {
    let mut key = [0; 32];
    rand::rng().fill_bytes(&mut key);
    Secret::new(format!("{PREFIX}{}", STANDARD.encode(key)))
}

/// Whether a text is `whsec_` and the base64 text of 24 to 64 bytes.
#[must_use]
pub fn is_secret(text: &str) -> bool {
    let key = text.strip_prefix(PREFIX).and_then(|key| STANDARD.decode(key).ok());
    key.is_some_and(|key| (24..=64).contains(&key.len()))
}

/// The value of `webhook-signature`: one signature for each secret, separated by spaces. Secrets that are not in the
/// form of [`new_secret`] are skipped; the database stores no others.
pub(super) fn sign(secrets: &[Secret], id: &str, timestamp: i64, body: &str) -> String {
    let signatures = secrets.iter().filter_map(|secret| {
        let key = STANDARD.decode(secret.expose().strip_prefix(PREFIX)?).ok()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the specification's reference implementations.
    #[test]
    fn the_example_of_the_specification_is_signed() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let body = r#"{"test": 2432232314}"#;
        let signature =
            sign(std::slice::from_ref(&secret), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let both = sign(&[secret.clone(), secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(both, format!("{signature} {signature}"));
    }

    #[test]
    fn new_secrets_differ_and_sign() {
        let (one, other) = (new_secret(), new_secret());
        assert_ne!(one.expose(), other.expose());
        assert!(is_secret(one.expose()) && sign(&[one], "msg_1", 1, "{}").starts_with("v1,"));
        for text in [
            "",
            "whsec_",
            "whsec_c2hvcnQ=",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        ] {
            assert!(!is_secret(text), "{text}");
        }
    }
}
