//! Notifications that the visibility task has not processed yet, merged.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    model::{TypingUser, UserId},
    pg::listener::{NotificationHandler, PRESENCE, TYPING, VISIBILITY},
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
                state.batch.typing_users.extend(payload_lines(payload).filter_map(parse_typing_user));
                if state.batch.typing_users.len() > MAX_PENDING_USERS {
                    state.batch.typing_users.clear();
                    state.batch.resync = true;
                }
                self.0.typing.notify_one();
            }
            VISIBILITY => state.batch.advance_snapshot = true,
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
}

/// The content of a payload. The part before the first `|` is the time at which it was sent.
fn payload_content(payload: &str) -> &str {
    let (sent_at, content) = payload.split_once('|').unwrap_or(("", payload));
    record_notify_lag(sent_at);
    content
}

fn payload_ids(payload: &str) -> impl Iterator<Item = &str> {
    payload_content(payload).split(',')
}

fn payload_lines(payload: &str) -> impl Iterator<Item = &str> {
    payload_content(payload).lines()
}

/// Parses `<user>:<conversation>`. IDs of conversations may contain any character that is no control character.
fn parse_typing_user(pair: &str) -> Option<TypingUser> {
    let (user, conversation) = pair.split_once(':')?;
    Some(TypingUser { conversation_id: conversation.parse().ok()?, user_id: user.parse().ok()? })
}

/// Records the time from the database's clock to ours, in seconds.
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
        let pending = Arc::new(PendingChanges::default());
        let notifications = VisibilityNotifications(pending.clone());
        let (a, b) = (UserId::random(), UserId::random());

        notifications.on_notification(PRESENCE, &format!("1700000000000|{a},{b}"));
        notifications.on_notification(PRESENCE, &format!("1700000000001|{a}"));
        notifications.on_notification(VISIBILITY, "");

        let batch = pending.take();
        assert_eq!(batch.users, HashSet::from([a, b]));
        assert!(batch.advance_snapshot && !batch.resync);
        assert_eq!(pending.take(), PendingBatch::default());
    }

    #[test]
    fn invalid_payloads_are_ignored() {
        let pending = Arc::new(PendingChanges::default());
        let notifications = VisibilityNotifications(pending.clone());
        for payload in ["", "|", "x|y,z", ",,,", "1|not-a-uuid"] {
            notifications.on_notification(PRESENCE, payload);
        }
        assert_eq!(pending.take(), PendingBatch::default());
    }

    #[test]
    fn conversation_ids_may_contain_separators() {
        let pending = Arc::new(PendingChanges::default());
        let (a, b) = (UserId::random(), UserId::random());
        VisibilityNotifications(pending.clone())
            .on_notification(TYPING, &format!("1700000000000|{a}:42\n{b}:a:b,c|d e"));
        let expected = [(a, "42"), (b, "a:b,c|d e")].map(|(user_id, conversation)| TypingUser {
            conversation_id: conversation.parse().expect("is an ID"),
            user_id,
        });
        assert_eq!(pending.take().typing_users, HashSet::from(expected));
    }

    #[test]
    fn users_over_the_maximum_cause_a_resync() {
        let pending = Arc::new(PendingChanges::default());
        pending.requeue_users((0..MAX_PENDING_USERS).map(|_| UserId::random()));
        VisibilityNotifications(pending.clone())
            .on_notification(PRESENCE, &format!("0|{}", UserId::random()));

        let batch = pending.take();
        assert!(batch.users.is_empty() && batch.resync);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_ready_while_disconnected_and_reconnecting_causes_a_resync() {
        let pending = Arc::new(PendingChanges::default());
        let notifications = VisibilityNotifications(pending.clone());
        notifications.on_disconnected();
        notifications.on_notification(VISIBILITY, "");
        let result = tokio::time::timeout(std::time::Duration::from_secs(60), pending.ready()).await;
        assert!(result.is_err());

        notifications.on_connected();
        pending.ready().await;
        assert!(pending.take().resync);
    }
}
