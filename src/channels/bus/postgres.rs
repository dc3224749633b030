//! The bus over PostgreSQL: a table of encoded batches and one notification per batch.
//!
//! Messages queued while a batch is being written form the next batch. No timer is involved, so a message
//! reaches the other nodes after two statements, and under load many messages share them. Batches are numbered per node: a
//! writer repeats a batch whose write failed, and readers skip numbers that they have delivered. After a reconnect of the
//! listener, a reader reads what was written since. A node that starts
//! to listen sends `hello` and is ready once the other live nodes have answered: from then on they know that
//! they are not alone.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    select,
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Bus, BusMessage, BusSubscriber, Peers, TopicSubscription,
    message::{decode, encode},
    queue::{MAX_AGE, Queue},
};
use crate::{
    backoff::Backoff,
    lifecycle::ErrorChain,
    model::{NodeId, Topic},
    pg::{
        Connection, Database, PgError,
        listener::NotificationHandler,
        notification::{BusSignal, Notification},
        queries::{
            bus::{self as queries, BusEntry},
            channel_presence::live_nodes,
        },
    },
    telemetry::metric,
};

/// Maximum entries waiting to be read. Beyond it the oldest are dropped and counted.
const MAX_PENDING: usize = 16_384;
/// Entries read per statement. An entry may have 1 MB.
const READ_BATCH_SIZE: usize = 16;
/// Timeout of one statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum wait for the answers to `hello`. A node that has just died does not answer.
const ACK_TIMEOUT: Duration = Duration::from_secs(1);
/// Backoff between failed attempts: doubled each time, with jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
/// Entries before the last delivered one that are read again after a reconnect. Entries of other nodes may have been
/// committed later than one with a higher ID.
const CATCH_UP_OVERLAP: i64 = 256;
/// A node that has sent nothing for this long is forgotten.
const NODE_TTL: Duration = Duration::from_secs(600);
/// Interval between purges of old entries while any exist. Twice per rotation of a partition, so that one
/// purge falls into its first half.
const PURGE_INTERVAL: Duration = Duration::from_secs(9);
/// Purges after the last message; then nothing of it is left.
const PURGE_ROUNDS: u32 = 8;

/// Notifications that have not been handled. Bounded by `MAX_PENDING`.
#[derive(Debug, Default)]
struct PendingNotifications {
    /// Partition number and ID of each entry to read.
    entries: VecDeque<(i16, i64)>,
    /// Another node asked for an answer.
    hello_received: bool,
    /// This node has started to listen and must announce itself.
    connected: bool,
    /// Entries may have been missed.
    catch_up: bool,
}

/// Receives the bus notifications from the listener.
#[derive(Clone)]
pub struct BusNotifications {
    node: NodeId,
    pending: Arc<(Mutex<PendingNotifications>, Notify)>,
    peers: Peers,
}

impl BusNotifications {
    fn request_catch_up(&self) {
        self.pending.0.lock().catch_up = true;
        self.pending.1.notify_one();
    }
}

impl NotificationHandler for BusNotifications {
    fn on_notification(&self, notification: &Notification) {
        let Notification::Bus { from, signal } = *notification else { return };
        if from == self.node {
            return;
        }
        self.peers.seen(from);
        let mut pending = self.pending.0.lock();
        match signal {
            BusSignal::Hello => pending.hello_received = true,
            BusSignal::Entry { slot, id } => {
                pending.entries.push_back((slot, id));
                if pending.entries.len() > MAX_PENDING {
                    pending.entries.pop_front();
                    metrics::counter!(metric::BUS_DROPPED, "cause" => "unread").increment(1);
                }
            }
            BusSignal::Ack => {}
        }
        drop(pending);
        self.pending.1.notify_one();
    }

    fn on_connected(&self) {
        self.pending.0.lock().connected = true;
        self.request_catch_up();
    }

    fn on_disconnected(&self) {}

    // The relay does not carry the bus.
    fn on_missed(&self, _: Instant) {}
}

/// Handle to the bus. Cheap to clone.
#[derive(Clone)]
pub struct PostgresBus {
    queue: Arc<Queue>,
    peers: Peers,
}

