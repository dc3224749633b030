//! Sends the context of a device to the user's other devices, on every node.
//!
//! A notification names the user and the version of the state. The node reads the row if the user has a socket here.
//! States missed while the listener was disconnected are read by time; delivering a state twice is harmless.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::device_context;
use crate::{
    backoff::Backoff,
    hub::{Delivery, Encodable, Hub, StateKey, UserIndex},
    lifecycle::ErrorChain,
    model::{ContextVersion, DeviceContext, DeviceId, UserId},
    pg::{Database, PgError, listener::NotificationHandler, notification::Notification},
    protocol::ServerMessage,
};

/// Maximum number of pending versions. Above it, all recent states are read, which costs less than the list.
const MAX_PENDING: usize = 10_000;
/// States or users per read.
const READ_BATCH_SIZE: usize = 1_000;
/// Timeout of a read.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time until the listener detects a dead connection: its ping interval plus the ping timeout.
const MAX_DETECTION_DELAY: Duration = Duration::from_secs(20);
/// Pauses between read attempts: doubling, with jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

#[derive(Default)]
struct Pending {
    versions: HashSet<ContextVersion>,
    /// Notifications since this time may have been missed.
    missed_since: Option<Instant>,
    is_disconnected: bool,
}

/// Pending notifications, shared by the listener and the task. Bounded.
#[derive(Default)]
struct PendingContexts {
    state: Mutex<Pending>,
    wake: Notify,
}

/// Adds notified versions to the pending ones.
pub struct ContextNotifications {
    pending: Arc<PendingContexts>,
    user_index: UserIndex,
}

impl NotificationHandler for ContextNotifications {
    fn on_notification(&self, notification: &Notification) {
        let Notification::Context(versions) = notification else { return };
        let versions = versions.iter().filter(|version| self.user_index.is_connected(version.user_id));
        let mut pending = self.pending.state.lock();
        pending.versions.extend(versions);
        if pending.versions.len() > MAX_PENDING {
            pending.versions.clear();
            pending.missed_since.get_or_insert_with(Instant::now);
        }
        drop(pending);
        self.pending.wake.notify_one();
    }

    fn on_connected(&self) {
        self.pending.state.lock().is_disconnected = false;
        self.pending.wake.notify_one();
    }

    fn on_disconnected(&self) {
        let mut pending = self.pending.state.lock();
        pending.is_disconnected = true;
        pending.missed_since.get_or_insert_with(Instant::now);
    }

    fn on_missed(&self, since: Instant) {
        let mut pending = self.pending.state.lock();
        pending.missed_since = Some(pending.missed_since.map_or(since, |earlier| earlier.min(since)));
        drop(pending);
        self.pending.wake.notify_one();
    }
}

/// Delivers contexts to the user's other devices; [`run`](Self::run) is its task.
pub struct ContextSync {
    database: Database,
    hub: Hub,
    user_index: UserIndex,
    pending: Arc<PendingContexts>,
}

impl ContextSync {
    /// Creates the task and its notification handler.
    #[must_use]
    pub fn new(database: Database, hub: Hub, user_index: UserIndex) -> (ContextNotifications, Self) {
        let pending = Arc::new(PendingContexts::default());
        let notifications = ContextNotifications { pending: pending.clone(), user_index: user_index.clone() };
        (notifications, Self { database, hub, user_index, pending })
    }

