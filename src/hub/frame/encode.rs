//! Server frames: header and payload in one shared buffer.

use bytes::Bytes;

use super::{FIN, MAX_CONTROL_BYTES, opcode};
use crate::{
    hub::CloseCode,
    protocol::{Dialect, Encode, FrameKind, Framing},
};

/// A complete encoded frame. Clones share the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireFrame(Bytes);

/// Kind of a message on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    Text,
    Binary,
    Ping,
    Pong,
    Close,
    /// One server-sent event of a stream.
    Event,
}

impl MessageKind {
    /// Name in the operator API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Close => "close",
            Self::Event => "event",
        }
    }

    const fn of_opcode(opcode: u8) -> Self {
        match opcode {
            opcode::BINARY => Self::Binary,
            opcode::PING => Self::Ping,
            opcode::PONG => Self::Pong,
            opcode::CLOSE => Self::Close,
            _ => Self::Text,
        }
    }
}

/// Maximum header size of an unmasked frame.
const MAX_HEADER_BYTES: usize = 10;

impl WireFrame {
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::new(opcode::TEXT, text.as_bytes())
    }

    #[must_use]
    pub fn binary(bytes: &[u8]) -> Self {
        Self::new(opcode::BINARY, bytes)
    }

    /// A ping without a payload, or a comment.
    #[must_use]
    pub fn ping(framing: Framing) -> Self {
        const PING: &[u8] = &[FIN | opcode::PING, 0];
        match framing {
            Framing::WebSocket => Self(Bytes::from_static(PING)),
            Framing::EventStream => Self(Bytes::from_static(b":\n\n")),
        }
    }

    /// A server-sent event with a name, an ID, and JSON without line feeds.
    #[must_use]
    pub fn event(name: &str, id: Option<&str>, json: &str) -> Self {
        let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
        Self(format!("event: {name}\n{id}data: {json}\n\n").into())
    }

    /// A pong frame. A payload over 125 bytes is truncated; decoded pings never exceed that.
    #[must_use]
    pub fn pong(payload: &[u8]) -> Self {
        Self::new(opcode::PONG, &payload[..payload.len().min(MAX_CONTROL_BYTES)])
    }

    /// A close frame. A reason over 123 bytes is truncated at a character boundary. As a server-sent event: `close` with
    /// code and reason.
    #[must_use]
    pub fn close(framing: Framing, code: CloseCode, reason: &str) -> Self {
        match framing {
            Framing::WebSocket => Self::close_with_number(code.number(), reason),
            Framing::EventStream => {
                let close = serde_json::json!({ "code": code.number(), "reason": reason });
                Self::event("close", None, &close.to_string())
            }
        }
    }

    /// The response to a peer's close frame: the same code, or none.
    #[must_use]
    pub fn close_echo(number: Option<u16>) -> Self {
        match number {
            Some(number) => Self::close_with_number(number, ""),
            None => Self::new(opcode::CLOSE, &[]),
        }
    }

    fn close_with_number(number: u16, reason: &str) -> Self {
        let cut =
            (0..=reason.len().min(MAX_CONTROL_BYTES - 2)).rev().find(|end| reason.is_char_boundary(*end));
        let mut payload = Vec::with_capacity(MAX_CONTROL_BYTES);
        payload.extend_from_slice(&number.to_be_bytes());
        payload.extend_from_slice(&reason.as_bytes()[..cut.unwrap_or(0)]);
        Self::new(opcode::CLOSE, &payload)
    }

    /// Encodes `message` in `dialect`; `None` if the dialect does not have it.
    pub fn encode<M: Encode + ?Sized>(message: &M, dialect: Dialect) -> Option<Self> {
        // The header's length depends on the payload's. The payload is written after space for the longest header, and
        // the unused front is cut off, which avoids a second copy.
        let mut bytes = Vec::with_capacity(256);
        bytes.resize(MAX_HEADER_BYTES, 0);
        let kind = message.encode_into(dialect, &mut bytes)?;
        if dialect.framing() == Framing::EventStream {
            return Self::from_event(kind, &bytes[MAX_HEADER_BYTES..]);
        }
        let opcode = match kind {
            FrameKind::Text => opcode::TEXT,
            FrameKind::Binary => opcode::BINARY,
            FrameKind::TextLines => return Self::from_lines(&bytes[MAX_HEADER_BYTES..]),
            FrameKind::Identified => return None,
        };
        let (header, length) = header(opcode, bytes.len() - MAX_HEADER_BYTES);
        let start = MAX_HEADER_BYTES - length;
        bytes[start..MAX_HEADER_BYTES].copy_from_slice(&header[..length]);
        bytes.shrink_to_fit();
        Some(Self(Bytes::from(bytes).slice(start..)))
    }

    /// Encodes a message as server-sent events without a name; `None` if it is binary. A line feed in JSON is space: each
    /// line of an event has its own prefix.
    fn from_event(kind: FrameKind, payload: &[u8]) -> Option<Self> {
        const PREFIX: &[u8] = b"data: ";
        let end: &[u8] = match kind {
            FrameKind::Text => b"\n",
            FrameKind::TextLines => b"\n\n",
            FrameKind::Binary => return None,
            FrameKind::Identified => return Self::from_identified_event(payload),
        };
        let mut bytes = Vec::with_capacity(payload.len() + payload.len() / 16 + 16);
        for line in payload.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.is_empty()) {
            bytes.extend_from_slice(PREFIX);
            bytes.extend_from_slice(line);
            bytes.extend_from_slice(end);
        }
        if bytes.is_empty() {
            return None;
        }
        if kind == FrameKind::Text {
            bytes.push(b'\n');
        }
        Some(Self(bytes.into()))
    }

    /// Encodes an event with an ID. Without data, its recipient only remembers the ID.
    fn from_identified_event(payload: &[u8]) -> Option<Self> {
        let end = payload.iter().position(|byte| *byte == b'\n')?;
        let (id, data) = (&payload[..end], &payload[end + 1..]);
        let mut bytes = [b"id: ", id, b"\n"].concat();
        match Self::from_event(FrameKind::Text, data) {
            Some(data) => bytes.extend_from_slice(data.as_bytes()),
            None => bytes.push(b'\n'),
        }
        Some(Self(bytes.into()))
    }

    /// Concatenates several frames into one buffer, which is queued and written like one frame.
    #[must_use]
    pub fn concat(frames: &[Self]) -> Self {
        let mut bytes = Vec::with_capacity(frames.iter().map(Self::len).sum());
        frames.iter().for_each(|frame| bytes.extend_from_slice(&frame.0));
        Self(bytes.into())
    }

    /// Encodes each line as a frame, concatenated into one buffer. `None` if there is no line.
    fn from_lines(lines: &[u8]) -> Option<Self> {
        let mut bytes = Vec::with_capacity(lines.len() + lines.len() / 8);
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let (header, length) = header(opcode::TEXT, line.len());
            bytes.extend_from_slice(&header[..length]);
            bytes.extend_from_slice(line);
        }
        (!bytes.is_empty()).then(|| Self(bytes.into()))
    }

    /// Number of WebSocket frames in the buffer: reads their headers only. Events have none, so a buffer counts as one.
    pub(crate) fn message_count(&self, framing: Framing) -> u64 {
        match framing {
            Framing::WebSocket => self.websocket_frames().count() as u64,
            Framing::EventStream => 1,
        }
    }

    /// Opcode and payload of each frame in the buffer.
    fn websocket_frames(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (&[first, second], after) = rest.split_first_chunk::<2>()?;
            let (length, after) = match second {
                127 => after.split_first_chunk().map(|(bytes, after)| (u64::from_be_bytes(*bytes), after))?,
                126 => after
                    .split_first_chunk()
                    .map(|(bytes, after)| (u64::from(u16::from_be_bytes(*bytes)), after))?,
                short => (u64::from(short), after),
            };
            let payload;
            (payload, rest) = after.split_at_checked(usize::try_from(length).ok()?)?;
            Some((first & 0x0f, payload))
        })
    }

    /// Each message in the buffer: its kind and payload. For events the whole buffer is one message.
    pub(crate) fn messages(&self, framing: Framing) -> Vec<(MessageKind, &[u8])> {
        match framing {
            Framing::WebSocket => self
                .websocket_frames()
                .map(|(opcode, payload)| (MessageKind::of_opcode(opcode), payload))
                .collect(),
            Framing::EventStream if self.0.starts_with(b":") => vec![(MessageKind::Ping, &[])],
            Framing::EventStream => vec![(MessageKind::Event, &self.0)],
        }
    }

    /// Length in bytes, header included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Always `false`: a frame has at least a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn new(opcode: u8, payload: &[u8]) -> Self {
        let (header, length) = header(opcode, payload.len());
        let mut bytes = Vec::with_capacity(length + payload.len());
        bytes.extend_from_slice(&header[..length]);
        bytes.extend_from_slice(payload);
        Self(bytes.into())
    }
}

