//! What a user does on one device reaches the user's other devices, on whichever node their sockets are.
//!
//! A notification names the user and the version of the state; the node reads the row, unless nobody here wants to
//! know. What was missed while the listener was deaf is read by time: telling a state twice does no harm.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rand::Rng;
use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::device_context::{self, ContextVersion};
use crate::{
    hub::{Delivery, Encodable, Hub, StateKey, UserIndex},
    model::{DeviceContext, DeviceId, UserId},
    pg::{
        Database, PgError,
        listener::{CONTEXT, NotificationHandler},
    },
    protocol::ServerMessage,
};

/// States that are remembered one by one. Past it everything of late is read, which costs less than the list.
const MAX_PENDING: usize = 10_000;
/// States, or users, in one read.
const READ_BATCH_SIZE: usize = 1_000;
/// How long a read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection may have been dead for so long before the listener noticed: its ping, and the time to answer it.
const MAX_DETECTION_DELAY: Duration = Duration::from_secs(20);
/// Between attempts to read: doubling, with jitter.
const INITIAL_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Pending {
    versions: HashSet<ContextVersion>,
    /// What was told since then may have been missed.
    missed_since: Option<Instant>,
    is_disconnected: bool,
}

/// The meeting point of listener and task. Bounded, because it merges.
#[derive(Default)]
struct PendingContexts {
    pending: Mutex<Pending>,
    wake: Notify,
}

/// The listener's end.
pub struct ContextNotifications {
    pending: Arc<PendingContexts>,
    user_index: UserIndex,
}

impl NotificationHandler for ContextNotifications {
    fn on_notification(&self, channel: &str, payload: &str) {
        if channel != CONTEXT {
            return;
        }
        let pairs = payload.split_once('|').map_or(payload, |(_sent_at, pairs)| pairs);
        let wanted =
            pairs.split(',').filter_map(version).filter(|heard| self.user_index.is_connected(heard.user_id));
        let mut heard = self.pending.pending.lock();
        heard.versions.extend(wanted);
        if heard.versions.len() > MAX_PENDING {
            heard.versions.clear();
            heard.missed_since.get_or_insert_with(Instant::now);
        }
        drop(heard);
        self.pending.wake.notify_one();
    }

    fn on_connected(&self) {
        self.pending.pending.lock().is_disconnected = false;
        self.pending.wake.notify_one();
    }

    fn on_disconnected(&self) {
        let mut heard = self.pending.pending.lock();
        heard.is_disconnected = true;
        heard.missed_since.get_or_insert_with(Instant::now);
    }
}

fn version(pair: &str) -> Option<ContextVersion> {
    let (user, version) = pair.split_once(':')?;
    Some(ContextVersion { user_id: user.parse().ok()?, version: version.parse().ok()? })
}

/// Passes context on to the user's other devices; [`run`](Self::run) is its task.
pub struct ContextSync {
    database: Database,
    hub: Hub,
    user_index: UserIndex,
    pending: Arc<PendingContexts>,
}

/// Makes the task and its ears.
#[must_use]
pub fn context_sync(database: Database, hub: Hub, roster: UserIndex) -> (ContextNotifications, ContextSync) {
    let inbox = Arc::new(PendingContexts::default());
    let ears = ContextNotifications { pending: inbox.clone(), user_index: roster.clone() };
    (ears, ContextSync { database, hub, user_index: roster, pending: inbox })
}

