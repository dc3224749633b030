//! Closes channels whose token expires.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    channel::{Joined, Stage},
    state::ChannelsSession,
};
use crate::transport::Connection;

/// Maximum time between two checks for expiry, because the wall clock may be set.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(5 * 60);

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
