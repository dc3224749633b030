//! RFC 6455 frames, without a buffer per connection or a copy per frame.
//!
//! [`Decoder`] decodes masked client frames from a byte slice. [`WireFrame`] is a server frame with its header, encoded
//! once and shared by all recipients. No extensions are supported: compression would need a window of tens of kilobytes
//! per connection.

mod decode;
mod encode;
mod mask;

pub use decode::{CloseFrame, Decoded, Decoder, Event, ProtocolError};
pub use encode::{MessageKind, WireFrame};

/// Maximum payload of a control frame in bytes (RFC 6455 section 5.5).
pub const MAX_CONTROL_BYTES: usize = 125;

/// Opcodes: the low four bits of a frame's first byte.
mod opcode {
    pub(super) const CONTINUATION: u8 = 0x0;
    pub(super) const TEXT: u8 = 0x1;
    pub(super) const BINARY: u8 = 0x2;
    pub(super) const CLOSE: u8 = 0x8;
    pub(super) const PING: u8 = 0x9;
    pub(super) const PONG: u8 = 0xa;
}

/// FIN bit of the first byte: the frame ends a message.
const FIN: u8 = 0x80;
/// Reserved bits of the first byte, used only by extensions.
const RESERVED: u8 = 0x70;
/// Mask bit of the second byte: the payload is masked.
const MASKED: u8 = 0x80;
