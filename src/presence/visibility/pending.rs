//! What the listener heard and the pump has not yet looked at, merged.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    model::{TypingUser, UserId},
    pg::listener::{NotificationHandler, PRESENCE, TYPING, VISIBILITY},
    telemetry::metric,
};

/// Changed users that are remembered one by one. Past it everything is looked at, which costs less than the list.
const MAX_PENDING_USERS: usize = 50_000;

/// What is to be looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PendingBatch {
    /// Users whose faces changed.
    pub users: HashSet<UserId>,
    /// Users who began or ceased to type.
    pub typing_users: HashSet<TypingUser>,
    /// The snapshot should move on: sight became void, or it is time.
    pub advance_snapshot: bool,
    /// Notifications were missed: everything is suspect.
    pub resync: bool,
}

#[derive(Default)]
struct State {
    batch: PendingBatch,
    is_disconnected: bool,
}

/// The meeting point of listener and pump. Bounded, because it merges.
#[derive(Default)]
pub struct PendingChanges {
    state: Mutex<State>,
    wake: Notify,
    typing: Notify,
}

impl PendingChanges {
    /// Returns when somebody, anywhere, began or ceased to type since the last call.
    pub async fn typing_notified(&self) {
        self.typing.notified().await;
    }

    /// Asks the pump to move its snapshot on.
    pub fn request_snapshot(&self) {
        self.state.lock().batch.advance_snapshot = true;
        self.wake.notify_one();
    }

    /// Asks for users to be read again.
    pub(super) fn requeue_users(&self, users: impl IntoIterator<Item = UserId>) {
        self.state.lock().batch.users.extend(users);
        self.wake.notify_one();
    }

    /// Asks for typing to be read again.
    pub(super) fn requeue_typing(&self, typists: impl IntoIterator<Item = TypingUser>) {
        self.state.lock().batch.typing_users.extend(typists);
        self.wake.notify_one();
    }

    /// Asks for everything to be looked at again.
    pub(super) fn request_resync(&self) {
        self.state.lock().batch.resync = true;
        self.wake.notify_one();
    }

    /// Returns once there is something to look at and notifications arrive.
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

    /// Takes what there is to look at.
    pub(super) fn take(&self) -> PendingBatch {
        std::mem::take(&mut self.state.lock().batch)
    }

    /// Whether notifications arrive.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        !self.state.lock().is_disconnected
    }
}

/// The listener's end of the inbox.
pub struct VisibilityNotifications(pub Arc<PendingChanges>);

impl NotificationHandler for VisibilityNotifications {
    fn on_notification(&self, channel: &str, payload: &str) {
        let mut state = self.0.state.lock();
        match channel {
            PRESENCE => {
                state.batch.users.extend(payload_ids(payload).filter_map(|id| id.parse::<UserId>().ok()));
                if state.batch.users.len() > MAX_PENDING_USERS {
                    state.batch.users.clear();
                    state.batch.resync = true;
                }
            }
            TYPING => {
                state.batch.typing_users.extend(payload_ids(payload).filter_map(parse_typing_user));
                if state.batch.typing_users.len() > MAX_PENDING_USERS {
                    state.batch.typing_users.clear();
                    state.batch.resync = true;
                }
                self.0.typing.notify_one();
            }
            VISIBILITY => state.batch.advance_snapshot = true,
            // For another audience.
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
}

/// The ids in a payload, whose first part is the time at which it was sent.
fn payload_ids(payload: &str) -> impl Iterator<Item = &str> {
    let (sent_at, ids) = payload.split_once('|').unwrap_or(("", payload));
    record_notify_lag(sent_at);
    ids.split(',')
}

fn parse_typing_user(pair: &str) -> Option<TypingUser> {
    let (conversation, user) = pair.split_once(':')?;
    Some(TypingUser { conversation_id: conversation.parse().ok()?, user_id: user.parse().ok()? })
}

/// Records how long a notification took from the database's clock to ours, in seconds.
fn record_notify_lag(sent_at: &str) {
    if let Ok(sent_at) = sent_at.parse::<i64>() {
        let lag = (jiff::Timestamp::now().as_millisecond() - sent_at).max(0);
        metrics::histogram!(metric::NOTIFY_LAG).record(lag as f64 / 1000.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_are_merged_into_a_set_of_users() {
        let inbox = Arc::new(PendingChanges::default());
        let ears = VisibilityNotifications(inbox.clone());
        let (a, b) = (UserId::random(), UserId::random());

        ears.on_notification(PRESENCE, &format!("1700000000000|{a},{b}"));
        ears.on_notification(PRESENCE, &format!("1700000000001|{a}"));
        ears.on_notification(VISIBILITY, "");

        let heard = inbox.take();
        assert_eq!(heard.users, HashSet::from([a, b]));
        assert!(heard.advance_snapshot && !heard.resync);
        assert_eq!(inbox.take(), PendingBatch::default());
    }

    #[test]
    fn invalid_payloads_are_ignored() {
        let inbox = Arc::new(PendingChanges::default());
        let ears = VisibilityNotifications(inbox.clone());
        for payload in ["", "|", "x|y,z", ",,,", "1|not-a-uuid"] {
            ears.on_notification(PRESENCE, payload);
        }
        assert_eq!(inbox.take(), PendingBatch::default());
    }

    #[test]
    fn users_over_the_maximum_cause_a_resync() {
        let inbox = Arc::new(PendingChanges::default());
        inbox.requeue_users((0..MAX_PENDING_USERS).map(|_| UserId::random()));
        VisibilityNotifications(inbox.clone()).on_notification(PRESENCE, &format!("0|{}", UserId::random()));

        let heard = inbox.take();
        assert!(heard.users.is_empty() && heard.resync);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_ready_while_disconnected_and_reconnecting_causes_a_resync() {
        let inbox = Arc::new(PendingChanges::default());
        let ears = VisibilityNotifications(inbox.clone());
        ears.on_disconnected();
        ears.on_notification(VISIBILITY, "");
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), inbox.ready()).await;
        assert!(waited.is_err());

        ears.on_connected();
        inbox.ready().await;
        assert!(inbox.take().resync);
    }
}
