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
    guests::{Dismissal, Guests},
    liveness::Liveness,
    roster::Roster,
};
use crate::{
    hub::{Delivery, Encodable, Hub},
    model::{DeviceId, UserId},
    pg::{
        Database, PgError,
        listener::{Audience, BROADCAST},
        queries::broadcast::{self, Errand},
    },
    protocol::ServerMessage,
    telemetry::metric,
    transport::CloseCode,
};

/// Errands that may wait. Over it the oldest is given up, and counted.
const MOST_WAITING: usize = 10_000;
/// Errands read at once: each may have 64 KiB.
const ERRANDS_A_READ: usize = 64;
/// How long a read may take.
const READ_LIMIT: Duration = Duration::from_secs(5);
/// Between attempts to read: doubling, with jitter. Entries are kept for two minutes.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Ids that were heard and not yet looked at. Bounded.
#[derive(Default)]
pub struct Errands {
    waiting: Mutex<VecDeque<i64>>,
    wake: Notify,
}

impl Errands {
    async fn next(&self) -> Vec<i64> {
        loop {
            let woken = self.wake.notified();
            {
                let mut waiting = self.waiting.lock();
                if !waiting.is_empty() {
                    let now = waiting.len().min(ERRANDS_A_READ);
                    return waiting.drain(..now).collect();
                }
            }
            woken.await;
        }
    }

    fn heard(&self, payload: &str) {
        let mut waiting = self.waiting.lock();
        waiting.extend(payload.split(',').filter_map(|id| id.parse::<i64>().ok()));
        let over = waiting.len().saturating_sub(MOST_WAITING);
        if over > 0 {
            waiting.drain(..over);
            metrics::counter!(metric::ERRANDS_DROPPED).increment(over as u64);
        }
        drop(waiting);
        self.wake.notify_one();
    }
}

/// The listener's end of [`Errands`].
pub struct CourierEars(pub Arc<Errands>);

impl Audience for CourierEars {
    fn heard(&self, channel: &str, payload: &str) {
        if channel == BROADCAST {
            self.0.heard(payload);
        }
    }

    // What was missed is missed: see the module.
    fn listening(&self) {}

    fn deaf(&self) {}
}

/// The task that runs errands.
pub struct Courier {
    database: Database,
    hub: Hub,
    roster: Roster,
    guests: Guests,
    liveness: Liveness,
    errands: Arc<Errands>,
}

impl Courier {
    /// Makes a courier; [`run`](Self::run) is its task.
    #[must_use]
    pub const fn new(
        database: Database,
        hub: Hub,
        roster: Roster,
        guests: Guests,
        liveness: Liveness,
        errands: Arc<Errands>,
    ) -> Self {
        Self { database, hub, roster, guests, liveness, errands }
    }

    /// Runs errands until stopped.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let ids = select! {
                () = stop.cancelled() => return,
                ids = self.errands.next() => ids,
            };
            select! {
                () = stop.cancelled() => return,
                () = self.serve(&ids) => {}
            }
        }
    }

    async fn serve(&self, ids: &[i64]) {
        for errand in self.read(ids).await {
            match errand {
                Errand::Tell(users, event) => self.tell(&users, ServerMessage::Custom(event)).await,
                Errand::SignOff(users, device) => {
                    users.into_iter().for_each(|user| self.sign_off(user, device.as_ref()));
                }
                Errand::Disconnect(users, reason) => self.disconnect(&users, &reason),
            }
        }
    }

    /// Reads until the database answers: there is nothing else to do for a courier.
    async fn read(&self, ids: &[i64]) -> Vec<Errand> {
        let mut retry = FIRST_RETRY;
        loop {
            let read = async { broadcast::read(&self.database.own().await?, ids).await };
            let error = match timeout(READ_LIMIT, read).await {
                Ok(Ok(errands)) => return errands,
                Ok(Err(error)) => error,
                Err(_) => PgError::Unavailable("no answer in time".into()),
            };
            tracing::warn!(error = ?error, "could not read what sockets are to be told");
            let pause = retry.mul_f64(rand::rng().random_range(0.5..1.0));
            tokio::time::sleep(pause).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    async fn tell(&self, users: &[UserId], message: ServerMessage) {
        let to = self.roster.of(users);
        if to.is_empty() {
            return;
        }
        let delivery = Delivery { key: None, message: Encodable::new(message), to };
        if self.hub.fan_out(vec![delivery]).await.is_err() {
            tracing::debug!("nobody is left to tell");
        }
    }

    fn disconnect(&self, users: &[UserId], reason: &str) {
        for connection in self.roster.of(users).into_iter().filter_map(|conn| self.hub.connection(conn)) {
            connection.close(CloseCode::Disconnected, reason);
        }
        // A channel socket may act as others too, so its session ends what is this user's.
        let reason: Arc<str> = reason.into();
        for user in users {
            let dismissal = Dismissal { user: *user, reason: Arc::clone(&reason) };
            for connection in
                self.guests.dismiss(&dismissal).into_iter().filter_map(|conn| self.hub.connection(conn))
            {
                connection.nudge();
            }
        }
    }

    fn sign_off(&self, user: UserId, device: Option<&DeviceId>) {
        // First the device, then its sockets: one that comes back at once must find it signed off.
        self.liveness.signed_off(user, device);
        for conn in self.roster.on(user, device) {
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
    async fn errands_come_in_order_and_in_bounded_portions() {
        let errands = Arc::new(Errands::default());
        let ears = CourierEars(errands.clone());
        (0..100).for_each(|id| ears.heard(BROADCAST, &id.to_string()));
        ears.heard("another_channel", "7");
        ears.heard(BROADCAST, "not an id");

        assert_eq!(errands.next().await, (0..64).collect::<Vec<_>>());
        assert_eq!(errands.next().await, (64..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn the_oldest_of_too_many_are_given_up() {
        let errands = Errands::default();
        (0..=MOST_WAITING as i64).for_each(|id| errands.heard(&id.to_string()));
        assert_eq!(errands.next().await[0], 1);
    }
}