    /// Delivers contexts until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = BACKOFF;
        loop {
            let result = select! {
                () = stop.cancelled() => return,
                () = self.pending.wake.notified() => self.run_pass().await,
            };
            let Err(error) = result else {
                backoff.reset();
                continue;
            };
            let delay = backoff.next_delay();
            tracing::warn!(error = %ErrorChain(&error), retry_ms = delay.as_millis(), "context read failed");
            select! {
                () = stop.cancelled() => return,
                () = sleep(delay) => self.pending.wake.notify_one(),
            }
        }
    }

    /// Reads and delivers pending contexts; failed ones become pending again.
    async fn run_pass(&self) -> Result<(), PgError> {
        let (versions, missed_since) = {
            let mut pending = self.pending.state.lock();
            // While disconnected, more is being missed.
            let missed_since = if pending.is_disconnected { None } else { pending.missed_since.take() };
            (std::mem::take(&mut pending.versions).into_iter().collect::<Vec<_>>(), missed_since)
        };
        let read = self.read(&versions, missed_since).await;
        if read.is_err() {
            let mut pending = self.pending.state.lock();
            pending.versions.extend(versions);
            pending.missed_since = missed_since.into_iter().chain(pending.missed_since).min();
        }
        read
    }

    async fn read(&self, versions: &[ContextVersion], missed_since: Option<Instant>) -> Result<(), PgError> {
        for chunk in versions.chunks(READ_BATCH_SIZE) {
            let read = |connection| async move { device_context::latest(&connection, chunk).await };
            self.deliver(self.database.within(READ_TIMEOUT, read).await?).await;
        }
        if let Some(since) = missed_since {
            for chunk in self.user_index.users().chunks(READ_BATCH_SIZE) {
                let age = since.elapsed() + MAX_DETECTION_DELAY;
                let read = |connection| async move { device_context::recent(&connection, chunk, age).await };
                self.deliver(self.database.within(READ_TIMEOUT, read).await?).await;
            }
        }
        Ok(())
    }

    async fn deliver(&self, contexts: Vec<DeviceContext>) {
        let deliveries = contexts.into_iter().filter_map(|context| {
            let sockets = self.user_index.sockets(context.user_id).into_iter();
            let to: Vec<_> = sockets
                .filter(|socket| socket.device != context.device_id)
                .map(|socket| socket.conn)
                .collect();
            let key = Some(state_key(context.user_id, &context.device_id));
            let has_recipients = !to.is_empty();
            has_recipients.then(|| Delivery {
                key,
                message: Encodable::new(ServerMessage::ContextSync(Arc::new(context))),
                to,
            })
        });
        let deliveries: Vec<_> = deliveries.collect();
        if !deliveries.is_empty() && self.hub.fan_out(deliveries).await.is_err() {
            tracing::debug!("hub stopped; contexts dropped");
        }
    }
}

fn state_key(user: UserId, device: &DeviceId) -> StateKey {
    let mut hasher = DefaultHasher::new();
    device.hash(&mut hasher);
    StateKey::Context(user, hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::ConnId;

    fn notifications() -> (ContextNotifications, UserId) {
        let (user_index, user) = (UserIndex::default(), UserId::random());
        user_index.add(user, &DeviceId::unnamed(), ConnId::for_test(1));
        (ContextNotifications { pending: Arc::default(), user_index }, user)
    }

    #[test]
    fn only_users_with_sockets_on_this_node_are_pending() {
        let (notifications, user) = notifications();
        notifications.on_notification(&Notification::Context(vec![
            ContextVersion { user_id: user, version: 7 },
            ContextVersion { user_id: UserId::random(), version: 8 },
        ]));
        notifications.on_notification(&Notification::Visibility);
        let pending = notifications.pending.state.lock();
        assert_eq!(pending.versions, HashSet::from([ContextVersion { user_id: user, version: 7 }]));
        assert!(pending.missed_since.is_none());
    }

    #[test]
    fn disconnects_and_overflow_count_as_missed() {
        let (notifications, user) = notifications();
        let many =
            (0..=MAX_PENDING as i64).map(|version| ContextVersion { user_id: user, version }).collect();
        notifications.on_notification(&Notification::Context(many));
        assert!(notifications.pending.state.lock().missed_since.take().is_some());
        assert!(notifications.pending.state.lock().versions.is_empty());

        notifications.on_disconnected();
        notifications.on_connected();
        let pending = notifications.pending.state.lock();
        assert!(!pending.is_disconnected && pending.missed_since.is_some());
    }
}
