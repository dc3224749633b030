//! Rate and size limits of channels. A client over a limit is rejected or closed; the receivers are not
//! affected.
//!
//! As in Supabase Realtime, rates are means over the last minute in steps of five seconds. A new meter is
//! measured over at least five seconds, so short bursts pass.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    hub::Hub,
    settings::{Limit, defaults, limit, small_count},
};

/// Limits of channels. `None` disables a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Limits (0 disables)")]
pub struct ChannelLimits {
    /// Open channel sockets on this node
    #[arg(
        id = "realtime-max-connections",
        long = "realtime-max-connections",
        env = "REALTIME_MAX_CONNECTIONS",
        default_value = "20000",
        value_parser = limit
    )]
    pub connections: Limit,
    /// Channel joins per second on this node
    #[arg(
        id = "realtime-max-joins-per-second",
        long = "realtime-max-joins-per-second",
        env = "REALTIME_MAX_JOINS_PER_SECOND",
        default_value = "10000",
        value_parser = limit
    )]
    pub joins_per_second: Limit,
    /// Channel messages per second on this node, sent and delivered
    #[arg(
        id = "realtime-max-events-per-second",
        long = "realtime-max-events-per-second",
        env = "REALTIME_MAX_EVENTS_PER_SECOND",
        default_value = "0",
        value_parser = limit
    )]
    pub events_per_second: Limit,
    /// Channel messages per second sent by one socket
    #[arg(
        id = "realtime-max-client-events-per-second",
        long = "realtime-max-client-events-per-second",
        env = "REALTIME_MAX_CLIENT_EVENTS_PER_SECOND",
        default_value = "20000",
        value_parser = limit
    )]
    pub client_events_per_second: Limit,
    /// Bytes per second sent by one socket in its channels
    #[arg(
        id = "realtime-max-client-bytes-per-second",
        long = "realtime-max-client-bytes-per-second",
        env = "REALTIME_MAX_CLIENT_BYTES_PER_SECOND",
        default_value = "20000000",
        value_parser = limit
    )]
    pub client_bytes_per_second: Limit,
    /// Channels per socket
    #[arg(
        id = "realtime-max-channels-per-client",
        long = "realtime-max-channels-per-client",
        env = "REALTIME_MAX_CHANNELS_PER_CLIENT",
        default_value = "100",
        value_parser = limit
    )]
    pub channels_per_client: Limit,
    /// Maximum size of a broadcast payload in kB (1000 bytes)
    #[arg(
        id = "realtime-max-payload-kb",
        long = "realtime-max-payload-kb",
        env = "REALTIME_MAX_PAYLOAD_KB",
        default_value = "3000",
        value_parser = limit
    )]
    pub payload_kb: Limit,
    /// Presence pushes per channel and socket within REALTIME_PRESENCE_WINDOW_MS
    #[arg(
        id = "realtime-presence-calls",
        long = "realtime-presence-calls",
        env = "REALTIME_PRESENCE_CALLS",
        default_value = "5",
        value_parser = limit
    )]
    pub presence_calls: Limit,
    /// Window of REALTIME_PRESENCE_CALLS in milliseconds
    #[arg(
        id = "realtime-presence-window-ms",
        long = "realtime-presence-window-ms",
        env = "REALTIME_PRESENCE_WINDOW_MS",
        default_value = "30000",
        value_parser = small_count::<u32>(1..=3_600_000)
    )]
    pub presence_window_ms: u32,
    /// Presence pushes per second on this node
    #[arg(
        id = "realtime-max-presence-events-per-second",
        long = "realtime-max-presence-events-per-second",
        env = "REALTIME_MAX_PRESENCE_EVENTS_PER_SECOND",
        default_value = "0",
        value_parser = limit
    )]
    pub presence_events_per_second: Limit,
}

impl ChannelLimits {
    /// Maximum bytes of one payload. As in Supabase Realtime, 500 bytes are added for the envelope.
    #[must_use]
    pub fn payload_bytes(&self) -> Option<usize> {
        self.payload_kb.map(|kb| kb.get() as usize * 1_000 + 500)
    }
}

impl Default for ChannelLimits {
    fn default() -> Self {
        defaults()
    }
}

/// Seconds per bucket.
const BUCKET_SECONDS: u32 = 5;
const BUCKETS: usize = 12;

/// Counts events and returns their mean rate.
#[derive(Debug, Clone, Copy, Default)]
pub struct RateMeter {
    buckets: [u32; BUCKETS],
    /// Bucket of the first event since the last minute without events.
    first_bucket: u32,
    /// Bucket of the last event.
    last_bucket: u32,
}

impl RateMeter {
    /// Counts `events` at `now`, in seconds of a monotonic clock.
    pub fn count(&mut self, now: u32, events: u32) {
        let bucket_number = now / BUCKET_SECONDS;
        self.advance(bucket_number);
        let bucket = &mut self.buckets[bucket_number as usize % BUCKETS];
        *bucket = bucket.saturating_add(events);
    }

    /// Mean events per second.
    #[must_use]
    pub fn per_second(&self, now: u32) -> f64 {
        let mut current = *self;
        current.advance(now / BUCKET_SECONDS);
        let events: u64 = current.buckets.iter().map(|events| u64::from(*events)).sum();
        let bucket_count =
            (now / BUCKET_SECONDS).saturating_sub(current.first_bucket).saturating_add(1).min(BUCKETS as u32);
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact beyond 2^53")]
        let events = events as f64;
        events / f64::from(bucket_count * BUCKET_SECONDS)
    }