impl Bus for PostgresBus {
    fn publish(&self, message: BusMessage) {
        if !self.peers.is_single_node() {
            self.queue.push(message);
        }
    }

    fn subscribe(&self, _: &Topic) -> Option<TopicSubscription> {
        None
    }
}

/// A batch that is being written.
struct Batch {
    /// Increasing on this node.
    number: i64,
    messages: u64,
    payload: Bytes,
    taken_at: Instant,
}

/// Task that writes the queued messages of this node.
pub struct BusWriter {
    node: NodeId,
    database: Database,
    queue: Arc<Queue>,
    /// The batch to write next, if its write failed before.
    unwritten: Option<Batch>,
    /// Number of the last batch.
    last_number: i64,
}

/// What a reader has delivered.
#[derive(Debug, Default)]
struct Delivered {
    /// The highest ID of an entry; `None` before the first connection.
    position: Option<i64>,
    /// The ID at the first connection.
    started_at: i64,
    /// The last batch of each node, and when it was delivered.
    batches: HashMap<NodeId, (i64, Instant)>,
}

impl Delivered {
    /// Whether batches of the node before this one did not arrive.
    fn is_ahead(&self, entry: &BusEntry) -> bool {
        self.batches.get(&entry.node).is_some_and(|(last, _)| entry.batch > last.saturating_add(1))
    }

    /// Records a batch. Returns whether it is new.
    fn add(&mut self, entry: &BusEntry) -> bool {
        self.position = self.position.max(Some(entry.id));
        if !self.batches.contains_key(&entry.node) {
            // Nodes have new IDs after a restart.
            self.batches.retain(|_, (_, at)| at.elapsed() < NODE_TTL);
        }
        let last = self.batches.entry(entry.node).or_insert((i64::MIN, Instant::now()));
        let is_new = entry.batch > last.0;
        if is_new {
            *last = (entry.batch, Instant::now());
        }
        is_new
    }
}

/// Task that reads the messages of other nodes.
pub struct BusReader<H> {
    node: NodeId,
    database: Database,
    notifications: BusNotifications,
    subscriber: H,
    delivered: Delivered,
    ready: watch::Sender<bool>,
}

impl PostgresBus {
    /// Creates the bus, its two tasks and its notification handler.
    #[must_use]
    pub fn new<H: BusSubscriber>(
        node: NodeId,
        database: &Database,
        peers: Peers,
        subscriber: H,
    ) -> (Self, BusNotifications, (BusWriter, BusReader<H>)) {
        let queue = Arc::<Queue>::default();
        let notifications = BusNotifications { node, pending: Arc::default(), peers: peers.clone() };
        let (ready, _) = watch::channel(false);
        (
            Self { queue: queue.clone(), peers },
            notifications.clone(),
            (
                BusWriter { node, database: database.clone(), queue, unwritten: None, last_number: 0 },
                BusReader {
                    node,
                    database: database.clone(),
                    notifications,
                    subscriber,
                    delivered: Delivered::default(),
                    ready,
                },
            ),
        )
    }
}

impl Batch {
    /// Takes the queued messages; `None` if there are none.
    fn take(queue: &Queue, number: i64) -> Option<Self> {
        let messages = queue.take_batch();
        if messages.is_empty() {
            return None;
        }
        metrics::histogram!(metric::BUS_BATCH_SIZE).record(messages.len() as f64);
        let payload = encode(&messages).into();
        Some(Self { number, messages: messages.len() as u64, payload, taken_at: Instant::now() })
    }
}

