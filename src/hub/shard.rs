//! One shard: the connections that sit in it, and the task that writes to them.
//!
//! The task takes everything that waits in its mailbox (at most [`BATCH`] commands), queues the frames in the
//! outboxes, and then writes to each socket that got something **once**. So a batch forms by itself while
//! the previous one is being written: no timer, no added latency when idle, and under pressure many frames
//! in one write, which costs hardly more than one frame.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    ConnId, Encodable, Queued, StateKey,
    counters::{Counters, Published},
    registry::Registry,
};
use crate::transport::{Check, Connection, ConnectionOptions, ConnectionSettings, SendError, Socket, millis};

/// Commands that one batch takes at most.
const BATCH: usize = 64;
/// After so many writes others get a turn: a large fan-out must not hold its thread for tens of milliseconds.
const YIELD_AFTER_WRITES: usize = 64;
/// Connections looked up under one hold of the lock, so that those who join need not wait for long.
const LOOK_UP: usize = 64;
/// Deliveries queued (which is about 30 times cheaper than writing) before others get a turn.
const YIELD_AFTER_QUEUED: usize = 2048;

/// One message for the connections of one shard.
#[derive(Debug)]
pub(super) struct ShardDelivery {
    pub key: Option<StateKey>,
    pub message: Arc<Encodable>,
    pub to: Vec<ConnId>,
}

/// What a shard is asked to do: one call's deliveries, in order.
pub(super) type Command = Vec<ShardDelivery>;

/// The part of a shard that its connections and the hub share.
#[derive(Debug)]
pub(crate) struct Shard {
    number: u8,
    registry: Mutex<Registry<Connection>>,
    settings: ConnectionSettings,
    counters: Counters,
    /// The zero of all of the shard's times.
    started: Instant,
}

impl Shard {
    pub(super) fn new(number: u8, settings: ConnectionSettings) -> Self {
        let registry = Mutex::new(Registry::new(number));
        Self { number, registry, settings, counters: Counters::default(), started: Instant::now() }
    }

    /// What all connections have in common.
    pub(crate) const fn settings(&self) -> &ConnectionSettings {
        &self.settings
    }

    /// What is counted here.
    pub(crate) const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Milliseconds since the shard was started.
    pub(crate) fn uptime_ms(&self) -> u64 {
        self.uptime_ms_at(Instant::now())
    }

    /// The same for another moment; 0 if that was before.
    pub(crate) fn uptime_ms_at(&self, when: Instant) -> u64 {
        millis(when.saturating_duration_since(self.started))
    }

    /// Sees to it that a connection is visited when `due_ms` has come, or up to one tick later.
    pub(crate) fn visit_by(&self, id: ConnId, due_ms: u64) {
        self.registry.lock().visit_by(id, self.tick_after(due_ms));
    }

    pub(super) fn insert(
        self: &Arc<Self>,
        socket: Socket,
        options: ConnectionOptions,
    ) -> Option<Arc<Connection>> {
        let first_visit = self.uptime_ms() + millis(self.settings.heartbeat.ping_every);
        let tick = self.tick_after(first_visit);
        let make = |id| Connection::new(id, socket, options, Arc::clone(self));
        self.registry.lock().insert(tick, make)
    }

    pub(super) fn remove(&self, id: ConnId) {
        self.registry.lock().remove(id);
    }

    pub(super) fn get(&self, id: ConnId) -> Option<Arc<Connection>> {
        self.registry.lock().get(id).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.registry.lock().len()
    }

    pub(super) fn connections(&self) -> Vec<Arc<Connection>> {
        self.registry.lock().iter().cloned().collect()
    }

    fn tick_ms(&self) -> u64 {
        millis(self.settings.heartbeat.tick).max(1)
    }

    fn tick_after(&self, due_ms: u64) -> u64 {
        due_ms.div_ceil(self.tick_ms())
    }

    /// Visits the connections that are due: pings, verdicts, timers.
    async fn tick(&self) {
        let now = self.uptime_ms();
        let mut to_do = Vec::new();
        self.registry.lock().visit_due(now / self.tick_ms(), |connection, liveness| {
            let (check, next) = connection.visit(now, liveness);
            to_do.push((Arc::clone(connection), check));
            self.tick_after(next)
        });
        for (place, (connection, check)) in to_do.into_iter().enumerate() {
            connection.act_on(check);
            if check != Check::Fine && place % YIELD_AFTER_WRITES == YIELD_AFTER_WRITES - 1 {
                yield_now().await;
            }
        }
    }
}

/// Runs a shard until `stop`, or until nobody can send to it any more.
pub(super) async fn run(shard: Arc<Shard>, mut mailbox: mpsc::Receiver<Command>, stop: CancellationToken) {
    let mut ticks = interval(shard.settings.heartbeat.tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let published = Published::of_shard(shard.number);
    let mut writer = Writer { shard: &shard, dirty: Vec::new() };
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {
                shard.tick().await;
                published.publish(shard.len(), &shard.counters);
            }
            taken = mailbox.recv_many(&mut batch, BATCH) => {
                if taken == 0 {
                    break;
                }
                writer.deliver(batch.drain(..).flatten()).await;
            }
        }
    }
    published.publish(shard.len(), &shard.counters);
}

struct Writer<'a> {
    shard: &'a Shard,
    /// Who got something in the batch at hand.
    dirty: Vec<Arc<Connection>>,
}

impl Writer<'_> {
    async fn deliver(&mut self, deliveries: impl Iterator<Item = ShardDelivery>) {
        let mut queued = 0;
        for delivery in deliveries {
            for ids in delivery.to.chunks(LOOK_UP) {
                self.queue(&delivery, ids);
                queued += ids.len();
                if queued >= YIELD_AFTER_QUEUED {
                    queued = 0;
                    yield_now().await;
                }
            }
        }
        for (place, connection) in self.dirty.drain(..).enumerate() {
            connection.flush_dirty();
            if place % YIELD_AFTER_WRITES == YIELD_AFTER_WRITES - 1 {
                yield_now().await;
            }
        }
        // A fan-out to everybody is rare; its room is not kept.
        self.dirty.shrink_to(4 * BATCH);
    }

    fn queue(&mut self, delivery: &ShardDelivery, ids: &[ConnId]) {
        let (mut delivered, mut coalesced, mut missed) = (0, 0, 0);
        let registry = self.shard.registry.lock();
        for id in ids {
            let Some(connection) = registry.get(*id) else {
                missed += 1;
                continue;
            };
            let Some(frame) = delivery.message.frame(connection.dialect()) else {
                continue;
            };
            match connection.queue(delivery.key, frame.clone()) {
                Ok(Queued::Added) => delivered += 1,
                Ok(Queued::Coalesced) => {
                    delivered += 1;
                    coalesced += 1;
                }
                Err(SendError::Closed | SendError::Slow) => {
                    missed += 1;
                    continue;
                }
            }
            if connection.mark_dirty() {
                self.dirty.push(Arc::clone(connection));
            }
        }
        drop(registry);
        let counters = &self.shard.counters;
        counters.deliveries.add(delivered);
        counters.coalesced.add(coalesced);
        counters.missed.add(missed);
    }
}
