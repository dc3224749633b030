//! What a shard counts, and how the sum reaches the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts `more`.
    pub fn add(&self, more: u64) {
        if more > 0 {
            self.0.fetch_add(more, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One shard's counts. Kept here and not in the metrics registry, so that a delivery costs an addition.
#[derive(Debug, Default)]
pub struct Counters {
    /// Frames put into outboxes by fan-out.
    pub deliveries: Count,
    /// Frames that nobody saw, because a newer one of the same key came first.
    pub coalesced: Count,
    /// Deliveries to connections that had gone.
    pub undeliverable: Count,
    /// Connections closed because their outbox was full.
    pub slow_consumers_closed: Count,
    /// Messages of clients over their rate, which were not heard.
    pub rate_limited_messages: Count,
    /// Bytes written.
    pub bytes_sent: Count,
}

/// A hub's numbers at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Open connections.
    pub connections: u64,
    /// Frames put into outboxes by fan-out.
    pub deliveries: u64,
    /// Frames that nobody saw, because a newer one of the same key came first.
    pub coalesced: u64,
    /// Deliveries to connections that had gone.
    pub undeliverable: u64,
    /// Connections closed because their outbox was full.
    pub slow_consumers_closed: u64,
    /// Messages of clients over their rate, which were not heard.
    pub rate_limited_messages: u64,
    /// Bytes written.
    pub bytes_sent: u64,
}

impl Stats {
    /// Adds one shard's numbers.
    pub(super) fn add(&mut self, connections: usize, counters: &Counters) {
        self.connections += connections as u64;
        self.deliveries += counters.deliveries.get();
        self.coalesced += counters.coalesced.get();
        self.undeliverable += counters.undeliverable.get();
        self.slow_consumers_closed += counters.slow_consumers_closed.get();
        self.rate_limited_messages += counters.rate_limited_messages.get();
        self.bytes_sent += counters.bytes_sent.get();
    }
}

/// Where one shard's numbers are published, with the shard's number as label.
pub(super) struct ShardMetrics {
    connections: Gauge,
    deliveries: Counter,
    coalesced: Counter,
    undeliverable: Counter,
    slow_consumers_closed: Counter,
    rate_limited_messages: Counter,
    bytes_sent: Counter,
    topics: Gauge,
    topic_members: Gauge,
}

impl ShardMetrics {
    pub fn for_shard(shard: u8) -> Self {
        let shard = shard.to_string();
        let counter = |name| metrics::counter!(name, "shard" => shard.clone());
        Self {
            connections: metrics::gauge!("rollcall_hub_connections", "shard" => shard.clone()),
            deliveries: counter("rollcall_hub_deliveries_total"),
            coalesced: counter("rollcall_hub_coalesced_total"),
            undeliverable: counter("rollcall_hub_missed_total"),
            slow_consumers_closed: counter("rollcall_hub_slow_closed_total"),
            rate_limited_messages: counter("rollcall_hub_refused_messages_total"),
            bytes_sent: counter("rollcall_hub_sent_bytes_total"),
            topics: metrics::gauge!("rollcall_hub_rooms", "shard" => shard.clone()),
            topic_members: metrics::gauge!("rollcall_hub_members", "shard" => shard.clone()),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and exact up to 2^53 connections")]
    pub fn publish(&self, connections: usize, counters: &Counters) {
        let mut stats = Stats::default();
        stats.add(connections, counters);
        self.connections.set(connections as f64);
        self.deliveries.absolute(stats.deliveries);
        self.coalesced.absolute(stats.coalesced);
        self.undeliverable.absolute(stats.undeliverable);
        self.slow_consumers_closed.absolute(stats.slow_consumers_closed);
        self.rate_limited_messages.absolute(stats.rate_limited_messages);
        self.bytes_sent.absolute(stats.bytes_sent);
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and exact up to 2^53 members")]
    pub fn publish_topics(&self, rooms: usize, members: usize) {
        self.topics.set(rooms as f64);
        self.topic_members.set(members as f64);
    }
}
