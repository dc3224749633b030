//! The topics with members on this node, for a bus with a subscription per topic.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use crate::model::Topic;

/// Time for which a topic without members stays subscribed. Clients that reconnect join again within it.
const IDLE_TIME: Duration = Duration::from_secs(10);
/// Maximum time that a join waits for the subscription of its topic.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(1);

/// Identifies a topic: 128 bits of the SHA-256 of its name and whether it is private.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TopicKey([u8; 16]);

impl TopicKey {
    pub(super) fn of(topic: &Topic) -> Self {
        let digest =
            Sha256::new().chain_update([u8::from(topic.private)]).chain_update(&*topic.name).finalize();
        Self(digest.first_chunk().copied().expect("32 bytes"))
    }
}

/// Lowercase hexadecimal, 32 characters.
impl fmt::Display for TopicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TopicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Counts the members of topics. Bounded by the memberships of this node, and those of the last [`IDLE_TIME`].
#[derive(Debug)]
pub(super) struct Interest {
    state: Mutex<State>,
    /// There are topics to subscribe to.
    wake: Notify,
    confirmed: watch::Sender<Confirmed>,
}

#[derive(Debug, Default)]
struct State {
    topics: HashMap<TopicKey, Entry>,
    /// Topics to subscribe to, with ascending numbers.
    new: VecDeque<(TopicKey, u64)>,
    /// Topics that lost their last member, oldest first. A topic is here at most once.
    idle: VecDeque<(Instant, TopicKey)>,
    last_number: u64,
}

#[derive(Debug)]
struct Entry {
    members: usize,
    /// Ascending, in the order in which topics are subscribed.
    number: u64,
    /// When the last member left; `None` while it was not checked since.
    idle_since: Option<Instant>,
    is_in_idle: bool,
}

/// Which subscriptions are in effect.
#[derive(Debug, Clone, Copy, Default)]
struct Confirmed {
    /// Those of topics up to this number.
    through: u64,
    /// Whether waiting makes sense.
    is_connected: bool,
}

/// Keeps the messages of a topic coming while it exists.
#[derive(Debug)]
pub struct TopicSubscription {
    interest: Arc<Interest>,
    key: TopicKey,
}

impl TopicSubscription {
    /// Waits until messages that are sent from now on arrive: at most one second, and not while the bus is not connected.
    pub async fn confirmed(&self) {
        let number = self.interest.state.lock().topics.get(&self.key).map_or(0, |entry| entry.number);
        let mut confirmed = self.interest.confirmed.subscribe();
        let is_done = |confirmed: &Confirmed| !confirmed.is_connected || confirmed.through >= number;
        if timeout(CONFIRMATION_TIMEOUT, confirmed.wait_for(is_done)).await.is_err() {
            tracing::debug!("joined a topic before its subscription was confirmed");
        }
    }
}

impl Drop for TopicSubscription {
    fn drop(&mut self) {
        self.interest.release(self.key);
    }
}

impl Interest {
    pub(super) fn new() -> Self {
        let (confirmed, _) = watch::channel(Confirmed::default());
        Self { state: Mutex::default(), wake: Notify::new(), confirmed }
    }

    pub(super) fn acquire(self: &Arc<Self>, topic: &Topic) -> TopicSubscription {
        let key = TopicKey::of(topic);
        let mut state = self.state.lock();
        let state = &mut *state;
        let entry = state.topics.entry(key).or_insert_with(|| {
            state.last_number += 1;
            state.new.push_back((key, state.last_number));
            self.wake.notify_one();
            Entry { members: 0, number: state.last_number, idle_since: None, is_in_idle: false }
        });
        entry.members += 1;
        TopicSubscription { interest: Arc::clone(self), key }
    }

