//! What the server says: to one client, or to everybody in a room.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, Serializer};

use super::TOPIC_PREFIX;
use crate::protocol::{Dialect, Encode, FrameKind};

/// Whether a request was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyStatus {
    /// It was.
    Ok,
    /// It was not; the response says why.
    Error,
}

impl ReplyStatus {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

/// What a [`Message`] carries. All texts are JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// As it stands.
    Raw(&'a str),
    /// A reply's.
    Reply(ReplyStatus, &'a str),
}

/// A message for one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The join that it belongs to; version 1 does not say it.
    pub join_ref: Option<&'a str>,
    /// The request that it answers.
    pub reference: Option<&'a str>,
    /// The whole topic.
    pub topic: &'a str,
    /// What it is.
    pub event: &'a str,
    /// What goes with it.
    pub body: Body<'a>,
}

impl Message<'_> {
    fn write_body(&self, out: &mut Vec<u8>) {
        match self.body {
            Body::Raw(json) => out.extend_from_slice(json.as_bytes()),
            Body::Reply(status, response) => {
                out.extend_from_slice(b"{\"status\":\"");
                out.extend_from_slice(status.as_str().as_bytes());
                out.extend_from_slice(b"\",\"response\":");
                out.extend_from_slice(response.as_bytes());
                out.push(b'}');
            }
        }
    }
}

impl Encode for Message<'_> {
    fn encode_into(&self, dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind> {
        let frame = TextFrame { join_ref: self.join_ref, reference: self.reference, event: self.event };
        frame.write(dialect, &self.topic, out, |out| self.write_body(out))
    }
}

/// Something said to everybody in a room, in text: it names no join and answers nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMessage {
    /// The room's name, without `realtime:`.
    pub topic: Arc<str>,
    /// `broadcast`, `presence_diff`, `postgres_changes`, ….
    pub event: Cow<'static, str>,
    /// JSON.
    pub payload: Box<str>,
}

impl Encode for TopicMessage {
    fn encode_into(&self, dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind> {
        TextFrame::without_refs(&self.event).write(dialect, &WireTopic(&self.topic), out, |out| {
            out.extend_from_slice(self.payload.as_bytes())
        })
    }
}

/// A broadcast that names its event beside its payload: kind 4 in version 2, an object in version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserBroadcast {
    /// The room's name, without `realtime:`.
    pub topic: Arc<str>,
    /// The user's event.
    pub event: Box<str>,
    /// The user's payload.
    pub payload: UserPayload,
    /// What goes beside it as `meta`: a JSON object.
    pub meta: Option<Box<str>>,
}

/// The payload of a [`UserBroadcast`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserPayload {
    /// JSON.
    Json(Box<str>),
    /// Bytes, which version 1 has no words for.
    Binary(Bytes),
}

/// The kind byte of a user broadcast; no client reads any other kind.
const USER_BROADCAST: u8 = 4;

impl UserBroadcast {
    /// `false`, with nothing appended, where a name is too long for its one byte of length.
    fn write_binary(&self, out: &mut Vec<u8>) -> bool {
        let meta = self.meta.as_deref().unwrap_or_default();
        let lengths = [TOPIC_PREFIX.len() + self.topic.len(), self.event.len(), meta.len()];
        let [Ok(topic), Ok(event), Ok(metadata)] = lengths.map(u8::try_from) else {
            return false;
        };
        let (encoding, payload) = match &self.payload {
            UserPayload::Json(json) => (1, json.as_bytes()),
            UserPayload::Binary(bytes) => (0, &**bytes),
        };
        out.reserve(5 + lengths.iter().sum::<usize>() + payload.len());
        out.extend_from_slice(&[USER_BROADCAST, topic, event, metadata, encoding]);
        for part in [TOPIC_PREFIX, &self.topic, &self.event, meta] {
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(payload);
        true
    }

    fn write_text(&self, dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind> {
        let UserPayload::Json(payload) = &self.payload else {
            return None;
        };
        TextFrame::without_refs("broadcast").write(dialect, &WireTopic(&self.topic), out, |out| {
            out.extend_from_slice(b"{\"type\":\"broadcast\",\"event\":");
            write_json(out, &self.event);
            out.extend_from_slice(b",\"payload\":");
            out.extend_from_slice(payload.as_bytes());
            if let Some(meta) = &self.meta {
                out.extend_from_slice(b",\"meta\":");
                out.extend_from_slice(meta.as_bytes());
            }
            out.push(b'}');
        })
    }
}

impl Encode for UserBroadcast {
    fn encode_into(&self, dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind> {
        if dialect == Dialect::PhoenixV2 && self.write_binary(out) {
            return Some(FrameKind::Binary);
        }
        self.write_text(dialect, out)
    }
}

/// A room's name as it stands on the wire.
struct WireTopic<'a>(&'a str);

impl Serialize for WireTopic<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for WireTopic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TOPIC_PREFIX)?;
        f.write_str(self.0)
    }
}

/// What surrounds a payload in text.
struct TextFrame<'a> {
    join_ref: Option<&'a str>,
    reference: Option<&'a str>,
    event: &'a str,
}

impl<'a> TextFrame<'a> {
    const fn without_refs(event: &'a str) -> Self {
        Self { join_ref: None, reference: None, event }
    }

    fn write(
        &self,
        dialect: Dialect,
        topic: &impl Serialize,
        out: &mut Vec<u8>,
        payload: impl FnOnce(&mut Vec<u8>),
    ) -> Option<FrameKind> {
        match dialect {
            Dialect::PhoenixV1 => {
                out.extend_from_slice(b"{\"ref\":");
                write_json(out, &self.reference);
                out.extend_from_slice(b",\"event\":");
                write_json(out, self.event);
                out.extend_from_slice(b",\"payload\":");
                payload(out);
                out.extend_from_slice(b",\"topic\":");
                write_json(out, topic);
                out.push(b'}');
            }
            Dialect::PhoenixV2 => {
                out.push(b'[');
                write_json(out, &self.join_ref);
                out.push(b',');
                write_json(out, &self.reference);
                out.push(b',');
                write_json(out, topic);
                out.push(b',');
                write_json(out, self.event);
                out.push(b',');
                payload(out);
                out.push(b']');
            }
            Dialect::Presence | Dialect::Devices | Dialect::Context => return None,
        }
        Some(FrameKind::Text)
    }
}

fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Text always serializes, and a vector takes whatever is written to it.
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "text serializes");
}
