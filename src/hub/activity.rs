//! Message counters of one connection, and their rates.
//!
//! They add about 90 bytes to a connection. Counting is a relaxed load and store: each counter has one writer at a time.
//! The shard, which checks every connection at least once per ping interval anyway, takes the samples for the rates.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Minimum time between two samples.
const SAMPLE_INTERVAL_MS: u64 = 10_000;

/// A counter with one writer at a time.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, amount: u64) {
        self.0.store(self.get() + amount, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at_ms: u64,
    received: u64,
    sent: u64,
}

/// The counters of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    opened_ms: u64,
    received: Counter,
    sent: Counter,
    /// The last two samples, the older one first.
    samples: Mutex<[Sample; 2]>,
}

/// Messages of a connection so far, and per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// Age of the connection in milliseconds.
    pub age_ms: u64,
    pub received: u64,
    pub sent: u64,
    /// Messages per second since the sample before the last: over the last 10 to 120 seconds.
    pub received_per_second: f64,
    pub sent_per_second: f64,
}

impl Activity {
    pub(super) fn new(now_ms: u64) -> Self {
        let opened = Sample { at_ms: now_ms, received: 0, sent: 0 };
        Self {
            opened_ms: now_ms,
            received: Counter::default(),
            sent: Counter::default(),
            samples: Mutex::new([opened; 2]),
        }
    }

    /// Counts a message of the client. For the connection's task.
    pub(super) fn count_received(&self) {
        self.received.add(1);
    }

    /// Counts messages to the client. For the holder of the outbox's lock.
    pub(super) fn count_sent(&self, messages: u64) {
        self.sent.add(messages);
    }

    /// Takes a sample if the last one is old enough.
    pub(super) fn sample(&self, now_ms: u64) {
        let mut samples = self.samples.lock();
        if now_ms >= samples[1].at_ms + SAMPLE_INTERVAL_MS {
            let next = Sample { at_ms: now_ms, received: self.received.get(), sent: self.sent.get() };
            *samples = [samples[1], next];
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
    pub(super) fn traffic(&self, now_ms: u64) -> Traffic {
        let [from, _] = *self.samples.lock();
        let (received, sent) = (self.received.get(), self.sent.get());
        // Below a second a rate says nothing yet.
        let seconds = now_ms.saturating_sub(from.at_ms).max(1_000) as f64 / 1_000.0;
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Traffic {
            age_ms: now_ms.saturating_sub(self.opened_ms),
            received,
            sent,
            received_per_second: rate(received, from.received),
            sent_per_second: rate(sent, from.sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_cover_the_time_since_the_sample_before_the_last() {
        let activity = Activity::new(1_000);
        activity.count_sent(20);
        activity.count_received();
        let traffic = activity.traffic(11_000);
        assert_eq!((traffic.sent, traffic.received, traffic.age_ms), (20, 1, 10_000));
        assert!((traffic.sent_per_second - 2.0).abs() < 1e-9, "{traffic:?}");

        activity.sample(5_000);
        activity.sample(11_000);
        activity.count_sent(30);
        activity.sample(21_000);
        // The first 20 messages were sent before the older sample.
        let traffic = activity.traffic(26_000);
        assert!((traffic.sent_per_second - 2.0).abs() < 1e-9, "{traffic:?}");
        assert!(traffic.received_per_second.abs() < 1e-9, "{traffic:?}");
        assert!(size_of::<Activity>() <= 88, "{} bytes", size_of::<Activity>());
    }
}
