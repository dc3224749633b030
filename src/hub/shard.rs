//! One shard: its connections and the task that writes to them.
//!
//! The task takes all waiting commands (up to [`MAX_BATCH_WEIGHT`]), queues the frames in the outboxes, and then writes
//! **once** to each socket that received frames. A batch collects while the previous one is written, so there is no
//! timer and no added latency when idle. Under load many frames share one write.

use std::{borrow::Cow, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    CloseCode, ConnId, ConnectionOptions, ConnectionSettings, Encodable, Member, Queued, ReceiveMask,
    StateKey, TopicCounts, TopicDelivery, TopicQuery,
    connection::{Connection, SendError, Socket},
    counters::{Counters, ShardMetrics},
    frame::WireFrame,
    keepalive::{Check, millis},
    registry::Registry,
    shard_context::ShardContext,
    topics::TopicTable,
};
use crate::model::{ChannelId, Topic};

/// Maximum weight of a batch in commands. A publish counts one per delivery; the last command may exceed the maximum.
const MAX_BATCH_WEIGHT: usize = 256;
/// Writes before the task yields, so that a large fan-out does not hold its thread for tens of milliseconds.
const YIELD_AFTER_WRITES: usize = 64;
/// Connections looked up under one hold of the registry lock, so that new connections do not wait long.
const LOOKUP_CHUNK: usize = 64;
/// Queued deliveries before the task yields. Queueing is about 30 times cheaper than writing.
const YIELD_AFTER_QUEUED: usize = 2048;

/// One message for connections of one shard.
#[derive(Debug)]
pub(super) struct ShardDelivery {
    pub key: Option<StateKey>,
    pub message: Arc<Encodable>,
    pub to: Vec<ConnId>,
}

/// A command for a shard. Commands run in order.
#[derive(Debug)]
pub(super) enum Command {
    /// Deliveries of one `fan_out` call, in order.
    Deliver(Vec<ShardDelivery>),
    /// Publishes messages to a topic.
    Publish(Topic, Arc<[TopicDelivery]>),
    /// Sends a frame to one connection, in order with messages of topics.
    Send(Arc<Connection>, WireFrame),
    /// Closes one connection, after what precedes in this queue.
    Close(Arc<Connection>, CloseCode, Cow<'static, str>),
    /// Adds a member after its first frame.
    Join(Box<NewMember>),
    /// Removes a member, then sends the last frame.
    Leave(Topic, ChannelId, Option<(Arc<Connection>, WireFrame)>),
    /// Counts the members of topics.
    CountTopics(Box<TopicQuery>, oneshot::Sender<TopicCounts>),
    /// Reports when all frames queued so far are written.
    ReportRead(ConnId, oneshot::Sender<()>),
    /// Sends the frame, then changes the member's receive mask.
    SetMask(Topic, ChannelId, ReceiveMask, Option<(Arc<Connection>, WireFrame)>),
}

impl Command {
    /// The command's weight in a batch.
    fn weight(&self) -> usize {
        if let Self::Publish(_, deliveries) = self { deliveries.len().max(1) } else { 1 }
    }
}

/// A member to be added to a topic.
#[derive(Debug)]
pub(super) struct NewMember {
    pub topic: Topic,
    pub member: Member<Arc<Connection>>,
    /// Sent before anything else: the join reply, replayed messages and the presence state.
    pub first_frame: WireFrame,
}

/// The part of a shard shared by its connections and the hub.
#[derive(Debug)]
pub(crate) struct Shard {
    number: u8,
    registry: Mutex<Registry<Connection>>,
    settings: ConnectionSettings,
    counters: Counters,
    /// Start time; all times of the shard are milliseconds since then.
    started: Instant,
}

impl Shard {
    pub(super) fn new(number: u8, settings: ConnectionSettings) -> Self {
        let registry = Mutex::new(Registry::new(number));
        Self { number, registry, settings, counters: Counters::default(), started: Instant::now() }
    }

