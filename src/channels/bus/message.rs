//! Binary encoding of bus messages: many messages in one batch.

use bytes::{Buf, BufMut, Bytes};

use crate::model::Topic;

/// Format version, the first byte of a batch. A node ignores a batch of another version.
const VERSION: u8 = 1;
const PRIVATE: u8 = 1;
const ALL_NODES: u8 = 2;

/// The nodes that need a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Nodes with members of the topic.
    Members,
    /// All nodes, because each keeps the history of the topic.
    AllNodes,
}

/// A message for the members of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusMessage {
    pub topic: Topic,
    pub audience: Audience,
    /// Encoded `BroadcastPayload`.
    pub body: Bytes,
}

impl BusMessage {
    /// Bytes that the message takes in an encoded batch.
    pub(super) fn encoded_len(&self) -> usize {
        1 + 4 + self.topic.name.len() + 4 + self.body.len()
    }
}

/// Encodes messages as one batch. Lengths are 32-bit; frames are limited to megabytes.
#[expect(clippy::cast_possible_truncation, reason = "frames are limited to megabytes")]
#[must_use]
pub fn encode(messages: &[BusMessage]) -> Vec<u8> {
    let mut batch = Vec::with_capacity(1 + messages.iter().map(BusMessage::encoded_len).sum::<usize>());
    batch.put_u8(VERSION);
    for BusMessage { topic, audience, body } in messages {
        let private = if topic.private { PRIVATE } else { 0 };
        let all_nodes = if *audience == Audience::AllNodes { ALL_NODES } else { 0 };
        batch.put_u8(private | all_nodes);
        batch.put_u32(topic.name.len() as u32);
        batch.put_slice(topic.name.as_bytes());
        batch.put_u32(body.len() as u32);
        batch.put_slice(body);
    }
    batch
}

/// Decodes a batch. The first message that cannot be decoded is returned as `None` and ends the iterator.
pub fn decode(batch: impl Into<Bytes>) -> impl Iterator<Item = Option<BusMessage>> {
    let mut rest: Bytes = batch.into();
    let mut failed = rest.try_get_u8() != Ok(VERSION);
    let mut done = false;
    std::iter::from_fn(move || {
        if done || (!failed && rest.is_empty()) {
            return None;
        }
        let message = if failed { None } else { decode_message(&mut rest) };
        failed |= message.is_none();
        done = failed;
        Some(message)
    })
}

fn decode_message(rest: &mut Bytes) -> Option<BusMessage> {
    let flags = rest.try_get_u8().ok()?;
    let topic = String::from_utf8(read_part(rest)?.to_vec()).ok()?;
    let body = read_part(rest)?;
    let audience = if flags & ALL_NODES == 0 { Audience::Members } else { Audience::AllNodes };
    Some(BusMessage { topic: Topic { name: topic.into(), private: flags & PRIVATE != 0 }, audience, body })
}

fn read_part(rest: &mut Bytes) -> Option<Bytes> {
    let length = rest.try_get_u32().ok()? as usize;
    (rest.len() >= length).then(|| rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, private: bool, body: &'static [u8]) -> BusMessage {
        let topic = Topic { name: topic.into(), private };
        let audience = if private { Audience::AllNodes } else { Audience::Members };
        BusMessage { topic, audience, body: Bytes::from_static(body) }
    }

    #[test]
    fn messages_round_trip_in_order() {
        let messages = [
            message("a", false, b"{}"),
            message("r\0m \u{1f44b}", true, b""),
            message("", false, &[0, 255, 1]),
        ];
        let read: Vec<_> = decode(encode(&messages)).map(Option::unwrap).collect();
        assert_eq!(read, messages);
        assert_eq!(decode(encode(&[])).count(), 0);
    }

    #[test]
    fn decoding_ends_at_the_first_invalid_message() {
        let whole = encode(&[message("a", false, b"one"), message("b", true, b"two")]);
        for cut in 1..whole.len() {
            let read: Vec<_> = decode(whole[..cut].to_vec()).collect();
            assert!(read.len() <= 2 && read.iter().rev().skip(1).all(Option::is_some), "{cut}: {read:?}");
        }
        assert_eq!(decode(vec![9, 1, 2, 3]).collect::<Vec<_>>(), [None]);
        assert_eq!(decode(Vec::new()).collect::<Vec<_>>(), [None]);
    }
}
