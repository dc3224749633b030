//! How much channels may do. What is over a limit costs the one who is over it, never those who listen.
//!
//! Rates are means over the last minute in steps of five seconds, as in the original: a short burst passes, and who has
//! only just begun is measured over five seconds at least.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::hub::Hub;

/// The bounds. `None` stands for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelLimits {
    /// Channel sockets open at once on this node.
    pub connections: Option<NonZeroU32>,
    /// Joins a second on this node.
    pub joins_per_second: Option<NonZeroU32>,
    /// Messages a second on this node, sent and delivered.
    pub events_per_second: Option<NonZeroU32>,
    /// Messages a second that one socket sends.
    pub client_events_per_second: Option<NonZeroU32>,
    /// Bytes a second that one socket sends in its channels.
    pub client_bytes_per_second: Option<NonZeroU32>,
    /// Channels of one socket.
    pub channels_per_client: Option<NonZeroU32>,
    /// Bytes of one payload.
    pub payload_bytes: Option<usize>,
    /// Presence pushes of one channel within [`presence_window`](Self::presence_window).
    pub presence_calls: Option<NonZeroU32>,
    /// That window.
    pub presence_window: Duration,
    /// Presence pushes a second on this node.
    pub presence_events_per_second: Option<NonZeroU32>,
}

impl Default for ChannelLimits {
    fn default() -> Self {
        Self {
            connections: None,
            joins_per_second: None,
            events_per_second: None,
            client_events_per_second: None,
            client_bytes_per_second: None,
            channels_per_client: NonZeroU32::new(100),
            payload_bytes: Some(3_000_500),
            presence_calls: NonZeroU32::new(5),
            presence_window: Duration::from_secs(30),
            presence_events_per_second: None,
        }
    }
}

/// Seconds of one bucket.
const BUCKET_SECONDS: u32 = 5;
const BUCKETS: usize = 12;

/// Counts events and says how many there were a second.
#[derive(Debug, Clone, Copy, Default)]
pub struct RateMeter {
    buckets: [u32; BUCKETS],
    /// The step of the first event since the last quiet minute.
    first_bucket: u32,
    /// The step of the last event.
    last_bucket: u32,
}

impl RateMeter {
    /// Counts `events` that happen at `now`, in seconds of any clock that does not go backwards.
    pub fn count(&mut self, now: u32, events: u32) {
        let step = now / BUCKET_SECONDS;
        self.advance(step);
        let bucket = &mut self.buckets[step as usize % BUCKETS];
        *bucket = bucket.saturating_add(events);
    }

    /// Events a second, on average.
    #[must_use]
    pub fn per_second(&self, now: u32) -> f64 {
        let mut seen = *self;
        seen.advance(now / BUCKET_SECONDS);
        let events: u64 = seen.buckets.iter().map(|events| u64::from(*events)).sum();
        let steps =
            (now / BUCKET_SECONDS).saturating_sub(seen.first_bucket).saturating_add(1).min(BUCKETS as u32);
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact beyond 2^53")]
        let events = events as f64;
        events / f64::from(steps * BUCKET_SECONDS)
    }

    /// Empties the buckets of the steps since the last event.
    fn advance(&mut self, step: u32) {
        let passed = step.saturating_sub(self.last_bucket);
        if passed as usize >= BUCKETS {
            *self = Self { first_bucket: step, last_bucket: step, ..Self::default() };
            return;
        }
        for old in 1..=passed {
            self.buckets[(self.last_bucket + old) as usize % BUCKETS] = 0;
        }
        self.last_bucket = self.last_bucket.max(step);
    }
}

/// What the channels of one node have used up. Share it in an [`Arc`].
#[derive(Debug)]
pub struct NodeLimits {
    limits: ChannelLimits,
    hub: Hub,
    started: Instant,
    connections: Arc<AtomicU32>,
    joins: Mutex<RateMeter>,
    pushes: Mutex<RateMeter>,
    presence: Mutex<RateMeter>,
    deliveries: Mutex<RateMeter>,
    /// Deliveries of the hub that have been counted.
    counted_deliveries: AtomicU64,
}

/// The right to hold one channel socket open.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<AtomicU32>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A socket with at least this part of the node's messages is one of those that make them too many.
const HEAVY_SENDER_SHARE: f64 = 0.1;

impl NodeLimits {
    /// Nobody has done anything yet.
    #[must_use]
    pub fn new(limits: ChannelLimits, hub: Hub) -> Self {
        Self {
            limits,
            hub,
            started: Instant::now(),
            connections: Arc::default(),
            joins: Mutex::default(),
            pushes: Mutex::default(),
            presence: Mutex::default(),
            deliveries: Mutex::default(),
            counted_deliveries: AtomicU64::new(0),
        }
    }

    /// The bounds.
    #[must_use]
    pub const fn limits(&self) -> &ChannelLimits {
        &self.limits
    }