    pub(super) fn insert(
        self: &Arc<Self>,
        socket: Socket,
        options: ConnectionOptions,
    ) -> Option<Arc<Connection>> {
        let first_check = self.uptime_ms() + millis(self.settings.heartbeat.ping_interval);
        let tick = self.tick_after(first_check);
        let make = |id| Connection::new(id, socket, options, Arc::clone(self) as Arc<dyn ShardContext>);
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

    /// Checks the connections that are due: pings, timeouts, timers.
    async fn tick(&self) {
        let now = self.uptime_ms();
        let mut checked = Vec::new();
        self.registry.lock().check_due(now / self.tick_ms(), |connection, ping_state| {
            let (check, next) = connection.check(now, ping_state);
            checked.push((Arc::clone(connection), check));
            self.tick_after(next)
        });
        for (index, (connection, check)) in checked.into_iter().enumerate() {
            connection.apply_check(check);
            if check != Check::Alive && index % YIELD_AFTER_WRITES == YIELD_AFTER_WRITES - 1 {
                yield_now().await;
            }
        }
    }
}

impl ShardContext for Shard {
    fn settings(&self) -> &ConnectionSettings {
        &self.settings
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn uptime_ms_at(&self, when: Instant) -> u64 {
        millis(when.saturating_duration_since(self.started))
    }

    fn check_by(&self, id: ConnId, due_ms: u64) {
        self.registry.lock().check_by(id, self.tick_after(due_ms));
    }
}

/// Runs a shard until `stop` is cancelled or all senders are dropped.
pub(super) async fn run(shard: Arc<Shard>, mut mailbox: mpsc::Receiver<Command>, stop: CancellationToken) {
    let mut ticks = interval(shard.settings.heartbeat.tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let shard_metrics = ShardMetrics::for_shard(shard.number);
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
                shard_metrics.publish(shard.len(), &shard.counters);
                shard_metrics.publish_topics(writer.topics.len(), writer.topics.member_count());
            }
            is_open = receive_batch(&mut batch, &mut mailbox) => {
                if !is_open {
                    break;
                }
                writer.execute(batch.drain(..)).await;
            }
        }
    }
    shard_metrics.publish(shard.len(), &shard.counters);
}

/// How frames reach the members of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteMode {
    /// Frames are queued and written at the end of the batch.
    Queue,
    /// Frames are written at once.
    Write,
}

impl WriteMode {
    /// The cost of one member before the next yield, in queued deliveries.
    const fn cost(self) -> usize {
        match self {
            Self::Queue => 1,
            Self::Write => YIELD_AFTER_QUEUED / YIELD_AFTER_WRITES,
        }
    }
}

/// Waits for a command and takes a batch of the waiting ones. `false` once all senders are dropped.
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
    /// Topics with pending deliveries, in order of their first delivery.
    pending_topics: Vec<Topic>,
    /// Frames for single connections, queued after the pending deliveries of topics. Most are replies to a publish.
    pending_sends: Vec<(Arc<Connection>, WireFrame)>,
    /// Connections that received frames in the current batch.
    dirty: Vec<Arc<Connection>>,
    /// Deliveries queued since the last yield.
    queued_since_yield: usize,
}

