//! The message rate limit of one connection: a rate with a burst, and a close for clients that keep exceeding it.

use std::time::Duration;

use crate::hub::MessageRateLimits;

/// The decision about one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RateDecision {
    Allow,
    /// Drop the message. `notify` is true once a second.
    Reject {
        /// Time until the next message is allowed.
        retry_after: Duration,
        /// Whether to notify the client now.
        notify: bool,
    },
    /// Close the connection: the limit was exceeded for too long.
    Close,
}

/// The limiter's state for one connection. Times are milliseconds on one clock.
#[derive(Debug, Default)]
pub(super) struct MessageRateLimiter {
    /// Time in microseconds up to which the rate is used up (the "theoretical arrival time" of GCRA).
    used_until: u64,
    /// The current second and its message count.
    second: u64,
    count: u32,
    seconds_over: u8,
    /// No notification before this time.
    next_notice_at: u64,
}

impl MessageRateLimiter {
    /// Decides about a message received at `now`.
    pub(super) fn check(&mut self, now: u64, limits: &MessageRateLimits) -> RateDecision {
        if limits.messages_per_second == 0 {
            return RateDecision::Allow;
        }
        self.count(now, limits);
        if self.seconds_over >= limits.close_after_seconds {
            return RateDecision::Close;
        }
        let now_us = now * 1000;
        let interval_us = 1_000_000 / u64::from(limits.messages_per_second);
        let burst_us = interval_us * u64::from(limits.burst.max(1));
        let used_until = self.used_until.max(now_us) + interval_us;
        if used_until <= now_us + burst_us {
            self.used_until = used_until;
            return RateDecision::Allow;
        }
        let notify = now >= self.next_notice_at;
        if notify {
            self.next_notice_at = now + 1000;
        }
        RateDecision::Reject { retry_after: Duration::from_micros(used_until - now_us - burst_us), notify }
    }

    /// Counts consecutive seconds with more than twice the rate.
    fn count(&mut self, now: u64, limits: &MessageRateLimits) {
        let second = now / 1000;
        if second != self.second {
            let is_over = self.count > limits.messages_per_second.saturating_mul(2);
            let is_consecutive = second == self.second + 1;
            self.seconds_over =
                if is_over && is_consecutive { self.seconds_over.saturating_add(1) } else { 0 };
            self.second = second;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(limiter: &mut MessageRateLimiter, now: u64, messages: usize) -> usize {
        let limits = MessageRateLimits::default();
        (0..messages).filter(|_| limiter.check(now, &limits) == RateDecision::Allow).count()
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let mut limiter = MessageRateLimiter::default();
        assert_eq!(allowed(&mut limiter, 10_000, 1000), 200);
        assert_eq!(allowed(&mut limiter, 10_100, 1000), 10);
        assert_eq!(allowed(&mut limiter, 20_000, 1000), 200);
    }

    #[test]
    fn the_peer_is_notified_once_a_second_with_a_retry_delay() {
        let mut limiter = MessageRateLimiter::default();
        allowed(&mut limiter, 0, 200);
        let limits = MessageRateLimits::default();
        let notified: Vec<u64> = (0..3000)
            .step_by(5)
            .filter(|now| {
                (0..3).any(|_| {
                    matches!(limiter.check(*now, &limits), RateDecision::Reject { notify: true, .. })
                })
            })
            .collect();
        assert_eq!(notified, [0, 1000, 2000]);
        assert_eq!(limiter.check(3000, &limits), RateDecision::Allow);
        let RateDecision::Reject { retry_after, .. } = limiter.check(3000, &limits) else {
            panic!("over the limit")
        };
        assert!(retry_after <= Duration::from_millis(10), "{retry_after:?}");
    }

    #[test]
    fn only_five_seconds_over_the_limit_in_a_row_close() {
        let limits = MessageRateLimits::default();
        let exceed = |limiter: &mut MessageRateLimiter, second: u64| {
            (0..300)
                .map(|at| limiter.check(second * 1000 + at, &limits))
                .any(|decision| decision == RateDecision::Close)
        };
        let mut limiter = MessageRateLimiter::default();
        assert!((10..15).all(|second| !exceed(&mut limiter, second)));
        assert!(exceed(&mut limiter, 15));

        let mut alternating = MessageRateLimiter::default();
        assert!((10..40).step_by(2).all(|second| !exceed(&mut alternating, second)));
    }

    #[test]
    fn zero_means_no_limit() {
        let limits = MessageRateLimits { messages_per_second: 0, ..MessageRateLimits::default() };
        let mut limiter = MessageRateLimiter::default();
        assert!((0..10_000).all(|_| limiter.check(0, &limits) == RateDecision::Allow));
    }
}
