//! Complete WebSocket messages, independent of the dialect.

/// One complete WebSocket message from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A text message, valid UTF-8.
    Text(&'a str),
    Binary(&'a [u8]),
}

/// The frame type of an encoded message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    Text,
    /// Several text frames: each line (ended by a line feed) is one frame. For messages that a dialect splits; the
    /// frames stay together and in order.
    TextLines,
    Binary,
    /// A server-sent event with an ID: the first line is the ID, the others are the data, which may be empty. Sockets have
    /// no such frame.
    Identified,
}
