//! The bus over PostgreSQL: an outbox of which one notification a batch tells.
//!
//! What is said while a batch is being written becomes the next batch: no timer, so a message is with the other nodes
//! after two statements, and under load many share them. A node that begins to listen calls out, and is ready once the
//! others have answered: from then on they know that they are not alone.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rand::Rng;
use tokio::{
    select,
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Bus, BusMessage, BusSubscriber, Peers,
    message::{decode, encode},
    queue::Queue,
};
use crate::{
    model::NodeId,
    pg::{
        Database, PgError,
        listener::{BUS, NotificationHandler},
        queries::{bus as queries, channel_presence::live_nodes},
    },
    telemetry::metric,
};

/// Entries that may wait to be read. Over it the oldest are given up, and counted.
const MAX_PENDING: usize = 16_384;
/// Entries read at once; each may have a megabyte.
const READ_BATCH_SIZE: usize = 16;
/// How long a statement may take.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node waits at most for the others' answers: one that has just died will not give any.
const ACK_TIMEOUT: Duration = Duration::from_secs(1);
/// Between attempts: doubling, with jitter.
const INITIAL_BACKOFF: Duration = Duration::from_millis(20);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// How often what is old is emptied, while there is anything: twice in a turn of a part, so that once meets its first half.
const PURGE_INTERVAL: Duration = Duration::from_secs(9);
/// After so many rounds without a message nothing is left of the last.
const PURGE_ROUNDS: u32 = 8;

/// Words that nodes call out: each with the node's id before it.
const HELLO: &str = "hello";
const ACK: &str = "here";

/// What was heard and not yet acted upon. Bounded.
#[derive(Debug, Default)]
struct PendingNotifications {
    /// Entries: part and id.
    entries: VecDeque<(i16, i64)>,
    /// Somebody called, and wants an answer.
    hello_received: bool,
    /// This node has begun to listen.
    connected: bool,
}

/// The listener's end of the bus.
#[derive(Clone)]
pub struct BusNotifications {
    node: NodeId,
    pending: Arc<(Mutex<PendingNotifications>, Notify)>,
    peers: Peers,
}

impl NotificationHandler for BusNotifications {
    fn on_notification(&self, channel: &str, payload: &str) {
        if channel != BUS {
            return;
        }
        let mut words = payload.split(' ');
        let Some(from) = words.next().and_then(|node| node.parse().ok()).map(NodeId) else { return };
        if from == self.node {
            return;
        }
        self.peers.seen(from);
        let mut heard = self.pending.0.lock();
        match (words.next(), words.next()) {
            (Some(HELLO), _) => heard.hello_received = true,
            (Some(slot), Some(id)) => {
                let (Ok(slot), Ok(id)) = (slot.parse(), id.parse()) else { return };
                heard.entries.push_back((slot, id));
                if heard.entries.len() > MAX_PENDING {
                    heard.entries.pop_front();
                    metrics::counter!(metric::BUS_DROPPED, "cause" => "unread").increment(1);
                }
            }
            _ => {}
        }
        drop(heard);
        self.pending.1.notify_one();
    }

    fn on_connected(&self) {
        self.pending.0.lock().connected = true;
        self.pending.1.notify_one();
    }

    fn on_disconnected(&self) {}
}

/// A handle to the bus. Cheap to clone.
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

/// The task that writes what this node says.
pub struct BusWriter {
    node: NodeId,
    database: Database,
    queue: Arc<Queue>,
}

/// The task that reads what the others say.
pub struct BusReader<H> {
    node: NodeId,
    database: Database,
    notifications: BusNotifications,
    subscriber: H,
    ready: watch::Sender<bool>,
}

/// Makes a bus with its two tasks and its end for the listener.
#[must_use]
pub fn postgres_bus<H: BusSubscriber>(
    node: NodeId,
    database: &Database,
    neighbours: Peers,
    hearer: H,
) -> (PostgresBus, BusWriter, BusReader<H>, BusNotifications) {
    let queue = Arc::<Queue>::default();
    let ears = BusNotifications { node, pending: Arc::default(), peers: neighbours.clone() };
    let (ready, _) = watch::channel(false);
    (
        PostgresBus { queue: queue.clone(), peers: neighbours },
        BusWriter { node, database: database.clone(), queue },
        BusReader {
            node,
            database: database.clone(),
            notifications: ears.clone(),
            subscriber: hearer,
            ready,
        },
        ears,
    )
}

