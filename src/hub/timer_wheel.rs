//! A timer wheel. It costs one small entry per connection instead of one runtime timer.

/// Items by the tick at which they are due. The caller defines the length of a tick.
#[derive(Debug)]
pub(super) struct TimerWheel<T> {
    slots: Box<[Vec<T>]>,
    /// The last tick passed to `advance`.
    last_tick: u64,
}

impl<T> TimerWheel<T> {
    /// Creates a wheel with `slots` ticks (at least 2). An item scheduled later than `slots - 1` ticks from now is due
    /// early, and the caller schedules it again.
    #[must_use]
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: (0..slots.max(2)).map(|_| Vec::new()).collect(), last_tick: 0 }
    }

    /// Schedules `item` for `tick`. Returns the tick at which it is due: at least the next one, at most `slots - 1`
    /// ticks from now.
    pub(super) fn schedule(&mut self, tick: u64, item: T) -> u64 {
        let horizon = self.last_tick + self.slots.len() as u64 - 1;
        let tick = tick.clamp(self.last_tick + 1, horizon);
        let slot = self.slot(tick);
        self.slots[slot].push(item);
        tick
    }

    /// Removes every item due up to and including `tick` and passes it to `due` with its tick.
    pub(super) fn advance(&mut self, tick: u64, mut due: impl FnMut(u64, T)) {
        while self.last_tick < tick {
            self.last_tick += 1;
            let slot = self.slot(self.last_tick);
            // Takes the whole vector, so that a slot does not retain the capacity of its largest use.
            for item in std::mem::take(&mut self.slots[slot]) {
                due(self.last_tick, item);
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the remainder is smaller than the number of slots")]
    fn slot(&self, tick: u64) -> usize {
        (tick % self.slots.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advance(wheel: &mut TimerWheel<char>, tick: u64) -> Vec<(u64, char)> {
        let mut due = Vec::new();
        wheel.advance(tick, |tick, item| due.push((tick, item)));
        due
    }

    #[test]
    fn items_are_due_at_their_tick_in_order() {
        let mut wheel = TimerWheel::new(8);
        wheel.schedule(5, 'b');
        wheel.schedule(2, 'a');
        assert_eq!(advance(&mut wheel, 1), []);
        assert_eq!(advance(&mut wheel, 6), [(2, 'a'), (5, 'b')]);
        assert_eq!(advance(&mut wheel, 100), []);
    }

    #[test]
    fn past_ticks_are_due_next_and_distant_ticks_are_clamped() {
        let mut wheel = TimerWheel::new(4);
        advance(&mut wheel, 10);
        assert_eq!(wheel.schedule(3, 'a'), 11);
        assert_eq!(wheel.schedule(1000, 'b'), 13);
        assert_eq!(advance(&mut wheel, 13), [(11, 'a'), (13, 'b')]);
    }
}
