//! Hashes of tokens, and tokens in pushes.

use std::{
    hash::{BuildHasher, RandomState},
    sync::OnceLock,
};

use serde::Deserialize;
use serde_json::value::RawValue;

/// Identifies a token without storing it.
pub(super) fn token_hash(token: &str) -> u64 {
    static HASHER: OnceLock<RandomState> = OnceLock::new();
    HASHER.get_or_init(RandomState::new).hash_one(token)
}

/// The access token in the payload of a push. `None` for API keys and values that are not strings.
pub(super) fn access_token(payload: &str) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        access_token: Option<&'a RawValue>,
    }
    let body: Body<'_> = serde_json::from_str(payload).ok()?;
    let token: Box<str> = serde_json::from_str(body.access_token?.get()).ok()?;
    (!token.starts_with("sb_")).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_string_that_is_not_an_api_key() {
        assert_eq!(access_token(r#"{"access_token":"a.b.c"}"#).as_deref(), Some("a.b.c"));
        for payload in [
            "{}",
            "[]",
            "null",
            r#"{"access_token":null}"#,
            r#"{"access_token":7}"#,
            r#"{"access_token":"sb_publishable_x"}"#,
        ] {
            assert_eq!(access_token(payload), None, "{payload}");
        }
    }

    #[test]
    fn equal_tokens_have_equal_hashes() {
        assert_eq!(token_hash("a"), token_hash("a"));
        assert_ne!(token_hash("a"), token_hash("b"));
    }
}
