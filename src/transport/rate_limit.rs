//! How much one connection may say: a rate with a burst, and an end for who does not listen.

use std::time::Duration;

use super::MessageRateLimits;

/// What becomes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateDecision {
    /// It is heard.
    Allow,
    /// It is not; `tell` says whether it is time (once a second) to tell the peer.
    Reject {
        /// After which time one message will be heard again.
        retry_after: Duration,
        /// Whether to say so now.
        notify: bool,
    },
    /// The peer has gone on for too long.
    Close,
}

/// One connection's account. Times are milliseconds on one clock.
#[derive(Debug, Default)]
pub struct MessageRateLimiter {
    /// The time, in microseconds, up to which the rate is used up (the "theoretical arrival time" of GCRA).
    used_until: u64,
    /// The second that is being counted, and what came in it.
    second: u64,
    count: u32,
    seconds_over: u8,
    /// No complaint before this time.
    next_notice_at: u64,
}

impl MessageRateLimiter {
    /// Judges a message that comes at `now`.
    pub fn check(&mut self, now: u64, limits: &MessageRateLimits) -> RateDecision {
        if limits.messages_per_second == 0 {
            return RateDecision::Allow;
        }
        self.count(now, limits);
        if self.seconds_over >= limits.close_after_seconds {
            return RateDecision::Close;
        }
        let now_us = now * 1000;
        let each_us = 1_000_000 / u64::from(limits.messages_per_second);
        let ahead_us = each_us * u64::from(limits.burst.max(1));
        let used_until = self.used_until.max(now_us) + each_us;
        if used_until <= now_us + ahead_us {
            self.used_until = used_until;
            return RateDecision::Allow;
        }
        let tell = now >= self.next_notice_at;
        if tell {
            self.next_notice_at = now + 1000;
        }
        RateDecision::Reject {
            retry_after: Duration::from_micros(used_until - now_us - ahead_us),
            notify: tell,
        }
    }

    /// Counts the seconds in a row with more than twice the rate.
    fn count(&mut self, now: u64, limits: &MessageRateLimits) {
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

    fn allowed(budget: &mut MessageRateLimiter, now: u64, messages: usize) -> usize {
        let limits = MessageRateLimits::default();
        (0..messages).filter(|_| budget.check(now, &limits) == RateDecision::Allow).count()
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let mut budget = MessageRateLimiter::default();
        assert_eq!(allowed(&mut budget, 10_000, 1000), 200);
        assert_eq!(allowed(&mut budget, 10_100, 1000), 10);
        assert_eq!(allowed(&mut budget, 20_000, 1000), 200);
    }

    #[test]
    fn the_peer_is_notified_once_a_second_with_a_retry_delay() {
        let mut budget = MessageRateLimiter::default();
        allowed(&mut budget, 0, 200);
        let limits = MessageRateLimits::default();
        let told: Vec<u64> = (0..3000)
            .step_by(5)
            .filter(|now| {
                (0..3)
                    .any(|_| matches!(budget.check(*now, &limits), RateDecision::Reject { notify: true, .. }))
            })
            .collect();
        assert_eq!(told, [0, 1000, 2000]);
        assert_eq!(budget.check(3000, &limits), RateDecision::Allow);
        let RateDecision::Reject { retry_after, .. } = budget.check(3000, &limits) else {
            panic!("over the limit")
        };
        assert!(retry_after <= Duration::from_millis(10), "{retry_after:?}");
    }

    #[test]
    fn only_five_seconds_over_the_limit_in_a_row_close() {
        let limits = MessageRateLimits::default();
        let flood = |budget: &mut MessageRateLimiter, second: u64| {
            (0..300)
                .map(|at| budget.check(second * 1000 + at, &limits))
                .any(|verdict| verdict == RateDecision::Close)
        };
        let mut budget = MessageRateLimiter::default();
        assert!((10..15).all(|second| !flood(&mut budget, second)));
        assert!(flood(&mut budget, 15));

        let mut pausing = MessageRateLimiter::default();
        assert!((10..40).step_by(2).all(|second| !flood(&mut pausing, second)));
    }

    #[test]
    fn zero_means_no_limit() {
        let limits = MessageRateLimits { messages_per_second: 0, ..MessageRateLimits::default() };
        let mut budget = MessageRateLimiter::default();
        assert!((0..10_000).all(|_| budget.check(0, &limits) == RateDecision::Allow));
    }
}
