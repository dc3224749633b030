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
    ConnId, Encodable, Member, Queued, ReceiveMask, StateKey, TopicDelivery,
    counters::{Counters, ShardMetrics},
    registry::Registry,
    topics::TopicTable,
};
use crate::{
    model::{ChannelId, Topic},
    transport::{
        Check, Connection, ConnectionOptions, ConnectionSettings, SendError, Socket, frame::WireFrame, millis,
    },
};

/// Commands that one batch takes at most, each of several posts counted by its posts; the last may exceed it.
const MAX_BATCH_WEIGHT: usize = 256;
/// After so many writes others get a turn: a large fan-out must not hold its thread for tens of milliseconds.
const YIELD_AFTER_WRITES: usize = 64;
/// Connections looked up under one hold of the lock, so that those who join need not wait for long.
const LOOKUP_CHUNK: usize = 64;
/// Deliveries queued (which is about 30 times cheaper than writing) before others get a turn.
const YIELD_AFTER_QUEUED: usize = 2048;

/// One message for the connections of one shard.
#[derive(Debug)]
pub(super) struct ShardDelivery {
    pub key: Option<StateKey>,
    pub message: Arc<Encodable>,
    pub to: Vec<ConnId>,
}

/// What a shard is asked to do; in order.
#[derive(Debug)]
pub(super) enum Command {
    /// One call's deliveries, in order.
    Deliver(Vec<ShardDelivery>),
    /// Says things in a room.
    Publish(Topic, Arc<[TopicDelivery]>),
    /// Says something to one connection, in order with what rooms say to it.
    Send(Arc<Connection>, WireFrame),
    /// Seats a member, after these frames.
    Join(Box<NewMember>),
    /// Ends a membership, with these last frames.
    Leave(Topic, ChannelId, Option<(Arc<Connection>, WireFrame)>),
    /// Changes what a member wants to hear, after these frames.
    SetMask(Topic, ChannelId, ReceiveMask, Option<(Arc<Connection>, WireFrame)>),
}

impl Command {
    /// How much of a batch it is.
    fn weight(&self) -> usize {
        if let Self::Publish(_, posts) = self { posts.len().max(1) } else { 1 }
    }
}

/// A member on its way in.
#[derive(Debug)]
pub(super) struct NewMember {
    pub topic: Topic,
    pub member: Member<Arc<Connection>>,
    /// What it is told before anything else: the reply, what is replayed, the state.
    pub first_frame: WireFrame,
}

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
    pub(crate) fn check_by(&self, id: ConnId, due_ms: u64) {
        self.registry.lock().check_by(id, self.tick_after(due_ms));
    }

    pub(super) fn insert(
        self: &Arc<Self>,
        socket: Socket,
        options: ConnectionOptions,
    ) -> Option<Arc<Connection>> {
        let first_visit = self.uptime_ms() + millis(self.settings.heartbeat.ping_interval);
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
        self.registry.lock().check_due(now / self.tick_ms(), |connection, liveness| {
            let (check, next) = connection.check(now, liveness);
            to_do.push((Arc::clone(connection), check));
            self.tick_after(next)
        });
        for (place, (connection, check)) in to_do.into_iter().enumerate() {
            connection.apply_check(check);
            if check != Check::Alive && place % YIELD_AFTER_WRITES == YIELD_AFTER_WRITES - 1 {
                yield_now().await;
            }
        }
    }
}

/// Runs a shard until `stop`, or until nobody can send to it any more.
pub(super) async fn run(shard: Arc<Shard>, mut mailbox: mpsc::Receiver<Command>, stop: CancellationToken) {
    let mut ticks = interval(shard.settings.heartbeat.tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let published = ShardMetrics::for_shard(shard.number);
    let mut writer = ShardWriter {
        shard: &shard,
        topics: TopicTable::default(),
        pending_topics: Vec::new(),
        pending_sends: Vec::new(),
        dirty: Vec::new(),
        queued_since_yield: 0,
    };
    let mut batch = Vec::with_capacity(MAX_BATCH_WEIGHT);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {
                shard.tick().await;
                published.publish(shard.len(), &shard.counters);
                published.publish_topics(writer.topics.len(), writer.topics.member_count());
            }
            is_more = receive_batch(&mut batch, &mut mailbox) => {
                if !is_more {
                    break;
                }
                writer.execute(batch.drain(..)).await;
            }
        }
    }
    published.publish(shard.len(), &shard.counters);
}

/// What becomes of frames for the members of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteMode {
    /// They are queued, to go out with what else the batch brings.
    Queue,
    /// They are written.
    Write,
}

impl WriteMode {
    /// How much of a turn one member takes, in queued deliveries.
    const fn cost(self) -> usize {
        match self {
            Self::Queue => 1,
            Self::Write => YIELD_AFTER_QUEUED / YIELD_AFTER_WRITES,
        }
    }
}

/// Waits for a command and takes a batch of what waits behind it; `false` if nothing will come any more.
async fn receive_batch(batch: &mut Vec<Command>, mailbox: &mut mpsc::Receiver<Command>) -> bool {
    let mut next = mailbox.recv().await;
    let mut weight = 0;
    while let Some(command) = next {
        weight += command.weight();
        batch.push(command);
        next = if weight < MAX_BATCH_WEIGHT { mailbox.try_recv().ok() } else { None };
    }
    weight > 0
}

