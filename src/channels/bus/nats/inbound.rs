//! Bounded queue of what arrived and is not delivered.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::subjects::Destination;
use crate::telemetry::metric;

/// Maximum of messages, and of their bytes. Beyond it the newest are dropped and counted.
const MAX_MESSAGES: usize = 65_536;
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What arrived, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inbound {
    Message(Destination, Bytes),
    /// The destination is no longer subscribed.
    Unsubscribed(Destination),
    /// Messages were dropped on this node.
    Lost,
    /// Messages of other nodes arrive, or do not.
    Connected(bool),
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Inbound>,
    messages: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct InboundQueue {
    state: Mutex<State>,
    wake: Notify,
}

impl InboundQueue {
    pub(super) fn push(&self, item: Inbound) {
        let mut state = self.state.lock();
        match &item {
            Inbound::Message(_, payload) => {
                if state.messages >= MAX_MESSAGES || state.bytes + payload.len() > MAX_BYTES {
                    drop(state);
                    return self.push_lost();
                }
                state.messages += 1;
                state.bytes += payload.len();
            }
            Inbound::Lost if state.items.back() == Some(&Inbound::Lost) => return,
            Inbound::Unsubscribed(_) | Inbound::Lost | Inbound::Connected(_) => {}
        }
        state.items.push_back(item);
        drop(state);
        self.wake.notify_one();
    }

    /// Counts a dropped message.
    pub(super) fn push_lost(&self) {
        metrics::counter!(metric::BUS_DROPPED, "cause" => "unread").increment(1);
        self.push(Inbound::Lost);
    }

    pub(super) async fn next(&self) -> Inbound {
        loop {
            let woken = self.wake.notified();
            if let Some(item) = self.pop() {
                return item;
            }
            woken.await;
        }
    }

    fn pop(&self) -> Option<Inbound> {
        let mut state = self.state.lock();
        let item = state.items.pop_front()?;
        if let Inbound::Message(_, payload) = &item {
            state.messages -= 1;
            state.bytes -= payload.len();
        }
        if state.items.is_empty() {
            // Release the memory of a burst.
            state.items.shrink_to(64);
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_the_newest_message_and_says_so_once() {
        let (queue, megabyte) = (InboundQueue::default(), Bytes::from(vec![0; 1024 * 1024]));
        for _ in 0..70 {
            queue.push(Inbound::Message(Destination::AllNodes, megabyte.clone()));
        }
        queue.push(Inbound::Unsubscribed(Destination::AllNodes));
        let items: Vec<Inbound> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(items.iter().filter(|item| matches!(item, Inbound::Message(..))).count(), 64);
        assert_eq!(items[64..], [Inbound::Lost, Inbound::Unsubscribed(Destination::AllNodes)]);
        queue.push(Inbound::Message(Destination::AllNodes, megabyte));
        assert!(matches!(queue.pop(), Some(Inbound::Message(..))));
    }
}
