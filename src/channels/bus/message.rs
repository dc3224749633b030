//! Messages as they travel: many in one piece of bytes.

use bytes::{Buf, BufMut, Bytes};

use crate::model::Topic;

/// Says how the rest is written. A node that reads another version passes it over.
const VERSION: u8 = 1;
const PRIVATE: u8 = 1;

/// Something said in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusMessage {
    /// Where.
    pub topic: Topic,
    /// What, in the words of whoever hears it.
    pub body: Bytes,
}

impl BusMessage {
    /// What it takes in a piece.
    pub(super) fn encoded_len(&self) -> usize {
        1 + 4 + self.topic.name.len() + 4 + self.body.len()
    }
}

/// Messages in one piece. Lengths have 32 bits, which no message comes near.
#[expect(clippy::cast_possible_truncation, reason = "frames are limited to megabytes")]
pub(super) fn encode(messages: &[BusMessage]) -> Vec<u8> {
    let mut piece = Vec::with_capacity(1 + messages.iter().map(BusMessage::encoded_len).sum::<usize>());
    piece.put_u8(VERSION);
    for BusMessage { topic: room, body } in messages {
        piece.put_u8(if room.private { PRIVATE } else { 0 });
        piece.put_u32(room.name.len() as u32);
        piece.put_slice(room.name.as_bytes());
        piece.put_u32(body.len() as u32);
        piece.put_slice(body);
    }
    piece
}

/// The messages of a piece, up to what makes no sense: then the last is `None`.
pub(super) fn decode(piece: impl Into<Bytes>) -> impl Iterator<Item = Option<BusMessage>> {
    let mut rest: Bytes = piece.into();
    let mut broken = rest.try_get_u8() != Ok(VERSION);
    let mut told = false;
    std::iter::from_fn(move || {
        if told || (!broken && rest.is_empty()) {
            return None;
        }
        let message = if broken { None } else { decode_message(&mut rest) };
        broken |= message.is_none();
        told = broken;
        Some(message)
    })
}

fn decode_message(rest: &mut Bytes) -> Option<BusMessage> {
    let private = rest.try_get_u8().ok()? & PRIVATE != 0;
    let topic = String::from_utf8(read_part(rest)?.to_vec()).ok()?;
    let body = read_part(rest)?;
    Some(BusMessage { topic: Topic { name: topic.into(), private }, body })
}

fn read_part(rest: &mut Bytes) -> Option<Bytes> {
    let length = rest.try_get_u32().ok()? as usize;
    (rest.len() >= length).then(|| rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, private: bool, body: &'static [u8]) -> BusMessage {
        BusMessage { topic: Topic { name: topic.into(), private }, body: Bytes::from_static(body) }
    }

    #[test]
    fn messages_read_back_in_order_whatever_they_say() {
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
    fn what_makes_no_sense_ends_a_piece_and_harms_nobody() {
        let whole = encode(&[message("a", false, b"one"), message("b", true, b"two")]);
        for cut in 1..whole.len() {
            let read: Vec<_> = decode(whole[..cut].to_vec()).collect();
            assert!(read.len() <= 2 && read.iter().rev().skip(1).all(Option::is_some), "{cut}: {read:?}");
        }
        assert_eq!(decode(vec![9, 1, 2, 3]).collect::<Vec<_>>(), [None]);
        assert_eq!(decode(Vec::new()).collect::<Vec<_>>(), [None]);
    }
}