    /// Seconds since the start, the clock of all meters.
    #[must_use]
    pub fn elapsed_secs(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Milliseconds since the start, for what is finer than that; they start over after 49 days.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "it starts over")]
    pub fn elapsed_ms(&self) -> u32 {
        self.started.elapsed().as_millis() as u32
    }

    /// Takes a place for a socket; `None` if there is none left.
    #[must_use]
    pub fn acquire_connection(&self) -> Option<ConnectionPermit> {
        let limit = self.limits.connections.map_or(u32::MAX, NonZeroU32::get);
        let taken = self.connections.fetch_add(1, Ordering::Relaxed);
        let place = ConnectionPermit(Arc::clone(&self.connections));
        (taken < limit).then_some(place)
    }

    /// How many channel sockets are open.
    #[must_use]
    pub fn connection_count(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether joins come faster than they may.
    #[must_use]
    pub fn join_rate_exceeded(&self) -> bool {
        is_exceeded(self.limits.joins_per_second, || self.joins.lock().per_second(self.elapsed_secs()))
    }

    /// Counts a join.
    pub fn count_join(&self) {
        if self.limits.joins_per_second.is_some() {
            self.joins.lock().count(self.elapsed_secs(), 1);
        }
    }

    /// Counts messages that somebody sends.
    pub fn count_pushes(&self, pushes: u32) {
        if self.limits.events_per_second.is_some() {
            self.pushes.lock().count(self.elapsed_secs(), pushes);
        }
    }

    /// Messages a second, sent and delivered, as far as they are counted.
    #[must_use]
    pub fn events_per_second(&self) -> f64 {
        let now = self.elapsed_secs();
        self.pushes.lock().per_second(now) + self.deliveries_per_second(now)
    }

    /// Whether the node has too many messages, with `more` of them in the next second.
    #[must_use]
    pub fn exceeds_node_event_rate(&self, more: u32) -> bool {
        is_exceeded(self.limits.events_per_second, || self.events_per_second() + f64::from(more))
    }

    /// Whether a socket that sends so many messages a second is to be stopped: it sends more than it may, or the node
    /// has too many and this socket sends a good part of them.
    #[must_use]
    pub fn exceeds_message_rate(&self, per_second: f64) -> bool {
        is_exceeded(self.limits.client_events_per_second, || per_second)
            || (self.exceeds_node_event_rate(0)
                && per_second >= HEAVY_SENDER_SHARE * self.pushes.lock().per_second(self.elapsed_secs()))
    }

    /// Whether a socket that sends so many bytes a second is to be stopped.
    #[must_use]
    pub fn exceeds_byte_rate(&self, per_second: f64) -> bool {
        is_exceeded(self.limits.client_bytes_per_second, || per_second)
    }

    /// Whether anybody counts the messages that a socket sends.
    #[must_use]
    pub const fn limits_messages(&self) -> bool {
        self.limits.client_events_per_second.is_some() || self.limits.events_per_second.is_some()
    }

    /// Whether anybody counts the bytes that a socket sends.
    #[must_use]
    pub const fn limits_bytes(&self) -> bool {
        self.limits.client_bytes_per_second.is_some()
    }

    /// Counts a presence push, and says whether there were too many before it.
    #[must_use]
    pub fn presence_rate_exceeded(&self) -> bool {
        if self.limits.presence_events_per_second.is_none() {
            return false;
        }
        let now = self.elapsed_secs();
        let mut meter = self.presence.lock();
        let is_over = is_exceeded(self.limits.presence_events_per_second, || meter.per_second(now));
        meter.count(now, 1);
        is_over
    }

    fn deliveries_per_second(&self, now: u32) -> f64 {
        let delivered = self.hub.stats().deliveries;
        let before = self.counted_deliveries.swap(delivered, Ordering::Relaxed);
        let more = u32::try_from(delivered.saturating_sub(before)).unwrap_or(u32::MAX);
        let mut meter = self.deliveries.lock();
        meter.count(now, more);
        meter.per_second(now)
    }
}

fn is_exceeded(limit: Option<NonZeroU32>, rate: impl FnOnce() -> f64) -> bool {
    limit.is_some_and(|limit| rate() >= f64::from(limit.get()))
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::hub::HubSettings;

    #[test]
    fn a_fresh_meter_takes_five_seconds_worth_and_a_quiet_one_a_minute_s() {
        let mut meter = RateMeter::default();
        meter.count(1_000, 49);
        assert!(meter.per_second(1_000) < 10.0);
        meter.count(1_004, 1);
        assert!(meter.per_second(1_004) >= 10.0);
        assert!(meter.per_second(1_009) < 10.0, "the mean falls as time goes by");

        let mut quiet = RateMeter::default();
        quiet.count(100, 1);
        quiet.count(155, 598);
        assert!(quiet.per_second(155) < 10.0);
        quiet.count(155, 1);
        assert!(quiet.per_second(155) >= 10.0);
        assert!(quiet.per_second(215) < f64::EPSILON, "after a minute it is forgotten");
    }

    #[test]
    fn old_seconds_leave_the_mean_one_step_at_a_time() {
        let mut meter = RateMeter::default();
        for second in 0..600 {
            meter.count(second, 7);
        }
        assert!((meter.per_second(599) - 7.0).abs() < f64::EPSILON);
        assert!(meter.per_second(640) < 3.0);
    }

    fn limits(change: impl FnOnce(&mut ChannelLimits)) -> NodeLimits {
        let mut limits = ChannelLimits::default();
        change(&mut limits);
        NodeLimits::new(limits, Hub::start(&HubSettings::default(), &TaskTracker::new()))
    }

    #[tokio::test]
    async fn places_are_given_back() {
        let node = limits(|limits| limits.connections = NonZeroU32::new(2));
        let (one, _two) =
            (node.acquire_connection().expect("is free"), node.acquire_connection().expect("is free"));
        assert!(node.acquire_connection().is_none());
        drop(one);
        assert!(node.acquire_connection().is_some());
    }

    #[tokio::test]
    async fn a_loud_node_stops_those_who_are_loud_and_nobody_else() {
        let node = limits(|limits| limits.events_per_second = NonZeroU32::new(10));
        node.count_pushes(100);
        assert!(node.exceeds_node_event_rate(0));
        assert!(node.exceeds_message_rate(15.0));
        assert!(!node.exceeds_message_rate(1.0));
        assert!(!limits(|_| {}).exceeds_node_event_rate(u32::MAX), "without a limit nothing is too much");
    }
}
