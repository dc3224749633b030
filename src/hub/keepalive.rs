//! Rules for pinging silent peers and closing dead ones. Pure functions: times are passed in as numbers.

use super::Heartbeat;

/// Result of a keepalive check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    Alive,
    Ping,
    /// The first ping was not answered.
    Unresponsive,
    /// The second ping was not answered either.
    Dead,
    /// A client that must send heartbeats itself did not.
    Idle,
}

/// Ping state of one peer.
///
/// ```text
/// Responsive --ping_interval--> Pinged --pong_timeout--> Unresponsive --ping_interval--> PingedAgain --pong_timeout-->
/// dead
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PingState {
    /// Data was received recently.
    #[default]
    Responsive,
    /// Pinged; times out at this time.
    Pinged(u64),
    /// The first ping was not answered.
    Unresponsive,
    /// Pinged a second time; times out at this time.
    PingedAgain(u64),
}

impl PingState {
    /// Checks a peer that last sent data at `last_received`. Returns the result and the time of the next check. All
    /// times are milliseconds on one clock.
    ///
    /// A ping never times out before half of `pong_timeout` has passed since it was sent. So peers are not closed
    /// because this process was paused.
    pub(crate) fn check(&mut self, now: u64, last_received: u64, heartbeat: &Heartbeat) -> (Check, u64) {
        let ping_interval = millis(heartbeat.ping_interval);
        let pong_timeout = millis(heartbeat.pong_timeout);
        if now < last_received + ping_interval {
            *self = Self::Responsive;
            return (Check::Alive, last_received + ping_interval);
        }
        let deadline = |after: u64| (last_received + after + pong_timeout).max(now + pong_timeout / 2);
        match *self {
            Self::Responsive => {
                let deadline = deadline(ping_interval);
                *self = Self::Pinged(deadline);
                (Check::Ping, deadline)
            }
            Self::Pinged(deadline) | Self::PingedAgain(deadline) if now < deadline => {
                (Check::Alive, deadline)
            }
            Self::Pinged(_) => {
                *self = Self::Unresponsive;
                (Check::Unresponsive, last_received + 2 * ping_interval)
            }
            Self::Unresponsive if now < last_received + 2 * ping_interval => {
                (Check::Alive, last_received + 2 * ping_interval)
            }
            Self::Unresponsive => {
                let deadline = deadline(2 * ping_interval);
                *self = Self::PingedAgain(deadline);
                (Check::Ping, deadline)
            }
            Self::PingedAgain(_) => (Check::Dead, now + ping_interval),
        }
    }
}

/// Checks a peer that is not pinged but closed after `limit` without data. The next check is at most `ping_interval`
/// later.
pub(super) fn check_idle(now: u64, last_received: u64, limit: u64, heartbeat: &Heartbeat) -> (Check, u64) {
    let due = last_received + limit;
    let check = if now < due { Check::Alive } else { Check::Idle };
    (check, due.max(now + 1).min(now + millis(heartbeat.ping_interval)))
}

/// Whole milliseconds, capped so that sums of a few do not overflow.
pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(u64::MAX / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1000;

    #[test]
    fn a_silent_peer_is_unresponsive_after_28_and_dead_after_53_seconds() {
        let heartbeat = Heartbeat::default();
        let mut state = PingState::default();
        let mut now = 0;
        let mut checks = Vec::new();
        while !matches!(checks.last(), Some((_, Check::Dead))) {
            let (check, next) = state.check(now, 0, &heartbeat);
            if check != Check::Alive {
                checks.push((now / SECOND, check));
            }
            assert!(next > now);
            now = next;
        }
        let expected = [(25, Check::Ping), (28, Check::Unresponsive), (50, Check::Ping), (53, Check::Dead)];
        assert_eq!(checks, expected);
    }

    #[test]
    fn a_peer_that_is_never_pinged_is_idle_after_the_limit() {
        let heartbeat = Heartbeat::default();
        let check =
            |now, last_received| check_idle(now * SECOND, last_received * SECOND, 60 * SECOND, &heartbeat);
        assert_eq!(check(25, 0), (Check::Alive, 50 * SECOND));
        assert_eq!(check(50, 0), (Check::Alive, 60 * SECOND));
        assert_eq!(check(60, 1), (Check::Alive, 61 * SECOND));
        assert_eq!(check(61, 1).0, Check::Idle);
    }

    #[test]
    fn any_byte_resets_the_state() {
        let heartbeat = Heartbeat::default();
        let mut state = PingState::default();
        assert_eq!(state.check(25 * SECOND, 0, &heartbeat).0, Check::Ping);
        assert_eq!(state.check(28 * SECOND, 25 * SECOND, &heartbeat), (Check::Alive, 50 * SECOND));
        assert_eq!(state, PingState::Responsive);
    }

    #[test]
    fn peers_are_pinged_before_a_timeout_even_after_a_process_pause() {
        let heartbeat = Heartbeat::default();
        let mut state = PingState::default();
        let (check, next) = state.check(600 * SECOND, 0, &heartbeat);
        assert_eq!((check, next), (Check::Ping, 601 * SECOND + SECOND / 2));
        assert_eq!(state.check(601 * SECOND, 0, &heartbeat).0, Check::Alive);
        assert_eq!(state.check(601 * SECOND + SECOND / 2, 0, &heartbeat).0, Check::Unresponsive);
    }
}
