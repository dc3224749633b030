//! Tracks which other nodes are alive.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::model::NodeId;

/// The other live nodes as known to this node. Clones share one state.
#[derive(Debug, Clone)]
pub struct Peers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Read for every message; written only when the set of nodes changes.
    is_single_node: AtomicBool,
    state: Mutex<State>,
    seen_notify: Notify,
    /// How long a node counts as alive after its last notification, even if a lease query that began earlier
    /// misses it.
    lease: Duration,
    /// Whether other nodes are assumed to exist, whatever is known.
    assumes_others: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Nodes with a valid lease at the last query.
    alive: HashSet<NodeId>,
    /// Time of the last notification of each node.
    last_seen: HashMap<NodeId, Instant>,
}

impl Peers {
    /// Starts without other nodes. `lease` is how long a silent node counts as alive.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        Self::with_assumption(lease, false)
    }

    /// For a bus on which nodes do not announce themselves: there are always other nodes.
    #[must_use]
    pub fn assumed(lease: Duration) -> Self {
        Self::with_assumption(lease, true)
    }

    fn with_assumption(lease: Duration, assumes_others: bool) -> Self {
        let inner = Inner {
            is_single_node: AtomicBool::new(!assumes_others),
            state: Mutex::default(),
            seen_notify: Notify::new(),
            lease,
            assumes_others,
        };
        Self(Arc::new(inner))
    }

    #[must_use]
    pub fn is_single_node(&self) -> bool {
        self.0.is_single_node.load(Ordering::Relaxed)
    }

    /// Replaces the set of nodes with a valid lease.
    pub fn update_alive(&self, alive: HashSet<NodeId>) {
        let mut state = self.0.state.lock();
        state.alive = alive;
        let lease = self.0.lease;
        state.last_seen.retain(|_, since| since.elapsed() < lease);
        self.refresh(&state);
    }

    /// Records a notification of a node.
    pub(super) fn seen(&self, node: NodeId) {
        let mut state = self.0.state.lock();
        state.last_seen.insert(node, Instant::now());
        self.refresh(&state);
        drop(state);
        self.0.seen_notify.notify_waiters();
    }

    /// Removes a node that has shut down.
    pub fn remove(&self, node: NodeId) {
        let mut state = self.0.state.lock();
        state.alive.remove(&node);
        state.last_seen.remove(&node);
        self.refresh(&state);
    }

    /// Waits until every node has sent a notification since `since`, or until `limit` has passed. Returns
    /// whether all did.
    pub(super) async fn wait_until_seen(
        &self,
        nodes: &HashSet<NodeId>,
        since: Instant,
        limit: Duration,
    ) -> bool {
        let all = async {
            loop {
                let seen = self.0.seen_notify.notified();
                tokio::pin!(seen);
                seen.as_mut().enable();
                {
                    let state = self.0.state.lock();
                    if nodes.iter().all(|node| state.last_seen.get(node).is_some_and(|seen| *seen >= since)) {
                        return;
                    }
                }
                seen.await;
            }
        };
        timeout(limit, all).await.is_ok()
    }

    fn refresh(&self, state: &State) {
        let is_alone = !self.0.assumes_others && state.alive.is_empty() && state.last_seen.is_empty();
        self.0.is_single_node.store(is_alone, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_recently_seen_node_counts_as_alive_without_a_lease() {
        let (peers, other) = (Peers::new(LEASE), NodeId::random());
        assert!(peers.is_single_node());
        peers.seen(other);
        peers.update_alive(HashSet::new());
        assert!(!peers.is_single_node(), "the query may have begun before its lease");
        tokio::time::advance(LEASE).await;
        peers.update_alive(HashSet::new());
        assert!(peers.is_single_node());
        peers.update_alive([other].into());
        assert!(!peers.is_single_node());
        peers.remove(other);
        assert!(peers.is_single_node());
    }

    #[test]
    fn assumed_nodes_never_disappear() {
        let peers = Peers::assumed(LEASE);
        assert!(!peers.is_single_node());
        peers.update_alive(HashSet::new());
        assert!(!peers.is_single_node());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_the_answers_or_the_timeout() {
        let (peers, other) = (Peers::new(LEASE), NodeId::random());
        let all = [other].into();
        assert!(!peers.wait_until_seen(&all, Instant::now(), LEASE).await, "no answer");
        let since = Instant::now();
        let clone = peers.clone();
        tokio::spawn(async move { clone.seen(other) });
        assert!(peers.wait_until_seen(&all, since, LEASE).await);
        assert!(peers.wait_until_seen(&HashSet::new(), since, Duration::ZERO).await, "no node to wait for");
    }
}