struct ShardWriter<'a> {
    shard: &'a Shard,
    topics: TopicTable<Arc<Connection>>,
    /// The rooms that something waits for, in the order in which it was said.
    pending_topics: Vec<Topic>,
    /// What single connections are to be told after what waits for rooms: most often that it was said there.
    pending_sends: Vec<(Arc<Connection>, WireFrame)>,
    /// Who got something in the batch at hand.
    dirty: Vec<Arc<Connection>>,
    /// How much was queued since others had a turn.
    queued_since_yield: usize,
}

impl ShardWriter<'_> {
    async fn execute(&mut self, commands: impl Iterator<Item = Command>) {
        for command in commands {
            match command {
                Command::Deliver(deliveries) => self.deliver(deliveries).await,
                Command::Publish(room, posts) => {
                    if self.topics.publish(&room, &posts) {
                        self.pending_topics.push(room);
                    }
                }
                Command::Send(connection, frame) => self.pending_sends.push((connection, frame)),
                Command::Join(joining) => {
                    let NewMember { topic: room, member, first_frame: first } = *joining;
                    self.deliver_pending_before(&room).await;
                    self.queue_frame(&member.connection, first);
                    self.topics.join(room, member);
                }
                Command::Leave(room, channel, last) => {
                    self.deliver_pending_before(&room).await;
                    self.topics.leave(&room, channel);
                    if let Some((connection, frame)) = last {
                        self.queue_frame(&connection, frame);
                    }
                }
                Command::SetMask(room, channel, hears, first) => {
                    self.deliver_pending_before(&room).await;
                    if let Some((connection, frame)) = first {
                        self.queue_frame(&connection, frame);
                    }
                    if let Some(member) = self.topics.member_mut(&room, channel) {
                        member.mask = hears;
                    }
                }
            }
        }
        // Nobody gets anything but what was said in one room: there is nothing to wait for.
        if let ([room], true, true) =
            (&*self.pending_topics, self.pending_sends.is_empty(), self.dirty.is_empty())
        {
            let room = room.clone();
            self.pending_topics.clear();
            return self.deliver_topic(&room, WriteMode::Write).await;
        }
        self.deliver_all_pending().await;
        for (place, connection) in self.dirty.drain(..).enumerate() {
            connection.flush_dirty();
            if place % YIELD_AFTER_WRITES == YIELD_AFTER_WRITES - 1 {
                yield_now().await;
            }
        }
        // A fan-out to everybody is rare; its room is not kept.
        self.dirty.shrink_to(MAX_BATCH_WEIGHT);
    }

    /// Queues what comes before a change of who is in a room.
    async fn deliver_pending_before(&mut self, room: &Topic) {
        if self.pending_sends.is_empty() {
            self.deliver_topic(room, WriteMode::Queue).await;
        } else {
            self.deliver_all_pending().await;
        }
    }

    /// Queues all that waits, for rooms first.
    async fn deliver_all_pending(&mut self) {
        for room in std::mem::take(&mut self.pending_topics) {
            self.deliver_topic(&room, WriteMode::Queue).await;
        }
        for (connection, frame) in std::mem::take(&mut self.pending_sends) {
            self.queue_frame(&connection, frame);
        }
    }

    /// Queues or writes what waits for a room, for each member in one piece.
    async fn deliver_topic(&mut self, room: &Topic, how: WriteMode) {
        let Some((members, mut bundle)) = self.topics.take_pending(room) else {
            return;
        };
        let (mut delivered, mut missed) = (0, 0);
        for some in members.chunks(YIELD_AFTER_QUEUED / how.cost()) {
            for member in some {
                let connection = &member.connection;
                let frames = bundle.frames(member, connection.dialect());
                if frames.is_empty() {
                    continue;
                }
                let taken = match how {
                    WriteMode::Write => connection.send_all(&frames),
                    WriteMode::Queue => connection.queue_all(&frames),
                };
                match taken {
                    Ok(()) => delivered += bundle.len() as u64,
                    Err(SendError::Closed | SendError::Slow) => missed += bundle.len() as u64,
                }
                if how == WriteMode::Queue && connection.mark_dirty() {
                    self.dirty.push(Arc::clone(connection));
                }
            }
            self.queued_since_yield += some.len() * how.cost();
            if self.queued_since_yield >= YIELD_AFTER_QUEUED {
                self.queued_since_yield = 0;
                yield_now().await;
            }
        }
        self.shard.counters.deliveries.add(delivered);
        self.shard.counters.undeliverable.add(missed);
    }

    fn queue_frame(&mut self, connection: &Arc<Connection>, frame: WireFrame) {
        // Should it not get through, the connection is ending, and its session will leave.
        let _ = connection.queue(None, frame);
        if connection.mark_dirty() {
            self.dirty.push(Arc::clone(connection));
        }
    }

    async fn deliver(&mut self, deliveries: Vec<ShardDelivery>) {
        for delivery in deliveries {
            for ids in delivery.to.chunks(LOOKUP_CHUNK) {
                self.queue_for(&delivery, ids);
                self.queued_since_yield += ids.len();
                if self.queued_since_yield >= YIELD_AFTER_QUEUED {
                    self.queued_since_yield = 0;
                    yield_now().await;
                }
            }
        }
    }

    fn queue_for(&mut self, delivery: &ShardDelivery, ids: &[ConnId]) {
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
        counters.undeliverable.add(missed);
    }
}
