//! A NATS message: a header that authenticates it, and a batch of bus messages.

use bytes::{Buf, BufMut, Bytes};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;

use super::{
    super::{BusMessage, encode},
    positions::Position,
};
use crate::{model::NodeId, pg::queries::bus::BusIdentity};

/// Format version, the first byte. A node ignores a message of another version.
const VERSION: u8 = 1;
const TAG_BYTES: usize = 16;
/// Version, tag, sending node, epoch and number.
pub(super) const HEADER_BYTES: usize = 1 + TAG_BYTES + 16 + 8 + 8;

/// A message that a node of this installation has sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) from: NodeId,
    pub(super) position: Position,
    /// Encoded messages; empty if the sender has lost some.
    pub(super) batch: Bytes,
}

/// Authenticates messages with the key of the installation: HMAC-SHA-256 of the subject and what follows the tag, cut to
/// 128 bits.
#[derive(Clone)]
pub(super) struct Seal(Hmac<Sha256>);

impl Seal {
    pub(super) fn new(identity: &BusIdentity) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(&identity.key).expect("HMAC accepts keys of any length");
        mac.update(b"rollcall bus message\0");
        Self(mac)
    }

    pub(super) fn seal(
        &self,
        subject: &str,
        from: NodeId,
        position: Position,
        messages: &[BusMessage],
    ) -> Bytes {
        let batch = encode(messages);
        let mut payload = Vec::with_capacity(HEADER_BYTES + batch.len());
        payload.put_u8(VERSION);
        payload.put_bytes(0, TAG_BYTES);
        payload.put_slice(from.0.as_bytes());
        payload.put_u64(position.epoch);
        payload.put_u64(position.number);
        payload.put_slice(&batch);
        let tag = self.mac(subject, &payload[1 + TAG_BYTES..]).finalize().into_bytes();
        payload[1..=TAG_BYTES].copy_from_slice(&tag[..TAG_BYTES]);
        payload.into()
    }

    /// `None` for a message that no node of this installation sent to this subject in this version.
    pub(super) fn open(&self, subject: &str, mut payload: Bytes) -> Option<Envelope> {
        if payload.len() < HEADER_BYTES || payload.get_u8() != VERSION {
            return None;
        }
        let tag = payload.split_to(TAG_BYTES);
        self.mac(subject, &payload).verify_truncated_left(&tag).ok()?;
        let from = NodeId(Uuid::from_slice(&payload.split_to(16)).ok()?);
        let position = Position { epoch: payload.get_u64(), number: payload.get_u64() };
        Some(Envelope { from, position, batch: payload })
    }

    fn mac(&self, subject: &str, content: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(subject.as_bytes());
        mac.update(&[0]);
        mac.update(content);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channels::bus::{Audience, decode},
        model::Topic,
    };

    fn seal(key: u8) -> Seal {
        Seal::new(&BusIdentity { key: vec![key; 32], database: String::new() })
    }

    #[test]
    fn messages_round_trip_and_forgeries_do_not_open() {
        let message = BusMessage {
            topic: Topic::private("lobby"),
            audience: Audience::Members,
            body: Bytes::from_static(&[0, 255]),
        };
        let (from, position) = (NodeId::random(), Position { epoch: 2, number: 7 });
        let payload = seal(1).seal("a.b", from, position, std::slice::from_ref(&message));
        let Envelope { batch, .. } = seal(1).open("a.b", payload.clone()).expect("it opens");
        assert_eq!(decode(batch).collect::<Vec<_>>(), [Some(message)]);
        assert_eq!(seal(2).open("a.b", payload.clone()), None, "another installation");
        assert_eq!(seal(1).open("a.c", payload.clone()), None, "another topic");
        for at in 0..payload.len() {
            let mut changed = payload.to_vec();
            changed[at] ^= 1;
            assert_eq!(seal(1).open("a.b", changed.into()), None, "byte {at}");
            assert_eq!(seal(1).open("a.b", payload.slice(..at)), None, "{at} bytes");
        }
    }
}
