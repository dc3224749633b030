//! Token hashes, expiry of tokens, and tokens in pushes.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    ChannelsSession,
    channel::{Joined, Stage},
};
use crate::transport::Connection;

/// Maximum time between two checks for expiry, because the wall clock may be set.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Identifies a token without storing it.
pub(super) fn token_hash(token: &str) -> u64 {
    static HASHER: OnceLock<RandomState> = OnceLock::new();
    HASHER.get_or_init(RandomState::new).hash_one(token)
}

impl ChannelsSession {
    /// Closes the channels with expired tokens.
    pub(super) async fn close_expired(&mut self, conn: &Arc<Connection>) {
        let now = self.services.clock.now();
        let mut index = 0;
        while let Some(channel) = self.channels.get(index) {
            match &channel.stage {
                Stage::Joined(Joined { principal, .. }) => match principal.check_expiry(now) {
                    Ok(()) => index += 1,
                    // The last channel was moved to this index.
                    Err(expired) => self.close_channel(index, expired.into(), conn).await,
                },
                Stage::Joining { .. } => index += 1,
            }
        }
        self.arm_expiry_timer(conn);
    }

    /// Wakes the session when the next token expires.
    pub(super) fn arm_expiry_timer(&self, conn: &Arc<Connection>) {
        let expiries = self.channels.iter().filter_map(|channel| match &channel.stage {
            Stage::Joined(Joined { principal, .. }) => Some(principal.expires_at),
            Stage::Joining { .. } => None,
        });
        let remaining = expiries.min().map(|next| next.duration_since(self.services.clock.now()));
        let remaining = remaining
            .map(|remaining| Duration::try_from(remaining).unwrap_or_default().min(MAX_CHECK_INTERVAL));
        conn.set_timer(remaining.map(|remaining| Instant::now() + remaining));
    }
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
