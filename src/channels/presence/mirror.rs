//! Who is present on the other nodes, as their rows say.
//!
//! A node's rows change and the others are told which in one transaction, and each of them reads those rows: state, not
//! history, so whatever is missed is made good by reading again. All rows of a node are read when this node starts or
//! had lost its connection, and when that node wrote them anew. A node whose lease has lapsed has nobody present; one
//! that has just lost its rows with the database keeps whom it had until it has written them again.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rand::Rng;
use tokio::{
    select,
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{ChannelPresence, Key, Member, Meta, Payload, PhxRef, rows::Rows};
use crate::{
    channels::{ChannelId, Room, bus::Neighbours},
    hub::HubStopped,
    model::NodeId,
    pg::{
        Database, PgError,
        listener::{Audience, CHANNELS},
        queries::channel_presence::{self as queries, PresenceRow},
    },
    telemetry::metric,
};

/// Channels of one node that may wait to be read; over it all of the node's are.
const MOST_WAITING: usize = 4_096;
/// Channels that are read at once.
const READ_AT_ONCE: usize = 512;
/// How long one of the statements may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between attempts: doubling, with jitter.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// What was heard of one node and not yet acted upon.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// These channels changed.
    Some(HashSet<i64>),
    /// Everything was written anew.
    All,
    /// It took its leave.
    Gone,
}

#[derive(Default)]
struct Waiting {
    nodes: HashMap<NodeId, News>,
    /// Something may have been missed.
    missed: bool,
}

/// What was heard and not yet acted upon. Bounded: it merges.
#[derive(Default)]
pub struct MirrorInbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

impl MirrorInbox {
    fn heard(&self, payload: &str) {
        let Some((node, what)) = payload.split_once(' ') else { return };
        let Ok(node) = node.parse::<NodeId>() else { return };
        let mut waiting = self.waiting.lock();
        let news = waiting.nodes.entry(node).or_insert_with(|| News::Some(HashSet::new()));
        match (what, &mut *news) {
            ("gone", _) => *news = News::Gone,
            ("*", _) => *news = News::All,
            (_, News::All) => {}
            // It is back: whatever it wrote after its leave is read with the rest.
            (_, News::Gone) => *news = News::All,
            (channels, News::Some(known)) => {
                known.extend(channels.split(',').filter_map(|channel| channel.parse::<i64>().ok()));
                if known.len() > MOST_WAITING {
                    *news = News::All;
                }
            }
        }
        drop(waiting);
        self.wake.notify_one();
    }

    async fn woken(&self) {
        loop {
            let woken = self.wake.notified();
            {
                let waiting = self.waiting.lock();
                if waiting.missed || !waiting.nodes.is_empty() {
                    return;
                }
            }
            woken.await;
        }
    }

    fn take(&self) -> Waiting {
        std::mem::take(&mut *self.waiting.lock())
    }

    fn missed(&self) {
        self.waiting.lock().missed = true;
        self.wake.notify_one();
    }
}

/// The listener's end of a [`MirrorInbox`].
pub struct MirrorEars(pub Arc<MirrorInbox>);

impl Audience for MirrorEars {
    fn heard(&self, channel: &str, payload: &str) {
        if channel == CHANNELS {
            self.0.heard(payload);
        }
    }

    fn listening(&self) {
        self.0.missed();
    }

    fn deaf(&self) {}
}

/// What this node believes of another.
#[derive(Default)]
struct Peer {
    /// Of the rows that were read as a whole last.
    generation: Option<String>,
    present: HashMap<i64, (Room, Key)>,
}

/// Why a round did not come to its end.
enum Stop {
    /// It may be tried again.
    Database(PgError),
    /// There is nobody left to tell.
    Hub,
}

impl From<PgError> for Stop {
    fn from(error: PgError) -> Self {
        Self::Database(error)
    }
}

impl From<HubStopped> for Stop {
    fn from(_: HubStopped) -> Self {
        Self::Hub
    }
}

type Changes = HashMap<Room, Vec<(Key, Member, Option<Meta>)>>;

/// The task that follows the other nodes.
pub struct Mirror {
    node: NodeId,
    presence: ChannelPresence,
    rows: Rows,
    database: Database,
    inbox: Arc<MirrorInbox>,
    neighbours: Neighbours,
    /// How often it looks for nodes that have come and gone by themselves.
    look_every: Duration,
    peers: HashMap<NodeId, Peer>,
    ready: watch::Sender<bool>,
}

