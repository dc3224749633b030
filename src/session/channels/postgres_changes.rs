//! Postgres changes of a channel: the requested bindings and the messages of the subscription.

use std::{sync::Arc, time::Duration};

use rand::Rng;
use tokio_util::task::AbortOnDropHandle;

use super::{
    ChannelsSession,
    channel::Stage,
    config::ChannelConfig,
    events::{EventQueue, SessionEvent},
};
use crate::{
    channels::{
        ChannelPrincipal,
        postgres_changes::{RequestedBinding, Subscription, SystemMessageSink},
    },
    model::ChannelId,
    transport::Connection,
};

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
    pub fn new(subscription: Subscription) -> Self {
        Self { subscription: Arc::new(subscription), refresh: None }
    }

    /// Moves the subscription to the refreshed token of its channel.
    pub fn refresh_token(&mut self, principal: Arc<ChannelPrincipal>) {
        let subscription = Arc::clone(&self.subscription);
        let delay = Duration::from_millis(rand::rng().random_range(REFRESH_DELAY_MS));
        let refresh = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            subscription.replace_principal(principal).await;
        });
        self.refresh = Some(AbortOnDropHandle::new(refresh));
    }
}

/// Parses the bindings that a join requests.
pub(super) fn requested_changes(config: &ChannelConfig) -> Vec<RequestedBinding> {
    config.changes.iter().filter_map(|raw| RequestedBinding::parse(raw)).collect()
}

/// Passes messages of a subscription to its session.
pub(super) struct SessionMessageSink {
    pub channel: ChannelId,
    pub events: EventQueue,
}

impl SystemMessageSink for SessionMessageSink {
    fn send(&self, is_ok: bool, message: &str) {
        self.events.push(SessionEvent::SubscriptionMessage(self.channel, is_ok, message.into()));
    }
}

impl ChannelsSession {
    /// Sends a message of a subscription to the client.
    pub(super) async fn on_subscription_message(
        &self,
        id: ChannelId,
        is_ok: bool,
        message: &str,
        conn: &Arc<Connection>,
    ) {
        let Some(index) = self.index_by_id(id) else {
            return;
        };
        let channel = &self.channels[index];
        if matches!(channel.stage, Stage::Joined(_)) {
            let replies = self.replies(conn);
            let status = if is_ok { "ok" } else { "error" };
            replies.send(replies.system_frame(channel, status, "postgres_changes", message)).await;
        }
    }
}
