//! Messages kept in the memory of this node.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    select,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{HistoryRule, KeptMessage};
use crate::{
    model::{NodeId, Topic},
    telemetry::metric,
};

/// Bytes of a kept message besides its texts, roughly.
const ENTRY_BYTES: usize = 256;
/// Maximum bytes of a replay. Above it only the newest messages are replayed.
pub(crate) const MAX_REPLAY_BYTES: usize = 4 * 1024 * 1024;
/// Two nodes deliver messages of two senders in different orders if one message takes longer to a node than the other.
/// A message takes at most 95 s: 30 s in the queue of its node, 5 s to be written, 60 s until the other node reads it.
/// Twice that, because the times are those at which this node received them.
const ORDER_WINDOW: Duration = Duration::from_secs(190);
/// Interval between removals of expired messages.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Where a message was published. Messages of one origin have the same order on all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client of this node.
    Local,
    /// A client of another node.
    Node(NodeId),
    /// A row of `realtime.messages`.
    Database,
}

/// How a message came to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    pub origin: Origin,
    /// Whether there were other nodes.
    pub has_peers: bool,
}

impl Source {
    /// Whether another node may have delivered `earlier` after this one, although this node did not.
    fn may_follow(self, earlier: Self) -> bool {
        // Rows are read again after a lost connection, then in the order of their times.
        let is_ordered = self.origin == earlier.origin && self.origin != Origin::Database;
        self.has_peers && !is_ordered
    }
}

/// Which messages to replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryQuery {
    /// Those after the last of these messages that is kept, except the others of these. All if none of them is kept.
    After(Box<[Uuid]>),
    /// Those since a time in milliseconds since 1970.
    Since(i64),
}

/// The messages of all topics on this node. Clones share one state.
#[derive(Debug, Clone)]
pub struct MemoryHistory(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    topics: HashMap<Topic, TopicHistory>,
    /// The topic of each message by the time at which it expires, and its number.
    by_expiry: BTreeMap<(Instant, u64), Topic>,
    bytes: usize,
    max_bytes: usize,
    /// Number of the next message.
    next_number: u64,
    /// The highest number of a removed message.
    last_removed: u64,
    /// Messages from other nodes were lost before this number.
    gap: u64,
    /// Whether messages from other nodes arrive.
    is_connected: bool,
}

#[derive(Debug)]
struct TopicHistory {
    /// The kept messages, oldest first.
    entries: VecDeque<Entry>,
    /// No message with a higher number was removed.
    removed_through: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    message: Arc<KeptMessage>,
    source: Source,
    received_at: Instant,
    /// The same by the clock, in milliseconds since 1970.
    received_ms: i64,
    expires_at: Instant,
    bytes: usize,
}

/// The messages to replay to a channel that joins.
#[derive(Debug)]
pub struct HistoryReplay {
    history: MemoryHistory,
    topic: Topic,
    /// The messages that were read, oldest first.
    pub messages: Vec<Arc<KeptMessage>>,
    /// Whether nothing is missing after the position; `None` if the query has no position.
    is_complete: Option<bool>,
    /// Number of the last message when the history was read.
    through: u64,
}

/// The history during a join or a publication: no message is added meanwhile.
#[derive(Debug)]
pub struct LockedHistory<'a>(MutexGuard<'a, State>);

impl MemoryHistory {
    /// Keeps at most `max_bytes` in all topics.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            topics: HashMap::new(),
            by_expiry: BTreeMap::new(),
            bytes: 0,
            max_bytes,
            next_number: 1,
            last_removed: 0,
            gap: 0,
            is_connected: true,
        })))
    }

    /// Locks all topics. The holder must not wait.
    #[must_use]
    pub fn lock(&self) -> LockedHistory<'_> {
        LockedHistory(self.0.lock())
    }

    /// Records that messages of another node were lost: positions before now are incomplete.
    pub fn mark_gap(&self) {
        let mut state = self.0.lock();
        state.gap = state.next_number;
    }

    /// Records whether messages of other nodes arrive. While they do not, and before they do again, positions are
    /// incomplete.
    pub fn set_connected(&self, is_connected: bool) {
        let mut state = self.0.lock();
        state.is_connected = is_connected;
        state.gap = state.next_number;
    }

    /// Reads what to replay: at most the newest `limit` messages, and 4 MiB.
    #[must_use]
    pub fn read(&self, topic: &Topic, query: &HistoryQuery, limit: usize) -> HistoryReplay {
        let mut state = self.0.lock();
        state.remove_expired(Instant::now());
        let (mut messages, mut is_complete) = state.find(topic, query);
        let through = state.next_number - 1;
        drop(state);
        let mut bytes = 0;
        let fits = |message: &&Arc<KeptMessage>| {
            bytes += message.size_bytes();
            bytes <= MAX_REPLAY_BYTES
        };
        let count = messages.iter().rev().take(limit).take_while(fits).count();
        if count < messages.len() {
            messages.drain(..messages.len() - count);
            is_complete = is_complete.map(|_| false);
        }
        HistoryReplay { history: self.clone(), topic: topic.clone(), messages, is_complete, through }
    }
}