impl Mirror {
    /// Makes the task, which also tells `neighbours` who lives; `lease` is how long a silent node counts as alive.
    #[must_use]
    pub fn new(
        node: NodeId,
        presence: ChannelPresence,
        rows: Rows,
        database: Database,
        inbox: Arc<MirrorInbox>,
        neighbours: Neighbours,
        lease: Duration,
    ) -> Self {
        let (ready, _) = watch::channel(false);
        let look_every = lease / 3;
        Self { node, presence, rows, database, inbox, neighbours, look_every, peers: HashMap::new(), ready }
    }

    /// Turns true, and stays so, once everybody who is present elsewhere is known.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Follows the other nodes until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut retry = FIRST_RETRY;
        let mut look_at = self.next_look();
        loop {
            let look = select! {
                () = stop.cancelled() => return,
                () = sleep_until(look_at) => true,
                () = self.inbox.woken() => false,
            };
            if look {
                look_at = self.next_look();
            }
            let news = self.inbox.take();
            let missed = news.missed;
            let done = select! {
                () = stop.cancelled() => return,
                done = self.round(news, look) => done,
            };
            match done {
                Ok(()) => {
                    retry = FIRST_RETRY;
                    if missed {
                        self.ready.send_replace(true);
                    }
                }
                Err(Stop::Hub) => return,
                Err(Stop::Database(error)) => {
                    tracing::warn!(error = ?error, "could not read who is present on other nodes");
                    let pause = retry.mul_f64(rand::rng().random_range(0.5..1.0));
                    select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                    retry = (retry * 2).min(LAST_RETRY);
                    // What was taken is lost: everything is read again.
                    self.inbox.missed();
                }
            }
        }
    }

    fn next_look(&self) -> Instant {
        Instant::now() + self.look_every.mul_f64(rand::rng().random_range(0.8..1.0))
    }

    async fn round(&mut self, news: Waiting, look: bool) -> Result<(), Stop> {
        let mut everything = HashSet::new();
        for (node, news) in news.nodes {
            match news {
                _ if node == self.node => {}
                News::Gone => self.gone(node).await?,
                News::All => _ = everything.insert(node),
                // Whoever was never read as a whole will be.
                News::Some(channels) if self.peers.contains_key(&node) => self.some(node, channels).await?,
                News::Some(_) => _ = everything.insert(node),
            }
        }
        if news.missed || look || !everything.is_empty() {
            self.look(news.missed, &everything).await?;
        }
        Ok(())
    }

    /// Looks who lives, and reads whom it has not read, or has not read since something was missed.
    async fn look(&mut self, mut missed: bool, written_anew: &HashSet<NodeId>) -> Result<(), Stop> {
        let mut living =
            patiently(async { queries::living_nodes(&self.database.own().await?).await }).await?;
        let own =
            living.iter().position(|living| living.node == self.node).map(|own| living.swap_remove(own));
        if own.is_some_and(|own| own.generation.is_none()) && *self.ready.borrow() {
            // Rows were lost, with the database's memory or because this node was taken for dead. In the latter case
            // the others did not tell it either.
            self.rows.rewrite("lost");
            missed = true;
        }
        if missed && !living.is_empty() {
            patiently(async { queries::await_writers(&self.database.own().await?).await }).await?;
        }
        let dead: Vec<NodeId> = self
            .peers
            .keys()
            .filter(|node| !living.iter().any(|living| living.node == **node))
            .copied()
            .collect();
        for node in dead {
            self.gone(node).await?;
        }
        for living in living {
            let known = self.peers.get(&living.node).and_then(|peer| peer.generation.as_ref());
            let current =
                known == living.generation.as_ref() && !missed && !written_anew.contains(&living.node);
            if let (Some(generation), false) = (living.generation, current) {
                self.all(living.node, generation).await?;
            }
        }
        Ok(())
    }

    async fn all(&mut self, node: NodeId, generation: String) -> Result<(), Stop> {
        metrics::counter!(metric::CHANNEL_PRESENCE_RESYNCS).increment(1);
        let rows = patiently(async { queries::read_node(&self.database.own().await?, node).await }).await?;
        let peer = self.peers.entry(node).or_default();
        let here: HashSet<i64> = rows.iter().map(|row| row.channel).collect();
        let gone: Vec<i64> = peer.present.keys().filter(|channel| !here.contains(channel)).copied().collect();
        let changes = peer.take_in(node, rows, gone);
        peer.generation = Some(generation);
        self.apply(changes).await
    }

    async fn some(&mut self, node: NodeId, channels: HashSet<i64>) -> Result<(), Stop> {
        let channels: Vec<i64> = channels.into_iter().collect();
        for channels in channels.chunks(READ_AT_ONCE) {
            let read = async { queries::read_channels(&self.database.own().await?, node, channels).await };
            let rows = patiently(read).await?;
            let here: HashSet<i64> = rows.iter().map(|row| row.channel).collect();
            let gone = channels.iter().filter(|channel| !here.contains(channel)).copied().collect();
            let changes = self.peers.entry(node).or_default().take_in(node, rows, gone);
            self.apply(changes).await?;
        }
        Ok(())
    }

    async fn gone(&mut self, node: NodeId) -> Result<(), Stop> {
        self.neighbours.gone(node);
        let Some(mut peer) = self.peers.remove(&node) else { return Ok(()) };
        tracing::info!(%node, present = peer.present.len(), "a node has gone, and with it who was present there");
        let gone = peer.present.keys().copied().collect();
        self.apply(peer.take_in(node, Vec::new(), gone)).await
    }

    async fn apply(&self, changes: Changes) -> Result<(), Stop> {
        for (room, changes) in changes {
            self.presence.mirror(&room, changes).await?;
        }
        Ok(())
    }
}

