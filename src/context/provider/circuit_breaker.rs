//! Circuit breaker: opens after consecutive failures, then lets one request through after a pause.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Consecutive failures that open the circuit.
const FAILURE_THRESHOLD: u32 = 5;
/// Time between opening and the next trial request.
const OPEN_DURATION: Duration = Duration::from_secs(15);

/// Circuit state of one provider.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// `None` while closed. After this time, one request is allowed as a trial.
    open_until: Option<Instant>,
}

impl CircuitBreaker {
    /// Whether to send a request. Allowing a trial request blocks the others for another pause.
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
