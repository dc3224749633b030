//! Client frames, taken off a byte slice one by one.

use super::{FIN, MASKED, MAX_CONTROL_BYTES, RESERVED, mask, opcode};
use crate::{protocol::Frame, transport::CloseCode};

/// Why the connection has to end: what the peer sent is not WebSocket, or more than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A reserved bit is set, though no extension was agreed on.
    #[error("reserved bits are set")]
    ReservedBits,
    /// An opcode that RFC 6455 does not define.
    #[error("unknown opcode")]
    UnknownOpcode,
    /// Clients must mask.
    #[error("frame is not masked")]
    Unmasked,
    /// A length in more bytes than it needs, or over 2^63.
    #[error("length is not minimal")]
    BadLength,
    /// A control frame that is fragmented or longer than 125 bytes.
    #[error("control frame is fragmented or too long")]
    BadControl,
    /// A continuation of nothing, or a new message inside a fragmented one.
    #[error("fragments out of order")]
    BadFragment,
    /// A close frame with a forbidden code or one byte.
    #[error("bad close frame")]
    BadClose,
    /// Text, or the reason of a close frame, is not UTF-8.
    #[error("invalid UTF-8")]
    InvalidUtf8,
    /// A message over the size limit.
    #[error("message too big")]
    TooBig,
}

impl ProtocolError {
    /// The code to close with.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::InvalidUtf8 => CloseCode::InvalidPayload,
            Self::TooBig => CloseCode::TooBig,
            Self::ReservedBits
            | Self::UnknownOpcode
            | Self::Unmasked
            | Self::BadLength
            | Self::BadControl
            | Self::BadFragment
            | Self::BadClose => CloseCode::ProtocolError,
        }
    }
}

/// The peer's close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// The number, valid for sending back.
    pub number: u16,
    /// The reason, often empty.
    pub reason: &'a str,
}

