//! Decoding of client frames from a byte slice.

use super::{FIN, MASKED, MAX_CONTROL_BYTES, RESERVED, mask, opcode};
use crate::{hub::CloseCode, protocol::Frame};

/// The peer violated the WebSocket protocol or exceeded a limit, so the connection must close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A reserved bit is set although no extension was negotiated.
    #[error("reserved bits are set")]
    ReservedBits,
    /// The opcode is not defined in RFC 6455.
    #[error("unknown opcode")]
    UnknownOpcode,
    /// The frame is not masked; clients must mask.
    #[error("frame is not masked")]
    Unmasked,
    /// The length uses more bytes than needed, or is over 2^63.
    #[error("length is not minimal")]
    BadLength,
    /// A control frame that is fragmented or longer than 125 bytes.
    #[error("control frame is fragmented or too long")]
    BadControl,
    /// A continuation without a first fragment, or a new message inside a fragmented one.
    #[error("fragments out of order")]
    BadFragment,
    /// A close frame with a forbidden code or a payload of one byte.
    #[error("bad close frame")]
    BadClose,
    /// A text message or a close reason is not valid UTF-8.
    #[error("invalid UTF-8")]
    InvalidUtf8,
    /// A message exceeds the size limit.
    #[error("message too big")]
    TooBig,
}

impl ProtocolError {
    /// The close code for this error.
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
    /// The code; it may be sent back.
    pub number: u16,
    /// The reason; often empty.
    pub reason: &'a str,
}

/// The result of one frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Message(Frame<'a>),
    /// A fragment of a message that is not complete yet.
    Fragment {
        /// Payload bytes of the fragment.
        bytes: usize,
    },
    /// A ping; it requires a pong with the same payload.
    Ping(&'a [u8]),
    /// A pong, solicited or not.
    Pong,
    Close(Option<CloseFrame<'a>>),
}

/// One decoded frame and its size.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Bytes to remove from the front of the input.
    pub consumed: usize,
    /// The result of the frame.
    pub event: Event<'a>,
}

/// The decoder's state between frames: the fragments of an unfinished message, if any.
#[derive(Debug)]
pub struct Decoder {
    max_message_bytes: usize,
    // Boxed, because almost no connection has fragments.
    fragments: Option<Box<Fragments>>,
}

#[derive(Debug)]
struct Fragments {
    is_text: bool,
    payload: Vec<u8>,
    /// The message was returned and is dropped with the next frame.
    is_complete: bool,
}

/// A header that passed all checks possible before the payload arrives.
struct Header {
    opcode: u8,
    is_final: bool,
    key: [u8; 4],
    header_bytes: usize,
    payload_bytes: usize,
}

impl Decoder {
    /// Creates a decoder. A message over `max_message_bytes`, fragmented or not, is an error as soon as a header
    /// announces it.
    #[must_use]
    pub const fn new(max_message_bytes: usize) -> Self {
        Self { max_message_bytes, fragments: None }
    }

    /// Decodes the first frame of `input` and unmasks it in place. `None` if the frame is incomplete: call again with
    /// the same bytes and more.
    ///
    /// # Errors
    /// A protocol violation. Nothing after it can be decoded.
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

    /// Decodes and checks a header; `None` if it is incomplete.
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
