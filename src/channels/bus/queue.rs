//! What waits to leave this node. Bounded.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::BusMessage;
use crate::telemetry::metric;

/// The most that may wait.
const MAX_QUEUED_BYTES: usize = 32 * 1024 * 1024;
const MAX_QUEUED_MESSAGES: usize = 65_536;
/// The most that leaves in one piece, unless a single message is larger.
const MAX_BATCH_BYTES: usize = 1024 * 1024;
const MAX_BATCH_MESSAGES: usize = 4_096;
/// What could not leave for so long is of no use any more.
const MAX_AGE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct QueueState {
    messages: VecDeque<(Instant, BusMessage)>,
    bytes: usize,
}

/// Messages in the order in which they were said.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    wake: Notify,
}

impl Queue {
    /// Adds one, or gives it up when too much waits.
    pub fn push(&self, message: BusMessage) {
        let length = message.encoded_len();
        {
            let mut waiting = self.state.lock();
            if waiting.bytes + length > MAX_QUEUED_BYTES || waiting.messages.len() >= MAX_QUEUED_MESSAGES {
                drop(waiting);
                metrics::counter!(metric::BUS_DROPPED, "cause" => "full").increment(1);
                return;
            }
            waiting.bytes += length;
            waiting.messages.push_back((Instant::now(), message));
        }
        self.wake.notify_one();
    }

    /// Waits until there is something.
    pub async fn wait_until_nonempty(&self) {
        loop {
            let woken = self.wake.notified();
            if !self.state.lock().messages.is_empty() {
                return;
            }
            woken.await;
        }
    }

    /// Takes out what leaves in one piece. What has become stale is given up.
    pub fn take_batch(&self) -> Vec<BusMessage> {
        let mut waiting = self.state.lock();
        let (mut taken, mut bytes, mut stale) = (Vec::new(), 0, 0);
        let now = Instant::now();
        while let Some((when, message)) = waiting.messages.front() {
            let length = message.encoded_len();
            let is_stale = now.duration_since(*when) > MAX_AGE;
            if !is_stale
                && !taken.is_empty()
                && (bytes + length > MAX_BATCH_BYTES || taken.len() == MAX_BATCH_MESSAGES)
            {
                break;
            }
            let (_, message) = waiting.messages.pop_front().expect("there was a front");
            waiting.bytes -= length;
            if is_stale {
                stale += 1;
            } else {
                bytes += length;
                taken.push(message);
            }
        }
        if waiting.messages.is_empty() {
            // A burst is rare; its room is not kept.
            waiting.messages.shrink_to(64);
        }
        drop(waiting);
        metrics::counter!(metric::BUS_DROPPED, "cause" => "stale").increment(stale);
        taken
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::Topic;

    fn message(body: Vec<u8>) -> BusMessage {
        BusMessage { topic: Topic::public("lobby"), body: Bytes::from(body) }
    }

    #[tokio::test]
    async fn messages_leave_in_order_and_in_bounded_pieces() {
        let queue = Queue::default();
        (0..3_u8).for_each(|n| queue.push(message(vec![n; MAX_BATCH_BYTES / 2])));
        queue.push(message(vec![9; 2 * MAX_BATCH_BYTES]));
        queue.wait_until_nonempty().await;
        let pieces: Vec<Vec<u8>> = std::iter::repeat_with(|| {
            queue.take_batch().iter().map(|message| message.body[0]).collect::<Vec<_>>()
        })
        .take_while(|piece| !piece.is_empty())
        .collect();
        assert_eq!(
            pieces,
            [vec![0], vec![1], vec![2], vec![9]],
            "two halves and their names are more than a piece"
        );
    }

    #[tokio::test]
    async fn over_the_bound_the_newest_is_given_up() {
        let queue = Queue::default();
        (0..40_u8).for_each(|n| queue.push(message(vec![n; 1024 * 1024])));
        let kept: Vec<u8> =
            std::iter::from_fn(|| queue.take_batch().first().map(|message| message.body[0])).collect();
        assert_eq!(kept, (0..31).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waited_too_long_does_not_leave() {
        let queue = Queue::default();
        queue.push(message(vec![1]));
        tokio::time::advance(MAX_AGE + Duration::from_secs(1)).await;
        queue.push(message(vec![2]));
        let left: Vec<u8> = queue.take_batch().iter().map(|message| message.body[0]).collect();
        assert_eq!(left, [2]);
    }
}
