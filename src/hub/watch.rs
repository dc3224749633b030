//! What an operator sees of one connection while it happens: the messages in both directions, in a bounded ring.
//!
//! The connection only writes to the ring. A reader that is too slow misses the oldest messages and learns how many; it
//! never delays the connection.

use std::{collections::VecDeque, sync::Weak, time::SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;

use super::frame::MessageKind;

/// Maximum messages and bytes in a ring.
const MAX_MESSAGES: usize = 256;
const MAX_BYTES: usize = 256 * 1024;
/// Bytes that are kept of each payload.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// From the client, or to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

/// A message that was received or queued for the client.
#[derive(Debug, Clone)]
pub struct WatchedMessage {
    pub at: SystemTime,
    pub direction: Direction,
    pub kind: MessageKind,
    /// Size of the whole payload.
    pub bytes: usize,
    /// The payload's beginning, at most 8 KiB.
    pub head: Bytes,
}

/// Messages from a position on.
#[derive(Debug, Clone, Default)]
pub struct WatchedPage {
    pub messages: Vec<WatchedMessage>,
    /// Messages between the position and these that are no longer in the ring.
    pub dropped: u64,
    /// Position of the next page.
    pub next: u64,
}

/// The ring of one connection.
#[derive(Debug, Default)]
pub struct Watch(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    messages: VecDeque<WatchedMessage>,
    bytes: usize,
    /// Number of messages that were ever added.
    added: u64,
}

impl Watch {
    pub(super) fn add(&self, direction: Direction, kind: MessageKind, payload: &[u8]) {
        let head = Bytes::copy_from_slice(&payload[..payload.len().min(MAX_HEAD_BYTES)]);
        let message = WatchedMessage { at: SystemTime::now(), direction, kind, bytes: payload.len(), head };
        let mut ring = self.0.lock();
        ring.bytes += message.head.len();
        ring.added += 1;
        ring.messages.push_back(message);
        while ring.messages.len() > MAX_MESSAGES || ring.bytes > MAX_BYTES {
            let Some(oldest) = ring.messages.pop_front() else { break };
            ring.bytes -= oldest.head.len();
        }
    }

    /// The messages from `position` on. Positions beyond the end, of an earlier ring, count as the beginning.
    #[must_use]
    pub fn page(&self, position: u64) -> WatchedPage {
        let ring = self.0.lock();
        let position = if position > ring.added { 0 } else { position };
        let first = ring.added - ring.messages.len() as u64;
        let skipped = usize::try_from(position.saturating_sub(first)).unwrap_or(usize::MAX);
        WatchedPage {
            messages: ring.messages.iter().skip(skipped).cloned().collect(),
            dropped: first.saturating_sub(position),
            next: ring.added,
        }
    }
}

/// The ring of a connection, while somebody holds it.
pub(super) type WatchSlot = Option<Weak<Watch>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_reader_learns_how_many_messages_it_missed() {
        let watch = Watch::default();
        for number in 0..300_u32 {
            watch.add(Direction::Out, MessageKind::Text, number.to_string().as_bytes());
        }
        let page = watch.page(10);
        assert_eq!((page.dropped, page.messages.len(), page.next), (34, MAX_MESSAGES, 300));
        assert_eq!(&*page.messages[0].head, b"44");
        assert_eq!(watch.page(300).messages.len(), 0);
        assert_eq!(watch.page(299).messages.len(), 1);
        // A reader of an earlier ring begins again.
        assert_eq!(watch.page(1_000).messages.len(), MAX_MESSAGES);
    }

    #[test]
    fn a_ring_is_bounded_in_bytes() {
        let watch = Watch::default();
        (0..100).for_each(|_| watch.add(Direction::In, MessageKind::Binary, &[1; 100_000]));
        let page = watch.page(0);
        assert_eq!(page.messages.len(), MAX_BYTES / MAX_HEAD_BYTES);
        assert_eq!(page.messages[0].bytes, 100_000);
    }
}
