//! Postgres changes of a channel: the requested bindings and the messages of the subscription.

use std::sync::Arc;

use super::{
    channel::Stage,
    config::ChannelConfig,
    events::{EventQueue, SessionEvent},
    state::ChannelsSession,
};
use crate::{
    channels::postgres_changes::{RequestedBinding, SystemMessageSink},
    model::ChannelId,
    transport::Connection,
};

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