    fn release(&self, key: TopicKey) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(entry) = state.topics.get_mut(&key) else { return };
        entry.members -= 1;
        if entry.members == 0 {
            let now = Instant::now();
            entry.idle_since = Some(now);
            if !entry.is_in_idle {
                entry.is_in_idle = true;
                state.idle.push_back((now, key));
            }
        }
    }

    pub(super) async fn wait_for_new(&self) {
        loop {
            let woken = self.wake.notified();
            if !self.state.lock().new.is_empty() {
                return;
            }
            woken.await;
        }
    }

    /// Takes the next topic to subscribe to, with its number. Topics that were removed meanwhile are skipped.
    pub(super) fn take_new(&self) -> Option<(TopicKey, u64)> {
        let mut state = self.state.lock();
        loop {
            let (key, number) = state.new.pop_front()?;
            if state.topics.get(&key).is_some_and(|entry| entry.number == number) {
                return Some((key, number));
            }
        }
    }

    /// Returns a topic that could not be subscribed.
    pub(super) fn return_new(&self, key: TopicKey, number: u64) {
        self.state.lock().new.push_front((key, number));
    }

    /// Removes the topics that have had no members for [`IDLE_TIME`].
    pub(super) fn take_idle(&self) -> Vec<TopicKey> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let (now, mut removed) = (Instant::now(), Vec::new());
        while let Some((since, key)) = state.idle.front().copied() {
            if now.duration_since(since) < IDLE_TIME {
                break;
            }
            state.idle.pop_front();
            let Some(entry) = state.topics.get_mut(&key) else { continue };
            entry.is_in_idle = false;
            let Some(idle_since) = entry.idle_since.filter(|_| entry.members == 0) else { continue };
            if now.duration_since(idle_since) < IDLE_TIME {
                // It had members meanwhile. The order of the queue is that of the checks, so this one may be early.
                entry.is_in_idle = true;
                state.idle.push_back((now, key));
                continue;
            }
            state.topics.remove(&key);
            removed.push(key);
        }
        if state.topics.is_empty() {
            state.topics = HashMap::new();
        }
        removed
    }

    /// Records that the subscriptions up to this number are in effect.
    pub(super) fn confirm(&self, through: u64) {
        self.confirmed.send_modify(|confirmed| confirmed.through = confirmed.through.max(through));
    }

    pub(super) fn set_connected(&self, is_connected: bool) {
        self.confirmed.send_modify(|confirmed| confirmed.is_connected = is_connected);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn topics_differ_by_name_and_privacy() {
        let keys = [Topic::public("a"), Topic::private("a"), Topic::public("b"), Topic::public("a.*.> \r\n")];
        let texts: Vec<String> = keys.iter().map(|topic| TopicKey::of(topic).to_string()).collect();
        assert!(texts.iter().all(|text| text.len() == 32 && text.chars().all(|c| c.is_ascii_hexdigit())));
        assert_eq!(texts.iter().collect::<std::collections::HashSet<_>>().len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_is_subscribed_once_and_kept_for_a_while() {
        let (interest, topic) = (Arc::new(Interest::new()), Topic::public("lobby"));
        let (first, second) = (interest.acquire(&topic), interest.acquire(&topic));
        assert_eq!(interest.take_new(), Some((TopicKey::of(&topic), 1)));
        assert_eq!(interest.take_new(), None);
        drop(first);
        tokio::time::advance(2 * IDLE_TIME).await;
        assert!(interest.take_idle().is_empty(), "it has a member");
        drop(second);
        tokio::time::advance(IDLE_TIME / 2).await;
        drop(interest.acquire(&topic));
        tokio::time::advance(IDLE_TIME / 2).await;
        assert!(interest.take_idle().is_empty(), "it had a member meanwhile");
        tokio::time::advance(IDLE_TIME).await;
        assert_eq!(interest.take_idle(), [TopicKey::of(&topic)]);
        let _again = interest.acquire(&topic);
        assert_eq!(interest.take_new(), Some((TopicKey::of(&topic), 2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_join_waits_for_its_subscription_only_while_connected() {
        let interest = Arc::new(Interest::new());
        let subscription = interest.acquire(&Topic::public("lobby"));
        assert!(subscription.confirmed().now_or_never().is_some(), "not connected");
        interest.set_connected(true);
        assert!(subscription.confirmed().now_or_never().is_none());
        interest.confirm(1);
        assert!(subscription.confirmed().now_or_never().is_some());
        let started = Instant::now();
        interest.acquire(&Topic::public("other")).confirmed().await;
        assert_eq!(started.elapsed(), CONFIRMATION_TIMEOUT);
    }
}
