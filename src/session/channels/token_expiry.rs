//! Tokens over time: fresh ones, and those that run out.

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

/// A token is looked at again after this time at the latest, because wall clocks are set now and then.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Tells token texts apart without keeping them.
pub(super) fn token_hash(token: &str) -> u64 {
    static HASHER: OnceLock<RandomState> = OnceLock::new();
    HASHER.get_or_init(RandomState::new).hash_one(token)
}

impl ChannelsSession {
    /// Ends the channels whose tokens have run out.
    pub(super) async fn close_expired(&mut self, conn: &Arc<Connection>) {
        let now = self.services.clock.now();
        let mut place = 0;
        while let Some(channel) = self.channels.get(place) {
            match &channel.stage {
                Stage::Joined(Joined { principal: claimant, .. }) => match claimant.check_expiry(now) {
                    Ok(()) => place += 1,
                    // The last channel takes the place of the one that goes.
                    Err(expired) => self.close_channel(place, expired.into(), conn).await,
                },
                Stage::Joining { .. } => place += 1,
            }
        }
        self.arm_expiry_timer(conn);
    }

    /// Has the session woken when the next token runs out.
    pub(super) fn arm_expiry_timer(&self, conn: &Arc<Connection>) {
        let expiries = self.channels.iter().filter_map(|channel| match &channel.stage {
            Stage::Joined(Joined { principal: claimant, .. }) => Some(claimant.expires_at),
            Stage::Joining { .. } => None,
        });
        let left = expiries.min().map(|next| next.duration_since(self.services.clock.now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default().min(MAX_CHECK_INTERVAL));
        conn.set_timer(left.map(|left| Instant::now() + left));
    }
}

/// The token that a push brings, where it brings one that is a token at all.
pub(super) fn access_token(payload: &str) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        access_token: Option<&'a RawValue>,
    }
    let brought: Body<'_> = serde_json::from_str(payload).ok()?;
    let token: Box<str> = serde_json::from_str(brought.access_token?.get()).ok()?;
    (!token.starts_with("sb_")).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_that_is_no_key_is_a_token() {
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
    fn the_same_text_has_the_same_hash() {
        assert_eq!(token_hash("a"), token_hash("a"));
        assert_ne!(token_hash("a"), token_hash("b"));
    }
}
