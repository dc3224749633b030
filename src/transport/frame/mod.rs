//! RFC 6455 frames, of our own: no buffer per connection and no copy per frame.
//!
//! [`Decoder`] takes masked client frames off a byte slice, [`WireFrame`] is a server frame with its header,
//! encoded once and shared by all the sockets it goes to. No extensions: compression would cost a window of
//! tens of kilobytes per connection.

mod decode;
mod encode;
mod mask;

pub use decode::{CloseFrame, Decoded, Decoder, Event, ProtocolError};
pub use encode::WireFrame;

/// The longest payload of a control frame, in bytes (RFC 6455 section 5.5).
pub const MAX_CONTROL_BYTES: usize = 125;

/// What a frame is, by the low four bits of its first byte.
mod opcode {
    pub const CONTINUATION: u8 = 0x0;
    pub const TEXT: u8 = 0x1;
    pub const BINARY: u8 = 0x2;
    pub const CLOSE: u8 = 0x8;
    pub const PING: u8 = 0x9;
    pub const PONG: u8 = 0xa;
}

/// The bit of the first byte that ends a message.
const FIN: u8 = 0x80;
/// The bits of the first byte that only extensions may use.
const RESERVED: u8 = 0x70;
/// The bit of the second byte that says that the payload is masked.
const MASKED: u8 = 0x80;
