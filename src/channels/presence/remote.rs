//! Follows channel presence on the other nodes through their rows.
//!
//! A node changes its rows and notifies the other nodes which, in one transaction; they then read these rows.
//! Rows are state, not history, so reading again repairs anything missed. All rows of a node are read when
//! this node starts or reconnects, and when that node has rewritten them. A node whose lease has lapsed has
//! no presence. A node that has just lost its rows with the database keeps its last known presence until it
//! has rewritten them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    select,
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{ChannelPresence, MemberId, Meta, PhxRef, PresenceKey, PresencePayload, store::PresenceStore};
use crate::{
    backoff::{Backoff, jittered},
    channels::bus::Peers,
    hub::HubStopped,
    lifecycle::ErrorChain,
    model::{ChannelId, NodeId, Topic},
    pg::{
        Database, PgError,
        listener::NotificationHandler,
        notification::{ChannelRows, Notification},
        queries::channel_presence::{self as queries, PresenceRow},
    },
    telemetry::metric,
};

/// Maximum pending channels of one node. Beyond it all rows of the node are read.
const MAX_PENDING_CHANNELS: usize = 4_096;
/// Channels read per statement.
const READ_BATCH_SIZE: usize = 512;
/// Timeout of one statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Backoff between failed attempts: doubled each time, with jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));

/// Changes of one node that have not been read.
#[derive(Debug, PartialEq, Eq)]
enum PendingChange {
    /// The rows of these channels changed.
    Channels(HashSet<i64>),
    /// All rows were rewritten or deleted.
    All,
}

#[derive(Default)]
struct Pending {
    nodes: HashMap<NodeId, PendingChange>,
    /// Notifications may have been missed: read everything again.
    resync: bool,
}

/// Changes that have not been read, merged per node and so bounded.
#[derive(Default)]
pub struct RemoteChanges {
    pending: Mutex<Pending>,
    wake: Notify,
}

impl RemoteChanges {
    fn record(&self, node: NodeId, rows: &ChannelRows) {
        let mut pending = self.pending.lock();
        let pending_change =
            pending.nodes.entry(node).or_insert_with(|| PendingChange::Channels(HashSet::new()));
        match (rows, &mut *pending_change) {
            (_, PendingChange::All) => {}
            (ChannelRows::All, _) => *pending_change = PendingChange::All,
            (ChannelRows::Changed(channels), PendingChange::Channels(known)) => {
                known.extend(channels);
                if known.len() > MAX_PENDING_CHANNELS {
                    *pending_change = PendingChange::All;
                }
            }
        }
        drop(pending);
        self.wake.notify_one();
    }

