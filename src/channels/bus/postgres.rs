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
    Bus, Hearer, Message, Neighbours,
    message::{decode, encode},
    queue::Queue,
};
use crate::{
    model::NodeId,
    pg::{
        Database, PgError,
        listener::{Audience, BUS},
        queries::{bus as queries, channel_presence::living_nodes},
    },
    telemetry::metric,
};

/// Entries that may wait to be read. Over it the oldest are given up, and counted.
const MOST_WAITING: usize = 16_384;
/// Entries read at once; each may have a megabyte.
const READ_AT_ONCE: usize = 16;
/// How long a statement may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a node waits at most for the others' answers: one that has just died will not give any.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);
/// Between attempts: doubling, with jitter.
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(2);
/// How often what is old is emptied, while there is anything: twice in a turn of a part, so that once meets its first half.
const TIDY_EVERY: Duration = Duration::from_secs(9);
/// After so many rounds without a message nothing is left of the last.
const TIDY_ROUNDS: u32 = 8;

/// Words that nodes call out: each with the node's id before it.
const HELLO: &str = "hello";
const HERE: &str = "here";

/// What was heard and not yet acted upon. Bounded.
#[derive(Debug, Default)]
struct Heard {
    /// Entries: part and id.
    entries: VecDeque<(i16, i64)>,
    /// Somebody called, and wants an answer.
    called: bool,
    /// This node has begun to listen.
    listening: bool,
}

/// The listener's end of the bus.
#[derive(Clone)]
pub struct BusEars {
    node: NodeId,
    heard: Arc<(Mutex<Heard>, Notify)>,
    neighbours: Neighbours,
}

impl Audience for BusEars {
    fn heard(&self, channel: &str, payload: &str) {
        if channel != BUS {
            return;
        }
        let mut words = payload.split(' ');
        let Some(from) = words.next().and_then(|node| node.parse().ok()).map(NodeId) else { return };
        if from == self.node {
            return;
        }
        self.neighbours.met(from);
        let mut heard = self.heard.0.lock();
        match (words.next(), words.next()) {
            (Some(HELLO), _) => heard.called = true,
            (Some(slot), Some(id)) => {
                let (Ok(slot), Ok(id)) = (slot.parse(), id.parse()) else { return };
                heard.entries.push_back((slot, id));
                if heard.entries.len() > MOST_WAITING {
                    heard.entries.pop_front();
                    metrics::counter!(metric::BUS_DROPPED, "cause" => "unread").increment(1);
                }
            }
            _ => {}
        }
        drop(heard);
        self.heard.1.notify_one();
    }

    fn listening(&self) {
        self.heard.0.lock().listening = true;
        self.heard.1.notify_one();
    }

    fn deaf(&self) {}
}

/// A handle to the bus. Cheap to clone.
#[derive(Clone)]
pub struct PostgresBus {
    queue: Arc<Queue>,
    neighbours: Neighbours,
}

impl Bus for PostgresBus {
    fn publish(&self, message: Message) {
        if !self.neighbours.is_alone() {
            self.queue.push(message);
        }
    }
}

/// The task that writes what this node says.
pub struct Sender {
    node: NodeId,
    database: Database,
    queue: Arc<Queue>,
}

/// The task that reads what the others say.
pub struct Receiver<H> {
    node: NodeId,
    database: Database,
    ears: BusEars,
    hearer: H,
    ready: watch::Sender<bool>,
}

/// Makes a bus with its two tasks and its end for the listener.
#[must_use]
pub fn postgres_bus<H: Hearer>(
    node: NodeId,
    database: &Database,
    neighbours: Neighbours,
    hearer: H,
) -> (PostgresBus, Sender, Receiver<H>, BusEars) {
    let queue = Arc::<Queue>::default();
    let ears = BusEars { node, heard: Arc::default(), neighbours: neighbours.clone() };
    let (ready, _) = watch::channel(false);
    (
        PostgresBus { queue: queue.clone(), neighbours },
        Sender { node, database: database.clone(), queue },
        Receiver { node, database: database.clone(), ears: ears.clone(), hearer, ready },
        ears,
    )
}

