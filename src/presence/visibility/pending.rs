//! Notifications that the visibility task has not processed yet, merged.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    model::{TypingUser, UserId},
    pg::{
        listener::NotificationHandler,
        notification::{Notification, SentAt},
    },
    telemetry::metric,
};

/// Maximum number of pending users or typing states. Above it a resync is done, which costs less than the list.
const MAX_PENDING_USERS: usize = 50_000;

/// The changes to process in the next pass.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PendingBatch {
    /// Users with changed faces.
    pub users: HashSet<UserId>,
    /// Typing states that started or ended.
    pub typing_users: HashSet<TypingUser>,
    /// A new snapshot is needed: visibility changed, or the snapshot is due for renewal.
    pub advance_snapshot: bool,
    /// Notifications were missed: everything must be read again.
    pub resync: bool,
}

#[derive(Default)]
struct State {
    batch: PendingBatch,
    is_disconnected: bool,
}

/// Pending changes, shared by the listener and the visibility task. Bounded, because notifications are merged.
#[derive(Default)]
pub struct PendingChanges {
    state: Mutex<State>,
    wake: Notify,
    typing: Notify,
}

impl PendingChanges {
    /// Waits until a user on any node started or stopped typing since the last call.
    pub async fn typing_notified(&self) {
        self.typing.notified().await;
    }

    /// Requests a new snapshot.
    pub fn request_snapshot(&self) {
        self.state.lock().batch.advance_snapshot = true;
        self.wake.notify_one();
    }

    /// Adds users to be read again.
    pub(super) fn requeue_users(&self, users: impl IntoIterator<Item = UserId>) {
        self.state.lock().batch.users.extend(users);
        self.wake.notify_one();
    }

    /// Adds typing states to be read again.
    pub(super) fn requeue_typing(&self, typing_users: impl IntoIterator<Item = TypingUser>) {
        self.state.lock().batch.typing_users.extend(typing_users);
        self.wake.notify_one();
    }

    pub(super) fn request_resync(&self) {
        self.state.lock().batch.resync = true;
        self.wake.notify_one();
    }

    /// Waits until there are pending changes and the listener is connected.
    pub(super) async fn ready(&self) {
        loop {
            let woken = self.wake.notified();
            {
                let state = self.state.lock();
                if !state.is_disconnected && state.batch != PendingBatch::default() {
                    return;
                }
            }
            woken.await;
        }
    }

    /// Takes the pending changes.
    pub(super) fn take(&self) -> PendingBatch {
        std::mem::take(&mut self.state.lock().batch)
    }

    /// Whether the listener is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        !self.state.lock().is_disconnected
    }
}

/// Adds notifications to [`PendingChanges`].
pub struct VisibilityNotifications(pub Arc<PendingChanges>);

impl NotificationHandler for VisibilityNotifications {
    fn on_notification(&self, notification: &Notification) {
        let mut state = self.0.state.lock();
        match notification {
            Notification::Presence { sent_at, users } => {
                record_notify_lag(*sent_at);
                state.batch.users.extend(users);
                if state.batch.users.len() > MAX_PENDING_USERS {
                    state.batch.users.clear();
                    state.batch.resync = true;
                }
            }
            Notification::Typing { sent_at, typing } => {
                record_notify_lag(*sent_at);
                state.batch.typing_users.extend(typing.iter().cloned());
                if state.batch.typing_users.len() > MAX_PENDING_USERS {
                    state.batch.typing_users.clear();
                    state.batch.resync = true;
                }
                self.0.typing.notify_one();
            }
            Notification::Visibility => state.batch.advance_snapshot = true,
            // Handled elsewhere.
            _ => return,
        }
        drop(state);
        self.0.wake.notify_one();
    }

    fn on_connected(&self) {
        let mut state = self.0.state.lock();
        state.is_disconnected = false;
        state.batch.resync = true;
        drop(state);
        self.0.wake.notify_one();
        self.0.typing.notify_one();
    }

    fn on_disconnected(&self) {
        self.0.state.lock().is_disconnected = true;
    }

    fn on_missed(&self, _: tokio::time::Instant) {
        self.0.state.lock().batch.resync = true;
        self.0.wake.notify_one();
        self.0.typing.notify_one();
    }
}

/// Records the time from the database's clock to ours, in seconds.
fn record_notify_lag(SentAt(sent_at): SentAt) {
    let lag = jiff::Timestamp::now().as_millisecond().saturating_sub(sent_at).max(0);
    metrics::histogram!(metric::NOTIFY_LAG).record(lag as f64 / 1000.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(users: Vec<UserId>) -> Notification {
        Notification::Presence { sent_at: SentAt(1_700_000_000_000), users }
    }

    #[test]
    fn notifications_are_merged_into_a_set_of_users() {
        let pending = Arc::new(PendingChanges::default());
        let notifications = VisibilityNotifications(pending.clone());
        let (a, b) = (UserId::random(), UserId::random());

        notifications.on_notification(&presence(vec![a, b]));
        notifications.on_notification(&presence(vec![a]));
        notifications.on_notification(&Notification::Visibility);

        let batch = pending.take();
        assert_eq!(batch.users, HashSet::from([a, b]));
        assert!(batch.advance_snapshot && !batch.resync);
        assert_eq!(pending.take(), PendingBatch::default());
    }

    #[test]
    fn users_over_the_maximum_cause_a_resync() {
        let pending = Arc::new(PendingChanges::default());
        pending.requeue_users((0..MAX_PENDING_USERS).map(|_| UserId::random()));
        VisibilityNotifications(pending.clone()).on_notification(&presence(vec![UserId::random()]));

        let batch = pending.take();
        assert!(batch.users.is_empty() && batch.resync);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_ready_while_disconnected_and_reconnecting_causes_a_resync() {
        let pending = Arc::new(PendingChanges::default());
        let notifications = VisibilityNotifications(pending.clone());
        notifications.on_disconnected();
        notifications.on_notification(&Notification::Visibility);
        let result = tokio::time::timeout(std::time::Duration::from_secs(60), pending.ready()).await;
        assert!(result.is_err());

        notifications.on_connected();
        pending.ready().await;
        assert!(pending.take().resync);
    }
}
