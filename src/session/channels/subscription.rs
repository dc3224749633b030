//! Subscription of a channel to Postgres changes.

use std::{sync::Arc, time::Duration};

use rand::Rng;
use tokio_util::task::AbortOnDropHandle;

use crate::{auth::Principal, channels::postgres_changes::Subscription};

/// Delay in milliseconds before the subscription uses a refreshed token; random, so that not all clients of a
/// server do so at once.
const REFRESH_DELAY_MS: std::ops::Range<u64> = 1_000..3_000;

/// A channel's subscription and its running refresh, which ends with it.
pub(super) struct ChannelSubscription {
    subscription: Arc<Subscription>,
    refresh: Option<AbortOnDropHandle<()>>,
}

impl std::fmt::Debug for ChannelSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelSubscription").finish_non_exhaustive()
    }
}

impl ChannelSubscription {
    pub(super) fn new(subscription: Subscription) -> Self {
        Self { subscription: Arc::new(subscription), refresh: None }
    }

    /// Moves the subscription to the refreshed token of its channel.
    pub(super) fn refresh_token(&mut self, principal: Arc<Principal>) {
        let subscription = Arc::clone(&self.subscription);
        let delay = Duration::from_millis(rand::rng().random_range(REFRESH_DELAY_MS));
        let refresh = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            subscription.replace_principal(principal).await;
        });
        self.refresh = Some(AbortOnDropHandle::new(refresh));
    }
}