impl Peer {
    /// Notes what was read, and says what it means for each room.
    fn take_in(&mut self, node: NodeId, rows: Vec<PresenceRow>, gone: Vec<i64>) -> Changes {
        let mut changes = Changes::new();
        for channel in gone {
            if let Some((room, key)) = self.present.remove(&channel) {
                changes.entry(room).or_default().push((key, member(node, channel), None));
            }
        }
        for row in rows {
            let channel = row.channel;
            let Some((room, key, meta)) = present(row) else {
                tracing::warn!(%node, channel, "a row of rollcall.presence makes no sense");
                continue;
            };
            // The same name once in memory, however many channels share it.
            let (room, key) = self.present.entry(channel).or_insert((room, key)).clone();
            changes.entry(room).or_default().push((key, member(node, channel), Some(meta)));
        }
        changes
    }
}

const fn member(node: NodeId, channel: i64) -> Member {
    Member { node, channel: ChannelId::of_number(channel) }
}

fn present(row: PresenceRow) -> Option<(Room, Key, Meta)> {
    let PresenceRow { topic, private, key, phx_ref, payload, user, joined, .. } = row;
    let meta = Meta {
        phx_ref: PhxRef::decode(&phx_ref)?,
        previous: None,
        payload: Payload::from_json(&payload).ok()?,
        user,
        joined_ms: joined.as_millisecond(),
        updated_ms: joined.as_millisecond(),
    };
    Some((Room { topic: topic.into(), private }, key.into(), meta))
}

async fn patiently<T>(work: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(PgError::Unavailable("no answer in time".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(texts: &[&str]) -> HashMap<NodeId, News> {
        let inbox = MirrorInbox::default();
        texts.iter().for_each(|text| inbox.heard(text));
        inbox.take().nodes
    }

    #[test]
    fn news_merges_and_a_whole_beats_its_parts() {
        let node = NodeId::random();
        let some = |news: HashMap<NodeId, News>| news.into_values().next().expect("news");
        assert_eq!(
            some(heard(&[&format!("{node} 1,2"), &format!("{node} 2,3")])),
            News::Some([1, 2, 3].into())
        );
        assert_eq!(some(heard(&[&format!("{node} *"), &format!("{node} 1")])), News::All);
        assert_eq!(some(heard(&[&format!("{node} 1"), &format!("{node} gone")])), News::Gone);
        assert_eq!(some(heard(&[&format!("{node} gone"), &format!("{node} 1")])), News::All);
        assert!(heard(&["", "nobody 1", "7"]).is_empty());
    }

    #[test]
    fn what_waits_is_bounded() {
        let node = NodeId::random();
        let inbox = MirrorInbox::default();
        (0..=MOST_WAITING).for_each(|channel| inbox.heard(&format!("{node} {channel}")));
        assert_eq!(inbox.take().nodes.remove(&node), Some(News::All));
    }
}
