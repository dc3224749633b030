//! The hub's handle. Clones ids the hub.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    CloseCode, CloseReason, ConnId, Connection, ConnectionOptions, ConnectionSettings, Encodable,
    ReservedCommands, StateKey, Stats, TopicCounts, TopicDelivery, TopicQuery,
    connection::Socket,
    frame::WireFrame,
    shard::{self, Command, Shard, ShardDelivery},
    shard_context::ShardContext,
};
use crate::{
    model::Topic,
    settings::{defaults, small_count},
};

/// Settings of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct HubSettings {
    /// Number of hub shards (one task each). Default: one per core
    #[arg(
        id = "hub-shards",
        long = "hub-shards",
        alias = "shards",
        env = "HUB_SHARDS",
        default_value_t = core_count(),
        hide_default_value = true,
        value_parser = small_count::<usize>(1..=ConnId::MAX_SHARDS as u64)
    )]
    pub shards: usize,
    /// Capacity of a shard's command queue; default 1,024. Senders wait while it is full.
    #[arg(skip = 1_024_usize)]
    pub mailbox_capacity: usize,
    /// Settings of all connections.
    #[arg(skip)]
    pub connections: ConnectionSettings,
}

impl Default for HubSettings {
    fn default() -> Self {
        defaults()
    }
}

fn core_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(ConnId::MAX_SHARDS)
}

/// One message for a list of connections.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The key of a state message: it replaces an unsent message with the same key. `None` for a stream message, which
    /// is never replaced.
    pub key: Option<StateKey>,
    /// The message, encoded at most once per dialect.
    pub message: Arc<Encodable>,
    /// The recipients. Closed connections are skipped.
    pub to: Vec<ConnId>,
}

/// How the hub closes its connections at shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownPlan {
    /// Time after which the remaining connections are aborted; default 20 s.
    pub timeout: Duration,
    /// Maximum reconnect delay sent to clients; each gets a random one. Default 5 s.
    pub max_reconnect_delay: Duration,
    /// Connections closed at the same time; default 512. Each may cause a database write.
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

/// The hub accepts no connections or deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the hub is stopped or has reached its maximum number of connections")]
pub struct HubStopped;

