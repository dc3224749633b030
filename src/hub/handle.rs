//! The hub's handle: cheap to clone, verbs only.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use smallvec::SmallVec;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ConnId, Encodable, ReservedCommands, StateKey, Stats, TopicDelivery,
    shard::{self, Command, Shard, ShardDelivery},
};
use crate::{
    model::Topic,
    transport::{CloseReason, Connection, ConnectionOptions, ConnectionSettings, Socket, frame::WireFrame},
};

/// How a hub is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubSettings {
    /// Shards, each a task; one per core is right. 1 to 256, default 2.
    pub shards: usize,
    /// Commands that may wait in a shard's mailbox before `fan_out` waits; default 1,024.
    pub mailbox_capacity: usize,
    /// What all connections have in common.
    pub connections: ConnectionSettings,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self { shards: 2, mailbox_capacity: 1024, connections: ConnectionSettings::default() }
    }
}

/// One message for some connections.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// What it is the state of: a reader that has not got round to the last one gets this one instead.
    /// `None`: it is one of a stream, and never replaced.
    pub key: Option<StateKey>,
    /// The message, encoded at most once per dialect.
    pub message: Arc<Encodable>,
    /// Who gets it. Connections that have gone are passed over.
    pub to: Vec<ConnId>,
}

/// How a hub is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownPlan {
    /// After this time the rest is cut off.
    pub timeout: Duration,
    /// Clients are told to come back after a random time up to this.
    pub max_reconnect_delay: Duration,
    /// So many connections leave at the same time: each may have something to write to the database.
    pub batch_size: usize,
}

impl Default for ShutdownPlan {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(20),
            max_reconnect_delay: Duration::from_secs(5),
            batch_size: 512,
        }
    }
}

/// The hub does not take connections or deliveries any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the hub has stopped, or is full")]
pub struct HubStopped;

