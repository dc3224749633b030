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

use super::{ChannelPresence, MemberId, Meta, PhxRef, PresenceKey, PresencePayload, store::PresenceStore};
use crate::{
    channels::bus::Peers,
    hub::HubStopped,
    model::{ChannelId, NodeId, Topic},
    pg::{
        Database, PgError,
        listener::{CHANNEL_PRESENCE, NotificationHandler},
        queries::channel_presence::{self as queries, PresenceRow},
    },
    telemetry::metric,
};

/// Channels of one node that may wait to be read; over it all of the node's are.
const MAX_PENDING_CHANNELS: usize = 4_096;
/// Channels that are read at once.
const READ_BATCH_SIZE: usize = 512;
/// How long one of the statements may take.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between attempts: doubling, with jitter.
const INITIAL_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// What was heard of one node and not yet acted upon.
#[derive(Debug, PartialEq, Eq)]
enum PendingChange {
    /// These channels changed.
    Channels(HashSet<i64>),
    /// Everything was written anew.
    Rewritten,
    /// It took its leave.
    Left,
}

#[derive(Default)]
struct Pending {
    nodes: HashMap<NodeId, PendingChange>,
    /// Something may have been missed.
    resync: bool,
}

/// What was heard and not yet acted upon. Bounded: it merges.
#[derive(Default)]
pub struct RemoteChanges {
    pending: Mutex<Pending>,
    wake: Notify,
}

impl RemoteChanges {
    fn record(&self, payload: &str) {
        let Some((node, what)) = payload.split_once(' ') else { return };
        let Ok(node) = node.parse::<NodeId>() else { return };
        let mut waiting = self.pending.lock();
        let news = waiting.nodes.entry(node).or_insert_with(|| PendingChange::Channels(HashSet::new()));
        match (what, &mut *news) {
            ("gone", _) => *news = PendingChange::Left,
            ("*", _) => *news = PendingChange::Rewritten,
            (_, PendingChange::Rewritten) => {}
            // It is back: whatever it wrote after its leave is read with the rest.
            (_, PendingChange::Left) => *news = PendingChange::Rewritten,
            (channels, PendingChange::Channels(known)) => {
                known.extend(channels.split(',').filter_map(|channel| channel.parse::<i64>().ok()));
                if known.len() > MAX_PENDING_CHANNELS {
                    *news = PendingChange::Rewritten;
                }
            }
        }
        drop(waiting);
        self.wake.notify_one();
    }

    async fn wait_until_nonempty(&self) {
        loop {
            let woken = self.wake.notified();
            {
                let waiting = self.pending.lock();
                if waiting.resync || !waiting.nodes.is_empty() {
                    return;
                }
            }
            woken.await;
        }
    }

    fn take(&self) -> Pending {
        std::mem::take(&mut *self.pending.lock())
    }

    fn request_resync(&self) {
        self.pending.lock().resync = true;
        self.wake.notify_one();
    }
}

/// The listener's end of a [`MirrorInbox`].
pub struct RemotePresenceNotifications(pub Arc<RemoteChanges>);

impl NotificationHandler for RemotePresenceNotifications {
    fn on_notification(&self, channel: &str, payload: &str) {
        if channel == CHANNEL_PRESENCE {
            self.0.record(payload);
        }
    }

    fn on_connected(&self) {
        self.0.request_resync();
    }

    fn on_disconnected(&self) {}
}

/// What this node believes of another.
#[derive(Default)]
struct RemoteNode {
    /// Of the rows that were read as a whole last.
    generation: Option<String>,
    channels: HashMap<i64, (Topic, PresenceKey)>,
}

/// Why a round did not come to its end.
enum RoundError {
    /// It may be tried again.
    Database(PgError),
    /// There is nobody left to tell.
    HubStopped,
}

impl From<PgError> for RoundError {
    fn from(error: PgError) -> Self {
        Self::Database(error)
    }
}

impl From<HubStopped> for RoundError {
    fn from(_: HubStopped) -> Self {
        Self::HubStopped
    }
}

type Changes = HashMap<Topic, Vec<(PresenceKey, MemberId, Option<Meta>)>>;

/// The task that follows the other nodes.
pub struct RemotePresence {
    node: NodeId,
    presence: ChannelPresence,
    store: PresenceStore,
    database: Database,
    changes: Arc<RemoteChanges>,
    peers: Peers,
    /// How often it looks for nodes that have come and gone by themselves.
    poll_interval: Duration,
    nodes: HashMap<NodeId, RemoteNode>,
    ready: watch::Sender<bool>,
}

