//! Which other nodes live.

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

/// The other nodes, as far as this one knows. All clones are one.
#[derive(Debug, Clone)]
pub struct Peers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Read for each message; everything else is rare.
    is_single_node: AtomicBool,
    state: Mutex<State>,
    seen_notify: Notify,
    /// How long somebody who was heard of counts, whatever a look says that began before.
    lease: Duration,
}

#[derive(Debug, Default)]
struct State {
    /// With a valid lease, when somebody looked last.
    alive: HashSet<NodeId>,
    /// Heard of, and when.
    last_seen: HashMap<NodeId, Instant>,
}

impl Peers {
    /// Nobody; `lease` is how long a silent node counts as alive.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        let inner = Inner {
            is_single_node: AtomicBool::new(true),
            state: Mutex::default(),
            seen_notify: Notify::new(),
            lease,
        };
        Self(Arc::new(inner))
    }

    /// Whether no other node lives.
    #[must_use]
    pub fn is_single_node(&self) -> bool {
        self.0.is_single_node.load(Ordering::Relaxed)
    }

    /// Leases say that these live.
    pub fn update_alive(&self, living: HashSet<NodeId>) {
        let mut state = self.0.state.lock();
        state.alive = living;
        let trust = self.0.lease;
        state.last_seen.retain(|_, when| when.elapsed() < trust);
        self.refresh(&state);
    }

    /// This one has just been heard.
    pub(super) fn seen(&self, node: NodeId) {
        let mut state = self.0.state.lock();
        state.last_seen.insert(node, Instant::now());
        self.refresh(&state);
        drop(state);
        self.0.seen_notify.notify_waiters();
    }

    /// This one has taken its leave.
    pub fn remove(&self, node: NodeId) {
        let mut state = self.0.state.lock();
        state.alive.remove(&node);
        state.last_seen.remove(&node);
        self.refresh(&state);
    }

    /// Waits until each of these was heard since `when`, but no longer than `patience`. Whether they were.
    pub(super) async fn wait_until_seen(
        &self,
        nodes: &HashSet<NodeId>,
        when: Instant,
        patience: Duration,
    ) -> bool {
        let all = async {
            loop {
                let met = self.0.seen_notify.notified();
                tokio::pin!(met);
                met.as_mut().enable();
                {
                    let state = self.0.state.lock();
                    if nodes.iter().all(|node| state.last_seen.get(node).is_some_and(|met| *met >= when)) {
                        return;
                    }
                }
                met.await;
            }
        };
        timeout(patience, all).await.is_ok()
    }

    fn refresh(&self, state: &State) {
        self.0.is_single_node.store(state.alive.is_empty() && state.last_seen.is_empty(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn who_was_heard_counts_whatever_an_older_look_says() {
        let (neighbours, other) = (Peers::new(LEASE), NodeId::random());
        assert!(neighbours.is_single_node());
        neighbours.seen(other);
        neighbours.update_alive(HashSet::new());
        assert!(!neighbours.is_single_node(), "the look may have begun before its lease");
        tokio::time::advance(LEASE).await;
        neighbours.update_alive(HashSet::new());
        assert!(neighbours.is_single_node());
        neighbours.update_alive([other].into());
        assert!(!neighbours.is_single_node());
        neighbours.remove(other);
        assert!(neighbours.is_single_node());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_an_answer_ends_with_it_or_with_patience() {
        let (neighbours, other) = (Peers::new(LEASE), NodeId::random());
        let all = [other].into();
        assert!(!neighbours.wait_until_seen(&all, Instant::now(), LEASE).await, "nobody answered");
        let asked = Instant::now();
        let later = neighbours.clone();
        tokio::spawn(async move { later.seen(other) });
        assert!(neighbours.wait_until_seen(&all, asked, LEASE).await);
        assert!(
            neighbours.wait_until_seen(&HashSet::new(), asked, Duration::ZERO).await,
            "nobody to wait for"
        );
    }
}
