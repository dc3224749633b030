//! Notifications that were read from the log and not sent yet.

use crate::pg::{
    notification::{NotificationKey, channel},
    replication::{LogicalMessage, Lsn},
};

/// Prefix of the messages that `rollcall_internal.notify` writes. The content is `<token> <channel> <nonce> <body>`.
const PREFIX: &str = "rollcall";
/// Channel of the marks that `rollcall_internal.renew_relay` writes. The body is a time in microseconds since 1970.
const MARK: &str = "rollcall_mark";
/// At this number of notifications or bytes, reading pauses until the batch is sent.
const MAX_NOTIFICATIONS: usize = 10_000;
const MAX_BYTES: usize = 4 << 20;

/// Reads messages of this database, and seals the notifications in them.
pub(super) struct MessageReader {
    key: NotificationKey,
    log_token: String,
}

impl MessageReader {
    pub(super) const fn new(key: NotificationKey, log_token: String) -> Self {
        Self { key, log_token }
    }

    /// Channel, nonce and body. `None` if another program wrote the message.
    fn read<'a>(&self, message: &'a LogicalMessage) -> Option<(&'a str, &'a str, &'a str)> {
        if !message.is_transactional || &*message.prefix != PREFIX {
            return None;
        }
        let mut parts = std::str::from_utf8(&message.content).ok()?.splitn(4, ' ');
        let (token, channel, nonce, body) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        (token == self.log_token).then_some((channel, nonce, body))
    }
}

/// Notifications in commit order. Bounded by [`is_full`](Self::is_full), beyond which one message is accepted.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Batch {
    pub(super) channels: Vec<String>,
    pub(super) payloads: Vec<String>,
    /// The transactions that wrote these, each once in a row.
    pub(super) xids: Vec<i64>,
    bytes: usize,
    /// The end of the last transaction of which all notifications are in this batch or an earlier one.
    pub(super) position: Option<Lsn>,
    /// The time of the newest mark, in seconds since 1970.
    pub(super) read_until: Option<f64>,
    /// Of notifications without content one is enough, because they are sent after all these commits.
    has_visibility: bool,
    has_stale_bundles: bool,
}

impl Batch {
    /// Adds the notification in a message. Ignores messages of other programs.
    pub(super) fn add(&mut self, reader: &MessageReader, message: &LogicalMessage, xid: Option<u32>) {
        let Some((channel, nonce, body)) = reader.read(message) else { return };
        if channel == MARK {
            if let Ok(microseconds) = body.parse::<f64>() {
                let mark = microseconds / 1e6;
                self.read_until = Some(self.read_until.map_or(mark, |read_until| read_until.max(mark)));
            }
            return;
        }
        let is_repeated = match (channel, body) {
            (channel::VISIBILITY, _) => std::mem::replace(&mut self.has_visibility, true),
            (channel::BUNDLES, "stale") => std::mem::replace(&mut self.has_stale_bundles, true),
            _ => !channel::ALL.contains(&channel),
        };
        if is_repeated {
            self.wait_for(xid);
            return;
        }
        let payload = reader.key.seal(channel, nonce, body);
        self.bytes += channel.len() + payload.len();
        self.channels.push(channel.to_owned());
        self.payloads.push(payload);
        self.wait_for(xid);
    }

    /// Records a transaction that must be visible before the batch is sent.
    fn wait_for(&mut self, xid: Option<u32>) {
        self.xids.extend(xid.map(i64::from).filter(|xid| self.xids.last() != Some(xid)));
    }

    pub(super) fn is_full(&self) -> bool {
        self.payloads.len().max(self.xids.len()) >= MAX_NOTIFICATIONS || self.bytes >= MAX_BYTES
    }

    /// Nothing to send, to acknowledge or to report.
    pub(super) fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "a-token";

    fn reader() -> MessageReader {
        MessageReader::new(NotificationKey::new(vec![7; 32]), TOKEN.to_owned())
    }

    fn message(channel: &str, body: &str, nonce: &str) -> LogicalMessage {
        LogicalMessage {
            is_transactional: true,
            prefix: PREFIX.into(),
            content: format!("{TOKEN} {channel} {nonce} {body}").into(),
        }
    }

    #[test]
    fn notifications_keep_their_order_and_those_without_content_are_sent_once() {
        let mut batch = Batch::default();
        for (channel, body, nonce) in [
            (channel::VISIBILITY, "", "1"),
            (channel::OUTBOX, "5", "2"),
            (channel::BUNDLES, "stale", "3"),
            (channel::VISIBILITY, "", "4"),
            (channel::BUNDLES, "stale", "5"),
            (channel::OUTBOX, "6", "6"),
        ] {
            batch.add(&reader(), &message(channel, body, nonce), Some(7));
        }
        assert_eq!(batch.channels, [channel::VISIBILITY, channel::OUTBOX, channel::BUNDLES, channel::OUTBOX]);
        assert_eq!(batch.xids, [7]);
        assert!(batch.payloads[1].ends_with(".2.5") && batch.payloads[3].ends_with(".6.6"));
    }

    #[test]
    fn marks_are_read_and_not_sent() {
        let mut batch = Batch::default();
        batch.add(&reader(), &message(MARK, "1700000000500000", "1"), None);
        batch.add(&reader(), &message(MARK, "1600000000000000", "2"), None);
        assert_eq!((batch.read_until, batch.payloads.len()), (Some(1_700_000_000.5), 0));
    }

    #[test]
    fn messages_of_other_programs_are_ignored() {
        let ours = message(channel::OUTBOX, "5", "1");
        let other = |change: fn(&mut LogicalMessage)| {
            let mut message = ours.clone();
            change(&mut message);
            message
        };
        let mut batch = Batch::default();
        for message in [
            other(|message| message.prefix = "another".into()),
            other(|message| message.is_transactional = false),
            other(|message| message.content = "another-token rollcall_broadcast 1 5".into()),
            other(|message| message.content = "a-token rollcall_broadcast 1".into()),
            other(|message| message.content = "no_space".into()),
            other(|message| message.content = vec![0xff].into()),
            message("rollcall_unknown", "5", "1"),
            message(MARK, "soon", "1"),
        ] {
            batch.add(&reader(), &message, None);
        }
        assert_eq!(batch, Batch::default());
    }

    #[test]
    fn a_batch_is_bounded_in_count_and_bytes() {
        let mut batch = Batch::default();
        let mut number = 0;
        while !batch.is_full() {
            number += 1;
            batch.add(&reader(), &message(channel::OUTBOX, &number.to_string(), "1"), None);
        }
        assert_eq!(number, MAX_NOTIFICATIONS);
        let mut batch = Batch::default();
        while !batch.is_full() {
            batch.add(&reader(), &message(channel::MESSAGES, &"x".repeat(7_000), "1"), None);
        }
        assert!(batch.bytes < MAX_BYTES + 8_000, "{}", batch.bytes);
    }

    proptest! {
        #[test]
        fn no_content_panics(content in proptest::collection::vec(any::<u8>(), 0..100)) {
            let message = LogicalMessage { is_transactional: true, prefix: PREFIX.into(), content: content.into() };
            Batch::default().add(&reader(), &message, None);
        }
    }
}
