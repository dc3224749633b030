//! The notifications that the nodes exchange over LISTEN and NOTIFY, parsed once for all handlers.
//!
//! A notification never carries state. It says which rows to read, so one that arrives twice or too late does no harm.
//!
//! Every login of a database may LISTEN and NOTIFY. Therefore `rollcall_internal.notify` seals each payload as
//! `<code>.<nonce>.<body>`: the code authenticates channel, nonce and body with the key in
//! `rollcall_internal.notification_key`, and IDs of users in the body are masked with the key and the nonce.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    time::Duration,
};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::model::{ContextVersion, NodeId, TypingUser, UserId};

/// Names of the channels in SQL.
pub mod channel {
    pub const AUTHORIZATION: &str = "rollcall_rights";
    pub const BUNDLES: &str = "rollcall_bundles";
    pub const BUS: &str = "rollcall_bus";
    pub const CHANNEL_PRESENCE: &str = "rollcall_channels";
    pub const CONTEXT: &str = "rollcall_context";
    pub const MESSAGES: &str = "rollcall_messages";
    pub const NODES: &str = "rollcall_nodes";
    pub const MISSED: &str = "rollcall_missed";
    pub const OUTBOX: &str = "rollcall_broadcast";
    pub const PRESENCE: &str = "rollcall_presence";
    pub const TYPING: &str = "rollcall_typing";
    pub const VISIBILITY: &str = "rollcall_visibility";

    pub const ALL: [&str; 12] = [
        AUTHORIZATION,
        BUNDLES,
        BUS,
        CHANNEL_PRESENCE,
        CONTEXT,
        MESSAGES,
        MISSED,
        NODES,
        OUTBOX,
        PRESENCE,
        TYPING,
        VISIBILITY,
    ];
}

/// What changed, and where to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// Rows of `user_presence` changed.
    Presence { sent_at: SentAt, users: Vec<UserId> },
    /// Typing states started or ended.
    Typing { sent_at: SentAt, typing: Vec<TypingUser> },
    /// The visibility log has a new row.
    Visibility,
    /// Context signals of devices changed.
    Context(Vec<ContextVersion>),
    /// Context bundles of a user were compiled.
    BundlesReady { user: UserId, bundles: Vec<ReadyBundle> },
    /// Context bundles became stale.
    BundlesStale,
    /// `rollcall_internal.outbox` has new rows with these IDs.
    Outbox(Vec<i64>),
    /// `rollcall_internal.node_messages` has new rows with these IDs.
    NodeMessages(Vec<i64>),
    /// A node wrote to the bus, or announces itself.
    Bus { from: NodeId, signal: BusSignal },
    /// Rows of a node in `rollcall.presence` changed.
    ChannelPresence { node: NodeId, rows: ChannelRows },
    /// `realtime.messages` has new rows with these IDs.
    Messages(Vec<Uuid>),
    /// Notifications that were sent in the last `within` may be missing: the relay failed.
    Missed { within: Duration },
    /// What decides over private channels changed.
    Authorization { source: String, callers: AffectedCallers },
}

/// Which callers of private channels a change may concern. Callers are named by hashes of values: the first four bytes
/// of the SHA-256 of a user or topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AffectedCallers {
    /// All of them; the policies themselves may have changed.
    All,
    /// Any of them, but most likely those with one of these hashes.
    Likely(Vec<u32>),
    /// Those with one of these hashes and no others.
    Only(Vec<u32>),
}

/// Time of sending by the database's clock, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentAt(pub i64);

/// A compiled context bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyBundle {
    pub bundle_type: String,
    pub id: Uuid,
    pub version: i64,
}

/// Displayed as in the body of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusSignal {
    /// The node has started to listen, and wants an [`Ack`](Self::Ack) of each other node.
    Hello,
    Ack,
    /// A new entry in a partition of the bus.
    Entry {
        slot: i16,
        id: i64,
    },
}

impl fmt::Display for BusSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello => f.write_str("hello"),
            Self::Ack => f.write_str("here"),
            Self::Entry { slot, id } => write!(f, "{slot} {id}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelRows {
    /// The rows of these channels changed.
    Changed(Vec<i64>),
    /// All rows were written again or deleted.
    All,
}