/// The connections of this process. Clones ids the hub.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: Box<[(Arc<Shard>, mpsc::Sender<Command>)]>,
    next_shard: AtomicUsize,
    is_closing: AtomicBool,
    connection_settings: ConnectionSettings,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Hub {
    /// Starts the shards' tasks on `tasks`. The tasks of connections run there too.
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
            connection_settings: settings.connections,
            stop,
            tasks: tasks.clone(),
        }))
    }

    /// Delivers in order: of two deliveries to one connection, in one call or in consecutive calls, the earlier arrives
    /// first unless the later replaces it. Waits while a shard's queue is full.
    ///
    /// # Errors
    /// [`HubStopped`] if the hub has stopped.
    pub async fn fan_out(&self, deliveries: Vec<Delivery>) -> Result<(), HubStopped> {
        for ((_, sender), part) in self.0.shards.iter().zip(self.split_by_shard(deliveries)) {
            if !part.is_empty() {
                sender.send(Command::Deliver(part)).await.map_err(|_| HubStopped)?;
            }
        }
        Ok(())
    }

    /// Publishes to all members of a topic on this node, in order with all other messages of the topic. Messages
    /// published together ids one write. Waits while a shard's queue is full.
    ///
    /// # Errors
    /// [`HubStopped`] if the hub has stopped.
    pub async fn publish(&self, topic: &Topic, deliveries: Arc<[TopicDelivery]>) -> Result<(), HubStopped> {
        for (_, sender) in &self.0.shards {
            let command = Command::Publish(topic.clone(), Arc::clone(&deliveries));
            sender.send(command).await.map_err(|_| HubStopped)?;
        }
        Ok(())
    }

    /// Sends a frame to one connection, in order with messages of topics. Waits while its shard's queue is full.
    ///
    /// # Errors
    /// [`HubStopped`] if the hub has stopped.
    pub async fn send(&self, connection: &Arc<Connection>, frame: WireFrame) -> Result<(), HubStopped> {
        self.send_command(connection.id(), Command::Send(Arc::clone(connection), frame)).await
    }

    /// Closes one connection after everything that was sent to it before, also through topics. Waits while its shard's
    /// queue is full.
    ///
    /// # Errors
    /// [`HubStopped`] if the hub has stopped.
    pub async fn close(
        &self,
        connection: &Arc<Connection>,
        code: CloseCode,
        reason: Cow<'static, str>,
    ) -> Result<(), HubStopped> {
        self.send_command(connection.id(), Command::Close(Arc::clone(connection), code, reason)).await
    }

    /// Sends a command to the shard of a connection. Waits while the shard's queue is full.
    pub(super) async fn send_command(&self, id: ConnId, command: Command) -> Result<(), HubStopped> {
        let (_, sender) = self.0.shards.get(id.shard()).ok_or(HubStopped)?;
        sender.send(command).await.map_err(|_| HubStopped)
    }

    /// Settings of all connections.
    #[must_use]
    pub fn connection_settings(&self) -> &ConnectionSettings {
        &self.0.connection_settings
    }

    /// Reserves `commands` commands in every shard's queue, waiting until they are available. Reserved commands are
    /// sent without waiting and without other commands of the same sender in between, so an order decided under a lock
    /// is the order that members see.
    ///
    /// # Errors
    /// [`HubStopped`] if the hub has stopped.
    pub async fn reserve(&self, commands: usize) -> Result<ReservedCommands<'_>, HubStopped> {
        let mut permits = SmallVec::new();
        for (_, sender) in &self.0.shards {
            permits.push(sender.reserve_many(commands).await.map_err(|_| HubStopped)?);
        }
        Ok(ReservedCommands::new(permits))
    }

    /// The connection with this ID, if it is open.
    #[must_use]
    pub fn connection(&self, id: ConnId) -> Option<Arc<Connection>> {
        self.0.shards.get(id.shard())?.0.get(id)
    }

    /// The open connections in the order of their IDs, one list for each shard.
    pub fn connections(&self) -> impl Iterator<Item = Vec<Arc<Connection>>> {
        self.0.shards.iter().map(|(shard, _)| shard.connections())
    }

    /// Counts the members of topics on this node. Waits while a shard's queue is full.
    ///
    /// # Errors
    /// [`HubStopped`] if the hub has stopped.
    pub async fn count_topics(&self, query: &TopicQuery) -> Result<TopicCounts, HubStopped> {
        let mut all = BTreeMap::<Topic, usize>::new();
        let mut total = 0;
        for (_, sender) in &self.0.shards {
            let (reply, counts) = oneshot::channel();
            let command = Command::CountTopics(Box::new(query.clone()), reply);
            sender.send(command).await.map_err(|_| HubStopped)?;
            let counts = counts.await.map_err(|_| HubStopped)?;
            // A topic with members in several shards counts several times, so this is a bound.
            total += counts.total;
            for (topic, members) in counts.topics {
                *all.entry(topic).or_default() += members;
            }
        }
        Ok(TopicCounts { topics: all.into_iter().take(query.limit).collect(), total })
    }

    /// Number of open connections.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.0.shards.iter().map(|(shard, _)| shard.len()).sum()
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for (shard, _) in &self.0.shards {
            stats.add(shard.len(), shard.counters());
        }
        stats
    }

    /// Closes all connections in batches with a random reconnect delay, then stops the hub. Returns how many
    /// connections were aborted.
    pub async fn shutdown(&self, plan: ShutdownPlan) -> usize {
        self.0.is_closing.store(true, Ordering::SeqCst);
        let closed = tokio::time::timeout(plan.timeout, self.close_all(&plan)).await;
        let remaining: Vec<_> = self.0.shards.iter().flat_map(|(shard, _)| shard.connections()).collect();
        for connection in &remaining {
            connection.abort(CloseReason::Aborted);
        }
        if closed.is_err() {
            tracing::warn!(
                connections = remaining.len(),
                "shutdown timed out; remaining connections aborted"
            );
        }
        self.0.stop.cancel();
        remaining.len()
    }

    async fn close_all(&self, plan: &ShutdownPlan) {
        let max_delay_ms = u64::try_from(plan.max_reconnect_delay.as_millis()).unwrap_or(u64::MAX - 1);
        // Twice, for connections that were registering when `is_closing` was set.
        for _ in 0..2 {
            let mut closing =
                self.0.shards.iter().flat_map(|(shard, _)| shard.connections()).collect::<Vec<_>>();
            while !closing.is_empty() {
                let rest = closing.split_off(plan.batch_size.max(1).min(closing.len()));
                for connection in &closing {
                    connection.close_for_shutdown(rand::random_range(0..=max_delay_ms));
                }
                self.wait_until_unregistered(closing).await;
                closing = rest;
            }
        }
    }

    /// Waits until these connections are unregistered.
    async fn wait_until_unregistered(&self, closing: Vec<Arc<Connection>>) {
        let ids: Vec<_> = closing.iter().map(|connection| connection.id()).collect();
        drop(closing);
        for id in ids {
            // Polling is sufficient: this runs once per process.
            while self.connection(id).is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// The tracker that runs the connections' tasks.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// Registers an upgraded socket as a connection.
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

    /// Splits deliveries by shard, keeping their order.
    fn split_by_shard(&self, deliveries: Vec<Delivery>) -> Vec<Vec<ShardDelivery>> {
        let shards = self.0.shards.len();
        let mut parts: Vec<Vec<ShardDelivery>> = (0..shards).map(|_| Vec::new()).collect();
        for Delivery { key, message, to } in deliveries {
            let mut ids_by_shard = vec![Vec::new(); shards];
            if let [only] = ids_by_shard.as_mut_slice() {
                *only = to;
            } else {
                for id in to {
                    if let Some(ids) = ids_by_shard.get_mut(id.shard()) {
                        ids.push(id);
                    }
                }
            }
            for (part, to) in parts.iter_mut().zip(ids_by_shard) {
                if !to.is_empty() {
                    part.push(ShardDelivery { key, message: Arc::clone(&message), to });
                }
            }
        }
        parts
    }
}

/// A registered connection. Dropping it unregisters the connection, also if its task panics or is cancelled.
#[derive(Debug)]
pub(crate) struct Registration {
    shard: Arc<Shard>,
    connection: Arc<Connection>,
}

impl Registration {
    pub(crate) const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shard.remove(self.connection.id());
    }
}
