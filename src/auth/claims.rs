//! Validates the claims of a verified payload and builds the [`Principal`].

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::{Map, Number, Value, value::RawValue};

use super::{AuthError, Permission, Principal, Role};
use crate::model::UserId;

/// Claims that every token must have in this deployment.
#[derive(Debug, Clone, Default)]
pub(super) struct ClaimRequirements {
    /// Required `iss`.
    pub(super) issuer: Option<String>,
    /// Required `aud`; a token may have several.
    pub(super) audience: Option<String>,
    /// Roles of channel tokens that have rights in the database.
    pub(super) channel_roles: Vec<Box<str>>,
}

/// Builds the principal from a payload whose signature is verified.
pub(super) fn parse_principal(
    payload: &[u8],
    rules: &ClaimRequirements,
    now: Timestamp,
) -> Result<Principal, AuthError> {
    let text = std::str::from_utf8(payload).map_err(|_| AuthError::Malformed("payload is not UTF-8"))?;
    let claims: Map<String, Value> =
        serde_json::from_str(text).map_err(|_| AuthError::Malformed("payload is not a JSON object"))?;
    if claims_contain_nul(&claims) {
        // jsonb cannot hold U+0000: every statement of the caller would fail in `auth.jwt()`.
        return Err(AuthError::Malformed("payload contains a NUL character"));
    }

    let expires_at = expiry(&claims, now)?;
    check_issuer(&claims, rules)?;
    check_audience(&claims, rules)?;
    let role = role(&claims)?;
    let user_id = subject(&claims)?;
    if role == Role::Authenticated && user_id.is_none() {
        return Err(AuthError::NoSubject);
    }
    let permissions = permissions(&claims)?;
    let claims = claims_for_sql(text, user_id, &role)?;
    let sub = user_id.map(|id| id.to_string());
    Ok(Principal { permissions, expires_at, ..Principal::with_claims(role, sub.as_deref(), claims) })
}

/// Value of a claim; JSON `null` counts as absent.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).filter(|value| !value.is_null())
}

fn expiry(claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, AuthError> {
    let expires_at = match claim(claims, "exp") {
        Some(Value::Number(seconds)) => timestamp_from_seconds(seconds),
        Some(_) => return Err(AuthError::Malformed("exp is not a number")),
        None => return Err(AuthError::MissingExp),
    };
    // RFC 7519, section 4.1.4: rejected on or after this time.
    if expires_at <= now {
        return Err(AuthError::Expired);
    }
    check_not_before(claims, now)?;
    Ok(expires_at)
}

/// Checks `nbf`, without leeway.
pub(super) fn check_not_before(claims: &Map<String, Value>, now: Timestamp) -> Result<(), AuthError> {
    match claim(claims, "nbf") {
        Some(Value::Number(seconds)) if timestamp_from_seconds(seconds) > now => Err(AuthError::NotYetValid),
        Some(Value::Number(_)) | None => Ok(()),
        Some(_) => Err(AuthError::Malformed("nbf is not a number")),
    }
}

/// Converts seconds since 1970, rounded down to milliseconds. Values out of range saturate.
pub(super) fn timestamp_from_seconds(seconds: &Number) -> Timestamp {
    let milliseconds = match seconds.as_i64() {
        Some(whole) => whole.saturating_mul(1_000),
        // A cast from f64 saturates, and JSON has no NaN.
        None => seconds.as_f64().map_or(i64::MAX, |fraction| (fraction * 1_000.0).floor() as i64),
    };
    let end = if milliseconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(milliseconds).unwrap_or(end)
}

pub(super) fn check_issuer(claims: &Map<String, Value>, rules: &ClaimRequirements) -> Result<(), AuthError> {
    let Some(issuer) = &rules.issuer else { return Ok(()) };
    match claim(claims, "iss") {
        Some(Value::String(text)) if text == issuer => Ok(()),
        _ => Err(AuthError::WrongIssuer),
    }
}

pub(super) fn check_audience(
    claims: &Map<String, Value>,
    rules: &ClaimRequirements,
) -> Result<(), AuthError> {
    let Some(audience) = &rules.audience else { return Ok(()) };
    match claim(claims, "aud") {
        Some(Value::String(text)) if text == audience => Ok(()),
        Some(Value::Array(all)) if all.iter().any(|one| one.as_str() == Some(audience)) => Ok(()),
        _ => Err(AuthError::WrongAudience),
    }
}

fn role(claims: &Map<String, Value>) -> Result<Role, AuthError> {
    match claim(claims, "role") {
        None => Ok(Role::Authenticated),
        Some(Value::String(text)) => text.parse().map_err(|_| AuthError::UnknownRole),
        Some(_) => Err(AuthError::Malformed("role is not a string")),
    }
}

/// The user ID in `sub` or its alias `userId`. Some issuers write an empty string for no user.
fn subject(claims: &Map<String, Value>) -> Result<Option<UserId>, AuthError> {
    for name in ["sub", "userId"] {
        match claim(claims, name) {
            None => {}
            Some(Value::String(text)) if text.is_empty() => {}
            Some(Value::String(text)) => {
                return text.parse().map(Some).map_err(|_| AuthError::InvalidSubject);
            }
            Some(_) => return Err(AuthError::InvalidSubject),
        }
    }
    Ok(None)
}

fn permissions(claims: &Map<String, Value>) -> Result<Arc<[Permission]>, AuthError> {
    const MALFORMED: AuthError = AuthError::Malformed("permissions is not a list of strings");
    match claim(claims, "permissions") {
        None => Ok(Arc::default()),
        Some(Value::Array(all)) => {
            let permissions = all.iter().map(|one| one.as_str().ok_or(MALFORMED));
            permissions.filter_map(|permission| permission.map(Permission::from_claim).transpose()).collect()
        }
        Some(_) => Err(MALFORMED),
    }
}

/// Builds the JSON for `request.jwt.claims`. Values keep their signed text (no number is rounded), and the
/// last of duplicate claims counts, as above. `sub` and `role` are rewritten as the server read them, so that
/// SQL that compares text sees the same user as the server.
fn claims_for_sql(text: &str, user_id: Option<UserId>, role: &Role) -> Result<Arc<str>, AuthError> {
    let unparsable = |_| AuthError::Malformed("payload is not a JSON object");
    let mut claims: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).map_err(unparsable)?;
    match user_id {
        Some(id) => claims.insert("sub".into(), serde_json::value::to_raw_value(&id).map_err(unparsable)?),
        // `sub` is null or empty: auth.uid() must be null.
        None => claims.remove("sub"),
    };
    claims.insert("role".into(), serde_json::value::to_raw_value(role).map_err(unparsable)?);
    serde_json::to_string(&claims).map(Arc::from).map_err(unparsable)
}

