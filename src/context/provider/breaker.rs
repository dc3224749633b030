//! A circuit breaker: after several failures in a row a provider is left alone for a while, then one request tries.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures in a row before it opens.
const FAILURES: u32 = 5;
/// How long it stays open.
const PAUSE: Duration = Duration::from_secs(15);

/// The state of one provider.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Until then nobody asks; whoever comes first after it tries.
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether to ask at all; the one who tries after a pause keeps the others out until it knows.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        match state.open_until {
            Some(until) if now < until => false,
            Some(_) => {
                state.open_until = Some(now + PAUSE);
                true
            }
            None => true,
        }
    }

    pub(super) fn succeeded(&self) {
        *self.0.lock() = State::default();
    }

    pub(super) fn failed(&self, now: Instant) {
        let mut state = self.0.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES {
            state.open_until = Some(now + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_five_failures_in_a_row_and_lets_one_try_after_the_pause() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        (0..4).for_each(|_| breaker.failed(now));
        breaker.succeeded();
        (0..4).for_each(|_| breaker.failed(now));
        assert!(breaker.admits(now), "four in a row are borne");
        breaker.failed(now);
        assert!(!breaker.admits(now + PAUSE / 2));
        let later = now + PAUSE;
        assert!(breaker.admits(later), "one tries");
        assert!(!breaker.admits(later), "the others wait for it");
        breaker.succeeded();
        assert!(breaker.admits(later) && breaker.admits(later));
    }
}
