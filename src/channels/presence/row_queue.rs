//! Changes of this node's channel presence that wait to be written.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Meta, PresenceKey};
use crate::{
    model::{ChannelId, Topic},
    telemetry::metric,
};

/// Maximum pending channels. Beyond it all rows are rewritten from memory.
const MAX_PENDING_CHANNELS: usize = 32_768;
/// Maximum channels per batch.
pub(super) const MAX_BATCH_ROWS: usize = 512;
/// Approximate maximum of payload bytes per batch; one meta may have megabytes.
pub(super) const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What a channel tracks in which topic.
#[derive(Debug, Clone)]
pub(super) struct TrackedPresence {
    pub topic: Topic,
    pub key: PresenceKey,
    pub meta: Meta,
}

impl TrackedPresence {
    pub(super) fn bytes(&self) -> usize {
        self.meta.payload.len() + self.key.len() + self.topic.name.len()
    }

    /// PostgreSQL cannot store a NUL character in `text`.
    pub(super) fn is_storable(&self) -> bool {
        !self.key.contains('\0') && !self.topic.name.contains('\0')
    }
}

#[derive(Default)]
struct Pending {
    /// The last state of each changed channel; `None` if it tracks nothing.
    changes: HashMap<ChannelId, Option<TrackedPresence>>,
    /// All rows are to be rewritten; single changes are not needed.
    rewrite: bool,
}

#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    wake: Notify,
}

/// Handle to the stored rows. Its methods never block.
#[derive(Clone, Default)]
pub struct PresenceStore(Arc<Shared>);

impl PresenceStore {
    pub(super) fn track(&self, channel: ChannelId, tracked: TrackedPresence) {
        if tracked.is_storable() {
            self.enqueue(channel, Some(tracked));
        } else {
            tracing::debug!(%channel, "presence not stored: the key or topic contains a NUL character");
        }
    }

    pub(super) fn untrack(&self, channel: ChannelId) {
        self.enqueue(channel, None);
    }

    /// Requests a rewrite of the node's rows, some of which may have been lost.
    pub(super) fn request_rewrite(&self, cause: &'static str) {
        {
            let mut pending = self.0.pending.lock();
            if pending.rewrite {
                return;
            }
            pending.rewrite = true;
            pending.changes = HashMap::new();
        }
        metrics::counter!(metric::CHANNEL_PRESENCE_REWRITES, "cause" => cause).increment(1);
        tracing::debug!(cause, "rewriting channel presence rows");
        self.0.wake.notify_one();
    }

    fn enqueue(&self, channel: ChannelId, change: Option<TrackedPresence>) {
        let is_full = {
            let mut pending = self.0.pending.lock();
            if pending.rewrite {
                return;
            }
            pending.changes.insert(channel, change);
            pending.changes.len() > MAX_PENDING_CHANNELS
        };
        if is_full {
            self.request_rewrite("overflow");
        } else {
            self.0.wake.notify_one();
        }
    }

    /// Puts back a batch that was not written, except channels with newer changes.
    pub(super) fn requeue(&self, batch: Batch) {
        let mut pending = self.0.pending.lock();
        if !pending.rewrite {
            for (channel, change) in batch {
                pending.changes.entry(channel).or_insert(change);
            }
        }
    }

    pub(super) async fn next_work(&self) -> Work {
        loop {
            let notified = self.0.wake.notified();
            if let Some(work) = self.0.pending.lock().take() {
                return work;
            }
            notified.await;
        }
    }
}

pub(super) type Batch = Vec<(ChannelId, Option<TrackedPresence>)>;

pub(super) enum Work {
    Write(Batch),
    Rewrite,
}

impl Pending {
    fn take(&mut self) -> Option<Work> {
        if std::mem::take(&mut self.rewrite) {
            return Some(Work::Rewrite);
        }
        let mut bytes = 0;
        let channels: Vec<ChannelId> = self
            .changes
            .iter()
            .take_while(|(_, change)| {
                let fits = bytes < MAX_BATCH_BYTES;
                bytes += change.as_ref().map_or(0, TrackedPresence::bytes);
                fits
            })
            .map(|(channel, _)| *channel)
            .take(MAX_BATCH_ROWS)
            .collect();
        if channels.is_empty() {
            return None;
        }
        let batch = channels.into_iter().filter_map(|channel| self.changes.remove_entry(&channel)).collect();
        if self.changes.is_empty() {
            // Release the memory of a burst.
            self.changes.shrink_to(MAX_BATCH_ROWS);
        }
        Some(Work::Write(batch))
    }
}
