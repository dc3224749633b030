//! Messages of the server, for one client or for all members of a topic.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, Serializer};

use super::TOPIC_PREFIX;
use crate::protocol::{Dialect, Encode, FrameKind};

/// Result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyStatus {
    Ok,
    /// The request failed; the response contains the reason.
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

/// The payload of a [`Message`]. All texts are JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    Raw(&'a str),
    /// The status and the response of a reply.
    Reply(ReplyStatus, &'a str),
}

/// A message for one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Reference of the join it belongs to; version 1 does not send it.
    pub join_ref: Option<&'a str>,
    /// Reference of the request it answers.
    pub reference: Option<&'a str>,
    /// The topic with its prefix.
    pub topic: &'a str,
    pub event: &'a str,
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

/// A text message for all members of a topic. It has no references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMessage {
    /// The topic's name without `realtime:`.
    pub topic: Arc<str>,
    /// The event: `broadcast`, `presence_diff`, `postgres_changes`, ….
    pub event: Cow<'static, str>,
    /// The payload as JSON.
    pub payload: Box<str>,
}

impl Encode for TopicMessage {
    fn encode_into(&self, dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind> {
        TextFrame::without_refs(&self.event).write(dialect, &WireTopic(&self.topic), out, |out| {
            out.extend_from_slice(self.payload.as_bytes())
        })
    }
}

/// A broadcast with an event name of its own: binary kind 4 in version 2, an object in version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserBroadcast {
    /// The topic's name without `realtime:`.
    pub topic: Arc<str>,
    pub event: Box<str>,
    pub payload: UserPayload,
    /// Optional `meta`: a JSON object.
    pub meta: Option<Box<str>>,
}

/// The payload of a [`UserBroadcast`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserPayload {
    /// The payload as JSON.
    Json(Box<str>),
    /// A binary payload, which version 1 cannot carry.
    Binary(Bytes),
}

impl UserPayload {
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Json(json) => json.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// The kind byte of a user broadcast. Clients read no other kind.
const USER_BROADCAST: u8 = 4;

impl UserBroadcast {
    /// Returns `false`, with nothing appended, if a name is too long for its one-byte length.
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

/// A message with a position in the history of its channel. Server-sent events have it as their ID; sockets do not.
#[derive(Debug, Clone)]
pub struct Positioned<M> {
    /// What the client sends as `Last-Event-ID`.
    pub position: Box<str>,
    pub message: M,
}

impl<M: Encode> Encode for Positioned<M> {
    fn encode_into(&self, dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind> {
        if dialect != Dialect::ChannelEvents {
            return self.message.encode_into(dialect, out);
        }
        out.extend_from_slice(self.position.as_bytes());
        out.push(b'\n');
        self.message.encode_into(dialect, out).map(|_| FrameKind::Identified)
    }
}

/// A topic's name with its prefix.
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

/// The fields of a text frame around its payload.
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
            Dialect::PhoenixV1 | Dialect::ChannelEvents => {
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
            Dialect::Presence | Dialect::Devices | Dialect::Context | Dialect::PresenceEvents => return None,
        }
        Some(FrameKind::Text)
    }
}

fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Strings always serialize, and writing to a vector cannot fail.
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "strings serialize");
}