impl ShardWriter<'_> {
    async fn execute(&mut self, commands: impl Iterator<Item = Command>) {
        for command in commands {
            match command {
                Command::Deliver(deliveries) => self.deliver(deliveries).await,
                Command::Publish(topic, deliveries) => {
                    if self.topics.publish(&topic, &deliveries) {
                        self.pending_topics.push(topic);
                    }
                }
                Command::Send(connection, frame) => self.pending_sends.push((connection, frame)),
                Command::Close(connection, code, reason) => {
                    self.deliver_all_pending().await;
                    connection.close(code, &reason);
                }
                Command::Join(new_member) => {
                    let NewMember { topic, member, first_frame } = *new_member;
                    self.deliver_pending_before(&topic).await;
                    self.queue_frame(&member.connection, first_frame);
                    self.topics.join(topic, member);
                }
                Command::Leave(topic, channel, last_frame) => {
                    self.deliver_pending_before(&topic).await;
                    self.topics.leave(&topic, channel);
                    if let Some((connection, frame)) = last_frame {
                        self.queue_frame(&connection, frame);
                    }
                }
                Command::ReportRead(id, report) => {
                    if let Some(connection) = self.shard.get(id) {
                        connection.report_read(report);
                        if connection.mark_dirty() {
                            self.dirty.push(connection);
                        }
                    }
                }
                // The requester may have given up.
                Command::CountTopics(query, reply) => drop(reply.send(self.topics.count(&query))),
                Command::SetMask(topic, channel, mask, first_frame) => {
                    self.deliver_pending_before(&topic).await;
                    if let Some((connection, frame)) = first_frame {
                        self.queue_frame(&connection, frame);
                    }
                    if let Some(member) = self.topics.member_mut(&topic, channel) {
                        member.mask = mask;
                    }
                }
            }
        }
        // The batch holds deliveries of one topic only, so they are written directly.
        if let ([topic], true, true) =
            (&*self.pending_topics, self.pending_sends.is_empty(), self.dirty.is_empty())
        {
            let topic = topic.clone();
            self.pending_topics.clear();
            return self.deliver_topic(&topic, WriteMode::Write).await;
        }
        self.deliver_all_pending().await;
        for (index, connection) in self.dirty.drain(..).enumerate() {
            connection.flush_dirty();
            if index % YIELD_AFTER_WRITES == YIELD_AFTER_WRITES - 1 {
                yield_now().await;
            }
        }
        // A fan-out to all connections is rare; its capacity is not kept.
        self.dirty.shrink_to(MAX_BATCH_WEIGHT);
    }

    /// Queues everything that precedes a change of the topic's membership.
    async fn deliver_pending_before(&mut self, topic: &Topic) {
        if self.pending_sends.is_empty() {
            self.deliver_topic(topic, WriteMode::Queue).await;
        } else {
            self.deliver_all_pending().await;
        }
    }

    /// Queues all pending frames, those of topics first.
    async fn deliver_all_pending(&mut self) {
        for topic in std::mem::take(&mut self.pending_topics) {
            self.deliver_topic(&topic, WriteMode::Queue).await;
        }
        for (connection, frame) in std::mem::take(&mut self.pending_sends) {
            self.queue_frame(&connection, frame);
        }
    }

    /// Queues or writes the pending deliveries of a topic, joined per member.
    async fn deliver_topic(&mut self, topic: &Topic, mode: WriteMode) {
        let Some((members, mut batch)) = self.topics.take_pending(topic) else {
            return;
        };
        let (mut delivered, mut undeliverable) = (0, 0);
        for chunk in members.chunks(YIELD_AFTER_QUEUED / mode.cost()) {
            for member in chunk {
                let connection = &member.connection;
                let frames = batch.frames(member, connection.dialect());
                if frames.is_empty() {
                    continue;
                }
                let result = match mode {
                    WriteMode::Write => connection.send_all(&frames),
                    WriteMode::Queue => connection.queue_all(&frames),
                };
                match result {
                    Ok(()) => delivered += batch.len() as u64,
                    Err(SendError::Closed | SendError::Slow) => undeliverable += batch.len() as u64,
                }
                if mode == WriteMode::Queue && connection.mark_dirty() {
                    self.dirty.push(Arc::clone(connection));
                }
            }
            self.queued_since_yield += chunk.len() * mode.cost();
            if self.queued_since_yield >= YIELD_AFTER_QUEUED {
                self.queued_since_yield = 0;
                yield_now().await;
            }
        }
        self.shard.counters.deliveries.add(delivered);
        self.shard.counters.undeliverable.add(undeliverable);
    }

    fn queue_frame(&mut self, connection: &Arc<Connection>, frame: WireFrame) {
        // On failure the connection is closing, and its session leaves its topics.
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
        let (mut delivered, mut coalesced, mut undeliverable) = (0, 0, 0);
        let registry = self.shard.registry.lock();
        for id in ids {
            let Some(connection) = registry.get(*id) else {
                undeliverable += 1;
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
                    undeliverable += 1;
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
        counters.undeliverable.add(undeliverable);
    }
}
