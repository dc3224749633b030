//! Tokens of realtime channels: the same keys with looser claims. `sub` is optional, `role` and `exp` are required. A
//! role that is not allowed has no rights, like a role that the database does not have.

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    AuthError, Role,
    claims::{self, ClaimRequirements},
};

/// Role of a token whose `role` is not allowed. No role of PostgreSQL has an empty name.
pub const NO_ROLE: &str = "";

/// A verified token of a channel.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedChannelToken {
    /// Value of `role`, or [`NO_ROLE`].
    pub role: Box<str>,
    /// The signed payload: JSON. Do not log it.
    pub claims: Arc<str>,
    /// Value of `sub`.
    pub sub: Option<Box<str>>,
    /// Expiry; [`Timestamp::MAX`] for opaque keys.
    pub expires_at: Timestamp,
}

impl VerifiedChannelToken {
    /// The token that an opaque key stands for.
    pub(super) fn with_role(role: Role) -> Self {
        Self {
            role: role.as_str().into(),
            claims: serde_json::json!({ "role": role }).to_string().into(),
            sub: None,
            expires_at: Timestamp::MAX,
        }
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

/// Removes white space and percent encoding, which tokens may pick up in URLs.
pub(super) fn normalize(token: &str) -> Cow<'_, str> {
    if !token.contains(|c: char| c == '%' || c.is_whitespace()) {
        return Cow::Borrowed(token);
    }
    let decoded = percent_encoding::percent_decode_str(token).decode_utf8_lossy();
    decoded.chars().filter(|c| !c.is_whitespace()).collect::<String>().into()
}

/// Parses a payload whose signature is verified.
pub(super) fn parse_claims(
    payload: &[u8],
    rules: &ClaimRequirements,
    now: Timestamp,
) -> Result<VerifiedChannelToken, ChannelTokenError> {
    let text = std::str::from_utf8(payload).map_err(|_| ChannelTokenError::Malformed)?;
    let claims: Map<String, Value> = serde_json::from_str(text).map_err(|_| ChannelTokenError::Malformed)?;
    if claims::claims_contain_nul(&claims) {
        return Err(ChannelTokenError::Malformed);
    }
    let role = match claims.get("role") {
        Some(Value::String(role)) if !role.is_empty() => {
            let is_allowed = rules.channel_roles.iter().any(|allowed| **allowed == **role);
            if is_allowed { role.as_str() } else { NO_ROLE }.into()
        }
        _ => return Err(ChannelTokenError::MissingClaims),
    };
    let expires_at = match claims.get("exp") {
        Some(Value::Number(seconds)) => claims::timestamp_from_seconds(seconds),
        None | Some(Value::Null) => return Err(ChannelTokenError::MissingClaims),
        Some(_) => return Err(ChannelTokenError::InvalidExpiry),
    };
    check_expiry(expires_at, now)?;
    if claims.get("iat").is_some_and(|iat| !iat.is_number()) {
        return Err(ChannelTokenError::Malformed);
    }
    claims::check_not_before(&claims, now).map_err(|error| ChannelTokenError::from_auth(&error, None))?;
    claims::check_issuer(&claims, rules)
        .and_then(|()| claims::check_audience(&claims, rules))
        .map_err(|_| ChannelTokenError::Malformed)?;
    let sub = claims.get("sub").and_then(Value::as_str).map(Box::from);
    Ok(VerifiedChannelToken { role, claims: text.into(), sub, expires_at })
}

/// Checks the expiry, without leeway.
pub(super) fn check_expiry(expires_at: Timestamp, now: Timestamp) -> Result<(), ChannelTokenError> {
    if expires_at > now {
        return Ok(());
    }
    Err(ChannelTokenError::Expired(now.as_second() - expires_at.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("within the calendar")
    }

    fn parse_at_1000(payload: &str) -> Result<VerifiedChannelToken, ChannelTokenError> {
        let rules = ClaimRequirements {
            channel_roles: vec!["anon".into(), "moderator".into()],
            ..Default::default()
        };
        parse_claims(payload.as_bytes(), &rules, timestamp(1_000))
    }

    #[test]
    fn roles_that_are_not_allowed_have_no_rights() {
        for role in ["postgres", "pg_read_all_data", "Moderator", " moderator", "anon,moderator"] {
            let token = parse_at_1000(&format!(r#"{{"role":"{role}","exp":2000}}"#)).expect("is valid");
            assert_eq!(&*token.role, NO_ROLE, "{role}");
        }
    }

    #[test]
    fn allowed_roles_are_kept_and_sub_is_optional() {
        let payload = r#"{"role":"moderator","exp":1000.5,"nbf":1000,"big":123456789012345678901}"#;
        let token = parse_at_1000(payload).expect("is valid");
        assert_eq!((&*token.role, &token.sub, &*token.claims), ("moderator", &None, payload));
        let token = parse_at_1000(r#"{"role":"anon","exp":2000,"sub":"not a UUID"}"#).expect("is valid");
        assert_eq!(token.sub.as_deref(), Some("not a UUID"));
    }

    #[test]
    fn error_texts_match_supabase_realtime() {
        for (payload, code, text) in [
            ("[]", "MalformedJWT", "The token provided is not a valid JWT"),
            ("{}", "InvalidJWTToken", "Fields `role` and `exp` are required in JWT"),
            (r#"{"exp":2000}"#, "InvalidJWTToken", "Fields `role` and `exp` are required in JWT"),
            (r#"{"role":"anon"}"#, "InvalidJWTToken", "Fields `role` and `exp` are required in JWT"),
            (r#"{"role":"anon","exp":"2000"}"#, "InvalidJWTToken", "Token expiration time is invalid"),
            (r#"{"role":"anon","exp":1000}"#, "InvalidJWTToken", "Token has expired 0 seconds ago"),
            (r#"{"role":"anon","exp":890}"#, "InvalidJWTToken", "Token has expired 110 seconds ago"),
            (r#"{"role":"anon","exp":2000,"nbf":1001}"#, "InvalidJWTToken", "Token is not valid yet"),
            (r#"{"role":"anon","exp":2000,"nbf":1000.5}"#, "InvalidJWTToken", "Token is not valid yet"),
            (
                r#"{"role":"anon","exp":2000,"nbf":"1"}"#,
                "MalformedJWT",
                "The token provided is not a valid JWT",
            ),
            (r#"{"role":"a\u0000","exp":2000}"#, "MalformedJWT", "The token provided is not a valid JWT"),
            (
                r#"{"role":"anon","exp":2000,"iat":"x"}"#,
                "MalformedJWT",
                "The token provided is not a valid JWT",
            ),
        ] {
            let error = parse_at_1000(payload).expect_err(payload);
            assert_eq!((error.code(), &*error.to_string()), (code, text), "{payload}");
        }
        assert_eq!(ChannelTokenError::Expired(110).handshake_message(), "Token has expired");
    }

    #[test]
    fn whitespace_and_percent_encoding_are_removed() {
        assert_eq!(normalize("a.b-c_d"), "a.b-c_d");
        assert_eq!(normalize(" a.b\n.c%3D%20"), "a.b.c=");
    }
}