impl BusWriter {
    /// Writes batches until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut purge = interval(PURGE_INTERVAL);
        purge.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds_left = 0;
        let mut backoff = BACKOFF;
        loop {
            select! {
                () = stop.cancelled() => return,
                _ = purge.tick(), if rounds_left > 0 => {
                    rounds_left -= 1;
                    self.purge().await;
                    continue;
                }
                () = self.wait_for_work() => {}
            }
            rounds_left = PURGE_ROUNDS;
            match self.write_batch().await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "writing a bus batch failed");
                    select! {
                        () = stop.cancelled() => return,
                        () = sleep(backoff.next_delay()) => {}
                    }
                }
            }
        }
    }

    /// Writes one batch. One whose write failed is written again until it is too old: readers skip its number if it was
    /// written after all.
    async fn write_batch(&mut self) -> Result<(), PgError> {
        let (node, number) = (self.node, self.last_number + 1);
        let unwritten = self.unwritten.take().filter(|batch| {
            let is_stale = batch.taken_at.elapsed() > MAX_AGE;
            if is_stale {
                metrics::counter!(metric::BUS_DROPPED, "cause" => "failed").increment(batch.messages);
            }
            !is_stale
        });
        let (batch, queue) = (Mutex::new(unwritten), &self.queue);
        let post = |connection: Connection| async {
            let connection = connection;
            // Taken once there is a connection, so that messages wait in the queue while there is none.
            let current = batch.lock().take().or_else(|| Batch::take(queue, number));
            let Some(current) = current else { return Ok(()) };
            let (number, payload) = (current.number, current.payload.clone());
            *batch.lock() = Some(current);
            queries::post(&connection, node, number, &payload).await
        };
        let posted = self.database.within(STATEMENT_TIMEOUT, post).await;
        if let Some(batch) = batch.into_inner() {
            self.last_number = batch.number;
            if posted.is_ok() {
                metrics::counter!(metric::BUS_MESSAGES_SENT).increment(batch.messages);
            } else {
                self.unwritten = Some(batch);
            }
        }
        posted
    }

    async fn wait_for_work(&self) {
        if self.unwritten.is_none() {
            self.queue.wait_until_nonempty().await;
        }
    }

    async fn purge(&self) {
        let purge = |connection| async move { queries::purge(&connection).await };
        if let Err(error) = self.database.within(STATEMENT_TIMEOUT, purge).await {
            tracing::debug!(error = %ErrorChain(&error), "purging bus entries failed");
        }
    }
}