/// Why a payload was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotificationError {
    /// Sent by another program, or with an old key.
    #[error("the payload is not authenticated")]
    Forged,
    /// Accepted before on this connection.
    #[error("the payload was sent again")]
    Repeated,
    /// Authenticated, but this version of the server cannot read it.
    #[error("the payload cannot be parsed")]
    Invalid,
}

impl NotificationError {
    /// Value of the metric's label `cause`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Repeated => "repeated",
            Self::Invalid => "invalid",
        }
    }
}

/// Opens the notifications of one connection, with the key in `rollcall_internal.notification_key`.
///
/// A login that listens can send an authenticated payload again. Each is accepted once per connection; after another
/// connect the database may be a restored one, which gives the same numbers to new rows.
pub struct NotificationReader {
    key: NotificationKey,
    accepted: HashSet<u64>,
    order: VecDeque<u64>,
}

/// Maximum number of remembered codes, at most 2 MiB. The rows that a notification names are deleted long before as many
/// others were sent.
const MAX_ACCEPTED: usize = 65_536;

impl NotificationReader {
    #[must_use]
    pub fn new(key: Vec<u8>) -> Self {
        Self { key: NotificationKey(key), accepted: HashSet::new(), order: VecDeque::new() }
    }

    /// Opens and parses a payload.
    ///
    /// # Errors
    /// When the code is wrong or was accepted before, or the body is not one of this channel.
    pub fn open(&mut self, channel: &str, payload: &str) -> Result<Notification, NotificationError> {
        let (code, notification) = self.key.open(channel, payload)?;
        if !self.accepted.insert(code) {
            return Err(NotificationError::Repeated);
        }
        self.order.push_back(code);
        if self.order.len() > MAX_ACCEPTED
            && let Some(oldest) = self.order.pop_front()
        {
            self.accepted.remove(&oldest);
        }
        Ok(notification)
    }
}

/// Authenticates payloads and removes masks.
pub struct NotificationKey(Vec<u8>);

impl NotificationKey {
    #[must_use]
    pub const fn new(key: Vec<u8>) -> Self {
        Self(key)
    }

    /// The payload of a notification, as `rollcall_internal.seal` makes it.
    #[must_use]
    pub fn seal(&self, channel: &str, nonce: &str, body: &str) -> String {
        format!("{:016x}.{nonce}.{body}", self.code(channel, nonce, body))
    }

    /// Authenticates and parses a payload; returns its code too.
    fn open(&self, channel: &str, payload: &str) -> Result<(u64, Notification), NotificationError> {
        let (code, nonce, body) = split_sealed(payload).ok_or(NotificationError::Forged)?;
        if self.code(channel, nonce, body) != code {
            return Err(NotificationError::Forged);
        }
        let mut body = Body { key: self, nonce, text: body, masked: 0 };
        Ok((code, parse(channel, &mut body).ok_or(NotificationError::Invalid)?))
    }

    /// The first eight bytes of `sha256(key || sha256(key || channel:nonce:body))`.
    fn code(&self, channel: &str, nonce: &str, body: &str) -> u64 {
        let inner = Sha256::new()
            .chain_update(&self.0)
            .chain_update(format!("{channel}:{nonce}:"))
            .chain_update(body)
            .finalize();
        let outer = Sha256::new().chain_update(&self.0).chain_update(inner).finalize();
        outer.iter().take(8).fold(0, |code, byte| code << 8 | u64::from(*byte))
    }

    /// Bytes that mask the value with this number in a payload.
    fn mask(&self, nonce: &str, number: usize) -> [u8; 32] {
        Sha256::new().chain_update(&self.0).chain_update(format!("{nonce}#{number}")).finalize().into()
    }
}

fn split_sealed(payload: &str) -> Option<(u64, &str, &str)> {
    let (code, rest) = payload.split_once('.')?;
    let (nonce, body) = rest.split_once('.')?;
    Some((u64::from_str_radix(code, 16).ok()?, nonce, body))
}

/// An authenticated body. Masked values are numbered from 1 in their order, so they must be read in that order.
struct Body<'a> {
    key: &'a NotificationKey,
    nonce: &'a str,
    text: &'a str,
    masked: usize,
}