/// Whether any name or string of the claims contains U+0000.
pub(super) fn claims_contain_nul(claims: &Map<String, Value>) -> bool {
    claims.iter().any(|(name, value)| name.contains('\0') || contains_nul(value))
}

/// Whether any string in the value contains U+0000. The parser bounds the depth at 128 levels.
fn contains_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(all) => all.iter().any(contains_nul),
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| name.contains('\0') || contains_nul(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUB: &str = "6f1c2b1e-0000-4000-8000-000000000001";

    fn timestamp(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("within the calendar")
    }

    fn parse_at_1000(payload: &str) -> Result<Principal, AuthError> {
        parse_principal(payload.as_bytes(), &ClaimRequirements::default(), timestamp(1_000))
    }

    #[test]
    fn claims_for_sql_keep_signed_values() {
        let payload = format!(
            r#"{{"userId":"{}","exp":2000.5,"big":123456789012345678901234567890,"app_metadata":{{"n":1.10}}}}"#,
            SUB.to_uppercase()
        );
        let caller = parse_at_1000(&payload).expect("is valid");
        assert_eq!(caller.user_id, SUB.parse().ok());
        assert_eq!(caller.expires_at, Timestamp::from_millisecond(2_000_500).expect("within the calendar"));
        let claims: BTreeMap<&str, &RawValue> = serde_json::from_str(&caller.claims).expect("is JSON");
        assert_eq!(claims["sub"].get(), format!("\"{SUB}\""));
        assert_eq!(claims["role"].get(), "\"authenticated\"");
        assert_eq!(claims["big"].get(), "123456789012345678901234567890");
        assert_eq!(claims["app_metadata"].get(), r#"{"n":1.10}"#);
    }

    #[test]
    fn duplicate_claims_use_the_last_value() {
        let payload =
            format!(r#"{{"exp":2000,"role":"service_role","sub":"x","sub":"{SUB}","role":"anon"}}"#);
        let caller = parse_at_1000(&payload).expect("is valid");
        assert_eq!(caller.role, Role::Anon);
        assert_eq!(&*caller.claims, format!(r#"{{"exp":2000,"role":"anon","sub":"{SUB}"}}"#));
    }

    #[test]
    fn service_token_needs_no_user() {
        let caller = parse_at_1000(r#"{"exp":2000,"role":"service_role","sub":""}"#).expect("is valid");
        assert_eq!((caller.user_id, caller.role), (None, Role::ServiceRole));
        assert_eq!(&*caller.claims, r#"{"exp":2000,"role":"service_role"}"#);
    }

    #[test]
    fn invalid_payloads_are_rejected() {
        for (payload, expected) in [
            ("", "payload is not a JSON object"),
            ("[]", "payload is not a JSON object"),
            (r#"{"exp":2000"#, "payload is not a JSON object"),
            (r#"{"exp":1e400,"sub":"SUB"}"#, "payload is not a JSON object"),
            (r#"{"exp":2000,"sub":"SUB","name":"a\u0000b"}"#, "NUL"),
            (r#"{"exp":2000,"sub":"SUB","a":[{"b\u0000":1}]}"#, "NUL"),
            (r#"{"exp":2000,"sub":"SUB","a":"\ud800"}"#, "payload is not a JSON object"),
            (r#"{"exp":"2000","sub":"SUB"}"#, "exp is not a number"),
            (r#"{"exp":null,"sub":"SUB"}"#, "no expiry"),
            (r#"{"sub":"SUB"}"#, "no expiry"),
            (r#"{"exp":1000,"sub":"SUB"}"#, "has expired"),
            (r#"{"exp":999.9,"sub":"SUB"}"#, "has expired"),
            (r#"{"exp":-1e300,"sub":"SUB"}"#, "has expired"),
            (r#"{"exp":2000,"nbf":1001,"sub":"SUB"}"#, "not valid yet"),
            (r#"{"exp":2000,"nbf":"no","sub":"SUB"}"#, "nbf is not a number"),
            (r#"{"exp":2000,"role":"postgres","sub":"SUB"}"#, "role must be one of"),
            (r#"{"exp":2000,"role":"","sub":"SUB"}"#, "role must be one of"),
            (r#"{"exp":2000,"role":["anon"],"sub":"SUB"}"#, "role is not a string"),
            (r#"{"exp":2000}"#, "has no user ID"),
            (r#"{"exp":2000,"sub":"bob"}"#, "must be a UUID"),
            (r#"{"exp":2000,"sub":7}"#, "must be a UUID"),
            (r#"{"exp":2000,"role":"anon","sub":"bob"}"#, "must be a UUID"),
            (r#"{"exp":2000,"sub":"SUB","permissions":"presence:admin"}"#, "permissions is not a list"),
            (r#"{"exp":2000,"sub":"SUB","permissions":[1]}"#, "permissions is not a list"),
        ] {
            let error = parse_at_1000(&payload.replace("SUB", SUB)).expect_err(payload);
            assert!(error.to_string().contains(expected), "{payload}: {error}");
        }
    }

    #[test]
    fn expiry_out_of_range_saturates() {
        for exp in ["1e300", "18446744073709551615", "9223372036854775807"] {
            let caller = parse_at_1000(&format!(r#"{{"exp":{exp},"role":"anon"}}"#)).expect(exp);
            assert_eq!(caller.expires_at, Timestamp::MAX);
        }
    }

    #[test]
    fn unknown_permissions_are_ignored() {
        let payload =
            format!(r#"{{"exp":2000,"sub":"{SUB}","permissions":["presence:admin","billing:read"]}}"#);
        let caller = parse_at_1000(&payload).expect("is valid");
        assert_eq!(&*caller.permissions, [Permission::PresenceAdmin]);
        assert!(caller.claims.contains("billing:read"));
    }

    #[test]
    fn configured_issuer_and_audience_are_required() {
        let rules = ClaimRequirements {
            issuer: Some("https://id".into()),
            audience: Some("chat".into()),
            ..ClaimRequirements::default()
        };
        for (rest, valid) in [
            (r#""iss":"https://id","aud":"chat""#, true),
            (r#""iss":"https://id","aud":["web","chat"]"#, true),
            (r#""iss":"https://id","aud":["web"]"#, false),
            (r#""iss":"https://id","aud":{"chat":1}"#, false),
            (r#""iss":"https://id""#, false),
            (r#""iss":"https://evil","aud":"chat""#, false),
            (r#""iss":["https://id"],"aud":"chat""#, false),
            (r#""aud":"chat""#, false),
        ] {
            let payload = format!(r#"{{"exp":2000,"role":"anon",{rest}}}"#);
            assert_eq!(
                parse_principal(payload.as_bytes(), &rules, timestamp(1_000)).is_ok(),
                valid,
                "{payload}"
            );
        }
    }
}
