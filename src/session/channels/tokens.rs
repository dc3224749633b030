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
const LOOK_AGAIN: Duration = Duration::from_secs(5 * 60);

/// Tells token texts apart without keeping them.
pub(super) fn hash(token: &str) -> u64 {
    static HASHER: OnceLock<RandomState> = OnceLock::new();
    HASHER.get_or_init(RandomState::new).hash_one(token)
}

impl ChannelsSession {
    /// Ends the channels whose tokens have run out.
    pub(super) async fn end_expired(&mut self, conn: &Arc<Connection>) {
        let now = self.services.clock.now();
        let mut place = 0;
        while let Some(channel) = self.channels.get(place) {
            match &channel.stage {
                Stage::Joined(Joined { claimant, .. }) => match claimant.check_age(now) {
                    Ok(()) => place += 1,
                    // The last channel takes the place of the one that goes.
                    Err(expired) => self.expel(place, expired.into(), conn).await,
                },
                Stage::Joining { .. } => place += 1,
            }
        }
        self.arm(conn);
    }

    /// Has the session woken when the next token runs out.
    pub(super) fn arm(&self, conn: &Arc<Connection>) {
        let expiries = self.channels.iter().filter_map(|channel| match &channel.stage {
            Stage::Joined(Joined { claimant, .. }) => Some(claimant.expires_at),
            Stage::Joining { .. } => None,
        });
        let left = expiries.min().map(|next| next.duration_since(self.services.clock.now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default().min(LOOK_AGAIN));
        conn.wake_at(left.map(|left| Instant::now() + left));
    }
}

/// The token that a push brings, where it brings one that is a token at all.
pub(super) fn brought(payload: &str) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Brought<'a> {
        #[serde(borrow)]
        access_token: Option<&'a RawValue>,
    }
    let brought: Brought<'_> = serde_json::from_str(payload).ok()?;
    let token: Box<str> = serde_json::from_str(brought.access_token?.get()).ok()?;
    (!token.starts_with("sb_")).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_that_is_no_key_is_a_token() {
        assert_eq!(brought(r#"{"access_token":"a.b.c"}"#).as_deref(), Some("a.b.c"));
        for payload in [
            "{}",
            "[]",
            "null",
            r#"{"access_token":null}"#,
            r#"{"access_token":7}"#,
            r#"{"access_token":"sb_publishable_x"}"#,
        ] {
            assert_eq!(brought(payload), None, "{payload}");
        }
    }

    #[test]
    fn the_same_text_has_the_same_hash() {
        assert_eq!(hash("a"), hash("a"));
        assert_ne!(hash("a"), hash("b"));
    }
}
