//! The rules of the history and the kept messages.

use super::{HistoryQueue, HistoryRule, HistoryRules, HistorySettings, MemoryHistory};
use crate::model::Topic;

/// Handle to the history of all channels on this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChannelHistory {
    rules: HistoryRules,
    /// The messages in the memory of this node.
    pub memory: MemoryHistory,
    /// The messages of this node to store as rows.
    pub queue: HistoryQueue,
}

impl ChannelHistory {
    #[must_use]
    pub fn new(settings: &HistorySettings) -> Self {
        let max_bytes = settings.memory_mb.saturating_mul(1024 * 1024);
        Self {
            rules: settings.rules.clone(),
            memory: MemoryHistory::new(max_bytes),
            queue: HistoryQueue::default(),
        }
    }

    /// What is kept of a topic; `None` if nothing.
    #[must_use]
    pub fn rule(&self, topic: &Topic) -> Option<HistoryRule> {
        self.rules.find(&topic.name)
    }
}
