//! What goes straight to sockets, whichever node they are on: events that the operator's back end sends, devices
//! that were signed off, and users whom an administrator disconnects.
//!
//! An entry in `rollcall.outbox` holds the content, a notification carries its id, and each node's courier reads it
//! and does its part. At most once: whoever is not connected at the moment misses it, and so does a node that has
//! lost its LISTEN connection. State does not travel this way.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rand::Rng;
use tokio::{select, sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    channel_users::{ChannelUsers, ForcedDisconnect},
    devices::DeviceTracker,
};
use crate::{
    hub::{Delivery, Encodable, Hub, UserIndex},
    model::{DeviceId, UserId},
    pg::{
        Database, PgError,
        listener::{BROADCAST, NotificationHandler},
        queries::broadcast::{self, OutboxMessage},
    },
    protocol::ServerMessage,
    telemetry::metric,
    transport::CloseCode,
};

/// Errands that may wait. Over it the oldest is given up, and counted.
const MAX_PENDING: usize = 10_000;
/// Errands read at once: each may have 64 KiB.
const READ_BATCH_SIZE: usize = 64;
/// How long a read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Between attempts to read: doubling, with jitter. Entries are kept for two minutes.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Ids that were heard and not yet looked at. Bounded.
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
                let mut waiting = self.ids.lock();
                if !waiting.is_empty() {
                    let now = waiting.len().min(READ_BATCH_SIZE);
                    return waiting.drain(..now).collect();
                }
            }
            woken.await;
        }
    }

    fn add(&self, payload: &str) {
        let mut waiting = self.ids.lock();
        waiting.extend(payload.split(',').filter_map(|id| id.parse::<i64>().ok()));
        let over = waiting.len().saturating_sub(MAX_PENDING);
        if over > 0 {
            waiting.drain(..over);
            metrics::counter!(metric::OUTBOX_MESSAGES_DROPPED).increment(over as u64);
        }
        drop(waiting);
        self.wake.notify_one();
    }
}

/// The listener's end of [`Errands`].
pub struct OutboxNotifications(pub Arc<PendingIds>);

impl NotificationHandler for OutboxNotifications {
    fn on_notification(&self, channel: &str, payload: &str) {
        if channel == BROADCAST {
            self.0.add(payload);
        }
    }

    // What was missed is missed: see the module.
    fn on_connected(&self) {}

    fn on_disconnected(&self) {}
}

/// The task that runs errands.
pub struct OutboxRelay {
    database: Database,
    hub: Hub,
    user_index: UserIndex,
    channel_users: ChannelUsers,
    devices: DeviceTracker,
    pending: Arc<PendingIds>,
}

impl OutboxRelay {
    /// Makes a courier; [`run`](Self::run) is its task.
    #[must_use]
    pub const fn new(
        database: Database,
        hub: Hub,
        roster: UserIndex,
        guests: ChannelUsers,
        liveness: DeviceTracker,
        errands: Arc<PendingIds>,
    ) -> Self {
        Self { database, hub, user_index: roster, channel_users: guests, devices: liveness, pending: errands }
    }

    /// Runs errands until stopped.
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
        for errand in self.read(ids).await {
            match errand {
                OutboxMessage::SendEvent(users, event) => {
                    self.send_to_users(&users, ServerMessage::Custom(event)).await
                }
                OutboxMessage::SignOff(users, device) => {
                    users.into_iter().for_each(|user| self.sign_off(user, device.as_ref()));
                }
                OutboxMessage::Disconnect(users, reason) => self.disconnect(&users, &reason),
            }
        }
    }

    /// Reads until the database answers: there is nothing else to do for a courier.
    async fn read(&self, ids: &[i64]) -> Vec<OutboxMessage> {
        let mut retry = INITIAL_BACKOFF;
        loop {
            let read = async { broadcast::read(&self.database.server_connection().await?, ids).await };
            let error = match timeout(READ_TIMEOUT, read).await {
                Ok(Ok(errands)) => return errands,
                Ok(Err(error)) => error,
                Err(_) => PgError::Unavailable("no answer in time".into()),
            };
            tracing::warn!(error = ?error, "could not read what sockets are to be told");
            let pause = retry.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::time::sleep(pause).await;
            retry = (retry * 2).min(MAX_BACKOFF);
        }
    }

    async fn send_to_users(&self, users: &[UserId], message: ServerMessage) {
        let to = self.user_index.connections_of(users);
        if to.is_empty() {
            return;
        }
        let delivery = Delivery { key: None, message: Encodable::new(message), to };
        if self.hub.fan_out(vec![delivery]).await.is_err() {
            tracing::debug!("nobody is left to tell");
        }
    }

    fn disconnect(&self, users: &[UserId], reason: &str) {
        for connection in
            self.user_index.connections_of(users).into_iter().filter_map(|conn| self.hub.connection(conn))
        {
            connection.close(CloseCode::Disconnected, reason);
        }
        // A channel socket may act as others too, so its session ends what is this user's.
        let reason: Arc<str> = reason.into();
        for user in users {
            let dismissal = ForcedDisconnect { user: *user, reason: Arc::clone(&reason) };
            for connection in self
                .channel_users
                .request_disconnect(&dismissal)
                .into_iter()
                .filter_map(|conn| self.hub.connection(conn))
            {
                connection.wake();
            }
        }
    }

    fn sign_off(&self, user: UserId, device: Option<&DeviceId>) {
        // First the device, then its sockets: one that comes back at once must find it signed off.
        self.devices.mark_signed_off(user, device);
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
        let errands = Arc::new(PendingIds::default());
        let ears = OutboxNotifications(errands.clone());
        (0..100).for_each(|id| ears.on_notification(BROADCAST, &id.to_string()));
        ears.on_notification("another_channel", "7");
        ears.on_notification(BROADCAST, "not an id");

        assert_eq!(errands.next_batch().await, (0..64).collect::<Vec<_>>());
        assert_eq!(errands.next_batch().await, (64..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn the_oldest_ids_over_the_maximum_are_dropped() {
        let errands = PendingIds::default();
        (0..=MAX_PENDING as i64).for_each(|id| errands.add(&id.to_string()));
        assert_eq!(errands.next_batch().await[0], 1);
    }
}
