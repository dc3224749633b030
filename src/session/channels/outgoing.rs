//! Batches the broadcasts of a client: all broadcasts of one read of the socket are published together,
//! because the cost of a write to each member depends little on its size.

use std::sync::Arc;

use super::state::{ChannelsSession, PendingBroadcasts};
use crate::{hub::TopicDelivery, model::Topic};

/// Maximum broadcasts per batch; a batch of the hub has space for several of them.
const MAX_BATCH_DELIVERIES: usize = 64;

impl ChannelsSession {
    /// Queues a broadcast until the end of the read.
    pub(super) async fn queue_broadcast(&mut self, topic: Topic, delivery: TopicDelivery) {
        match &mut self.pending_broadcasts {
            Some(pending) if pending.topic == topic && pending.deliveries.len() < MAX_BATCH_DELIVERIES => {
                pending.deliveries.push(delivery)
            }
            _ => {
                self.flush_broadcasts().await;
                self.pending_broadcasts =
                    Some(Box::new(PendingBroadcasts { topic, deliveries: vec![delivery] }));
            }
        }
    }

    /// Publishes the queued broadcasts.
    pub(super) async fn flush_broadcasts(&mut self) {
        if let Some(pending) = self.pending_broadcasts.take() {
            let PendingBroadcasts { topic, deliveries } = *pending;
            // This fails only when the server is stopping, and then the connection closes too.
            let _ = self.services.broadcaster.publish_local(&topic, Arc::from(deliveries)).await;
        }
    }
}
