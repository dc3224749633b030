//! A circuit breaker: after several failures in a row a provider is left alone for a while, then one request tries.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures in a row before it opens.
const FAILURE_THRESHOLD: u32 = 5;
/// How long it stays open.
const OPEN_DURATION: Duration = Duration::from_secs(15);

/// The state of one provider.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Until then nobody asks; whoever comes first after it tries.
    open_until: Option<Instant>,
}

impl CircuitBreaker {
    /// Whether to ask at all; the one who tries after a pause keeps the others out until it knows.
    pub(super) fn allows_request(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        match state.open_until {
            Some(until) if now < until => false,
            Some(_) => {
                state.open_until = Some(now + OPEN_DURATION);
                true
            }
            None => true,
        }
    }

    pub(super) fn record_success(&self) {
        *self.0.lock() = State::default();
    }

    pub(super) fn record_failure(&self, now: Instant) {
        let mut state = self.0.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURE_THRESHOLD {
            state.open_until = Some(now + OPEN_DURATION);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_five_consecutive_failures_and_then_allows_one_request() {
        let (breaker, now) = (CircuitBreaker::default(), Instant::now());
        (0..4).for_each(|_| breaker.record_failure(now));
        breaker.record_success();
        (0..4).for_each(|_| breaker.record_failure(now));
        assert!(breaker.allows_request(now), "four in a row are borne");
        breaker.record_failure(now);
        assert!(!breaker.allows_request(now + OPEN_DURATION / 2));
        let later = now + OPEN_DURATION;
        assert!(breaker.allows_request(later), "one tries");
        assert!(!breaker.allows_request(later), "the others wait for it");
        breaker.record_success();
        assert!(breaker.allows_request(later) && breaker.allows_request(later));
    }
}
