//! Which rows have been delivered lately, so that none is delivered twice.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

/// How far back from a gap rows are read again: a row is written before its transaction commits, and a dead connection is
/// noticed only after a while.
pub(super) const OVERLAP: Duration = Duration::from_secs(60);
/// Rows that are remembered. Over it the overlap becomes shorter instead of a row being delivered twice.
const MOST: usize = 100_000;

/// Rows delivered in the last [`OVERLAP`].
#[derive(Default)]
pub(super) struct Seen {
    ids: HashSet<Uuid>,
    order: VecDeque<(Instant, Uuid)>,
    /// Rows delivered until then may have been forgotten.
    forgotten: Option<Instant>,
}

impl Seen {
    /// Remembers a row; false if it was known already.
    pub fn insert(&mut self, id: Uuid, now: Instant) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back((now, id));
        if self.order.len() > MOST {
            self.forget_oldest();
        }
        true
    }

    pub fn holds(&self, id: &Uuid) -> bool {
        self.ids.contains(id)
    }

    /// From which moment on rows are to be read again to close a gap: all that are younger and were delivered are known.
    pub fn reread_from(&self, gap: Instant) -> Instant {
        let from = gap.checked_sub(OVERLAP).unwrap_or(gap);
        self.forgotten.map_or(from, |forgotten| from.max(forgotten))
    }

    /// Forgets what no gap that begins now or later can ask for.
    pub fn tidy(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| now.duration_since(*at) > OVERLAP * 2) {
            self.forget_oldest();
        }
        if self.order.is_empty() && self.order.capacity() > 4_096 {
            (self.ids, self.order) = (HashSet::new(), VecDeque::new());
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((at, id)) = self.order.pop_front() {
            self.ids.remove(&id);
            self.forgotten = Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_new_once_and_forgotten_rows_are_not_read_again() {
        let mut seen = Seen::default();
        let start = Instant::now();
        let first = Uuid::new_v4();
        assert!(seen.insert(first, start) && !seen.insert(first, start) && seen.holds(&first));
        let gap = start + OVERLAP * 3;
        assert_eq!(seen.reread_from(gap), start + OVERLAP * 2);

        seen.tidy(gap);
        assert!(!seen.holds(&first));
        assert_eq!(seen.reread_from(start), start, "what was forgotten is older than what is read again");
    }

    #[test]
    fn too_many_rows_shorten_the_overlap() {
        let mut seen = Seen::default();
        let start = Instant::now();
        for n in 0..=MOST {
            seen.insert(Uuid::from_u128(n as u128), start + Duration::from_millis(n as u64 / 100));
        }
        assert!(!seen.holds(&Uuid::from_u128(0)) && seen.holds(&Uuid::from_u128(1)));
        assert!(seen.reread_from(start + Duration::from_secs(2)) >= start);
    }
}
