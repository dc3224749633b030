//! Which rows have been delivered lately, so that none is delivered twice.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

/// How far back from a gap rows are read again: a row is written before its transaction commits, and a dead connection is
/// noticed only after a while.
pub(super) const GAP_OVERLAP: Duration = Duration::from_secs(60);
/// Rows that are remembered. Over it the overlap becomes shorter instead of a row being delivered twice.
const MAX_IDS: usize = 100_000;

/// Rows delivered in the last [`OVERLAP`].
#[derive(Default)]
pub(super) struct DeliveredIds {
    ids: HashSet<Uuid>,
    order: VecDeque<(Instant, Uuid)>,
    /// Rows delivered until then may have been forgotten.
    evicted_until: Option<Instant>,
}

impl DeliveredIds {
    /// Remembers a row; false if it was known already.
    pub fn insert(&mut self, id: Uuid, now: Instant) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back((now, id));
        if self.order.len() > MAX_IDS {
            self.evict_oldest();
        }
        true
    }

    pub fn contains(&self, id: &Uuid) -> bool {
        self.ids.contains(id)
    }

    /// From which moment on rows are to be read again to close a gap: all that are younger and were delivered are known.
    pub fn gap_read_start(&self, gap: Instant) -> Instant {
        let from = gap.checked_sub(GAP_OVERLAP).unwrap_or(gap);
        self.evicted_until.map_or(from, |forgotten| from.max(forgotten))
    }

    /// Forgets what no gap that begins now or later can ask for.
    pub fn evict_expired(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| now.duration_since(*at) > GAP_OVERLAP * 2) {
            self.evict_oldest();
        }
        if self.order.is_empty() && self.order.capacity() > 4_096 {
            (self.ids, self.order) = (HashSet::new(), VecDeque::new());
        }
    }

    fn evict_oldest(&mut self) {
        if let Some((at, id)) = self.order.pop_front() {
            self.ids.remove(&id);
            self.evicted_until = Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_new_once_and_evicted_rows_are_not_read_again() {
        let mut seen = DeliveredIds::default();
        let start = Instant::now();
        let first = Uuid::new_v4();
        assert!(seen.insert(first, start) && !seen.insert(first, start) && seen.contains(&first));
        let gap = start + GAP_OVERLAP * 3;
        assert_eq!(seen.gap_read_start(gap), start + GAP_OVERLAP * 2);

        seen.evict_expired(gap);
        assert!(!seen.contains(&first));
        assert_eq!(seen.gap_read_start(start), start, "what was forgotten is older than what is read again");
    }

    #[test]
    fn overflow_shortens_the_overlap() {
        let mut seen = DeliveredIds::default();
        let start = Instant::now();
        for n in 0..=MAX_IDS {
            seen.insert(Uuid::from_u128(n as u128), start + Duration::from_millis(n as u64 / 100));
        }
        assert!(!seen.contains(&Uuid::from_u128(0)) && seen.contains(&Uuid::from_u128(1)));
        assert!(seen.gap_read_start(start + Duration::from_secs(2)) >= start);
    }
}
