//! Delivers outbox messages to sockets on every node: custom events, device sign-offs and forced disconnects.
//!
//! A row in `rollcall_internal.outbox` holds the content, a notification carries its ID, and each node's relay reads the row and
//! handles it. Delivery is at most once: clients that are not connected miss the message, and so does a node that lost
//! its LISTEN connection. State is not delivered this way.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{select, sync::Notify};
use tokio_util::sync::CancellationToken;

use super::{
    channel_users::{ChannelUsers, ForcedDisconnect},
    devices::{DeviceTracker, SignOff},
};
use crate::{
    backoff::Backoff,
    hub::{Delivery, Encodable, Hub, UserIndex},
    lifecycle::ErrorChain,
    model::{DeviceId, UserId},
    pg::{
        Database,
        listener::NotificationHandler,
        notification::Notification,
        queries::broadcast::{self, OutboxMessage},
    },
    protocol::ServerMessage,
    telemetry::metric,
    transport::CloseCode,
};

/// Maximum number of pending IDs. The oldest ones over it are dropped and counted.
const MAX_PENDING: usize = 10_000;
/// Messages per read; each may have 64 KiB.
const READ_BATCH_SIZE: usize = 64;
/// Timeout of a read.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses between read attempts: doubling, with jitter. Rows are kept for two minutes.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// IDs of outbox rows that were notified and not read yet. Bounded.
#[derive(Default)]
pub struct PendingIds {
    ids: Mutex<VecDeque<i64>>,
    wake: Notify,
}

impl PendingIds {
    async fn next_batch(&self) -> Vec<i64> {
        loop {
            let woken = self.wake.notified();
            {
                let mut ids = self.ids.lock();
                if !ids.is_empty() {
                    let count = ids.len().min(READ_BATCH_SIZE);
                    return ids.drain(..count).collect();
                }
            }
            woken.await;
        }
    }

    fn add(&self, new: &[i64]) {
        let mut ids = self.ids.lock();
        ids.extend(new);
        let excess = ids.len().saturating_sub(MAX_PENDING);
        if excess > 0 {
            ids.drain(..excess);
            metrics::counter!(metric::OUTBOX_MESSAGES_DROPPED).increment(excess as u64);
        }
        drop(ids);
        self.wake.notify_one();
    }
}

/// Adds notified IDs to [`PendingIds`].
pub struct OutboxNotifications(pub Arc<PendingIds>);

impl NotificationHandler for OutboxNotifications {
    fn on_notification(&self, notification: &Notification) {
        if let Notification::Outbox(ids) = notification {
            self.0.add(ids);
        }
    }

    // Missed messages are not recovered; see the module's documentation.
    fn on_connected(&self) {}

    fn on_disconnected(&self) {}

    fn on_missed(&self, _: tokio::time::Instant) {}
}

/// The relay; [`run`](Self::run) is its task.
pub struct OutboxRelay {
    database: Database,
    hub: Hub,
    user_index: UserIndex,
    channel_users: ChannelUsers,
    devices: DeviceTracker,
    pending: Arc<PendingIds>,
}

impl OutboxRelay {
    /// Creates a relay; [`run`](Self::run) is its task.
    #[must_use]
    pub const fn new(
        database: Database,
        hub: Hub,
        user_index: UserIndex,
        channel_users: ChannelUsers,
        devices: DeviceTracker,
        pending: Arc<PendingIds>,
    ) -> Self {
        Self { database, hub, user_index, channel_users, devices, pending }
    }

    /// Delivers outbox messages until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let ids = select! {
                () = stop.cancelled() => return,
                ids = self.pending.next_batch() => ids,
            };
            select! {
                () = stop.cancelled() => return,
                () = self.process(&ids) => {}
            }
        }
    }

    async fn process(&self, ids: &[i64]) {
        for message in self.read(ids).await {
            match message {
                OutboxMessage::SendEvent(users, event) => {
                    self.send_to_users(&users, ServerMessage::Custom(event)).await
                }
                OutboxMessage::SignOff(users, device) => {
                    users.into_iter().for_each(|user| self.sign_off(user, device.as_ref()));
                }
                OutboxMessage::Disconnect(users, None, reason) => self.disconnect(&users, &reason),
                OutboxMessage::Disconnect(users, Some(device), reason) => {
                    self.disconnect_device(&users, &device, &reason);
                }
            }
        }
    }

    /// Reads the rows, retrying until the database answers.
    async fn read(&self, ids: &[i64]) -> Vec<OutboxMessage> {
        let mut backoff = BACKOFF;
        loop {
            let read = |connection| async move { broadcast::read(&connection, ids).await };
            let error = match self.database.within(READ_TIMEOUT, read).await {
                Ok(messages) => return messages,
                Err(error) => error,
            };
            let delay = backoff.next_delay();
            tracing::warn!(error = %ErrorChain(&error), retry_ms = delay.as_millis(), "outbox read failed");
            tokio::time::sleep(delay).await;
        }
    }

    async fn send_to_users(&self, users: &[UserId], message: ServerMessage) {
        let to = self.user_index.connections_of(users);
        if to.is_empty() {
            return;
        }
        let delivery = Delivery { key: None, message: Encodable::new(message), to };
        if self.hub.fan_out(vec![delivery]).await.is_err() {
            tracing::debug!("hub stopped; outbox message dropped");
        }
    }

    fn disconnect(&self, users: &[UserId], reason: &str) {
        for connection in
            self.user_index.connections_of(users).into_iter().filter_map(|conn| self.hub.connection(conn))
        {
            connection.close(CloseCode::Disconnected, reason);
        }
        // A channel socket may act as other users too, so its session closes only this user's channels.
        let reason: Arc<str> = reason.into();
        for user in users {
            let request = ForcedDisconnect { user: *user, reason: Arc::clone(&reason) };
            for connection in self
                .channel_users
                .request_disconnect(&request)
                .into_iter()
                .filter_map(|conn| self.hub.connection(conn))
            {
                connection.wake();
            }
        }
    }

    /// Closes the sockets of one device of each user. Channel sockets have no device.
    fn disconnect_device(&self, users: &[UserId], device: &DeviceId, reason: &str) {
        let ids = users.iter().flat_map(|user| self.user_index.connections_on(*user, Some(device)));
        for connection in ids.filter_map(|conn| self.hub.connection(conn)) {
            connection.close(CloseCode::Disconnected, reason);
        }
    }

    fn sign_off(&self, user: UserId, device: Option<&DeviceId>) {
        // The device is marked first: a socket that reconnects at once must find it signed off.
        self.devices.mark_signed_off(user, device, SignOff::Request);
        for conn in self.user_index.connections_on(user, device) {
            if let Some(connection) = self.hub.connection(conn) {
                connection.close(CloseCode::Normal, "signed off");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ids_are_returned_in_order_and_in_bounded_batches() {
        let pending = Arc::new(PendingIds::default());
        let notifications = OutboxNotifications(pending.clone());
        (0..100).for_each(|id| notifications.on_notification(&Notification::Outbox(vec![id])));
        notifications.on_notification(&Notification::Visibility);

        assert_eq!(pending.next_batch().await, (0..64).collect::<Vec<_>>());
        assert_eq!(pending.next_batch().await, (64..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn the_oldest_ids_over_the_maximum_are_dropped() {
        let pending = PendingIds::default();
        (0..=MAX_PENDING as i64).for_each(|id| pending.add(&[id]));
        assert_eq!(pending.next_batch().await[0], 1);
    }
}
