//! Changes of tables in a channel: what its join asks for, and what its subscription has to say.

use std::{sync::Arc, time::Duration};

use rand::Rng;
use tokio_util::task::AbortOnDropHandle;

use super::{
    ChannelsSession,
    channel::Stage,
    config::Config,
    inbox::{Event, Inbox},
};
use crate::{
    channels::{
        ChannelId, Claimant,
        changes::{Ears, Requested, Subscription},
    },
    transport::Connection,
};

/// After a fresh token the subscription follows in this time, in milliseconds: not all clients of a server at once.
const RENEWAL_SPREAD_MS: std::ops::Range<u64> = 1_000..3_000;

/// A channel's subscription, and the renewal that is under way, which ends with it.
pub(super) struct Subscribed {
    subscription: Arc<Subscription>,
    renewal: Option<AbortOnDropHandle<()>>,
}

impl std::fmt::Debug for Subscribed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscribed").finish_non_exhaustive()
    }
}

impl Subscribed {
    /// Holds a subscription.
    pub fn new(subscription: Subscription) -> Self {
        Self { subscription: Arc::new(subscription), renewal: None }
    }

    /// Has the subscription follow its channel's fresh token.
    pub fn renew(&mut self, claimant: Arc<Claimant>) {
        let subscription = Arc::clone(&self.subscription);
        let pause = Duration::from_millis(rand::rng().random_range(RENEWAL_SPREAD_MS));
        let renewal = tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            subscription.renew(claimant).await;
        });
        self.renewal = Some(AbortOnDropHandle::new(renewal));
    }
}

/// What a join asks for.
pub(super) fn requested(config: &Config) -> Vec<Requested> {
    config.changes.iter().filter_map(|raw| Requested::read(raw)).collect()
}

/// A subscription's way to say something in its channel.
pub(super) struct SubscriptionEars {
    /// The channel.
    pub id: ChannelId,
    /// The session's.
    pub inbox: Inbox,
}

impl Ears for SubscriptionEars {
    fn system(&self, is_ok: bool, message: &str) {
        self.inbox.put(Event::OfChanges(self.id, is_ok, message.into()));
    }
}

impl ChannelsSession {
    /// A subscription has something to say.
    pub(super) async fn of_changes(&self, id: ChannelId, is_ok: bool, message: &str, conn: &Arc<Connection>) {
        let Some(place) = self.place_by_id(id) else {
            return;
        };
        let channel = &self.channels[place];
        if matches!(channel.stage, Stage::Joined(_)) {
            let voice = self.voice(conn);
            let status = if is_ok { "ok" } else { "error" };
            voice.say(voice.system(channel, status, "postgres_changes", message)).await;
        }
    }
}
