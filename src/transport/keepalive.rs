//! When to ping a quiet peer, when to call it silent, when to give it up. Pure: time comes in as numbers.

use super::Heartbeat;

/// What the heartbeat asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Nothing.
    Alive,
    /// Send a ping.
    Ping,
    /// The first ping was not answered.
    Unresponsive,
    /// Nor was the second.
    Dead,
    /// A client that has to keep its connection open by itself did not.
    Idle,
}

/// How far the questioning of one peer has gone.
///
/// ```text
/// Talking --ping_every--> Pinged --answer_within--> Silent --ping_every--> PingedAgain --answer_within--> dead
///    ^-------------------- any byte from the peer ---------------------------------'
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PingState {
    /// Heard of lately.
    #[default]
    Responsive,
    /// Pinged; judged at this time.
    Pinged(u64),
    /// Has not answered.
    Unresponsive,
    /// Pinged a second time; judged at this time.
    PingedAgain(u64),
}

impl PingState {
    /// Looks at a peer that was last heard at `heard`, and says what to do and when to look again.
    /// All times are milliseconds on one clock.
    ///
    /// A peer is judged only after it had half of `answer_within` to answer: if this process was stopped for
    /// a minute, the peers are not to blame.
    pub fn check(&mut self, now: u64, heard: u64, heartbeat: &Heartbeat) -> (Check, u64) {
        let ping_every = millis(heartbeat.ping_interval);
        let answer_within = millis(heartbeat.pong_timeout);
        if now < heard + ping_every {
            *self = Self::Responsive;
            return (Check::Alive, heard + ping_every);
        }
        let judged = |after: u64| (heard + after + answer_within).max(now + answer_within / 2);
        match *self {
            Self::Responsive => {
                let judged = judged(ping_every);
                *self = Self::Pinged(judged);
                (Check::Ping, judged)
            }
            Self::Pinged(judged) | Self::PingedAgain(judged) if now < judged => (Check::Alive, judged),
            Self::Pinged(_) => {
                *self = Self::Unresponsive;
                (Check::Unresponsive, heard + 2 * ping_every)
            }
            Self::Unresponsive if now < heard + 2 * ping_every => (Check::Alive, heard + 2 * ping_every),
            Self::Unresponsive => {
                let judged = judged(2 * ping_every);
                *self = Self::PingedAgain(judged);
                (Check::Ping, judged)
            }
            Self::PingedAgain(_) => (Check::Dead, now + ping_every),
        }
    }
}

/// Looks at a peer that is not pinged but closed when it says nothing for `limit`, and looks again after `ping_every`
/// at the latest.
pub fn check_idle(now: u64, heard: u64, limit: u64, heartbeat: &Heartbeat) -> (Check, u64) {
    let due = heard + limit;
    let check = if now < due { Check::Alive } else { Check::Idle };
    (check, due.max(now + 1).min(now + millis(heartbeat.ping_interval)))
}

/// Whole milliseconds; durations beyond reason are cut, so that sums of a few do not overflow.
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
        let mut liveness = PingState::default();
        let mut now = 0;
        let mut story = Vec::new();
        while !matches!(story.last(), Some((_, Check::Dead))) {
            let (check, next) = liveness.check(now, 0, &heartbeat);
            if check != Check::Alive {
                story.push((now / SECOND, check));
            }
            assert!(next > now);
            now = next;
        }
        let expected = [(25, Check::Ping), (28, Check::Unresponsive), (50, Check::Ping), (53, Check::Dead)];
        assert_eq!(story, expected);
    }

    #[test]
    fn a_peer_that_is_never_pinged_is_idle_after_the_limit() {
        let heartbeat = Heartbeat::default();
        let check = |now, heard| check_idle(now * SECOND, heard * SECOND, 60 * SECOND, &heartbeat);
        assert_eq!(check(25, 0), (Check::Alive, 50 * SECOND));
        assert_eq!(check(50, 0), (Check::Alive, 60 * SECOND));
        assert_eq!(check(60, 1), (Check::Alive, 61 * SECOND));
        assert_eq!(check(61, 1).0, Check::Idle);
    }

    #[test]
    fn any_byte_resets_the_state() {
        let heartbeat = Heartbeat::default();
        let mut liveness = PingState::default();
        assert_eq!(liveness.check(25 * SECOND, 0, &heartbeat).0, Check::Ping);
        assert_eq!(liveness.check(28 * SECOND, 25 * SECOND, &heartbeat), (Check::Alive, 50 * SECOND));
        assert_eq!(liveness, PingState::Responsive);
    }

    #[test]
    fn peers_are_pinged_before_a_timeout_even_after_a_process_pause() {
        let heartbeat = Heartbeat::default();
        let mut liveness = PingState::default();
        let (check, next) = liveness.check(600 * SECOND, 0, &heartbeat);
        assert_eq!((check, next), (Check::Ping, 601 * SECOND + SECOND / 2));
        assert_eq!(liveness.check(601 * SECOND, 0, &heartbeat).0, Check::Alive);
        assert_eq!(liveness.check(601 * SECOND + SECOND / 2, 0, &heartbeat).0, Check::Unresponsive);
    }
}
