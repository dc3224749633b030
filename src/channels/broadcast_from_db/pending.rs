//! Queue of row IDs that were received and not yet read, in commit order, with the gaps between them.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use uuid::Uuid;

use crate::pg::{listener::NotificationHandler, notification::Notification};

/// Maximum number of queued IDs. Above it, the queue is replaced by a gap.
const MAX_PENDING: usize = 100_000;

/// Item to read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PendingItem {
    Row(Uuid),
    /// Rows since this time may have been missed.
    Gap(Instant),
}

impl PendingItem {
    const fn gap_start(&self) -> Option<Instant> {
        match self {
            Self::Gap(since) => Some(*since),
            Self::Row(_) => None,
        }
    }
}

struct PendingState {
    queue: VecDeque<PendingItem>,
    /// Since when no notifications are received; initially the creation time.
    disconnected_since: Option<Instant>,
    /// When the oldest queued ID was received.
    oldest_received_at: Instant,
    /// Receive time of the items that were taken last and may not be delivered yet.
    delivering_since: Option<Instant>,
}

/// Queue between the notification handler and the reader.
pub(super) struct PendingIds {
    state: Mutex<PendingState>,
    wake: Notify,
    /// Whether notifications are received.
    pub connected: watch::Sender<bool>,
}

impl PendingIds {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let state = PendingState {
            queue: VecDeque::new(),
            disconnected_since: Some(now),
            oldest_received_at: now,
            delivering_since: None,
        };
        Self { state: state.into(), wake: Notify::new(), connected: watch::Sender::new(false) }
    }

    /// Waits for the next item and takes it. If it is a row, takes the rows that follow, up to `max`.
    pub(super) async fn next_batch(&self, max: usize) -> Vec<PendingItem> {
        loop {
            let notified = self.wake.notified();
            {
                let mut state = self.state.lock();
                // The caller has delivered the items it took before.
                state.delivering_since = None;
                let rows = state
                    .queue
                    .iter()
                    .take(max)
                    .take_while(|item| matches!(item, PendingItem::Row(_)))
                    .count();
                let count = rows.max(1).min(state.queue.len());
                if count > 0 {
                    let gap = state.queue.front().and_then(PendingItem::gap_start);
                    state.delivering_since = Some(
                        gap.map_or(state.oldest_received_at, |since| since.min(state.oldest_received_at)),
                    );
                    state.oldest_received_at = Instant::now();
                    return state.queue.drain(..count).collect();
                }
                if state.queue.capacity() > 4_096 {
                    state.queue = VecDeque::new();
                }
            }
            notified.await;
        }
    }

    /// Upper bound of the time for which a committed row has not been delivered.
    pub(super) fn delivery_lag(&self) -> Duration {
        let state = self.state.lock();
        let queued = (!state.queue.is_empty()).then_some(state.oldest_received_at);
        let gap = state.queue.iter().find_map(PendingItem::gap_start);
        let since =
            [state.disconnected_since, state.delivering_since, queued, gap].into_iter().flatten().min();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// Notification handler of the queue.
pub struct MessageNotifications(pub(super) Arc<PendingIds>);

impl NotificationHandler for MessageNotifications {
    fn on_notification(&self, notification: &Notification) {
        let Notification::Messages(ids) = notification else { return };
        let mut state = self.0.state.lock();
        if state.queue.is_empty() {
            state.oldest_received_at = Instant::now();
        }
        state.queue.extend(ids.iter().copied().map(PendingItem::Row));
        if state.queue.len() > MAX_PENDING {
            let since = state.queue.iter().find_map(PendingItem::gap_start);
            let oldest = state.oldest_received_at;
            state.queue.clear();
            state.queue.push_back(PendingItem::Gap(since.map_or(oldest, |since| since.min(oldest))));
        }
        drop(state);
        self.0.wake.notify_one();
    }

    fn on_connected(&self) {
        let mut state = self.0.state.lock();
        if let Some(since) = state.disconnected_since.take() {
            state.queue.push_back(PendingItem::Gap(since));
        }
        drop(state);
        self.0.connected.send_replace(true);
        self.0.wake.notify_one();
    }

    fn on_disconnected(&self) {
        self.0.connected.send_replace(false);
        self.0.state.lock().disconnected_since.get_or_insert_with(Instant::now);
    }

    fn on_missed(&self, since: Instant) {
        self.0.state.lock().queue.push_back(PendingItem::Gap(since));
        self.0.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<Uuid> {
        (0..count).map(|_| Uuid::new_v4()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn rows_keep_their_order_around_a_gap() {
        let pending = Arc::new(PendingIds::new());
        let notifications = MessageNotifications(pending.clone());
        let created_at = Instant::now();
        notifications.on_connected();
        assert_eq!(pending.next_batch(10).await, [PendingItem::Gap(created_at)]);

        let rows = ids(5);
        notifications.on_notification(&Notification::Messages(rows[..3].to_vec()));
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        let disconnected_at = Instant::now();
        notifications.on_disconnected();
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        notifications.on_connected();
        notifications.on_notification(&Notification::Messages(rows[3..].to_vec()));
        notifications.on_notification(&Notification::Visibility);

        let row = |n: usize| PendingItem::Row(rows[n]);
        assert_eq!(pending.next_batch(2).await, [row(0), row(1)]);
        assert_eq!(pending.next_batch(10).await, [row(2)]);
        assert_eq!(pending.next_batch(10).await, [PendingItem::Gap(disconnected_at)]);
        assert_eq!(pending.next_batch(10).await, [row(3), row(4)]);
    }

    #[tokio::test(start_paused = true)]
    async fn overflowing_ids_become_a_gap() {
        let pending = Arc::new(PendingIds::new());
        let notifications = MessageNotifications(pending.clone());
        notifications.on_connected();
        pending.next_batch(1).await;
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        let first = Instant::now();
        for chunk in ids(MAX_PENDING + 1).chunks(200) {
            notifications.on_notification(&Notification::Messages(chunk.to_vec()));
        }
        assert_eq!(pending.next_batch(1_000_000).await, [PendingItem::Gap(first)]);
    }
}