/// Who is connected to this process. Clones share the hub.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: Box<[(Arc<Shard>, mpsc::Sender<Command>)]>,
    next_shard: AtomicUsize,
    is_closing: AtomicBool,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Hub {
    /// Starts the shards' tasks on `tasks`, on which the connections' tasks will run too.
    #[must_use]
    pub fn start(settings: &HubSettings, tasks: &TaskTracker) -> Self {
        let stop = CancellationToken::new();
        let numbers = 0..settings.shards.clamp(1, ConnId::MAX_SHARDS);
        let shards = numbers.filter_map(|number| u8::try_from(number).ok()).map(|number| {
            let shard = Arc::new(Shard::new(number, settings.connections));
            let (sender, mailbox) = mpsc::channel(settings.mailbox_capacity.max(1));
            tasks.spawn(shard::run(Arc::clone(&shard), mailbox, stop.clone()));
            (shard, sender)
        });
        let shards = shards.collect();
        Self(Arc::new(Inner {
            shards,
            next_shard: AtomicUsize::new(0),
            is_closing: AtomicBool::new(false),
            stop,
            tasks: tasks.clone(),
        }))
    }

    /// Delivers in order: of two deliveries to one connection, in one call or in consecutive ones, the earlier
    /// arrives first, unless the later replaces it. Waits while a shard's mailbox is full.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn fan_out(&self, deliveries: Vec<Delivery>) -> Result<(), HubStopped> {
        for ((_, sender), part) in self.0.shards.iter().zip(self.split_by_shard(deliveries)) {
            if !part.is_empty() {
                sender.send(Command::Deliver(part)).await.map_err(|_| HubStopped)?;
            }
        }
        Ok(())
    }

    /// Says things to all members of a room on this node, in order with everything else that is said there, and in
    /// one write where they are said together. Waits while a shard's mailbox is full.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn publish(&self, room: &Topic, posts: Arc<[TopicDelivery]>) -> Result<(), HubStopped> {
        for (_, sender) in &self.0.shards {
            let command = Command::Publish(room.clone(), Arc::clone(&posts));
            sender.send(command).await.map_err(|_| HubStopped)?;
        }
        Ok(())
    }

    /// Says something to one connection, in order with what rooms say to it. Waits while its shard's mailbox is full.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn send(&self, connection: &Arc<Connection>, frame: WireFrame) -> Result<(), HubStopped> {
        let (_, sender) = self.0.shards.get(connection.id().shard()).ok_or(HubStopped)?;
        sender.send(Command::Send(Arc::clone(connection), frame)).await.map_err(|_| HubStopped)
    }

    /// Keeps room in every shard's mailbox for `commands` commands, waiting until there is. What is sent with the
    /// slots follows without anything else of the same sender in between, and without a wait: so an order that is
    /// settled under a lock is the order in which members hear of it.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn reserve(&self, commands: usize) -> Result<ReservedCommands<'_>, HubStopped> {
        let mut permits = SmallVec::new();
        for (_, sender) in &self.0.shards {
            permits.push(sender.reserve_many(commands).await.map_err(|_| HubStopped)?);
        }
        Ok(ReservedCommands::new(permits))
    }

    /// The connection of that id, to say something to it alone, or to close it.
    #[must_use]
    pub fn connection(&self, id: ConnId) -> Option<Arc<Connection>> {
        self.0.shards.get(id.shard())?.0.get(id)
    }

    /// How many connections are open.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.0.shards.iter().map(|(shard, _)| shard.len()).sum()
    }

    /// The numbers of this moment.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for (shard, _) in &self.0.shards {
            stats.add(shard.len(), shard.counters());
        }
        stats
    }

    /// Takes leave of everybody, with a random time after which to come back, a bounded number at once, and
    /// stops. Returns how many had to be cut off.
    pub async fn shutdown(&self, plan: ShutdownPlan) -> usize {
        self.0.is_closing.store(true, Ordering::SeqCst);
        let in_time = tokio::time::timeout(plan.timeout, self.close_all(&plan)).await;
        let late: Vec<_> = self.0.shards.iter().flat_map(|(shard, _)| shard.connections()).collect();
        for connection in &late {
            connection.abort(CloseReason::Aborted);
        }
        if in_time.is_err() {
            tracing::warn!(connections = late.len(), "some connections had to be cut off");
        }
        self.0.stop.cancel();
        late.len()
    }

    async fn close_all(&self, plan: &ShutdownPlan) {
        let spread_ms = u64::try_from(plan.max_reconnect_delay.as_millis()).unwrap_or(u64::MAX - 1);
        // Twice, for those who were just registering when the door closed.
        for _ in 0..2 {
            let mut leaving =
                self.0.shards.iter().flat_map(|(shard, _)| shard.connections()).collect::<Vec<_>>();
            while !leaving.is_empty() {
                let rest = leaving.split_off(plan.batch_size.max(1).min(leaving.len()));
                for connection in &leaving {
                    connection.close_for_shutdown(rand::random_range(0..=spread_ms));
                }
                self.wait_until_unregistered(leaving).await;
                leaving = rest;
            }
        }
    }

    /// Waits until these are not registered any more.
    async fn wait_until_unregistered(&self, leaving: Vec<Arc<Connection>>) {
        let ids: Vec<_> = leaving.iter().map(|connection| connection.id()).collect();
        drop(leaving);
        for id in ids {
            // Looked at rather than signalled: it happens once in a process's life.
            while self.connection(id).is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// The tracker on which connections run.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// Seats an upgraded socket.
    pub(crate) fn register(
        &self,
        socket: Socket,
        options: ConnectionOptions,
    ) -> Result<Registration, HubStopped> {
        if self.0.is_closing.load(Ordering::SeqCst) {
            return Err(HubStopped);
        }
        let next = self.0.next_shard.fetch_add(1, Ordering::Relaxed) % self.0.shards.len();
        let shard = Arc::clone(&self.0.shards[next].0);
        let connection = shard.insert(socket, options).ok_or(HubStopped)?;
        Ok(Registration { shard, connection })
    }

    /// One part per shard, in the order of the deliveries.
    fn split_by_shard(&self, deliveries: Vec<Delivery>) -> Vec<Vec<ShardDelivery>> {
        let shards = self.0.shards.len();
        let mut parts: Vec<Vec<ShardDelivery>> = (0..shards).map(|_| Vec::new()).collect();
        for Delivery { key, message, to } in deliveries {
            let mut shares = vec![Vec::new(); shards];
            if let [only] = shares.as_mut_slice() {
                *only = to;
            } else {
                for id in to {
                    if let Some(share) = shares.get_mut(id.shard()) {
                        share.push(id);
                    }
                }
            }
            for (part, to) in parts.iter_mut().zip(shares) {
                if !to.is_empty() {
                    part.push(ShardDelivery { key, message: Arc::clone(&message), to });
                }
            }
        }
        parts
    }
}

/// A seat in the hub, given back when dropped: also if the connection's task panics or is cancelled.
#[derive(Debug)]
pub(crate) struct Registration {
    shard: Arc<Shard>,
    connection: Arc<Connection>,
}

impl Registration {
    /// Who sits there.
    pub(crate) const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shard.remove(self.connection.id());
    }
}
