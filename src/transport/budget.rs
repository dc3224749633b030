//! How much one connection may say: a rate with a burst, and an end for who does not listen.

use std::time::Duration;

use super::FloodLimits;

/// What becomes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is heard.
    Admit,
    /// It is not; `tell` says whether it is time (once a second) to tell the peer.
    Refuse {
        /// After which time one message will be heard again.
        retry_after: Duration,
        /// Whether to say so now.
        tell: bool,
    },
    /// The peer has gone on for too long.
    Close,
}

/// One connection's account. Times are milliseconds on one clock.
#[derive(Debug, Default)]
pub struct Budget {
    /// The time, in microseconds, up to which the rate is used up (the "theoretical arrival time" of GCRA).
    used_until: u64,
    /// The second that is being counted, and what came in it.
    second: u64,
    count: u32,
    seconds_over: u8,
    /// No complaint before this time.
    quiet_until: u64,
}

impl Budget {
    /// Judges a message that comes at `now`.
    pub fn admit(&mut self, now: u64, limits: &FloodLimits) -> Verdict {
        if limits.messages_per_second == 0 {
            return Verdict::Admit;
        }
        self.count(now, limits);
        if self.seconds_over >= limits.close_after_seconds {
            return Verdict::Close;
        }
        let now_us = now * 1000;
        let each_us = 1_000_000 / u64::from(limits.messages_per_second);
        let ahead_us = each_us * u64::from(limits.burst.max(1));
        let used_until = self.used_until.max(now_us) + each_us;
        if used_until <= now_us + ahead_us {
            self.used_until = used_until;
            return Verdict::Admit;
        }
        let tell = now >= self.quiet_until;
        if tell {
            self.quiet_until = now + 1000;
        }
        Verdict::Refuse { retry_after: Duration::from_micros(used_until - now_us - ahead_us), tell }
    }

    /// Counts the seconds in a row with more than twice the rate.
    fn count(&mut self, now: u64, limits: &FloodLimits) {
        let second = now / 1000;
        if second != self.second {
            let over = self.count > limits.messages_per_second.saturating_mul(2);
            let in_a_row = second == self.second + 1;
            self.seconds_over = if over && in_a_row { self.seconds_over.saturating_add(1) } else { 0 };
            self.second = second;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(budget: &mut Budget, now: u64, messages: usize) -> usize {
        let limits = FloodLimits::default();
        (0..messages).filter(|_| budget.admit(now, &limits) == Verdict::Admit).count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut budget = Budget::default();
        assert_eq!(admitted(&mut budget, 10_000, 1000), 200);
        assert_eq!(admitted(&mut budget, 10_100, 1000), 10);
        assert_eq!(admitted(&mut budget, 20_000, 1000), 200);
    }

    #[test]
    fn the_peer_is_told_once_a_second_and_when_to_come_back() {
        let mut budget = Budget::default();
        admitted(&mut budget, 0, 200);
        let limits = FloodLimits::default();
        let told: Vec<u64> = (0..3000)
            .step_by(5)
            .filter(|now| {
                (0..3).any(|_| matches!(budget.admit(*now, &limits), Verdict::Refuse { tell: true, .. }))
            })
            .collect();
        assert_eq!(told, [0, 1000, 2000]);
        assert_eq!(budget.admit(3000, &limits), Verdict::Admit);
        let Verdict::Refuse { retry_after, .. } = budget.admit(3000, &limits) else {
            panic!("over the limit")
        };
        assert!(retry_after <= Duration::from_millis(10), "{retry_after:?}");
    }

    #[test]
    fn only_who_floods_for_five_seconds_in_a_row_is_closed() {
        let limits = FloodLimits::default();
        let flood = |budget: &mut Budget, second: u64| {
            (0..300)
                .map(|at| budget.admit(second * 1000 + at, &limits))
                .any(|verdict| verdict == Verdict::Close)
        };
        let mut budget = Budget::default();
        assert!((10..15).all(|second| !flood(&mut budget, second)));
        assert!(flood(&mut budget, 15));

        let mut pausing = Budget::default();
        assert!((10..40).step_by(2).all(|second| !flood(&mut pausing, second)));
    }

    #[test]
    fn zero_means_no_limit() {
        let limits = FloodLimits { messages_per_second: 0, ..FloodLimits::default() };
        let mut budget = Budget::default();
        assert!((0..10_000).all(|_| budget.admit(0, &limits) == Verdict::Admit));
    }
}
