//! The bus over PostgreSQL: a table of encoded batches and one notification per batch.
//!
//! Messages queued while a batch is being written form the next batch. No timer is involved, so a message
//! reaches the other nodes after two statements, and under load many messages share them. A node that starts
//! to listen sends `hello` and is ready once the other live nodes have answered: from then on they know that
//! they are not alone.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    select,
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Bus, BusMessage, BusSubscriber, Peers,
    message::{decode, encode},
    queue::Queue,
};
use crate::{
    backoff::Backoff,
    lifecycle::ErrorChain,
    model::NodeId,
    pg::{
        Connection, Database, PgError,
        listener::NotificationHandler,
        notification::{BusSignal, Notification},
        queries::{bus as queries, channel_presence::live_nodes},
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
}

/// Receives the bus notifications from the listener.
#[derive(Clone)]
pub struct BusNotifications {
    node: NodeId,
    pending: Arc<(Mutex<PendingNotifications>, Notify)>,
    peers: Peers,
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
        self.pending.1.notify_one();
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
}

/// Task that writes the queued messages of this node.
pub struct BusWriter {
    node: NodeId,
    database: Database,
    queue: Arc<Queue>,
}

/// Task that reads the messages of other nodes.
pub struct BusReader<H> {
    node: NodeId,
    database: Database,
    notifications: BusNotifications,
    subscriber: H,
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
                BusWriter { node, database: database.clone(), queue },
                BusReader { node, database: database.clone(), notifications, subscriber, ready },
            ),
        )
    }
}

impl BusWriter {
    /// Writes batches until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
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
                () = self.queue.wait_until_nonempty() => {}
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

    /// Writes one batch. A batch whose result is unknown is not sent again, because it may have been
    /// delivered.
    async fn write_batch(&self) -> Result<(), PgError> {
        let count = AtomicU64::new(0);
        let post = |connection: Connection| async {
            let connection = connection;
            // Taken once there is a connection, so that messages wait in the queue while there is none.
            let messages = self.queue.take_batch();
            if messages.is_empty() {
                return Ok(());
            }
            count.store(messages.len() as u64, Ordering::Relaxed);
            metrics::histogram!(metric::BUS_BATCH_SIZE).record(messages.len() as f64);
            queries::post(&connection, self.node, &encode(&messages)).await
        };
        let posted = self.database.within(STATEMENT_TIMEOUT, post).await;
        let count = count.into_inner();
        match &posted {
            Ok(()) => metrics::counter!(metric::BUS_MESSAGES_SENT).increment(count),
            Err(_) => metrics::counter!(metric::BUS_DROPPED, "cause" => "failed").increment(count),
        }
        posted
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
    pub async fn run(self, stop: CancellationToken) {
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
                if pending.hello_received || pending.connected || !pending.entries.is_empty() {
                    let now = pending.entries.len().min(READ_BATCH_SIZE);
                    if pending.entries.len() > now {
                        wake.notify_one();
                    }
                    let entries = pending.entries.drain(..now).collect();
                    let (hello_received, connected) = (pending.hello_received, pending.connected);
                    (pending.hello_received, pending.connected) = (false, false);
                    return PendingNotifications { entries, hello_received, connected };
                }
            }
            notified.await;
        }
    }

    async fn handle(&self, pending: PendingNotifications) -> Result<(), PgError> {
        let done = self.deliver_entries(pending.entries).await;
        if pending.hello_received {
            self.notify_nodes(BusSignal::Ack).await?;
        }
        if pending.connected
            && let Err(error) = self.announce().await
        {
            self.notifications.on_connected();
            return Err(error);
        }
        done
    }

    /// Reads entries and delivers their messages. Entries that cannot be read are counted as missed.
    async fn deliver_entries(&self, entries: VecDeque<(i16, i64)>) -> Result<(), PgError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut slots: Vec<i16> = entries.iter().map(|(slot, _)| *slot).collect();
        slots.dedup();
        let ids: Vec<i64> = entries.iter().map(|(_, id)| *id).collect();
        let (slots, read_ids) = (&slots, &ids);
        let read = |connection| async move { queries::read(&connection, slots, read_ids).await };
        let read = self.database.within(STATEMENT_TIMEOUT, read).await;
        let missed = ids.len() - read.as_ref().map_or(0, Vec::len);
        metrics::counter!(metric::BUS_DROPPED, "cause" => "missed").increment(missed as u64);
        for message in read?.into_iter().flat_map(decode) {
            match message {
                Some(message) => {
                    metrics::counter!(metric::BUS_MESSAGES_RECEIVED).increment(1);
                    self.subscriber.on_message(message).await;
                }
                None => tracing::warn!("cannot decode an entry of rollcall_internal.bus"),
            }
        }
        Ok(())
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
