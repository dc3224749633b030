//! Load of the node over the last hour: one sample every ten seconds, in a ring of 360 (about 20 KB).

use std::{collections::VecDeque, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::{
    select,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    hub::{Hub, Stats},
    model::LoadSample,
};

/// Time between two samples.
const INTERVAL: Duration = Duration::from_secs(10);
/// Samples that are kept: one hour.
const MAX_SAMPLES: usize = 360;

/// The samples of this node. Clones share them.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<VecDeque<LoadSample>>>);

impl History {
    /// The samples, oldest first.
    #[must_use]
    pub fn samples(&self) -> Vec<LoadSample> {
        self.0.lock().iter().copied().collect()
    }

    fn add(&self, sample: LoadSample) {
        let mut samples = self.0.lock();
        samples.push_back(sample);
        if samples.len() > MAX_SAMPLES {
            samples.pop_front();
        }
    }

    /// Takes samples until `stop` is cancelled.
    pub async fn run(self, hub: Hub, clock: Arc<dyn Clock>, stop: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut previous: Option<(Instant, Stats)> = None;
        loop {
            select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let (now, stats) = (Instant::now(), hub.stats());
            let (from, before) = previous.replace((now, stats)).unwrap_or((now, stats));
            self.add(sample(clock.now(), now.duration_since(from), before, stats));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
fn sample(at: Timestamp, elapsed: Duration, before: Stats, now: Stats) -> LoadSample {
    let seconds = elapsed.as_secs_f64().max(1.0);
    let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
    let step = INTERVAL.as_secs() as i64;
    LoadSample {
        // The samples of all nodes have the same times, so that charts can add them.
        at: Timestamp::from_second(at.as_second() / step * step).unwrap_or(at),
        connections: now.connections,
        deliveries_per_second: rate(now.deliveries, before.deliveries),
        bytes_per_second: rate(now.bytes_sent, before.bytes_sent),
        slow_closed_per_second: rate(now.slow_consumers_closed, before.slow_consumers_closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_rates_at_common_times_and_bounded() {
        let before = Stats { deliveries: 100, bytes_sent: 1_000, ..Stats::default() };
        let now = Stats { connections: 3, deliveries: 200, bytes_sent: 2_000, ..Stats::default() };
        let at = Timestamp::from_second(1_234_567).expect("in range");
        let taken = sample(at, Duration::from_secs(10), before, now);
        assert_eq!((taken.at.as_second(), taken.connections), (1_234_560, 3));
        assert!((taken.deliveries_per_second - 10.0).abs() < 1e-9, "{taken:?}");
        let history = History::default();
        (0..MAX_SAMPLES + 10).for_each(|_| history.add(taken));
        assert_eq!(history.samples().len(), MAX_SAMPLES);
    }
}
