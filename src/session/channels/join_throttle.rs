//! Refused joins are answered at once, but not a socket's every one however many there are.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Refusals that a socket may have at once.
const BURST: u32 = 50;
/// After that it gets one in so long. Only its own frames wait meanwhile.
const REJECTION_INTERVAL: Duration = Duration::from_millis(100);

/// One socket's account of refusals.
#[derive(Debug, Default)]
pub(super) struct JoinThrottle {
    /// When the account is even again.
    drained_at: Option<Instant>,
}

impl JoinThrottle {
    /// Counts a refusal, and waits if there were too many.
    pub async fn throttle(&mut self) {
        let now = Instant::now();
        let even_at = self.drained_at.filter(|even_at| *even_at > now).unwrap_or(now) + REJECTION_INTERVAL;
        self.drained_at = Some(even_at);
        if even_at > now + REJECTION_INTERVAL * BURST {
            sleep(REJECTION_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fifty_are_free_and_then_ten_a_second() {
        let mut refusals = JoinThrottle::default();
        let started = Instant::now();
        for _ in 0..BURST {
            refusals.throttle().await;
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
        for _ in 0..20 {
            refusals.throttle().await;
        }
        assert_eq!(started.elapsed(), Duration::from_secs(2));
    }
}
