//! Numbers of messages, by which a receiver finds gaps and repetitions.

use std::{collections::HashMap, time::Duration};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::subjects::Destination;
use crate::model::NodeId;

/// Destinations whose last number a sender keeps: about 4 MB.
const MAX_DESTINATIONS: usize = 65_536;
/// A node that has sent nothing for this long is forgotten.
const NODE_TTL: Duration = Duration::from_secs(600);

/// Position of a message among those of its sender and destination. Ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// Increases when the sender has forgotten the number.
    pub(super) epoch: u64,
    /// Counts from 1 in each epoch.
    pub(super) number: u64,
}

/// The last positions that this node gave to messages. Bounded by [`MAX_DESTINATIONS`].
#[derive(Debug, Default)]
pub(super) struct SentPositions {
    epoch: u64,
    last: HashMap<Destination, Position>,
}

impl SentPositions {
    /// The position of the next message. One that is not sent leaves a gap.
    pub(super) fn next(&mut self, destination: Destination) -> Position {
        if self.last.len() >= MAX_DESTINATIONS && !self.last.contains_key(&destination) {
            self.last.clear();
        }
        let epoch = &mut self.epoch;
        let last = self.last.entry(destination).or_insert_with(|| {
            *epoch += 1;
            Position { epoch: *epoch, number: 0 }
        });
        last.number += 1;
        *last
    }
}

/// How a message continues those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    Next,
    /// So many messages before it did not arrive, at least.
    AfterGap(u64),
    /// It arrived before, or one after it did.
    Repeated,
}

/// The last position of each sender in the destinations of this node. Bounded by subscriptions and live nodes.
#[derive(Debug, Default)]
pub(super) struct ReceivedPositions(HashMap<Destination, Senders>);

/// The last position of each sender, and when it arrived.
type Senders = SmallVec<[(NodeId, Position, Instant); 1]>;

impl ReceivedPositions {
    pub(super) fn record(&mut self, destination: Destination, from: NodeId, position: Position) -> Arrival {
        let (now, nodes) = (Instant::now(), self.0.entry(destination).or_default());
        let Some((_, last, at)) = nodes.iter_mut().find(|(node, ..)| *node == from) else {
            // Nodes have new IDs after a restart.
            nodes.retain(|(.., at)| now.duration_since(*at) < NODE_TTL);
            nodes.push((from, position, now));
            return Arrival::Next;
        };
        if position <= *last {
            return Arrival::Repeated;
        }
        let expected = if position.epoch == last.epoch { last.number + 1 } else { 1 };
        (*last, *at) = (position, now);
        match position.number.saturating_sub(expected) {
            0 => Arrival::Next,
            missing => Arrival::AfterGap(missing),
        }
    }

    /// Forgets a destination that is no longer subscribed.
    pub(super) fn forget(&mut self, destination: Destination) {
        self.0.remove(&destination);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{channels::bus::interest::TopicKey, model::Topic};

    fn topic(name: &str) -> Destination {
        Destination::Topic(TopicKey::of(&Topic::public(name)))
    }

    #[test]
    fn gaps_and_repetitions_are_found_per_sender_and_topic() {
        let (mut sent, mut received, node) =
            (SentPositions::default(), ReceivedPositions::default(), NodeId::random());
        let first = sent.next(topic("a"));
        let (_, elsewhere) = (sent.next(topic("b")), sent.next(topic("b")));
        let (second, third, fourth) = (sent.next(topic("a")), sent.next(topic("a")), sent.next(topic("a")));
        assert_eq!(received.record(topic("a"), node, first), Arrival::Next);
        assert_eq!(
            received.record(topic("b"), node, elsewhere),
            Arrival::Next,
            "subscribed after the first one"
        );
        assert_eq!(received.record(topic("a"), node, second), Arrival::Next);
        assert_eq!(received.record(topic("a"), node, fourth), Arrival::AfterGap(1));
        assert_eq!(received.record(topic("a"), node, third), Arrival::Repeated);
        assert_eq!(received.record(topic("a"), node, fourth), Arrival::Repeated);
        assert_eq!(received.record(topic("a"), NodeId::random(), first), Arrival::Next);
        received.forget(topic("a"));
        assert_eq!(received.record(topic("a"), node, fourth), Arrival::Next);
    }

    #[test]
    fn a_sender_that_forgets_numbers_begins_an_epoch() {
        let (mut sent, mut received, node) =
            (SentPositions::default(), ReceivedPositions::default(), NodeId::random());
        received.record(topic("a"), node, sent.next(topic("a")));
        for n in 0..MAX_DESTINATIONS {
            sent.next(topic(&n.to_string()));
        }
        assert!(sent.last.len() <= MAX_DESTINATIONS);
        let next = sent.next(topic("a"));
        assert_eq!((next.number, received.record(topic("a"), node, next)), (1, Arrival::Next));
        let (_, third) = (sent.next(topic("a")), sent.next(topic("a")));
        assert_eq!(received.record(topic("a"), node, third), Arrival::AfterGap(1));
    }
}