impl<'a> Body<'a> {
    /// Splits off the part before `separator`.
    fn next(&mut self, separator: char) -> Option<&'a str> {
        let (first, rest) = self.text.split_once(separator)?;
        self.text = rest;
        Some(first)
    }

    /// Skips `mark` if it is next, and returns whether it is.
    fn skip(&mut self, mark: char) -> bool {
        let rest = self.text.strip_prefix(mark);
        self.text = rest.unwrap_or(self.text);
        rest.is_some()
    }

    fn sent_at(&mut self) -> Option<SentAt> {
        self.next('|')?.parse().ok().map(SentAt)
    }

    /// Parses the rest as a list. `None` if one element is invalid.
    fn list<T>(&mut self, mut parse: impl FnMut(&mut Self, &'a str) -> Option<T>) -> Option<Vec<T>> {
        let list = std::mem::take(&mut self.text);
        list.split(',').map(|element| parse(self, element)).collect()
    }

    /// Parses the rest as lines. `None` if one is invalid.
    fn lines<T>(&mut self, mut parse: impl FnMut(&mut Self, &'a str) -> Option<T>) -> Option<Vec<T>> {
        let lines = std::mem::take(&mut self.text);
        lines.split('\n').map(|line| parse(self, line)).collect()
    }

    /// Removes the mask from `N` bytes in hexadecimal.
    fn unmask<const N: usize>(&mut self, masked: &str) -> Option<[u8; N]> {
        if masked.len() != 2 * N || !masked.is_ascii() {
            return None;
        }
        self.masked += 1;
        let mask = self.key.mask(self.nonce, self.masked);
        let mut bytes = [0; N];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&masked[2 * index..2 * index + 2], 16).ok()? ^ mask[index];
        }
        Some(bytes)
    }

    fn user(&mut self, masked: &str) -> Option<UserId> {
        self.unmask(masked).map(Uuid::from_bytes).map(UserId)
    }
}

fn parse(channel: &str, body: &mut Body<'_>) -> Option<Notification> {
    Some(match channel {
        channel::PRESENCE => {
            let sent_at = body.sent_at()?;
            Notification::Presence { sent_at, users: body.list(Body::user)? }
        }
        channel::TYPING => {
            let sent_at = body.sent_at()?;
            let typing = body.lines(|body, pair| {
                // The ID of a conversation may contain any character that is no control character.
                let (conversation, user) = pair.rsplit_once(':')?;
                Some(TypingUser { conversation_id: conversation.parse().ok()?, user_id: body.user(user)? })
            })?;
            Notification::Typing { sent_at, typing }
        }
        channel::VISIBILITY => Notification::Visibility,
        channel::CONTEXT => Notification::Context(body.list(|body, pair| {
            let (user, version) = pair.split_once(':')?;
            Some(ContextVersion { user_id: body.user(user)?, version: version.parse().ok()? })
        })?),
        channel::BUNDLES if body.text == "stale" => Notification::BundlesStale,
        channel::BUNDLES => {
            let user = body.next('|')?;
            let user = body.user(user)?;
            Notification::BundlesReady { user, bundles: body.list(|_, bundle| ready_bundle(bundle))? }
        }
        channel::OUTBOX => Notification::Outbox(body.list(|_, id| id.parse().ok())?),
        channel::NODES => Notification::NodeMessages(body.list(|_, id| id.parse().ok())?),
        channel::BUS => {
            let from = body.next(' ')?.parse().ok().map(NodeId)?;
            Notification::Bus { from, signal: bus_signal(body.text)? }
        }
        channel::CHANNEL_PRESENCE => {
            let node = body.next(' ')?.parse().ok()?;
            let rows = match body.text {
                "*" => ChannelRows::All,
                _ => ChannelRows::Changed(body.list(|_, channel| channel.parse().ok())?),
            };
            Notification::ChannelPresence { node, rows }
        }
        channel::MISSED => Notification::Missed { within: Duration::from_millis(body.text.parse().ok()?) },
        channel::MESSAGES => Notification::Messages(body.list(|_, id| id.parse().ok())?),
        channel::AUTHORIZATION => {
            let source = body.next('|')?.to_owned();
            let is_exact = body.skip('=');
            let callers = match body.text {
                "" if !is_exact => AffectedCallers::All,
                _ => {
                    let hashes = body.list(|body, hash| body.unmask(hash).map(u32::from_be_bytes))?;
                    if is_exact { AffectedCallers::Only(hashes) } else { AffectedCallers::Likely(hashes) }
                }
            };
            Notification::Authorization { source, callers }
        }
        _ => return None,
    })
}

