//! Ids that were heard and not yet read, in the order in which they were committed, and the gaps between them.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use uuid::Uuid;

use crate::pg::listener::{Audience, MESSAGES};

/// Ids that may wait. Over it they are forgotten and read like what was missed.
const MOST_WAITING: usize = 100_000;

/// What is to be read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// This row.
    Row(Uuid),
    /// Rows that may not have been heard of, from this moment on.
    Gap(Instant),
}

impl Item {
    const fn gap(&self) -> Option<Instant> {
        match self {
            Self::Gap(since) => Some(*since),
            Self::Row(_) => None,
        }
    }
}

struct State {
    waiting: VecDeque<Item>,
    /// Since when nothing is heard, if so. At first: since there is somebody to hear.
    deaf_since: Option<Instant>,
    /// When the oldest of those waiting was heard of.
    oldest: Instant,
    /// Since when those have waited that were taken last and may not have been told yet.
    taken: Option<Instant>,
}

/// The meeting point of listener and source. Bounded.
pub(super) struct Heard {
    state: Mutex<State>,
    wake: Notify,
    /// Whether everything that is committed is heard.
    pub live: watch::Sender<bool>,
}

impl Heard {
    pub fn new() -> Self {
        let now = Instant::now();
        let state = State { waiting: VecDeque::new(), deaf_since: Some(now), oldest: now, taken: None };
        Self { state: state.into(), wake: Notify::new(), live: watch::Sender::new(false) }
    }

    /// Waits for the next item, and takes it; further rows with it, up to `most`.
    pub async fn next(&self, most: usize) -> Vec<Item> {
        loop {
            let woken = self.wake.notified();
            {
                let mut state = self.state.lock();
                // Whoever asks for more is done with what was taken before.
                state.taken = None;
                let rows =
                    state.waiting.iter().take(most).take_while(|item| matches!(item, Item::Row(_))).count();
                let now = rows.max(1).min(state.waiting.len());
                if now > 0 {
                    let gap = state.waiting.front().and_then(Item::gap);
                    state.taken = Some(gap.map_or(state.oldest, |since| since.min(state.oldest)));
                    state.oldest = Instant::now();
                    return state.waiting.drain(..now).collect();
                }
                if state.waiting.capacity() > 4_096 {
                    state.waiting = VecDeque::new();
                }
            }
            woken.await;
        }
    }

    /// For how long something has been committed, at most, of which nobody here has been told.
    pub fn behind(&self) -> Duration {
        let state = self.state.lock();
        let waiting = (!state.waiting.is_empty()).then_some(state.oldest);
        let gap = state.waiting.iter().find_map(Item::gap);
        let since = [state.deaf_since, state.taken, waiting, gap].into_iter().flatten().min();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// The listener's end.
pub struct DatabaseEars(pub(super) Arc<Heard>);

impl Audience for DatabaseEars {
    fn heard(&self, channel: &str, payload: &str) {
        if channel != MESSAGES {
            return;
        }
        let ids = payload.split_once('|').map_or(payload, |(_, ids)| ids);
        let mut state = self.0.state.lock();
        if state.waiting.is_empty() {
            state.oldest = Instant::now();
        }
        state.waiting.extend(ids.split(',').filter_map(|id| id.parse().ok()).map(Item::Row));
        if state.waiting.len() > MOST_WAITING {
            let since = state.waiting.iter().find_map(Item::gap);
            let oldest = state.oldest;
            state.waiting.clear();
            state.waiting.push_back(Item::Gap(since.map_or(oldest, |since| since.min(oldest))));
        }
        drop(state);
        self.0.wake.notify_one();
    }

    fn listening(&self) {
        let mut state = self.0.state.lock();
        if let Some(since) = state.deaf_since.take() {
            state.waiting.push_back(Item::Gap(since));
        }
        drop(state);
        self.0.live.send_replace(true);
        self.0.wake.notify_one();
    }

    fn deaf(&self) {
        self.0.live.send_replace(false);
        self.0.state.lock().deaf_since.get_or_insert_with(Instant::now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<Uuid> {
        (0..count).map(|_| Uuid::new_v4()).collect()
    }

    fn payload(ids: &[Uuid]) -> String {
        let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
        format!("1700000000000|{}", ids.join(","))
    }

    #[tokio::test(start_paused = true)]
    async fn rows_come_in_order_and_a_gap_comes_between_those_heard_before_and_after_it() {
        let heard = Arc::new(Heard::new());
        let ears = DatabaseEars(heard.clone());
        let begun = Instant::now();
        ears.listening();
        assert_eq!(heard.next(10).await, [Item::Gap(begun)]);

        let rows = ids(5);
        ears.heard(MESSAGES, &payload(&rows[..3]));
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        let lost = Instant::now();
        ears.deaf();
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        ears.listening();
        ears.heard(MESSAGES, &payload(&rows[3..]));
        ears.heard("another_channel", &payload(&ids(1)));
        ears.heard(MESSAGES, "nonsense");

        let row = |n: usize| Item::Row(rows[n]);
        assert_eq!(heard.next(2).await, [row(0), row(1)]);
        assert_eq!(heard.next(10).await, [row(2)]);
        assert_eq!(heard.next(10).await, [Item::Gap(lost)]);
        assert_eq!(heard.next(10).await, [row(3), row(4)]);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_can_wait_become_a_gap() {
        let heard = Arc::new(Heard::new());
        let ears = DatabaseEars(heard.clone());
        ears.listening();
        heard.next(1).await;
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        let first = Instant::now();
        for chunk in ids(MOST_WAITING + 1).chunks(200) {
            ears.heard(MESSAGES, &payload(chunk));
        }
        assert_eq!(heard.next(1_000_000).await, [Item::Gap(first)]);
    }
}