impl ContextSync {
    /// Passes on until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut retry = INITIAL_BACKOFF;
        loop {
            let pause = select! {
                () = stop.cancelled() => return,
                () = self.pending.wake.notified() => self.run_pass().await.err(),
            };
            let Some(error) = pause else {
                retry = INITIAL_BACKOFF;
                continue;
            };
            tracing::warn!(error = ?error, retry_ms = retry.as_millis(), "could not read context signals");
            select! {
                () = stop.cancelled() => return,
                () = sleep(retry.mul_f64(rand::rng().random_range(0.5..1.0))) => self.pending.wake.notify_one(),
            }
            retry = (retry * 2).min(MAX_BACKOFF);
        }
    }

    /// Reads and passes on what was heard; what could not be read is heard again.
    async fn run_pass(&self) -> Result<(), PgError> {
        let (versions, missed_since) = {
            let mut heard = self.pending.pending.lock();
            // While deaf there is no end of what is missed.
            let missed_since = if heard.is_disconnected { None } else { heard.missed_since.take() };
            (std::mem::take(&mut heard.versions).into_iter().collect::<Vec<_>>(), missed_since)
        };
        let read = self.read(&versions, missed_since).await;
        if read.is_err() {
            let mut heard = self.pending.pending.lock();
            heard.versions.extend(versions);
            heard.missed_since = missed_since.into_iter().chain(heard.missed_since).min();
        }
        read
    }

    async fn read(&self, versions: &[ContextVersion], missed_since: Option<Instant>) -> Result<(), PgError> {
        for chunk in versions.chunks(READ_BATCH_SIZE) {
            let contexts =
                async { device_context::latest(&self.database.server_connection().await?, chunk).await };
            self.deliver(with_timeout(contexts).await?).await;
        }
        if let Some(since) = missed_since {
            for chunk in self.user_index.users().chunks(READ_BATCH_SIZE) {
                let age = since.elapsed() + MAX_DETECTION_DELAY;
                let contexts = async {
                    device_context::recent(&self.database.server_connection().await?, chunk, age).await
                };
                self.deliver(with_timeout(contexts).await?).await;
            }
        }
        Ok(())
    }

    async fn deliver(&self, contexts: Vec<DeviceContext>) {
        let deliveries = contexts.into_iter().filter_map(|context| {
            let seats = self.user_index.sockets(context.user_id).into_iter();
            let to: Vec<_> =
                seats.filter(|seat| seat.device != context.device_id).map(|seat| seat.conn).collect();
            let key = Some(key(context.user_id, &context.device_id));
            let told = !to.is_empty();
            told.then(|| Delivery {
                key,
                message: Encodable::new(ServerMessage::ContextSync(Arc::new(context))),
                to,
            })
        });
        let deliveries: Vec<_> = deliveries.collect();
        if !deliveries.is_empty() && self.hub.fan_out(deliveries).await.is_err() {
            tracing::debug!("nobody is left to tell");
        }
    }
}

fn key(user: UserId, device: &DeviceId) -> StateKey {
    let mut hasher = DefaultHasher::new();
    device.hash(&mut hasher);
    StateKey::Context(user, hasher.finish())
}

async fn with_timeout<T>(read: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
    timeout(READ_TIMEOUT, read)
        .await
        .unwrap_or_else(|_| Err(PgError::Unavailable("reading took too long".into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::ConnId;

    fn notifications() -> (ContextNotifications, UserId) {
        let (roster, user) = (UserIndex::default(), UserId::random());
        roster.add(user, &DeviceId::unnamed(), ConnId::for_test(1));
        (ContextNotifications { pending: Arc::default(), user_index: roster }, user)
    }

    #[test]
    fn only_users_with_sockets_on_this_node_are_pending() {
        let (ears, user) = notifications();
        ears.on_notification(CONTEXT, &format!("1700000000000|{user}:7,{}:8", UserId::random()));
        ears.on_notification("rollcall_presence", &format!("1700000000000|{user}"));
        let heard = ears.pending.pending.lock();
        assert_eq!(heard.versions, HashSet::from([ContextVersion { user_id: user, version: 7 }]));
        assert!(heard.missed_since.is_none());
    }

    #[test]
    fn invalid_payloads_are_ignored() {
        let (ears, user) = notifications();
        for payload in ["", "|", ":", "1|:", "1|x:1", &format!("1|{user}:"), &format!("1|{user}:x")] {
            ears.on_notification(CONTEXT, payload);
        }
        assert!(ears.pending.pending.lock().versions.is_empty());
    }

    #[test]
    fn disconnects_and_overflow_count_as_missed() {
        let (ears, user) = notifications();
        let many: Vec<String> = (0..=MAX_PENDING).map(|version| format!("{user}:{version}")).collect();
        ears.on_notification(CONTEXT, &format!("1|{}", many.join(",")));
        assert!(ears.pending.pending.lock().missed_since.take().is_some());
        assert!(ears.pending.pending.lock().versions.is_empty());

        ears.on_disconnected();
        ears.on_connected();
        let heard = ears.pending.pending.lock();
        assert!(!heard.is_disconnected && heard.missed_since.is_some());
    }
}
