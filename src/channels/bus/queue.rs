//! Bounded queue of messages to send to the other nodes.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::BusMessage;
use crate::telemetry::metric;

/// Maximum size of the queue.
const MAX_QUEUED_BYTES: usize = 32 * 1024 * 1024;
const MAX_QUEUED_MESSAGES: usize = 65_536;
/// Maximum size of one batch, unless a single message is larger.
const MAX_BATCH_BYTES: usize = 1024 * 1024;
const MAX_BATCH_MESSAGES: usize = 4_096;
/// Messages older than this are dropped instead of sent. A database that stands still for less loses none.
pub(super) const MAX_AGE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct QueueState {
    messages: VecDeque<(Instant, BusMessage)>,
    bytes: usize,
    /// Whether messages were dropped since [`Queue::take_dropped`].
    dropped: bool,
}

/// FIFO queue of messages.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    wake: Notify,
}

impl Queue {
    /// Appends a message. Drops and counts it if the queue is full.
    pub(super) fn push(&self, message: BusMessage) {
        let length = message.encoded_len();
        {
            let mut state = self.state.lock();
            if state.bytes + length > MAX_QUEUED_BYTES || state.messages.len() >= MAX_QUEUED_MESSAGES {
                state.dropped = true;
                drop(state);
                metrics::counter!(metric::BUS_DROPPED, "cause" => "full").increment(1);
                return;
            }
            state.bytes += length;
            state.messages.push_back((Instant::now(), message));
        }
        self.wake.notify_one();
    }

    pub(super) async fn wait_until_nonempty(&self) {
        loop {
            let notified = self.wake.notified();
            if !self.state.lock().messages.is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// Removes the next batch. Drops and counts messages older than `MAX_AGE`.
    pub(super) fn take_batch(&self) -> Vec<BusMessage> {
        let mut state = self.state.lock();
        let (mut taken, mut bytes, mut stale) = (Vec::new(), 0, 0);
        let now = Instant::now();
        while let Some((queued_at, message)) = state.messages.front() {
            let length = message.encoded_len();
            let is_stale = now.duration_since(*queued_at) > MAX_AGE;
            if !is_stale
                && !taken.is_empty()
                && (bytes + length > MAX_BATCH_BYTES || taken.len() == MAX_BATCH_MESSAGES)
            {
                break;
            }
            let (_, message) = state.messages.pop_front().expect("the queue is not empty");
            state.bytes -= length;
            if is_stale {
                stale += 1;
            } else {
                bytes += length;
                taken.push(message);
            }
        }
        state.dropped |= stale > 0;
        if state.messages.is_empty() {
            // Release the memory of a burst.
            state.messages.shrink_to(64);
        }
        drop(state);
        metrics::counter!(metric::BUS_DROPPED, "cause" => "stale").increment(stale);
        taken
    }

    /// Whether messages were dropped since the last call.
    pub(super) fn take_dropped(&self) -> bool {
        std::mem::take(&mut self.state.lock().dropped)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{channels::bus::Audience, model::Topic};

    fn message(body: Vec<u8>) -> BusMessage {
        BusMessage { topic: Topic::public("lobby"), audience: Audience::Members, body: Bytes::from(body) }
    }

    #[tokio::test]
    async fn messages_are_taken_in_order_and_in_bounded_batches() {
        let queue = Queue::default();
        (0..3_u8).for_each(|n| queue.push(message(vec![n; MAX_BATCH_BYTES / 2])));
        queue.push(message(vec![9; 2 * MAX_BATCH_BYTES]));
        queue.wait_until_nonempty().await;
        let batches: Vec<Vec<u8>> = std::iter::repeat_with(|| {
            queue.take_batch().iter().map(|message| message.body[0]).collect::<Vec<_>>()
        })
        .take_while(|batch| !batch.is_empty())
        .collect();
        assert_eq!(
            batches,
            [vec![0], vec![1], vec![2], vec![9]],
            "two halves and their topics exceed the maximum"
        );
    }

    #[tokio::test]
    async fn a_full_queue_drops_the_newest_message() {
        let queue = Queue::default();
        (0..40_u8).for_each(|n| queue.push(message(vec![n; 1024 * 1024])));
        let remaining: Vec<u8> =
            std::iter::from_fn(|| queue.take_batch().first().map(|message| message.body[0])).collect();
        assert_eq!(remaining, (0..31).collect::<Vec<_>>());
        assert!(queue.take_dropped() && !queue.take_dropped());
    }

    #[tokio::test(start_paused = true)]
    async fn old_messages_are_dropped() {
        let queue = Queue::default();
        queue.push(message(vec![1]));
        tokio::time::advance(MAX_AGE + Duration::from_secs(1)).await;
        queue.push(message(vec![2]));
        let remaining: Vec<u8> = queue.take_batch().iter().map(|message| message.body[0]).collect();
        assert_eq!(remaining, [2]);
    }
}
