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
pub struct Neighbours(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Read for each message; everything else is rare.
    is_alone: AtomicBool,
    state: Mutex<State>,
    met: Notify,
    /// How long somebody who was heard of counts, whatever a look says that began before.
    trust: Duration,
}

#[derive(Debug, Default)]
struct State {
    /// With a valid lease, when somebody looked last.
    living: HashSet<NodeId>,
    /// Heard of, and when.
    met: HashMap<NodeId, Instant>,
}

impl Neighbours {
    /// Nobody; `lease` is how long a silent node counts as alive.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        let inner = Inner {
            is_alone: AtomicBool::new(true),
            state: Mutex::default(),
            met: Notify::new(),
            trust: lease,
        };
        Self(Arc::new(inner))
    }

    /// Whether no other node lives.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.0.is_alone.load(Ordering::Relaxed)
    }

    /// Leases say that these live.
    pub fn live(&self, living: HashSet<NodeId>) {
        let mut state = self.0.state.lock();
        state.living = living;
        let trust = self.0.trust;
        state.met.retain(|_, when| when.elapsed() < trust);
        self.settle(&state);
    }

    /// This one has just been heard.
    pub(super) fn met(&self, node: NodeId) {
        let mut state = self.0.state.lock();
        state.met.insert(node, Instant::now());
        self.settle(&state);
        drop(state);
        self.0.met.notify_waiters();
    }

    /// This one has taken its leave.
    pub fn gone(&self, node: NodeId) {
        let mut state = self.0.state.lock();
        state.living.remove(&node);
        state.met.remove(&node);
        self.settle(&state);
    }

    /// Waits until each of these was heard since `when`, but no longer than `patience`. Whether they were.
    pub(super) async fn have_been_met(
        &self,
        nodes: &HashSet<NodeId>,
        when: Instant,
        patience: Duration,
    ) -> bool {
        let all = async {
            loop {
                let met = self.0.met.notified();
                tokio::pin!(met);
                met.as_mut().enable();
                {
                    let state = self.0.state.lock();
                    if nodes.iter().all(|node| state.met.get(node).is_some_and(|met| *met >= when)) {
                        return;
                    }
                }
                met.await;
            }
        };
        timeout(patience, all).await.is_ok()
    }

    fn settle(&self, state: &State) {
        self.0.is_alone.store(state.living.is_empty() && state.met.is_empty(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn who_was_heard_counts_whatever_an_older_look_says() {
        let (neighbours, other) = (Neighbours::new(LEASE), NodeId::random());
        assert!(neighbours.is_alone());
        neighbours.met(other);
        neighbours.live(HashSet::new());
        assert!(!neighbours.is_alone(), "the look may have begun before its lease");
        tokio::time::advance(LEASE).await;
        neighbours.live(HashSet::new());
        assert!(neighbours.is_alone());
        neighbours.live([other].into());
        assert!(!neighbours.is_alone());
        neighbours.gone(other);
        assert!(neighbours.is_alone());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_an_answer_ends_with_it_or_with_patience() {
        let (neighbours, other) = (Neighbours::new(LEASE), NodeId::random());
        let all = [other].into();
        assert!(!neighbours.have_been_met(&all, Instant::now(), LEASE).await, "nobody answered");
        let asked = Instant::now();
        let later = neighbours.clone();
        tokio::spawn(async move { later.met(other) });
        assert!(neighbours.have_been_met(&all, asked, LEASE).await);
        assert!(neighbours.have_been_met(&HashSet::new(), asked, Duration::ZERO).await, "nobody to wait for");
    }
}
