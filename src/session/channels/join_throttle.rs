//! Limits the rate of rejected joins per socket.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Rejections that a socket gets without a delay.
const BURST: u32 = 50;
/// Interval between further rejections. Only the frames of the same socket wait.
const REJECTION_INTERVAL: Duration = Duration::from_millis(100);

/// Rejections of one socket (leaky bucket).
#[derive(Debug, Default)]
pub(super) struct JoinThrottle {
    /// When the bucket is empty again.
    drained_at: Option<Instant>,
}

impl JoinThrottle {
    /// Counts a rejection, and waits if the burst is used up.
    pub(super) async fn throttle(&mut self) {
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
    async fn the_burst_is_free_and_then_ten_per_second() {
        let mut join_throttle = JoinThrottle::default();
        let started = Instant::now();
        for _ in 0..BURST {
            join_throttle.throttle().await;
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
        for _ in 0..20 {
            join_throttle.throttle().await;
        }
        assert_eq!(started.elapsed(), Duration::from_secs(2));
    }
}
