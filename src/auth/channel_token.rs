//! Tokens of realtime channels: the same keys with looser claims. `sub` is optional, `role` and `exp` are required. A
//! role that is not allowed has no rights, like a role that the database does not have.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    ChannelTokenError, Principal, Role,
    claims::{self, ClaimRequirements},
};

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
) -> Result<Principal, ChannelTokenError> {
    let text = std::str::from_utf8(payload).map_err(|_| ChannelTokenError::Malformed)?;
    let claims: Map<String, Value> = serde_json::from_str(text).map_err(|_| ChannelTokenError::Malformed)?;
    if claims::claims_contain_nul(&claims) {
        return Err(ChannelTokenError::Malformed);
    }
    let role = match claims.get("role") {
        Some(Value::String(role)) if !role.is_empty() => {
            let is_allowed = rules.channel_roles.iter().any(|allowed| **allowed == **role);
            if is_allowed { Role::named(role) } else { Role::Denied }
        }
        _ => return Err(ChannelTokenError::MissingClaims),
    };
    let expires_at = match claims.get("exp") {
        Some(Value::Number(seconds)) => claims::timestamp_from_seconds(seconds),
        None | Some(Value::Null) => return Err(ChannelTokenError::MissingClaims),
        Some(_) => return Err(ChannelTokenError::InvalidExpiry),
    };
    let sub = claims.get("sub").and_then(Value::as_str);
    let principal = Principal { expires_at, ..Principal::with_claims(role, sub, text.into()) };
    principal.check_expiry(now)?;
    if claims.get("iat").is_some_and(|iat| !iat.is_number()) {
        return Err(ChannelTokenError::Malformed);
    }
    claims::check_not_before(&claims, now).map_err(|error| ChannelTokenError::from_auth(&error, None))?;
    claims::check_issuer(&claims, rules)
        .and_then(|()| claims::check_audience(&claims, rules))
        .map_err(|_| ChannelTokenError::Malformed)?;
    Ok(principal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("within the calendar")
    }

    fn parse_at_1000(payload: &str) -> Result<Principal, ChannelTokenError> {
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
            assert_eq!(token.role, Role::Denied, "{role}");
        }
    }

    #[test]
    fn allowed_roles_are_kept_and_sub_is_optional() {
        let payload = r#"{"role":"moderator","exp":1000.5,"nbf":1000,"big":123456789012345678901}"#;
        let token = parse_at_1000(payload).expect("is valid");
        assert_eq!((token.role.as_str(), &token.sub, &*token.claims), ("moderator", &None, payload));
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
