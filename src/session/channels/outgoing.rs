//! Batches the broadcasts of a client: all broadcasts of one read of the socket are published together,
//! because the cost of a write to each member depends little on its size.

use super::state::{ChannelsSession, PendingBroadcasts};
use crate::{channels::PreparedBroadcast, model::Topic};

/// Maximum broadcasts per batch; a batch of the hub has space for several of them.
const MAX_BATCH: usize = 64;

impl ChannelsSession {
    /// Queues a broadcast until the end of the read.
    pub(super) async fn queue_broadcast(&mut self, topic: Topic, broadcast: PreparedBroadcast) {
        match &mut self.pending_broadcasts {
            Some(pending) if pending.topic == topic && pending.broadcasts.len() < MAX_BATCH => {
                pending.broadcasts.push(broadcast)
            }
            _ => {
                self.flush_broadcasts().await;
                self.pending_broadcasts =
                    Some(Box::new(PendingBroadcasts { topic, broadcasts: vec![broadcast] }));
            }
        }
    }

    /// Publishes the queued broadcasts.
    pub(super) async fn flush_broadcasts(&mut self) {
        if let Some(pending) = self.pending_broadcasts.take() {
            let PendingBroadcasts { topic, broadcasts } = *pending;
            // This fails only when the server is stopping, and then the connection closes too.
            let _ = self.services.broadcaster.publish_prepared(&topic, broadcasts).await;
        }
    }
}
