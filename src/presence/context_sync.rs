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

use super::roster::Roster;
use crate::{
    hub::{Delivery, Encodable, Hub, StateKey},
    model::{DeviceContext, DeviceId, UserId},
    pg::{
        Database, PgError,
        listener::{Audience, CONTEXT},
        queries::context::{self, ContextVersion},
    },
    protocol::ServerMessage,
};

/// States that are remembered one by one. Past it everything of late is read, which costs less than the list.
const MOST_HEARD: usize = 10_000;
/// States, or users, in one read.
const AT_ONCE: usize = 1_000;
/// How long a read may take.
const READ_LIMIT: Duration = Duration::from_secs(5);
/// A connection may have been dead for so long before the listener noticed: its ping, and the time to answer it.
const UNNOTICED: Duration = Duration::from_secs(20);
/// Between attempts to read: doubling, with jitter.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Heard {
    versions: HashSet<ContextVersion>,
    /// What was told since then may have been missed.
    missed_since: Option<Instant>,
    deaf: bool,
}

/// The meeting point of listener and task. Bounded, because it merges.
#[derive(Default)]
struct Inbox {
    heard: Mutex<Heard>,
    wake: Notify,
}

/// The listener's end.
pub struct ContextEars {
    inbox: Arc<Inbox>,
    roster: Roster,
}

impl Audience for ContextEars {
    fn heard(&self, channel: &str, payload: &str) {
        if channel != CONTEXT {
            return;
        }
        let pairs = payload.split_once('|').map_or(payload, |(_sent_at, pairs)| pairs);
        let wanted = pairs.split(',').filter_map(version).filter(|heard| self.roster.has(heard.user_id));
        let mut heard = self.inbox.heard.lock();
        heard.versions.extend(wanted);
        if heard.versions.len() > MOST_HEARD {
            heard.versions.clear();
            heard.missed_since.get_or_insert_with(Instant::now);
        }
        drop(heard);
        self.inbox.wake.notify_one();
    }

    fn listening(&self) {
        self.inbox.heard.lock().deaf = false;
        self.inbox.wake.notify_one();
    }

    fn deaf(&self) {
        let mut heard = self.inbox.heard.lock();
        heard.deaf = true;
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
    roster: Roster,
    inbox: Arc<Inbox>,
}

/// Makes the task and its ears.
#[must_use]
pub fn context_sync(database: Database, hub: Hub, roster: Roster) -> (ContextEars, ContextSync) {
    let inbox = Arc::new(Inbox::default());
    let ears = ContextEars { inbox: inbox.clone(), roster: roster.clone() };
    (ears, ContextSync { database, hub, roster, inbox })
}

impl ContextSync {
    /// Passes on until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut retry = FIRST_RETRY;
        loop {
            let pause = select! {
                () = stop.cancelled() => return,
                () = self.inbox.wake.notified() => self.pass().await.err(),
            };
            let Some(error) = pause else {
                retry = FIRST_RETRY;
                continue;
            };
            tracing::warn!(error = ?error, retry_ms = retry.as_millis(), "could not read context signals");
            select! {
                () = stop.cancelled() => return,
                () = sleep(retry.mul_f64(rand::rng().random_range(0.5..1.0))) => self.inbox.wake.notify_one(),
            }
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    /// Reads and passes on what was heard; what could not be read is heard again.
    async fn pass(&self) -> Result<(), PgError> {
        let (versions, missed_since) = {
            let mut heard = self.inbox.heard.lock();
            // While deaf there is no end of what is missed.
            let missed_since = if heard.deaf { None } else { heard.missed_since.take() };
            (std::mem::take(&mut heard.versions).into_iter().collect::<Vec<_>>(), missed_since)
        };
        let read = self.read(&versions, missed_since).await;
        if read.is_err() {
            let mut heard = self.inbox.heard.lock();
            heard.versions.extend(versions);
            heard.missed_since = missed_since.into_iter().chain(heard.missed_since).min();
        }
        read
    }

    async fn read(&self, versions: &[ContextVersion], missed_since: Option<Instant>) -> Result<(), PgError> {
        for chunk in versions.chunks(AT_ONCE) {
            let contexts = async { context::read(&self.database.own().await?, chunk).await };
            self.tell(in_time(contexts).await?).await;
        }
        if let Some(since) = missed_since {
            for chunk in self.roster.users().chunks(AT_ONCE) {
                let age = since.elapsed() + UNNOTICED;
                let contexts = async { context::recent(&self.database.own().await?, chunk, age).await };
                self.tell(in_time(contexts).await?).await;
            }
        }
        Ok(())
    }

    async fn tell(&self, contexts: Vec<DeviceContext>) {
        let deliveries = contexts.into_iter().filter_map(|context| {
            let seats = self.roster.seats(context.user_id).into_iter();
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

async fn in_time<T>(read: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
    timeout(READ_LIMIT, read)
        .await
        .unwrap_or_else(|_| Err(PgError::Unavailable("reading took too long".into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::ConnId;

    fn ears() -> (ContextEars, UserId) {
        let (roster, user) = (Roster::default(), UserId::random());
        roster.enter(user, &DeviceId::unnamed(), ConnId::for_test(1));
        (ContextEars { inbox: Arc::default(), roster }, user)
    }

    #[test]
    fn only_users_with_sockets_here_are_heard_of() {
        let (ears, user) = ears();
        ears.heard(CONTEXT, &format!("1700000000000|{user}:7,{}:8", UserId::random()));
        ears.heard("rollcall_presence", &format!("1700000000000|{user}"));
        let heard = ears.inbox.heard.lock();
        assert_eq!(heard.versions, HashSet::from([ContextVersion { user_id: user, version: 7 }]));
        assert!(heard.missed_since.is_none());
    }

    #[test]
    fn a_payload_that_is_not_ours_does_no_harm() {
        let (ears, user) = ears();
        for payload in ["", "|", ":", "1|:", "1|x:1", &format!("1|{user}:"), &format!("1|{user}:x")] {
            ears.heard(CONTEXT, payload);
        }
        assert!(ears.inbox.heard.lock().versions.is_empty());
    }

    #[test]
    fn deafness_and_floods_mean_that_something_was_missed() {
        let (ears, user) = ears();
        let many: Vec<String> = (0..=MOST_HEARD).map(|version| format!("{user}:{version}")).collect();
        ears.heard(CONTEXT, &format!("1|{}", many.join(",")));
        assert!(ears.inbox.heard.lock().missed_since.take().is_some());
        assert!(ears.inbox.heard.lock().versions.is_empty());

        ears.deaf();
        ears.listening();
        let heard = ears.inbox.heard.lock();
        assert!(!heard.deaf && heard.missed_since.is_some());
    }
}