    async fn wait_until_nonempty(&self) {
        loop {
            let notified = self.wake.notified();
            {
                let pending = self.pending.lock();
                if pending.resync || !pending.nodes.is_empty() {
                    return;
                }
            }
            notified.await;
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

/// Receives channel presence notifications from the listener.
pub struct RemotePresenceNotifications(pub Arc<RemoteChanges>);

impl NotificationHandler for RemotePresenceNotifications {
    fn on_notification(&self, notification: &Notification) {
        if let Notification::ChannelPresence { node, rows } = notification {
            self.0.record(*node, rows);
        }
    }

    fn on_connected(&self) {
        self.0.request_resync();
    }

    fn on_disconnected(&self) {}

    fn on_missed(&self, _: Instant) {
        self.0.request_resync();
    }
}

/// Presence of another node as known here.
#[derive(Default)]
struct RemoteNode {
    /// Generation of the last complete read.
    generation: Option<String>,
    channels: HashMap<i64, (Topic, PresenceKey)>,
}

/// Why a round was aborted.
enum RoundError {
    /// The round can be retried.
    Database(PgError),
    /// The server is stopping.
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
    lease: Duration,
    /// Interval between queries for nodes that started or died without notification.
    poll_interval: Duration,
    /// Time of the last successful query.
    polled_at: Option<Instant>,
    /// Until then a node without a valid lease is kept.
    keep_nodes_until: Option<Instant>,
    nodes: HashMap<NodeId, RemoteNode>,
    ready: watch::Sender<bool>,
}

impl RemotePresence {
    /// Creates the task, which also keeps `peers` up to date. `lease` is how long a silent node counts as
    /// alive.
    #[must_use]
    pub fn new(
        node: NodeId,
        presence: ChannelPresence,
        store: PresenceStore,
        database: Database,
        changes: Arc<RemoteChanges>,
        peers: Peers,
        lease: Duration,
    ) -> Self {
        let (ready, _) = watch::channel(false);
        let poll_interval = lease / 3;
        Self {
            node,
            presence,
            store,
            database,
            changes,
            peers,
            lease,
            poll_interval,
            polled_at: None,
            keep_nodes_until: None,
            nodes: HashMap::new(),
            ready,
        }
    }

    /// Becomes true once the presence of all other nodes is known, and stays true.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Follows the other nodes until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut backoff = BACKOFF;
        let mut poll_at = self.next_poll();
        loop {
            let is_poll = select! {
                () = stop.cancelled() => return,
                () = sleep_until(poll_at) => true,
                () = self.changes.wait_until_nonempty() => false,
            };
            if is_poll {
                poll_at = self.next_poll();
            }
            let pending = self.changes.take();
            let resync = pending.resync;
            let done = select! {
                () = stop.cancelled() => return,
                done = self.apply_pending(pending, is_poll) => done,
            };
            match done {
                Ok(()) => {
                    backoff.reset();
                    if resync {
                        self.ready.send_replace(true);
                    }
                }
                Err(RoundError::HubStopped) => return,
                Err(RoundError::Database(error)) => {
                    tracing::warn!(error = %ErrorChain(&error), "reading channel presence of other nodes failed");
                    select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(backoff.next_delay()) => {}
                    }
                    // The taken changes are lost: read everything again.
                    self.changes.request_resync();
                }
            }
        }
    }

    fn next_poll(&self) -> Instant {
        Instant::now() + jittered(self.poll_interval, 0.8..1.0)
    }

    async fn apply_pending(&mut self, pending: Pending, is_poll: bool) -> Result<(), RoundError> {
        let mut reread = HashSet::new();
        for (node, change) in pending.nodes {
            match change {
                _ if node == self.node => {}
                PendingChange::All => _ = reread.insert(node),
                // A node that was never read completely is read completely.
                PendingChange::Channels(channels) if self.nodes.contains_key(&node) => {
                    self.read_changed(node, channels).await?
                }
                PendingChange::Channels(_) => _ = reread.insert(node),
            }
        }
        if pending.resync || is_poll || !reread.is_empty() {
            self.poll_nodes(pending.resync, &reread).await?;
        }
        Ok(())
    }

    /// Queries the live nodes and reads those that were never read, were rewritten, or may have changed since
    /// notifications were missed.
    async fn poll_nodes(&mut self, mut resync: bool, rewritten: &HashSet<NodeId>) -> Result<(), RoundError> {
        let read = |connection| async move { queries::live_nodes(&connection).await };
        let mut live = self.database.within(STATEMENT_TIMEOUT, read).await?;
        let own = live.iter().position(|live| live.node == self.node).map(|own| live.swap_remove(own));
        if own.is_some_and(|own| own.generation.is_none()) && *self.ready.borrow() {
            // The rows were lost in a crash of the database (the table is unlogged) or because this node was
            // considered dead. In the latter case it missed notifications too.
            self.store.request_rewrite("lost");
            resync = true;
        }
        if resync && !live.is_empty() {
            let wait = |connection| async move { queries::wait_for_writers(&connection).await };
            self.database.within(STATEMENT_TIMEOUT, wait).await?;
        }
        let missing: Vec<NodeId> =
            self.nodes.keys().filter(|node| !live.iter().any(|live| live.node == **node)).copied().collect();
        let keep_missing = self.keeps_missing_nodes(Instant::now());
        if !keep_missing {
            for node in &missing {
                self.remove_node(*node).await?;
            }
        }
        let kept = missing.iter().filter(|_| keep_missing).copied();
        self.peers.update_alive(live.iter().map(|live| live.node).chain(kept).collect());
        for live in live {
            let known = self.nodes.get(&live.node).and_then(|remote| remote.generation.as_ref());
            let announced = rewritten.contains(&live.node);
            let current = known == live.generation.as_ref() && !resync && !announced;
            match live.generation {
                Some(generation) if !current => self.read_all(live.node, generation).await?,
                // The node has deleted its rows because it stops. Rows lost in a crash are not announced; the
                // node writes them again.
                None if announced => self.remove_node(live.node).await?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether nodes without a valid lease stay. While the database did not answer, no node could renew its lease: each
    /// gets one lease duration to do so.
    fn keeps_missing_nodes(&mut self, now: Instant) -> bool {
        let had_outage = self.polled_at.is_some_and(|polled_at| now - polled_at > self.poll_interval * 2);
        self.polled_at = Some(now);
        if had_outage {
            self.keep_nodes_until = Some(now + self.lease);
        }
        self.keep_nodes_until.is_some_and(|until| now < until)
    }

    async fn read_all(&mut self, node: NodeId, generation: String) -> Result<(), RoundError> {
        metrics::counter!(metric::CHANNEL_PRESENCE_RESYNCS).increment(1);
        let read = |connection| async move { queries::read_node(&connection, node).await };
        let rows = self.database.within(STATEMENT_TIMEOUT, read).await?;
        let remote = self.nodes.entry(node).or_default();
        let present: HashSet<i64> = rows.iter().map(|row| row.channel).collect();
        let removed: Vec<i64> =
            remote.channels.keys().filter(|channel| !present.contains(channel)).copied().collect();
        let changes = remote.apply_rows(node, rows, removed);
        remote.generation = Some(generation);
        self.apply(changes).await
    }

    async fn read_changed(&mut self, node: NodeId, channels: HashSet<i64>) -> Result<(), RoundError> {
        let channels: Vec<i64> = channels.into_iter().collect();
        for channels in channels.chunks(READ_BATCH_SIZE) {
            let read = |connection| async move { queries::read_channels(&connection, node, channels).await };
            let rows = self.database.within(STATEMENT_TIMEOUT, read).await?;
            let present: HashSet<i64> = rows.iter().map(|row| row.channel).collect();
            let removed = channels.iter().filter(|channel| !present.contains(channel)).copied().collect();
            let changes = self.nodes.entry(node).or_default().apply_rows(node, rows, removed);
            self.apply(changes).await?;
        }
        Ok(())
    }

    async fn remove_node(&mut self, node: NodeId) -> Result<(), RoundError> {
        self.peers.remove(node);
        let Some(mut remote) = self.nodes.remove(&node) else { return Ok(()) };
        tracing::info!(%node, present = remote.channels.len(), "removed the channel presence of a node");
        let removed = remote.channels.keys().copied().collect();
        self.apply(remote.apply_rows(node, Vec::new(), removed)).await
    }

    async fn apply(&self, changes: Changes) -> Result<(), RoundError> {
        for (topic, changes) in changes {
            self.presence.apply_remote(&topic, changes).await?;
        }
        Ok(())
    }
}

impl RemoteNode {
    /// Applies the rows read and returns the changes per topic.
    fn apply_rows(&mut self, node: NodeId, rows: Vec<PresenceRow>, removed: Vec<i64>) -> Changes {
        let mut changes = Changes::new();
        for channel in removed {
            if let Some((topic, key)) = self.channels.remove(&channel) {
                changes.entry(topic).or_default().push((key, member_id(node, channel), None));
            }
        }
        for row in rows {
            let channel = row.channel;
            let Some((topic, key, meta)) = parse_row(row) else {
                tracing::warn!(%node, channel, "cannot decode a row of rollcall.presence");
                continue;
            };
            // Share one allocation of the topic and key.
            let (topic, key) = self.channels.entry(channel).or_insert((topic, key)).clone();
            changes.entry(topic).or_default().push((key, member_id(node, channel), Some(meta)));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(notified: &[ChannelRows]) -> Option<PendingChange> {
        let (changes, node) = (RemoteChanges::default(), NodeId::random());
        notified.iter().for_each(|rows| changes.record(node, rows));
        changes.take().nodes.remove(&node)
    }

    #[test]
    fn changes_are_merged_per_node() {
        let changed = |channels: &[i64]| ChannelRows::Changed(channels.to_vec());
        assert_eq!(
            recorded(&[changed(&[1, 2]), changed(&[2, 3])]),
            Some(PendingChange::Channels([1, 2, 3].into()))
        );
        assert_eq!(recorded(&[ChannelRows::All, changed(&[1])]), Some(PendingChange::All));
        assert_eq!(recorded(&[changed(&[1]), ChannelRows::All]), Some(PendingChange::All));
    }

    #[test]
    fn pending_channels_are_bounded() {
        let channels = (0..=MAX_PENDING_CHANNELS as i64).collect();
        assert_eq!(recorded(&[ChannelRows::Changed(channels)]), Some(PendingChange::All));
    }
}
