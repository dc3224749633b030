//! Counts of a topic for its members that asked for `presence.occupancy`.
//!
//! A change marks its topic if somebody watches it. A task sends the newest counts of all marked topics, so that a burst
//! of joins costs one message.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Occupancy;
use crate::model::Topic;

/// The topics whose occupancy is watched on this node. Clones share one state.
#[derive(Debug, Clone, Default)]
pub(super) struct OccupancyWatches(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Number of watched topics. A change takes no lock while it is 0.
    watched: AtomicUsize,
    topics: Mutex<HashMap<Topic, Watch>>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Watch {
    /// Number of channels that watch.
    watchers: usize,
    /// The counts that all watchers know; `None` if one of them may know others.
    sent: Option<Occupancy>,
    is_changed: bool,
}

/// Watches the occupancy of a topic until it is dropped.
#[derive(Debug)]
pub struct OccupancyWatch {
    watches: OccupancyWatches,
    topic: Topic,
}

impl OccupancyWatches {
    pub(super) fn watch(&self, topic: &Topic) -> OccupancyWatch {
        let mut topics = self.0.topics.lock();
        topics.entry(topic.clone()).or_default().watchers += 1;
        self.0.watched.store(topics.len(), Ordering::Release);
        OccupancyWatch { watches: self.clone(), topic: topic.clone() }
    }

    /// Marks a topic whose presence changed.
    pub(super) fn mark_changed(&self, topic: &Topic) {
        if self.0.watched.load(Ordering::Acquire) > 0
            && let Some(watch) = self.0.topics.lock().get_mut(topic)
        {
            watch.is_changed = true;
            self.0.changed.notify_one();
        }
    }

    /// Sends the counts of a topic again, even if they are those that were sent last.
    pub(super) fn mark_unknown(&self, topic: &Topic) {
        if let Some(watch) = self.0.topics.lock().get_mut(topic) {
            (watch.sent, watch.is_changed) = (None, true);
            self.0.changed.notify_one();
        }
    }

    /// Records that one channel received these counts with its join. The topic must be locked.
    pub(super) fn record_join(&self, topic: &Topic, occupancy: Occupancy) {
        if let Some(watch) = self.0.topics.lock().get_mut(topic)
            && watch.sent != Some(occupancy)
        {
            watch.sent = None;
        }
    }

    /// Records that all watchers receive these counts. Returns false if they know them. The topic must be locked.
    pub(super) fn record_sent(&self, topic: &Topic, occupancy: Occupancy) -> bool {
        let mut topics = self.0.topics.lock();
        topics.get_mut(topic).is_some_and(|watch| watch.sent.replace(occupancy) != Some(occupancy))
    }

    /// Waits until a topic is marked.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Takes the marked topics.
    pub(super) fn take_changed(&self) -> Vec<Topic> {
        let mut topics = self.0.topics.lock();
        let changed = topics
            .iter_mut()
            .filter_map(|(topic, watch)| std::mem::take(&mut watch.is_changed).then(|| topic.clone()));
        changed.collect()
    }
}

impl Drop for OccupancyWatch {
    fn drop(&mut self) {
        let Inner { watched, topics, .. } = &*self.watches.0;
        let mut topics = topics.lock();
        if let Some(watch) = topics.get_mut(&self.topic) {
            watch.watchers -= 1;
            if watch.watchers == 0 {
                topics.remove(&self.topic);
            }
        }
        if topics.is_empty() {
            *topics = HashMap::new();
        }
        watched.store(topics.len(), Ordering::Release);
    }
}