impl Sender {
    /// Writes until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut tidy = interval(TIDY_EVERY);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds_left = 0;
        let mut retry = FIRST_RETRY;
        loop {
            select! {
                () = stop.cancelled() => return,
                _ = tidy.tick(), if rounds_left > 0 => {
                    rounds_left -= 1;
                    self.tidy().await;
                    continue;
                }
                () = self.queue.filled() => {}
            }
            rounds_left = TIDY_ROUNDS;
            match self.write().await {
                Ok(()) => retry = FIRST_RETRY,
                Err(error) => {
                    tracing::warn!(error = ?error, "could not tell the other nodes what was said");
                    let pause = retry.mul_f64(rand::rng().random_range(0.5..1.0));
                    select! {
                        () = stop.cancelled() => return,
                        () = sleep(pause) => {}
                    }
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    /// Writes one batch. What was sent and not answered is not sent again: it may have been told.
    async fn write(&self) -> Result<(), PgError> {
        let connection = self.database.own().await?;
        let messages = self.queue.take();
        if messages.is_empty() {
            return Ok(());
        }
        metrics::histogram!(metric::BUS_BATCH_SIZE).record(messages.len() as f64);
        let post = async { queries::post(&connection, self.node, &encode(&messages)).await };
        let posted = patiently(post).await;
        let count = messages.len() as u64;
        match &posted {
            Ok(()) => metrics::counter!(metric::BUS_SENT).increment(count),
            Err(_) => metrics::counter!(metric::BUS_DROPPED, "cause" => "failed").increment(count),
        }
        posted
    }

    async fn tidy(&self) {
        let tidy = async { queries::tidy(&self.database.own().await?).await };
        if let Err(error) = patiently(tidy).await {
            tracing::debug!(error = ?error, "could not empty what is old on the bus");
        }
    }
}

impl<H: Hearer> Receiver<H> {
    /// Turns true, and stays so, once the other nodes know of this one.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Reads until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut retry = FIRST_RETRY;
        loop {
            let work = async {
                let heard = self.next().await;
                self.act(heard).await
            };
            let done = select! {
                () = stop.cancelled() => return,
                done = work => done,
            };
            let Err(error) = done else {
                retry = FIRST_RETRY;
                continue;
            };
            tracing::warn!(error = ?error, "could not hear what other nodes said");
            let pause = retry.mul_f64(rand::rng().random_range(0.5..1.0));
            select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    async fn next(&self) -> Heard {
        let (heard, wake) = &*self.ears.heard;
        loop {
            let woken = wake.notified();
            {
                let mut heard = heard.lock();
                if heard.called || heard.listening || !heard.entries.is_empty() {
                    let now = heard.entries.len().min(READ_AT_ONCE);
                    if heard.entries.len() > now {
                        wake.notify_one();
                    }
                    let entries = heard.entries.drain(..now).collect();
                    let (called, listening) = (heard.called, heard.listening);
                    (heard.called, heard.listening) = (false, false);
                    return Heard { entries, called, listening };
                }
            }
            woken.await;
        }
    }

    async fn act(&self, heard: Heard) -> Result<(), PgError> {
        let done = self.read(heard.entries).await;
        if heard.called {
            self.call(HERE).await?;
        }
        if heard.listening
            && let Err(error) = self.announce().await
        {
            self.ears.listening();
            return Err(error);
        }
        done
    }

    /// Reads entries and hands on what they say. What cannot be read is missed.
    async fn read(&self, entries: VecDeque<(i16, i64)>) -> Result<(), PgError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut slots: Vec<i16> = entries.iter().map(|(slot, _)| *slot).collect();
        slots.dedup();
        let ids: Vec<i64> = entries.iter().map(|(_, id)| *id).collect();
        let read = async { queries::read(&self.database.own().await?, &slots, &ids).await };
        let read = patiently(read).await;
        let missed = ids.len() - read.as_ref().map_or(0, Vec::len);
        metrics::counter!(metric::BUS_DROPPED, "cause" => "missed").increment(missed as u64);
        for message in read?.into_iter().flat_map(decode) {
            match message {
                Some(message) => {
                    metrics::counter!(metric::BUS_HEARD).increment(1);
                    self.hearer.hear(message).await;
                }
                None => tracing::warn!("an entry of rollcall.bus makes no sense"),
            }
        }
        Ok(())
    }

    async fn call(&self, word: &str) -> Result<(), PgError> {
        let word = format!("{} {word}", self.node);
        patiently(async { queries::call(&self.database.own().await?, &word).await }).await
    }

    /// Makes itself known, and waits for the others' answers.
    async fn announce(&self) -> Result<(), PgError> {
        let living = patiently(async { living_nodes(&self.database.own().await?).await }).await?;
        let others: HashSet<NodeId> =
            living.into_iter().map(|living| living.node).filter(|node| *node != self.node).collect();
        let called_at = Instant::now();
        self.call(HELLO).await?;
        if !self.ears.neighbours.have_been_met(&others, called_at, ANSWER_PATIENCE).await {
            tracing::info!("a node whose lease has not lapsed does not answer");
        }
        self.ready.send_replace(true);
        Ok(())
    }
}

async fn patiently<T>(work: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(PgError::Unavailable("no answer in time".into())))
}