/// The header of an unfragmented, unmasked frame and its length in bytes.
fn header(opcode: u8, payload: usize) -> ([u8; MAX_HEADER_BYTES], usize) {
    let mut header = [0; MAX_HEADER_BYTES];
    header[0] = FIN | opcode;
    if let Ok(short) = u8::try_from(payload)
        && usize::from(short) <= MAX_CONTROL_BYTES
    {
        header[1] = short;
        (header, 2)
    } else if let Ok(medium) = u16::try_from(payload) {
        header[1] = 126;
        header[2..4].copy_from_slice(&medium.to_be_bytes());
        (header, 4)
    } else {
        header[1] = 127;
        header[2..].copy_from_slice(&(payload as u64).to_be_bytes());
        (header, 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct FixedLength(usize);

    impl Encode for FixedLength {
        fn encode_into(&self, _dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind> {
            out.resize(out.len() + self.0, b'x');
            (self.0 > 0).then_some(FrameKind::Text)
        }
    }

    struct Lines(&'static str);

    impl Encode for Lines {
        fn encode_into(&self, _dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind> {
            out.extend_from_slice(self.0.as_bytes());
            Some(FrameKind::TextLines)
        }
    }

    #[test]
    fn each_line_becomes_a_frame() {
        let frames = WireFrame::encode(&Lines("{\"a\":1}\n{}\n"), Dialect::Devices).expect("two frames");
        let (first, second) = (WireFrame::text("{\"a\":1}"), WireFrame::text("{}"));
        assert_eq!(frames.as_bytes(), [first.as_bytes(), second.as_bytes()].concat());
        assert_eq!(WireFrame::encode(&Lines(""), Dialect::Devices), None);
    }

    #[test]
    fn a_message_encoded_in_place_equals_the_text_frame() {
        for length in [1, 125, 126, 65_535, 65_536] {
            let frame = WireFrame::encode(&FixedLength(length), Dialect::Presence).expect("a frame");
            assert_eq!(frame, WireFrame::text(&"x".repeat(length)));
        }
        assert_eq!(WireFrame::encode(&FixedLength(0), Dialect::Presence), None);
    }

    #[test]
    fn headers_take_2_4_or_10_bytes() {
        assert_eq!(WireFrame::text("hi").as_bytes(), b"\x81\x02hi");
        assert_eq!(&WireFrame::binary(&[0; 126]).as_bytes()[..4], &[0x82, 126, 0, 126]);
        assert_eq!(&WireFrame::binary(&[0; 65_536]).as_bytes()[..10], &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn joined_frames_are_counted_and_split() {
        let ping = WireFrame::ping(Framing::WebSocket);
        let joined = WireFrame::concat(&[
            WireFrame::text("one"),
            WireFrame::binary(&[7; 300]),
            WireFrame::binary(&[8; 70_000]),
            ping,
        ]);
        assert_eq!(joined.message_count(Framing::WebSocket), 4);
        let kinds: Vec<_> = joined
            .messages(Framing::WebSocket)
            .into_iter()
            .map(|(kind, payload)| (kind.as_str(), payload.len()))
            .collect();
        assert_eq!(kinds, [("text", 3), ("binary", 300), ("binary", 70_000), ("ping", 0)]);
    }

    #[test]
    fn a_long_reason_is_truncated_at_a_character_boundary() {
        let frame = WireFrame::close(Framing::WebSocket, CloseCode::Normal, &"é".repeat(100));
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame.as_bytes()[4..]).is_ok());
    }
}
