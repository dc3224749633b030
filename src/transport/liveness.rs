//! When to ping a quiet peer, when to call it silent, when to give it up. Pure: time comes in as numbers.

use super::Heartbeat;

/// What the heartbeat asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Nothing.
    Fine,
    /// Send a ping.
    Ping,
    /// The first ping was not answered.
    Silent,
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
pub enum Liveness {
    /// Heard of lately.
    #[default]
    Talking,
    /// Pinged; judged at this time.
    Pinged(u64),
    /// Has not answered.
    Silent,
    /// Pinged a second time; judged at this time.
    PingedAgain(u64),
}

impl Liveness {
    /// Looks at a peer that was last heard at `heard`, and says what to do and when to look again.
    /// All times are milliseconds on one clock.
    ///
    /// A peer is judged only after it had half of `answer_within` to answer: if this process was stopped for
    /// a minute, the peers are not to blame.
    pub fn check(&mut self, now: u64, heard: u64, heartbeat: &Heartbeat) -> (Check, u64) {
        let ping_every = millis(heartbeat.ping_every);
        let answer_within = millis(heartbeat.answer_within);
        if now < heard + ping_every {
            *self = Self::Talking;
            return (Check::Fine, heard + ping_every);
        }
        let judged = |after: u64| (heard + after + answer_within).max(now + answer_within / 2);
        match *self {
            Self::Talking => {
                let judged = judged(ping_every);
                *self = Self::Pinged(judged);
                (Check::Ping, judged)
            }
            Self::Pinged(judged) | Self::PingedAgain(judged) if now < judged => (Check::Fine, judged),
            Self::Pinged(_) => {
                *self = Self::Silent;
                (Check::Silent, heard + 2 * ping_every)
            }
            Self::Silent if now < heard + 2 * ping_every => (Check::Fine, heard + 2 * ping_every),
            Self::Silent => {
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
    let check = if now < due { Check::Fine } else { Check::Idle };
    (check, due.max(now + 1).min(now + millis(heartbeat.ping_every)))
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
    fn a_peer_that_says_nothing_is_silent_after_28_and_dead_after_53_seconds() {
        let heartbeat = Heartbeat::default();
        let mut liveness = Liveness::default();
        let mut now = 0;
        let mut story = Vec::new();
        while !matches!(story.last(), Some((_, Check::Dead))) {
            let (check, next) = liveness.check(now, 0, &heartbeat);
            if check != Check::Fine {
                story.push((now / SECOND, check));
            }
            assert!(next > now);
            now = next;
        }
        let expected = [(25, Check::Ping), (28, Check::Silent), (50, Check::Ping), (53, Check::Dead)];
        assert_eq!(story, expected);
    }

    #[test]
    fn a_peer_that_is_never_pinged_is_idle_when_its_time_is_over() {
        let heartbeat = Heartbeat::default();
        let check = |now, heard| check_idle(now * SECOND, heard * SECOND, 60 * SECOND, &heartbeat);
        assert_eq!(check(25, 0), (Check::Fine, 50 * SECOND));
        assert_eq!(check(50, 0), (Check::Fine, 60 * SECOND));
        assert_eq!(check(60, 1), (Check::Fine, 61 * SECOND));
        assert_eq!(check(61, 1).0, Check::Idle);
    }

    #[test]
    fn any_byte_starts_over() {
        let heartbeat = Heartbeat::default();
        let mut liveness = Liveness::default();
        assert_eq!(liveness.check(25 * SECOND, 0, &heartbeat).0, Check::Ping);
        assert_eq!(liveness.check(28 * SECOND, 25 * SECOND, &heartbeat), (Check::Fine, 50 * SECOND));
        assert_eq!(liveness, Liveness::Talking);
    }

    #[test]
    fn peers_are_asked_before_they_are_judged_even_if_this_process_was_stopped() {
        let heartbeat = Heartbeat::default();
        let mut liveness = Liveness::default();
        let (check, next) = liveness.check(600 * SECOND, 0, &heartbeat);
        assert_eq!((check, next), (Check::Ping, 601 * SECOND + SECOND / 2));
        assert_eq!(liveness.check(601 * SECOND, 0, &heartbeat).0, Check::Fine);
        assert_eq!(liveness.check(601 * SECOND + SECOND / 2, 0, &heartbeat).0, Check::Silent);
    }
}
