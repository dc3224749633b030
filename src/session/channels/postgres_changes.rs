//! Changes of tables in a channel: what its join asks for, and what its subscription has to say.

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

/// After a fresh token the subscription follows in this time, in milliseconds: not all clients of a server at once.
const REFRESH_DELAY_MS: std::ops::Range<u64> = 1_000..3_000;

/// A channel's subscription, and the renewal that is under way, which ends with it.
pub(super) struct ChannelSubscription {
    subscription: Arc<Subscription>,
    refresh: Option<AbortOnDropHandle<()>>,
}

impl std::fmt::Debug for ChannelSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscribed").finish_non_exhaustive()
    }
}

impl ChannelSubscription {
    /// Holds a subscription.
    pub fn new(subscription: Subscription) -> Self {
        Self { subscription: Arc::new(subscription), refresh: None }
    }

    /// Has the subscription follow its channel's fresh token.
    pub fn refresh_token(&mut self, claimant: Arc<ChannelPrincipal>) {
        let subscription = Arc::clone(&self.subscription);
        let pause = Duration::from_millis(rand::rng().random_range(REFRESH_DELAY_MS));
        let renewal = tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            subscription.replace_principal(claimant).await;
        });
        self.refresh = Some(AbortOnDropHandle::new(renewal));
    }
}

/// What a join asks for.
pub(super) fn requested_changes(config: &ChannelConfig) -> Vec<RequestedBinding> {
    config.changes.iter().filter_map(|raw| RequestedBinding::parse(raw)).collect()
}

/// A subscription's way to say something in its channel.
pub(super) struct SessionMessageSink {
    /// The channel.
    pub channel: ChannelId,
    /// The session's.
    pub events: EventQueue,
}

impl SystemMessageSink for SessionMessageSink {
    fn send(&self, is_ok: bool, message: &str) {
        self.events.push(SessionEvent::SubscriptionMessage(self.channel, is_ok, message.into()));
    }
}

impl ChannelsSession {
    /// A subscription has something to say.
    pub(super) async fn on_subscription_message(
        &self,
        id: ChannelId,
        is_ok: bool,
        message: &str,
        conn: &Arc<Connection>,
    ) {
        let Some(place) = self.index_by_id(id) else {
            return;
        };
        let channel = &self.channels[place];
        if matches!(channel.stage, Stage::Joined(_)) {
            let voice = self.replies(conn);
            let status = if is_ok { "ok" } else { "error" };
            voice.send(voice.system_frame(channel, status, "postgres_changes", message)).await;
        }
    }
}