    /// Clears the buckets between the last event and `step`.
    fn advance(&mut self, bucket_number: u32) {
        let passed = bucket_number.saturating_sub(self.last_bucket);
        if passed as usize >= BUCKETS {
            *self = Self { first_bucket: bucket_number, last_bucket: bucket_number, ..Self::default() };
            return;
        }
        for old in 1..=passed {
            self.buckets[(self.last_bucket + old) as usize % BUCKETS] = 0;
        }
        self.last_bucket = self.last_bucket.max(bucket_number);
    }
}

/// Current rates of the channels of one node.
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
    /// Deliveries of the hub already counted.
    counted_deliveries: AtomicU64,
}

/// Permit for one open channel socket. Released when dropped.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<AtomicU32>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Share of the node's messages from which a socket is closed when the node exceeds its limit.
const HEAVY_SENDER_SHARE: f64 = 0.1;

impl NodeLimits {
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

    #[must_use]
    pub const fn limits(&self) -> &ChannelLimits {
        &self.limits
    }

    /// Seconds since the start, the clock of all meters.
    #[must_use]
    pub fn elapsed_secs(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Milliseconds since the start. Wraps around after 49 days.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "it wraps around")]
    pub fn elapsed_ms(&self) -> u32 {
        self.started.elapsed().as_millis() as u32
    }

    /// Acquires a permit for a socket; `None` if the maximum is reached.
    #[must_use]
    pub fn acquire_connection(&self) -> Option<ConnectionPermit> {
        let limit = self.limits.connections.map_or(u32::MAX, NonZeroU32::get);
        let open = self.connections.fetch_add(1, Ordering::Relaxed);
        let permit = ConnectionPermit(Arc::clone(&self.connections));
        (open < limit).then_some(permit)
    }

    /// Number of open channel sockets.
    #[must_use]
    pub fn connection_count(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn join_rate_exceeded(&self) -> bool {
        is_exceeded(self.limits.joins_per_second, || self.joins.lock().per_second(self.elapsed_secs()))
    }

    pub fn count_join(&self) {
        if self.limits.joins_per_second.is_some() {
            self.joins.lock().count(self.elapsed_secs(), 1);
        }
    }

    /// Counts messages sent by clients.
    pub fn count_pushes(&self, pushes: u32) {
        if self.limits.events_per_second.is_some() {
            self.pushes.lock().count(self.elapsed_secs(), pushes);
        }
    }

    /// Messages per second, sent and delivered. Only counted while limited.
    #[must_use]
    pub fn events_per_second(&self) -> f64 {
        let now = self.elapsed_secs();
        self.pushes.lock().per_second(now) + self.deliveries_per_second(now)
    }

    /// Whether the node exceeds its message rate with `more` messages in the next second.
    #[must_use]
    pub fn exceeds_node_event_rate(&self, more: u32) -> bool {
        is_exceeded(self.limits.events_per_second, || self.events_per_second() + f64::from(more))
    }

    /// Whether a socket with this message rate is to be closed: it exceeds its limit, or the node exceeds its
    /// limit and this socket sends a large share.
    #[must_use]
    pub fn exceeds_message_rate(&self, per_second: f64) -> bool {
        is_exceeded(self.limits.client_events_per_second, || per_second)
            || (self.exceeds_node_event_rate(0)
                && per_second >= HEAVY_SENDER_SHARE * self.pushes.lock().per_second(self.elapsed_secs()))
    }

    /// Whether a socket with this byte rate is to be closed.
    #[must_use]
    pub fn exceeds_byte_rate(&self, per_second: f64) -> bool {
        is_exceeded(self.limits.client_bytes_per_second, || per_second)
    }

    /// Whether messages of a socket need to be counted.
    #[must_use]
    pub const fn limits_messages(&self) -> bool {
        self.limits.client_events_per_second.is_some() || self.limits.events_per_second.is_some()
    }

    /// Whether bytes of a socket need to be counted.
    #[must_use]
    pub const fn limits_bytes(&self) -> bool {
        self.limits.client_bytes_per_second.is_some()
    }

    /// Counts a presence push. Returns whether the node exceeded its limit before it.
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
    fn a_new_meter_averages_over_five_seconds_and_an_old_one_over_a_minute() {
        let mut meter = RateMeter::default();
        meter.count(1_000, 49);
        assert!(meter.per_second(1_000) < 10.0);
        meter.count(1_004, 1);
        assert!(meter.per_second(1_004) >= 10.0);
        assert!(meter.per_second(1_009) < 10.0, "the mean falls over time");

        let mut quiet = RateMeter::default();
        quiet.count(100, 1);
        quiet.count(155, 598);
        assert!(quiet.per_second(155) < 10.0);
        quiet.count(155, 1);
        assert!(quiet.per_second(155) >= 10.0);
        assert!(quiet.per_second(215) < f64::EPSILON, "events expire after a minute");
    }

    #[test]
    fn old_buckets_leave_the_mean_one_at_a_time() {
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
    async fn dropped_permits_are_released() {
        let node = limits(|limits| limits.connections = NonZeroU32::new(2));
        let (one, _two) =
            (node.acquire_connection().expect("is free"), node.acquire_connection().expect("is free"));
        assert!(node.acquire_connection().is_none());
        drop(one);
        assert!(node.acquire_connection().is_some());
    }

    #[tokio::test]
    async fn only_heavy_senders_are_closed_when_the_node_exceeds_its_limit() {
        let node = limits(|limits| limits.events_per_second = NonZeroU32::new(10));
        node.count_pushes(100);
        assert!(node.exceeds_node_event_rate(0));
        assert!(node.exceeds_message_rate(15.0));
        assert!(!node.exceeds_message_rate(1.0));
        assert!(!limits(|_| {}).exceeds_node_event_rate(u32::MAX), "no limit is configured");
    }
}