impl State {
    fn find(&self, topic: &Topic, query: &HistoryQuery) -> (Vec<Arc<KeptMessage>>, Option<bool>) {
        let entries = self.topics.get(topic).map(|topic| &topic.entries);
        let entries = || entries.into_iter().flatten();
        let ids = match query {
            HistoryQuery::Since(ms) => {
                let since = entries().filter(|entry| entry.received_ms >= *ms);
                return (since.map(|entry| entry.message.clone()).collect(), None);
            }
            HistoryQuery::After(ids) => ids,
        };
        let position = ids.iter().rev().find_map(|id| entries().find(|entry| entry.message.id == *id));
        let is_missed = |entry: &&Entry| match position {
            None => true,
            Some(last) => {
                entry.number > last.number
                    || last.source.may_follow(entry.source)
                        && last.received_at.duration_since(entry.received_at) <= ORDER_WINDOW
            }
        };
        let missed = entries().filter(is_missed).filter(|entry| !ids.contains(&entry.message.id));
        let is_complete = position.is_some_and(|last| self.is_connected && last.number >= self.gap);
        (missed.map(|entry| entry.message.clone()).collect(), Some(is_complete))
    }

    fn remove_expired(&mut self, now: Instant) {
        while self.by_expiry.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
            self.remove_first_to_expire();
        }
    }

    /// Messages of a topic expire in their order, so this is the oldest one of its topic.
    fn remove_first_to_expire(&mut self) {
        if let Some((_, topic)) = self.by_expiry.pop_first() {
            self.remove_oldest(&topic);
        }
    }

    /// Removes the oldest message of a topic.
    fn remove_oldest(&mut self, topic: &Topic) {
        let Some(history) = self.topics.get_mut(topic) else { return };
        if let Some(entry) = history.entries.pop_front() {
            history.removed_through = entry.number;
            self.last_removed = self.last_removed.max(entry.number);
            self.by_expiry.remove(&(entry.expires_at, entry.number));
            self.bytes -= entry.bytes;
        }
        if history.entries.is_empty() {
            self.topics.remove(topic);
        }
    }
}

impl LockedHistory<'_> {
    /// Appends a message. The caller queues its delivery before the lock is released.
    pub fn append(&mut self, topic: &Topic, rule: HistoryRule, source: Source, message: KeptMessage) {
        let state = &mut *self.0;
        let now = Instant::now();
        state.remove_expired(now);
        let entry = Entry {
            number: state.next_number,
            bytes: ENTRY_BYTES + topic.name.len() + message.size_bytes(),
            message: Arc::new(message),
            source,
            received_at: now,
            received_ms: Timestamp::now().as_millisecond(),
            expires_at: now + rule.age,
        };
        state.next_number += 1;
        state.bytes += entry.bytes;
        state.by_expiry.insert((entry.expires_at, entry.number), topic.clone());
        let removed_through = state.last_removed;
        let history = state.topics.entry(topic.clone());
        let history = history.or_insert_with(|| TopicHistory { entries: VecDeque::new(), removed_through });
        history.entries.push_back(entry);
        if history.entries.len() > rule.count {
            state.remove_oldest(topic);
        }
        let mut dropped = 0;
        while state.bytes > state.max_bytes && !state.by_expiry.is_empty() {
            state.remove_first_to_expire();
            dropped += 1;
        }
        if dropped > 0 {
            metrics::counter!(metric::CHANNEL_HISTORY_DROPPED).increment(dropped);
        }
    }
}

impl HistoryReplay {
    /// Locks the history until the membership of the channel is queued.
    #[must_use]
    pub fn lock(&self) -> LockedHistory<'_> {
        self.history.lock()
    }

    /// The messages since the history was read, and whether nothing is missing.
    #[must_use]
    pub fn finish(&self, history: &LockedHistory<'_>) -> (Vec<Arc<KeptMessage>>, Option<bool>) {
        let state = &*history.0;
        let topic = state.topics.get(&self.topic);
        let removed_through = topic.map_or(state.last_removed, |topic| topic.removed_through);
        let newer = topic.into_iter().flat_map(|topic| &topic.entries);
        let newer = newer.filter(|entry| entry.number > self.through).map(|entry| entry.message.clone());
        (newer.collect(), self.is_complete.map(|complete| complete && removed_through <= self.through))
    }
}

/// Task that removes expired messages and publishes the size of the history.
#[derive(Debug)]
pub struct HistorySweeper(MemoryHistory);

impl HistorySweeper {
    #[must_use]
    pub const fn new(history: MemoryHistory) -> Self {
        Self(history)
    }

    /// Sweeps until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let (messages, bytes) = {
                let mut state = self.0.0.lock();
                state.remove_expired(Instant::now());
                (state.by_expiry.len(), state.bytes)
            };
            metrics::gauge!(metric::CHANNEL_HISTORY_MESSAGES).set(messages as f64);
            metrics::gauge!(metric::CHANNEL_HISTORY_BYTES).set(bytes as f64);
        }
    }
}

#[cfg(test)]
mod tests;