impl RemotePresence {
    /// Makes the task, which also tells `neighbours` who lives; `lease` is how long a silent node counts as alive.
    #[must_use]
    pub fn new(
        node: NodeId,
        presence: ChannelPresence,
        rows: PresenceStore,
        database: Database,
        inbox: Arc<RemoteChanges>,
        neighbours: Peers,
        lease: Duration,
    ) -> Self {
        let (ready, _) = watch::channel(false);
        let look_every = lease / 3;
        Self {
            node,
            presence,
            store: rows,
            database,
            changes: inbox,
            peers: neighbours,
            poll_interval: look_every,
            nodes: HashMap::new(),
            ready,
        }
    }

    /// Turns true, and stays so, once everybody who is present elsewhere is known.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Follows the other nodes until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut retry = INITIAL_BACKOFF;
        let mut look_at = self.next_poll();
        loop {
            let look = select! {
                () = stop.cancelled() => return,
                () = sleep_until(look_at) => true,
                () = self.changes.wait_until_nonempty() => false,
            };
            if look {
                look_at = self.next_poll();
            }
            let news = self.changes.take();
            let missed = news.resync;
            let done = select! {
                () = stop.cancelled() => return,
                done = self.apply_pending(news, look) => done,
            };
            match done {
                Ok(()) => {
                    retry = INITIAL_BACKOFF;
                    if missed {
                        self.ready.send_replace(true);
                    }
                }
                Err(RoundError::HubStopped) => return,
                Err(RoundError::Database(error)) => {
                    tracing::warn!(error = ?error, "could not read who is present on other nodes");
                    let pause = retry.mul_f64(rand::rng().random_range(0.5..1.0));
                    select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                    retry = (retry * 2).min(MAX_BACKOFF);
                    // What was taken is lost: everything is read again.
                    self.changes.request_resync();
                }
            }
        }
    }

    fn next_poll(&self) -> Instant {
        Instant::now() + self.poll_interval.mul_f64(rand::rng().random_range(0.8..1.0))
    }

    async fn apply_pending(&mut self, news: Pending, look: bool) -> Result<(), RoundError> {
        let mut everything = HashSet::new();
        for (node, news) in news.nodes {
            match news {
                _ if node == self.node => {}
                PendingChange::Left => self.remove_node(node).await?,
                PendingChange::Rewritten => _ = everything.insert(node),
                // Whoever was never read as a whole will be.
                PendingChange::Channels(channels) if self.nodes.contains_key(&node) => {
                    self.read_changed(node, channels).await?
                }
                PendingChange::Channels(_) => _ = everything.insert(node),
            }
        }
        if news.resync || look || !everything.is_empty() {
            self.poll_nodes(news.resync, &everything).await?;
        }
        Ok(())
    }

    /// Looks who lives, and reads whom it has not read, or has not read since something was missed.
    async fn poll_nodes(
        &mut self,
        mut missed: bool,
        written_anew: &HashSet<NodeId>,
    ) -> Result<(), RoundError> {
        let mut living =
            with_timeout(async { queries::live_nodes(&self.database.server_connection().await?).await })
                .await?;
        let own =
            living.iter().position(|living| living.node == self.node).map(|own| living.swap_remove(own));
        if own.is_some_and(|own| own.generation.is_none()) && *self.ready.borrow() {
            // Rows were lost, with the database's memory or because this node was taken for dead. In the latter case
            // the others did not tell it either.
            self.store.request_rewrite("lost");
            missed = true;
        }
        if missed && !living.is_empty() {
            with_timeout(async {
                queries::wait_for_writers(&self.database.server_connection().await?).await
            })
            .await?;
        }
        let dead: Vec<NodeId> = self
            .nodes
            .keys()
            .filter(|node| !living.iter().any(|living| living.node == **node))
            .copied()
            .collect();
        for node in dead {
            self.remove_node(node).await?;
        }
        for living in living {
            let known = self.nodes.get(&living.node).and_then(|peer| peer.generation.as_ref());
            let current =
                known == living.generation.as_ref() && !missed && !written_anew.contains(&living.node);
            if let (Some(generation), false) = (living.generation, current) {
                self.read_all(living.node, generation).await?;
            }
        }
        Ok(())
    }

    async fn read_all(&mut self, node: NodeId, generation: String) -> Result<(), RoundError> {
        metrics::counter!(metric::CHANNEL_PRESENCE_RESYNCS).increment(1);
        let rows =
            with_timeout(async { queries::read_node(&self.database.server_connection().await?, node).await })
                .await?;
        let peer = self.nodes.entry(node).or_default();
        let here: HashSet<i64> = rows.iter().map(|row| row.channel).collect();
        let gone: Vec<i64> =
            peer.channels.keys().filter(|channel| !here.contains(channel)).copied().collect();
        let changes = peer.apply_rows(node, rows, gone);
        peer.generation = Some(generation);
        self.apply(changes).await
    }

    async fn read_changed(&mut self, node: NodeId, channels: HashSet<i64>) -> Result<(), RoundError> {
        let channels: Vec<i64> = channels.into_iter().collect();
        for channels in channels.chunks(READ_BATCH_SIZE) {
            let read = async {
                queries::read_channels(&self.database.server_connection().await?, node, channels).await
            };
            let rows = with_timeout(read).await?;
            let here: HashSet<i64> = rows.iter().map(|row| row.channel).collect();
            let gone = channels.iter().filter(|channel| !here.contains(channel)).copied().collect();
            let changes = self.nodes.entry(node).or_default().apply_rows(node, rows, gone);
            self.apply(changes).await?;
        }
        Ok(())
    }

    async fn remove_node(&mut self, node: NodeId) -> Result<(), RoundError> {
        self.peers.remove(node);
        let Some(mut peer) = self.nodes.remove(&node) else { return Ok(()) };
        tracing::info!(%node, present = peer.channels.len(), "a node has gone, and with it who was present there");
        let gone = peer.channels.keys().copied().collect();
        self.apply(peer.apply_rows(node, Vec::new(), gone)).await
    }

    async fn apply(&self, changes: Changes) -> Result<(), RoundError> {
        for (room, changes) in changes {
            self.presence.apply_remote(&room, changes).await?;
        }
        Ok(())
    }
}

