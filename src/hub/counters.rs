//! Counters of a shard and their export as metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge};

use crate::telemetry::metric;

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, amount: u64) {
        if amount > 0 {
            self.0.fetch_add(amount, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one shard. They are plain atomics and not metrics, so that a delivery costs one addition.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Frames that fan-out put into outboxes.
    pub deliveries: Count,
    /// Frames replaced in the outbox by a newer one with the same key.
    pub coalesced: Count,
    /// Deliveries to closed connections.
    pub undeliverable: Count,
    /// Connections closed because their outbox was full.
    pub slow_consumers_closed: Count,
    /// Client messages rejected by the rate limit.
    pub rate_limited_messages: Count,
    /// Bytes written to sockets.
    pub bytes_sent: Count,
}

/// A snapshot of a hub's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    pub connections: u64,
    /// Frames that fan-out put into outboxes.
    pub deliveries: u64,
    /// Frames replaced in the outbox by a newer one with the same key.
    pub coalesced: u64,
    /// Deliveries to closed connections.
    pub undeliverable: u64,
    /// Connections closed because their outbox was full.
    pub slow_consumers_closed: u64,
    /// Client messages rejected by the rate limit.
    pub rate_limited_messages: u64,
    /// Bytes written to sockets.
    pub bytes_sent: u64,
}

impl Stats {
    /// Adds the counters of one shard.
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

/// The metrics of one shard, labelled with the shard's number.
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
    pub(super) fn for_shard(shard: u8) -> Self {
        let shard = shard.to_string();
        let counter = |name| metrics::counter!(name, "shard" => shard.clone());
        Self {
            connections: metrics::gauge!(metric::HUB_CONNECTIONS, "shard" => shard.clone()),
            deliveries: counter(metric::HUB_DELIVERIES),
            coalesced: counter(metric::HUB_COALESCED),
            undeliverable: counter(metric::HUB_UNDELIVERABLE),
            slow_consumers_closed: counter(metric::HUB_SLOW_CONSUMERS_CLOSED),
            rate_limited_messages: counter(metric::HUB_RATE_LIMITED_MESSAGES),
            bytes_sent: counter(metric::HUB_SENT_BYTES),
            topics: metrics::gauge!(metric::HUB_TOPICS, "shard" => shard.clone()),
            topic_members: metrics::gauge!(metric::HUB_TOPIC_MEMBERS, "shard" => shard.clone()),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and exact up to 2^53 connections")]
    pub(super) fn publish(&self, connections: usize, counters: &Counters) {
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
    pub(super) fn publish_topics(&self, topics: usize, members: usize) {
        self.topics.set(topics as f64);
        self.topic_members.set(members as f64);
    }
}
