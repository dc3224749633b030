//! Remembers delivered rows so that none is delivered twice.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

/// Time before a gap from which rows are read again: a row is written before its transaction commits, and a lost
/// connection is detected late.
pub(super) const GAP_OVERLAP: Duration = Duration::from_secs(60);
/// Maximum number of remembered rows. Above it, the overlap becomes shorter, so that no row is delivered twice.
const MAX_IDS: usize = 100_000;

/// Rows delivered within twice the [`GAP_OVERLAP`].
#[derive(Default)]
pub(super) struct DeliveredIds {
    ids: HashSet<Uuid>,
    order: VecDeque<(Instant, Uuid)>,
    /// Rows delivered up to this time may have been evicted.
    evicted_until: Option<Instant>,
}

impl DeliveredIds {
    /// Adds a row; false if it was already delivered.
    pub(super) fn insert(&mut self, id: Uuid, now: Instant) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back((now, id));
        if self.order.len() > MAX_IDS {
            self.evict_oldest();
        }
        true
    }

    pub(super) fn contains(&self, id: &Uuid) -> bool {
        self.ids.contains(id)
    }

    /// Time from which rows are read again to close a gap. All rows that were delivered since then are remembered.
    pub(super) fn gap_read_start(&self, gap: Instant) -> Instant {
        let start = gap.checked_sub(GAP_OVERLAP).unwrap_or(gap);
        self.evicted_until.map_or(start, |evicted_until| start.max(evicted_until))
    }

    /// Evicts rows that no gap starting at `now` or later needs.
    pub(super) fn evict_expired(&mut self, now: Instant) {
        while self
            .order
            .front()
            .is_some_and(|(delivered_at, _)| now.duration_since(*delivered_at) > GAP_OVERLAP * 2)
        {
            self.evict_oldest();
        }
        if self.order.is_empty() && self.order.capacity() > 4_096 {
            (self.ids, self.order) = (HashSet::new(), VecDeque::new());
        }
    }

    fn evict_oldest(&mut self) {
        if let Some((delivered_at, id)) = self.order.pop_front() {
            self.ids.remove(&id);
            self.evicted_until = Some(delivered_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_new_once_and_evicted_rows_are_not_read_again() {
        let mut delivered = DeliveredIds::default();
        let start = Instant::now();
        let first = Uuid::new_v4();
        assert!(
            delivered.insert(first, start) && !delivered.insert(first, start) && delivered.contains(&first)
        );
        let gap = start + GAP_OVERLAP * 3;
        assert_eq!(delivered.gap_read_start(gap), start + GAP_OVERLAP * 2);

        delivered.evict_expired(gap);
        assert!(!delivered.contains(&first));
        assert_eq!(
            delivered.gap_read_start(start),
            start,
            "evicted rows are older than the rows that are read again"
        );
    }

    #[test]
    fn overflow_shortens_the_overlap() {
        let mut delivered = DeliveredIds::default();
        let start = Instant::now();
        for n in 0..=MAX_IDS {
            delivered.insert(Uuid::from_u128(n as u128), start + Duration::from_millis(n as u64 / 100));
        }
        assert!(!delivered.contains(&Uuid::from_u128(0)) && delivered.contains(&Uuid::from_u128(1)));
        assert!(delivered.gap_read_start(start + Duration::from_secs(2)) >= start);
    }
}