impl BusWriter {
    /// Writes until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut tidy = interval(PURGE_INTERVAL);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds_left = 0;
        let mut retry = INITIAL_BACKOFF;
        loop {
            select! {
                () = stop.cancelled() => return,
                _ = tidy.tick(), if rounds_left > 0 => {
                    rounds_left -= 1;
                    self.purge().await;
                    continue;
                }
                () = self.queue.wait_until_nonempty() => {}
            }
            rounds_left = PURGE_ROUNDS;
            match self.write_batch().await {
                Ok(()) => retry = INITIAL_BACKOFF,
                Err(error) => {
                    tracing::warn!(error = ?error, "could not tell the other nodes what was said");
                    let pause = retry.mul_f64(rand::rng().random_range(0.5..1.0));
                    select! {
                        () = stop.cancelled() => return,
                        () = sleep(pause) => {}
                    }
                    retry = (retry * 2).min(MAX_BACKOFF);
                }
            }
        }
    }

    /// Writes one batch. What was sent and not answered is not sent again: it may have been told.
    async fn write_batch(&self) -> Result<(), PgError> {
        let connection = self.database.server_connection().await?;
        let messages = self.queue.take_batch();
        if messages.is_empty() {
            return Ok(());
        }
        metrics::histogram!(metric::BUS_BATCH_SIZE).record(messages.len() as f64);
        let post = async { queries::post(&connection, self.node, &encode(&messages)).await };
        let posted = with_timeout(post).await;
        let count = messages.len() as u64;
        match &posted {
            Ok(()) => metrics::counter!(metric::BUS_MESSAGES_SENT).increment(count),
            Err(_) => metrics::counter!(metric::BUS_DROPPED, "cause" => "failed").increment(count),
        }
        posted
    }

    async fn purge(&self) {
        let tidy = async { queries::purge(&self.database.server_connection().await?).await };
        if let Err(error) = with_timeout(tidy).await {
            tracing::debug!(error = ?error, "could not empty what is old on the bus");
        }
    }
}

impl<H: BusSubscriber> BusReader<H> {
    /// Turns true, and stays so, once the other nodes know of this one.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Reads until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut retry = INITIAL_BACKOFF;
        loop {
            let work = async {
                let heard = self.next_pending().await;
                self.handle(heard).await
            };
            let done = select! {
                () = stop.cancelled() => return,
                done = work => done,
            };
            let Err(error) = done else {
                retry = INITIAL_BACKOFF;
                continue;
            };
            tracing::warn!(error = ?error, "could not hear what other nodes said");
            let pause = retry.mul_f64(rand::rng().random_range(0.5..1.0));
            select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
            retry = (retry * 2).min(MAX_BACKOFF);
        }
    }

    async fn next_pending(&self) -> PendingNotifications {
        let (heard, wake) = &*self.notifications.pending;
        loop {
            let woken = wake.notified();
            {
                let mut heard = heard.lock();
                if heard.hello_received || heard.connected || !heard.entries.is_empty() {
                    let now = heard.entries.len().min(READ_BATCH_SIZE);
                    if heard.entries.len() > now {
                        wake.notify_one();
                    }
                    let entries = heard.entries.drain(..now).collect();
                    let (called, listening) = (heard.hello_received, heard.connected);
                    (heard.hello_received, heard.connected) = (false, false);
                    return PendingNotifications { entries, hello_received: called, connected: listening };
                }
            }
            woken.await;
        }
    }

    async fn handle(&self, heard: PendingNotifications) -> Result<(), PgError> {
        let done = self.deliver_entries(heard.entries).await;
        if heard.hello_received {
            self.notify_nodes(ACK).await?;
        }
        if heard.connected
            && let Err(error) = self.announce().await
        {
            self.notifications.on_connected();
            return Err(error);
        }
        done
    }

    /// Reads entries and hands on what they say. What cannot be read is missed.
    async fn deliver_entries(&self, entries: VecDeque<(i16, i64)>) -> Result<(), PgError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut slots: Vec<i16> = entries.iter().map(|(slot, _)| *slot).collect();
        slots.dedup();
        let ids: Vec<i64> = entries.iter().map(|(_, id)| *id).collect();
        let read = async { queries::read(&self.database.server_connection().await?, &slots, &ids).await };
        let read = with_timeout(read).await;
        let missed = ids.len() - read.as_ref().map_or(0, Vec::len);
        metrics::counter!(metric::BUS_DROPPED, "cause" => "missed").increment(missed as u64);
        for message in read?.into_iter().flat_map(decode) {
            match message {
                Some(message) => {
                    metrics::counter!(metric::BUS_MESSAGES_RECEIVED).increment(1);
                    self.subscriber.on_message(message).await;
                }
                None => tracing::warn!("an entry of rollcall.bus makes no sense"),
            }
        }
        Ok(())
    }

    async fn notify_nodes(&self, word: &str) -> Result<(), PgError> {
        let word = format!("{} {word}", self.node);
        with_timeout(async { queries::notify(&self.database.server_connection().await?, &word).await }).await
    }

    /// Makes itself known, and waits for the others' answers.
    async fn announce(&self) -> Result<(), PgError> {
        let living =
            with_timeout(async { live_nodes(&self.database.server_connection().await?).await }).await?;
        let others: HashSet<NodeId> =
            living.into_iter().map(|living| living.node).filter(|node| *node != self.node).collect();
        let called_at = Instant::now();
        self.notify_nodes(HELLO).await?;
        if !self.notifications.peers.wait_until_seen(&others, called_at, ACK_TIMEOUT).await {
            tracing::info!("a node whose lease has not lapsed does not answer");
        }
        self.ready.send_replace(true);
        Ok(())
    }
}

async fn with_timeout<T>(work: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
    timeout(STATEMENT_TIMEOUT, work)
        .await
        .unwrap_or_else(|_| Err(PgError::Unavailable("no answer in time".into())))
}
