//! Builds the channels domain: broadcast, channel presence, database changes and authorization.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::{
    bus::{self, BusTasks},
    dependencies::Dependencies,
    presence::Presence,
};
use crate::{
    channels::{
        Broadcaster, LocalBroadcaster, NodeLimits,
        authorization::{AuthorizationWorker, Authorizer},
        broadcast_from_db::{BroadcastReader, StoredMessages, partitions::PartitionMaintainer},
        bus::nats::NatsStatus,
        diff_sink::HubDiffSink,
        history::{ChannelHistory, HistorySweeper, HistoryWriter},
        postgres_changes::{self, PostgresChanges},
        presence::{
            ChannelPresence, OccupancySender,
            remote::{RemoteChanges, RemotePresence, RemotePresenceNotifications},
            store::{PresenceRowWriter, PresenceStore},
        },
        replay::{DatabaseBroadcastSink, ReplayBuffers},
    },
    config::Config,
    lifecycle::Tasks,
    pg::listener::NotificationHandler,
    session::channels::Services,
};

/// Maximum time that startup waits for the channel state of the other nodes.
const PEER_SYNC_TIMEOUT: Duration = Duration::from_secs(3);

/// Background tasks of the channels domain.
pub(super) struct ChannelTasks {
    changes: postgres_changes::Engine,
    presence_row_writer: PresenceRowWriter,
    occupancy: OccupancySender,
    authorization: AuthorizationWorker,
    partitions: PartitionMaintainer,
    broadcasts: BroadcastReader<DatabaseBroadcastSink>,
    bus: BusTasks<LocalBroadcaster>,
    remote_presence: RemotePresence,
    history: HistorySweeper,
    history_writer: HistoryWriter,
}

pub(super) async fn new(
    config: &Config,
    deps: &Dependencies,
    presence: &Presence,
) -> anyhow::Result<(Arc<Services>, impl NotificationHandler + use<>, Option<NatsStatus>, ChannelTasks)> {
    let Dependencies { database, hub, node, clock, .. } = deps;
    let node = *node;
    let settings = &config.channels;
    let peers = bus::peers(&settings.nats, config.timeouts.lease);

    let presence_store = PresenceStore::default();
    let diff_sink = Arc::new(HubDiffSink::new(hub.clone()));
    let channel_presence = ChannelPresence::new(node, clock.clone(), diff_sink, presence_store.clone());
    let remote_changes = Arc::new(RemoteChanges::default());
    let remote_presence = RemotePresence::new(
        node,
        channel_presence.clone(),
        presence_store.clone(),
        database.clone(),
        remote_changes.clone(),
        peers.clone(),
        config.timeouts.lease,
    );
    let presence_row_writer =
        PresenceRowWriter::new(presence_store, channel_presence.clone(), database.clone(), node);

    let history = ChannelHistory::new(&settings.history);
    let local_broadcaster = LocalBroadcaster::new(hub.clone(), history.clone(), peers.clone());
    let (bus, bus_handler, nats, bus_tasks) =
        bus::new(node, database, (&settings.nats, settings.limits), peers, local_broadcaster.clone()).await?;
    let (authorizer, authorization_handler, authorization) = Authorizer::new(database.clone());
    let (partition_handler, partitions) = PartitionMaintainer::new(database.clone());
    let replay_buffers = ReplayBuffers::default();
    let (messages, broadcast_handler, broadcasts) = StoredMessages::new(
        database.clone(),
        settings.limits.payload_bytes().unwrap_or(usize::MAX),
        DatabaseBroadcastSink::new(local_broadcaster.clone(), replay_buffers.clone(), authorizer.clone()),
    );
    let (changes, changes_engine) =
        PostgresChanges::new(database.clone(), Arc::new(hub.clone()), settings.postgres_changes.clone());

    let services = Arc::new(Services {
        changes,
        hub: hub.clone(),
        users: presence.channel_users.clone(),
        verifier: deps.verifier.clone(),
        clock: clock.clone(),
        broadcaster: Broadcaster::new(local_broadcaster, bus),
        history: history.clone(),
        presence: channel_presence,
        authorizer,
        messages,
        replay_buffers,
        private_only: settings.private_only,
        presence_by_default: settings.presence_by_default,
        limits: Arc::new(NodeLimits::new(settings.limits, hub.clone())),
        tasks: deps.sockets.clone(),
        stopping: deps.stopping.clone(),
    });
    // Authorization comes before broadcasts: an invalidation is recorded before a later message is read.
    let handler = (
        (RemotePresenceNotifications(remote_changes), bus_handler),
        ((authorization_handler, partition_handler), broadcast_handler),
    );
    let tasks = ChannelTasks {
        changes: changes_engine,
        occupancy: OccupancySender::new(services.presence.clone()),
        presence_row_writer,
        authorization,
        partitions,
        broadcasts,
        bus: bus_tasks,
        remote_presence,
        history: HistorySweeper::new(history.memory),
        history_writer: HistoryWriter::new(history.queue, database.clone()),
    };
    Ok((services, handler, nats, tasks))
}

impl ChannelTasks {
    pub(super) fn spawn(self, tasks: &Tasks) -> PeersReady {
        let ready = PeersReady { presence: self.remote_presence.ready(), bus: self.bus.ready() };
        tasks.spawn_until_stopped("postgres changes", |stop| self.changes.run(stop));
        tasks.spawn_until_stopped("channel presence writer", |stop| self.presence_row_writer.run(stop));
        tasks.spawn_until_stopped("channel occupancy", |stop| self.occupancy.run(stop));
        tasks.spawn_until_stopped("channel authorization", |stop| self.authorization.run(stop));
        tasks.spawn_until_stopped("message partitions", |stop| self.partitions.run(stop));
        tasks.spawn_until_stopped("broadcasts from the database", |stop| self.broadcasts.run(stop));
        self.bus.spawn(tasks);
        tasks.spawn_until_stopped("channel history", |stop| self.history.run(stop));
        tasks.spawn_until_stopped("channel history writer", |stop| self.history_writer.run(stop));
        tasks.spawn_until_stopped("remote channel presence", |stop| self.remote_presence.run(stop));
        ready
    }
}

/// Becomes ready when the channel presence of the other nodes is read and the bus carries messages to this node.
pub(super) struct PeersReady {
    presence: watch::Receiver<bool>,
    bus: watch::Receiver<bool>,
}

impl PeersReady {
    /// Waits for at most [`PEER_SYNC_TIMEOUT`]. Sockets work without either.
    pub(super) async fn wait(mut self) {
        let both = async {
            // An error means that the task ended, which `Tasks` reports.
            drop(self.presence.wait_for(|ready| *ready).await);
            drop(self.bus.wait_for(|ready| *ready).await);
        };
        if timeout(PEER_SYNC_TIMEOUT, both).await.is_err() {
            tracing::warn!("accepting connections before remote presence is synchronized");
        }
    }
}