impl RemoteNode {
    /// Notes what was read, and says what it means for each room.
    fn apply_rows(&mut self, node: NodeId, rows: Vec<PresenceRow>, gone: Vec<i64>) -> Changes {
        let mut changes = Changes::new();
        for channel in gone {
            if let Some((room, key)) = self.channels.remove(&channel) {
                changes.entry(room).or_default().push((key, member_id(node, channel), None));
            }
        }
        for row in rows {
            let channel = row.channel;
            let Some((room, key, meta)) = parse_row(row) else {
                tracing::warn!(%node, channel, "a row of rollcall.presence makes no sense");
                continue;
            };
            // The same name once in memory, however many channels share it.
            let (room, key) = self.channels.entry(channel).or_insert((room, key)).clone();
            changes.entry(room).or_default().push((key, member_id(node, channel), Some(meta)));
        }
        changes
    }
}

const fn member_id(node: NodeId, channel: i64) -> MemberId {
    MemberId { node, channel: ChannelId::from_i64(channel) }
}

fn parse_row(row: PresenceRow) -> Option<(Topic, PresenceKey, Meta)> {
    let PresenceRow { topic, private, key, phx_ref, payload, user, joined, .. } = row;
    let meta = Meta {
        phx_ref: PhxRef::decode(&phx_ref)?,
        previous: None,
        payload: PresencePayload::from_json(&payload).ok()?,
        user,
        joined_ms: joined.as_millisecond(),
        updated_ms: joined.as_millisecond(),
    };
    Some((Topic { name: topic.into(), private }, key.into(), meta))
}

async fn with_timeout<T>(work: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
    timeout(STATEMENT_TIMEOUT, work)
        .await
        .unwrap_or_else(|_| Err(PgError::Unavailable("no answer in time".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(texts: &[&str]) -> HashMap<NodeId, PendingChange> {
        let inbox = RemoteChanges::default();
        texts.iter().for_each(|text| inbox.record(text));
        inbox.take().nodes
    }

    #[test]
    fn news_merges_and_a_whole_beats_its_parts() {
        let node = NodeId::random();
        let some = |news: HashMap<NodeId, PendingChange>| news.into_values().next().expect("news");
        assert_eq!(
            some(heard(&[&format!("{node} 1,2"), &format!("{node} 2,3")])),
            PendingChange::Channels([1, 2, 3].into())
        );
        assert_eq!(some(heard(&[&format!("{node} *"), &format!("{node} 1")])), PendingChange::Rewritten);
        assert_eq!(some(heard(&[&format!("{node} 1"), &format!("{node} gone")])), PendingChange::Left);
        assert_eq!(some(heard(&[&format!("{node} gone"), &format!("{node} 1")])), PendingChange::Rewritten);
        assert!(heard(&["", "nobody 1", "7"]).is_empty());
    }

    #[test]
    fn what_waits_is_bounded() {
        let node = NodeId::random();
        let inbox = RemoteChanges::default();
        (0..=MAX_PENDING_CHANNELS).for_each(|channel| inbox.record(&format!("{node} {channel}")));
        assert_eq!(inbox.take().nodes.remove(&node), Some(PendingChange::Rewritten));
    }
}
