//! Circuit breaker: opens after consecutive failures, then lets one request through after a pause.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::ProviderError;

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
    /// Checks whether a request may be sent. Allowing a trial request blocks the others for another pause.
    ///
    /// # Errors
    ///
    /// [`ProviderError::CircuitOpen`] with the time until the next trial.
    pub(super) fn check(&self, now: Instant) -> Result<(), ProviderError> {
        let mut state = self.0.lock();
        match state.open_until {
            Some(until) if now < until => Err(ProviderError::CircuitOpen { retry_after: until - now }),
            Some(_) => {
                state.open_until = Some(now + OPEN_DURATION);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Records the result of a request that was sent. A rejected request closes the circuit: the provider is healthy, only
    /// the request is wrong.
    pub(super) fn record(&self, error: Option<&ProviderError>, now: Instant) {
        let mut state = self.0.lock();
        match error {
            None | Some(ProviderError::Rejected { .. }) => *state = State::default(),
            Some(ProviderError::CircuitOpen { .. } | ProviderError::Stopping) => {}
            Some(_) => {
                state.failures = state.failures.saturating_add(1);
                if state.failures >= FAILURE_THRESHOLD {
                    state.open_until = Some(now + OPEN_DURATION);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: ProviderError = ProviderError::Timeout(Duration::from_secs(1));

    fn allows(breaker: &CircuitBreaker, now: Instant) -> bool {
        breaker.check(now).is_ok()
    }

    #[test]
    fn it_opens_after_five_consecutive_failures_and_then_allows_one_request() {
        let (breaker, now) = (CircuitBreaker::default(), Instant::now());
        (0..4).for_each(|_| breaker.record(Some(&TIMEOUT), now));
        breaker.record(None, now);
        (0..4).for_each(|_| breaker.record(Some(&TIMEOUT), now));
        assert!(allows(&breaker, now), "four consecutive failures are tolerated");
        breaker.record(Some(&TIMEOUT), now);
        let error = breaker.check(now + OPEN_DURATION / 2).expect_err("the circuit is open");
        assert_eq!(error.retry_after(), Some(OPEN_DURATION / 2));
        let later = now + OPEN_DURATION;
        assert!(allows(&breaker, later), "one trial request is allowed");
        assert!(!allows(&breaker, later), "other requests wait for the trial");
        breaker.record(None, later);
        assert!(allows(&breaker, later) && allows(&breaker, later));
    }

    #[test]
    fn a_rejected_trial_request_closes_the_circuit() {
        let (breaker, now) = (CircuitBreaker::default(), Instant::now());
        (0..5).for_each(|_| breaker.record(Some(&TIMEOUT), now));
        let later = now + OPEN_DURATION;
        assert!(allows(&breaker, later) && !allows(&breaker, later));
        breaker.record(Some(&ProviderError::Rejected { status: 400, body: String::new() }), later);
        assert!(allows(&breaker, later) && allows(&breaker, later));
    }
}