fn ready_bundle(text: &str) -> Option<ReadyBundle> {
    let mut parts = text.split(':');
    let (bundle_type, id, version) = (parts.next()?, parts.next()?, parts.next()?);
    Some(ReadyBundle {
        bundle_type: bundle_type.to_owned(),
        id: id.parse().ok()?,
        version: version.parse().ok()?,
    })
}

fn bus_signal(text: &str) -> Option<BusSignal> {
    match text {
        "hello" => Some(BusSignal::Hello),
        "here" => Some(BusSignal::Ack),
        entry => {
            let (slot, id) = entry.split_once(' ')?;
            Some(BusSignal::Entry { slot: slot.parse().ok()?, id: id.parse().ok()? })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> NotificationKey {
        NotificationKey(vec![7; 32])
    }

    fn seal(key: &NotificationKey, channel: &str, body: &str) -> String {
        key.seal(channel, "n1", body)
    }

    fn open(channel: &str, body: &str) -> Result<Notification, NotificationError> {
        key().open(channel, &seal(&key(), channel, body)).map(|(_, notification)| notification)
    }

    fn masked(number: usize, bytes: &[u8]) -> String {
        let mask = key().mask("n1", number);
        bytes.iter().zip(mask).map(|(byte, mask)| format!("{:02x}", byte ^ mask)).collect()
    }

    #[test]
    fn masked_ids_are_read_in_order() {
        let (a, b) = (UserId::random(), UserId::random());
        let body = format!("1700000000000|{},{}", masked(1, a.0.as_bytes()), masked(2, b.0.as_bytes()));
        assert!(!body.contains(&a.0.simple().to_string()));
        let expected = Notification::Presence { sent_at: SentAt(1_700_000_000_000), users: vec![a, b] };
        assert_eq!(open(channel::PRESENCE, &body), Ok(expected));
    }

    #[test]
    fn conversation_ids_may_contain_separators() {
        let users = [UserId::random(), UserId::random(), UserId::random()];
        let conversations = ["42", "a:b,c|d e.f", ":"];
        let pairs = users.iter().zip(conversations).enumerate().map(|(index, (user, conversation))| {
            format!("{conversation}:{}", masked(index + 1, user.0.as_bytes()))
        });
        let body = format!("5|{}", pairs.collect::<Vec<_>>().join("\n"));
        let typing = users.into_iter().zip(conversations).map(|(user_id, conversation)| TypingUser {
            conversation_id: conversation.parse().expect("an ID"),
            user_id,
        });
        let expected = Notification::Typing { sent_at: SentAt(5), typing: typing.collect() };
        assert_eq!(open(channel::TYPING, &body), Ok(expected));
    }

    #[test]
    fn each_channel_has_its_format() {
        let (user, id) = (UserId::random(), Uuid::new_v4());
        let masked_user = masked(1, user.0.as_bytes());
        let node = NodeId(id);
        for (channel, body, expected) in [
            (channel::VISIBILITY, String::new(), Notification::Visibility),
            (
                channel::TYPING,
                format!("5|{id}:{masked_user}"),
                Notification::Typing {
                    sent_at: SentAt(5),
                    typing: vec![TypingUser {
                        conversation_id: id.to_string().parse().expect("an ID"),
                        user_id: user,
                    }],
                },
            ),
            (
                channel::CONTEXT,
                format!("{masked_user}:7"),
                Notification::Context(vec![ContextVersion { user_id: user, version: 7 }]),
            ),
            (channel::BUNDLES, "stale".into(), Notification::BundlesStale),
            (
                channel::BUNDLES,
                format!("{masked_user}|topic:{id}:7"),
                Notification::BundlesReady {
                    user,
                    bundles: vec![ReadyBundle { bundle_type: "topic".into(), id, version: 7 }],
                },
            ),
            (channel::OUTBOX, "1,2".into(), Notification::Outbox(vec![1, 2])),
            (channel::BUS, format!("{id} hello"), Notification::Bus { from: node, signal: BusSignal::Hello }),
            (
                channel::BUS,
                format!("{id} 2 9"),
                Notification::Bus { from: node, signal: BusSignal::Entry { slot: 2, id: 9 } },
            ),
            (
                channel::CHANNEL_PRESENCE,
                format!("{id} *"),
                Notification::ChannelPresence { node, rows: ChannelRows::All },
            ),
            (
                channel::CHANNEL_PRESENCE,
                format!("{id} 4,5"),
                Notification::ChannelPresence { node, rows: ChannelRows::Changed(vec![4, 5]) },
            ),
            (channel::MESSAGES, id.to_string(), Notification::Messages(vec![id])),
            (channel::MISSED, "1500".into(), Notification::Missed { within: Duration::from_millis(1_500) }),
            (
                channel::AUTHORIZATION,
                "drop table|".into(),
                Notification::Authorization { source: "drop table".into(), callers: AffectedCallers::All },
            ),
            (
                channel::AUTHORIZATION,
                format!("public.rooms|{}", masked(1, &[0, 0, 1, 2])),
                Notification::Authorization {
                    source: "public.rooms".into(),
                    callers: AffectedCallers::Likely(vec![258]),
                },
            ),
            (
                channel::AUTHORIZATION,
                format!("public.rooms|={}", masked(1, &[0, 0, 1, 2])),
                Notification::Authorization {
                    source: "public.rooms".into(),
                    callers: AffectedCallers::Only(vec![258]),
                },
            ),
        ] {
            assert_eq!(open(channel, &body), Ok(expected), "{channel} {body}");
        }
    }

    #[test]
    fn invalid_bodies_are_rejected_as_a_whole() {
        let id = Uuid::new_v4();
        for (channel, body) in [
            (channel::PRESENCE, String::new()),
            (channel::PRESENCE, "1|".into()),
            (channel::PRESENCE, format!("1|{id}")),
            (channel::TYPING, format!("1|{id}")),
            (channel::CONTEXT, format!("{}:x", masked(1, id.as_bytes()))),
            (channel::BUNDLES, "something".into()),
            (channel::BUNDLES, format!("{}|topic:{id}", masked(1, id.as_bytes()))),
            (channel::OUTBOX, "1,x".into()),
            (channel::BUS, format!("{id} 70000 1")),
            (channel::CHANNEL_PRESENCE, "x *".into()),
            (channel::MESSAGES, "1".into()),
            (channel::MISSED, "-1".into()),
            (channel::AUTHORIZATION, "no hashes".into()),
            (channel::AUTHORIZATION, "a|é12345".into()),
            (channel::AUTHORIZATION, "a|=".into()),
            ("unknown", String::new()),
        ] {
            assert_eq!(open(channel, &body), Err(NotificationError::Invalid), "{channel} {body}");
        }
    }

    #[test]
    fn payloads_of_other_programs_and_channels_are_forged() {
        let sealed = seal(&key(), channel::OUTBOX, "1");
        for (channel, payload) in [
            (channel::OUTBOX, "1"),
            (channel::OUTBOX, "..1"),
            (channel::OUTBOX, &format!("{sealed}2")),
            (channel::MESSAGES, &sealed),
            (channel::OUTBOX, &seal(&NotificationKey(vec![8; 32]), channel::OUTBOX, "1")),
        ] {
            assert_eq!(key().open(channel, payload).err(), Some(NotificationError::Forged), "{payload}");
        }
    }

    #[test]
    fn a_payload_is_accepted_once_per_connection() {
        let sealed = seal(&key(), channel::OUTBOX, "1");
        let mut reader = NotificationReader::new(key().0);
        assert!(reader.open(channel::OUTBOX, &sealed).is_ok());
        assert_eq!(reader.open(channel::OUTBOX, &sealed), Err(NotificationError::Repeated));
        assert!(NotificationReader::new(key().0).open(channel::OUTBOX, &sealed).is_ok());
    }

    #[test]
    fn remembered_payloads_are_bounded() {
        let mut reader = NotificationReader::new(key().0);
        for id in 0..=MAX_ACCEPTED {
            let sealed = seal(&key(), channel::OUTBOX, &id.to_string());
            reader.open(channel::OUTBOX, &sealed).expect("a new payload");
        }
        assert_eq!((reader.order.len(), reader.accepted.len()), (MAX_ACCEPTED, MAX_ACCEPTED));
    }

    proptest! {
        #[test]
        fn no_body_panics(channel in prop::sample::select(&channel::ALL[..]), body in "\\PC{0,80}") {
            let _ = open(channel, &body);
            let _ = key().open(channel, &body);
        }
    }
}
