//! Builds the presence domain: writer, devices, visibility, typing and their notifications.

use std::sync::Arc;

use anyhow::Context as _;

use super::dependencies::Dependencies;
use crate::{
    config::Config,
    lifecycle::Tasks,
    model::{Module, Modules},
    pg::{Database, listener::NotificationHandler},
    presence::{
        PresenceService,
        channel_users::ChannelUsers,
        context_sync::ContextSync,
        devices::DeviceTracker,
        lease::NodeLease,
        outbox_relay::{OutboxNotifications, OutboxRelay, PendingIds},
        typing::run_expiry,
        visibility::{PendingChanges, Visibility, VisibilityNotifications, VisibilityTask},
        writer::{Writer, WriterTask},
    },
};

/// Handles of the presence domain.
pub(super) struct Presence {
    pub(super) service: Arc<PresenceService>,
    pub(super) lease: NodeLease,
    /// Users of channels, for forced disconnects.
    pub(super) channel_users: ChannelUsers,
    /// Changes that wait for the visibility task. It knows whether the listener is connected.
    pub(super) pending_changes: Arc<PendingChanges>,
}

/// Background tasks of the presence domain.
pub(super) struct PresenceTasks {
    database: Database,
    pending_changes: Arc<PendingChanges>,
    lease: NodeLease,
    device_tracker: DeviceTracker,
    writer: WriterTask,
    visibility: VisibilityTask,
    outbox_relay: OutboxRelay,
    context_sync: ContextSync,
}

/// Builds the domain and acquires the node's lease.
pub(super) async fn new(
    config: &Config,
    deps: &Dependencies,
) -> anyhow::Result<(Presence, impl NotificationHandler + use<>, PresenceTasks)> {
    let Dependencies { database, hub, user_index, .. } = deps;
    let pending_changes = Arc::new(PendingChanges::default());
    let channel_users = ChannelUsers::default();
    let outbox_ids = Arc::new(PendingIds::default());
    let (writer, writer_task) = Writer::new(database.clone());
    let (visibility, visibility_task) =
        Visibility::new(database.clone(), hub.clone(), pending_changes.clone(), config.resume);
    let device_tracker = DeviceTracker::new(writer.clone(), deps.node, config.timeouts);
    let lease = NodeLease::new(
        database.clone(),
        device_tracker.clone(),
        pending_changes.clone(),
        deps.modules.contains(Module::Presence),
    );
    lease.acquire().await.context("cannot acquire the node lease")?;
    let (device_sync_handler, context_sync) =
        ContextSync::new(database.clone(), hub.clone(), user_index.clone());
    let outbox_relay = OutboxRelay::new(
        database.clone(),
        hub.clone(),
        user_index.clone(),
        channel_users.clone(),
        device_tracker.clone(),
        outbox_ids.clone(),
    );
    let handler = (
        (VisibilityNotifications(pending_changes.clone()), device_sync_handler),
        OutboxNotifications(outbox_ids),
    );
    let service = Arc::new(PresenceService::new(
        database.clone(),
        writer,
        device_tracker.clone(),
        user_index.clone(),
        visibility,
        deps.limits.clone(),
    ));
    let tasks = PresenceTasks {
        database: database.clone(),
        pending_changes: pending_changes.clone(),
        lease: lease.clone(),
        device_tracker,
        writer: writer_task,
        visibility: visibility_task,
        outbox_relay,
        context_sync,
    };
    Ok((Presence { service, lease, channel_users, pending_changes }, handler, tasks))
}

impl PresenceTasks {
    /// Spawns the tasks. Without the module only the lease is kept, which channels need as well.
    pub(super) fn spawn(self, tasks: &Tasks, modules: Modules) {
        tasks.spawn_until_stopped("lease", |stop| self.lease.run(stop));
        if !modules.contains(Module::Presence) {
            return;
        }
        tasks.spawn_until_stopped("visibility", |stop| self.visibility.run(stop));
        tasks.spawn_until_stopped("typing", |stop| run_expiry(self.database, self.pending_changes, stop));
        tasks.spawn_until_stopped("outbox relay", |stop| self.outbox_relay.run(stop));
        tasks.spawn_until_stopped("device grace expiry", |stop| self.device_tracker.run_grace_expiry(stop));
        tasks.spawn_until_stopped("presence writer", |stop| self.writer.run(stop));
        tasks.spawn_until_stopped("context device sync", |stop| self.context_sync.run(stop));
    }
}