impl<H: BusSubscriber> BusReader<H> {
    /// Becomes true once the other nodes know of this one, and stays true.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Handles notifications until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut backoff = BACKOFF;
        loop {
            let work = async {
                let pending = self.next_pending().await;
                self.handle(pending).await
            };
            let done = select! {
                () = stop.cancelled() => return,
                done = work => done,
            };
            let Err(error) = done else {
                backoff.reset();
                continue;
            };
            tracing::warn!(error = %ErrorChain(&error), "handling bus notifications failed");
            select! {
                () = stop.cancelled() => return,
                () = sleep(backoff.next_delay()) => {}
            }
        }
    }

    async fn next_pending(&self) -> PendingNotifications {
        let (pending, wake) = &*self.notifications.pending;
        loop {
            let notified = wake.notified();
            {
                let mut pending = pending.lock();
                if pending.hello_received
                    || pending.connected
                    || pending.catch_up
                    || !pending.entries.is_empty()
                {
                    let now = pending.entries.len().min(READ_BATCH_SIZE);
                    if pending.entries.len() > now {
                        wake.notify_one();
                    }
                    let entries = pending.entries.drain(..now).collect();
                    let (hello_received, connected) = (pending.hello_received, pending.connected);
                    let catch_up = std::mem::take(&mut pending.catch_up);
                    (pending.hello_received, pending.connected) = (false, false);
                    return PendingNotifications { entries, hello_received, connected, catch_up };
                }
            }
            notified.await;
        }
    }

    async fn handle(&mut self, pending: PendingNotifications) -> Result<(), PgError> {
        if let Err(error) = self.read(pending.entries, pending.catch_up).await {
            // The entries stay in their table for half a minute.
            self.notifications.request_catch_up();
            if pending.connected {
                self.notifications.on_connected();
            }
            return Err(error);
        }
        if pending.hello_received {
            self.notify_nodes(BusSignal::Ack).await?;
        }
        if pending.connected
            && let Err(error) = self.announce().await
        {
            self.notifications.on_connected();
            return Err(error);
        }
        Ok(())
    }

    async fn read(&mut self, entries: VecDeque<(i16, i64)>, catch_up: bool) -> Result<(), PgError> {
        if catch_up {
            self.catch_up().await?;
        }
        self.read_entries(entries).await
    }

    /// Reads entries and delivers their messages.
    async fn read_entries(&mut self, entries: VecDeque<(i16, i64)>) -> Result<(), PgError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut slots: Vec<i16> = entries.iter().map(|(slot, _)| *slot).collect();
        slots.dedup();
        let ids: Vec<i64> = entries.iter().map(|(_, id)| *id).collect();
        let (slots, read_ids) = (&slots, &ids);
        let read = |connection| async move { queries::read(&connection, slots, read_ids).await };
        let read = self.database.within(STATEMENT_TIMEOUT, read).await?;
        metrics::counter!(metric::BUS_DROPPED, "cause" => "missed")
            .increment((ids.len() - read.len()) as u64);
        for entry in read {
            self.deliver(entry).await;
        }
        Ok(())
    }

    /// Delivers what was written while notifications may have been missed. Entries commit in the order of their IDs per
    /// node, but not across nodes, so reading starts some IDs earlier.
    async fn catch_up(&mut self) -> Result<(), PgError> {
        let own = self.node;
        let position = |connection| async move { queries::position(&connection).await };
        let last = self.database.within(STATEMENT_TIMEOUT, position).await?;
        let Some(position) = self.delivered.position else {
            self.delivered.position = Some(last);
            self.delivered.started_at = last;
            return Ok(());
        };
        // A restored database counts from an earlier ID.
        let position = position.min(last);
        self.delivered.started_at = self.delivered.started_at.min(position);
        self.delivered.position = Some(position);
        let mut after = (position - CATCH_UP_OVERLAP).max(self.delivered.started_at);
        loop {
            let read = |connection| async move { queries::read_after(&connection, after, own).await };
            let entries = self.database.within(STATEMENT_TIMEOUT, read).await?;
            let Some(end) = entries.last().map(|entry| entry.id) else { return Ok(()) };
            after = end;
            for entry in entries {
                self.deliver(entry).await;
            }
        }
    }

    async fn deliver(&mut self, entry: BusEntry) {
        let lost = self.delivered.is_ahead(&entry);
        if !self.delivered.add(&entry) {
            return;
        }
        if lost {
            self.subscriber.on_lost();
        }
        for message in decode(entry.payload) {
            match message {
                Some(message) => {
                    metrics::counter!(metric::BUS_MESSAGES_RECEIVED).increment(1);
                    self.subscriber.on_message(entry.node, message).await;
                }
                None => tracing::warn!("cannot decode an entry of rollcall_internal.bus"),
            }
        }
    }

    async fn notify_nodes(&self, signal: BusSignal) -> Result<(), PgError> {
        let node = self.node;
        let notify = |connection| async move { queries::notify(&connection, node, signal).await };
        self.database.within(STATEMENT_TIMEOUT, notify).await
    }

    /// Announces this node and waits for the answers of the live nodes.
    async fn announce(&self) -> Result<(), PgError> {
        let read = |connection| async move { live_nodes(&connection).await };
        let live = self.database.within(STATEMENT_TIMEOUT, read).await?;
        let others: HashSet<NodeId> =
            live.into_iter().map(|live| live.node).filter(|node| *node != self.node).collect();
        let since = Instant::now();
        self.notify_nodes(BusSignal::Hello).await?;
        if !self.notifications.peers.wait_until_seen(&others, since, ACK_TIMEOUT).await {
            tracing::info!("a live node did not answer hello");
        }
        self.ready.send_replace(true);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_was_written_twice_is_delivered_once() {
        let (mut delivered, node) = (Delivered::default(), NodeId::random());
        let entry = |id, node, batch| BusEntry { id, node, batch, payload: Vec::new() };
        assert!(delivered.add(&entry(10, node, 1)));
        assert!(!delivered.is_ahead(&entry(12, node, 2)) && delivered.is_ahead(&entry(12, node, 3)));
        assert!(delivered.add(&entry(12, node, 2)));
        // The first write of batch 2, which was committed late.
        assert!(!delivered.add(&entry(11, node, 2)));
        assert!(!delivered.add(&entry(13, node, 1)));
        assert!(delivered.add(&entry(9, NodeId::random(), 1)));
        assert_eq!(delivered.position, Some(13));
    }
}
