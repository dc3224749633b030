//! Refused joins are answered at once, but not a socket's every one however many there are.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Refusals that a socket may have at once.
const BURST: u32 = 50;
/// After that it gets one in so long. Only its own frames wait meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// One socket's account of refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// When the account is even again.
    even_at: Option<Instant>,
}

impl Refusals {
    /// Counts a refusal, and waits if there were too many.
    pub async fn pace(&mut self) {
        let now = Instant::now();
        let even_at = self.even_at.filter(|even_at| *even_at > now).unwrap_or(now) + PAUSE;
        self.even_at = Some(even_at);
        if even_at > now + PAUSE * BURST {
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fifty_are_free_and_then_ten_a_second() {
        let mut refusals = Refusals::default();
        let started = Instant::now();
        for _ in 0..BURST {
            refusals.pace().await;
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
        for _ in 0..20 {
            refusals.pace().await;
        }
        assert_eq!(started.elapsed(), Duration::from_secs(2));
    }
}
