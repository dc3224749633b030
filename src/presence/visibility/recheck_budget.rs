//! How much of the database lookups of everything may take, after changes that may concern every viewer, and which
//! viewers wait for it.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::graph::ViewerKey;

/// Time of lookups per time: half of one connection.
const SHARE: f64 = 0.5;
/// Credit of a node that was idle. With the credit per viewer, a single change of a policy is applied at full speed.
const BURST: Duration = Duration::from_secs(5);
/// A viewer with 50 relations takes half a millisecond.
const BURST_PER_VIEWER: Duration = Duration::from_millis(1);
/// Credit at which lookups continue, so that they run in batches.
const QUANTUM: Duration = Duration::from_millis(50);

/// Credit for lookups, in seconds of their duration.
#[derive(Debug)]
pub(super) struct RecheckBudget {
    credit: f64,
    updated_at: Instant,
    is_exhausted: bool,
}

impl RecheckBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self { credit: BURST.as_secs_f64(), updated_at: now, is_exhausted: false }
    }

    /// Whether lookups may start, on a node with so many viewers.
    pub(super) fn is_available(&mut self, viewers: usize, now: Instant) -> bool {
        let max = BURST.as_secs_f64() + BURST_PER_VIEWER.as_secs_f64() * viewers as f64;
        let elapsed = now.saturating_duration_since(self.updated_at).as_secs_f64();
        self.credit = (self.credit + elapsed * SHARE).min(max);
        self.updated_at = now;
        self.is_exhausted =
            if self.is_exhausted { self.credit < QUANTUM.as_secs_f64() } else { self.credit <= 0.0 };
        !self.is_exhausted
    }

    /// Takes the duration of a lookup.
    pub(super) fn spend(&mut self, duration: Duration) {
        self.credit -= duration.as_secs_f64();
    }

    /// When lookups may continue.
    pub(super) fn available_at(&self) -> Instant {
        let missing = (QUANTUM.as_secs_f64() - self.credit).max(0.0);
        // Rounded up, so that the credit is there at that time.
        self.updated_at + Duration::from_secs_f64(missing / SHARE) + Duration::from_millis(1)
    }
}

/// Viewers in the order of their arrival, each once: a viewer that is invalidated again and again does not overtake the
/// others.
#[derive(Debug, Default)]
pub(super) struct DeferredViewers {
    queue: VecDeque<ViewerKey>,
    keys: HashSet<ViewerKey>,
}

impl DeferredViewers {
    pub(super) fn push(&mut self, key: ViewerKey) {
        if self.keys.insert(key) {
            self.queue.push_back(key);
        }
    }

    pub(super) fn move_before(&mut self, due: &mut VecDeque<ViewerKey>) {
        self.keys.clear();
        self.queue.append(due);
        std::mem::swap(&mut self.queue, due);
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::graph::{Interest, VisibilityGraph},
        *,
    };
    use crate::{auth::Principal, hub::ConnId, model::UserId};

    #[test]
    fn lookups_take_their_share_after_a_burst() {
        let start = Instant::now();
        let mut budget = RecheckBudget::new(start);
        let (mut now, mut spent) = (start, Duration::ZERO);
        let lookup = Duration::from_millis(20);
        let end = start + Duration::from_secs(100);
        while now < end {
            if budget.is_available(0, now) {
                budget.spend(lookup);
                spent += lookup;
                now += lookup;
            } else {
                let next = budget.available_at();
                assert!(next > now && next < now + Duration::from_secs(1));
                now = next;
            }
        }
        let share = (spent - BURST).as_secs_f64() / 100.0;
        assert!((0.49..0.52).contains(&share), "{share}");
    }

    #[test]
    fn credit_grows_with_the_viewers() {
        let start = Instant::now();
        let mut budget = RecheckBudget::new(start);
        assert!(budget.is_available(20_000, start + Duration::from_secs(60)));
        budget.spend(Duration::from_secs(24));
        assert!(budget.is_available(20_000, start + Duration::from_secs(60)));
        budget.spend(Duration::from_secs(12));
        assert!(!budget.is_available(20_000, start + Duration::from_secs(60)));
    }

    #[test]
    fn deferred_viewers_keep_their_order() {
        let mut graph = VisibilityGraph::default();
        let mut add = |conn| {
            let user = UserId::random();
            graph.add_viewer(
                ConnId::for_test(conn),
                user,
                Principal::for_user(user),
                Interest::default(),
                false,
            )
        };
        let [one, two, three] = [add(1), add(2), add(3)];
        let mut deferred = DeferredViewers::default();
        [one, two, one].into_iter().for_each(|key| deferred.push(key));
        let mut due = VecDeque::from([three, one]);
        deferred.move_before(&mut due);
        assert_eq!((due, deferred.len()), (VecDeque::from([one, two, three, one]), 0));
        deferred.push(one);
        assert!(!deferred.is_empty());
    }
}
