//! Delays between retries, and jittered intervals.

use std::{ops::Range, time::Duration};

use rand::Rng;

/// Exponential backoff: the delay doubles with each retry, from `first` to `max`. Each delay is multiplied by a random
/// factor from 0.5 to 1, so that clients that failed together do not retry together.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first }
    }

    /// The delay before the next retry; doubles the one after it.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next.min(self.max);
        self.next = delay.saturating_mul(2).min(self.max);
        jittered(delay, 0.5..1.0)
    }

    /// The delay before retry number `attempt`, counted from 1, independent of earlier calls.
    #[must_use]
    pub fn delay_for(&self, attempt: u32) -> Duration {
        let factor = 2_u32.saturating_pow(attempt.saturating_sub(1));
        jittered(self.first.saturating_mul(factor).min(self.max), 0.5..1.0)
    }

    /// Starts again with `first`, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// Whether no retry was made since the last success.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.next == self.first
    }

    #[must_use]
    pub const fn max(&self) -> Duration {
        self.max
    }
}

/// `interval` multiplied by a random factor from `factors`, so that nodes that started together do not stay in step.
#[must_use]
pub fn jittered(interval: Duration, factors: Range<f64>) -> Duration {
    interval.mul_f64(rand::rng().random_range(factors))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(5);

    #[test]
    fn delay_doubles_up_to_the_maximum_and_starts_again_after_a_success() {
        let mut backoff = Backoff::new(FIRST, MAX);
        for expected in [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            let expected = Duration::from_millis(expected);
            let delay = backoff.next_delay();
            assert!(delay >= expected / 2 && delay <= expected, "{delay:?} for {expected:?}");
        }
        assert!(!backoff.is_reset());
        backoff.reset();
        assert!(backoff.is_reset());
        assert!(backoff.next_delay() <= FIRST);
    }

    #[test]
    fn delay_for_an_attempt_does_not_overflow() {
        let backoff = Backoff::new(FIRST, MAX);
        assert!(backoff.delay_for(1) <= FIRST);
        assert!(backoff.delay_for(u32::MAX) >= MAX / 2);
        assert!(backoff.delay_for(u32::MAX) <= MAX);
    }

    proptest! {
        #[test]
        fn each_delay_is_between_half_of_the_nominal_delay_and_all_of_it(
            first in 1_u64..10_000,
            max in 1_u64..600_000,
            retries in 1_usize..80,
        ) {
            let (first, max) = (Duration::from_millis(first), Duration::from_millis(max));
            let mut backoff = Backoff::new(first, max);
            let mut nominal = first.min(max);
            for attempt in 1..=retries {
                for delay in [backoff.next_delay(), backoff.delay_for(u32::try_from(attempt).unwrap())] {
                    prop_assert!(delay >= nominal / 2 && delay <= nominal, "{delay:?} for {nominal:?}");
                }
                nominal = (nominal * 2).min(max);
            }
            backoff.reset();
            prop_assert!(backoff.next_delay() <= first.min(max));
        }
    }
}
