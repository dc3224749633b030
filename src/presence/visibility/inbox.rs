//! What the listener heard and the pump has not yet looked at, merged.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    model::{Typist, UserId},
    pg::listener::{Audience, PRESENCE, TYPING, VISIBILITY},
    telemetry::metric,
};

/// Changed users that are remembered one by one. Past it everything is looked at, which costs less than the list.
const MOST_USERS: usize = 50_000;

/// What is to be looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Users whose faces changed.
    pub users: HashSet<UserId>,
    /// Users who began or ceased to type.
    pub typists: HashSet<Typist>,
    /// The snapshot should move on: sight became void, or it is time.
    pub look: bool,
    /// Notifications were missed: everything is suspect.
    pub resync: bool,
}

#[derive(Default)]
struct State {
    heard: Heard,
    deaf: bool,
}

/// The meeting point of listener and pump. Bounded, because it merges.
#[derive(Default)]
pub struct Inbox {
    state: Mutex<State>,
    wake: Notify,
    typing: Notify,
}

impl Inbox {
    /// Returns when somebody, anywhere, began or ceased to type since the last call.
    pub async fn typing_heard(&self) {
        self.typing.notified().await;
    }

    /// Asks the pump to move its snapshot on.
    pub fn nudge(&self) {
        self.state.lock().heard.look = true;
        self.wake.notify_one();
    }

    /// Asks for users to be read again.
    pub(super) fn read_again(&self, users: impl IntoIterator<Item = UserId>) {
        self.state.lock().heard.users.extend(users);
        self.wake.notify_one();
    }

    /// Asks for typing to be read again.
    pub(super) fn read_typing_again(&self, typists: impl IntoIterator<Item = Typist>) {
        self.state.lock().heard.typists.extend(typists);
        self.wake.notify_one();
    }

    /// Asks for everything to be looked at again.
    pub(super) fn resync(&self) {
        self.state.lock().heard.resync = true;
        self.wake.notify_one();
    }

    /// Returns once there is something to look at and notifications arrive.
    pub(super) async fn ready(&self) {
        loop {
            let woken = self.wake.notified();
            {
                let state = self.state.lock();
                if !state.deaf && state.heard != Heard::default() {
                    return;
                }
            }
            woken.await;
        }
    }

    /// Takes what there is to look at.
    pub(super) fn take(&self) -> Heard {
        std::mem::take(&mut self.state.lock().heard)
    }

    /// Whether notifications arrive.
    #[must_use]
    pub fn hears(&self) -> bool {
        !self.state.lock().deaf
    }
}

/// The listener's end of the inbox.
pub struct Ears(pub Arc<Inbox>);

impl Audience for Ears {
    fn heard(&self, channel: &str, payload: &str) {
        let mut state = self.0.state.lock();
        match channel {
            PRESENCE => {
                state.heard.users.extend(ids(payload).filter_map(|id| id.parse::<UserId>().ok()));
                if state.heard.users.len() > MOST_USERS {
                    state.heard.users.clear();
                    state.heard.resync = true;
                }
            }
            TYPING => {
                state.heard.typists.extend(ids(payload).filter_map(typist));
                if state.heard.typists.len() > MOST_USERS {
                    state.heard.typists.clear();
                    state.heard.resync = true;
                }
                self.0.typing.notify_one();
            }
            VISIBILITY => state.heard.look = true,
            // For another audience.
            _ => return,
        }
        drop(state);
        self.0.wake.notify_one();
    }

    fn listening(&self) {
        let mut state = self.0.state.lock();
        state.deaf = false;
        state.heard.resync = true;
        drop(state);
        self.0.wake.notify_one();
        self.0.typing.notify_one();
    }

    fn deaf(&self) {
        self.0.state.lock().deaf = true;
    }
}

/// The ids in a payload, whose first part is the time at which it was sent.
fn ids(payload: &str) -> impl Iterator<Item = &str> {
    let (sent_at, ids) = payload.split_once('|').unwrap_or(("", payload));
    note_lag(sent_at);
    ids.split(',')
}

fn typist(pair: &str) -> Option<Typist> {
    let (conversation, user) = pair.split_once(':')?;
    Some(Typist { conversation_id: conversation.parse().ok()?, user_id: user.parse().ok()? })
}

/// Records how long a notification took from the database's clock to ours, in seconds.
fn note_lag(sent_at: &str) {
    if let Ok(sent_at) = sent_at.parse::<i64>() {
        let lag = (jiff::Timestamp::now().as_millisecond() - sent_at).max(0);
        metrics::histogram!(metric::NOTIFY_LAG).record(lag as f64 / 1000.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_merge_into_a_set_of_users() {
        let inbox = Arc::new(Inbox::default());
        let ears = Ears(inbox.clone());
        let (a, b) = (UserId::random(), UserId::random());

        ears.heard(PRESENCE, &format!("1700000000000|{a},{b}"));
        ears.heard(PRESENCE, &format!("1700000000001|{a}"));
        ears.heard(VISIBILITY, "");

        let heard = inbox.take();
        assert_eq!(heard.users, HashSet::from([a, b]));
        assert!(heard.look && !heard.resync);
        assert_eq!(inbox.take(), Heard::default());
    }

    #[test]
    fn a_payload_that_is_not_ours_does_no_harm() {
        let inbox = Arc::new(Inbox::default());
        let ears = Ears(inbox.clone());
        for payload in ["", "|", "x|y,z", ",,,", "1|not-a-uuid"] {
            ears.heard(PRESENCE, payload);
        }
        assert_eq!(inbox.take(), Heard::default());
    }

    #[test]
    fn more_users_than_it_remembers_become_a_resync() {
        let inbox = Arc::new(Inbox::default());
        inbox.read_again((0..MOST_USERS).map(|_| UserId::random()));
        Ears(inbox.clone()).heard(PRESENCE, &format!("0|{}", UserId::random()));

        let heard = inbox.take();
        assert!(heard.users.is_empty() && heard.resync);
    }

    #[tokio::test(start_paused = true)]
    async fn while_deaf_nothing_is_ready_and_listening_again_means_resync() {
        let inbox = Arc::new(Inbox::default());
        let ears = Ears(inbox.clone());
        ears.deaf();
        ears.heard(VISIBILITY, "");
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), inbox.ready()).await;
        assert!(waited.is_err());

        ears.listening();
        inbox.ready().await;
        assert!(inbox.take().resync);
    }
}