/// What one frame brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message is complete.
    Message(Frame<'a>),
    /// A part of a message; the rest is to come.
    Fragment {
        /// Payload bytes in this part.
        bytes: usize,
    },
    /// Wants a pong with the same payload.
    Ping(&'a [u8]),
    /// Answers a ping, or is a heartbeat of the peer's own.
    Pong,
    /// The peer closes.
    Close(Option<CloseFrame<'a>>),
}

/// One frame, and how many bytes it took.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Bytes to remove from the front of the input.
    pub consumed: usize,
    /// What the frame brought.
    pub event: Event<'a>,
}

/// The state between frames: nothing, or the fragments of an unfinished message.
#[derive(Debug)]
pub struct Decoder {
    max_message_bytes: usize,
    // Boxed, because almost no connection ever has one.
    fragments: Option<Box<Fragments>>,
}

#[derive(Debug)]
struct Fragments {
    is_text: bool,
    payload: Vec<u8>,
    /// The message has been handed out and goes with the next frame.
    is_complete: bool,
}

/// A header, with all the rules that can be checked before the payload is there.
struct Header {
    opcode: u8,
    is_final: bool,
    key: [u8; 4],
    header_bytes: usize,
    payload_bytes: usize,
}

impl Decoder {
    /// A decoder that refuses messages over `max_message_bytes`, fragmented or not, as soon as a header
    /// announces one.
    #[must_use]
    pub const fn new(max_message_bytes: usize) -> Self {
        Self { max_message_bytes, fragments: None }
    }

    /// Takes the first frame off `input`, which is unmasked in place and must come again, with more bytes
    /// behind it, if it held no whole frame (`None`).
    ///
    /// # Errors
    /// The peer breaks the protocol; nothing after that can be read.
    pub fn decode<'a>(&'a mut self, input: &'a mut [u8]) -> Result<Option<Decoded<'a>>, ProtocolError> {
        if self.fragments.as_ref().is_some_and(|fragments| fragments.is_complete) {
            self.fragments = None;
        }
        let Some(header) = self.decode_header(input)? else {
            return Ok(None);
        };
        let consumed = header.header_bytes + header.payload_bytes;
        let Some(payload) = input.get_mut(header.header_bytes..consumed) else {
            return Ok(None);
        };
        mask::apply(payload, header.key);
        let event = match header.opcode {
            opcode::PING => Event::Ping(payload),
            opcode::PONG => Event::Pong,
            opcode::CLOSE => Event::Close(close_frame(payload)?),
            _ => self.decode_data(&header, payload)?,
        };
        Ok(Some(Decoded { consumed, event }))
    }

    /// Reads and checks a header; `None` if it is not all there.
    fn decode_header(&self, input: &[u8]) -> Result<Option<Header>, ProtocolError> {
        let &[first, second, ref rest @ ..] = input else {
            return Ok(None);
        };
        let (opcode, is_final) = (first & 0x0f, first & FIN != 0);
        if first & RESERVED != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        if second & MASKED == 0 {
            return Err(ProtocolError::Unmasked);
        }
        let (length, length_bytes) = match (second & !MASKED, rest) {
            (126, &[a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 2),
            (127, &[a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 8),
            (126 | 127, _) => return Ok(None),
            (short, _) => (u64::from(short), 0),
        };
        if (length_bytes == 2 && length < 126) || (length_bytes == 8 && !(1 << 16..1 << 63).contains(&length))
        {
            return Err(ProtocolError::BadLength);
        }
        self.check_header(opcode, is_final, length)?;
        let Some(&[a, b, c, d]) = rest.get(length_bytes..length_bytes + 4) else {
            return Ok(None);
        };
        let header_bytes = 2 + length_bytes + 4;
        let payload_bytes = usize::try_from(length).map_err(|_| ProtocolError::TooBig)?;
        Ok(Some(Header { opcode, is_final, key: [a, b, c, d], header_bytes, payload_bytes }))
    }

    fn check_header(&self, opcode: u8, is_final: bool, length: u64) -> Result<(), ProtocolError> {
        match opcode {
            opcode::CLOSE | opcode::PING | opcode::PONG => {
                if !is_final || length > MAX_CONTROL_BYTES as u64 {
                    return Err(ProtocolError::BadControl);
                }
            }
            opcode::CONTINUATION | opcode::TEXT | opcode::BINARY => {
                if (opcode == opcode::CONTINUATION) != self.fragments.is_some() {
                    return Err(ProtocolError::BadFragment);
                }
                let before = self.fragments.as_ref().map_or(0, |fragments| fragments.payload.len());
                if length > self.max_message_bytes.saturating_sub(before) as u64 {
                    return Err(ProtocolError::TooBig);
                }
            }
            _ => return Err(ProtocolError::UnknownOpcode),
        }
        Ok(())
    }

    fn decode_data<'a>(&'a mut self, header: &Header, payload: &'a [u8]) -> Result<Event<'a>, ProtocolError> {
        if header.is_final && header.opcode != opcode::CONTINUATION {
            return message(header.opcode == opcode::TEXT, payload).map(Event::Message);
        }
        let fragments = self.fragments.get_or_insert_with(|| {
            let is_text = header.opcode == opcode::TEXT;
            Box::new(Fragments { is_text, payload: Vec::new(), is_complete: false })
        });
        fragments.payload.extend_from_slice(payload);
        if !header.is_final {
            return Ok(Event::Fragment { bytes: payload.len() });
        }
        fragments.is_complete = true;
        message(fragments.is_text, &fragments.payload).map(Event::Message)
    }
}

fn message(is_text: bool, payload: &[u8]) -> Result<Frame<'_>, ProtocolError> {
    if is_text {
        simdutf8::basic::from_utf8(payload).map(Frame::Text).map_err(|_| ProtocolError::InvalidUtf8)
    } else {
        Ok(Frame::Binary(payload))
    }
}

fn close_frame(payload: &[u8]) -> Result<Option<CloseFrame<'_>>, ProtocolError> {
    match *payload {
        [] => Ok(None),
        [high, low, ref reason @ ..] => {
            let number = u16::from_be_bytes([high, low]);
            if !CloseCode::is_valid_number(number) {
                return Err(ProtocolError::BadClose);
            }
            let reason = simdutf8::basic::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
            Ok(Some(CloseFrame { number, reason }))
        }
        [_] => Err(ProtocolError::BadClose),
    }
}

#[cfg(test)]
mod tests;
